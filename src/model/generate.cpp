#include "autoglm/model/generate.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <memory>

#include "autoglm/core/error.h"
#include "autoglm/core/interrupt.h"
#include "autoglm/model/decoder.h"

namespace autoglm {
namespace {

// Inverse transform sampling with our own generator, so that a seed gives the
// same text on every device and version. logits: [B, V].
at::Tensor sample(const at::Tensor& logits, double temperature, Rng& rng) {
  const at::Tensor sums =
      at::softmax(logits.to(at::kCPU, at::kDouble) / temperature, -1)
          .cumsum(-1)
          .contiguous();
  const std::int64_t batch = sums.size(0), vocabulary = sums.size(1);
  at::Tensor ids = at::empty({batch}, at::kLong);
  for (std::int64_t b = 0; b < batch; ++b) {
    const double* row = sums.const_data_ptr<double>() + b * vocabulary;
    const double target = rng.uniform() * row[vocabulary - 1];
    const double* found = std::upper_bound(row, row + vocabulary, target);
    ids.data_ptr<std::int64_t>()[b] =
        std::min<std::int64_t>(found - row, vocabulary - 1);
  }
  return ids.to(logits.device());
}

}  // namespace

at::Tensor generate(const Model& model, const at::Tensor& ids,
                    const GenerateOptions& options, Rng* rng) {
  const at::NoGradGuard no_grad;
  AUTOGLM_ENSURE(options.temperature == 0 || rng != nullptr);
  const std::int64_t batch = ids.size(0);
  KvCache cache;
  cache.expected = ids.size(1) + options.max_tokens;
  ForwardOptions forward_options;
  forward_options.dtype = options.dtype;
  forward_options.mask = options.mask;
  forward_options.cache = &cache;
  forward_options.last_only = true;

  std::vector<at::Tensor> columns = {ids};
  at::Tensor input;  // the last column
  at::Tensor ended = at::zeros({batch}, ids.options().dtype(at::kBool));
  at::Tensor end_token = at::zeros({batch}, ids.options());
  std::unique_ptr<Decoder> decoder;
  for (std::int64_t step = 0; step < options.max_tokens; ++step) {
    check_interrupted();
    at::Tensor logits;
    if (step == 0) {
      logits = forward(model, ids, forward_options).select(1, 0);
    } else {
      if (decoder == nullptr)
        decoder = std::make_unique<Decoder>(model, std::move(cache), batch,
                                            options.dtype);
      logits = decoder->step(input);
    }
    at::Tensor next = options.temperature > 0
                          ? sample(logits, options.temperature, *rng)
                          : logits.argmax(-1);
    if (options.stop_at_end) {
      next = at::where(ended, end_token, next);
      for (const std::int64_t id : model.architecture.end_ids) {
        const at::Tensor hit = (next == id).logical_and(ended.logical_not());
        end_token = at::where(hit, next, end_token);
        ended = ended.logical_or(hit);
      }
    }
    columns.push_back(next.unsqueeze(1));
    if (options.on_token && !options.on_token(next)) break;
    if (options.stop_at_end && ended.all().item<bool>()) break;
    input = next.unsqueeze(1);
  }
  return at::cat(columns, 1);
}

}  // namespace autoglm
