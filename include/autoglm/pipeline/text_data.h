// The token windows of a run: from text files, or, when a recipe names none,
// from the model itself (self-generated calibration data: LLM-QAT, arXiv
// 2305.17888; arXiv 2410.17170).
#pragma once

#include "autoglm/model/model.h"
#include "autoglm/pipeline/recipe.h"
#include "autoglm/text/corpus.h"

namespace autoglm {

/// Windows of `source`; without a file, `windows` samples of the model at
/// temperature 1 from `seed`, named "self-generated".
TokenWindows load_windows(const Model& model, const DataSource& source,
                          std::uint64_t seed, at::Device device);

/// The tokenizer beside a checkpoint. Throws kInput when there is none.
Tokenizer load_tokenizer(const Model& model);

}  // namespace autoglm
