#include "passes/quantization/allocate_bits.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "autoglm/core/error.h"
#include "autoglm/core/text.h"
#include "autoglm/model/footprint.h"
#include "passes/allocation.h"

namespace autoglm {
namespace {

std::uint64_t weights_of(const Model& model, const FusedUnit& unit) {
  std::uint64_t out = 0;
  for (const std::string& name : unit.matrices) {
    const Weight& weight = weight_of(model, name);
    out += static_cast<std::uint64_t>(rows(weight) * columns(weight));
  }
  return out;
}

// The units with what each width takes; damages are still 0.
struct Table {
  std::vector<FusedUnit> units;
  std::vector<std::vector<Choice>> choices;
  std::uint64_t weights = 0;  // of all units
};

Table make_table(const Model& model, const BitRequest& request) {
  Table out;
  out.units = fused_units(model, request.widths);
  for (const FusedUnit& unit : out.units) {
    AUTOGLM_ENSURE(std::is_sorted(unit.widths.begin(), unit.widths.end()));
    out.choices.emplace_back();
    for (const int bits : unit.widths) {
      Choice choice{bits, 0, 0};
      for (const std::string& name : unit.matrices)
        choice.bytes += request.bytes(name, bits);
      out.choices.back().push_back(choice);
    }
    out.weights += weights_of(model, unit);
  }
  return out;
}

double bits_per_weight(std::uint64_t bytes, const Table& table) {
  return 8 * static_cast<double>(bytes) / static_cast<double>(table.weights);
}

// Bytes that all units may take. Throws kConfig if they cannot do with them.
std::uint64_t budget_of(const Model& model, const BitRequest& request,
                        const Table& table) {
  const std::uint64_t least = smallest_bytes(table.choices);
  std::uint64_t budget = std::numeric_limits<std::uint64_t>::max();
  if (request.average_bits > 0) {
    // What is written in decimals may fall short of a whole byte by rounding.
    budget = static_cast<std::uint64_t>(
        request.average_bits * static_cast<double>(table.weights) / 8 + 1e-3);
    if (least > budget)
      fail(ErrorKind::kConfig,
           fmt::format("quantization: average_bits is {}, but the narrowest "
                       "widths take {:.4g} bits per weight (codes, scales and "
                       "zero points)",
                       request.average_bits, bits_per_weight(least, table)));
  }
  if (request.max_size > 0) {
    std::uint64_t others = footprint(model).total().bytes;
    for (const auto& [name, widths] : request.widths)
      others -= bytes(weight_of(model, name));
    if (others + least > request.max_size)
      fail(ErrorKind::kConfig,
           fmt::format("quantization: max_size is {} bytes, but with the "
                       "narrowest widths the model takes {}, {} of them not "
                       "quantized",
                       request.max_size, others + least, others));
    budget = std::min(budget, request.max_size - others);
  }
  if (request.average_bits <= 0 && request.max_size == 0)
    fail(ErrorKind::kConfig,
         "quantization: bits: auto needs average_bits or max_size");
  return budget;
}

std::map<std::string, int> widths_of(const Table& table,
                                     const Allocation& found) {
  std::map<std::string, int> out;
  for (std::size_t u = 0; u < table.units.size(); ++u)
    for (const std::string& name : table.units[u].matrices)
      out[name] = table.choices[u][found.chosen[u]].bits;
  return out;
}

Json facts_of(const Model& model, const Table& table, std::size_t u,
              std::size_t chosen, const std::vector<double>& measured) {
  const FusedUnit& unit = table.units[u];
  Json widths = Json::array();
  for (std::size_t i = 0; i < unit.widths.size(); ++i) {
    const Choice& choice = table.choices[u][i];
    Json entry = {{"bits", choice.bits}, {"bytes", choice.bytes}};
    if (unit.widths.size() > 1) entry["kl"] = measured[i];
    widths.push_back(std::move(entry));
  }
  return {{"unit", unit.name},
          {"weights", weights_of(model, unit)},
          {"widths", std::move(widths)},
          {"bits", table.choices[u][chosen].bits}};
}

}  // namespace

std::map<std::string, int> allocate_bits(const Model& model,
                                         PassContext& context,
                                         const BitRequest& request,
                                         const QuantizeMatrix& quantize) {
  if (!context.calibration.defined())
    fail(ErrorKind::kConfig, "quantization: bits: auto needs calibration text");
  Table table = make_table(model, request);
  const std::uint64_t budget = budget_of(model, request, table);
  const at::Tensor windows =
      spread_windows(context.calibration, request.windows);
  const std::vector<std::vector<double>> measured =
      measure_sensitivity(model, windows.to(device(model.embedding)),
                          context.prefix, table.units, quantize);
  for (std::size_t u = 0; u < measured.size(); ++u)
    for (std::size_t i = 0; i < measured[u].size(); ++i) {
      double& damage = table.choices[u][i].damage;
      damage = measured[u][i];
      if (i > 0) damage = std::min(damage, table.choices[u][i - 1].damage);
    }
  const Allocation found = allocate(table.choices, budget);
  Json notes = Json::array();
  for (std::size_t u = 0; u < measured.size(); ++u)
    notes.push_back(facts_of(model, table, u, found.chosen[u], measured[u]));
  context.note("sensitivity", std::move(notes));
  context.note("allocation",
               {{"average_bits", bits_per_weight(found.bytes, table)},
                {"bytes", found.bytes},
                {"predicted_kl", found.damage},
                {"windows", windows.size(0)}});
  return widths_of(table, found);
}

std::map<std::string, int> plan_bits(const Model& shapes,
                                     const BitRequest& request) {
  Table table = make_table(shapes, request);
  const std::uint64_t budget = budget_of(shapes, request, table);
  for (std::size_t u = 0; u < table.units.size(); ++u)
    for (Choice& choice : table.choices[u])
      choice.damage =
          std::ldexp(static_cast<double>(weights_of(shapes, table.units[u])),
                     -2 * choice.bits);
  return widths_of(table, allocate(table.choices, budget));
}

}  // namespace autoglm
