// The pass as a whole; its choices and formulas: sparse_matrix_test.cpp.
#include "autoglm/core/log.h"
#include "autoglm/model/checkpoint.h"
#include "tests/passes/pass_runs.h"
#include "tests/passes/pruning_models.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/throws.h"

using namespace autoglm;
using test::run_pass;

namespace {

at::Tensor values(const Model& model, const std::string& name) {
  return std::get<DenseWeight>(weight_of(model, name)).value;
}

std::int64_t zeros(const at::Tensor& matrix) {
  return matrix.numel() - matrix.count_nonzero().item<std::int64_t>();
}

// Matrices of blocks.
std::vector<std::string> names_of(const Model& model) {
  std::vector<std::string> out;
  for (const NamedLinear& linear : named_linears(model))
    if (linear.layer >= 0) out.push_back(linear.name);
  return out;
}

std::string plan_error(const std::string& params, const Model& model) {
  return test::error_of(ErrorKind::kConfig, [&] {
    test::planned("sparsification", params, model);
  });
}

const std::vector<std::string>& methods() {
  static const std::vector<std::string> all = {"magnitude", "wanda",
                                               "sparsegpt"};
  return all;
}

}  // namespace

TEST_CASE("sparsification: every family, method and pattern") {
  set_log_level(LogLevel::kOff);
  for (const auto& [family, start] : test::pruning_models())
    for (const std::string& method : methods())
      for (const char* pattern : {"unstructured", "2:4", "block:4x4"}) {
        INFO(family << " " << method << " " << pattern);
        const auto run = run_pass(
            "sparsification",
            fmt::format("{{method: {}, pattern: '{}'}}", method, pattern),
            start);
        CHECK_NOTHROW(verify_model(run.model));
        for (const std::string& name : names_of(start)) {
          const at::Tensor after = values(run.model, name);
          INFO(name);
          CHECK(zeros(after) <= after.numel() / 2 + zeros(values(start, name)));
          CHECK(5 * zeros(after) >= 2 * after.numel());
        }
        CHECK(run.notes.at("matrices").size() == names_of(start).size());
      }
}

TEST_CASE("sparsification: routers, norms, biases and tables keep handles") {
  set_log_level(LogLevel::kOff);
  for (const std::string& family : test::tiny_families()) {
    INFO(family);
    const Model start = test::tiny_model(family);
    const Model out = run_pass("sparsification", "{}", start).model;
    CHECK(values(out, "embedding").is_same(values(start, "embedding")));
    if (start.head) CHECK(values(out, "head").is_same(values(start, "head")));
    for (std::size_t i = 0; i < start.blocks.size(); ++i) {
      Block before = start.blocks[i];
      visit_block(
          out.blocks[i],
          [&](const std::string& part, const Linear& linear) {
            CHECK(linear.bias.is_same(find_linear(before, part)->bias));
          },
          [&](const std::string& part, const at::Tensor& tensor) {
            INFO(part);
            CHECK(tensor.is_same(*find_tensor(before, part)));
          });
    }
  }
}

TEST_CASE("sparsification: magnitude and wanda leave what stays untouched") {
  const Model start = test::tiny_model("glm4");
  for (const char* method : {"magnitude", "wanda"})
    for (const char* pattern : {"unstructured", "2:4", "block:8x4"}) {
      const Model out = run_pass("sparsification",
                                 fmt::format("{{method: {}, pattern: '{}'}}",
                                             method, pattern),
                                 start)
                            .model;
      for (const std::string& name : names_of(start)) {
        INFO(method << " " << pattern << " " << name);
        const at::Tensor after = values(out, name);
        CHECK(at::equal(after, values(start, name) * (after != 0)));
      }
    }
}

