#include "autoglm/text/corpus.h"

#include <algorithm>
#include <functional>

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

using Encode = std::function<std::vector<TokenId>(const Document&)>;
using TokenBytes = std::function<std::size_t(TokenId)>;

TokenWindows cut_windows(std::vector<TokenId> prefix,
                         const std::filesystem::path& file, std::int64_t count,
                         std::int64_t length, Pick pick, const Encode& encode,
                         const TokenBytes& token_bytes) {
  AUTOGLM_ENSURE(count >= 0 && length > 0);
  TokenWindows out;
  out.prefix = std::move(prefix);
  out.length = length;
  out.source = file.string();
  std::vector<TokenId> ids;
  const auto wanted = static_cast<std::size_t>(count * length);
  for (const Document& document : read_corpus(file)) {
    if (pick == Pick::kFirst && count > 0 && ids.size() >= wanted) break;
    const std::vector<TokenId> more = encode(document);
    ids.insert(ids.end(), more.begin(), more.end());
  }
  const std::int64_t there = static_cast<std::int64_t>(ids.size()) / length;
  const std::int64_t taken = count > 0 ? std::min(count, there) : there;
  for (std::int64_t i = 0; i < taken; ++i) {
    const std::int64_t index = pick == Pick::kFirst ? i : i * there / taken;
    const auto begin = ids.begin() + index * length;
    out.windows.emplace_back(begin, begin + length);
    // Without a prefix nothing predicts the first token.
    for (auto id = begin + (out.prefix.empty() ? 1 : 0); id < begin + length;
         ++id)
      out.text_bytes += token_bytes(*id);
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

std::string plain_text(const Document& document) {
  if (const auto* text = std::get_if<std::string>(&document)) return *text;
  std::string out;
  for (const Message& message : std::get<std::vector<Message>>(document))
    out += message.content + "\n";
  return out;
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
                          std::int64_t length, Pick pick) {
  return cut_windows(
      tokenizer.prefix(), file, count, length, pick,
      [&](const Document& document) {
        return encode_document(tokenizer, document);
      },
      [&](TokenId id) { return tokenizer.token_bytes(id); });
}

TokenWindows make_byte_windows(std::int64_t vocabulary,
                               const std::filesystem::path& file,
                               std::int64_t count, std::int64_t length,
                               Pick pick) {
  AUTOGLM_ENSURE(vocabulary > 0);
  TokenWindows out = cut_windows(
      {}, file, count, length, pick,
      [&](const Document& document) {
        std::vector<TokenId> ids;
        for (const unsigned char byte : plain_text(document))
          ids.push_back(static_cast<TokenId>(byte % vocabulary));
        return ids;
      },
      [](TokenId) { return std::size_t{1}; });
  out.source += " (bytes for tokens)";
  return out;
}

}  // namespace autoglm
