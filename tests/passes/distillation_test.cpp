#include <ATen/core/grad_mode.h>

#include "autoglm/core/log.h"
#include "autoglm/model/forward.h"
#include "passes/distillation/student.h"
#include "tests/passes/pass_runs.h"
#include "tests/support/throws.h"

using namespace autoglm;

namespace {

// Trains `start` towards `original` on the same windows; returns the notes.
test::PassRun distil(const Model& start, const Model& original,
                     const std::string& params) {
  test::PassRun out;
  out.model = start;
  PassContext context;
  at::manual_seed(5);
  context.training = context.calibration = test::random_windows(40, 18);
  context.prefix = 2;
  context.original = &original;
  context.seed = 1;
  context.note = [&](const std::string& name, Json value) {
    out.notes[name] = std::move(value);
  };
  find_pass("distillation")
      ->make(parse_config(params, "p"))
      ->run(out.model, context);
  return out;
}

}  // namespace

TEST_CASE("distillation: a pruned model moves towards its original") {
  const Model original = test::tiny_model();
  const Model pruned =
      test::run_pass("structured_pruning", "{sparsity_ratio: 0.4}", original)
          .model;
  auto run = distil(pruned, original,
                    "{steps: 60, learning_rate: 3e-3, holdout: 0.2}");
  CHECK(run.notes["held_out_after"].get<double>() <
        0.9 * run.notes["held_out_before"].get<double>());
  CHECK(run.notes["steps"] == 60);
}

TEST_CASE("distillation: a model equal to its original is kept as it is") {
  set_log_level(LogLevel::kOff);
  const Model original = test::tiny_model();
  auto run = distil(original, original, "{steps: 5, learning_rate: 1e-2}");
  CHECK(test::checksum(run.model) == test::checksum(original));
  CHECK(run.notes["held_out_before"].get<double>() == Approx(0).margin(1e-5));
}

TEST_CASE("distillation: the temperature scales the loss as T^2 promises") {
  // Near uniform distributions T^2 KL(T) tends to the same limit for all T.
  const Model original = test::tiny_model();
  const Model pruned =
      test::run_pass("structured_pruning", "{sparsity_ratio: 0.4}", original)
          .model;
  const auto loss = [&](const std::string& temperature) {
    return distil(pruned, original,
                  "{steps: 1, temperature: " + temperature + "}")
        .notes["held_out_before"]
        .get<double>();
  };
  CHECK(loss("50") == Approx(loss("100")).epsilon(0.05));
}

TEST_CASE("distillation: packed weights stay, the rest learns") {
  const Model original = test::tiny_model();
  const Model start =
      test::run_pass("quantization",
                     "{bits: 2, method: rtn, target_layers: [layers.*.mlp.*]}",
                     original)
          .model;
  auto run = distil(start, original, "{steps: 20}");
  CHECK(at::equal(
      std::get<QuantizedWeight>(run.model.blocks[0].mlp.down.weight).codes,
      std::get<QuantizedWeight>(start.blocks[0].mlp.down.weight).codes));
  CHECK(run.notes["held_out_after"] < run.notes["held_out_before"]);
}

TEST_CASE("distillation: parts that must not learn do not") {
  const Model original = test::tiny_model();
  const Model pruned =
      test::run_pass("structured_pruning", "{sparsity_ratio: 0.4}", original)
          .model;
  const Model result =
      distil(pruned, original,
             "{steps: 10, train_embedding: false, train_head: false}")
          .model;
  CHECK(at::equal(to_dense(result.embedding, at::kFloat),
                  to_dense(original.embedding, at::kFloat)));
  CHECK(at::equal(to_dense(result.head->weight, at::kFloat),
                  to_dense(original.head->weight, at::kFloat)));
}

TEST_CASE("student: leaves are copies and the result has the start's dtypes") {
  const Model start = test::tiny_model("glm4");
  const double before = test::checksum(start);
  Student student = make_student(start, at::kCPU, {});
  {
    const at::NoGradGuard no_grad;
    for (at::Tensor& leaf : student.matrices) leaf.mul_(2);
  }
  CHECK(test::checksum(start) == before);
  const Model result = finished(student, start);
  CHECK(dtype(result.embedding) == at::kBFloat16);
  CHECK(at::equal(to_dense(result.embedding, at::kFloat),
                  to_dense(start.embedding, at::kFloat) * 2));
}
