#include "autoglm/eval/evaluate.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <optional>

#include "autoglm/core/error.h"
#include "autoglm/core/progress.h"
#include "autoglm/core/text.h"
#include "autoglm/model/forward.h"
#include "eval/metrics.h"

namespace autoglm {
namespace {

// What is left to run of an original whose last states are known.
Model head_alone(Model model) {
  model.blocks.clear();
  return model;
}

}  // namespace

at::Tensor window_ids(const TokenWindows& windows) {
  const auto prefix = static_cast<std::int64_t>(windows.prefix.size());
  at::Tensor ids =
      at::empty({windows.count(), prefix + windows.length}, at::kLong);
  std::int64_t* out = ids.data_ptr<std::int64_t>();
  for (const auto& window : windows.windows) {
    out = std::copy(windows.prefix.begin(), windows.prefix.end(), out);
    out = std::copy(window.begin(), window.end(), out);
  }
  return ids;
}

Scorecard evaluate(const Model& model, const TokenWindows& windows,
                   const Model* original, const EvaluateOptions& options) {
  const at::NoGradGuard no_grad;
  AUTOGLM_ENSURE(windows.count() > 0);
  if (windows.prefix.empty() && windows.length < 2)
    fail(ErrorKind::kConfig,
         "windows of one token predict nothing without prefix tokens");
  const Model compute =
      to_compute(model, options.device, options.dtype, options.product);
  std::vector<at::Tensor>* kept = options.original_states;
  const bool known = kept != nullptr && !kept->empty();
  AUTOGLM_ENSURE(kept == nullptr || !options.on_states);
  std::optional<Model> reference;
  if (original != nullptr)
    reference = to_compute(known ? head_alone(*original) : *original,
                           options.device, options.dtype);
  if (reference &&
      reference->architecture.vocabulary != compute.architecture.vocabulary)
    fail(ErrorKind::kInput, fmt::format("the vocabularies differ: {} and {}",
                                        compute.architecture.vocabulary,
                                        reference->architecture.vocabulary));
  const auto prefix = static_cast<std::int64_t>(windows.prefix.size());
  const std::int64_t first = std::max<std::int64_t>(1, prefix);
  const at::Tensor all = window_ids(windows);
  std::vector<at::Tensor> filled;
  MetricSums sums;
  Progress progress("evaluating", windows.count(), "windows");
  for (std::int64_t at = 0; at < windows.count(); at += options.batch) {
    const std::int64_t n = std::min(options.batch, windows.count() - at);
    const at::Tensor ids = all.narrow(0, at, n).to(options.device);
    const at::Tensor targets =
        ids.narrow(1, first, ids.size(1) - first).flatten();
    std::vector<at::Tensor> states, states_original;
    const auto run = [&](const Model& one,
                         std::vector<at::Tensor>& all_states) {
      std::function<void(at::Tensor)> keep;
      if (options.on_states && reference)
        keep = [&](const at::Tensor& state) { all_states.push_back(state); };
      return text_states(one, ids, prefix, options.dtype, keep);
    };
    const at::Tensor x = run(compute, states);
    at::Tensor x_original;
    if (reference && known)
      x_original = kept->at(static_cast<std::size_t>(at / options.batch))
                       .to(options.device);
    else if (reference)
      x_original = run(*reference, states_original);
    AUTOGLM_ENSURE(!reference || x_original.size(0) == x.size(0));
    if (kept != nullptr && !known)
      filled.push_back((reference ? x_original : x).cpu());
    if (options.on_states && reference)
      options.on_states(states, states_original);
    // The head is applied to a few positions at a time: at GLM's vocabulary
    // the logits of a whole batch would not fit.
    const std::int64_t step = std::max<std::int64_t>(
        1, (std::int64_t{1} << 25) / compute.architecture.vocabulary);
    with_context(
        [&] {
          return fmt::format("in the evaluation windows {} to {}", at,
                             at + n - 1);
        },
        [&] {
          for (std::int64_t p = 0; p < x.size(0); p += step) {
            const std::int64_t m = std::min(step, x.size(0) - p);
            sums.add(head_forward(compute, x.narrow(0, p, m)),
                     targets.narrow(0, p, m),
                     reference
                         ? head_forward(*reference, x_original.narrow(0, p, m))
                         : at::Tensor());
          }
        });
    progress.step(n);
  }
  if (kept != nullptr && !known) *kept = std::move(filled);
  Scorecard out = sums.scorecard(windows.text_bytes);
  out.data = windows.source;
  out.windows = windows.count();
  out.length = windows.length;
  return out;
}

}  // namespace autoglm
