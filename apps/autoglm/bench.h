// What the ways of `autoglm bench` share.
#pragma once

#include <string>
#include <vector>

#include "autoglm/eval/latency.h"
#include "autoglm/model/random_model.h"
#include "commands.h"

namespace autoglm::cli {

struct BenchOptions {
  using Numbers = std::vector<std::int64_t>;

  std::string model, against, shape;
  RandomModelOptions random;  // of the shape
  std::string dtype = "fp32", phase = "both";
  Numbers prompts = {512}, batches = {1}, contexts;
  LatencyPoint point;
  bool profile = false, exact = false;
  std::string table;  // file
  Numbers table_bits = {16, 8, 4, 3, 2};
  std::int64_t strategies = 10;
};

/// What is measured, by name; the models are moved to where they are.
struct Subjects {
  std::vector<std::string> names;
  std::vector<Model> models;
};

/// Every batch at every prompt, then at every context of its own.
std::vector<LatencyPoint> bench_points(const BenchOptions& options);

/// --profile: where the time of a step goes.
void bench_profile(const BenchOptions& options, Subjects subjects,
                   const LatencyOptions& where, const Session& session);

/// --table: fills the table of part latencies for the first subject's
/// architecture and holds its predictions against measurements.
void bench_table(const BenchOptions& options, const Subjects& subjects,
                 const LatencyOptions& where, const Session& session);

}  // namespace autoglm::cli
