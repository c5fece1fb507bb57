// What a model is and how it does, as plain records.
#pragma once

#include "autoglm/model/model.h"
#include "autoglm/pipeline/record.h"

namespace autoglm {

/// Sizes, formats and widths; no measurement. disk_bytes stays 0.
ModelRecord describe_model(const Model& model);

/// Bytes of a checkpoint folder without its autoglm/ folder.
std::uint64_t checkpoint_bytes(const std::filesystem::path& folder);

/// A fingerprint of a checkpoint: config and weight files by name, size and
/// edges (core/file.h).
std::string checkpoint_fingerprint(const std::filesystem::path& folder);

}  // namespace autoglm
