#include "passes/quantization/options.h"

#include <algorithm>
#include <set>

#include "autoglm/core/error.h"
#include "autoglm/core/text.h"
#include "autoglm/model/footprint.h"

namespace autoglm {
namespace {

// What is left of a small model is mostly its vocabulary: there the tables are
// worth packing, elsewhere they are worth keeping. Nobody needs a toy smaller.
std::int64_t automatic_table_bits(const Model& model) {
  const Footprint size = footprint(model);
  const std::uint64_t all = size.total().parameters;
  const std::uint64_t tables = size.embedding.parameters + size.head.parameters;
  return all > 1'000'000 && 5 * tables > all ? 8 : 0;
}

std::int64_t automatic_group(std::int64_t bits, std::int64_t in) {
  if (bits < 8)
    for (const std::int64_t size : {128, 64, 32, 16})
      if (in % size == 0) return size;
  return in;
}

std::int64_t checked_group(const std::string& name, std::int64_t asked,
                           std::int64_t bits, std::int64_t in) {
  const std::int64_t size = asked == 0    ? automatic_group(bits, in)
                            : asked == -1 ? in
                                          : asked;
  if (in % size == 0) return size;
  std::vector<std::int64_t> fitting;
  for (std::int64_t other = 16; other < in; other *= 2)
    if (in % other == 0) fitting.push_back(other);
  fail(ErrorKind::kConfig,
       fmt::format("quantization: the {} inputs of {} do not divide into "
                   "groups of {}; -1 (a whole row){}{} would",
                   in, name, size, fitting.empty() ? "" : ", ",
                   fmt::join(fitting, ", ")));
}

std::set<std::string> selected(const Model& model,
                               const std::vector<std::string>& globs) {
  if (globs.empty()) return {};
  const std::vector<std::string> names = select_linears(model, globs);
  return {names.begin(), names.end()};
}

// Throws kConfig where the pass asks for what `scheme` cannot give.
void check_activations(const Model& model, const std::string& name,
                       const Scheme& scheme) {
  if (scheme.activations == "none") return;
  const Grid& grid = scheme.grid;
  const bool rows = grid.group_size == columns(weight_of(model, name));
  if (!scheme.float8 && (grid.bits != 8 || !grid.symmetric || !rows))
    fail(ErrorKind::kConfig,
         fmt::format(
             "quantization: activations: {} needs fp8, or 8 symmetric "
             "bits with one scale per row, but {} has {} bits{}{}",
             scheme.activations, name, grid.bits,
             grid.symmetric ? "" : " with zero points",
             rows ? "" : fmt::format(" in groups of {}", grid.group_size)));
  if (scheme.activations == "static" &&
      name.find(".experts.") != std::string::npos)
    fail(ErrorKind::kConfig,
         fmt::format("quantization: {} is a routed expert, which sees other "
                     "tokens every time; take activations: dynamic",
                     name));
}

// Everything the options say of one matrix, before it is checked.
struct Asked {
  std::int64_t bits = 0;  // 0: leave it
  std::int64_t group_size = 0;
  bool symmetric = true;
  std::string method;
};

}  // namespace

std::map<std::string, Scheme> quantization_schemes(
    const Model& model, const QuantizationOptions& options,
    const std::map<std::string, int>& chosen) {
  if (options.kv_cache_bits != 0 && options.kv_cache_bits != 4 &&
      options.kv_cache_bits != 8)
    fail(ErrorKind::kConfig,
         fmt::format("quantization: kv_cache_bits must be 0, 4 or 8, but is {}",
                     options.kv_cache_bits));
  const std::int64_t automatic = automatic_table_bits(model);
  const std::set<std::string> ignored = selected(model, options.ignore);
  const std::map<std::string, MatrixOverride> overrides =
      resolve_overrides(model, options.overrides);
  const auto ask = [&](const std::string& name) {
    Asked out = {options.bits.number.value_or(8), options.group_size,
                 options.symmetric, options.method};
    if (const auto found = chosen.find(name); found != chosen.end())
      out.bits = found->second;
    const bool head = name == "head", table = head || name == "embedding";
    if (table) {
      const std::int64_t asked =
          head ? options.head_bits : options.embedding_bits;
      const std::int64_t bits = asked < 0 ? automatic : asked;
      if (bits == 1)
        fail(ErrorKind::kConfig,
             fmt::format("quantization: {}_bits must be 0 or 2 to 8, but is 1",
                         name));
      // A size that was asked for belongs to the width it was asked with.
      if (bits != out.bits) out.group_size = 0;
      out.bits = bits;
    }
    if (const auto found = overrides.find(name); found != overrides.end()) {
      const MatrixOverride& entry = found->second;
      if (entry.bits.value_or(out.bits) != out.bits) out.group_size = 0;
      out.bits = entry.ignore ? 0 : entry.bits.value_or(out.bits);
      out.group_size = entry.group_size.value_or(out.group_size);
      out.symmetric = entry.symmetric.value_or(out.symmetric);
      out.method = entry.method.value_or(out.method);
    }
    if (ignored.contains(name)) out.bits = 0;
    return out;
  };
  std::map<std::string, Scheme> out;
  for (const std::string& name : select_linears(model, options.target_layers)) {
    const Asked asked = ask(name);
    if (asked.bits == 0) continue;
    const Weight& weight = weight_of(model, name);
    if (!std::holds_alternative<DenseWeight>(weight))
      fail(ErrorKind::kConfig,
           fmt::format("quantization: {} is already {}; take it out of "
                       "target_layers",
                       name, describe(weight)));
    Scheme& scheme = out[name];
    scheme.method = asked.method;
    scheme.grid.bits = static_cast<int>(asked.bits);
    scheme.grid.symmetric = asked.symmetric;
    scheme.grid.scale_dtype = dtype(weight);
    scheme.grid.group_size =
        checked_group(name, asked.group_size, asked.bits, columns(weight));
    scheme.float8 = options.format == "fp8" && name != "embedding";
    if (scheme.float8) {
      if (asked.bits != 8 || scheme.grid.group_size != columns(weight))
        fail(ErrorKind::kConfig,
             fmt::format("quantization: format: fp8 has 8 bits and one scale "
                         "per row, but {} is asked for {} bits in groups of {}",
                         name, asked.bits, scheme.grid.group_size));
      scheme.method = "rtn";
    }
    if (name.starts_with("layers.")) scheme.activations = options.activations;
    check_activations(model, name, scheme);
  }
  if (out.empty())
    fail(ErrorKind::kConfig,
         "quantization: target_layers selects the head or the embedding alone, "
         "which stay as they are; set head_bits or embedding_bits");
  return out;
}

}  // namespace autoglm
