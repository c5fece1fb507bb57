#include "kernels/cuda/linear_plan.h"

#include "tests/support/catch.h"

namespace autoglm::kernels::cuda {
namespace {

// 4 bits, groups of 128 with bf16 scales, symmetric.
LinearShape int4(std::int64_t out, std::int64_t in, std::int64_t rows) {
  return {out, in, rows, in / 8, 4, 32, in / 128 * 2, 1, 1};
}

TEST_CASE("plan_linear: one row by the matrices of GLM-4-9B takes one kernel") {
  for (const auto& [out, in] : {std::pair<int, int>{4608, 4096},
                                {4096, 4096},
                                {27392, 4096},
                                {4096, 13696},
                                {151552, 4096}}) {
    const LinearPlan plan = plan_linear(int4(out, in, 1));
    INFO(out << " x " << in);
    CHECK(plan.fits);
    CHECK(plan.splits == 1);
    CHECK(plan.workspace(1, out) == 0);
    CHECK(plan.column_pairs == 1);
    CHECK(plan.tiles == out / 16);
    // Two blocks of it fit beside each other.
    CHECK(plan.shared_bytes <= 72 * 1024);
  }
  CHECK(plan_linear(int4(27392, 4096, 1)).tiles_per_block == 3);
  CHECK(plan_linear(int4(151552, 4096, 1)).tiles_per_block == 4);
  CHECK(plan_linear(int4(4096, 4096, 1)).tiles_per_block == 1);
}

TEST_CASE("plan_linear: few rows of W are split along their length") {
  const LinearPlan plan = plan_linear(int4(256, 4096, 1));
  // 16 tiles of 32 steps: not below one step a warp.
  CHECK(plan.splits == 4);
  CHECK(plan.steps_per_split == 8);
  CHECK(plan.workspace(1, 256) == 4 * 256 * 4);
}

TEST_CASE("plan_linear: steps, tiles and rows are covered, none twice") {
  for (const std::int64_t out : {1, 16, 17, 5000, 2000000})
    for (const std::int64_t in : {128, 4096, 13696, 60032})
      for (const std::int64_t rows : {1, 2, 3, 8, 9, 100})
        for (const int columns : {1, kFloatColumns}) {
          LinearShape shape = int4(out, in, rows);
          shape.columns_per_row = columns;
          const LinearPlan plan = plan_linear(shape);
          INFO(out << " x " << in << ", rows " << rows);
          REQUIRE(plan.fits);
          CHECK(plan.steps == (in / 32 + 3) / 4);
          CHECK(plan.splits * plan.steps_per_split >= plan.steps);
          CHECK((plan.splits - 1) * plan.steps_per_split < plan.steps);
          CHECK(plan.tiles == (out + 15) / 16);
          CHECK(plan.tile_blocks() * plan.tiles_per_block >= plan.tiles);
          CHECK((plan.tile_blocks() - 1) * plan.tiles_per_block < plan.tiles);
          CHECK(plan.tile_blocks() <= 65535);
          CHECK(plan.chunks(rows) * plan.chunk_rows >= rows);
          CHECK(plan.chunk_rows * columns <= 2 * plan.column_pairs);
          CHECK(plan.column_pairs <= 4);
          CHECK(plan.shared_bytes <= 72 * 1024);
          CHECK(plan.shared_bytes ==
                plan.x_bytes + plan.sum_bytes + 2 * plan.scale_bytes);
        }
}

TEST_CASE("plan_linear: scales that fill the shared memory do not fit") {
  LinearShape shape = int4(16, 65536, 1);
  shape.scale_bytes = 65536 / 32 * 2;
  CHECK_FALSE(plan_linear(shape).fits);
}

}  // namespace
}  // namespace autoglm::kernels::cuda
