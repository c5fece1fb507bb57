#include "autoglm/text/tokenizer.h"

#include "autoglm/core/error.h"
#include "autoglm/core/file.h"
#include "autoglm/core/text.h"
#include "text/added_tokens.h"
#include "text/bpe.h"
#include "text/byte_alphabet.h"
#include "text/tokenizer_file.h"

namespace autoglm {

struct Tokenizer::Data {
  TokenizerFile file;
  AddedTokenFinder raw_tokens;         // looked for first
  AddedTokenFinder normalized_tokens;  // then, in what is left

  // Cuts one stretch of text by the pre-tokenizer's steps and encodes it.
  void encode_text(std::string_view text, BpeCache& cache,
                   std::vector<TokenId>& out) const {
    if (file.prefix_space && !text.starts_with(' ')) {
      std::string spaced(1, ' ');
      spaced += text;
      return encode_steps(spaced, 0, cache, out);
    }
    encode_steps(text, 0, cache, out);
  }

  void encode_steps(std::string_view text, std::size_t step, BpeCache& cache,
                    std::vector<TokenId>& out) const {
    if (text.empty()) return;
    if (step == file.splits.size()) return cache.encode(text, out);
    // Isolated: matches and the text between them are pieces alike.
    std::size_t done = 0;
    file.splits[step].each(text, [&](std::size_t begin, std::size_t end) {
      encode_steps(text.substr(done, begin - done), step + 1, cache, out);
      encode_steps(text.substr(begin, end - begin), step + 1, cache, out);
      done = end;
    });
    encode_steps(text.substr(done), step + 1, cache, out);
  }
};

Tokenizer Tokenizer::load(const std::filesystem::path& path) {
  const std::filesystem::path file =
      std::filesystem::is_directory(path) ? path / "tokenizer.json" : path;
  TokenizerFile parsed = read_tokenizer_file(file);
  std::vector<AddedToken> raw, normalized;
  for (const AddedToken& token : parsed.added)
    (token.normalized ? normalized : raw).push_back(token);
  Tokenizer out;
  out.data_ = std::make_shared<const Data>(
      Data{std::move(parsed), AddedTokenFinder(std::move(raw)),
           AddedTokenFinder(std::move(normalized))});
  return out;
}

std::vector<TokenId> Tokenizer::encode(std::string_view text,
                                       bool with_special) const {
  if (!is_utf8(text)) fail(ErrorKind::kInput, "the text is not valid UTF-8");
  std::vector<TokenId> out;
  if (with_special) out = data_->file.before;
  BpeCache cache(data_->file.model);
  for (const TextPart& part : data_->raw_tokens.split(text)) {
    if (part.id >= 0) {
      out.push_back(part.id);
      continue;
    }
    for (const TextPart& inner : data_->normalized_tokens.split(part.text)) {
      if (inner.id >= 0)
        out.push_back(inner.id);
      else
        data_->encode_text(inner.text, cache, out);
    }
  }
  if (with_special)
    out.insert(out.end(), data_->file.after.begin(), data_->file.after.end());
  return out;
}

std::string Tokenizer::decode(std::span<const TokenId> ids,
                              bool skip_special) const {
  std::string bytes;
  for (const TokenId id : ids) {
    const auto index = static_cast<std::size_t>(id);
    if (id < 0 || index >= data_->file.tokens.size() ||
        !data_->file.tokens[index].known)
      fail(ErrorKind::kInput,
           fmt::format("token id {} is not in the vocabulary", id));
    const TokenizerFile::Token& token = data_->file.tokens[index];
    if (!(skip_special && token.special)) bytes += token.bytes;
  }
  return to_valid_utf8(bytes);
}

std::size_t Tokenizer::token_bytes(TokenId id) const {
  const auto index = static_cast<std::size_t>(id);
  if (id < 0 || index >= data_->file.tokens.size()) return 0;
  const TokenizerFile::Token& token = data_->file.tokens[index];
  return token.special ? 0 : token.bytes.size();
}

std::vector<TokenId> Tokenizer::prefix() const {
  if (!data_->file.before.empty()) return data_->file.before;
  const auto mask = find_token("[gMASK]");
  for (const char* name : {"<sop>", "sop"})
    if (const auto start = find_token(name); mask && start)
      return {*mask, *start};
  return {};
}

std::optional<TokenId> Tokenizer::find_token(std::string_view token) const {
  for (const AddedToken& added : data_->file.added)
    if (added.content == token) return added.id;
  const auto bytes = alphabet_to_bytes(token);
  const auto found =
      data_->file.model.ids.find(bytes.value_or(std::string(token)));
  if (found == data_->file.model.ids.end()) return std::nullopt;
  return found->second;
}

std::int64_t Tokenizer::vocabulary_size() const {
  return static_cast<std::int64_t>(data_->file.tokens.size());
}

}  // namespace autoglm
