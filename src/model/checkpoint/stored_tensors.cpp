#include "model/checkpoint/stored_tensors.h"

#include "autoglm/core/error.h"
#include "autoglm/core/text.h"
#include "autoglm/kernels/packed_linear.h"

namespace autoglm {

void wrong_tensor(const TensorFolder& folder, const std::string& name,
                  const std::string& expected) {
  const TensorEntry& entry = folder.entry(name);
  fail(ErrorKind::kInput, fmt::format("{}: tensor '{}' is {} [{}], expected {}",
                                      folder.file_of(name).string(), name,
                                      safetensors_dtype(entry.dtype),
                                      fmt::join(entry.shape, ", "), expected));
}

at::Tensor read_checked(const TensorFolder& folder, const std::string& name,
                        at::ScalarType dtype,
                        const std::vector<std::int64_t>& shape) {
  if (!folder.contains(name))
    fail(ErrorKind::kInput, fmt::format("tensor '{}' is missing", name));
  const TensorEntry& entry = folder.entry(name);
  if (entry.dtype != dtype || entry.shape != shape)
    wrong_tensor(folder, name,
                 fmt::format("{} [{}]", safetensors_dtype(dtype),
                             fmt::join(shape, ", ")));
  return folder.tensor(name);
}

at::Tensor read_scales(const TensorFolder& folder, const std::string& name,
                       const std::vector<std::int64_t>& shape) {
  if (!folder.contains(name))
    fail(ErrorKind::kInput, fmt::format("tensor '{}' is missing", name));
  const at::ScalarType dtype = folder.entry(name).dtype;
  if (dtype != at::kFloat && dtype != at::kHalf && dtype != at::kBFloat16)
    wrong_tensor(folder, name, "a floating point dtype");
  return read_checked(folder, name, dtype, shape);
}

// That is the packing of a weight's rows over the transposed matrix.
at::Tensor pack_columns(const at::Tensor& values, int bits) {
  const at::Tensor rows = values.to(at::kCPU).t().contiguous();
  const std::int64_t count = rows.size(0), n = rows.size(1);
  at::Tensor words = at::empty({count, (n * bits + 31) / 32}, at::kInt);
  kernels::pack_rows(
      rows.const_data_ptr<std::uint8_t>(), count, n, bits,
      reinterpret_cast<std::uint32_t*>(words.data_ptr<std::int32_t>()));
  return words.t().contiguous();
}

at::Tensor unpack_columns(const at::Tensor& packed, std::int64_t n, int bits) {
  const at::Tensor words = packed.t().contiguous();
  at::Tensor rows = at::empty({words.size(0), n}, at::kByte);
  kernels::unpack_codes(reinterpret_cast<const std::uint32_t*>(
                            words.const_data_ptr<std::int32_t>()),
                        words.size(0), n, bits, rows.data_ptr<std::uint8_t>());
  return rows.t().contiguous();
}

}  // namespace autoglm
