#include "autoglm/kernels/integer_linear.h"

#include <algorithm>
#include <cstring>
#include <new>

#include "kernels/choice.h"
#include "kernels/cpu_features.h"
#include "kernels/integer_loops.h"

namespace autoglm::kernels {
namespace {

constexpr std::int64_t kPanelRows = 12;

// Plain loops: the reference that runs everywhere.
struct Scalar {
  struct Bytes {
    std::uint8_t at[64];
  };
  struct Ints {
    std::int32_t at[16];
  };
  struct Floats {
    float at[16];
  };
  static constexpr int kTiles = 1, kTokens = 1;

  static Bytes load(const std::uint8_t* p) { return copy<Bytes>(p); }
  static void store(std::uint8_t* p, const Bytes& v) {
    std::memcpy(p, v.at, 64);
  }
  static void prefetch(const std::uint8_t*) {}
  // Bits that cross from one byte of a 16-bit lane to the other are masked off
  // by all callers, so bytes may be moved one by one.
  static Bytes right_by(Bytes v, int s) {
    for (std::uint8_t& byte : v.at) byte = static_cast<std::uint8_t>(byte >> s);
    return v;
  }
  template <int S>
  static Bytes right(const Bytes& v) {
    return right_by(v, S);
  }
  template <int S>
  static Bytes left(Bytes v) {
    for (std::uint8_t& byte : v.at) byte = static_cast<std::uint8_t>(byte << S);
    return v;
  }
  static Bytes keep(Bytes v, int mask) {
    for (std::uint8_t& byte : v.at)
      byte = static_cast<std::uint8_t>(byte & mask);
    return v;
  }
  static Bytes merge(Bytes v, const Bytes& more, int mask) {
    for (int i = 0; i < 64; ++i)
      v.at[i] = static_cast<std::uint8_t>(v.at[i] | (more.at[i] & mask));
    return v;
  }

  static Ints broadcast(std::int32_t value) {
    Ints v;
    for (std::int32_t& lane : v.at) lane = value;
    return v;
  }
  static Ints load_ints(const std::int32_t* p) { return copy<Ints>(p); }
  static void store_ints(std::int32_t* p, const Ints& v) {
    std::memcpy(p, v.at, 64);
  }
  static Ints widen_zeros(const std::uint8_t* p) {
    Ints v;
    for (int r = 0; r < 16; ++r) v.at[r] = p[r];
    return v;
  }
  static Ints add(Ints a, const Ints& b) {
    for (int r = 0; r < 16; ++r) a.at[r] += b.at[r];
    return a;
  }
  static Ints times(Ints a, std::int32_t b) {
    for (std::int32_t& lane : a.at) lane *= b;
    return a;
  }
  template <bool>
  static Ints dot(Ints sum, const Bytes& codes, const std::int8_t* p) {
    for (int r = 0; r < 16; ++r)
      for (int i = 0; i < 4; ++i) sum.at[r] += codes.at[4 * r + i] * p[i];
    return sum;
  }

  static Floats load_floats(const float* p) { return copy<Floats>(p); }
  static void store_floats(float* p, const Floats& v) {
    std::memcpy(p, v.at, 64);
  }
  static Floats load_scales(const void* scales, ScaleType type,
                            std::int64_t index) {
    Floats v;
    for (int r = 0; r < 16; ++r) v.at[r] = scale_at(scales, type, index + r);
    return v;
  }
  static Floats to_floats(const Ints& a) {
    Floats v;
    for (int r = 0; r < 16; ++r) v.at[r] = static_cast<float>(a.at[r]);
    return v;
  }
  static Floats scale_add(const Floats& a, const Floats& scale, float factor,
                          Floats sum) {
    for (int r = 0; r < 16; ++r)
      sum.at[r] = __builtin_fmaf(a.at[r] * scale.at[r], factor, sum.at[r]);
    return sum;
  }

  static std::uint32_t largest(const float* p, std::int64_t n) {
    std::uint32_t most = 0;
    for (std::int64_t k = 0; k < n; ++k)
      most =
          std::max(most, __builtin_bit_cast(std::uint32_t, p[k]) & 0x7fffffffu);
    return most;
  }
  static std::int32_t round(const float* p, float step, std::int8_t* out) {
    // Adding this leaves no bits behind the point: rounds half to even.
    constexpr float kWhole = 12582912;  // 1.5 * 2^23
    std::int32_t sum = 0;
    for (int k = 0; k < 16; ++k) {
      const float v = std::max(std::min(p[k] / step, 127.0f), -127.0f);
      out[k] = static_cast<std::int8_t>((v + kWhole) - kWhole);
      sum += out[k];
    }
    return sum;
  }

