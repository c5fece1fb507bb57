#include "eval/subject.h"

#include <algorithm>

#include "autoglm/core/rng.h"

namespace autoglm {

at::Tensor random_prompt(const std::vector<Model>& models,
                         const LatencyPoint& point, at::Device device) {
  std::int64_t vocabulary = models.front().architecture.vocabulary;
  for (const Model& model : models)
    vocabulary = std::min(vocabulary, model.architecture.vocabulary);
  Rng rng(derive_seed(point.seed, "latency prompt"));
  constexpr std::int64_t kShort = 16;  // enough to fill a cache from
  const std::int64_t tokens =
      point.prefill ? point.prompt
                    : std::clamp<std::int64_t>(point.prompt, 1, kShort);
  at::Tensor prompt = at::empty({point.batch, tokens}, at::kLong);
  std::int64_t* ids = prompt.data_ptr<std::int64_t>();
  for (std::int64_t i = 0; i < prompt.numel(); ++i)
    ids[i] = static_cast<std::int64_t>(
        rng.below(static_cast<std::uint64_t>(vocabulary)));
  return prompt.to(device);
}

KvCache filled_cache(const Model& model, const at::Tensor& prompt,
                     std::int64_t tokens, const ForwardOptions& options) {
  KvCache cache;
  if (tokens == 0) return cache;
  ForwardOptions own = options;
  own.cache = &cache;
  const std::int64_t seen = std::min<std::int64_t>(prompt.size(1), tokens);
  forward(model, prompt.narrow(1, 0, seen), own);
  const auto repeat = [&](at::Tensor& cached, std::int64_t dim) {
    if (!cached.defined()) return;
    std::vector<std::int64_t> times(static_cast<std::size_t>(cached.dim()), 1);
    times[static_cast<std::size_t>(dim)] = (tokens + seen - 1) / seen;
    cached = cached.repeat(times).narrow(dim, 0, tokens);
  };
  for (auto* part : {&cache.keys, &cache.values, &cache.index_keys})
    for (at::Tensor& cached : *part) repeat(cached, 2);
  repeat(cache.mask, 1);
  repeat(cache.context, 1);
  return cache;
}

}  // namespace autoglm
