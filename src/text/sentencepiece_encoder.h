// SentencePiece with special tokens appended after the pieces.
#pragma once

#include <map>
#include <vector>

#include "text/added_tokens.h"
#include "text/loaded_tokenizer.h"
#include "text/sentencepiece_model.h"

namespace autoglm {

class SentencePieceEncoder final : public Encoder {
 public:
  /// `specials` have ids that the model does not use (or hides); `recognised`
  /// are those that TextForm::kSpecials finds in a text.
  SentencePieceEncoder(SentencePieceModel model,
                       std::vector<AddedToken> specials,
                       std::vector<AddedToken> recognised);

  std::vector<TokenId> encode(std::string_view text,
                              TextForm form) const override;
  std::string decode(std::span<const TokenId> ids,
                     bool skip_special) const override;
  std::size_t token_bytes(TokenId id) const override;
  std::optional<TokenId> find_token(std::string_view token) const override;
  std::int64_t vocabulary_size() const override;

 private:
  SentencePieceModel model_;
  std::map<TokenId, std::string> specials_;
  std::map<std::string, TokenId, std::less<>> special_ids_;
  AddedTokenFinder recognised_;
};

}  // namespace autoglm
