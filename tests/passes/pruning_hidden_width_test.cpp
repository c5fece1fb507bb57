// structured_pruning of the residual stream's channels.
#include "autoglm/core/log.h"
#include "autoglm/model/forward.h"
#include "passes/label_gradient.h"
#include "passes/pruning/hidden_channels.h"
#include "passes/pruning/hidden_fit.h"
#include "passes/pruning/hidden_scores.h"
#include "tests/model/golden.h"
#include "tests/passes/pass_runs.h"
#include "tests/support/catch.h"
#include "tests/support/relative.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/throws.h"

using namespace autoglm;
using test::Golden;
using test::relative_peak;
using test::run_pass;

namespace {

at::Tensor values(const Weight& weight) {
  return std::get<DenseWeight>(weight).value;
}

// Tensors that add to the stream, with the dim of its channels.
template <class Each>
void each_writer(Model& model, Each&& each) {
  const auto matrix = [&](Weight& weight, std::int64_t dim) {
    at::Tensor own = values(weight);
    each(own, dim);
    weight = DenseWeight{own};
  };
  matrix(model.embedding, 1);
  for (at::Tensor* table : {&model.positions, &model.block_positions})
    if (table->defined()) each(*table, 1);
  for (Block& block : model.blocks)
    visit_block(
        block,
        [&](const std::string& name, Linear& part) {
          if (hidden_role(name) != HiddenRole::kWrites) return;
          matrix(part.weight, 0);
          if (part.bias.defined()) each(part.bias, 0);
        },
        [](const std::string&, const at::Tensor&) {});
}

void plain_norm(Norm& norm) {
  if (!norm.gain.defined()) return;
  norm.gain = at::ones_like(norm.gain);
  norm.bias = at::zeros_like(norm.bias);
}

// Nothing is ever added to the channels `dead`. LayerNorms take the mean away:
// there the stream has none.
Model with_dead_channels(Model model, const at::Tensor& dead) {
  const bool centred = model.architecture.layer_norm;
  // One epsilon for all norms cannot follow their means.
  model.architecture.norm_epsilon = 1e-12;
  const double live =
      static_cast<double>(model.architecture.hidden - dead.size(0));
  each_writer(model, [&](at::Tensor& tensor, std::int64_t dim) {
    tensor = tensor.index_fill(dim, dead, 0);
    if (centred)
      tensor = (tensor - tensor.sum(dim, true) / live).index_fill(dim, dead, 0);
  });
  if (!centred) return model;
  for (Block& block : model.blocks) {
    plain_norm(block.input_norm);
    plain_norm(block.middle_norm);
  }
  plain_norm(model.final_norm);
  return model;
}

// Sandwich norms, LayerNorms and biases, a tied head, groups of experts.
bool is_one_of_its_kind(const std::string& name) {
  return name == "glm4" || name == "chatglm_6b" || name == "glm_edge" ||
         name == "glm4_moe_air";
}

std::string eight_of(const Model& model, const std::string& more) {
  return fmt::format("{{sparsity_ratio: 0, hidden: {}{}}}",
                     8.0 / static_cast<double>(model.architecture.hidden),
                     more);
}

// Every fifth channel and the last.
at::Tensor dead_channels(const Model& model) {
  return at::cat({at::arange(7, at::kLong) * 4 + 1,
                  at::tensor({model.architecture.hidden - 1}, at::kLong)});
}

}  // namespace

