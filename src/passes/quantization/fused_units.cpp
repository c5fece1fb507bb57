#include "passes/quantization/fused_units.h"

#include <algorithm>

#include "autoglm/core/text.h"
#include "autoglm/model/block_parts.h"
#include "autoglm/model/forward.h"

namespace autoglm {
namespace {

// The units among matrices that are fused: one per list of widths.
class Units {
 public:
  explicit Units(const Widths& widths) : widths_(widths) {}

  /// `names` below `prefix`, which both belong to the unit's name. A matrix's
  /// kind is what follows the last dot.
  void add(const std::string& title, std::int64_t layer,
           const std::vector<std::string>& names) {
    const std::size_t first = units_.size();
    for (const std::string& name : names) {
      const auto found = widths_.find(name);
      if (found == widths_.end()) continue;
      auto unit = std::find_if(
          units_.begin() + static_cast<std::ptrdiff_t>(first), units_.end(),
          [&](const FusedUnit& u) { return u.widths == found->second; });
      if (unit == units_.end())
        unit = units_.insert(unit, {title, layer, {}, found->second});
      unit->matrices.push_back(name);
    }
    for (std::size_t i = first; i < units_.size(); ++i)
      units_[i].name += kinds(units_[i].matrices);
  }

  std::vector<FusedUnit> take() { return std::move(units_); }

 private:
  // "query+key+value"
  static std::string kinds(const std::vector<std::string>& names) {
    std::vector<std::string> out;
    for (const std::string& name : names) {
      const std::string kind = name.substr(name.rfind('.') + 1);
      if (std::find(out.begin(), out.end(), kind) == out.end())
        out.push_back(kind);
    }
    return fmt::format("{}", fmt::join(out, "+"));
  }

  const Widths& widths_;
  std::vector<FusedUnit> units_;
};

}  // namespace

std::vector<FusedUnit> fused_units(const Model& model, const Widths& widths) {
  Units units(widths);
  units.add("", -1, {"embedding"});
  for (std::size_t i = 0; i < model.blocks.size(); ++i) {
    const Block& block = model.blocks[i];
    const auto layer = static_cast<std::int64_t>(i);
    const std::string prefix = fmt::format("layers.{}.", i);
    for (const SiteMatrices& site : block_sites(block)) {
      std::vector<std::string> names;
      for (const std::string& name : site.names) names.push_back(prefix + name);
      const std::string& any = names.front();
      units.add(any.substr(0, any.rfind('.') + 1), layer, names);
    }
    std::vector<std::string> experts;
    visit_block(
        block,
        [&](const std::string& name, const Linear&) {
          if (name.starts_with("mlp.experts."))
            experts.push_back(prefix + name);
        },
        [](const std::string&, const at::Tensor&) {});
    units.add(prefix + "mlp.experts.*.", layer, experts);
  }
  units.add("", static_cast<std::int64_t>(model.blocks.size()), {"head"});
  return units.take();
}

}  // namespace autoglm
