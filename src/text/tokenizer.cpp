#include "autoglm/text/tokenizer.h"

#include <algorithm>

#include "autoglm/core/error.h"
#include "autoglm/core/file.h"
#include "autoglm/core/text.h"
#include "text/loaded_tokenizer.h"
#include "text/tokenizer_files.h"

namespace autoglm {
namespace {

namespace fs = std::filesystem;

// Every tokenizer file we know; in a folder the first one that is there counts.
struct FileKind {
  const char* name;
  LoadedTokenizer (*read)(const fs::path& file);
};
constexpr FileKind kFiles[] = {
    {"tokenizer.json", read_tokenizer_json},
    {"tokenizer.model", read_tokenizer_model},
    {"ice_text.model", read_ice_text},
    {"cog-pretrain.model", read_cog_pretrain},
    {"vocab.json", read_gpt2},
    {"merges.txt", read_gpt2},
    {"vocab.txt", read_bert},
};

const FileKind* find_in(const fs::path& folder) {
  std::error_code ignored;
  for (const FileKind& kind : kFiles)
    if (fs::is_regular_file(folder / kind.name, ignored)) return &kind;
  return nullptr;
}

LoadedTokenizer read(const fs::path& path) {
  if (fs::is_directory(path)) {
    const FileKind* kind = find_in(path);
    if (kind == nullptr) {
      std::vector<std::string> names;
      for (const FileKind& known : kFiles) names.emplace_back(known.name);
      fail(ErrorKind::kInput,
           fmt::format("{}: no tokenizer file in the folder (looked for {})",
                       path.string(), fmt::join(names, ", ")));
    }
    return kind->read(path / kind->name);
  }
  for (const FileKind& kind : kFiles)
    if (path.filename() == kind.name) return kind.read(path);
  // A file under another name: JSON begins with a brace.
  return read_file(path).starts_with('{') ? read_tokenizer_json(path)
                                          : read_tokenizer_model(path);
}

void append(std::vector<TokenId>& out, const std::vector<TokenId>& ids) {
  out.insert(out.end(), ids.begin(), ids.end());
}

}  // namespace

void fail_unknown_id(TokenId id) {
  fail(ErrorKind::kInput,
       fmt::format("token id {} is not in the vocabulary", id));
}

Tokenizer Tokenizer::load(const fs::path& path) {
  Tokenizer out;
  out.data_ = std::make_shared<const LoadedTokenizer>(read(path));
  return out;
}

bool Tokenizer::exists(const fs::path& folder) {
  return find_in(folder) != nullptr;
}

std::string Tokenizer::kind() const { return data_->kind; }

std::vector<TokenId> Tokenizer::encode(std::string_view text, bool with_special,
                                       TextForm form) const {
  if (!is_utf8(text)) fail(ErrorKind::kInput, "the text is not valid UTF-8");
  std::vector<TokenId> out;
  if (with_special) out = data_->before;
  append(out, data_->encoder->encode(text, form));
  if (with_special) append(out, data_->after);
  return out;
}

std::string Tokenizer::decode(std::span<const TokenId> ids,
                              bool skip_special) const {
  return data_->encoder->decode(ids, skip_special);
}

std::size_t Tokenizer::token_bytes(TokenId id) const {
  return data_->encoder->token_bytes(id);
}

std::vector<TokenId> Tokenizer::prefix() const { return data_->prefix; }

std::vector<TokenId> Tokenizer::prompt(std::string_view text) const {
  const LoadedTokenizer::Prompt& prompt = data_->prompt;
  const std::vector<TokenId> ids = encode(text, false, prompt.form);
  std::vector<TokenId> out = prompt.before;
  append(out, ids);
  if (!prompt.masks.empty() &&
      std::ranges::find_first_of(ids, prompt.masks) == ids.end())
    out.push_back(prompt.masks.front());
  append(out, prompt.after);
  return out;
}

std::optional<BlankTokens> Tokenizer::blank_tokens() const {
  return data_->blanks;
}

ChatForm Tokenizer::chat_form() const { return data_->chat; }

std::optional<TokenId> Tokenizer::find_token(std::string_view token) const {
  return data_->encoder->find_token(token);
}

std::int64_t Tokenizer::vocabulary_size() const {
  return data_->encoder->vocabulary_size();
}

}  // namespace autoglm