TEST_CASE("structured_pruning: dead channels go first and change nothing") {
  set_log_level(LogLevel::kOff);
  for (const std::string& name : test::golden_names()) {
    const Golden golden(name);
    const at::Tensor dead = dead_channels(golden.model);
    const Model start = with_dead_channels(golden.model, dead);
    const at::Tensor wanted = forward(start, golden["input_ids"]);
    CHECK(relative_peak(wanted, forward(golden.model, golden["input_ids"])) >
          1e-3);
    const auto check = [&](const std::string& how, bool data) {
      INFO(name << how << (data ? "" : ", no data"));
      const auto run =
          run_pass("structured_pruning", eight_of(start, how), start, data);
      const Json& note = run.notes.at("hidden");
      CHECK(note["width"] == start.architecture.hidden - 8);
      const auto removed = note["removed"].get<std::vector<std::int64_t>>();
      CHECK(at::equal(at::tensor(removed, at::kLong), dead));
      CHECK(relative_peak(forward(run.model, golden["input_ids"]), wanted) <
            2e-4);
    };
    check("", true);
    check(", importance: l2", false);
    if (!is_one_of_its_kind(name)) continue;
    for (const char* importance :
         {"activation", "fluctuation", "obs", "taylor", "fisher", "l2"})
      check(fmt::format(", repair: none, importance: {}", importance), true);
  }
}

TEST_CASE("structured_pruning: every family runs, is written and read narrow") {
  set_log_level(LogLevel::kOff);
  for (const std::string& name : test::golden_names())
    for (const char* how : {"", ", repair: none", ", repair: bias",
                            ", new_biases: true", ", importance: random"}) {
      if (*how != 0 && !is_one_of_its_kind(name)) continue;
      INFO(name << how);
      const Golden golden(name);
      const Model start = read_checkpoint(test::kGolden / name);
      const auto run = run_pass(
          "structured_pruning",
          "{sparsity_ratio: 0, hidden: 0.3, align: 8" + std::string(how) + "}",
          start);
      const Model& out = run.model;
      CHECK_NOTHROW(verify_model(out));
      CHECK(out.architecture.hidden < start.architecture.hidden);
      CHECK(out.architecture.hidden % 8 == 0);
      CHECK((out.architecture.blocks == start.architecture.blocks));
      CHECK(out.architecture.head_size == start.architecture.head_size);
      CHECK(out.head.has_value() == start.head.has_value());
      const at::Tensor logits = forward(out, golden["input_ids"]);
      CHECK(logits.sizes() == golden["logits"].sizes());
      CHECK(at::isfinite(logits).all().item<bool>());
      if (run.notes.at("hidden").contains("layers"))
        for (const Json& layer : run.notes.at("hidden")["layers"])
          for (const char* error : {"attention_input_error", "attention_error",
                                    "mlp_input_error", "mlp_error"})
            if (layer.contains(error))
              CHECK(layer[error] <= layer[std::string(error) + "_cut"]);
      // Biases that a configuration does not promise are another test's.
      const std::string options = how;
      if (options.find("bias") != std::string::npos) continue;
      const test::TemporaryFolder folder;
      write_checkpoint(out, folder.path());
      const Model again = read_checkpoint(folder.path());
      CHECK(again.config["hidden_size"] == out.architecture.hidden);
      CHECK((again.architecture.blocks == out.architecture.blocks));
      CHECK(again.architecture.head_size == start.architecture.head_size);
      CHECK(at::equal(forward(again, golden["input_ids"]), logits));
    }
}

TEST_CASE("structured_pruning: no share of the stream changes nothing") {
  for (const std::string& name : test::golden_names()) {
    INFO(name);
    const Model start = read_checkpoint(test::kGolden / name);
    for (const char* share : {"0", "0.005"}) {
      const auto run = run_pass(
          "structured_pruning",
          fmt::format("{{sparsity_ratio: 0, hidden: {}}}", share), start);
      CHECK(test::checksum(run.model) == test::checksum(start));
      CHECK(run.model.extra.size() == start.extra.size());
      CHECK(run.notes.count("hidden") == 0);
    }
  }
}

TEST_CASE("structured_pruning: the plan of a narrow model is what comes out") {
  set_log_level(LogLevel::kOff);
  for (const std::string& name : test::golden_names())
    for (const char* params :
         {"{sparsity_ratio: 0, hidden: 0.25}", "{hidden: 0.9}",
          "{sparsity_ratio: 0.5, hidden: 0.3, align: 8}"}) {
      INFO(name << " " << params);
      test::check_plan("structured_pruning", params,
                       read_checkpoint(test::kGolden / name));
    }
}

