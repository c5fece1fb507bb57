#include "autoglm/model/footprint.h"

#include <algorithm>
#include <cmath>

#include "autoglm/model/block_parts.h"
#include "model/coded_heads.h"

namespace autoglm {
namespace {

Size size_of(const at::Tensor& tensor) {
  if (!tensor.defined()) return {};
  const auto count = static_cast<std::uint64_t>(tensor.numel());
  return {count, count * static_cast<std::uint64_t>(tensor.element_size())};
}

Size size_of(const Weight& weight) {
  return {static_cast<std::uint64_t>(rows(weight) * columns(weight)),
          bytes(weight)};
}

Size size_of(const Linear& linear) {
  Size out = size_of(linear.weight);
  out += size_of(linear.bias);
  return out;
}

Size operator+(Size a, const Size& b) { return a += b; }

// `share` of `whole`, for experts that are alike.
Size part_of(const Size& whole, std::uint64_t share, std::uint64_t all) {
  if (all == 0) return {};
  return {whole.parameters / all * share, whole.bytes / all * share};
}

}  // namespace

Size& Size::operator+=(const Size& other) {
  parameters += other.parameters;
  bytes += other.bytes;
  return *this;
}

Size Footprint::total() const {
  Size out;
  for (const Size* part :
       {&embedding, &attention, &mlp, &experts, &router, &norms, &head, &extra})
    out += *part;
  return out;
}

Footprint footprint(const Model& model) {
  Footprint out;
  const Architecture& a = model.architecture;
  out.embedding = size_of(model.embedding);
  // What a token leaves unused: all but one row of the embedding, and the
  // experts it was not sent to.
  const Size row = part_of(
      out.embedding, 1,
      static_cast<std::uint64_t>(std::max<std::int64_t>(1, a.vocabulary)));
  Size idle_experts;
  for (const Block& block : model.blocks) {
    Size layer, experts;
    const auto add = [&](const std::string& name, const Size& size) {
      layer += size;
      if (name.starts_with("mlp.experts."))
        experts += size;
      else if (name.starts_with("mlp.router."))
        out.router += size;
      else if (name.find("norm") != std::string::npos)
        out.norms += size;
      else
        (name.starts_with("attention.") ? out.attention : out.mlp) += size;
    };
    visit_block(
        block,
        [&](const std::string& name, const Linear& part) {
          add(name, size_of(part));
        },
        [&](const std::string& name, const at::Tensor& part) {
          add(name, size_of(part));
        });
    out.experts += experts;
    const auto count = static_cast<std::uint64_t>(block.mixture.experts.size());
    const auto used =
        std::min(count, static_cast<std::uint64_t>(
                            std::max<std::int64_t>(0, a.router.per_token)));
    idle_experts += part_of(experts, count - used, count);
    out.layers.push_back(layer);
  }
  out.norms += size_of(model.final_norm.gain) + size_of(model.final_norm.bias);
  if (model.head) out.head = size_of(*model.head);
  for (const auto& [name, tensor] : model.extra) out.extra += size_of(tensor);
  out.embedding += size_of(model.positions) + size_of(model.block_positions);
  const Size all = out.total();
  out.active_parameters =
      all.parameters - idle_experts.parameters - out.extra.parameters;
  // A tied head is the embedding, which is then read whole after all.
  const Size head = model.head ? out.head : size_of(model.embedding);
  out.bytes_per_token = out.attention.bytes + out.mlp.bytes +
                        out.experts.bytes - idle_experts.bytes +
                        out.router.bytes + out.norms.bytes + head.bytes +
                        row.bytes;
  return out;
}

std::uint64_t bytes_read(const Model& model, std::int64_t tokens) {
  double more = 0;
  for (const Block& block : model.blocks) {
    if (!block.is_mixture()) continue;
    Size experts;
    for (const Mlp& expert : block.mixture.experts)
      for (const Linear* part :
           {&expert.gate_up, &expert.gate, &expert.up, &expert.down})
        if (part->present()) experts += size_of(*part);
    const double used =
        std::min(1.0, static_cast<double>(model.architecture.router.per_token) /
                          static_cast<double>(block.mixture.experts.size()));
    // What one token leaves aside, another one may need.
    more += static_cast<double>(experts.bytes) * (1 - used) *
            (1 - std::pow(1 - used, static_cast<double>(tokens - 1)));
  }
  return footprint(model).bytes_per_token + static_cast<std::uint64_t>(more);
}

std::uint64_t cache_bytes_per_token(const Architecture& a,
                                    std::int64_t element) {
  const auto head = [&](std::int64_t size) {
    return a.kv_cache_bits > 0 ? coded_head_bytes(size, a.kv_cache_bits)
                               : size * element;
  };
  std::int64_t sum = 0;
  for (std::size_t i = 0; i < a.blocks.size(); ++i) {
    sum += a.blocks[i].kv_heads * (head(a.head_size) + head(a.value_size));
    // Only layers with scores of their own have keys for them.
    if (a.is_sparse() && a.indexer.fresh[i] && a.blocks[i].has_attention())
      sum += a.indexer.size * element;
  }
  return static_cast<std::uint64_t>(sum);
}

}  // namespace autoglm
