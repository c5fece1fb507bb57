#include "passes/distillation/width_timing.h"

#include <ATen/core/grad_mode.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>
#include <chrono>
#include <map>

#include "autoglm/core/log.h"
#include "autoglm/core/progress.h"
#include "autoglm/core/text.h"
#include "autoglm/model/block_parts.h"
#include "autoglm/model/forward.h"
#include "passes/pruning/prune_block.h"

namespace autoglm {
namespace {

using Clock = std::chrono::steady_clock;

// What else runs on the machine only adds to a time.
constexpr double kQuick = 0.25;

void wait_for(at::Device device) {
  if (device.is_cpu()) return;
  c10::impl::VirtualGuardImpl(device.type()).synchronizeDevice(device.index());
}

// Of values in ascending order.
double at_share(const std::vector<double>& sorted, double share) {
  return sorted[static_cast<std::size_t>(
      share * static_cast<double>(sorted.size() - 1))];
}

// Parts that run alike have the same.
std::string shape_of(const TimedPart& part) {
  std::string out = part_name(part.part);
  visit_block(
      part.block,
      [&](const std::string& name, const Linear& linear) {
        out += fmt::format(" {} {}x{} {}{}", name, rows(linear.weight),
                           columns(linear.weight), describe(linear.weight),
                           linear.bias.defined() ? " bias" : "");
      },
      [&](const std::string& name, const at::Tensor&) { out += " " + name; });
  return out;
}

// One part alone on random inputs.
class PartRunner {
 public:
  PartRunner(const Model& model, const TimedPart& part,
             const TimingOptions& options, const at::Tensor& x,
             const AttentionContext& context)
      : x_(x), context_(context), layer_(part.layer) {
    model_ = model;
    model_.blocks = {part.block};
    // A student in training is in fp32; what it becomes is what counts.
    model_ = to_compute(
        to_compute(std::move(model_), options.device, options.stored),
        options.device, options.dtype, QuantizedProduct::kInteger);
  }

  double run() const {
    const at::Device device = x_.device();
    AttentionContext context = context_;
    wait_for(device);
    const auto start = Clock::now();
    block_forward(model_, model_.blocks[0], static_cast<std::int64_t>(layer_),
                  x_, context);
    wait_for(device);
    return std::chrono::duration<double, std::milli>(Clock::now() - start)
        .count();
  }