TEST_CASE("structured_pruning: what stands beside the model goes if it must") {
  set_log_level(LogLevel::kOff);
  Model start = read_checkpoint(test::kGolden / "glm4_moe_lite");
  REQUIRE(start.extra.size() > 0);
  const std::int64_t hidden = start.architecture.hidden;
  start.extra["classifier.weight"] = at::zeros({3, hidden});
  start.extra["scales"] = at::zeros({3, hidden + 1});
  const Model out =
      run_pass("structured_pruning", eight_of(start, ""), start).model;
  CHECK(out.extra.size() == 1);
  CHECK(out.extra.count("scales") == 1);
  CHECK(out.config["num_nextn_predict_layers"] == 0);
}

TEST_CASE(
    "structured_pruning: a narrow stream needs dense matrices everywhere") {
  const Model quantized =
      run_pass("quantization",
               "{method: rtn, target_layers: [layers.1.mlp.down]}",
               test::tiny_model())
          .model;
  CHECK(
      test::error_of(ErrorKind::kConfig,
                     [&] {
                       run_pass("structured_pruning",
                                "{sparsity_ratio: 0, hidden: 0.5}", quantized);
                     }) ==
      "structured_pruning: layers.1.mlp.down is quantized; put pruning before "
      "quantization");
}

TEST_CASE("HiddenFit: what repair_columns finds for each matrix alone") {
  at::manual_seed(2);
  const at::Tensor mix = at::eye(6) + 0.3 * at::randn({6, 6});
  const at::Tensor kept = at::tensor({0, 2, 3, 5}, at::kLong);
  const auto batch = [&](std::int64_t tokens) {
    const at::Tensor x = at::mm(at::randn({tokens, 6}) + 0.4, mix);
    // The compressed stream is off by a little, and lacks two channels.
    const at::Tensor z = x + 0.1 * at::randn({tokens, 6});
    return std::pair(
        x, at::zeros_like(x).index_copy(1, kept, z.index_select(1, kept)));
  };
  SplitMoments moments;
  const auto [x, z] = batch(500);
  moments.fit.add(x, z);
  const auto [held_x, held_z] = batch(100);
  moments.held_out.add(held_x, held_z);
  for (const RepairKind kind :
       {RepairKind::kLeastSquares, RepairKind::kBias, RepairKind::kNone})
    for (const bool bias : {true, false}) {
      INFO(static_cast<int>(kind) << " " << bias);
      HiddenFit fit(moments, kept, kind, false);
      double before = 0, after = 0;
      for (int m = 0; m < 2; ++m) {
        const at::Tensor w = at::randn({3, 6});
        Linear linear = {DenseWeight{w}, bias ? at::randn({3}) : at::Tensor()};
        const Linear got = fit.fitted(linear);
        const Repair one = repair_columns(w, kept, moments, kind, bias);
        CHECK(at::allclose(values(got.weight), one.weight, 1e-3, 1e-4));
        CHECK(got.bias.defined() == (bias || kind == RepairKind::kBias));
        if (one.bias.defined())
          CHECK(at::allclose(got.bias, bias ? linear.bias + one.bias : one.bias,
                             1e-3, 1e-4));
        before += one.error_before / 2;
        after += one.error_after / 2;
      }
      CHECK(fit.error_before() == Approx(before).epsilon(1e-3));
      CHECK(fit.error_after() == Approx(after).epsilon(1e-2));
    }
}

