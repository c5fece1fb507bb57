#include "autoglm/text/corpus.h"

#include <algorithm>

#include "autoglm/core/error.h"
#include "autoglm/core/file.h"
#include "autoglm/core/json.h"
#include "autoglm/core/log.h"
#include "autoglm/core/text.h"

namespace autoglm {
namespace {

std::vector<Message> read_messages(const Json& json,
                                   const std::string& source) {
  if (!json.is_array())
    fail(ErrorKind::kInput, source + ": messages should be a list");
  std::vector<Message> out;
  for (const Json& message : json)
    out.push_back({json_string(message, "role", source),
                   json_string(message, "content", source)});
  return out;
}

std::vector<Document> read_json_lines(const std::string& content,
                                      const std::string& file) {
  std::vector<Document> out;
  std::size_t number = 0;
  for (std::size_t at = 0; at < content.size();) {
    const std::size_t end = std::min(content.find('\n', at), content.size());
    const std::string_view line(content.data() + at, end - at);
    at = end + 1;
    ++number;
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    const std::string source = fmt::format("{}:{}", file, number);
    const Json json = parse_json(line, source);
    if (!json.is_object() ||
        (!json.contains("text") && !json.contains("messages")))
      fail(ErrorKind::kInput,
           source + ": an object with 'text' or 'messages' was expected");
    if (json.contains("text"))
      out.emplace_back(json_string(json, "text", source));
    else
      out.emplace_back(read_messages(json["messages"], source));
  }
  return out;
}

// Bytes of what is predicted: without a prefix nothing predicts the first
// token.
std::uint64_t scored_bytes(const std::vector<TokenId>& window,
                           const Tokenizer& tokenizer, bool has_prefix) {
  std::uint64_t bytes = 0;
  for (std::size_t i = has_prefix ? 0 : 1; i < window.size(); ++i)
    bytes += tokenizer.token_bytes(window[i]);
  return bytes;
}

}  // namespace

std::vector<Document> read_corpus(const std::filesystem::path& file) {
  std::string content = read_file(file);
  const std::string name = file.string();
  const std::string extension = file.extension();
  if (extension != ".txt" && extension != ".jsonl")
    fail(ErrorKind::kInput,
         fmt::format("{}: a text file should end in .txt or .jsonl", name));
  if (!is_utf8(content))
    fail(ErrorKind::kInput, name + ": the text is not valid UTF-8");
  if (extension == ".jsonl") return read_json_lines(content, name);
  std::vector<Document> out;
  out.emplace_back(std::move(content));
  return out;
}

std::vector<TokenId> encode_document(const Tokenizer& tokenizer,
                                     const Document& document) {
  if (const auto* text = std::get_if<std::string>(&document))
    return tokenizer.encode(*text);
  return encode_chat(tokenizer, std::get<std::vector<Message>>(document));
}

TokenWindows make_windows(const Tokenizer& tokenizer,
                          const std::filesystem::path& file, std::int64_t count,
                          std::int64_t length) {
  AUTOGLM_ENSURE(count >= 0 && length > 0);
  TokenWindows out;
  out.prefix = tokenizer.prefix();
  out.length = length;
  out.source = file.string();
  std::vector<TokenId> ids;
  const auto wanted = static_cast<std::size_t>(count * length);
  for (const Document& document : read_corpus(file)) {
    if (count > 0 && ids.size() >= wanted) break;
    const std::vector<TokenId> more = encode_document(tokenizer, document);
    ids.insert(ids.end(), more.begin(), more.end());
  }
  const auto step = static_cast<std::size_t>(length);
  for (std::size_t at = 0; at + step <= ids.size(); at += step) {
    if (count > 0 && out.count() == count) break;
    const auto begin = ids.begin() + static_cast<std::ptrdiff_t>(at);
    out.windows.emplace_back(begin, begin + length);
    out.text_bytes +=
        scored_bytes(out.windows.back(), tokenizer, !out.prefix.empty());
  }
  if (out.windows.empty())
    fail(ErrorKind::kInput,
         fmt::format("{}: {} tokens are fewer than one window of {}",
                     file.string(), ids.size(), length));
  if (count > 0 && out.count() < count)
    log_warning("{}: only {} of {} windows of {} tokens fit", file.string(),
                out.count(), count, length);
  return out;
}

}  // namespace autoglm
