// How large the inputs of a block's matrices are, channel by channel: what
// scale folds (choose_folds.h) and static activations go by.
#pragma once

#include <ATen/ATen.h>

#include <map>
#include <optional>
#include <vector>

#include "autoglm/model/walk.h"

namespace autoglm {

/// [in] fp32 each, over tokens: the mean and the greatest of |x|.
struct ChannelSizes {
  at::Tensor mean, most;
};

struct InputSizes {
  std::map<Site, ChannelSizes> sites;
  /// Of what down of each routed expert receives; none: it was sent too few
  /// tokens (ExpertInputs::kFewestTokens).
  std::vector<std::optional<ChannelSizes>> experts;

  /// Null pointer where nothing is known.
  const ChannelSizes* of(Site site, std::optional<std::size_t> expert) const;
};

/// Of the original block on the fitting windows of the compressed stream.
InputSizes input_sizes(const Model& model, const BlockVisit& visit);

}  // namespace autoglm
