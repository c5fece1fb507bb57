// The loops over rows, groups and chunks, written once over a small vector
// interface `Isa` and compiled per instruction set.
//
// 32 codes of b bits fill exactly b words, so every chunk of 32 elements starts
// at a word border and is decoded by the same shuffle. Isa provides:
//   F, kLanes, zero(), broadcast(f), load(p), fma(a, b, c), sum(v), store(p, v)
//   decode<Bits>(words, zero, out): 32 codes minus `zero` as floats
//
// Files that include this are compiled with flags of their instruction set, so
// nothing here may come from a header with inline functions that other files
// share: such a function could end up in the program in its AVX form.
#pragma once

#include "autoglm/kernels/packed_linear.h"
#include "kernels/scale_at.h"

namespace autoglm::kernels {

struct Implementation {
  const char* name;
  void (*linear)(const PackedMatrix&, const float*, std::int64_t, float*,
                 std::int64_t, std::int64_t);
  void (*unpack)(const PackedMatrix&, std::int64_t, std::int64_t, float*);
};

const Implementation& scalar_implementation();
/// Null pointer when not built for this processor family.
const Implementation* avx2_implementation();
const Implementation* avx512_implementation();

namespace {

inline float scale_of(const PackedMatrix& w, std::int64_t index) {
  return scale_at(w.scales, w.scale_type, index);
}

inline int zero_of(const PackedMatrix& w, std::int64_t index) {
  return w.zeros != nullptr ? w.zeros[index] : 1 << (w.bits - 1);
}

// One code; may cross into the next word.
template <int Bits>
inline int code_at(const std::uint32_t* row, std::int64_t k) {
  const std::int64_t bit = k * Bits;
  const std::int64_t word = bit >> 5;
  const int shift = static_cast<int>(bit & 31);
  std::uint32_t value = row[word] >> shift;
  if (shift + Bits > 32) value |= row[word + 1] << (32 - shift);
  return static_cast<int>(value & ((1u << Bits) - 1));
}

inline bool chunked_groups(const PackedMatrix& w) {
  return w.group_size % 32 == 0 || w.group_size >= w.in;
}

// M rows of x against one row of the weight, whole chunks per group.
template <class Isa, int Bits, int M>
inline void dot_chunked(const PackedMatrix& w, std::int64_t o, const float* x,
                        float* y) {
  using F = typename Isa::F;
  constexpr int kVectors = 32 / Isa::kLanes;
  const std::uint32_t* row = w.codes + o * w.words();
  const std::int64_t groups = w.groups();
  F total[M];
  float rest[M];
  for (int m = 0; m < M; ++m) {
    total[m] = Isa::zero();
    rest[m] = 0;
  }
  for (std::int64_t g = 0; g < groups; ++g) {
    const float scale = scale_of(w, o * groups + g);
    const int zero = zero_of(w, o * groups + g);
    std::int64_t k = g * w.group_size;
    const std::int64_t end = k + w.group_size < w.in ? k + w.group_size : w.in;
    F sum[M];
    for (int m = 0; m < M; ++m) sum[m] = Isa::zero();
    for (; k + 32 <= end; k += 32) {
      F value[kVectors];
      Isa::template decode<Bits>(row + (k >> 5) * Bits, zero, value);
      for (int m = 0; m < M; ++m)
        for (int v = 0; v < kVectors; ++v)
          sum[m] = Isa::fma(
              value[v], Isa::load(x + m * w.in + k + v * Isa::kLanes), sum[m]);
    }
    for (; k < end; ++k) {
      const float value =
          scale * static_cast<float>(code_at<Bits>(row, k) - zero);
      for (int m = 0; m < M; ++m) rest[m] += value * x[m * w.in + k];
    }
    for (int m = 0; m < M; ++m)
      total[m] = Isa::fma(Isa::broadcast(scale), sum[m], total[m]);
  }
  for (int m = 0; m < M; ++m) y[m * w.out + o] = Isa::sum(total[m]) + rest[m];
}

// Groups that end inside a chunk: every element looks up its own scale.
template <int Bits, int M>
inline void dot_any(const PackedMatrix& w, std::int64_t o, const float* x,
                    float* y) {
  const std::uint32_t* row = w.codes + o * w.words();
  const std::int64_t groups = w.groups();
  float total[M] = {};
  for (std::int64_t g = 0; g < groups; ++g) {
    const float scale = scale_of(w, o * groups + g);
    const int zero = zero_of(w, o * groups + g);
    const std::int64_t begin = g * w.group_size;
    const std::int64_t end =
        begin + w.group_size < w.in ? begin + w.group_size : w.in;
    for (std::int64_t k = begin; k < end; ++k) {
      const float value =
          scale * static_cast<float>(code_at<Bits>(row, k) - zero);
      for (int m = 0; m < M; ++m) total[m] += value * x[m * w.in + k];
    }
  }
  for (int m = 0; m < M; ++m) y[m * w.out + o] = total[m];
}

template <class Isa, int Bits, int M>
inline void dot(const PackedMatrix& w, std::int64_t o, const float* x,
                float* y) {
  if (chunked_groups(w))
    dot_chunked<Isa, Bits, M>(w, o, x, y);
  else
    dot_any<Bits, M>(w, o, x, y);
}

template <class Isa, int Bits>
void linear_rows(const PackedMatrix& w, const float* x, std::int64_t rows,
                 float* y, std::int64_t row_begin, std::int64_t row_end) {
  for (std::int64_t o = row_begin; o < row_end; ++o) {
    std::int64_t m = 0;
    for (; m + 4 <= rows; m += 4)
      dot<Isa, Bits, 4>(w, o, x + m * w.in, y + m * w.out);
    for (; m < rows; ++m) dot<Isa, Bits, 1>(w, o, x + m * w.in, y + m * w.out);
  }
}

template <class Isa, int Bits>
void unpack_row_range(const PackedMatrix& w, std::int64_t row_begin,
                      std::int64_t row_end, float* out) {
  using F = typename Isa::F;
  constexpr int kVectors = 32 / Isa::kLanes;
  const std::int64_t groups = w.groups();
  const bool chunked = chunked_groups(w);
  for (std::int64_t o = row_begin; o < row_end; ++o, out += w.in) {
    const std::uint32_t* row = w.codes + o * w.words();
    for (std::int64_t g = 0; g < groups; ++g) {
      const float scale = scale_of(w, o * groups + g);
      const int zero = zero_of(w, o * groups + g);
      std::int64_t k = g * w.group_size;
      const std::int64_t end =
          k + w.group_size < w.in ? k + w.group_size : w.in;
      for (; chunked && k + 32 <= end; k += 32) {
        F value[kVectors];
        Isa::template decode<Bits>(row + (k >> 5) * Bits, zero, value);
        for (int v = 0; v < kVectors; ++v)
          Isa::store(out + k + v * Isa::kLanes,
                     Isa::fma(value[v], Isa::broadcast(scale), Isa::zero()));
      }
      for (; k < end; ++k)
        out[k] = scale * static_cast<float>(code_at<Bits>(row, k) - zero);
    }
  }
}

template <class Isa>
void linear_any(const PackedMatrix& w, const float* x, std::int64_t rows,
                float* y, std::int64_t begin, std::int64_t end) {
  switch (w.bits) {
    case 2:
      return linear_rows<Isa, 2>(w, x, rows, y, begin, end);
    case 3:
      return linear_rows<Isa, 3>(w, x, rows, y, begin, end);
    case 4:
      return linear_rows<Isa, 4>(w, x, rows, y, begin, end);
    case 5:
      return linear_rows<Isa, 5>(w, x, rows, y, begin, end);
    case 6:
      return linear_rows<Isa, 6>(w, x, rows, y, begin, end);
    case 7:
      return linear_rows<Isa, 7>(w, x, rows, y, begin, end);
    default:
      return linear_rows<Isa, 8>(w, x, rows, y, begin, end);
  }
}

template <class Isa>
void unpack_any(const PackedMatrix& w, std::int64_t begin, std::int64_t end,
                float* out) {
  switch (w.bits) {
    case 2:
      return unpack_row_range<Isa, 2>(w, begin, end, out);
    case 3:
      return unpack_row_range<Isa, 3>(w, begin, end, out);
    case 4:
      return unpack_row_range<Isa, 4>(w, begin, end, out);
    case 5:
      return unpack_row_range<Isa, 5>(w, begin, end, out);
    case 6:
      return unpack_row_range<Isa, 6>(w, begin, end, out);
    case 7:
      return unpack_row_range<Isa, 7>(w, begin, end, out);
    default:
      return unpack_row_range<Isa, 8>(w, begin, end, out);
  }
}

}  // namespace
}  // namespace autoglm::kernels
