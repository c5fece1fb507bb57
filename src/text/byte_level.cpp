#include "text/byte_level.h"

#include "autoglm/core/error.h"
#include "autoglm/core/text.h"
#include "text/byte_alphabet.h"

namespace autoglm {
namespace {

// The bytes of a token text; one outside the alphabet can never come out of a
// merge of bytes and stands for itself.
std::string bytes_of(const std::string& text) {
  return alphabet_to_bytes(text).value_or(text);
}

// Added tokens in the two rounds in which they are looked for.
struct Finders {
  AddedTokenFinder raw, normalized;

  template <class Wanted>
  static Finders of(const std::vector<AddedToken>& tokens, Wanted&& wanted) {
    std::vector<AddedToken> raw, normalized;
    for (const AddedToken& token : tokens)
      if (wanted(token)) (token.normalized ? normalized : raw).push_back(token);
    return {AddedTokenFinder(std::move(raw)),
            AddedTokenFinder(std::move(normalized))};
  }
};

class ByteLevelEncoder final : public Encoder {
 public:
  explicit ByteLevelEncoder(ByteLevelModel model)
      : model_(std::move(model)),
        all_(Finders::of(model_.added, [](const auto&) { return true; })),
        ordinary_(Finders::of(model_.added,
                              [](const auto& t) { return !t.special; })) {}

  std::vector<TokenId> encode(std::string_view text,
                              TextForm form) const override {
    const Finders& finders = form == TextForm::kPlain ? ordinary_ : all_;
    std::vector<TokenId> out;
    BpeCache cache(model_.bpe);
    for (const TextPart& part : finders.raw.split(text)) {
      if (part.id >= 0) {
        out.push_back(part.id);
        continue;
      }
      for (const TextPart& inner : finders.normalized.split(part.text)) {
        if (inner.id >= 0)
          out.push_back(inner.id);
        else
          encode_part(inner.text, cache, out);
      }
    }
    return out;
  }

  std::string decode(std::span<const TokenId> ids,
                     bool skip_special) const override {
    std::string bytes;
    for (const TokenId id : ids) {
      const ByteLevelModel::Token* token = find(id);
      if (token == nullptr) fail_unknown_id(id);
      if (!(skip_special && token->special)) bytes += token->bytes;
    }
    return to_valid_utf8(bytes);
  }

  std::size_t token_bytes(TokenId id) const override {
    const ByteLevelModel::Token* token = find(id);
    return token == nullptr || token->special ? 0 : token->bytes.size();
  }

  std::optional<TokenId> find_token(std::string_view token) const override {
    for (const AddedToken& added : model_.added)
      if (added.content == token) return added.id;
    const std::string text(token);
    const auto found =
        model_.bpe.ids.find(model_.printable_names ? bytes_of(text) : text);
    if (found == model_.bpe.ids.end()) return std::nullopt;
    return found->second;
  }

  std::int64_t vocabulary_size() const override {
    return static_cast<std::int64_t>(model_.tokens.size());
  }

 private:
  const ByteLevelModel::Token* find(TokenId id) const {
    const auto index = static_cast<std::size_t>(id);
    if (id < 0 || index >= model_.tokens.size() || !model_.tokens[index].known)
      return nullptr;
    return &model_.tokens[index];
  }

  // Cuts one stretch of text by the pre-tokenizer's steps and encodes it.
  void encode_part(std::string_view text, BpeCache& cache,
                   std::vector<TokenId>& out) const {
    if (model_.prefix_space && !text.starts_with(' ')) {
      std::string spaced(1, ' ');
      spaced += text;
      return encode_steps(spaced, 0, cache, out);
    }
    encode_steps(text, 0, cache, out);
  }

  void encode_steps(std::string_view text, std::size_t step, BpeCache& cache,
                    std::vector<TokenId>& out) const {
    if (text.empty()) return;
    if (step == model_.splits.size()) return cache.encode(text, out);
    // Isolated: matches and the text between them are pieces alike.
    std::size_t done = 0;
    model_.splits[step].each(text, [&](std::size_t begin, std::size_t end) {
      encode_steps(text.substr(done, begin - done), step + 1, cache, out);
      encode_steps(text.substr(begin, end - begin), step + 1, cache, out);
      done = end;
    });
    encode_steps(text.substr(done), step + 1, cache, out);
  }

  ByteLevelModel model_;
  Finders all_, ordinary_;
};

}  // namespace

ByteLevelBuilder::ByteLevelBuilder(std::string source)
    : source_(std::move(source)) {}

void ByteLevelBuilder::complain(const std::string& text) const {
  fail(ErrorKind::kInput, source_ + ": " + to_valid_utf8(text));
}

TokenId ByteLevelBuilder::read_id(const Json& value,
                                  const std::string& what) const {
  if (!value.is_number_integer() || value.get<std::int64_t>() < 0 ||
      value.get<std::int64_t>() > kMaxTokenId)
    complain(fmt::format("the id of {} is not a number from 0 to {}", what,
                         kMaxTokenId));
  return value.get<TokenId>();
}

void ByteLevelBuilder::place(TokenId id, std::string bytes, bool special) {
  const auto index = static_cast<std::size_t>(id);
  if (index >= model_.tokens.size()) model_.tokens.resize(index + 1);
  model_.tokens[index] = {std::move(bytes), true, special};
}

void ByteLevelBuilder::add_token(std::string bytes, TokenId id) {
  if (static_cast<std::size_t>(id) < model_.tokens.size() &&
      model_.tokens[static_cast<std::size_t>(id)].known)
    complain(fmt::format("the id {} is given to two tokens", id));
  model_.bpe.ids[bytes] = id;
  place(id, std::move(bytes), false);
}

void ByteLevelBuilder::add_vocabulary(const Json& tokens) {
  for (const auto& [text, value] : tokens.items())
    add_token(bytes_of(text), read_id(value, fmt::format("'{}'", text)));
}

void ByteLevelBuilder::add_merge(const std::string& pair) {
  const std::size_t space = pair.find(' ');
  if (space == std::string::npos ||
      pair.find(' ', space + 1) != std::string::npos)
    complain(fmt::format("merge '{}' is not a pair", pair));
  add_merge(pair.substr(0, space), pair.substr(space + 1));
}

void ByteLevelBuilder::add_merge(const std::string& left,
                                 const std::string& right) {
  const auto id = [&](const std::string& token) {
    const auto found = model_.bpe.ids.find(bytes_of(token));
    if (found == model_.bpe.ids.end())
      complain(
          fmt::format("merge '{} {}' uses the token '{}', which is not "
                      "in the vocabulary",
                      left, right, token));
    return found->second;
  };
  const TokenId first = id(left), second = id(right);
  model_.bpe.add_merge(first, second, {next_rank_++, id(left + right)});
}

void ByteLevelBuilder::add_special(AddedToken token) {
  place(token.id,
        model_.printable_names ? bytes_of(token.content) : token.content,
        token.special);
  model_.added.push_back(std::move(token));
}

std::unique_ptr<const Encoder> ByteLevelBuilder::finish() {
  for (int b = 0; b < 256; ++b) {
    const auto found =
        model_.bpe.ids.find(std::string(1, static_cast<char>(b)));
    model_.bpe.byte_ids[b] = found == model_.bpe.ids.end() ? -1 : found->second;
  }
  return std::make_unique<ByteLevelEncoder>(std::move(model_));
}

}  // namespace autoglm
