#include "passes/quantization/allocate_bits.h"

#include <cmath>
#include <limits>
#include <set>

#include "autoglm/model/footprint.h"
#include "tests/passes/row_rounding.h"
#include "tests/support/throws.h"
#include "tests/support/tiny_model.h"

using namespace autoglm;

namespace {

const std::vector<int> kWidths = {2, 3, 4, 5, 6, 7, 8};

// All matrices in the blocks.
BitRequest request_for(const Model& model, const std::vector<int>& widths) {
  BitRequest out;
  for (const NamedLinear& linear : named_linears(model))
    if (linear.layer >= 0) out.widths[linear.name] = widths;
  out.bytes = [&model](const std::string& name, int bits) {
    const Weight& weight = weight_of(model, name);
    return bytes(
        pack_weight(at::zeros({rows(weight), columns(weight)}, at::kByte),
                    at::zeros({rows(weight), 1}, at::kBFloat16), {}, bits,
                    columns(weight)));
  };
  return out;
}

struct Run {
  std::map<std::string, int> bits;
  std::map<std::string, Json> notes;
};

Run run(const Model& model, const BitRequest& request) {
  Run out;
  PassContext context;
  at::manual_seed(4);
  context.calibration =
      test::random_windows(6, 20, model.architecture.vocabulary);
  context.prefix = 2;
  context.note = [&](const std::string& name, Json value) {
    out.notes[name] = std::move(value);
  };
  out.bits =
      allocate_bits(model, context, request, test::rounds_rows_of(model));
  return out;
}

Model quantized(const Model& model, const std::map<std::string, int>& bits) {
  Model out = model;
  for (const auto& [name, width] : bits)
    weight_of(out, name) = test::rounded_rows(weight_of(model, name), width);
  return out;
}

// Bits per weight of what `bits` names.
double average(const Model& model, const std::map<std::string, int>& bits) {
  double total = 0, weights = 0;
  const Model packed = quantized(model, bits);
  for (const auto& [name, width] : bits) {
    const Weight& weight = weight_of(packed, name);
    total += 8 * static_cast<double>(bytes(weight));
    weights += static_cast<double>(rows(weight) * columns(weight));
  }
  return total / weights;
}

std::string refusal(const Model& model, const BitRequest& request) {
  const std::string run_text =
      test::error_of(ErrorKind::kConfig, [&] { run(model, request); });
  // A plan knows it before there is data.
  CHECK(test::error_of(ErrorKind::kConfig, [&] {
          plan_bits(to_device(model, at::kMeta), request);
        }) == run_text);
  return run_text;
}

}  // namespace

TEST_CASE("allocate bits: the average is kept and units stay together") {
  for (const std::string& family : test::tiny_families())
    for (const double limit : {3.5, 4.75}) {
      INFO(family << ", " << limit);
      const Model model = test::tiny_model(family);
      BitRequest request = request_for(model, kWidths);
      request.average_bits = limit;
      const Run found = run(model, request);
      CHECK(found.bits.size() == request.widths.size());
      const double bits = average(model, found.bits);
      CHECK(bits <= limit);
      CHECK(bits > limit - 0.3);
      CHECK(found.notes.at("allocation")["average_bits"].get<double>() ==
            Approx(bits));
      std::set<int> different;
      for (const FusedUnit& unit : fused_units(model, request.widths))
        for (const std::string& name : unit.matrices) {
          CHECK(found.bits.at(name) == found.bits.at(unit.matrices[0]));
          different.insert(found.bits.at(name));
        }
      CHECK(different.size() > 1);
      CHECK(average(model, plan_bits(model, request)) <= limit);
    }
}

TEST_CASE("allocate bits: the best sum of the noted table within the budget") {
  const Model model = test::tiny_model();
  BitRequest request = request_for(model, {2, 4, 8});
  request.average_bits = 4.6;
  const Run found = run(model, request);
  const Json& units = found.notes.at("sensitivity");
  REQUIRE(units.size() == 8);
  // All 3^8 ways; wider ones do no more damage than narrower ones.
  double best = std::numeric_limits<double>::infinity(), chosen = 0;
  std::uint64_t budget = 0;
  for (const Json& unit : units) budget += unit["weights"].get<std::uint64_t>();
  budget = static_cast<std::uint64_t>(static_cast<double>(budget) *
                                      request.average_bits / 8);
  for (int way = 0; way < 6561; ++way) {
    double damage = 0;
    std::uint64_t bytes = 0;
    int rest = way;
    for (const Json& unit : units) {
      const auto at = static_cast<std::size_t>(rest % 3);
      rest /= 3;
      double least = std::numeric_limits<double>::infinity();
      for (std::size_t i = 0; i <= at; ++i)
        least = std::min(least, unit["widths"][i]["kl"].get<double>());
      damage += least;
      bytes += unit["widths"][at]["bytes"].get<std::uint64_t>();
    }
    if (bytes <= budget) best = std::min(best, damage);
  }
  CHECK(found.notes.at("allocation")["predicted_kl"].get<double>() ==
        Approx(best).epsilon(1e-12));
  for (const Json& unit : units)
    for (const Json& width : unit["widths"])
      if (width["bits"] == unit["bits"]) chosen += width["kl"].get<double>();
  CHECK(chosen == Approx(best).epsilon(1e-12));
}

