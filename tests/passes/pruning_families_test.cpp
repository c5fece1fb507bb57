// structured_pruning on every family and layout.
#include "autoglm/core/log.h"
#include "autoglm/model/checkpoint.h"
#include "autoglm/model/footprint.h"
#include "autoglm/model/forward.h"
#include "passes/pruning/coupled_rows.h"
#include "tests/passes/pass_runs.h"
#include "tests/passes/pruning_models.h"
#include "tests/support/catch.h"
#include "tests/support/temporary_folder.h"

using namespace autoglm;
using test::run_pass;

namespace {

at::Tensor logits(const Model& model) {
  at::manual_seed(5);
  return forward(model, test::random_windows(3, 12));
}

double largest_change(const at::Tensor& a, const at::Tensor& b) {
  return (a - b).abs().max().item<double>();
}

// Zeroes slices of a matrix, and of its bias where they are rows.
void silence(Linear& linear, std::int64_t dim, const at::Tensor& slices) {
  linear.weight = DenseWeight{
      std::get<DenseWeight>(linear.weight).value.index_fill(dim, slices, 0)};
  if (dim == 0 && linear.bias.defined())
    linear.bias = linear.bias.index_fill(0, slices, 0);
}

// Of 4 heads in 2 groups, or on their own.
at::Tensor live_heads() { return at::tensor({1, 2}, at::kLong); }
at::Tensor dead_heads() { return at::tensor({0, 3}, at::kLong); }

// Heads 0 and 3 do nothing and have no weight. Keys and values that they share
// with others stay as they are.
Model with_dead_heads(Model model) {
  const Architecture& a = model.architecture;
  for (Block& block : model.blocks) {
    const std::vector<Rows> live = head_rows(a, block, live_heads());
    const std::vector<Rows> dead = head_rows(a, block, dead_heads());
    for (std::size_t i = 0; i < dead.size(); ++i)
      silence(*find_linear(block, dead[i].name), 0,
              dead[i].rows.masked_select(
                  at::isin(dead[i].rows, live[i].rows).logical_not()));
    silence(block.attention.output, 1, head_columns(a, dead_heads()));
  }
  return model;
}

// Channels of one parity do nothing; which one differs between neighbours.
at::Tensor live_channels(const Mlp& mlp, std::size_t number) {
  return at::arange(number % 2, columns(mlp.down.weight), 2, at::kLong);
}

template <class B, class Each>
void each_mlp(B& block, Each&& each) {
  if (!block.is_mixture()) return each(std::string("mlp."), block.mlp, 0);
  for (std::size_t e = 0; e < block.mixture.experts.size(); ++e)
    each(fmt::format("mlp.experts.{}.", e), block.mixture.experts[e], e);
  if (block.mixture.shared.down.present())
    each(std::string("mlp.shared."), block.mixture.shared, 1);
}

void silence_channels(Mlp& mlp, std::size_t number) {
  const at::Tensor dead = live_channels(mlp, number + 1);
  const std::int64_t ffn = columns(mlp.down.weight);
  if (mlp.gate_up.present())
    silence(mlp.gate_up, 0, at::cat({dead, dead + ffn}));
  for (Linear* inner : {&mlp.gate, &mlp.up})
    if (inner->present()) silence(*inner, 0, dead);
  silence(mlp.down, 1, dead);
}

Model with_dead_channels(Model model) {
  for (Block& block : model.blocks)
    each_mlp(block, [](const std::string&, Mlp& mlp, std::size_t number) {
      silence_channels(mlp, number);
    });
  return model;
}

void check_equal(const Linear& a, const Linear& b, const std::string& name) {
  INFO(name);
  CHECK(at::equal(std::get<DenseWeight>(a.weight).value,
                  std::get<DenseWeight>(b.weight).value));
  CHECK(a.bias.defined() == b.bias.defined());
  if (a.bias.defined()) CHECK(at::equal(a.bias, b.bias));
}

// Where the heads of a tiny model can be halved.
bool halves(const BlockWidths& w) {
  return w.query_heads == w.kv_heads || w.kv_heads == 2;
}

const std::vector<std::string>& recipes() {
  static const std::vector<std::string> all = {
      "{sparsity_ratio: 0}",
      "{sparsity_ratio: 0.4}",
      "{sparsity_ratio: 0.9}",
      "{sparsity_ratio: 0.5, align: 8}",
      "{sparsity_ratio: 0.5, target_layers: [layers.1.attention.*]}",
      "{sparsity_ratio: 0.5, target_layers: [layers.1.mlp.*]}",
      "{sparsity_ratio: 0.5, target_layers: [layers.0.*]}",
  };
  return all;
}

}  // namespace

