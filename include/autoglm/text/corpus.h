// Text files as token windows (DESIGN, "How quality is measured").
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <variant>
#include <vector>

#include "autoglm/text/chat.h"
#include "autoglm/text/tokenizer.h"

namespace autoglm {

/// A text or a conversation.
using Document = std::variant<std::string, std::vector<Message>>;

/// The documents of a .txt file (one), or of a .jsonl file: one JSON object a
/// line with `text`, or with `messages` [{role, content}]. Throws kInput with
/// file and line.
std::vector<Document> read_corpus(const std::filesystem::path& file);

/// A text as it stands; a conversation in the family's chat form (chat.h).
std::vector<TokenId> encode_document(const Tokenizer& tokenizer,
                                     const Document& document);

/// Non-overlapping windows of exactly `length` text tokens, each preceded by
/// `prefix`, which is never predicted.
struct TokenWindows {
  std::vector<TokenId> prefix;
  std::int64_t length = 0;
  std::vector<std::vector<TokenId>> windows;  // text tokens only
  std::uint64_t text_bytes = 0;  // UTF-8 bytes of the tokens to predict
  std::string source;            // what reports call it: the file's name

  std::int64_t count() const {
    return static_cast<std::int64_t>(windows.size());
  }
};

/// Which windows to take where there are more than asked for: the first ones,
/// or every so many, so that all of the text has its share.
enum class Pick { kFirst, kSpread };

/// Encodes the corpus (documents in order, joined end to end) and cuts it into
/// windows; `count` 0 takes all. A remainder shorter than `length` is dropped.
/// Throws kInput when not even one window fits; when fewer than `count` fit,
/// takes what there is and logs a warning.
TokenWindows make_windows(const Tokenizer& tokenizer,
                          const std::filesystem::path& file, std::int64_t count,
                          std::int64_t length, Pick pick = Pick::kFirst);

/// The same without a tokenizer: every byte of the text is one token, its value
/// modulo `vocabulary`. For comparing models with each other; what such windows
/// say about language is nothing.
TokenWindows make_byte_windows(std::int64_t vocabulary,
                               const std::filesystem::path& file,
                               std::int64_t count, std::int64_t length,
                               Pick pick = Pick::kFirst);

}  // namespace autoglm
