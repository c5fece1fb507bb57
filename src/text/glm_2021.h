// What the two tokenizers of GLM 2021 have in common: the command tokens, and
// how they stand around a text.
#pragma once

#include <filesystem>
#include <functional>
#include <span>
#include <vector>

#include "text/added_tokens.h"
#include "text/loaded_tokenizer.h"

namespace autoglm {

struct CommandToken {
  const char* content;
  TokenId offset;  // from the first id behind the vocabulary
};

/// The tokens of added_tokens.json beside `file`, or, where it is missing,
/// `otherwise` behind the `vocabulary` ids; then those that tokenizer_config
/// and special_tokens_map name and `find` knows. Flags are those of the two
/// files; masks that they only name strip the white space on their left.
std::vector<AddedToken> read_command_tokens(
    const std::filesystem::path& file, TokenId vocabulary,
    std::span<const CommandToken> otherwise,
    const std::function<std::optional<TokenId>(const std::string&)>& find);

/// Fills everything but the encoder and the kind. A vocabulary without the
/// command tokens (some other GPT-2) stays bare.
void surround_glm_2021(LoadedTokenizer& tokenizer);

}  // namespace autoglm
