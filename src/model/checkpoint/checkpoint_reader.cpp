#include "model/checkpoint/checkpoint_reader.h"

#include <algorithm>

#include "autoglm/core/error.h"
#include "autoglm/core/log.h"
#include "autoglm/core/text.h"
#include "model/finite.h"

namespace autoglm {
namespace {

constexpr std::int64_t kMegabyte = 1'000'000;

std::int64_t megabytes(std::uint64_t bytes) {
  return static_cast<std::int64_t>(bytes) / kMegabyte;
}

std::int64_t all_megabytes(const TensorFolder& folder) {
  std::int64_t out = 0;
  for (const std::string& name : folder.names()) {
    std::int64_t count = 1;
    for (const std::int64_t size : folder.entry(name).shape) count *= size;
    out += count *
           static_cast<std::int64_t>(at::elementSize(folder.entry(name).dtype));
  }
  return out / kMegabyte;
}

}  // namespace

CheckpointReader::CheckpointReader(const TensorFolder& folder,
                                   const StoredQuantization* quantization,
                                   ReadDepth depth)
    : folder_(folder), quantization_(quantization) {
  if (depth == ReadDepth::kValues)
    progress_ = std::make_unique<Progress>("reading weights",
                                           all_megabytes(folder), "MB");
}

bool CheckpointReader::has_weight(const std::string& module) const {
  if (folder_.contains(module + ".weight")) return true;
  if (quantization_ == nullptr) return false;
  const auto parts = quantization_->parts();
  return folder_.contains(module + parts.front());
}

at::Tensor CheckpointReader::tensor(const std::string& name,
                                    const std::vector<std::int64_t>& shape) {
  used_.insert(name);
  if (!folder_.contains(name))
    fail(ErrorKind::kInput, fmt::format("tensor '{}' is missing", name));
  const TensorEntry& entry = folder_.entry(name);
  if (entry.shape != shape)
    fail(ErrorKind::kInput,
         fmt::format("{}: tensor '{}' is [{}], but config.json asks for [{}]",
                     folder_.file_of(name).string(), name,
                     fmt::join(entry.shape, ", "), fmt::join(shape, ", ")));
  if (entry.dtype != at::kFloat && entry.dtype != at::kHalf &&
      entry.dtype != at::kBFloat16)
    fail(ErrorKind::kInput,
         fmt::format("{}: tensor '{}' is {}; F32, F16 and BF16 weights are "
                     "supported",
                     folder_.file_of(name).string(), name,
                     safetensors_dtype(entry.dtype)));
  const at::Tensor out = folder_.tensor(name);
  warn_not_finite(out, name);
  return out;
}

Weight CheckpointReader::weight(const std::string& module, std::int64_t out,
                                std::int64_t in, bool embedding) {
  if (quantization_ != nullptr) {
    if (auto stored =
            quantization_->weight(folder_, module, out, in, embedding)) {
      for (const std::string& part : quantization_->parts())
        used_.insert(module + part);
      if (const auto* float8 = std::get_if<Float8Weight>(&*stored))
        warn_not_finite(float8->values, module + ".weight");
      else if (progress_)
        progress_->step(megabytes(bytes(*stored)));
      return std::move(*stored);
    }
  }
  return DenseWeight{tensor(module + ".weight", {out, in})};
}

Linear CheckpointReader::linear(const std::string& module, std::int64_t out,
                                std::int64_t in, bool bias) {
  Linear linear{weight(module, out, in), {}};
  const std::string name = module + ".bias";
  if (bias || folder_.contains(name)) linear.bias = tensor(name, {out});
  return linear;
}

bool CheckpointReader::stacked_expert(const std::string& prefix,
                                      std::int64_t experts,
                                      const BlockShapes::Matrix& matrix,
                                      Linear& linear) {
  constexpr std::string_view kExperts = "mlp.experts.";
  const std::string& name = matrix.name;
  if (!name.starts_with(kExperts)) return false;
  const std::string part = name.substr(name.rfind('.') + 1);
  const bool down = part == "down";
  const std::string stored =
      prefix + "mlp.experts." + (down ? "down_proj" : "gate_up_proj");
  if (!folder_.contains(stored)) return false;
  const std::int64_t expert = std::stoll(name.substr(kExperts.size()));
  const std::int64_t out = matrix.out;
  // Checked and looked through for the first expert alone.
  const at::Tensor all =
      used_.contains(stored)
          ? folder_.tensor(stored)
          : tensor(stored, {experts, down ? out : 2 * out, matrix.in});
  const at::Tensor own = all.select(0, expert);
  linear.weight =
      DenseWeight{down ? own : own.narrow(0, part == "up" ? out : 0, out)};
  return true;
}

Block CheckpointReader::block(const Architecture& a, std::size_t layer) {
  const std::string prefix = block_prefix(a, layer);
  const BlockShapes shapes = block_shapes(a, layer);
  Block block;
  for (const auto& matrix : shapes.matrices) {
    Linear* linear = find_linear(block, matrix.name);
    AUTOGLM_ENSURE(linear != nullptr);
    if (!stacked_expert(prefix, a.blocks[layer].experts, matrix, *linear))
      *linear =
          this->linear(prefix + checkpoint_linear_name(*a.family, matrix.name),
                       matrix.out, matrix.in, matrix.bias);
  }
  for (const auto& other : shapes.others) {
    at::Tensor* tensor = find_tensor(block, other.name);
    AUTOGLM_ENSURE(tensor != nullptr);
    *tensor = this->tensor(
        prefix + checkpoint_tensor_name(*a.family, other.name), other.shape);
  }
  return block;
}

std::map<std::string, at::Tensor> CheckpointReader::rest() const {
  std::map<std::string, at::Tensor> out;
  for (const std::string& name : folder_.names())
    if (!used_.contains(name)) out[name] = folder_.tensor(name);
  return out;
}

// A NaN found here names its tensor, a NaN found later is only a NaN. The
// pages are wanted anyway.
void CheckpointReader::warn_not_finite(const at::Tensor& tensor,
                                       const std::string& name) {
  if (!progress_) return;
  if (!all_finite(tensor))
    log_warning("{}: tensor '{}' contains NaN or infinity",
                folder_.file_of(name).string(), name);
  progress_->step(megabytes(tensor.nbytes()));
}

}  // namespace autoglm
