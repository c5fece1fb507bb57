#include "passes/quantization/fused_units.h"

#include "tests/support/catch.h"
#include "tests/support/tiny_model.h"

using namespace autoglm;

namespace {

using Names = std::vector<std::string>;

Widths all_of(const Model& model, const std::vector<int>& widths) {
  Widths out;
  for (const NamedLinear& linear : named_linears(model))
    out[linear.name] = widths;
  return out;
}

Names names_of(const std::vector<FusedUnit>& units) {
  Names out;
  for (const FusedUnit& unit : units) out.push_back(unit.name);
  return out;
}

// The units of the last block.
Names last_block(const std::string& family) {
  const Model model = test::tiny_model(family);
  Widths widths;
  for (const NamedLinear& linear : named_linears(model))
    if (linear.layer == 1) widths[linear.name] = {2, 4};
  Names out = names_of(fused_units(model, widths));
  for (std::string& name : out) {
    CHECK(name.starts_with("layers.1."));
    name = name.substr(std::string("layers.1.").size());
  }
  return out;
}

}  // namespace

TEST_CASE("fused units: what runtimes join shares its width") {
  CHECK(last_block("glm") == Names{"attention.query+key+value",
                                   "attention.output", "mlp.gate_up",
                                   "mlp.down"});
  CHECK(last_block("chatglm") == Names{"attention.query_key_value",
                                       "attention.output", "mlp.gate_up",
                                       "mlp.down"});
  CHECK(last_block("glm-2021") == Names{"attention.query_key_value",
                                        "attention.output", "mlp.up",
                                        "mlp.down"});
  CHECK(last_block("glm4_moe") == Names{"attention.query+key+value",
                                        "attention.output",
                                        "mlp.shared.gate+up", "mlp.shared.down",
                                        "mlp.experts.*.gate+up+down"});
  CHECK(last_block("glm4_moe_lite") ==
        Names{"attention.query_a+key_value_a", "attention.query_b",
              "attention.key_value_b", "attention.output", "mlp.shared.gate+up",
              "mlp.shared.down", "mlp.experts.*.gate+up+down"});
}

TEST_CASE("fused units: every matrix belongs to one unit in forward order") {
  for (const std::string& family : test::tiny_families()) {
    INFO(family);
    const Model model = test::tiny_model(family);
    const Widths widths = all_of(model, {3, 5});
    const std::vector<FusedUnit> units = fused_units(model, widths);
    std::size_t matrices = 0;
    std::int64_t layer = -1;
    std::map<std::string, int> seen;
    for (const FusedUnit& unit : units) {
      CHECK(unit.layer >= layer);
      layer = unit.layer;
      CHECK(unit.widths == std::vector<int>{3, 5});
      for (const std::string& name : unit.matrices) {
        INFO(name);
        CHECK(widths.contains(name));
        CHECK(++seen[name] == 1);
        ++matrices;
      }
    }
    CHECK(matrices == widths.size());
    CHECK(units.front().name == "embedding");
    CHECK(units.front().layer == -1);
    if (!model.head) continue;
    CHECK(units.back().name == "head");
    CHECK(units.back().layer == 2);
  }
}

TEST_CASE("fused units: matrices that are not asked for are left out") {
  const Model model = test::tiny_model();
  const std::vector<FusedUnit> units = fused_units(
      model,
      {{"layers.0.attention.key", {4, 8}}, {"layers.1.mlp.down", {4, 8}}});
  CHECK(names_of(units) ==
        Names{"layers.0.attention.key", "layers.1.mlp.down"});
  CHECK(units[0].matrices == Names{"layers.0.attention.key"});
  CHECK(fused_units(model, {}).empty());
}

TEST_CASE("fused units: other widths to choose from make another unit") {
  const std::vector<FusedUnit> units =
      fused_units(test::tiny_model(), {{"layers.0.attention.query", {2, 4}},
                                       {"layers.0.attention.key", {8}},
                                       {"layers.0.attention.value", {2, 4}}});
  REQUIRE(names_of(units) ==
          Names{"layers.0.attention.query+value", "layers.0.attention.key"});
  CHECK(units[1].widths == std::vector<int>{8});
}
