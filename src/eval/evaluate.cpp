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

using States = std::vector<at::Tensor>;

// One of the two models that are compared, ready to run, and the last states of
// the original, which may be known from an earlier call.
class Side {
 public:
  Side(Model model, const EvaluateOptions& options, QuantizedProduct product,
       const States* known = nullptr)
      : options_(options), known_(known) {
    // All that is left to run is the head.
    if (known_ != nullptr) model.blocks.clear();
    model_ =
        to_compute(std::move(model), options.device, options.dtype, product);
  }

  const Model& model() const { return model_; }

  /// The states that are scored of batch number `batch`, [n, H]; those after
  /// the embedding and each block too where somebody asks for them.
  at::Tensor states(std::int64_t batch, const at::Tensor& ids,
                    std::int64_t prefix, States& all) const {
    if (known_ != nullptr)
      return known_->at(static_cast<std::size_t>(batch)).to(options_.device);
    std::function<void(at::Tensor)> keep;
    if (options_.on_states)
      keep = [&](const at::Tensor& state) { all.push_back(state); };
    return text_states(model_, ids, prefix, options_.dtype, keep);
  }

 private:
  const EvaluateOptions& options_;
  const States* known_;
  Model model_;
};

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
  States* kept = options.original_states;
  AUTOGLM_ENSURE(kept == nullptr || !options.on_states);
  const States* known = kept != nullptr && !kept->empty() ? kept : nullptr;
  const Side own(model, options, options.product);
  std::optional<Side> reference;
  if (original != nullptr)
    reference.emplace(*original, options, QuantizedProduct::kExact, known);
  if (reference && reference->model().architecture.vocabulary !=
                       own.model().architecture.vocabulary)
    fail(ErrorKind::kInput,
         fmt::format("the vocabularies differ: {} and {}",
                     own.model().architecture.vocabulary,
                     reference->model().architecture.vocabulary));
  const auto prefix = static_cast<std::int64_t>(windows.prefix.size());
  const std::int64_t first = std::max<std::int64_t>(1, prefix);
  const at::Tensor all = window_ids(windows);
  States filled;
  MetricSums sums;
  Progress progress("evaluating", windows.count(), "windows");
  for (std::int64_t at = 0; at < windows.count(); at += options.batch) {
    const std::int64_t n = std::min(options.batch, windows.count() - at);
    const at::Tensor ids = all.narrow(0, at, n).to(options.device);
    const at::Tensor targets =
        ids.narrow(1, first, ids.size(1) - first).flatten();
    const std::int64_t batch = at / options.batch;
    States states, states_original;
    const at::Tensor x = own.states(batch, ids, prefix, states);
    at::Tensor x_original;
    if (reference)
      x_original = reference->states(batch, ids, prefix, states_original);
    AUTOGLM_ENSURE(!reference || x_original.size(0) == x.size(0));
    if (options.on_states && reference)
      options.on_states(states, states_original);
    if (kept != nullptr && known == nullptr)
      filled.push_back((reference ? x_original : x).cpu());
    // The head is applied to a few positions at a time: at GLM's vocabulary
    // the logits of a whole batch would not fit.
    const std::int64_t step = std::max<std::int64_t>(
        1, (std::int64_t{1} << 25) / own.model().architecture.vocabulary);
    with_context(
        [&] {
          return fmt::format("in the evaluation windows {} to {}", at,
                             at + n - 1);
        },
        [&] {
          for (std::int64_t p = 0; p < x.size(0); p += step) {
            const std::int64_t m = std::min(step, x.size(0) - p);
            sums.add(head_forward(own.model(), x.narrow(0, p, m)),
                     targets.narrow(0, p, m),
                     reference ? head_forward(reference->model(),
                                              x_original.narrow(0, p, m))
                               : at::Tensor());
          }
        });
    progress.step(n);
  }
  if (kept != nullptr && known == nullptr) *kept = std::move(filled);
  Scorecard out = sums.scorecard(windows.text_bytes);
  out.data = windows.source;
  out.windows = windows.count();
  out.length = windows.length;
  return out;
}

}  // namespace autoglm
