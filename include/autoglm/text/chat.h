// Conversations as the ids that a model family was trained on.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "autoglm/text/tokenizer.h"

namespace autoglm {

struct Message {
  std::string role;  // "system", "user", "assistant", ...
  std::string content;
};

/// Ids of a whole conversation in the tokenizer's chat form, without the
/// prefix of the family. In the forms with rounds a message of the user opens
/// a round, one of the assistant answers it and all others stand before the
/// next round; ChatGLM-6B writes a single round as bare text. Throws kInput
/// for a role that has no token (form kRoleTokens) and for invalid UTF-8.
std::vector<TokenId> encode_chat(const Tokenizer& tokenizer,
                                 std::span<const Message> messages);

}  // namespace autoglm
