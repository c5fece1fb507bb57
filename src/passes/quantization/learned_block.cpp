#include "passes/quantization/learned_block.h"

#include <ATen/core/grad_mode.h>

#include "autoglm/model/block_parts.h"

namespace autoglm {

LearnedBlock::LearnedBlock(const Block& block,
                           const std::map<std::string, LearningStart>& starts,
                           bool vectors)
    : block_(block) {
  for (const auto& [name, start] : starts)
    matrices_.push_back({name, LearnedMatrix(start.rounded, start.grid)});
  if (vectors) add_vectors();
}

LearnedBlock LearnedBlock::scales_of(const Block& block) {
  LearnedBlock out(block);
  visit_block(
      block,
      [&](const std::string& name, const Linear& linear) {
        if (const auto* packed = std::get_if<QuantizedWeight>(&linear.weight))
          out.matrices_.push_back({name, LearnedScales(*packed)});
      },
      [](const std::string&, const at::Tensor&) {});
  out.add_vectors();
  return out;
}

void LearnedBlock::add_vectors() {
  visit_block(
      block_,
      [&](const std::string& name, const Linear& linear) {
        if (linear.bias.defined())
          vectors_.push_back(
              {name, true,
               LearnedVector(linear.bias, LearnedVector::Unit::kMean)});
      },
      [&](const std::string& name, const at::Tensor& tensor) {
        // The choice of tokens hangs on an indexer's norm: it stays.
        if (name.ends_with("norm.weight") &&
            name.find("indexer") == std::string::npos)
          vectors_.push_back(
              {name, false,
               LearnedVector(tensor, LearnedVector::Unit::kEntry)});
      });
}

at::Tensor& LearnedBlock::place(Block& block, const Vector& vector) {
  return vector.bias ? find_linear(block, vector.name)->bias
                     : *find_tensor(block, vector.name);
}

Block LearnedBlock::stored_values() const {
  Block out = block_;
  for (const Matrix& matrix : matrices_)
    find_linear(out, matrix.name)->weight = DenseWeight{std::visit(
        [](const auto& learned) { return learned.value(); }, matrix.learned)};
  for (const Vector& vector : vectors_)
    place(out, vector) = vector.learned.stored();
  return out;
}

Block LearnedBlock::packed() const {
  Block out = block_;
  for (const Matrix& matrix : matrices_)
    find_linear(out, matrix.name)->weight = std::visit(
        [](const auto& learned) { return learned.packed(); }, matrix.learned);
  for (const Vector& vector : vectors_)
    place(out, vector) = vector.learned.stored();
  return out;
}

std::vector<at::Tensor> LearnedBlock::moves() const {
  std::vector<at::Tensor> out;
  for (const Matrix& matrix : matrices_)
    if (const auto* learned = std::get_if<LearnedMatrix>(&matrix.learned))
      out.push_back(learned->moves());
  return out;
}

std::vector<at::Tensor> LearnedBlock::scales() const {
  std::vector<at::Tensor> out;
  for (const Matrix& matrix : matrices_)
    out.push_back(
        std::visit([](const auto& learned) { return learned.log_scales(); },
                   matrix.learned));
  return out;
}

std::vector<at::Tensor> LearnedBlock::zeros() const {
  std::vector<at::Tensor> out;
  for (const Matrix& matrix : matrices_)
    if (const auto* learned = std::get_if<LearnedMatrix>(&matrix.learned))
      if (learned->zeros().defined()) out.push_back(learned->zeros());
  return out;
}

std::vector<at::Tensor> LearnedBlock::vectors() const {
  std::vector<at::Tensor> out;
  for (const Vector& vector : vectors_) out.push_back(vector.learned.moves());
  return out;
}

void LearnedBlock::backward(
    const std::function<at::Tensor(const Block&)>& forward,
    const at::Tensor& gradient) {
  Block leaves = stored_values();
  std::vector<at::Tensor> values, entries;
  for (const Matrix& matrix : matrices_)
    values.push_back(
        std::get<DenseWeight>(find_linear(leaves, matrix.name)->weight)
            .value.requires_grad_(true));
  for (const Vector& vector : vectors_) {
    at::Tensor& tensor = place(leaves, vector);
    tensor = tensor.to(at::kFloat).clone().requires_grad_(true);
    entries.push_back(tensor);
  }
  {
    const at::AutoGradMode with_gradients(true);
    forward(leaves).backward(gradient);
  }
  for (std::size_t i = 0; i < values.size(); ++i)
    if (values[i].grad().defined())
      std::visit(
          [&](auto& learned) {
            learned.set_gradients(values[i].grad(), values[i].detach());
          },
          matrices_[i].learned);
  for (std::size_t i = 0; i < entries.size(); ++i)
    if (entries[i].grad().defined())
      vectors_[i].learned.set_gradients(entries[i].grad());
}

void LearnedBlock::settle() {
  for (Matrix& matrix : matrices_)
    if (auto* learned = std::get_if<LearnedMatrix>(&matrix.learned))
      learned->settle();
}

}  // namespace autoglm
