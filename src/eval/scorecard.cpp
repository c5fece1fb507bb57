#include "autoglm/eval/scorecard.h"

namespace autoglm {

Json to_json(const Scorecard& s) {
  Json out = {{"data", s.data},
              {"windows", s.windows},
              {"length", s.length},
              {"tokens", s.tokens},
              {"text_bytes", s.text_bytes},
              {"perplexity", s.perplexity},
              {"bits_per_byte", s.bits_per_byte},
              {"accuracy", s.accuracy}};
  if (s.divergence) {
    const Divergence& d = *s.divergence;
    out["kl"] = d.kl;
    out["kl_p99"] = d.kl_p99;
    out["top1_agreement"] = d.top1_agreement;
    out["cosine"] = d.cosine;
    out["l2"] = d.l2;
    out["accuracy_retention"] = d.accuracy_retention;
  }
  return out;
}

Scorecard scorecard_from_json(const Json& json, const std::string& source) {
  Scorecard s;
  s.data = json_string(json, "data", source);
  s.windows = json_int(json, "windows", source);
  s.length = json_int(json, "length", source);
  s.tokens = json_int(json, "tokens", source);
  s.text_bytes =
      static_cast<std::uint64_t>(json_int(json, "text_bytes", source));
  s.perplexity = json_double(json, "perplexity", source);
  s.bits_per_byte = json_double(json, "bits_per_byte", source);
  s.accuracy = json_double(json, "accuracy", source);
  if (json.contains("kl")) {
    Divergence d;
    d.kl = json_double(json, "kl", source);
    d.kl_p99 = json_double(json, "kl_p99", source);
    d.top1_agreement = json_double(json, "top1_agreement", source);
    d.cosine = json_double(json, "cosine", source);
    d.l2 = json_double(json, "l2", source);
    d.accuracy_retention = json_double(json, "accuracy_retention", source);
    s.divergence = d;
  }
  return s;
}

namespace {

Json to_json(const LatencyPhase& p) {
  return {{"phase", p.phase},
          {"median_ms", p.median_ms},
          {"p90_ms", p.p90_ms},
          {"p99_ms", p.p99_ms},
          {"samples", p.samples},
          {"rounds_ms", p.rounds_ms},
          {"bytes_touched", p.bytes_touched},
          {"achieved_gb_s", p.achieved_gb_s},
          {"bandwidth_share", p.bandwidth_share},
          {"kernel", p.kernel},
          {"simulated", p.simulated}};
}

LatencyPhase phase_from_json(const Json& json, const char* key,
                             const std::string& source) {
  const Json phase = json.value(key, Json::object());
  LatencyPhase p;
  p.phase = json_string(phase, "phase", source);
  p.median_ms = json_double(phase, "median_ms", source);
  p.p90_ms = json_double(phase, "p90_ms", source);
  p.p99_ms = json_double(phase, "p99_ms", source);
  p.samples = json_int(phase, "samples", source);
  if (phase.contains("rounds_ms"))
    for (const Json& round : phase["rounds_ms"])
      if (round.is_number()) p.rounds_ms.push_back(round.get<double>());
  p.bytes_touched =
      static_cast<std::uint64_t>(json_int(phase, "bytes_touched", source));
  p.achieved_gb_s = json_double(phase, "achieved_gb_s", source);
  p.bandwidth_share = json_double(phase, "bandwidth_share", source);
  p.kernel = json_string(phase, "kernel", source);
  p.simulated = json_bool_or(phase, "simulated", false, source);
  return p;
}

}  // namespace

Json to_json(const Latency& l) {
  Json out = {{"device", l.device},
              {"dtype", l.dtype},
              {"batch", l.batch},
              {"prompt", l.prompt},
              {"generated", l.generated},
              {"copy_bandwidth_gb_s", l.copy_bandwidth_gb_s}};
  if (l.prefill.samples > 0) out["prefill"] = to_json(l.prefill);
  if (l.decode.samples > 0) out["decode"] = to_json(l.decode);
  return out;
}

Latency latency_from_json(const Json& json, const std::string& source) {
  Latency l;
  l.device = json_string(json, "device", source);
  l.dtype = json_string(json, "dtype", source);
  l.batch = json_int(json, "batch", source);
  l.prompt = json_int(json, "prompt", source);
  l.generated = json_int(json, "generated", source);
  l.copy_bandwidth_gb_s = json_double(json, "copy_bandwidth_gb_s", source);
  const bool decode = json.contains("decode");
  if (decode) l.decode = phase_from_json(json, "decode", source);
  if (!decode || json.contains("prefill"))
    l.prefill = phase_from_json(json, "prefill", source);
  return l;
}

}  // namespace autoglm
