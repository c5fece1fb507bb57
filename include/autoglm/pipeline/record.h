// Record: what happened in one run, as plain data; record.json on disk. The
// report is a pure function of it. No torch here.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "autoglm/core/json.h"
#include "autoglm/eval/scorecard.h"

namespace autoglm {

/// One matrix of the model, for per-layer pictures.
struct LinearRecord {
  std::string name;  // canonical: "layers.3.mlp.down", "head", "embedding"
  std::int64_t out = 0, in = 0;
  std::string format;  // "dense bf16", "int8 g128 symmetric"
  double bits = 0;     // per element, codes only
  std::uint64_t bytes = 0;
};

/// Where a matrix belongs: "layers.3.mlp.experts.7.down" is
/// "mlp.experts.*.down" of block 3; the head is of no block.
struct MatrixPlace {
  std::optional<std::size_t> block;
  std::string kind;
};
MatrixPlace place_of(const std::string& name);

/// A model at one moment.
struct ModelRecord {
  std::uint64_t parameters = 0;
  std::uint64_t active_parameters = 0;  // that take part in one token
  std::uint64_t weight_bytes = 0;       // tensor data
  std::uint64_t disk_bytes = 0;   // whole folder, without autoglm/; 0 unknown
  std::uint64_t cache_bytes = 0;  // that a token adds; 0 unknown
  // Bytes per part, same keys always: embedding attention mlp experts router
  // norms head extra
  std::vector<std::pair<std::string, std::uint64_t>> parts;
  std::vector<LinearRecord> linears;
  struct Widths {
    std::int64_t query_heads = 0, kv_heads = 0;
    std::int64_t ffn = 0;         // of each routed expert where there are any
    std::int64_t experts = 0;     // 0: one MLP for all tokens
    std::int64_t shared_ffn = 0;  // of the experts that all tokens use
  };
  std::vector<Widths> blocks;
  std::optional<Scorecard> scorecard;
  std::optional<Latency> latency;
};

struct StepRecord {
  std::string name, type;
  std::string status;  // "done", "failed", "interrupted"
  std::string error;   // message when failed
  double seconds = 0;
  bool resumed = false;  // taken from an earlier, interrupted run
  Json params;           // resolved
  Json notes;            // facts the pass noted, keyed by name
  std::optional<ModelRecord> after;
};

struct ConstraintRecord {
  std::string measure;  // "accuracy_retention", "latency decode", "size"
  std::string limit;    // as text: ">= 0.983"
  double value = 0;
  double bound = 0;
  bool met = false;
};

struct Record {
  std::string autoglm_version, libtorch_version;
  std::string started;  // ISO 8601, UTC
  double seconds = 0;
  std::string status;  // "done", "gate not met", "failed", "interrupted"
  std::string error;
  std::string model, output, config;  // paths as given
  std::string input_fingerprint;
  std::string device, cpu;
  std::int64_t threads = 0;
  std::uint64_t seed = 0;
  Json data;      // calibration, evaluation, training: file, windows, length
  Json resolved;  // the resolved configuration
  ModelRecord before;
  std::vector<StepRecord> steps;
  std::optional<ModelRecord> after;
  std::vector<ConstraintRecord> constraints;
};

Json to_json(const ModelRecord& model);
Json to_json(const StepRecord& step);
StepRecord step_from_json(const Json& json, const std::string& source);
Json to_json(const Record& record);
/// Throws kInput with `source` on a missing or wrong field.
Record record_from_json(const Json& json, const std::string& source);

}  // namespace autoglm
