#include "passes/quantization/block_rounder.h"

#include <algorithm>
#include <cmath>

#include "autoglm/core/log.h"
#include "autoglm/core/text.h"
#include "autoglm/model/block_parts.h"
#include "passes/expert_inputs.h"
#include "passes/quantization/block_tuner.h"
#include "passes/quantization/rounded_activations.h"

namespace autoglm {
namespace {

template <class Map>
typename Map::mapped_type found_or(const Map& map,
                                   const typename Map::key_type& key,
                                   const typename Map::mapped_type& other) {
  const auto found = map.find(key);
  return found == map.end() ? other : found->second;
}

class BlockRounder {
 public:
  BlockRounder(const Model& model, const BlockVisit& visit, Rounder& rounder,
               const BlockFisher& fisher, const QuantizationOptions& options,
               Json& note)
      : model_(model),
        visit_(visit),
        rounder_(rounder),
        fisher_(fisher),
        options_(options),
        note_(note),
        block_(visit.original) {}

  Block run(std::uint64_t seed) {
    round_sites();
    round_experts();
    note_activations();
    if (!starts_.empty()) tune(seed);
    // At the end, for what learns knows weights only.
    return with_rounded_activations(
        model_, visit_, block_, [&](const std::string& part) {
          const std::string name = full_name(part);
          return rounder_.wants(name) ? rounder_.scheme(name).activations
                                      : "none";
        });
  }

 private:
  std::string full_name(const std::string& part) const {
    return fmt::format("layers.{}.{}", visit_.layer, part);
  }
  // Only coordinate descent makes up for the drift between the streams.
  Streams streams_for(const std::vector<std::string>& parts) const {
    const bool both =
        std::any_of(parts.begin(), parts.end(), [&](const std::string& part) {
          return rounder_.fits_drift(full_name(part));
        });
    return both ? Streams::kBoth : Streams::kCompressed;
  }
  void keep(const std::string& part, Linear& linear, Rounded rounded) {
    const std::string name = full_name(part);
    const Grid& grid = rounder_.scheme(name).grid;
    linear.weight = pack(rounded, grid);
    if (rounder_.learns_by_block(name))
      starts_[part] = {grid, std::move(rounded)};
  }
  void round_sites();
  void round_experts();
  void note_activations();
  void tune(std::uint64_t seed);
  TunerOptions tuner_options(std::uint64_t seed) const;

