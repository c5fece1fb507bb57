// The token windows of a run.
#pragma once

#include <filesystem>
#include <string>

#include "autoglm/model/model.h"
#include "autoglm/pipeline/recipe.h"
#include "autoglm/text/corpus.h"

namespace autoglm {

/// The text that comes with autoglm: "calibration" or "evaluation" (pieces of
/// public-domain books). Looked for in ../share/autoglm/data beside the
/// program, then in the source tree it was built from. Throws kInput when it
/// is in neither, asking for a file.
std::filesystem::path shipped_text(const std::string& name);

/// A checkpoint, and of the families with two positions per token what its
/// tokenizer, if there is one, knows of blanks (Architecture::blank).
Model load_model(const std::filesystem::path& folder);

/// The tokenizer beside a checkpoint. Throws kInput when there is none.
Tokenizer load_tokenizer(const Model& model);

/// Windows of `source`, checked against the model's vocabulary, shorter than
/// asked where the model has learned fewer positions. A checkpoint without a
/// tokenizer gets bytes for tokens, with a warning (text/corpus.h).
TokenWindows load_windows(const Model& model, const DataSource& source,
                          Pick pick = Pick::kFirst);

}  // namespace autoglm