TEST_CASE("structured_pruning: heads that do nothing go and change nothing") {
  set_log_level(LogLevel::kOff);
  for (const auto& [name, alive] : test::pruning_models())
    for (const bool data : {true, false}) {
      INFO(name << (data ? ", data" : ", no data"));
      if (!halves(alive.architecture.blocks[0])) continue;
      const Model start = with_dead_heads(alive);
      const Architecture& a = start.architecture;
      const Model out =
          run_pass("structured_pruning", "{sparsity_ratio: 0.5, ffn: false}",
                   start, data)
              .model;
      CHECK(largest_change(logits(out), logits(start)) < 1e-4);
      for (std::size_t i = 0; i < start.blocks.size(); ++i) {
        CHECK(out.architecture.blocks[i].query_heads == 2);
        CHECK(out.architecture.blocks[i].kv_heads == 2);
        Block expected = start.blocks[i], got = out.blocks[i];
        keep_head_rows(a, expected, live_heads());
        for (const Rows& part : head_rows(a, start.blocks[i], live_heads()))
          check_equal(*find_linear(got, part.name),
                      *find_linear(expected, part.name), part.name);
      }
    }
}

TEST_CASE("structured_pruning: dead channels go, each expert its own") {
  set_log_level(LogLevel::kOff);
  for (const auto& [name, alive] : test::pruning_models())
    for (const bool data : {true, false}) {
      INFO(name << (data ? ", data" : ", no data"));
      const Model start = with_dead_channels(alive);
      const Model out =
          run_pass("structured_pruning", "{sparsity_ratio: 0.5, heads: false}",
                   start, data)
              .model;
      CHECK(largest_change(logits(out), logits(start)) < 1e-4);
      for (std::size_t i = 0; i < start.blocks.size(); ++i) {
        Block expected = start.blocks[i], got = out.blocks[i];
        each_mlp(expected, [&](const std::string& at, Mlp& mlp,
                               std::size_t number) {
          const at::Tensor live = live_channels(mlp, number);
          keep_channel_rows(mlp, live);
          for (const char* part : {"gate_up", "gate", "up"})
            if (find_linear(expected, at + part)->present())
              check_equal(*find_linear(got, at + part),
                          *find_linear(expected, at + part), at + part);
          CHECK(columns(find_linear(got, at + "down")->weight) == live.size(0));
        });
      }
    }
}

TEST_CASE("structured_pruning: plan, run and config.json agree on all widths") {
  set_log_level(LogLevel::kOff);
  for (const auto& [name, start] : test::pruning_models())
    for (const std::string& params : recipes()) {
      INFO(name << " " << params);
      const Model shapes = test::planned("structured_pruning", params, start);
      // Widths do not depend on data.
      const Model out =
          run_pass("structured_pruning", params, start, false).model;
      CHECK_NOTHROW(verify_model(out));
      const Architecture& a = out.architecture;
      CHECK((shapes.architecture.blocks == a.blocks));
      const Architecture again =
          read_architecture(write_architecture(out.config, a), "again");
      CHECK((again.blocks == a.blocks));
      CHECK(again.head_size == a.head_size);
      CHECK(again.rotary_size == a.rotary_size);
      for (std::size_t i = 0; i < out.blocks.size(); ++i) {
        CHECK((widths(a, out.blocks[i]) == a.blocks[i]));
        Block planned = shapes.blocks[i];
        visit_block(
            out.blocks[i],
            [&](const std::string& part, const Linear& linear) {
              INFO(part);
              const Linear& other = *find_linear(planned, part);
              CHECK(rows(other.weight) == rows(linear.weight));
              CHECK(columns(other.weight) == columns(linear.weight));
              CHECK(other.bias.defined() == linear.bias.defined());
              if (linear.bias.defined())
                CHECK(other.bias.sizes() == linear.bias.sizes());
            },
            [](const std::string&, const at::Tensor&) {});
      }
    }
}

