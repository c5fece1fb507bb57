// structured_pruning counts: what goes is what the plan says, what the widths
// say, and what the record says, to the last parameter.
#include "autoglm/core/log.h"
#include "autoglm/model/footprint.h"
#include "tests/model/golden.h"
#include "tests/passes/pass_runs.h"
#include "tests/support/catch.h"

using namespace autoglm;
using test::run_pass;

namespace {

std::uint64_t of_block(const Architecture& a, std::size_t layer) {
  std::int64_t count = 0;
  const BlockShapes shapes = block_shapes(a, layer);
  for (const auto& matrix : shapes.matrices)
    count += matrix.out * (matrix.in + (matrix.bias ? 1 : 0));
  for (const auto& other : shapes.others)
    count += at::zeros(other.shape, at::kBool).numel();
  return static_cast<std::uint64_t>(count);
}

// By what config.json says after it went through the file: nothing of the
// tensors, and nothing of the code that cut them.
std::uint64_t by_configuration(const Model& model) {
  const Architecture a = read_architecture(
      write_architecture(model.config, model.architecture), "again");
  std::int64_t count = (model.head ? 2 : 1) * a.vocabulary * a.hidden;
  count += a.position_rows * a.hidden * (a.block_positions ? 2 : 1);
  count += a.hidden * (a.layer_norm ? 2 : 1);
  for (std::size_t i = 0; i < a.blocks.size(); ++i) {
    count += static_cast<std::int64_t>(of_block(a, i));
  }
  for (const auto& [name, tensor] : model.extra) count += tensor.numel();
  return static_cast<std::uint64_t>(count);
}

std::uint64_t parameters(const Model& model) {
  return footprint(model).total().parameters;
}

std::vector<std::string> recipes(const Model& model) {
  std::vector<std::string> out = {
      "{sparsity_ratio: 0}",
      "{sparsity_ratio: 0.4}",
      "{sparsity_ratio: 0.5, kv_groups: true, align: 8}",
      "{sparsity_ratio: 0.3, repair: none, target_layers: [layers.1]}",
      "{sparsity_ratio: 0, hidden: 0.25}",
      "{sparsity_ratio: 0.5, hidden: 0.3, align: 8, importance: random}",
      "{sparsity_ratio: 0.5, allocation: global}",
      "{threshold: 0.9}",
      "{sparsity_ratio: 0.9, hidden: 0.9}"};
  if (model.architecture.family->mixture)
    for (const char* more :
         {"{sparsity_ratio: 0, experts: 0.25}",
          "{sparsity_ratio: 0.4, experts: 0.5, hidden: 0.25}",
          "{sparsity_ratio: 0.5, experts: 0.9, allocation: global}",
          "{experts: 0.4, target_layers: [layers.1.mlp.*]}"})
      out.emplace_back(more);
  return out;
}

// What one unit holds.
std::int64_t of_head(const Architecture& a) {
  // Rows of query with their biases, columns of output.
  return a.head_size * (2 * a.hidden + 1);
}

}  // namespace

TEST_CASE(
    "structured_pruning: the plan, the widths and the record count alike") {
  set_log_level(LogLevel::kOff);
  for (const std::string& name : test::golden_names()) {
    const Model start = read_checkpoint(test::kGolden / name);
    REQUIRE(parameters(start) == by_configuration(start));
    for (const std::string& params : recipes(start)) {
      INFO(name << " " << params);
      // Data changes what goes, not how much, but for thresholds.
      const bool data = params.find("threshold") != std::string::npos;
      const auto run = run_pass("structured_pruning", params, start, data);
      const std::uint64_t after = parameters(run.model);
      CHECK(after == by_configuration(run.model));
      const Json& note = run.notes.at("parameters");
      CHECK(note["before"] == parameters(start));
      CHECK(note["planned"] == after);
      CHECK(note["after"] == after);
      // A plan without data knows uniform widths.
      if (params.find("global") != std::string::npos ||
          params.find("threshold") != std::string::npos)
        continue;
      CHECK(parameters(test::planned("structured_pruning", params, start)) ==
            after);
    }
  }
}