 private:
  at::Tensor x_;
  AttentionContext context_;
  std::size_t layer_;
  Model model_;
};

// The model without its large tensors, for what a forward pass of a block
// reads of it.
Model numbers_of(const Model& model) {
  Model out;
  out.architecture = model.architecture;
  return out;
}

// Levels to measure: all, or 16 with both ends.
std::vector<std::size_t> measured_levels(std::size_t count) {
  constexpr std::size_t kMost = 16;
  std::vector<std::size_t> out;
  const std::size_t points = std::min(count, kMost);
  for (std::size_t i = 0; i < points; ++i)
    out.push_back(points == 1 ? 0 : i * (count - 1) / (points - 1));
  return out;
}

Block narrowed(const Model& model, const UnitPart& part, std::int64_t count) {
  const bool mlp = part.part == BlockPart::kMlp;
  Block block = without_part(model.blocks[part.layer],
                             mlp ? BlockPart::kAttention : BlockPart::kMlp);
  if (count < part.units)
    narrow_block(
        model.architecture, block,
        {!mlp, mlp,
         widths_with(part, model.architecture.blocks[part.layer], count)});
  return block;
}

std::vector<double> between(const std::vector<std::size_t>& levels,
                            const std::vector<double>& ms,
                            const std::vector<std::int64_t>& widths) {
  std::vector<double> out(widths.size());
  for (std::size_t i = 0; i + 1 < levels.size(); ++i)
    for (std::size_t l = levels[i]; l <= levels[i + 1]; ++l) {
      const double share =
          static_cast<double>(widths[levels[i]] - widths[l]) /
          static_cast<double>(widths[levels[i]] - widths[levels[i + 1]]);
      out[l] = ms[i] + share * (ms[i + 1] - ms[i]);
    }
  if (levels.size() == 1) out[0] = ms[0];
  return out;
}

}  // namespace

std::vector<TimedPart> timed_parts(const Model& model) {
  std::vector<TimedPart> out;
  for (std::size_t i = 0; i < model.blocks.size(); ++i) {
    const Block& block = model.blocks[i];
    if (block.has_attention())
      out.push_back(
          {i, BlockPart::kAttention, without_part(block, BlockPart::kMlp)});
    if (block.has_mlp())
      out.push_back(
          {i, BlockPart::kMlp, without_part(block, BlockPart::kAttention)});
  }
  return out;
}

std::vector<double> time_parts(const Model& model,
                               const std::vector<TimedPart>& parts,
                               const TimingOptions& options) {
  const at::NoGradGuard no_grad;
  Model numbers = numbers_of(model);
  const at::Tensor ids = at::zeros(
      {1, options.tokens}, at::TensorOptions(at::kLong).device(options.device));
  const AttentionContext context = attention_context(numbers, ids);
  const at::Tensor x =
      at::sin(at::arange(options.tokens * model.architecture.hidden,
                         at::TensorOptions(at::kFloat).device(options.device)))
          .view({1, options.tokens, -1})
          .to(options.dtype);
  std::map<std::string, std::size_t> number;  // of a shape's runner
  std::vector<PartRunner> runners;
  std::vector<std::size_t> runner_of;
  for (const TimedPart& part : parts) {
    const auto [place, fresh] = number.emplace(shape_of(part), runners.size());
    if (fresh) runners.emplace_back(numbers, part, options, x, context);
    runner_of.push_back(place->second);
  }
  std::vector<std::vector<double>> samples(runners.size());
  Progress progress("timing widths", options.repeats + 1, "rounds");
  for (std::int64_t round = 0; round <= options.repeats; ++round) {
    for (std::size_t r = 0; r < runners.size(); ++r) {
      const double ms = runners[r].run();
      if (round > 0) samples[r].push_back(ms);  // round 0 warms up
    }
    progress.step();
  }
  double quick = 0, middle = 0;
  for (std::vector<double>& own : samples) {
    std::sort(own.begin(), own.end());
    quick += at_share(own, kQuick);
    middle += at_share(own, 0.5);
  }
  constexpr double kBusy = 1.25;
  if (middle > kBusy * quick)
    log_warning(
        "distillation: this machine is busy: its median times are {:.0f} % "
        "above those of its calm moments, which are used",
        100 * (middle / quick - 1));
  std::vector<double> out;
  for (const std::size_t r : runner_of)
    out.push_back(at_share(samples[r], kQuick));
  return out;
}

double WidthTimes::total(const std::vector<std::size_t>& levels) const {
  double sum = fixed_ms;
  for (std::size_t p = 0; p < parts.size(); ++p) sum += parts[p][levels[p]];
  return sum;
}

WidthTimes time_widths(const Model& model, const std::vector<UnitPart>& parts,
                       const TimingOptions& options) {
  // Cut blocks are copies: of parts that are alike only the first ones are.
  std::vector<TimedPart> all;
  std::map<std::string, std::size_t> first_of;
  std::vector<std::size_t> first;
  for (const UnitPart& part : parts) {
    const auto [place, fresh] = first_of.emplace(
        shape_of({part.layer, part.part, narrowed(model, part, part.units)}),
        all.size());
    first.push_back(place->second);
    if (!fresh) continue;
    for (const std::size_t level : measured_levels(part.widths.size()))
      all.push_back(
          {part.layer, part.part, narrowed(model, part, part.widths[level])});
  }
  const std::size_t with_units = all.size();
  for (TimedPart& fixed : timed_parts(model))
    if (std::none_of(parts.begin(), parts.end(), [&](const UnitPart& part) {
          return part.layer == fixed.layer && part.part == fixed.part;
        }))
      all.push_back(std::move(fixed));
  const std::vector<double> ms = time_parts(model, all, options);
  WidthTimes out;
  for (std::size_t p = 0; p < parts.size(); ++p) {
    const auto levels = measured_levels(parts[p].widths.size());
    const auto begin = ms.begin() + static_cast<std::ptrdiff_t>(first[p]);
    const auto end = begin + static_cast<std::ptrdiff_t>(levels.size());
    out.parts.push_back(
        between(levels, falling({begin, end}), parts[p].widths));
  }
  for (std::size_t i = with_units; i < ms.size(); ++i) out.fixed_ms += ms[i];
  return out;
}

std::vector<double> falling(const std::vector<double>& values) {
  std::vector<std::pair<double, std::size_t>> runs;  // mean, length
  for (const double value : values) {
    runs.emplace_back(value, 1);
    while (runs.size() > 1 && runs[runs.size() - 2].first < runs.back().first) {
      const auto [mean, length] = runs.back();
      runs.pop_back();
      auto& before = runs.back();
      const auto sum = before.second + length;
      before.first = (before.first * static_cast<double>(before.second) +
                      mean * static_cast<double>(length)) /
                     static_cast<double>(sum);
      before.second = sum;
    }
  }
  std::vector<double> out;
  for (const auto& [mean, length] : runs) out.insert(out.end(), length, mean);
  return out;
}

}  // namespace autoglm
