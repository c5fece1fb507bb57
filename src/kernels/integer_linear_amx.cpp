// AMX: a matrix unit for many rows. Compiled with -mavx512f -mavx512bw
// -mavx512vnni -mfma -mamx-tile -mamx-int8.
#include "kernels/integer_implementation.h"

#if defined(__AMX_INT8__) && defined(__AVX512VNNI__) && defined(__AVX512BW__)
#include "kernels/integer_avx512.h"
#include "kernels/integer_tiles.h"

namespace autoglm::kernels {
namespace {

// Assembler instead of intrinsics, which take the numbers of tiles as literals
// only.
struct AmxUnit {
  static void configure() {
    // The memory operand of LDTILECFG.
    struct alignas(64) {
      std::uint8_t palette, start_row, reserved[14];
      std::uint16_t row_bytes[16];
      std::uint8_t rows[16];
    } tiles = {};
    tiles.palette = 1;
    for (int t = 0; t < 8; ++t) {
      tiles.row_bytes[t] = kVectorBytes;
      tiles.rows[t] = kMatrixRows;
    }
    asm volatile("ldtilecfg %0" : : "m"(tiles));
  }
  static void release() { asm volatile("tilerelease"); }

  template <int T>
  static void zero() {
    asm volatile("tilezero %%tmm%c0" : : "i"(T));
  }
  template <int T>
  static void load(const void* p) {
    asm volatile("tileloadd (%0,%1,1), %%tmm%c2"
                 :
                 : "r"(p), "r"(std::int64_t{kVectorBytes}), "i"(T)
                 : "memory");
  }
  template <int T>
  static void store(void* p) {
    asm volatile("tilestored %%tmm%c2, (%0,%1,1)"
                 :
                 : "r"(p), "r"(std::int64_t{kVectorBytes}), "i"(T)
                 : "memory");
  }
  // TDPBSUD C, A, B in Intel's order of operands.
  template <int C, int A, int B>
  static void dot() {
    asm volatile("tdpbsud %%tmm%c2, %%tmm%c1, %%tmm%c0"
                 :
                 : "i"(C), "i"(A), "i"(B));
  }
};

}  // namespace

IntegerImplementation::Linear amx_linear_tiles() {
  return linear_tiles_any<Avx512Vnni, AmxUnit>;
}

}  // namespace autoglm::kernels

#else

namespace autoglm::kernels {
IntegerImplementation::Linear amx_linear_tiles() { return nullptr; }
}  // namespace autoglm::kernels

#endif