TEST_CASE("allocate bits: the whole model fits the size") {
  const Model model = test::tiny_model();
  BitRequest request = request_for(model, kWidths);
  const auto size = [&](const std::map<std::string, int>& bits) {
    return footprint(quantized(model, bits)).total().bytes;
  };
  std::map<std::string, int> fours;
  for (const auto& [name, widths] : request.widths) fours[name] = 4;
  request.max_size = size(fours) + 300;
  const Run found = run(model, request);
  CHECK(size(found.bits) <= request.max_size);
  CHECK(size(found.bits) + 1000 > request.max_size);
  CHECK(size(plan_bits(model, request)) <= request.max_size);
  // Of two limits the tighter one.
  request.average_bits = 3;
  CHECK(average(model, run(model, request).bits) <= 3);
}

TEST_CASE("allocate bits: what does no damage gets the fewest bits") {
  Model model = test::tiny_model();
  model.blocks[1].mlp.down.weight =
      DenseWeight{at::zeros({32, 48}, at::kBFloat16)};
  BitRequest request = request_for(model, kWidths);
  request.average_bits = 5;
  const Run found = run(model, request);
  CHECK(found.bits.at("layers.1.mlp.down") == 2);
  // And nothing comes from what it feeds.
  CHECK(found.bits.at("layers.1.mlp.gate_up") == 2);
  CHECK(found.bits.at("layers.0.mlp.down") > 4);
}

TEST_CASE("allocate bits: a width that is given counts in the average") {
  const Model model = test::tiny_model();
  BitRequest request = request_for(model, kWidths);
  request.widths["head"] = {8};
  request.widths["layers.0.mlp.down"] = {7};
  request.average_bits = 4.5;
  const Run found = run(model, request);
  CHECK(found.bits.at("head") == 8);
  CHECK(found.bits.at("layers.0.mlp.down") == 7);
  CHECK(average(model, found.bits) <= 4.5);
  CHECK(average(model, found.bits) > 4.3);
  const Json& units = found.notes.at("sensitivity");
  CHECK(units.back()["unit"] == "head");
  CHECK_FALSE(units.back()["widths"][0].contains("kl"));
  CHECK(units[0]["widths"][0].contains("kl"));
}

TEST_CASE("allocate bits: limits that cannot be kept are refused") {
  const Model model = test::tiny_model();
  BitRequest request = request_for(model, {3, 4});
  CHECK(refusal(model, request) ==
        "quantization: bits: auto needs average_bits or max_size");
  // In a block 192 rows of 32 inputs take 96 + 16 bits each, and the 32 rows of
  // down with 48 inputs 5 words and 16 bits: 27136 bits for 7680 weights.
  request.average_bits = 3.5;
  CHECK(refusal(model, request) ==
        "quantization: average_bits is 3.5, but the narrowest widths take "
        "3.533 bits per weight (codes, scales and zero points)");
  request.average_bits = 0;
  std::map<std::string, int> narrowest;
  for (const auto& [name, widths] : request.widths) narrowest[name] = 3;
  const std::uint64_t least =
      footprint(quantized(model, narrowest)).total().bytes;
  request.max_size = least;
  CHECK(run(model, request).bits == narrowest);
  request.max_size = least - 1;
  const std::uint64_t others = [&] {
    std::uint64_t out = least;
    for (const auto& [name, bits] : narrowest) out -= request.bytes(name, 3);
    return out;
  }();
  CHECK(refusal(model, request) ==
        fmt::format("quantization: max_size is {} bytes, but with the "
                    "narrowest widths the model takes {}, {} of them not "
                    "quantized",
                    least - 1, least, others));
}

TEST_CASE("allocate bits: without text there is nothing to measure with") {
  const Model model = test::tiny_model();
  BitRequest request = request_for(model, {3, 4});
  request.average_bits = 8;
  PassContext context;
  CHECK(test::error_of(ErrorKind::kConfig, [&] {
          allocate_bits(model, context, request, test::rounds_rows_of(model));
        }) == "quantization: bits: auto needs calibration text");
}

TEST_CASE("allocate bits: asked again they are the same") {
  const Model model = test::tiny_model("glm4_moe");
  BitRequest request = request_for(model, {2, 4, 8});
  request.average_bits = 4;
  const Run first = run(model, request), second = run(model, request);
  CHECK(first.bits == second.bits);
  CHECK(first.notes == second.notes);
}
