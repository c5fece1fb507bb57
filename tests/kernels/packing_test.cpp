// The bit stream itself, against words written down by hand from the
// compressed-tensors `pack-quantized` layout.
#include <cstdint>
#include <random>
#include <vector>

#include "autoglm/kernels/packed_linear.h"
#include "tests/support/catch.h"

namespace autoglm::kernels {
namespace {

std::vector<std::uint32_t> pack(const std::vector<std::uint8_t>& codes,
                                std::int64_t out, int bits) {
  const auto in = static_cast<std::int64_t>(codes.size()) / out;
  // Stale contents must not shine through the padding.
  std::vector<std::uint32_t> words(
      static_cast<std::size_t>(out * ((in * bits + 31) / 32)), 0xffffffffu);
  pack_rows(codes.data(), out, in, bits, words.data());
  return words;
}

std::vector<std::uint8_t> counting(int count, int modulus) {
  std::vector<std::uint8_t> codes;
  for (int i = 0; i < count; ++i)
    codes.push_back(static_cast<std::uint8_t>(i % modulus));
  return codes;
}

TEST_CASE("pack_rows: 4 bits, q from -8 to 7") {
  CHECK(pack(counting(16, 16), 1, 4) ==
        std::vector<std::uint32_t>{0x76543210, 0xfedcba98});
}

TEST_CASE("pack_rows: 8 bits, q of -128, -1, 0 and 127") {
  CHECK(pack({0, 127, 128, 255}, 1, 8) ==
        std::vector<std::uint32_t>{0xff807f00});
}

TEST_CASE("pack_rows: 3 bits are dense and cross word borders") {
  CHECK(pack(counting(32, 8), 1, 3) ==
        std::vector<std::uint32_t>{0x88fac688, 0xc688fac6, 0xfac688fa});
}

TEST_CASE("pack_rows: every row starts a new word and ends in zero bits") {
  CHECK(pack({1, 2, 3, 7, 7, 7}, 2, 3) ==
        std::vector<std::uint32_t>{1 | 2 << 3 | 3 << 6, 0x1ff});
  // 5 codes of 7 bits: 35 bits, two words a row.
  CHECK(pack({127, 127, 127, 127, 127}, 1, 7) ==
        std::vector<std::uint32_t>{0xffffffff, 0x7});
}

TEST_CASE("unpack_codes: undoes pack_rows for every width and length") {
  std::mt19937 random(1);
  for (int bits = 2; bits <= 8; ++bits)
    for (std::int64_t in = 1; in <= 100; ++in) {
      std::vector<std::uint8_t> codes(static_cast<std::size_t>(3 * in));
      for (std::uint8_t& code : codes)
        code = static_cast<std::uint8_t>(random() & ((1u << bits) - 1));
      const std::vector<std::uint32_t> words = pack(codes, 3, bits);
      std::vector<std::uint8_t> back(codes.size(), 0xee);
      unpack_codes(words.data(), 3, in, bits, back.data());
      INFO("bits " << bits << ", in " << in);
      CHECK(back == codes);
    }
}

TEST_CASE("unpack_codes: bits in the padding of a row are ignored") {
  const std::vector<std::uint32_t> words = {0xffffff21};
  std::vector<std::uint8_t> codes(2);
  unpack_codes(words.data(), 1, 2, 4, codes.data());
  CHECK(codes == std::vector<std::uint8_t>{1, 2});
}

}  // namespace
}  // namespace autoglm::kernels
