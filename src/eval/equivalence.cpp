#include "autoglm/eval/equivalence.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "autoglm/core/error.h"
#include "autoglm/core/text.h"

namespace autoglm {
namespace {

// Where the streams of both models are to be alike: border k comes after k
// blocks.
struct Border {
  std::string layer;
  std::size_t own, reference;
};

std::vector<Border> common_borders(const Model& model, const Model& reference,
                                   std::string& left_out) {
  const std::int64_t width = model.architecture.hidden;
  const std::int64_t other_width = reference.architecture.hidden;
  if (width != other_width) {
    left_out = fmt::format(
        "the residual stream is {} wide, the reference's {}: only the logits "
        "are compared",
        width, other_width);
    return {};
  }
  const std::size_t own = model.blocks.size(), other = reference.blocks.size();
  std::vector<Border> out = {{"embedding", 0, 0}};
  if (own != other) {
    left_out = fmt::format(
        "{} blocks, the reference has {}: which belong together is not known, "
        "so only the embedding, the last block and the logits are compared",
        own, other);
    out.push_back({"last block", own, other});
    return out;
  }
  for (std::size_t i = 0; i < own; ++i)
    out.push_back({fmt::format("layers.{}", i), i + 1, i + 1});
  return out;
}

double total(const at::Tensor& values) {
  return values.sum(at::kDouble).item<double>();
}

}  // namespace

EquivalenceLimits parse_limits(const std::string& text) {
  EquivalenceLimits out;
  const std::vector<std::pair<std::string, std::optional<double>*>> known = {
      {"cosine", &out.min_cosine},
      {"l2", &out.max_l2},
      {"top1", &out.min_top1_agreement},
      {"kl", &out.max_kl},
      {"kl_p99", &out.max_kl_p99},
      {"accuracy_retention", &out.min_accuracy_retention},
      {"perplexity_ratio", &out.max_perplexity_ratio},
      {"top1_agreement", &out.min_top1_agreement}};
  std::vector<std::string> names;
  for (const auto& [name, limit] : known) names.push_back(name);
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    const std::string entry = text.substr(begin, end - begin);
    begin = end + 1;
    const std::size_t equals = entry.find('=');
    if (equals == std::string::npos)
      fail(ErrorKind::kConfig,
           fmt::format("thresholds: expected measure=number, as in "
                       "cosine=0.99,l2=1e-3, but found '{}'",
                       entry));
    const std::string name = entry.substr(0, equals);
    const auto found =
        std::find_if(known.begin(), known.end(),
                     [&](const auto& one) { return one.first == name; });
    if (found == known.end())
      fail(ErrorKind::kConfig,
           fmt::format("thresholds: no measure '{}'{}; there are {}", name,
                       did_you_mean(name, names), fmt::join(names, ", ")));
    const std::string digits = entry.substr(equals + 1);
    const char* last = digits.data() + digits.size();
    double value = 0;
    const auto [stop, error] = std::from_chars(digits.data(), last, value);
    if (error != std::errc() || stop != last || std::isnan(value))
      fail(ErrorKind::kConfig,
           fmt::format("thresholds: {} is to be a number, but is '{}'", name,
                       digits));
    *found->second = value;
  }
  return out;
}

Equivalence compare_models(const Model& model, const Model& reference,
                           const TokenWindows& windows,
                           EvaluateOptions options) {
  Equivalence out;
  const std::vector<Border> borders =
      common_borders(model, reference, out.left_out);
  for (const Border& border : borders) out.layers.push_back({border.layer});
  double positions = 0;
  if (!borders.empty())
    options.on_states = [&](const std::vector<at::Tensor>& own,
                            const std::vector<at::Tensor>& original) {
      positions += static_cast<double>(own.front().size(0));
      for (std::size_t i = 0; i < borders.size(); ++i) {
        const at::Tensor h = own[borders[i].own].to(at::kFloat);
        const at::Tensor r = original[borders[i].reference].to(at::kFloat);
        const at::Tensor size = r.norm(2, -1).clamp_min(1e-30);
        const at::Tensor sizes = (h.norm(2, -1) * size).clamp_min(1e-30);
        out.layers[i].cosine += total((h * r).sum(-1) / sizes);
        out.layers[i].l2 += total((h - r).norm(2, -1) / size);
      }
    };
  out.scorecard = evaluate(model, windows, &reference, options);
  for (LayerDivergence& layer : out.layers) {
    layer.cosine /= positions;
    layer.l2 /= positions;
  }
  return out;
}

