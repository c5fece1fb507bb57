// What a tokenizer.json says, checked.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "text/added_tokens.h"
#include "text/bpe.h"
#include "text/regex.h"

namespace autoglm {

struct TokenizerFile {
  struct Token {
    std::string bytes;
    bool known = false;
    bool special = false;
  };
  BpeModel model;
  std::vector<Token> tokens;  // by id
  std::vector<AddedToken> added;
  std::vector<Regex> splits;  // of the pre-tokenizer, in order
  bool prefix_space = false;
  std::vector<TokenId> before, after;  // the post-processor's template
};

/// Throws kInput with the file and the field for what is wrong or of a kind
/// that is not supported.
TokenizerFile read_tokenizer_file(const std::filesystem::path& file);

}  // namespace autoglm
