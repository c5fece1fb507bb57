// Scorecard: what was measured of one model, on which data. Plain data.
// Definitions: DESIGN, "How quality is measured".
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "autoglm/core/json.h"

namespace autoglm {

/// Measures against the original model, over the same positions.
struct Divergence {
  double kl = 0;                  // mean KL(original || compressed), nats
  double kl_p99 = 0;              // 99th percentile over positions
  double top1_agreement = 0;      // share of positions with the same argmax
  double cosine = 0;              // mean cosine similarity of the logits
  double l2 = 0;                  // mean L2 distance of the probabilities
  double accuracy_retention = 0;  // accuracy / accuracy of the original
};

struct Scorecard {
  std::string data;  // the text file
  std::int64_t windows = 0;
  std::int64_t length = 0;  // text tokens per window
  std::int64_t tokens = 0;  // predicted positions
  std::uint64_t text_bytes = 0;
  double perplexity = 0;
  double bits_per_byte = 0;
  double accuracy = 0;
  std::optional<Divergence> divergence;
};

Json to_json(const Scorecard& scorecard);
Scorecard scorecard_from_json(const Json& json, const std::string& source);

/// One phase of latency.
struct LatencyPhase {
  std::string phase;  // "prefill" (ms per prompt), "decode" (ms per token)
  double median_ms = 0, p90_ms = 0, p99_ms = 0;
  std::int64_t samples = 0;         // 0: not measured
  std::uint64_t bytes_touched = 0;  // weights and cache read per measurement
  double achieved_gb_s = 0;         // bytes_touched / median
  double bandwidth_share = 0;       // of the copy bandwidth of the same run
  std::string kernel;      // "avx512 packed", "dense fp32", "dequantize + gemm"
  bool simulated = false;  // no real low-bit kernel ran: print no speedup
  std::vector<double> rounds_ms = {};  // the median of every round
};

struct Latency {
  std::string device;  // "cpu (2 threads)", "cuda:0 (name)"
  std::string dtype;   // compute dtype
  std::int64_t batch = 1, prompt = 0, generated = 0;
  double copy_bandwidth_gb_s = 0;
  LatencyPhase prefill, decode;
};

Json to_json(const Latency& latency);
Latency latency_from_json(const Json& json, const std::string& source);

}  // namespace autoglm
