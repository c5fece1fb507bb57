#include "autoglm/kernels/interleaved.h"

#include <algorithm>

#include "tests/kernels/interleaved_case.h"
#include "tests/support/catch.h"

namespace autoglm::kernels {
namespace {

using test::Case;
using test::Interleaved;
using test::make_case;

// The vectors of one row of 8 codes: its bytes 0..3 in each.
std::vector<std::vector<int>> vectors_of(const std::vector<std::uint8_t>& codes,
                                         int bits) {
  std::vector<std::uint32_t> words(codes.size());
  pack_rows(codes.data(), 1, static_cast<std::int64_t>(codes.size()), bits,
            words.data());
  const float scale = 1;
  const auto in = static_cast<std::int64_t>(codes.size());
  const Interleaved laid(
      {words.data(), &scale, ScaleType::kFloat32, nullptr, 1, in, in, bits});
  std::vector<std::vector<int>> out;
  for (std::size_t v = 0; v + 64 <= laid.codes.size(); v += 64) {
    out.emplace_back(laid.codes.begin() + v, laid.codes.begin() + v + 4);
    // The 15 rows that fill the tile are zero.
    CHECK(std::count(laid.codes.begin() + v + 4, laid.codes.begin() + v + 64,
                     0) == 60);
  }
  return out;
}

TEST_CASE("interleave: vectors written down by hand") {
  const std::vector<std::uint8_t> counting = {1, 2, 3, 4, 5, 6, 7, 0};
  using Vectors = std::vector<std::vector<int>>;
  CHECK(vectors_of(counting, 8) == Vectors{{1, 2, 3, 4}, {5, 6, 7, 0}});
  // The second quad in the high half bytes.
  CHECK(vectors_of(counting, 4) == Vectors{{0x51, 0x62, 0x73, 0x04}});
  // The low two bits, then the high one: 1 2 3 0 | 1 2 3 0 and 0 0 0 1 | 1 1 1
  // 0.
  CHECK(vectors_of(counting, 3) ==
        Vectors{{1 | 1 << 2, 2 | 2 << 2, 3 | 3 << 2, 0}, {2, 2, 2, 1}});
  // 64 + 16 + 3 and zeros: planes of 4, 2 and 1 bits.
  CHECK(vectors_of({83, 0, 0, 0, 0, 0, 0, 83}, 7) ==
        Vectors{{3, 0, 0, 0x30}, {1, 0, 0, 4}, {1, 0, 0, 2}});
}

TEST_CASE("interleave: every code comes back") {
  for (int bits = 2; bits <= 8; ++bits)
    for (const std::int64_t group : {4, 12, 32, 64, 96, 132, 200, 1000})
      for (const std::int64_t in : {1, 3, 8, 33, 100, 130, 416}) {
        if (!can_interleave(in, group)) continue;
        const Case c = make_case(
            {19, in, group, 1, bits, bits % 2 == 0, ScaleType::kFloat16}, 3);
        const Interleaved laid(c.matrix());
        std::vector<std::uint8_t> codes(c.codes.size());
        std::vector<float> plain(c.codes.size()), laid_out(c.codes.size());
        unpack_rows(c.matrix(), 0, 19, plain.data());
        for (std::int64_t o = 0; o < 19; ++o) {
          interleaved_codes(laid.matrix, o, codes.data() + o * in);
          interleaved_row(laid.matrix, o, laid_out.data() + o * in);
        }
        INFO(c.shape.text());
        CHECK(codes == c.codes);
        CHECK(test::same_bits(laid_out, plain));
      }
}

TEST_CASE("interleave: takes no more memory than the packed codes") {
  for (int bits = 2; bits <= 8; ++bits)
    for (const std::int64_t group : {32, 64, 128, 4096})
      CHECK(tile_bytes(4096, group, bits) == 4096 * 16 * bits / 8);
  CHECK(tile_bytes(13696, 13696, 4) == 13696 * 8);
  // A plane of 2 bits: 250 quads are 62 vectors and half of one.
  CHECK(tile_bytes(1000, 1000, 2) == 63 * 64);
}

TEST_CASE("interleave: only groups of whole quads, or one of all") {
  CHECK(can_interleave(64, 4));
  CHECK(can_interleave(6, 4));
  CHECK(can_interleave(7, 7));
  CHECK(can_interleave(7, 100));
  CHECK_FALSE(can_interleave(64, 2));
  CHECK_FALSE(can_interleave(60, 30));
  CHECK_FALSE(can_interleave(0, 4));
}

TEST_CASE("interleave: a range of tiles writes those alone") {
  const Case c = make_case({40, 96, 32, 1, 4, false, ScaleType::kBFloat16}, 2);
  const Interleaved whole(c.matrix());
  std::vector<std::uint8_t> codes(whole.codes.size(), 0xee),
      scales(whole.scales.size(), 0xee), zeros(whole.zeros.size(), 0xee);
  interleave(c.matrix(), codes.data(), scales.data(), zeros.data(), 1, 2);
  const auto same_part = [](const std::vector<std::uint8_t>& a,
                            const std::vector<std::uint8_t>& b) {
    const std::size_t third = a.size() / 3;
    for (std::size_t i = 0; i < a.size(); ++i)
      if (a[i] != (i / third == 1 ? b[i] : 0xee)) return false;
    return true;
  };
  CHECK(same_part(codes, whole.codes));
  CHECK(same_part(scales, whole.scales));
  CHECK(same_part(zeros, whole.zeros));
}

TEST_CASE("interleave: rows that fill the last tile have the scale zero") {
  const Case c = make_case({17, 8, 8, 1, 4, false, ScaleType::kFloat32}, 2);
  const Interleaved laid(c.matrix());
  const auto* scales = reinterpret_cast<const float*>(laid.scales.data());
  CHECK(scales[16] == c.scale_floats[16]);
  CHECK(std::count(scales + 17, scales + 32, 0.0f) == 15);
}

TEST_CASE("streamed_memory: is aligned and can be written") {
  for (const std::size_t bytes :
       {std::size_t{0}, std::size_t{1}, std::size_t{5} << 20}) {
    const auto memory = streamed_memory(bytes);
    REQUIRE(memory != nullptr);
    CHECK(reinterpret_cast<std::uintptr_t>(memory.get()) % 64 == 0);
    std::fill_n(memory.get(), bytes, std::uint8_t{1});
  }
}

}  // namespace
}  // namespace autoglm::kernels