TEST_CASE("sparsification: zeros are exactly as many as asked for") {
  const Model start = test::tiny_model();
  const auto run = [&](const std::string& params) {
    return run_pass("sparsification", params, start).model;
  };
  const auto per = [](const at::Tensor& matrix, std::int64_t width) {
    return (matrix.reshape({-1, width}) == 0).sum(1);
  };
  const Model by_size = run("{method: magnitude, sparsity: 0.3}");
  const Model by_row = run("{method: wanda, sparsity: 0.3}");
  const Model corrected = run("{sparsity: 0.3}");
  for (const std::string& name : names_of(start)) {
    INFO(name);
    const std::int64_t in = values(start, name).size(1);
    const std::int64_t all = values(start, name).numel();
    CHECK(zeros(values(by_size, name)) == all * 3 / 10);
    CHECK((per(values(by_row, name), in) == in * 3 / 10).all().item<bool>());
    // Exactly, or by row where wanda's result stayed.
    const std::int64_t gone = zeros(values(corrected, name));
    CHECK((gone == all * 3 / 10 || gone == all / in * (in * 3 / 10)));
  }
  for (const std::string& method : methods()) {
    const Model out =
        run(fmt::format("{{method: {}, pattern: '3:8'}}", method));
    for (const std::string& name : names_of(start))
      CHECK((per(values(out, name), 8) == 5).all().item<bool>());
  }
}

TEST_CASE("sparsification: a sparsity of 0 keeps every handle") {
  const Model start = test::tiny_model();
  for (const std::string& method : methods()) {
    const Model out =
        run_pass("sparsification",
                 fmt::format("{{sparsity: 0, method: {}}}", method), start)
            .model;
    for (const std::string& name : names_of(start))
      CHECK(values(out, name).is_same(values(start, name)));
  }
}

TEST_CASE("sparsification: at 0.99 something of every row stays by wanda") {
  for (const std::string& method : methods()) {
    const auto run = run_pass(
        "sparsification", fmt::format("{{sparsity: 0.99, method: {}}}", method),
        test::tiny_model("glm4_moe"));
    CHECK_NOTHROW(verify_model(run.model));
    for (const Json& matrix : run.notes.at("matrices"))
      CHECK(matrix["sparsity"].get<double>() >= 0.9);
    if (method == "wanda")
      CHECK((values(run.model, "layers.0.mlp.down") != 0)
                .any(1)
                .all()
                .item<bool>());
  }
}

TEST_CASE("sparsification: sparsegpt stays only where it is no worse") {
  const auto run = run_pass("sparsification", "{}", test::tiny_model());
  int kept = 0;
  for (const Json& matrix : run.notes.at("matrices")) {
    INFO(matrix.dump());
    CHECK(matrix["error"] <= matrix["error_wanda"]);
    kept += matrix["method"] == "sparsegpt" ? 1 : 0;
    if (matrix["method"] == "wanda")
      CHECK(matrix["error"] == matrix["error_wanda"]);
  }
  CHECK(kept > 0);
}

TEST_CASE("sparsification: the record says what was reached, block by block") {
  const auto run =
      run_pass("sparsification", "{pattern: '2:4'}", test::tiny_model());
  const Json& blocks = run.notes.at("blocks");
  REQUIRE(blocks.size() == 2);
  CHECK(blocks[1]["layer"] == 1);
  CHECK(blocks[1]["sparsity"].get<double>() == Approx(0.5));
  CHECK(blocks[1]["error"] < blocks[1]["error_magnitude"]);
  CHECK(run.notes.at("pattern") == "2:4");
  CHECK(run.notes.at("storage") ==
        "dense, zeros included: no smaller, no faster");
}

TEST_CASE("sparsification: experts with too few tokens go by magnitude") {
  set_log_level(LogLevel::kOff);
  Model start = test::tiny_model("glm4_moe");
  // A correction that no score can make up for: nothing goes to expert 3.
  at::Tensor& correction = start.blocks[1].mixture.correction_bias;
  correction = at::tensor({0.f, 0.f, 0.f, -9.f}).to(correction.scalar_type());
  const auto run = run_pass("sparsification", "{method: wanda}", start);
  const Json& note = run.notes.at("blocks")[1];
  CHECK(note["expert_tokens"][3] == 0);
  CHECK(note["magnitude_without_tokens"] ==
        Json({"layers.1.mlp.experts.3.gate", "layers.1.mlp.experts.3.up",
              "layers.1.mlp.experts.3.down"}));
  for (const Json& matrix : run.notes.at("matrices"))
    CHECK(matrix["method"] == (matrix["name"].get<std::string>().find(
                                   "experts.3") == std::string::npos
                                   ? "wanda"
                                   : "magnitude"));
}

