#include "autoglm/model/decoder.h"

#include <ATen/core/grad_mode.h>

#include <mutex>
#include <set>

#include "autoglm/core/error.h"
#include "autoglm/core/log.h"
#include "model/recorded_step.h"

namespace autoglm {
namespace {

// Recording takes as long as a few steps.
constexpr std::int64_t kFewestSteps = 4;

void say_once(const std::string& why) {
  static std::mutex mutex;
  static std::set<std::string> said;
  const std::lock_guard lock(mutex);
  if (said.insert(why).second)
    log_info("decode steps are not recorded as one graph: {}", why);
}

}  // namespace

std::string why_not_recorded(const Model& model, const KvCache& cache,
                             at::Device device) {
  const DeviceKernels* kernels = device_kernels_for(device);
  if (kernels == nullptr || kernels->capture == nullptr)
    return "the device records nothing";
  if (cache.expected < cache.length() + kFewestSteps)
    return "there is room for a few tokens only";
  for (const Block& block : model.blocks) {
    if (block.is_mixture()) return "the host sends tokens to their experts";
    if (block.attention.indexer.query.defined())
      return "what sparse attention selects depends on the length";
  }
  const Architecture& a = model.architecture;
  // No position is beyond the number of tokens.
  if (a.position_rows > 0 && cache.expected >= a.position_rows)
    return "the text may pass the end of the learned positions";
  if (a.two_dimensional() && cache.length() == 0)
    return "positions depend on a prompt that is not there";
  return "";
}

Decoder::Decoder(const Model& model, KvCache cache, std::int64_t batch,
                 at::ScalarType dtype)
    : model_(model), cache_(std::move(cache)) {
  options_.dtype = dtype;
  options_.cache = &cache_;
  options_.last_only = true;
  const at::Device device = autoglm::device(model.embedding);
  const DeviceKernels* kernels = device_kernels_for(device);
  if (kernels == nullptr || kernels->capture == nullptr) return;
  if (const std::string why = why_not_recorded(model_, cache_, device);
      !why.empty()) {
    say_once(why);
    return;
  }
  const at::NoGradGuard no_grad;
  try {
    recorded_ = std::make_unique<RecordedStep>(model_, cache_, batch, dtype);
    cache_ = {};
  } catch (const c10::Error& error) {
    say_once(error.what_without_backtrace());
  }
}

Decoder::~Decoder() = default;

at::Tensor Decoder::step(const at::Tensor& ids) {
  const at::NoGradGuard no_grad;
  if (recorded_ != nullptr) return recorded_->step(ids);
  return forward(model_, ids, options_).select(1, 0);
}

}  // namespace autoglm
