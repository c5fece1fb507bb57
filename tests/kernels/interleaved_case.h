// A random weight in the interleaved layout.
#pragma once

#include <cstring>
#include <vector>

#include "autoglm/kernels/integer_linear.h"
#include "tests/kernels/emulated_unit.h"
#include "tests/kernels/packed_case.h"

namespace autoglm::test {

/// The tensors of an InterleavedMatrix; each ends with its last element.
struct Interleaved {
  explicit Interleaved(const kernels::PackedMatrix& from) {
    const std::int64_t tiles = (from.out + 15) / 16;
    const std::int64_t cells = tiles * from.groups() * 16;
    const bool single = from.scale_type == kernels::ScaleType::kFloat32;
    codes.resize(static_cast<std::size_t>(
        tiles * kernels::tile_bytes(from.in, from.group_size, from.bits)));
    scales.resize(static_cast<std::size_t>(cells * (single ? 4 : 2)));
    if (from.zeros != nullptr) zeros.resize(static_cast<std::size_t>(cells));
    kernels::interleave(from, codes.data(), scales.data(), zeros.data(), 0,
                        tiles);
    matrix = {codes.data(),    scales.data(),
              from.scale_type, from.zeros != nullptr ? zeros.data() : nullptr,
              from.out,        from.in,
              from.group_size, from.bits};
  }
  Interleaved(const Interleaved&) = delete;
  Interleaved& operator=(const Interleaved&) = delete;

  std::vector<std::uint8_t> codes, scales, zeros;
  kernels::InterleavedMatrix matrix;
};

/// The product with x [rows, in] rounded to whole numbers: [rows, out].
inline std::vector<float> integer_product(const kernels::InterleavedMatrix& w,
                                          const std::vector<float>& x,
                                          std::int64_t rows) {
  kernels::IntegerRows rounded(rows, {w.in, w.group_size});
  rounded.round(x.data(), 0, rows);
  std::vector<float> y(static_cast<std::size_t>(rows * w.out), -7.0f);
  kernels::integer_linear(w, rounded, y.data(), 0, w.tiles());
  return y;
}

/// Runs `body` once per implementation that this machine has, and with an
/// emulated matrix unit.
template <class Body>
void for_each_integer_kernel(Body&& body) {
  struct Restore {
    ~Restore() { kernels::force_integer_linear_kernel("auto"); }
  } restore;
  for (const char* name : {"scalar", "avx2", "avxvnni", "avx512vnni", "amx"}) {
    if (!kernels::force_integer_linear_kernel(name)) continue;
    INFO("kernel " << name);
    body();
  }
  kernels::force_integer_implementation(emulated_unit());
  INFO("kernel with an emulated matrix unit");
  body();
}

inline bool same_bits(const std::vector<float>& a,
                      const std::vector<float>& b) {
  return a.size() == b.size() &&
         (a.empty() ||
          std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
}

}  // namespace autoglm::test
