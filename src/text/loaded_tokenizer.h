// What reading the files of a tokenizer gives: one encoder, and what the model
// family puts around texts. Readers are listed in tokenizer.cpp.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "autoglm/text/tokenizer.h"

namespace autoglm {

// Ids beyond this are no token ids (the largest GLM vocabulary has 154880); it
// bounds the tables that a hostile file can ask for.
constexpr TokenId kMaxTokenId = (1 << 20) - 1;

/// One way of turning text into ids. Immutable.
class Encoder {
 public:
  virtual ~Encoder() = default;
  /// `text` is valid UTF-8.
  virtual std::vector<TokenId> encode(std::string_view text,
                                      TextForm form) const = 0;
  /// Valid UTF-8; throws kInput on an unknown id.
  virtual std::string decode(std::span<const TokenId> ids,
                             bool skip_special) const = 0;
  virtual std::size_t token_bytes(TokenId id) const = 0;
  virtual std::optional<TokenId> find_token(std::string_view token) const = 0;
  virtual std::int64_t vocabulary_size() const = 0;
};

/// The kInput error of Encoder::decode.
[[noreturn]] void fail_unknown_id(TokenId id);

struct LoadedTokenizer {
  std::unique_ptr<const Encoder> encoder;
  std::string kind;
  ChatForm chat = ChatForm::kJoined;
  std::vector<TokenId> before, after;  // a text with its special tokens
  std::vector<TokenId> prefix;         // of an evaluated text
  struct Prompt {
    std::vector<TokenId> before, after;
    // A text that holds none of them gets the first at its end.
    std::vector<TokenId> masks;
    TextForm form = TextForm::kUsual;
  } prompt;
  std::optional<BlankTokens> blanks;

  /// The same tokens before bare, evaluated and continued texts: all families
  /// since ChatGLM2.
  void set_prefix(std::vector<TokenId> ids) {
    before = prefix = prompt.before = std::move(ids);
  }
};

}  // namespace autoglm
