// Byte-level BPE: added tokens, then the pre-tokenizer's pieces, then merges of
// bytes. tokenizer.json, tiktoken and GPT-2 files all end here.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "autoglm/core/json.h"
#include "text/added_tokens.h"
#include "text/bpe.h"
#include "text/loaded_tokenizer.h"
#include "text/regex.h"

namespace autoglm {

// The pattern of GPT-2, which Hugging Face's ByteLevel applies by itself.
constexpr const char* kGpt2Pattern =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|"
    "\\s+(?!\\S)|\\s+";

// The pattern of GLM-4's tiktoken code.
constexpr const char* kGlm4Pattern =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|"
    " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

struct ByteLevelModel {
  struct Token {
    std::string bytes;
    bool known = false;
    bool special = false;
  };
  BpeModel bpe;
  std::vector<Token> tokens;  // by id
  std::vector<AddedToken> added;
  std::vector<Regex> splits;  // of the pre-tokenizer, in order
  bool prefix_space = false;
  bool printable_names = true;  // find_token reads the GPT-2 alphabet
};

/// Fills a ByteLevelModel and refuses what cannot be: every error is kInput
/// and names `source`.
class ByteLevelBuilder {
 public:
  explicit ByteLevelBuilder(std::string source);

  [[noreturn]] void complain(const std::string& text) const;

  /// A token id in a file; `what` names the token.
  TokenId read_id(const Json& value, const std::string& what) const;
  /// An object of token texts in the GPT-2 alphabet and their ids.
  void add_vocabulary(const Json& tokens);
  /// "left right"; merges are ranked in the order they come.
  void add_merge(const std::string& pair);
  void add_merge(const std::string& left, const std::string& right);
  void add_token(std::string bytes, TokenId id);
  void add_special(AddedToken token);

  ByteLevelModel& model() { return model_; }
  /// Ends the building.
  std::unique_ptr<const Encoder> finish();

 private:
  void place(TokenId id, std::string bytes, bool special);

  std::string source_;
  ByteLevelModel model_;
  std::int32_t next_rank_ = 0;
};

}  // namespace autoglm
