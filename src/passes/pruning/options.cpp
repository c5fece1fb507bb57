#include "passes/pruning/options.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "autoglm/core/error.h"
#include "autoglm/core/text.h"
#include "autoglm/model/block_parts.h"
#include "autoglm/model/footprint.h"
#include "passes/pruning/coupled_rows.h"
#include "passes/pruning/experts.h"

namespace autoglm {
namespace {

// The multiple of `unit` nearest to the share that stays; at least one unit.
std::int64_t kept_width(std::int64_t width, double ratio, std::int64_t unit) {
  if (ratio == 0) return width;
  const double wanted = static_cast<double>(width) * (1 - ratio);
  const auto units = static_cast<std::int64_t>(
      std::llround(wanted / static_cast<double>(unit)));
  return std::min(width, std::max<std::int64_t>(1, units) * unit);
}

// Throws kConfig where a matrix that is to be cut is quantized.
void check_dense(const Architecture& a, const Block& block, std::size_t layer,
                 const PruningTarget& target) {
  std::set<std::string> cut;
  if (target.heads) {
    const at::Tensor none =
        at::empty({0}, at::TensorOptions(at::kLong).device(at::kMeta));
    const bool groups = target.widths.kv_heads != a.blocks[layer].kv_heads;
    for (const Rows& part :
         head_rows(a, block, none, groups ? none : at::Tensor()))
      cut.insert(part.name);
    cut.insert("attention.output");
  }
  visit_block(
      block,
      [&](const std::string& name, const Linear& part) {
        if (!std::holds_alternative<DenseWeight>(part.weight) &&
            (cut.contains(name) || (target.ffn && name.starts_with("mlp."))))
          fail(ErrorKind::kConfig,
               fmt::format("structured_pruning: layers.{}.{} is quantized; put "
                           "pruning before quantization",
                           layer, name));
      },
      [](const std::string&, const at::Tensor&) {});
}

void set_ffn(BlockWidths& to, const BlockWidths& from, std::int64_t ffn,
             std::int64_t shared) {
  to.ffn = ffn;
  // Stock loaders take shared experts to be a whole number of routed ones.
  if (from.shared_ffn > 0)
    to.shared_ffn = from.shared_ffn % from.ffn == 0
                        ? to.ffn * (from.shared_ffn / from.ffn)
                        : shared;
}

BlockWidths widths_at(const BlockWidths& from, Part part, double ratio,
                      const PruningOptions& options) {
  BlockWidths to = from;
  if (part == Part::kMlp) {
    set_ffn(to, from,
            kept_width(from.ffn, ratio, ffn_alignment(from.ffn, options.align)),
            kept_width(from.shared_ffn, ratio,
                       ffn_alignment(from.shared_ffn, options.align)));
  } else if (from.query_heads == from.kv_heads) {
    to.query_heads = to.kv_heads = kept_width(from.query_heads, ratio, 1);
  } else if (options.kv_groups) {
    to.kv_heads = kept_width(from.kv_heads, ratio, 1);
    to.query_heads = to.kv_heads * (from.query_heads / from.kv_heads);
  } else {
    to.query_heads =
        from.kv_heads * kept_width(from.query_heads / from.kv_heads, ratio, 1);
  }
  return to;
}

// What of a block is selected, and allowed to be cut.
struct Selected {
  bool heads, ffn, experts;
};

std::vector<Selected> selected_parts(const Model& model,
                                     const PruningOptions& options) {
  const std::vector<std::string> selected =
      select_linears(model, options.target_layers);
  const auto any = [&](std::size_t layer, const char* part) {
    const std::string prefix = fmt::format("layers.{}.{}.", layer, part);
    return std::any_of(
        selected.begin(), selected.end(),
        [&](const std::string& name) { return name.starts_with(prefix); });
  };
  std::vector<Selected> out;
  bool mixtures = false;
  for (std::size_t i = 0; i < model.blocks.size(); ++i) {
    const bool mlp = any(i, "mlp");
    out.push_back({(options.heads || options.kv_groups) && any(i, "attention"),
                   options.ffn && mlp,
                   options.experts > 0 && mlp && model.blocks[i].is_mixture()});
    mixtures = mixtures || out.back().experts;
  }
  if (options.experts > 0 && !mixtures)
    fail(ErrorKind::kConfig,
         "structured_pruning: experts: no selected block has routed experts");
  return out;
}

std::vector<PruningTarget> targets_at(const Model& model,
                                      const std::vector<Selected>& selected,
                                      double ratio,
                                      const PruningOptions& options) {
  std::vector<PruningTarget> out;
  for (std::size_t i = 0; i < selected.size(); ++i) {
    const BlockWidths& from = model.architecture.blocks[i];
    PruningTarget target = {false, false, from};
    if (selected[i].heads)
      target.widths = widths_at(from, Part::kAttention, ratio, options);
    if (selected[i].ffn)
      target.widths = widths_at(target.widths, Part::kMlp, ratio, options);
    if (selected[i].experts)
      target.widths.experts =
          experts_left(from, model.architecture.router, options.experts);
    target.heads = target.widths.query_heads != from.query_heads;
    target.ffn = target.widths.ffn != from.ffn ||
                 target.widths.shared_ffn != from.shared_ffn;
    target.experts = target.widths.experts != from.experts;
    out.push_back(target);
  }
  return out;
}

Size size_at(const Model& shapes, const std::vector<PruningTarget>& targets) {
  Model narrow = shapes;
  for (std::size_t i = 0; i < targets.size(); ++i)
    narrow_block(shapes.architecture, narrow.blocks[i], targets[i]);
  update_widths(narrow);
  return footprint(narrow).total();
}

// The least ratio that keeps the limits; widths fall as it rises.
std::vector<PruningTarget> solved_targets(const Model& model,
                                          const std::vector<Selected>& selected,
                                          const PruningOptions& options) {
  const Model shapes = to_device(model, at::kMeta);
  const auto at = [&](double ratio) {
    return targets_at(model, selected, ratio, options);
  };
  const auto keeps = [&](double ratio) {
    const Size size = size_at(shapes, at(ratio));
    const auto most = static_cast<std::uint64_t>(options.target_parameters);
    return (most == 0 || size.parameters <= most) &&
           (options.target_size.bytes == 0 ||
            size.bytes <= options.target_size.bytes);
  };
  if (keeps(0)) return at(0);
  double too_low = 0, enough = 0.9;
  if (!keeps(enough)) {
    const Size size = size_at(shapes, at(enough));
    fail(ErrorKind::kConfig,
         fmt::format(
             "structured_pruning: cutting nine tenths of what is selected "
             "leaves {} parameters in {} bytes, more than the target",
             size.parameters, size.bytes));
  }
  // Finer than one unit of any width.
  while (enough - too_low > 1e-7) {
    const double middle = (too_low + enough) / 2;
    (keeps(middle) ? enough : too_low) = middle;
  }
  return at(enough);
}

}  // namespace

std::int64_t ffn_alignment(std::int64_t ffn, std::int64_t align) {
  if (align > 0) return align;
  // 256 suits every low-bit kernel and loader; small models cannot afford it.
  return ffn >= 4096 ? 256 : ffn >= 256 ? 64 : ffn >= 64 ? 8 : 1;
}

std::int64_t hidden_left(std::int64_t hidden, const PruningOptions& options) {
  return kept_width(hidden, options.hidden,
                    ffn_alignment(hidden, options.align));
}

std::vector<PruningTarget> uniform_targets(const Model& model,
                                           const PruningOptions& options) {
  const auto selected = selected_parts(model, options);
  const bool limits =
      options.target_parameters > 0 || options.target_size.bytes > 0;
  const std::vector<PruningTarget> out =
      limits ? solved_targets(model, selected, options)
             : targets_at(model, selected, options.sparsity_ratio, options);
  for (std::size_t i = 0; i < out.size(); ++i)
    check_dense(model.architecture, model.blocks[i], i, out[i]);
  return out;
}

std::vector<BlockWidths> width_levels(const BlockWidths& from, Part part,
                                      const PruningOptions& options) {
  constexpr int kLevels = 12;
  std::vector<BlockWidths> out = {from};
  for (int i = 1; i < kLevels; ++i) {
    const BlockWidths next =
        widths_at(from, part, static_cast<double>(i) / kLevels, options);
    if (!(next == out.back())) out.push_back(next);
  }
  return out;
}

BlockWidths width_for(const BlockWidths& from, Part part, std::int64_t count,
                      const PruningOptions& options) {
  const auto up = [](std::int64_t wanted, std::int64_t unit,
                     std::int64_t most) {
    return std::min(
        most, std::max<std::int64_t>(1, (wanted + unit - 1) / unit) * unit);
  };
  BlockWidths to = from;
  if (part == Part::kMlp) {
    const std::int64_t unit = ffn_alignment(from.ffn, options.align);
    const std::int64_t ffn = up(count, unit, from.ffn);
    set_ffn(to, from, ffn,
            up(from.shared_ffn * ffn / from.ffn, unit, from.shared_ffn));
  } else if (from.query_heads == from.kv_heads) {
    to.query_heads = to.kv_heads = up(count, 1, from.query_heads);
  } else {
    const std::int64_t per_group = from.query_heads / from.kv_heads;
    if (options.kv_groups) {
      to.query_heads = up(count, per_group, from.query_heads);
      to.kv_heads = to.query_heads / per_group;
    } else {
      to.query_heads = up(count, from.kv_heads, from.query_heads);
    }
  }
  return to;
}

}  // namespace autoglm
