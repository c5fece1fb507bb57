// A pass: options in, model changed. One pass is one file under src/passes/
// and one line in passes.def; parsing, checks, the catalogue, docs and the
// search space all follow from its Options struct (core/options.h).
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "autoglm/core/config.h"
#include "autoglm/core/json.h"
#include "autoglm/core/options.h"
#include "autoglm/model/model.h"

namespace autoglm {

/// Everything a pass may use beside the model; nothing else.
struct PassContext {
  /// Calibration windows [windows, P + T] int64, prefix included; on the CPU.
  at::Tensor calibration;
  /// Windows to train on; at least the calibration windows.
  at::Tensor training;
  /// Prefix length P: positions 0 .. P-2 predict prefix tokens, which no loss
  /// counts; position P-1 predicts the first text token.
  std::int64_t prefix = 0;
  /// The model before the first pass, for distillation.
  const Model* original = nullptr;
  std::uint64_t seed = 0;  // already derived for this pass
  at::Device device = at::kCPU;
  /// Facts for the record and the report; Json values, keyed by name.
  std::function<void(const std::string& name, Json value)> note =
      [](const std::string&, Json) {};
};

class Pass {
 public:
  virtual ~Pass() = default;
  /// Replaces handles in `model`; never writes through a tensor. Dense
  /// weights keep the dtype they came with. Same inputs, same result.
  virtual void run(Model& model, PassContext& context) const = 0;
  /// Does to `shapes`, a model of meta tensors without data, what run() would
  /// do to the shapes and forms of a real one, checking scope, divisibility
  /// and order on the way. Called for the whole chain before any weight is
  /// read; its result gives the size of the output. Throws kConfig.
  virtual void plan(Model& shapes) const = 0;
  virtual ConfigNode resolved_params() const = 0;
};

/// One line of the catalogue.
struct PassInfo {
  std::string type;     // "structured_pruning"
  std::string summary;  // one line
  std::vector<OptionInfo> options;
  std::function<std::unique_ptr<Pass>(const ConfigNode& params)> make;
};

/// Fills a PassInfo from a class with an Options struct and a constructor
/// from it. resolved_params() of the class returns options_to_config(options).
template <class P>
PassInfo describe_pass(std::string type, std::string summary) {
  PassInfo info;
  info.type = type;
  info.summary = std::move(summary);
  info.options = describe_options<typename P::Options>();
  info.make = [type](const ConfigNode& params) -> std::unique_ptr<Pass> {
    return std::make_unique<P>(
        parse_options<typename P::Options>(params, type));
  };
  return info;
}

/// All passes, in the order of passes.def.
const std::vector<PassInfo>& pass_catalogue();
/// Null pointer if there is none of that type.
const PassInfo* find_pass(const std::string& type);

}  // namespace autoglm
