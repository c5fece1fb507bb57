#include "passes/distillation/unit_masks.h"

#include <algorithm>
#include <numeric>

#include "autoglm/core/error.h"
#include "autoglm/model/block_parts.h"
#include "passes/pruning/coupled_rows.h"

namespace autoglm {
namespace {

// Units on or off of one set, best first.
std::vector<std::int64_t> ranked(const at::Tensor& mask, bool on,
                                 const at::Tensor& scores, std::int64_t begin,
                                 std::int64_t count) {
  const auto* flags = mask.const_data_ptr<bool>();
  const auto* values = scores.const_data_ptr<double>();
  std::vector<std::int64_t> out;
  for (std::int64_t u = begin; u < begin + count; ++u)
    if (flags[u] == on) out.push_back(u);
  std::stable_sort(out.begin(), out.end(), [&](std::int64_t a, std::int64_t b) {
    return values[a] > values[b];
  });
  return out;
}

at::Tensor plain(const at::Tensor& scores) {
  return scores.detach().to(at::kCPU, at::kDouble).contiguous();
}

at::Tensor gated(const at::Tensor& weight, const at::Tensor& gate,
                 std::int64_t columns) {
  return weight *
         (columns == 1 ? gate : gate.repeat_interleave(columns)).unsqueeze(0);
}

void cut_part(const Architecture& a, Block& block, const UnitPart& part,
              const at::Tensor& mask) {
  Linear& reader = *find_linear(block, part.reader);
  const at::Tensor weight = std::get<DenseWeight>(reader.weight).value;
  const at::Tensor kept =
      at::nonzero(mask.to(at::kCPU)).flatten().to(weight.device());
  const auto expanded = [&](std::int64_t size) {
    return (kept.unsqueeze(1) * size + at::arange(size, kept.options()))
        .flatten();
  };
  // The rows first: they are counted by the columns that still read them.
  if (part.part == BlockPart::kMlp)
    keep_channel_rows(block.mlp, kept);
  else
    keep_head_rows(a, block, expanded(part.heads),
                   part.heads > 1 ? kept : at::Tensor());
  reader.weight = DenseWeight{pick(weight, 1, expanded(part.columns))};
}

}  // namespace

Model masked_model(const Model& model, const std::vector<UnitPart>& parts,
                   const std::vector<at::Tensor>& gates) {
  Model out = model;
  for (std::size_t p = 0; p < parts.size(); ++p) {
    Linear& reader = *find_linear(out.blocks[parts[p].layer], parts[p].reader);
    reader.weight =
        DenseWeight{gated(std::get<DenseWeight>(reader.weight).value, gates[p],
                          parts[p].columns)};
  }
  return out;
}

Model cut_model(Model model, const std::vector<UnitPart>& parts,
                const std::vector<at::Tensor>& masks) {
  for (std::size_t p = 0; p < parts.size(); ++p)
    cut_part(model.architecture, model.blocks[parts[p].layer], parts[p],
             masks[p]);
  update_widths(model);
  return model;
}

MaskChange next_mask(const UnitPart& part, const at::Tensor& mask,
                     const at::Tensor& importance, const at::Tensor& growth,
                     std::int64_t kept, double share) {
  const std::int64_t size = part.units / part.sets, stay = kept / part.sets;
  AUTOGLM_ENSURE(kept % part.sets == 0 && stay > 0);
  const at::Tensor old = mask.contiguous();
  const at::Tensor worth = plain(importance), wish = plain(growth);
  MaskChange out = {at::zeros({part.units}, at::kBool), 0};
  bool* flags = out.mask.mutable_data_ptr<bool>();
  for (std::int64_t begin = 0; begin < part.units; begin += size) {
    const auto on = ranked(old, true, worth, begin, size);
    const auto off = ranked(old, false, wish, begin, size);
    AUTOGLM_ENSURE(static_cast<std::int64_t>(on.size()) >= stay);
    const auto wanted = std::count_if(off.begin(), off.end(), [&](auto u) {
      return wish.const_data_ptr<double>()[u] > 0;
    });
    const std::int64_t grown = std::min<std::int64_t>(
        {static_cast<std::int64_t>(share * static_cast<double>(off.size())),
         static_cast<std::int64_t>(wanted), stay / 2});
    for (std::int64_t i = 0; i < stay - grown; ++i)
      flags[on[static_cast<std::size_t>(i)]] = true;
    for (std::int64_t i = 0; i < grown; ++i)
      flags[off[static_cast<std::size_t>(i)]] = true;
    out.regrown += grown;
  }
  return out;
}

std::vector<double> masking_losses(const UnitPart& part, const at::Tensor& mask,
                                   const at::Tensor& importance) {
  std::vector<double> out(static_cast<std::size_t>(part.units) + 1, 0);
  const std::int64_t size = part.units / part.sets;
  const at::Tensor old = mask.contiguous(), worth = plain(importance);
  std::vector<std::vector<std::int64_t>> on;
  for (std::int64_t begin = 0; begin < part.units; begin += size)
    on.push_back(ranked(old, true, worth, begin, size));
  double sum = 0;
  auto left = static_cast<std::int64_t>(on.front().size());
  for (; left > 1; --left) {
    for (const auto& set : on)
      sum += worth.const_data_ptr<double>()[set.at(
          static_cast<std::size_t>(left - 1))];
    out[static_cast<std::size_t>((left - 1) * part.sets)] = sum;
  }
  return out;
}

}  // namespace autoglm