 private:
  template <class T>
  static T copy(const void* p) {
    T v;
    std::memcpy(&v, p, sizeof v);
    return v;
  }
};

Choice<IntegerImplementation>& chosen() {
  static Choice<IntegerImplementation> value = {
      {avx512_integer_implementation(), has_avx512_vnni()},
      {avxvnni_integer_implementation(), has_avx_vnni()},
      {avx2_integer_implementation(), has_avx2()},
      {&scalar_integer_implementation(), true}};
  return value;
}

}  // namespace

const IntegerImplementation& scalar_integer_implementation() {
  static const IntegerImplementation value = {
      "scalar", integer_linear_any<Scalar>, round_row_any<Scalar>};
  return value;
}

IntegerRows::IntegerRows(std::int64_t rows, const Spans& spans)
    : rows_(rows), panel_rows_(1), spans_(spans) {
  // Panels of the same height, so that none is mostly padding.
  const std::int64_t panels =
      std::max<std::int64_t>(1, (rows + kPanelRows - 1) / kPanelRows);
  panel_rows_ = std::max<std::int64_t>(1, (rows + panels - 1) / panels);
  const auto padded = static_cast<std::size_t>(this->panels() * panel_rows_);
  const std::size_t bytes =
      padded * static_cast<std::size_t>(spans.quads()) * 4;
  const std::size_t steps = padded * static_cast<std::size_t>(spans.count());
  values_ = std::make_unique_for_overwrite<std::int8_t[]>(bytes);
  steps_ = std::make_unique_for_overwrite<float[]>(steps);
  minus_sums_ = std::make_unique_for_overwrite<std::int32_t[]>(steps);
  if (rows % panel_rows_ == 0) return;
  // Rows behind the last take part in the products of its panel.
  const auto tail = static_cast<std::size_t>(panel_rows_);
  const std::size_t tail_bytes =
      tail * static_cast<std::size_t>(spans.quads()) * 4;
  const std::size_t tail_steps = tail * static_cast<std::size_t>(spans.count());
  std::memset(values_.get() + bytes - tail_bytes, 0, tail_bytes);
  std::memset(steps_.get() + steps - tail_steps, 0, tail_steps * 4);
  std::memset(minus_sums_.get() + steps - tail_steps, 0, tail_steps * 4);
}

void IntegerRows::round(const float* x, std::int64_t begin, std::int64_t end) {
  round_rows(x, nullptr, begin, end);
}

void IntegerRows::round(const float* x, const float* steps, std::int64_t begin,
                        std::int64_t end) {
  round_rows(x, steps, begin, end);
}

void IntegerRows::round_rows(const float* x, const float* steps,
                             std::int64_t begin, std::int64_t end) {
  const IntegerImplementation& implementation = chosen().get();
  for (std::int64_t m = begin; m < end; ++m) {
    const std::int64_t panel = m / panel_rows_, inside = m % panel_rows_;
    RowTarget to;
    to.panel_rows = panel_rows_;
    to.stride = 4 * panel_rows_;
    to.values = values_.get() + panel * spans_.quads() * to.stride + 4 * inside;
    const std::int64_t first = panel * spans_.count() * panel_rows_ + inside;
    to.steps = steps_.get() + first;
    to.minus_sums = minus_sums_.get() + first;
    implementation.round_row(x + m * spans_.in, spans_.in, spans_.group_size,
                             steps != nullptr ? steps + m : nullptr, to);
  }
}

void integer_linear(const InterleavedMatrix& weight, const IntegerRows& x,
                    float* y, std::int64_t tile_begin, std::int64_t tile_end) {
  if (x.rows() == 0 || tile_begin == tile_end) return;
  const RowsView view = {x.values(),       x.steps(),      x.minus_sums(),
                         x.rows(),         x.panel_rows(), x.spans().quads(),
                         x.spans().count()};
  // Kept for the next product: 258 KB of each thread that computes.
  static thread_local std::shared_ptr<std::uint8_t> scratch;
  if (x.rows() > 4 && scratch == nullptr)
    scratch = streamed_memory(kScratch * sizeof(float));
  if (x.rows() > 4 && scratch == nullptr) throw std::bad_alloc();
  chosen()->linear(weight, view, y, tile_begin, tile_end,
                   static_cast<float*>(static_cast<void*>(scratch.get())));
}

const char* integer_linear_kernel() { return chosen()->name; }

bool force_integer_linear_kernel(const char* name) {
  return chosen().force(name);
}

}  // namespace autoglm::kernels
