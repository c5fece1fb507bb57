#include "passes/distillation/student.h"

#include <ATen/core/grad_mode.h>

#include "autoglm/model/block_parts.h"

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
  if (parts.embedding) {
    weight(target.embedding, reference.embedding);
    tensor(target.positions, reference.positions);
    tensor(target.block_positions, reference.block_positions);
  }
  for (std::size_t i = 0; i < target.blocks.size(); ++i) {
    Block other = reference.blocks[i];
    visit_block(
        target.blocks[i],
        [&](const std::string& name, Linear& part) {
          linear(part, *find_linear(other, name));
        },
        [&](const std::string& name, at::Tensor& part) {
          // The bias that moves the choice of experts has no gradient.
          if (!name.ends_with("correction_bias"))
            tensor(part, *find_tensor(other, name));
        });
  }
  tensor(target.final_norm.gain, reference.final_norm.gain);
  tensor(target.final_norm.bias, reference.final_norm.bias);
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
