#include "text/sentencepiece_encoder.h"

#include <algorithm>

#include "text/byte_alphabet.h"

namespace autoglm {

SentencePieceEncoder::SentencePieceEncoder(SentencePieceModel model,
                                           std::vector<AddedToken> specials,
                                           std::vector<AddedToken> recognised)
    : model_(std::move(model)), recognised_(std::move(recognised)) {
  for (const AddedToken& token : specials) {
    specials_.emplace(token.id, token.content);
    special_ids_.emplace(token.content, token.id);
  }
}

std::vector<TokenId> SentencePieceEncoder::encode(std::string_view text,
                                                  TextForm form) const {
  if (form != TextForm::kSpecials) return model_.encode(text);
  std::vector<TokenId> out;
  for (const TextPart& part : recognised_.split(text)) {
    if (part.id >= 0) {
      out.push_back(part.id);
      continue;
    }
    const std::vector<TokenId> ids = model_.encode(part.text);
    out.insert(out.end(), ids.begin(), ids.end());
  }
  return out;
}

std::string SentencePieceEncoder::decode(std::span<const TokenId> ids,
                                         bool skip_special) const {
  std::string out;
  std::vector<TokenId> run;  // goes through the library in one piece
  const auto end_run = [&] {
    out += model_.decode(run);
    run.clear();
  };
  for (const TokenId id : ids) {
    if (const auto special = specials_.find(id); special != specials_.end()) {
      if (skip_special) continue;
      end_run();
      out += special->second;
    } else if (id >= 0 && id < model_.size()) {
      run.push_back(id);
    } else {
      fail_unknown_id(id);
    }
  }
  end_run();
  return to_valid_utf8(out);
}

std::size_t SentencePieceEncoder::token_bytes(TokenId id) const {
  if (specials_.contains(id) || id < 0 || id >= model_.size()) return 0;
  return model_.piece_bytes(id);
}

std::optional<TokenId> SentencePieceEncoder::find_token(
    std::string_view token) const {
  const auto special = special_ids_.find(token);
  if (special != special_ids_.end()) return special->second;
  return model_.find(token);
}

std::int64_t SentencePieceEncoder::vocabulary_size() const {
  const TokenId last = specials_.empty() ? -1 : specials_.rbegin()->first;
  return std::max(model_.size(), last + 1);
}

}  // namespace autoglm
