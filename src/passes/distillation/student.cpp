#include "passes/distillation/student.h"

#include <ATen/core/grad_mode.h>

namespace autoglm {
namespace {

// Calls visit(target, reference) for every floating point tensor that both
// models hold in the same place.
template <class Visit>
void each_tensor(Model& target, const Model& reference,
                 const StudentParts& parts, Visit&& visit) {
  const auto tensor = [&](at::Tensor& a, const at::Tensor& b) {
    if (a.defined()) visit(a, b);
  };
  const auto weight = [&](Weight& a, const Weight& b) {
    if (auto* dense = std::get_if<DenseWeight>(&a))
      visit(dense->value, std::get<DenseWeight>(b).value);
  };
  const auto linear = [&](Linear& a, const Linear& b) {
    weight(a.weight, b.weight);
    tensor(a.bias, b.bias);
  };
  if (parts.embedding) weight(target.embedding, reference.embedding);
  for (std::size_t i = 0; i < target.blocks.size(); ++i) {
    Block& a = target.blocks[i];
    const Block& b = reference.blocks[i];
    tensor(a.input_norm, b.input_norm);
    linear(a.attention.query, b.attention.query);
    linear(a.attention.key, b.attention.key);
    linear(a.attention.value, b.attention.value);
    linear(a.attention.output, b.attention.output);
    tensor(a.after_attention_norm, b.after_attention_norm);
    tensor(a.middle_norm, b.middle_norm);
    linear(a.mlp.gate_up, b.mlp.gate_up);
    linear(a.mlp.down, b.mlp.down);
    tensor(a.after_mlp_norm, b.after_mlp_norm);
  }
  tensor(target.final_norm, reference.final_norm);
  if (target.head && parts.head) linear(*target.head, *reference.head);
}

constexpr StudentParts kEverything;

}  // namespace

Student make_student(const Model& start, at::Device device,
                     const StudentParts& parts) {
  const at::NoGradGuard no_grad;
  Student out;
  out.model = to_compute(start, device, at::kFloat);
  each_tensor(out.model, start, parts,
              [&](at::Tensor& leaf, const at::Tensor&) {
                leaf = leaf.detach().clone();
                leaf.requires_grad_(true);
                (leaf.dim() >= 2 ? out.matrices : out.vectors).push_back(leaf);
              });
  return out;
}

Model finished(const Student& student, const Model& start) {
  const at::NoGradGuard no_grad;
  Model out = start;
  Model values = student.model;
  each_tensor(
      out, values, kEverything,
      [](at::Tensor& target, const at::Tensor& value) {
        target =
            value.detach().to(target.device(), target.scalar_type()).clone();
      });
  return out;
}

}  // namespace autoglm
