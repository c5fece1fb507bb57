// Pruning while training, as a whole.
#include "passes/distillation/sparse_training.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "autoglm/core/log.h"
#include "autoglm/model/footprint.h"
#include "autoglm/model/forward.h"
#include "passes/distillation/trainer.h"
#include "tests/passes/pass_runs.h"
#include "tests/support/relative.h"
#include "tests/support/throws.h"

using namespace autoglm;

namespace {

PassContext context_for(const Model& original) {
  PassContext out;
  at::manual_seed(5);
  out.training = out.calibration = test::random_windows(24, 14);
  out.prefix = 2;
  out.original = &original;
  out.seed = 1;
  return out;
}

test::PassRun distil(const Model& start, const std::string& params,
                     const Model* original = nullptr) {
  test::PassRun out;
  out.model = start;
  PassContext context = context_for(original == nullptr ? start : *original);
  context.note = [&](const std::string& name, Json value) {
    out.notes[name] = std::move(value);
  };
  find_pass("distillation")
      ->make(parse_config(params, "p"))
      ->run(out.model, context);
  return out;
}

// Trains `options.steps` steps of `start` with made-up times.
class Run {
 public:
  Run(const Model& start, DistillationOptions options, const TimeWidths& time)
      : options_(std::move(options)),
        start_(start),
        context_(context_for(start_)),
        trainer_(options_, start_, context_),
        adam_(make_optimizer(trainer_.student(), 0.01)),
        sparse_(options_, trainer_.student(), adam_, context_,
                trainer_.training(), time) {}

  void train() {
    Shuffler shuffler(trainer_.windows(), 1);
    for (std::int64_t step = 1; step <= options_.steps; ++step) {
      adam_.zero_grad();
      const at::Tensor ids = trainer_.windows_of(shuffler.next(4));
      const double loss = trainer_.loss(sparse_.model(), ids, true);
      adam_.step();
      sparse_.after_step(
          {step,
           static_cast<double>(step) / static_cast<double>(options_.steps),
           1e-3, loss});
    }
  }
  SparseTraining& sparse() { return sparse_; }
  Model result() const { return trainer_.result(); }

 private:
  DistillationOptions options_;
  Model start_;
  PassContext context_;
  Trainer trainer_;
  torch::optim::AdamW adam_;
  SparseTraining sparse_;
};

DistillationOptions quick() {
  DistillationOptions out;
  out.steps = 20;
  out.sparsity = 0.4;
  out.mask_interval = 2;
  out.batch = 4;
  out.align = 4;
  return out;
}

// Times that fall by `slopes[layer]` ms for each unit that goes.
TimeWidths linear_times(std::vector<double> slopes) {
  return [slopes](const Model&, const std::vector<UnitPart>& parts) {
    WidthTimes out;
    out.fixed_ms = 1;
    for (const UnitPart& part : parts) {
      out.parts.emplace_back();
      for (const std::int64_t width : part.widths)
        out.parts.back().push_back(slopes[part.layer] *
                                   static_cast<double>(width));
    }
    return out;
  };
}

}  // namespace

TEST_CASE("sparse training: sparsity 0 is plain distillation to the bit") {
  set_log_level(LogLevel::kOff);
  const Model original = test::tiny_model();
  const Model start =
      test::run_pass("structured_pruning", "{sparsity_ratio: 0.4}", original)
          .model;
  auto plain = distil(start, "{steps: 6}", &original);
  auto off = distil(start,
                    "{steps: 6, sparsity: 0, group_lasso: 5, mask_interval: 1, "
                    "regrow: 0.5, heads: true}",
                    &original);
  CHECK(test::checksum(plain.model) != test::checksum(start));
  CHECK(test::checksum(plain.model) == test::checksum(off.model));
  for (auto* run : {&plain, &off}) run->notes.erase("tokens_per_second");
  CHECK(plain.notes == off.notes);
}

