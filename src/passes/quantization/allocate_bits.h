// `bits: auto`: a width for every matrix, so that the predictions suffer least
// within a budget. Damages are measured unit by unit (sensitivity.h), taken to
// add up, and the widths follow from an exact program (allocation.h).
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>

#include "autoglm/passes/pass.h"
#include "passes/quantization/sensitivity.h"

namespace autoglm {

/// What is to be chosen, and within what. At least one limit is given; of two
/// the tighter one counts.
struct BitRequest {
  /// All matrices that will be quantized; those with one width as well, which
  /// count in the budget.
  Widths widths;
  /// Bytes of a matrix at a width: codes, scales and zero points.
  std::function<std::uint64_t(const std::string& name, int bits)> bytes;
  /// Bits per weight over all of `widths`, scales and zero points included;
  /// 0: no limit.
  double average_bits = 0;
  /// Bytes of the whole model as footprint() counts them; 0: no limit.
  std::uint64_t max_size = 0;
  /// Of calibration, spread over it, that measure the damages.
  std::int64_t windows = 16;
};

/// The width of every matrix in `request.widths`. `model` is on the device to
/// work on. Damages are made to fall, or stay, as the width rises: a width that
/// did worse than a narrower one counts as that. Notes "sensitivity", a list of
/// {unit, weights, widths: [{bits, bytes, kl}], bits}, where a unit without a
/// choice has no kl, and "allocation": {average_bits, bytes, predicted_kl,
/// windows}, where bytes are those of all of `widths`. Throws kConfig without
/// calibration windows and for a limit that the narrowest widths do not keep.
std::map<std::string, int> allocate_bits(const Model& model,
                                         PassContext& context,
                                         const BitRequest& request,
                                         const QuantizeMatrix& quantize);

/// The same from shapes alone, for plans: each bit less is taken to do four
/// times the damage, in proportion to the weights. Fails as allocate_bits does
/// and keeps the same limits.
std::map<std::string, int> plan_bits(const Model& shapes,
                                     const BitRequest& request);

}  // namespace autoglm