TEST_CASE("structured_pruning: by hand, parameters of heads and channels") {
  // Four heads of size 16 on two keys, H = 48, queries with biases.
  const Model start = read_checkpoint(test::kGolden / "glm");
  const Architecture& a = start.architecture;
  const BlockWidths& from = a.blocks[0];
  const auto run =
      run_pass("structured_pruning", "{sparsity_ratio: 0.5}", start);
  const BlockWidths& to = run.model.architecture.blocks[0];
  REQUIRE(to.query_heads < from.query_heads);
  REQUIRE(to.ffn < from.ffn);
  const std::int64_t heads = from.query_heads - to.query_heads;
  const std::int64_t channels = from.ffn - to.ffn;
  // A channel: two rows of gate_up, a column of down.
  CHECK(parameters(start) - parameters(run.model) ==
        static_cast<std::uint64_t>(
            a.layers() * (heads * of_head(a) + channels * 3 * a.hidden)));
}

TEST_CASE("structured_pruning: by hand, parameters of experts") {
  for (const char* name : {"glm4_moe_air", "glm_moe_dsa"}) {
    INFO(name);
    const Model start = read_checkpoint(test::kGolden / name);
    const Architecture& a = start.architecture;
    const auto run = run_pass("structured_pruning",
                              "{sparsity_ratio: 0, experts: 0.25}", start);
    std::int64_t wanted = 0;
    for (const BlockWidths& w : a.blocks)
      // Gate, up and down, a row of the router, a correction bias.
      wanted += w.experts / 4 * (3 * w.ffn * a.hidden + a.hidden + 1);
    CHECK(wanted > 0);
    CHECK(parameters(start) - parameters(run.model) ==
          static_cast<std::uint64_t>(wanted));
  }
}

TEST_CASE(
    "structured_pruning: by hand, parameters of a channel of the stream") {
  const Model start = read_checkpoint(test::kGolden / "glm4");
  const Architecture& a = start.architecture;
  const auto run = run_pass("structured_pruning",
                            "{sparsity_ratio: 0, hidden: 0.25}", start);
  const std::int64_t gone = a.hidden - run.model.architecture.hidden;
  CHECK(gone == a.hidden / 4);
  std::int64_t of_channel = 2 * a.vocabulary + 1;  // embedding, head, last norm
  for (const BlockWidths& w : a.blocks)
    of_channel += 2 * (w.query_heads + w.kv_heads) * a.head_size  // q k v o
                  + 3 * w.ffn + 4;                                // and norms
  CHECK(parameters(start) - parameters(run.model) ==
        static_cast<std::uint64_t>(gone * of_channel));
}

TEST_CASE("structured_pruning: target_parameters is met within one unit each") {
  set_log_level(LogLevel::kOff);
  for (const std::string& name : test::golden_names())
    for (const char* more : {"", ", hidden: 0.2, align: 8", ", heads: false"})
      for (const double share : {0.85, 0.7}) {
        INFO(name << more << " " << share);
        const Model start = read_checkpoint(test::kGolden / name);
        const auto most = static_cast<std::uint64_t>(
            share * static_cast<double>(parameters(start)));
        const auto with = [&](std::uint64_t target) {
          return test::planned(
              "structured_pruning",
              fmt::format("{{target_parameters: {}{}}}", target, more), start);
        };
        Model got;
        try {
          got = with(most);
        } catch (const Error&) {
          continue;  // less than what may be cut
        }
        CHECK(parameters(got) <= most);
        // The next wider model that a ratio gives is too large: with one unit
        // more of each width in every layer at the most.
        const Architecture& a = got.architecture;
        const std::int64_t align =
            std::string(more).find("align") != std::string::npos ? 8 : 1;
        std::uint64_t step = 0;
        for (std::size_t i = 0; i < a.blocks.size(); ++i) {
          Architecture wider = a;
          BlockWidths& w = wider.blocks[i];
          const std::int64_t ffn = std::max<std::int64_t>(
              align, start.architecture.blocks[i].ffn >= 64 ? 8 : 1);
          const std::int64_t shared =
              w.shared_ffn / std::max<std::int64_t>(1, w.ffn);
          w.ffn += ffn;
          w.shared_ffn += shared * ffn;
          const std::int64_t per_key = w.query_heads / w.kv_heads;
          const auto& from = start.architecture.blocks[i];
          if (from.query_heads == from.kv_heads)
            w.query_heads = ++w.kv_heads;
          else
            w.query_heads = w.kv_heads * (per_key + 1);
          step += of_block(wider, i) - of_block(a, i);
        }
        if (parameters(got) < parameters(with(1'000'000'000)))
          CHECK(parameters(got) + step > most);
      }
}