TEST_CASE("sparse training: without measured times runs repeat to the bit") {
  for (const char* importance : {"obs", "activation", "taylor", "fisher"}) {
    const std::string params =
        std::string(
            "{steps: 12, sparsity: 0.4, mask_interval: 2, heads: true, "
            "latency_weight: 0, importance: ") +
        importance + "}";
    const Model start = test::tiny_model("chatglm");
    const auto first = distil(start, params), second = distil(start, params);
    CHECK(test::checksum(first.model) == test::checksum(second.model));
    CHECK(first.notes.at("masks") == second.notes.at("masks"));
  }
}

TEST_CASE("sparse training: the result has the sparsity and is what it was") {
  for (const char* family : {"glm", "glm4", "glm-2021", "glm4_moe_lite"}) {
    INFO(family);
    const Model start = test::tiny_model(family);
    const auto run = distil(start,
                            "{steps: 12, sparsity: 0.5, mask_interval: 2, "
                            "align: 4, heads: true, latency_weight: 0}");
    const Json& last = run.notes.at("masks").back();
    CHECK(last["sparsity"].get<double>() == Approx(0.5).margin(0.05));
    CHECK(last["regrown"] == 0);
    verify_model(run.model);
    std::int64_t before = 0, after = 0;
    for (std::size_t i = 0; i < start.blocks.size(); ++i) {
      const BlockWidths& from = start.architecture.blocks[i];
      const BlockWidths& to = run.model.architecture.blocks[i];
      if (from.experts == 0) {
        CHECK(to.ffn % 4 == 0);
        before += from.ffn;
        after += to.ffn;
      } else {
        CHECK(to.ffn == from.ffn);
      }
    }
    CHECK(after < before);
    // Of all judged states the ones before the last masks do not count.
    double best = 1e9;
    for (const Json& row : run.notes.at("curve"))
      if (row["step"] >= last["step"])
        best = std::min(best, row["held_out"].get<double>());
    CHECK(run.notes.at("held_out_after") == best);
  }
}

TEST_CASE("sparse training: masks follow the schedule and stay in the end") {
  Run run(test::tiny_model(), quick(), linear_times({1, 1}));
  run.train();
  const Json& changes = run.sparse().changes();
  REQUIRE(changes.size() >= 5);
  double last = 0;
  for (const Json& row : changes) {
    const double progress = row["step"].get<double>() / 10;  // of 20, to 0.5
    CHECK(row["due"].get<double>() ==
          Approx(0.4 * cubic_share(progress)).margin(1e-9));
    // One move is 4 of 96 units.
    CHECK(row["sparsity"].get<double>() ==
          Approx(row["due"].get<double>()).margin(0.5 * 4 / 96 + 1e-9));
    CHECK(row["sparsity"].get<double>() >= last);
    last = row["sparsity"].get<double>();
  }
  CHECK(changes.back()["step"] == 10);
  CHECK(run.sparse().complete());
  // Masked in training is cut in the result.
  const at::NoGradGuard no_grad;
  const Model student = run.sparse().model();
  at::manual_seed(9);
  const at::Tensor ids = test::random_windows(2, 12);
  const at::Tensor wanted = forward(student, ids);
  const at::Tensor got = forward(run.sparse().cut(student), ids);
  CHECK(test::relative_peak(got, wanted) <= 1e-5);
}

TEST_CASE("sparse training: a layer that costs more time gets narrower") {
  const auto widths = [](const std::vector<double>& slopes, double weight) {
    DistillationOptions options = quick();
    options.latency_weight = weight;
    Run run(test::tiny_model(), options, linear_times(slopes));
    run.train();
    return run.sparse().widths();
  };
  const auto even = widths({1, 1}, 1);
  const auto first = widths({8, 1}, 1), second = widths({1, 8}, 1);
  CHECK(first[0] < even[0]);
  CHECK(first[1] > even[1]);
  CHECK(second[0] > even[0]);
  CHECK(second[1] < even[1]);
  CHECK(first[0] + first[1] == even[0] + even[1]);
}

TEST_CASE("sparse training: the controller meets a share of the time") {
  for (const double target : {0.85, 0.6}) {
    DistillationOptions options = quick();
    options.sparsity = 0;
    options.latency_target = target;
    Run run(test::tiny_model(), options, linear_times({2, 1}));
    run.train();
    const double ratio =
        run.sparse().predicted_ms() / run.sparse().starting_ms();
    CHECK(ratio <= target);
    CHECK(ratio > target - 0.07);  // a move is 4 of 48 units
    const Json& changes = run.sparse().changes();
    CHECK(changes.back()["due"].get<double>() == Approx(target));
    for (const Json& row : changes) CHECK(row["lambda"].get<double>() > 0);
  }
}

