#include "autoglm/eval/latency_table.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "autoglm/core/error.h"
#include "autoglm/core/file.h"
#include "autoglm/core/interrupt.h"
#include "autoglm/core/rng.h"
#include "autoglm/core/text.h"
#include "autoglm/core/version.h"
#include "autoglm/eval/accelerator.h"
#include "autoglm/eval/profile.h"
#include "autoglm/model/footprint.h"

namespace autoglm {
namespace {

// Bytes that push each other out of the caches, as the blocks of a model do.
constexpr std::uint64_t kRotation = 256 << 20;

std::string device_key(at::Device device) {
  if (device.is_cuda()) return find_cuda()->device_name(device.index());
  return fmt::format("cpu {} threads", at::get_num_threads());
}

// All that an entry depends on.
std::string table_key(const Architecture& a, const LatencyOptions& where,
                      std::int64_t group_size) {
  return fmt::format(
      "{}, autoglm {}, {}, hidden {}, head size {}, {} after {} tokens, "
      "batch {}, {}, groups of {}{}",
      device_key(where.device), version(), a.family->name, a.hidden,
      a.head_size, where.prefill ? "prefill" : "decode", where.prompt,
      where.batch, where.dtype == at::kFloat ? "fp32" : "bf16", group_size,
      where.product == QuantizedProduct::kInteger ? ", integer products" : "");
}

Architecture with_widths(Architecture a,
                         const std::vector<LayerChoice>& layers) {
  a.blocks.clear();
  for (const LayerChoice& layer : layers) a.blocks.push_back(layer.widths);
  if (a.is_sparse()) a.indexer.fresh.resize(a.blocks.size(), true);
  return a;
}

std::vector<PartBits> bits_of(const std::vector<LayerChoice>& layers) {
  std::vector<PartBits> out;
  for (const LayerChoice& layer : layers) out.push_back(layer.bits);
  return out;
}

LayerChoice only(LayerChoice layer, bool attention) {
  BlockWidths& w = layer.widths;
  if (attention)
    w.ffn = w.experts = w.shared_ffn = 0;
  else
    w.query_heads = w.kv_heads = 0;
  return layer;
}

std::string entry_name(const LayerChoice& part) {
  const BlockWidths& w = part.widths;
  if (w.has_attention())
    return fmt::format("attention {} heads {} groups {} bits", w.query_heads,
                       w.kv_heads, part.bits.attention);
  if (w.experts > 0)
    return fmt::format("mlp {} x {} experts {} shared {} bits", w.ffn,
                       w.experts, w.shared_ffn, part.bits.mlp);
  return fmt::format("mlp {} channels {} bits", w.ffn, part.bits.mlp);
}

}  // namespace

LatencyFit fit_latency(const std::vector<double>& sums,
                       const std::vector<double>& measured) {
  AUTOGLM_ENSURE(!sums.empty() && sums.size() == measured.size());
  // Weighted by 1 / measured^2: normal equations of a + b s.
  double w = 0, ws = 0, wss = 0, wm = 0, wsm = 0;
  for (std::size_t i = 0; i < sums.size(); ++i) {
    AUTOGLM_ENSURE(measured[i] > 0);
    const double weight = 1 / (measured[i] * measured[i]);
    w += weight;
    ws += weight * sums[i];
    wss += weight * sums[i] * sums[i];
    wm += weight * measured[i];
    wsm += weight * sums[i] * measured[i];
  }
  const double determinant = w * wss - ws * ws;
  LatencyFit fit;
  if (determinant > 1e-12 * w * wss) fit.b = (w * wsm - ws * wm) / determinant;
  fit.a = (wm - fit.b * ws) / w;
  return fit;
}

LatencyTable::LatencyTable(Architecture architecture, LatencyOptions where,
                           std::int64_t group_size, std::filesystem::path file)
    : architecture_(std::move(architecture)),
      where_(where),
      file_(std::move(file)),
      key_(table_key(architecture_, where, group_size)),
      all_(Json::object()) {
  AUTOGLM_ENSURE(where.prefill != where.decode);
  weights_.group_size = group_size;
  if (file_.empty() || !std::filesystem::exists(file_)) return;
  all_ = read_json(file_);
  const auto wrong = [&](const char* what) {
    fail(ErrorKind::kInput,
         fmt::format("{}: no table of latencies: {}", file_.string(), what));
  };
  if (!all_.is_object()) wrong("no object");
  for (const auto& [key, entries] : all_.items()) {
    if (!entries.is_object()) wrong("an entry is no object");
    for (const auto& [name, ms] : entries.items())
      if (!ms.is_number() || !(ms.get<double>() > 0))
        wrong("a time is no number above 0");
  }
}

double LatencyTable::sum_ms(const std::vector<LayerChoice>& layers) {
  double sum = 0;
  for (const LayerChoice& layer : layers)
    sum += part_ms(layer, true) + part_ms(layer, false);
  return sum;
}

double LatencyTable::part_ms(const LayerChoice& layer, bool attention) {
  const LayerChoice part = only(layer, attention);
  if (!part.widths.has_attention() && !part.widths.has_mlp()) return 0;
  const std::string name = entry_name(part);
  Json& entries = all_[key_];
  if (entries.contains(name)) {
    ++reused_;
    return entries[name].get<double>();
  }
  check_interrupted();
  const double ms = measure_part(part);
  entries[name] = ms;
  ++measured_;
  save();
  return ms;
}

// The part alone, several copies of it one after the other.
double LatencyTable::measure_part(const LayerChoice& part) const {
  const auto model_of = [&](std::size_t copies) {
    const std::vector<LayerChoice> layers(copies, part);
    Architecture a = with_widths(architecture_, layers);
    a.vocabulary = 64;
    return to_compute(random_model(a, bits_of(layers), weights_), where_.device,
                      where_.dtype, where_.product);
  };
  const std::uint64_t one = footprint(model_of(1)).total().bytes;
  const auto copies = static_cast<std::size_t>(std::clamp<std::int64_t>(
      static_cast<std::int64_t>(kRotation / one), 2,
      std::max<std::int64_t>(2, architecture_.layers())));
  const Profile measured = profile(model_of(copies), where_).at(0);
  return measured.blocks_ms() / static_cast<double>(copies);
}

double LatencyTable::measure_ms(const std::vector<LayerChoice>& layers) const {
  const Model model = random_model(with_widths(architecture_, layers),
                                   bits_of(layers), weights_);
  const Latency latency = measure_latency({&model}, where_).at(0);
  return (where_.prefill ? latency.prefill : latency.decode).median_ms;
}

void LatencyTable::save() const {
  if (!file_.empty()) write_file_atomically(file_, to_text(all_));
}

std::vector<std::vector<LayerChoice>> random_strategies(
    const Architecture& architecture, const std::vector<int>& bits,
    std::int64_t align, std::size_t count, std::uint64_t seed) {
  AUTOGLM_ENSURE(!bits.empty() && align > 0);
  Rng rng(derive_seed(seed, "random strategies"));
  // A multiple of `unit` between a quarter of `whole` and all of it.
  const auto width = [&](std::int64_t whole, std::int64_t unit) {
    if (whole <= unit) return whole;
    const std::int64_t most = whole / unit;
    const std::int64_t least = std::max<std::int64_t>(1, (most + 3) / 4);
    return unit * (least + static_cast<std::int64_t>(rng.below(
                               static_cast<std::uint64_t>(most - least + 1))));
  };
  const auto pick_bits = [&] { return bits[rng.below(bits.size())]; };
  std::vector<std::vector<LayerChoice>> out(count);
  for (std::vector<LayerChoice>& layers : out)
    for (BlockWidths w : architecture.blocks) {
      if (w.has_attention() && !architecture.is_latent()) {
        const bool own = w.query_heads == w.kv_heads;
        w.query_heads = width(w.query_heads, own ? 1 : w.kv_heads);
        if (own) w.kv_heads = w.query_heads;
      }
      if (w.has_mlp()) w.ffn = width(w.ffn, align);
      const int attention = pick_bits(), mlp = pick_bits();
      layers.push_back({w, {attention, mlp}});
    }
  return out;
}

}  // namespace autoglm