std::vector<EquivalenceCheck> check_equivalence(
    const Equivalence& found, const EquivalenceLimits& limits) {
  AUTOGLM_ENSURE(found.scorecard.divergence.has_value());
  const Divergence& d = *found.scorecard.divergence;
  std::vector<EquivalenceCheck> out;
  const auto add = [&](const std::string& part, const char* measure,
                       double value, const std::optional<double>& limit,
                       bool at_most) {
    if (!limit) return;
    out.push_back({part, measure, value, *limit, at_most,
                   at_most ? value <= *limit : value >= *limit});
  };
  for (const LayerDivergence& layer : found.layers) {
    add(layer.layer, "cosine", layer.cosine, limits.min_cosine, false);
    add(layer.layer, "l2", layer.l2, limits.max_l2, true);
  }
  add("logits", "cosine", d.cosine, limits.min_cosine, false);
  add("logits", "l2", d.l2, limits.max_l2, true);
  add("logits", "top1_agreement", d.top1_agreement, limits.min_top1_agreement,
      false);
  add("logits", "kl", d.kl, limits.max_kl, true);
  add("logits", "kl_p99", d.kl_p99, limits.max_kl_p99, true);
  add("logits", "accuracy_retention", d.accuracy_retention,
      limits.min_accuracy_retention, false);
  if (!limits.max_perplexity_ratio) return out;
  AUTOGLM_ENSURE(found.reference_perplexity.has_value());
  add("logits", "perplexity_ratio",
      found.scorecard.perplexity / *found.reference_perplexity,
      limits.max_perplexity_ratio, true);
  return out;
}

std::vector<std::string> shortfalls(
    const std::vector<EquivalenceCheck>& checks) {
  const auto by_how_much = [](const EquivalenceCheck& check) {
    return std::abs(check.value - check.limit);
  };
  std::vector<std::string> out;
  for (const bool logits : {false, true}) {
    std::vector<const EquivalenceCheck*> worst;  // of each measure
    for (const EquivalenceCheck& check : checks) {
      if (check.passed || (check.part == "logits") != logits) continue;
      const auto same = std::find_if(worst.begin(), worst.end(),
                                     [&](const EquivalenceCheck* one) {
                                       return one->measure == check.measure;
                                     });
      if (same == worst.end())
        worst.push_back(&check);
      else if (!(by_how_much(check) <= by_how_much(**same)))
        *same = &check;
    }
    for (const EquivalenceCheck* one : worst)
      out.push_back(fmt::format("{}{}: {} is {:.6g}, {:.3g} {} {:g}",
                                logits ? "" : "layers, worst ", one->part,
                                one->measure, one->value, by_how_much(*one),
                                one->at_most ? "above" : "below", one->limit));
  }
  return out;
}

Json to_json(const std::vector<EquivalenceCheck>& checks) {
  Json out = Json::array();
  for (const EquivalenceCheck& check : checks)
    out.push_back({{"part", check.part},
                   {"measure", check.measure},
                   {"value", check.value},
                   {"limit", check.limit},
                   {"at_most", check.at_most},
                   {"passed", check.passed}});
  return out;
}

Json to_json(const std::vector<LayerDivergence>& layers) {
  Json out = Json::array();
  for (const LayerDivergence& layer : layers)
    out.push_back(
        {{"layer", layer.layer}, {"cosine", layer.cosine}, {"l2", layer.l2}});
  return out;
}

}  // namespace autoglm
