#include "passes/sparsification/sparsifier.h"

#include "autoglm/core/error.h"
#include "autoglm/core/text.h"
#include "passes/sparsification/sparse_matrix.h"

namespace autoglm {
namespace {

double share_of_zeros(const at::Tensor& values) {
  return 1 - static_cast<double>(values.count_nonzero().item<std::int64_t>()) /
                 static_cast<double>(values.numel());
}

double relative_change(const at::Tensor& from, const at::Tensor& to) {
  const double energy = from.square().sum(at::kDouble).item<double>();
  const double lost = (to - from).square().sum(at::kDouble).item<double>();
  return energy > 0 ? lost / energy : 0;
}

}  // namespace

at::Tensor Sparsifier::best(const at::Tensor& weight, at::ScalarType dtype,
                            const SplitMoments& moments, Json& note) const {
  const LayerError error(weight, moments.held_out);
  const at::Tensor& inputs = moments.fit.compressed;
  note["error_magnitude"] =
      error.relative(sparsify_by_magnitude(weight, pattern_));
  const at::Tensor wanda = sparsify_by_wanda(weight, inputs, pattern_);
  const double wanda_error = error.relative(wanda);
  note["error"] = wanda_error;
  if (method_ == "wanda") return wanda;
  const at::Tensor corrected =
      sparsify_by_sparsegpt(weight, inputs, pattern_).to(dtype).to(at::kFloat);
  const double corrected_error = error.relative(corrected);
  note["error_wanda"] = wanda_error;
  // Written so that NaN counts as worse.
  if (!(corrected_error <= wanda_error)) {
    note["method"] = "wanda";
    return wanda;
  }
  note["error"] = corrected_error;
  return corrected;
}

Weight Sparsifier::sparsify(const std::string& name, const Weight& weight,
                            const SplitMoments* moments) {
  const at::Tensor& values = std::get<DenseWeight>(weight).value;
  const at::Tensor wide = values.to(at::kFloat);
  if (!at::isfinite(wide).all().item<bool>())
    fail(ErrorKind::kNumeric,
         fmt::format("sparsification: {} holds NaN or infinity", name));
  Json note = {{"name", name},
               {"method", moments != nullptr ? method_ : "magnitude"}};
  at::Tensor sparse;
  if (moments != nullptr) {
    sparse = best(wide, values.scalar_type(), *moments, note);
  } else {
    sparse = sparsify_by_magnitude(wide, pattern_);
    note["error_magnitude"] = note["error"] = relative_change(wide, sparse);
  }
  note["sparsity"] = share_of_zeros(sparse);
  notes_.push_back(std::move(note));
  progress_.step();
  return DenseWeight{sparse.to(values.scalar_type())};
}

void Sparsifier::summarize(std::int64_t layer, Json& note) const {
  const std::string prefix = fmt::format("layers.{}.", layer);
  double count = 0;
  std::map<std::string, double> sums;
  for (const Json& matrix : notes_) {
    if (!matrix["name"].get<std::string>().starts_with(prefix)) continue;
    ++count;
    for (const char* fact : {"sparsity", "error_magnitude", "error"})
      sums[fact] += matrix[fact].get<double>();
  }
  for (const auto& [fact, sum] : sums) note[fact] = sum / count;
}

}  // namespace autoglm