TEST_CASE("fitted_gains: the least-squares factors of a tied head's columns") {
  at::manual_seed(6);
  const at::Tensor kept = at::tensor({1, 2, 4}, at::kLong);
  const at::Tensor table = at::randn({7, 5});
  const at::Tensor x = at::randn({200, 5});
  at::Tensor z = at::zeros_like(x);
  z.index_copy_(
      1, kept, x.index_select(1, kept) * at::tensor({2., 0.5, 1.}, at::kFloat));
  SplitMoments moments;
  moments.fit.add(x, z);
  moments.held_out = moments.fit;
  // One equation for every token and row of the table.
  const at::Tensor cut = table.index_select(1, kept);
  const at::Tensor equations =
      (z.index_select(1, kept).unsqueeze(1) * cut.unsqueeze(0))
          .reshape({-1, 3});
  const at::Tensor right = at::mm(x, table.t()).reshape({-1, 1});
  const at::Tensor wanted = at::linalg_solve(at::mm(equations.t(), equations),
                                             at::mm(equations.t(), right))
                                .squeeze(1);
  const at::Tensor gains = fitted_gains(table, moments, kept);
  CHECK(at::allclose(gains, wanted, 2e-3, 2e-3));
  // Nothing was lost: nothing is better than 1.
  SplitMoments same;
  same.fit.add(x, x);
  same.held_out = same.fit;
  CHECK_FALSE(fitted_gains(table, same, at::arange(5, at::kLong)).defined());
}

TEST_CASE("hidden_scores: taylor is the change of the loss per factor") {
  const Model model = to_compute(test::tiny_model("glm", 1, {.layers = 1}),
                                 at::kCPU, at::kFloat);
  at::manual_seed(8);
  const at::Tensor ids = test::random_windows(2, 9);
  const std::int64_t prefix = 2;
  const at::Tensor scores =
      hidden_scores(model, ids, prefix, Importance::kTaylor, 1, 3);
  // One block: the only border behind a block is the last.
  const auto loss = [&](const at::Tensor& states, const at::Tensor& labels) {
    const at::Tensor log = head_forward(model, states).log_softmax(-1);
    return -log.gather(1, labels.unsqueeze(1)).sum(at::kDouble).item<double>();
  };
  for (const std::int64_t channel : {0, 13, 31}) {
    double sum = 0;
    for (const at::Tensor& one : ids.split(1)) {
      const at::Tensor states = text_states(model, one, prefix, at::kFloat);
      const at::Tensor labels = next_tokens(one, prefix);
      const double step = 1e-2;
      at::Tensor factor = at::ones({32});
      factor[channel] = 1 + step;
      const double up = loss(states * factor, labels);
      factor[channel] = 1 - step;
      const double down = loss(states * factor, labels);
      sum += std::abs(up - down) / (2 * step) / 2;
    }
    CHECK(scores[channel].item<double>() ==
          Approx(sum).epsilon(2e-2).margin(1e-3));
  }
}

TEST_CASE("hidden_scores: by hand, l1 of one matrix of each kind") {
  Model model = test::tiny_model("glm", 1, {.layers = 1});
  // All shares alike but those of channel 2: nothing reads or writes it.
  const auto even = [](const at::Tensor& like) { return at::ones_like(like); };
  each_writer(model, [&](at::Tensor& tensor, std::int64_t dim) {
    tensor = even(tensor).index_fill(dim, at::tensor({2}, at::kLong), 0);
  });
  for (Block& block : model.blocks)
    visit_block(
        block,
        [&](const std::string& name, Linear& part) {
          if (hidden_role(name) == HiddenRole::kReads)
            part.weight = DenseWeight{even(values(part.weight))};
        },
        [](const std::string&, const at::Tensor&) {});
  model.head->weight = DenseWeight{even(values(model.head->weight))};
  // Four readers (q, k, v, gate_up) and the head; the embedding and two
  // writers.
  const at::Tensor scores = hidden_scores(model, {}, 0, Importance::kL1, 1, 0);
  CHECK(scores[2].item<double>() == Approx(5.0 / 32));
  CHECK(scores[5].item<double>() == Approx(5.0 / 32 + 3.0 / 31));
}
