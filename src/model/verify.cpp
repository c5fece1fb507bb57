#include "autoglm/core/error.h"
#include "autoglm/core/text.h"
#include "autoglm/model/model.h"

namespace autoglm {
namespace {

std::string shape_text(const at::Tensor& tensor) {
  return fmt::format("[{}]", fmt::join(tensor.sizes().vec(), ", "));
}

void check_finite(const at::Tensor& tensor, const std::string& name) {
  if (!tensor.defined() || !at::isFloatingType(tensor.scalar_type())) return;
  // One pass without a mask of the tensor's size: a sum of x - x is 0 unless
  // something is not finite.
  const at::Tensor flat = tensor.reshape({-1});
  constexpr std::int64_t kChunk = 1 << 24;
  for (std::int64_t at = 0; at < flat.numel(); at += kChunk) {
    const at::Tensor part =
        flat.narrow(0, at, std::min(kChunk, flat.numel() - at));
    if (!at::isfinite(part).all().item<bool>())
      fail(ErrorKind::kNumeric, name + " contains NaN or infinity");
  }
}

void check_weight(const Weight& weight, const std::string& name,
                  std::int64_t out, std::int64_t in) {
  if (rows(weight) != out || columns(weight) != in)
    fail(ErrorKind::kInternal,
         fmt::format("{} is [{}, {}], but [{}, {}] fits its neighbours", name,
                     rows(weight), columns(weight), out, in));
  if (const auto* dense = std::get_if<DenseWeight>(&weight))
    check_finite(dense->value, name);
  else
    check_finite(std::get<QuantizedWeight>(weight).scales, name + " scales");
}

void check_vector(const at::Tensor& tensor, const std::string& name,
                  std::int64_t size, bool optional) {
  if (optional && !tensor.defined()) return;
  if (!tensor.defined() || tensor.dim() != 1 || tensor.size(0) != size)
    fail(ErrorKind::kInternal,
         fmt::format("{} is {}, but [{}] fits its neighbours", name,
                     tensor.defined() ? shape_text(tensor) : "missing", size));
  check_finite(tensor, name);
}

void check_linear(const Linear& linear, const std::string& name,
                  std::int64_t out, std::int64_t in) {
  check_weight(linear.weight, name, out, in);
  check_vector(linear.bias, name + " bias", out, true);
}

}  // namespace

void verify_model(const Model& model) {
  const Architecture& a = model.architecture;
  check_weight(model.embedding, "embedding", a.vocabulary, a.hidden);
  if (model.blocks.size() != a.blocks.size())
    fail(ErrorKind::kInternal,
         fmt::format("{} blocks, but the architecture lists {}",
                     model.blocks.size(), a.blocks.size()));
  const bool sandwich = !a.family->after_attention_norm.empty();
  for (std::size_t i = 0; i < model.blocks.size(); ++i) {
    const Block& block = model.blocks[i];
    const BlockWidths& w = a.blocks[i];
    const std::string name = fmt::format("layers.{}.", i);
    const std::int64_t query = w.query_heads * a.head_size;
    const std::int64_t key = w.kv_heads * a.head_size;
    check_linear(block.attention.query, name + "attention.query", query,
                 a.hidden);
    check_linear(block.attention.key, name + "attention.key", key, a.hidden);
    check_linear(block.attention.value, name + "attention.value", key,
                 a.hidden);
    check_linear(block.attention.output, name + "attention.output", a.hidden,
                 query);
    check_linear(block.mlp.gate_up, name + "mlp.gate_up", 2 * w.ffn, a.hidden);
    check_linear(block.mlp.down, name + "mlp.down", a.hidden, w.ffn);
    check_vector(block.input_norm, name + "input_norm", a.hidden, false);
    check_vector(block.middle_norm, name + "middle_norm", a.hidden, false);
    check_vector(block.after_attention_norm, name + "after_attention_norm",
                 a.hidden, !sandwich);
    check_vector(block.after_mlp_norm, name + "after_mlp_norm", a.hidden,
                 !sandwich);
    if (w.kv_heads < 1 || w.query_heads % w.kv_heads != 0)
      fail(ErrorKind::kInternal,
           fmt::format("{}attention has {} query heads for {} key/value heads",
                       name, w.query_heads, w.kv_heads));
  }
  check_vector(model.final_norm, "final_norm", a.hidden, false);
  if (model.head) check_linear(*model.head, "head", a.vocabulary, a.hidden);
}

}  // namespace autoglm