TEST_CASE("structured_pruning: the result written and read is the same") {
  for (const auto& [name, start] : test::pruning_models())
    for (const char* target : {"*", "layers.1.attention.*"}) {
      INFO(name << " " << target);
      const Model out =
          run_pass("structured_pruning",
                   fmt::format("{{sparsity_ratio: 0.5, target_layers: ['{}']}}",
                               target),
                   start)
              .model;
      const test::TemporaryFolder folder;
      write_checkpoint(out, folder.path());
      const Model again = read_checkpoint(folder.path());
      CHECK((again.architecture.blocks == out.architecture.blocks));
      CHECK(at::equal(logits(again), logits(out)));
    }
}

TEST_CASE("structured_pruning: what is not cut keeps its handles") {
  for (const auto& [name, start] : test::pruning_models()) {
    INFO(name);
    const Model out = run_pass("structured_pruning",
                               "{sparsity_ratio: 0.4, repair: none}", start)
                          .model;
    for (std::size_t i = 0; i < start.blocks.size(); ++i) {
      Block before = start.blocks[i];
      visit_block(
          out.blocks[i], [](const std::string&, const Linear&) {},
          [&](const std::string& part, const at::Tensor& tensor) {
            INFO(part);
            CHECK(tensor.is_same(*find_tensor(before, part)));
          });
      CHECK(out.blocks[i].mlp.down.bias.is_same(before.mlp.down.bias));
      CHECK(out.blocks[i].attention.output.bias.is_same(
          before.attention.output.bias));
    }
  }
}

TEST_CASE("structured_pruning: no family's repair is worse than its cut") {
  for (const auto& [name, start] : test::pruning_models()) {
    INFO(name);
    const auto run =
        run_pass("structured_pruning", "{sparsity_ratio: 0.4}", start);
    for (const Json& layer : run.notes.at("layers")) {
      INFO(layer.dump());
      CHECK(layer["mlp_error"] <= layer["mlp_error_cut"]);
      CHECK(layer["mlp_error_cut"].get<double>() > 0);
      CHECK(layer["attention_error"] <= layer["attention_error_cut"]);
      CHECK(layer["attention_error_cut"].get<double>() > 0);
    }
  }
}

TEST_CASE("structured_pruning: every importance cuts every family") {
  for (const auto& [name, start] : test::pruning_models())
    for (const char* importance : {"l2", "norm_gain", "fluctuation", "taylor",
                                   "fisher", "obs", "random"}) {
      INFO(name << " " << importance);
      const auto run = run_pass(
          "structured_pruning",
          fmt::format("{{sparsity_ratio: 0.5, importance: {}}}", importance),
          start);
      CHECK_NOTHROW(verify_model(run.model));
      for (std::size_t i = 0; i < start.blocks.size(); ++i)
        CHECK(run.model.architecture.blocks[i].ffn <
              start.architecture.blocks[i].ffn);
    }
}

TEST_CASE("structured_pruning: allocated widths keep the uniform budget") {
  for (const auto& [name, start] : test::pruning_models())
    for (const char* allocation : {"global", "sensitivity"}) {
      INFO(name << " " << allocation);
      const auto parameters = [&](const std::string& params) {
        const Model out = run_pass("structured_pruning", params, start).model;
        CHECK_NOTHROW(verify_model(out));
        return footprint(out).total().parameters;
      };
      CHECK(parameters(fmt::format(
                "{{sparsity_ratio: 0.5, align: 8, allocation: {}}}",
                allocation)) <= parameters("{sparsity_ratio: 0.5, align: 8}"));
    }
}
