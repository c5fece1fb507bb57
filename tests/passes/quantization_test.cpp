#include "tests/passes/pass_runs.h"
#include "tests/support/throws.h"

using namespace autoglm;
using test::run_pass;

TEST_CASE("quantization: bits, groups and the head's own width") {
  const Model model =
      run_pass("quantization", "{bits: 4, group_size: 16, method: rtn}",
               test::tiny_model())
          .model;
  CHECK(describe(model.blocks[0].mlp.down.weight) == "int4 g16 symmetric");
  CHECK(describe(model.head->weight) == "int8 channel symmetric");
  CHECK(describe(model.embedding) == "int8 channel symmetric");
  const Model left =
      run_pass("quantization",
               "{bits: 3, head_bits: 0, embedding_bits: 0, method: rtn}",
               test::tiny_model())
          .model;
  CHECK(describe(left.head->weight) == "dense bf16");
  CHECK(describe(left.embedding) == "dense bf16");
  // 32 inputs: the largest fitting group is the whole row.
  CHECK(describe(left.blocks[1].attention.key.weight) ==
        "int3 channel symmetric");
  CHECK(describe(left.blocks[1].mlp.down.weight) == "int3 g16 symmetric");
}

TEST_CASE("quantization: learned rounding beats nearest rounding, by matrix") {
  const auto run =
      run_pass("quantization", "{bits: 3, group_size: 16, symmetric: false}",
               test::tiny_model());
  double learned = 0, nearest = 0;
  for (const Json& matrix : run.notes.at("matrices")) {
    INFO(matrix.dump());
    CHECK(matrix["error"] <= matrix["error_rtn"]);
    learned += matrix["error"].get<double>();
    nearest += matrix["error_rtn"].get<double>();
  }
  CHECK(learned < 0.95 * nearest);
}

TEST_CASE("quantization: only what the globs select") {
  const Model model =
      run_pass("quantization",
               "{target_layers: [encoder.block.*.mlp.*], method: rtn}",
               test::tiny_model())
          .model;
  CHECK(describe(model.blocks[0].mlp.down.weight) == "int8 channel symmetric");
  CHECK(describe(model.blocks[0].attention.query.weight) == "dense bf16");
  CHECK(describe(model.embedding) == "dense bf16");
}

TEST_CASE("quantization: a group that does not divide is refused in the plan") {
  Model shapes = to_device(test::tiny_model(), at::kMeta);
  const std::string text = test::error_of(ErrorKind::kConfig, [&] {
    find_pass("quantization")
        ->make(parse_config("{bits: 4, group_size: 20}", "p"))
        ->plan(shapes);
  });
  CHECK(text.find(
            "do not divide into groups of 20; -1 (a whole row), 16 would") !=
        std::string::npos);
}

TEST_CASE("quantization: a second time it is refused") {
  const Model once =
      run_pass("quantization", "{method: rtn}", test::tiny_model()).model;
  CHECK(test::error_of(ErrorKind::kConfig, [&] {
          run_pass("quantization", "{method: rtn}", once);
        }).find("is already int8 channel symmetric") != std::string::npos);
}
