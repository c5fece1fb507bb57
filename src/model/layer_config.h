// Widths that differ between layers, in config.json.
#pragma once

#include <string>

#include "autoglm/model/architecture.h"

namespace autoglm {

/// Of our own, for shared experts whose width is no longer n_shared_experts
/// times that of a routed one.
inline constexpr const char* kSharedFfnKey = "shared_expert_intermediate_size";

/// Of our own: Architecture::kv_cache_bits.
inline constexpr const char* kCacheBitsKey = "kv_cache_bits";

/// per_layer_config: {"3": {"intermediate_size": ..., ...}, ...}, the keys of
/// the family's own config.json (transformers' heterogeneous configurations),
/// and `skip` with a list of parts the layer lacks, "attention" and "mlp".
/// Changes out.blocks and checks all of them. Throws kInput.
void read_layer_config(const Json& config, const std::string& source,
                       Architecture& out);

}  // namespace autoglm
