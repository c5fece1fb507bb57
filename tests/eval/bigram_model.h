// A model small enough to evaluate by hand: no blocks, one-hot embeddings, so
// that the logits after token t are exactly the logarithms of a given row.
#pragma once

#include <vector>

#include "autoglm/model/model.h"
#include "autoglm/text/corpus.h"

namespace autoglm::test {

/// probabilities[t][v] = P(v | t), four tokens, rows sum to one.
Model bigram_model(const std::vector<std::vector<double>>& probabilities);

/// Windows of equal length behind `prefix`, scored as `text_bytes` bytes.
TokenWindows windows_of(std::vector<TokenId> prefix,
                        std::vector<std::vector<TokenId>> windows,
                        std::uint64_t text_bytes);

/// The first `layers` blocks of the example model.
Model short_example(std::size_t layers);

/// `linear` of a model replaced by its round-to-nearest codes, symmetric, one
/// scale per `group` columns.
void round_weight(Model& model, const std::string& linear, int bits,
                  std::int64_t group);

}  // namespace autoglm::test