  const Model& model_;
  const BlockVisit& visit_;
  Rounder& rounder_;
  const BlockFisher& fisher_;
  const QuantizationOptions& options_;
  Json& note_;
  Block block_;
  std::map<std::string, LearningStart> starts_;
};

void BlockRounder::round_sites() {
  for (const SiteMatrices& site : block_sites(visit_.original)) {
    std::optional<SplitMoments> moments;
    for (const std::string& part : site.names) {
      const std::string name = full_name(part);
      if (!rounder_.wants(name)) continue;
      Linear& linear = *find_linear(block_, part);
      if (!rounder_.wants_inputs(name)) {
        linear.weight = rounder_.round_alone(name, linear);
        continue;
      }
      if (!moments)
        moments = collect_moments(
            model_, visit_, block_, site.site, streams_for(site.names),
            found_or(fisher_.tokens, site.site, at::Tensor()));
      keep(part, linear,
           rounder_.round(name, linear, *moments,
                          found_or(fisher_.outputs, part, OutputMetric()),
                          linear.bias));
    }
  }
}

// The routed experts, each on the tokens that are sent to it; with too few of
// them, scales searched for what all tokens would bring.
void BlockRounder::round_experts() {
  std::optional<ExpertInputs> inputs;
  Json tokens = Json::array(), fallbacks = Json::array();
  for (std::size_t e = 0; e < block_.mixture.experts.size(); ++e) {
    const Mlp& original = visit_.original.mixture.experts[e];
    Mlp& expert = block_.mixture.experts[e];
    const auto round =
        [&](std::initializer_list<std::pair<const char*, Linear*>> linears,
            const auto& moments_of, const auto& importance_of) {
          std::vector<std::string> parts;
          for (const auto& [kind, linear] : linears)
            parts.push_back(fmt::format("mlp.experts.{}.{}", e, kind));
          std::optional<SplitMoments> moments;
          bool asked = false;
          std::size_t i = 0;
          for (const auto& [kind, linear] : linears) {
            const std::string& part = parts[i++];
            const std::string name = full_name(part);
            if (!rounder_.wants(name)) continue;
            if (!rounder_.wants_inputs(name)) {
              linear->weight = rounder_.round_alone(name, *linear);
              continue;
            }
            if (!inputs)
              inputs.emplace(model_, visit_, block_, streams_for(parts));
            if (!asked) moments = moments_of();
            asked = true;
            if (moments) {
              keep(part, *linear,
                   rounder_.round(name, *linear, *moments, {}, linear->bias));
            } else {
              const Rounded rounded =
                  rounder_.round(name, *linear, importance_of());
              linear->weight = pack(rounded, rounder_.scheme(name).grid);
              fallbacks.push_back(name);
            }
            rounder_.annotate(name, {{"tokens", inputs->tokens(e)}});
          }
        };
    round(
        {{"gate_up", &expert.gate_up},
         {"gate", &expert.gate},
         {"up", &expert.up}},
        [&] { return inputs->inner(e); },
        [&] { return inputs->importance_inner(); });
    round(
        {{"down", &expert.down}},
        [&] { return inputs->down(e, original, expert); },
        [&] { return inputs->importance_down(expert); });
    if (inputs) tokens.push_back(inputs->tokens(e));
  }
  if (!tokens.empty()) note_["expert_tokens"] = std::move(tokens);
  if (!fallbacks.empty()) {
    log_warning(
        "quantization: {} matrices of block {} belong to experts with fewer "
        "than {} calibration tokens; their scales are searched without them",
        fallbacks.size(), visit_.layer, ExpertInputs::kFewestTokens);
    note_["searched_without_tokens"] = std::move(fallbacks);
  }
}

// fp16 ends at 65504, and GLMs are known to pass it.
void BlockRounder::note_activations() {
  double greatest = 0;
  for (const at::Tensor& batch : visit_.original_output)
    greatest = std::max(greatest, batch.abs().max().item<double>());
  note_["max_activation"] = greatest;
  if (greatest > 65504)
    log_warning(
        "quantization: block {} returns values up to {:.3g}, which fp16 cannot "
        "hold; run this model in bf16 or fp32",
        visit_.layer, greatest);
}

TunerOptions BlockRounder::tuner_options(std::uint64_t seed) const {
  TunerOptions out;
  int bits = 8;
  for (const auto& [part, start] : starts_)
    bits = std::min(bits, start.grid.bits);
  out.iterations = automatic_iterations(options_, bits);
  out.sign = options_.optimizer == "sign";
  const double automatic =
      out.sign
          ? 1.0 / static_cast<double>(std::max<std::int64_t>(1, out.iterations))
          : 0.02;
  out.code_rate = options_.code_rate >= 0 ? options_.code_rate : automatic;
  out.scale_rate = options_.scale_rate >= 0 ? options_.scale_rate
                   : out.sign               ? out.code_rate
                                            : 0.001;
  out.zero_rate = out.scale_rate;
  out.vector_rate =
      options_.norm_rate >= 0 ? options_.norm_rate : out.scale_rate;
  out.seed = seed;
  return out;
}

void BlockRounder::tune(std::uint64_t seed) {
  const TunerOptions with = tuner_options(seed);
  note_["steps"] = with.iterations;
  if (with.iterations > 0)
    block_ = tune_block(BlockLoss(model_, visit_, fisher_),
                        visit_.compressed_input.size(), block_, starts_, with,
                        note_, [&] { rounder_.tick(); });
}

}  // namespace

Block round_block(const Model& model, const BlockVisit& visit, Rounder& rounder,
                  const BlockFisher& fisher, const QuantizationOptions& options,
                  std::uint64_t seed, Json& note) {
  return BlockRounder(model, visit, rounder, fisher, options, note).run(seed);
}

}  // namespace autoglm