TEST_CASE("sparsification: without calibration data it is magnitude") {
  set_log_level(LogLevel::kOff);
  for (const char* family : {"glm", "glm4_moe"}) {
    const Model start = test::tiny_model(family);
    CHECK(
        test::checksum(run_pass("sparsification", "{}", start, false).model) ==
        test::checksum(
            run_pass("sparsification", "{method: magnitude}", start).model));
  }
}

TEST_CASE("sparsification: target_layers and ignore choose the matrices") {
  const Model start = test::tiny_model();
  const Model out =
      run_pass("sparsification",
               "{target_layers: ['*'], ignore: ['*.down', layers.0.*]}", start)
          .model;
  for (const std::string& name : names_of(start))
    CHECK(values(out, name).is_same(values(start, name)) ==
          (name.starts_with("layers.0.") || name.ends_with(".down")));
}

TEST_CASE("sparsification: written and read the zeros are there") {
  const Model start = test::tiny_model();
  const Model out = run_pass("sparsification", "{pattern: '2:4'}", start).model;
  const test::TemporaryFolder folder;
  write_checkpoint(out, folder.path());
  const Model again = read_checkpoint(folder.path());
  for (const std::string& name : names_of(start))
    CHECK(at::equal(values(again, name), values(out, name)));
}

TEST_CASE("sparsification: what does not fit is found before any weight") {
  const Model start = test::tiny_model();  // hidden 32, ffn 48
  CHECK(plan_error("{pattern: '3:5'}", start) ==
        "sparsification: the 32 inputs of layers.0.attention.query do not "
        "divide into 5s as 3:5 asks; list it under ignore or take another "
        "pattern");
  CHECK(plan_error("{pattern: 'block:64x16', target_layers: ['*.down']}",
                   start) ==
        "sparsification: the 32 outputs of layers.0.mlp.down do not divide "
        "into 64s as block:64x16 asks; list it under ignore or take another "
        "pattern");
  CHECK(plan_error("{target_layers: [head, embedding]}", start) ==
        "sparsification: target_layers and ignore leave no matrix of a block");
  CHECK(plan_error("{pattern: '1:4', sparsity: 0.6}", start) ==
        "sparsification: the pattern 1:4 is a sparsity of 0.75; leave out "
        "sparsity: 0.6");
  for (const char* bad :
       {"4:2", "0:4", "2:", "block:16", "block:0x4", "half", "2:4x", "4:4", ""})
    CHECK(plan_error(fmt::format("{{pattern: '{}'}}", bad), start) ==
          fmt::format("sparsification.pattern must be unstructured, n:m with n "
                      "below m (2:4) or block:RxC (block:16x16), but is '{}'",
                      bad));
}

TEST_CASE("sparsification: quantized weights are refused with advice") {
  const Model quantized =
      run_pass("quantization", "{method: rtn}", test::tiny_model()).model;
  CHECK(plan_error("{}", quantized) ==
        "sparsification: layers.0.attention.query is quantized; put "
        "sparsification before quantization");
}

TEST_CASE("sparsification: NaN is named") {
  Model start = test::tiny_model();
  Weight& up = weight_of(start, "layers.1.mlp.down");
  up = DenseWeight{
      to_dense(up, at::kBFloat16)
          .clone()
          .index_fill_(0, at::tensor({3}, at::kLong), std::nanf(""))};
  CHECK(test::error_of(ErrorKind::kNumeric, [&] {
          run_pass("sparsification", "{method: magnitude}", start);
        }) == "sparsification: layers.1.mlp.down holds NaN or infinity");
}
