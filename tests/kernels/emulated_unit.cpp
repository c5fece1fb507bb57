#include "tests/kernels/emulated_unit.h"

#include <cstring>

#include "kernels/integer_scalar.h"
#include "kernels/integer_tiles.h"
#include "tests/support/catch.h"

namespace autoglm::test {
namespace {

struct Registers {
  bool configured = false;
  std::uint8_t tiles[8][16][64];
};
thread_local Registers registers;

// TDPBSUD of Intel's Software Developer's Manual, volume 2, as the loops there
// say it; or TDPBUUD.
template <bool Signed>
struct EmulatedUnit {
  static void configure() { registers.configured = true; }
  static void release() { registers = {}; }
  template <int T>
  static void zero() {
    std::memset(registers.tiles[T], 0, 1024);
  }
  template <int T>
  static void load(const void* p) {
    REQUIRE(registers.configured);
    std::memcpy(registers.tiles[T], p, 1024);
  }
  template <int T>
  static void store(void* p) {
    std::memcpy(p, registers.tiles[T], 1024);
  }
  template <int C, int A, int B>
  static void dot() {
    const auto& a = registers.tiles[A];
    const auto& b = registers.tiles[B];
    for (int m = 0; m < 16; ++m)
      for (int n = 0; n < 16; ++n) {
        std::uint8_t* to = registers.tiles[C][m] + 4 * n;
        std::int32_t sum = 0;
        std::memcpy(&sum, to, 4);
        for (int k = 0; k < 16; ++k)
          for (int i = 0; i < 4; ++i) {
            const std::uint8_t bits = a[m][4 * k + i];
            const int value = Signed ? static_cast<std::int8_t>(bits) : bits;
            sum += value * b[k][4 * n + i];
          }
        std::memcpy(to, &sum, 4);
      }
  }
};

template <bool Signed>
kernels::IntegerImplementation with_unit(const char* name) {
  kernels::IntegerImplementation out = kernels::scalar_integer_implementation();
  out.name = name;
  out.linear_tiles =
      kernels::linear_tiles_any<kernels::ScalarInteger, EmulatedUnit<Signed>>;
  return out;
}

}  // namespace

const kernels::IntegerImplementation& emulated_unit() {
  static const auto value = with_unit<true>("emulated unit");
  return value;
}

const kernels::IntegerImplementation& wrong_unit() {
  static const auto value = with_unit<false>("wrong unit");
  return value;
}

}  // namespace autoglm::test
