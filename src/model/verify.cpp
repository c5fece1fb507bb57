#include "autoglm/core/error.h"
#include "autoglm/core/text.h"
#include "autoglm/model/block_parts.h"
#include "autoglm/model/model.h"
#include "model/finite.h"

namespace autoglm {
namespace {

std::string shape_text(const at::Tensor& tensor) {
  return fmt::format("[{}]", fmt::join(tensor.sizes().vec(), ", "));
}

void check_finite(const at::Tensor& tensor, const std::string& name) {
  if (!tensor.defined() || !at::isFloatingType(tensor.scalar_type())) return;
  if (!all_finite(tensor))
    fail(ErrorKind::kNumeric, name + " contains NaN or infinity");
}

void check_weight(const Weight& weight, const std::string& name,
                  std::int64_t out, std::int64_t in) {
  if (rows(weight) != out || columns(weight) != in)
    fail(ErrorKind::kInternal,
         fmt::format("{} is [{}, {}], but [{}, {}] fits its neighbours", name,
                     rows(weight), columns(weight), out, in));
  if (const auto* dense = std::get_if<DenseWeight>(&weight)) {
    check_finite(dense->value, name);
  } else if (const auto* float8 = std::get_if<Float8Weight>(&weight)) {
    check_finite(float8->values, name);
    check_finite(float8->scales, name + " scales");
  } else {
    check_finite(std::get<QuantizedWeight>(weight).scales, name + " scales");
  }
  const ActivationScheme scheme = activations(weight);
  if (scheme.quantized && !takes_activations(weight))
    fail(ErrorKind::kInternal,
         fmt::format("{} is {}, which no kernel multiplies", name,
                     describe(weight)));
  if (scheme.quantized && !scheme.dynamic() &&
      !(scheme.scale > 0).logical_and(at::isfinite(scheme.scale)).item<bool>())
    fail(ErrorKind::kNumeric, name + " has an input scale that is not above 0");
}

void check_tensor(const at::Tensor& tensor, const std::string& name,
                  const std::vector<std::int64_t>& shape, bool optional) {
  if (optional && !tensor.defined()) return;
  if (!tensor.defined() || tensor.sizes() != at::IntArrayRef(shape))
    fail(ErrorKind::kInternal,
         fmt::format("{} is {}, but [{}] fits its neighbours", name,
                     tensor.defined() ? shape_text(tensor) : "missing",
                     fmt::join(shape, ", ")));
  check_finite(tensor, name);
}

void check_linear(const Linear& linear, const std::string& name,
                  std::int64_t out, std::int64_t in) {
  if (!linear.present()) fail(ErrorKind::kInternal, name + " is missing");
  check_weight(linear.weight, name, out, in);
  check_tensor(linear.bias, name + " bias", {out}, true);
}

}  // namespace

void verify_model(const Model& model) {
  const Architecture& a = model.architecture;
  if (a.kv_cache_bits != 0 && a.kv_cache_bits != 4 && a.kv_cache_bits != 8)
    fail(ErrorKind::kInternal,
         fmt::format("a cache of {} bits, but 0, 4 and 8 are known",
                     a.kv_cache_bits));
  check_weight(model.embedding, "embedding", a.vocabulary, a.hidden);
  if (model.blocks.size() != a.blocks.size())
    fail(ErrorKind::kInternal,
         fmt::format("{} blocks, but the architecture lists {}",
                     model.blocks.size(), a.blocks.size()));
  if (a.position_rows > 0)
    check_tensor(model.positions, "positions", {a.position_rows, a.hidden},
                 false);
  if (a.block_positions)
    check_tensor(model.block_positions, "block positions",
                 {a.position_rows, a.hidden}, false);
  for (std::size_t i = 0; i < model.blocks.size(); ++i) {
    Block block = model.blocks[i];
    const BlockWidths& w = a.blocks[i];
    const std::string name = fmt::format("layers.{}.", i);
    if (w.has_attention() &&
        (w.kv_heads < 1 || w.query_heads % w.kv_heads != 0))
      fail(ErrorKind::kInternal,
           fmt::format("{}attention has {} query heads for {} key/value heads",
                       name, w.query_heads, w.kv_heads));
    const BlockShapes shapes = block_shapes(a, i);
    for (const auto& matrix : shapes.matrices)
      check_linear(*find_linear(block, matrix.name), name + matrix.name,
                   matrix.out, matrix.in);
    for (const auto& other : shapes.others)
      check_tensor(*find_tensor(block, other.name), name + other.name,
                   other.shape, false);
  }
  check_tensor(model.final_norm.gain, "final_norm", {a.hidden}, false);
  check_tensor(model.final_norm.bias, "final_norm bias", {a.hidden},
               !a.layer_norm);
  if (model.head) check_linear(*model.head, "head", a.vocabulary, a.hidden);
}

}  // namespace autoglm