TEST_CASE("sparse training: a time that no widths meet is an error") {
  DistillationOptions options = quick();
  options.sparsity = 0;
  options.latency_target = 0.05;
  const std::string text = test::error_of(ErrorKind::kConfig, [&] {
    Run(test::tiny_model(), options, linear_times({1, 1}));
  });
  // 1 ms and 2 x 4 of 1 ms and 2 x 48.
  CHECK(text ==
        "distillation: latency_target 0.05 cannot be met: with all widths at "
        "their least the blocks take 0.093 of their time");
}

TEST_CASE("sparse training: measured times are in the record") {
  const auto run = distil(test::tiny_model(),
                          "{steps: 6, latency_target: 0.9, mask_interval: 2, "
                          "heads: true}");
  CHECK(run.notes.at("width_times").size() == 2);  // layers are alike
  CHECK(run.notes.at("width_times")[0]["layers"] == "0 1");
  const Json& times = run.notes.at("block_times");
  CHECK(times["ratio"]["predicted_ms"].get<double>() <= 0.9);
  CHECK(times["after"]["measured_ms"].get<double>() > 0);
  for (const Json& row : run.notes.at("masks"))
    CHECK(row["predicted_ms"].get<double>() > 0);
}

TEST_CASE("sparse training: parts of every family have times") {
  for (const std::string& family : test::tiny_families()) {
    INFO(family);
    DistillationOptions options = quick();
    options.heads = true;
    const Model model = test::tiny_model(family);
    const auto parts = find_units(model, options);
    TimingOptions clock;
    clock.tokens = 9;
    clock.repeats = 1;
    const WidthTimes times = time_widths(model, parts, clock);
    REQUIRE(times.parts.size() == parts.size());
    for (std::size_t p = 0; p < parts.size(); ++p) {
      REQUIRE(times.parts[p].size() == parts[p].widths.size());
      CHECK(times.parts[p].back() > 0);
      CHECK(std::is_sorted(times.parts[p].rbegin(), times.parts[p].rend()));
    }
    // What has no units, here the experts, is counted too.
    CHECK((times.fixed_ms > 0) == model.blocks.back().is_mixture());
    const std::vector<std::size_t> first(parts.size(), 0);
    CHECK(times.total(first) >= times.fixed_ms + times.parts[0][0]);
  }
}

TEST_CASE("sparse training: options that contradict each other are errors") {
  const auto text = [](const std::string& params) {
    return test::error_of(ErrorKind::kConfig, [&] {
      find_pass("distillation")->make(parse_config(params, "p"));
    });
  };
  CHECK(text("{sparsity: 0.3, latency_target: 0.8}") ==
        "distillation: give sparsity or latency_target, not both");
  CHECK(text("{sparsity: 0.3, sparsity_start: 0.6, sparsity_end: 0.5}") ==
        "distillation: sparsity_start 0.6 is not below sparsity_end 0.5");
}

TEST_CASE("sparse training: quantized units cannot be masked") {
  const Model start = test::run_pass("quantization",
                                     "{bits: 4, method: rtn, target_layers: "
                                     "[layers.1.mlp.down]}",
                                     test::tiny_model())
                          .model;
  CHECK(test::error_of(ErrorKind::kConfig,
                       [&] { distil(start, "{steps: 2, sparsity: 0.3}"); }) ==
        "distillation: layers.1.mlp.down is quantized and cannot be pruned; "
        "put distillation before quantization");
}

TEST_CASE("sparse training: the plan cuts all parts alike") {
  const Model shapes =
      test::planned("distillation", "{sparsity: 0.25, align: 4, heads: true}",
                    test::tiny_model("glm4_moe"));
  CHECK(shapes.architecture.blocks[0].ffn == 36);
  CHECK(shapes.architecture.blocks[1].ffn == 24);         // experts stay
  CHECK(shapes.architecture.blocks[0].query_heads == 4);  // 3 is not possible
}
