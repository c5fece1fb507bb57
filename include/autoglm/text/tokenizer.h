// Text to token ids and back. Reads `tokenizer.json` (Hugging Face tokenizers)
// with a byte-level BPE model: the file's own pre-tokenizer pattern, added
// tokens, merges and post-processor decide, nothing is assumed.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace autoglm {

using TokenId = std::int32_t;

/// Immutable after loading and safe to use from several threads; copies share.
class Tokenizer {
 public:
  /// Reads a tokenizer file, or the one in a checkpoint folder. Throws kInput
  /// with the file and what is wrong or not supported.
  static Tokenizer load(const std::filesystem::path& path);

  /// Ids of `text` (UTF-8; invalid bytes throw kInput). Added tokens written
  /// in the text are recognised. `with_special` adds the post-processor's
  /// tokens, for GLM-4 the prefix [gMASK]<sop>.
  std::vector<TokenId> encode(std::string_view text,
                              bool with_special = false) const;

  /// Text of `ids`; bytes that are not valid UTF-8 become U+FFFD. Special
  /// tokens are dropped if `skip_special`. Throws kInput on an unknown id.
  std::string decode(std::span<const TokenId> ids,
                     bool skip_special = false) const;

  /// UTF-8 bytes that a token stands for in running text (0 for special ones).
  std::size_t token_bytes(TokenId id) const;

  /// Tokens that come before every text of this model family: what the
  /// post-processor puts in front of a text; without a template, [gMASK] and
  /// <sop> (or sop) when the vocabulary has both; else nothing.
  std::vector<TokenId> prefix() const;

  std::optional<TokenId> find_token(std::string_view token) const;

  /// One more than the largest id.
  std::int64_t vocabulary_size() const;

 private:
  struct Data;
  std::shared_ptr<const Data> data_;
};

}  // namespace autoglm
