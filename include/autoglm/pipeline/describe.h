// What a model, its data and the machine are, as plain records.
#pragma once

#include "autoglm/core/config.h"
#include "autoglm/core/json.h"
#include "autoglm/model/model.h"
#include "autoglm/pipeline/record.h"
#include "autoglm/text/corpus.h"

namespace autoglm {

/// Sizes, formats and widths; no measurement. disk_bytes stays 0.
ModelRecord describe_model(const Model& model);

/// What a pass at its defaults would change of a model.
struct PassReach {
  std::string type;
  std::int64_t matrices = 0;       // that go, or change their shape or form
  std::vector<std::string> kinds;  // "mlp.experts.*.down"
  std::uint64_t bytes = 0;         // of all weights, afterwards
  std::string refusal;             // why it cannot run, or empty
};
/// One per pass of the catalogue, planned on shapes alone.
std::vector<PassReach> describe_reach(const Model& model);

/// Bytes of a checkpoint folder without its autoglm/ folder.
std::uint64_t checkpoint_bytes(const std::filesystem::path& folder);

/// A fingerprint of a checkpoint: config and weight files by name, size and
/// edges (core/file.h).
std::string checkpoint_fingerprint(const std::filesystem::path& folder);

/// A configuration as JSON; unquoted numbers and booleans become such.
Json describe_config(const ConfigNode& node);

/// Where the windows come from, how many, how long, bytes of their text.
Json describe_data(const TokenWindows& windows);

/// The processor's name as the kernel of the system gives it, or "unknown".
std::string cpu_name();

}  // namespace autoglm
