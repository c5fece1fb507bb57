#include "eval/metrics.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "autoglm/core/error.h"
#include "autoglm/core/text.h"

namespace autoglm {
namespace {

// Logits handled at once: 64 MB of fp32 per copy.
constexpr std::int64_t kChunkElements = 1 << 24;

double total(const at::Tensor& tensor) {
  return tensor.sum(at::kDouble).item<double>();
}

void check_finite(const at::Tensor& logits, const char* whose) {
  if (!std::isfinite(total(logits)))
    fail(ErrorKind::kNumeric,
         fmt::format("the {}'s logits contain NaN or infinity", whose));
}

}  // namespace

void MetricSums::add(const at::Tensor& logits, const at::Tensor& targets,
                     const at::Tensor& original) {
  AUTOGLM_ENSURE(logits.dim() == 2 && targets.dim() == 1 &&
                 targets.size(0) == logits.size(0));
  AUTOGLM_ENSURE(!original.defined() || original.sizes() == logits.sizes());
  const std::int64_t step =
      std::max<std::int64_t>(1, kChunkElements / logits.size(1));
  for (std::int64_t at = 0; at < logits.size(0); at += step) {
    const std::int64_t n = std::min(step, logits.size(0) - at);
    add_chunk(logits.narrow(0, at, n), targets.narrow(0, at, n),
              original.defined() ? original.narrow(0, at, n) : at::Tensor());
  }
}

void MetricSums::add_chunk(const at::Tensor& logits, const at::Tensor& targets,
                           const at::Tensor& original) {
  const at::Tensor wide = logits.to(at::kFloat);
  check_finite(wide, "model");
  const at::Tensor log_p = at::log_softmax(wide, -1);
  const at::Tensor best = wide.argmax(-1);
  count_ += logits.size(0);
  nll_ -= total(log_p.gather(1, targets.unsqueeze(1)));
  hits_ += (best == targets).sum().item<std::int64_t>();
  if (!original.defined()) return;

  against_original_ = true;
  const at::Tensor wide_q = original.to(at::kFloat);
  check_finite(wide_q, "original");
  const at::Tensor log_q = at::log_softmax(wide_q, -1);
  const at::Tensor q = log_q.exp();
  // KL(original || this model); rounding can make a true 0 slightly negative.
  const at::Tensor kl = (q * (log_q - log_p)).sum(-1).clamp_min(0);
  kl_ += total(kl);
  const at::Tensor host = kl.to(at::kCPU).contiguous();
  kls_.insert(kls_.end(), host.const_data_ptr<float>(),
              host.const_data_ptr<float>() + host.numel());
  const at::Tensor best_q = wide_q.argmax(-1);
  original_hits_ += (best_q == targets).sum().item<std::int64_t>();
  agreements_ += (best_q == best).sum().item<std::int64_t>();
  const at::Tensor norms = wide.norm(2, -1) * wide_q.norm(2, -1);
  cosine_ += total((wide * wide_q).sum(-1) / norms.clamp_min(1e-30));
  l2_ += total((q - log_p.exp()).norm(2, -1));
}

Scorecard MetricSums::scorecard(std::uint64_t text_bytes) const {
  AUTOGLM_ENSURE(count_ > 0);
  const auto n = static_cast<double>(count_);
  Scorecard out;
  out.tokens = count_;
  out.text_bytes = text_bytes;
  out.perplexity = std::exp(nll_ / n);
  out.accuracy = static_cast<double>(hits_) / n;
  if (text_bytes > 0)
    out.bits_per_byte =
        nll_ / std::numbers::ln2 / static_cast<double>(text_bytes);
  if (!against_original_) return out;
  Divergence d;
  d.kl = kl_ / n;
  std::vector<float> sorted = kls_;
  const auto rank = static_cast<std::ptrdiff_t>(
      0.99 * static_cast<double>(sorted.size() - 1));
  const auto p99 = sorted.begin() + rank;
  std::nth_element(sorted.begin(), p99, sorted.end());
  d.kl_p99 = static_cast<double>(*p99);
  d.top1_agreement = static_cast<double>(agreements_) / n;
  d.cosine = cosine_ / n;
  d.l2 = l2_ / n;
  d.accuracy_retention =
      original_hits_ > 0
          ? static_cast<double>(hits_) / static_cast<double>(original_hits_)
          : 1;
  out.divergence = d;
  return out;
}

}  // namespace autoglm
