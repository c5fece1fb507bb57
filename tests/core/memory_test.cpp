#include "autoglm/core/memory.h"

#include <vector>

#include "tests/support/catch.h"

using namespace autoglm;

TEST_CASE("memory: the peak sees what was allocated and written") {
  constexpr std::size_t kBytes = std::size_t{256} << 20;
  reset_peak_memory();
  const std::uint64_t before = peak_memory();
  REQUIRE(before > 0);
  {
    std::vector<char> block(kBytes, 1);
    CHECK(block[kBytes / 2] == 1);
  }
  CHECK(peak_memory() >= before + kBytes * 9 / 10);
}
