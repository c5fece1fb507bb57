// Running one pass on a tiny model, or asking it for its plan.
#pragma once

#include <string>

#include "autoglm/model/footprint.h"
#include "autoglm/passes/pass.h"
#include "tests/support/catch.h"
#include "tests/support/tiny_model.h"

namespace autoglm::test {

struct PassRun {
  Model model;
  std::map<std::string, Json> notes;
};

/// Runs `type` with YAML `params` on a copy of `start`, with 12 calibration
/// windows of 20 tokens (2 of them prefix), or none.
inline PassRun run_pass(const std::string& type, const std::string& params,
                        const Model& start, bool data = true) {
  PassRun out;
  out.model = start;
  PassContext context;
  if (data) {
    at::manual_seed(3);
    context.calibration = random_windows(12, 20, start.architecture.vocabulary);
    context.training = context.calibration;
  }
  context.prefix = 2;
  context.original = &start;
  context.seed = 11;
  context.note = [&](const std::string& name, Json value) {
    out.notes[name] = std::move(value);
  };
  find_pass(type)
      ->make(parse_config(params, "params"))
      ->run(out.model, context);
  return out;
}

/// The shapes that `type` with YAML `params` foresees for `start`.
inline Model planned(const std::string& type, const std::string& params,
                     const Model& start) {
  Model shapes = to_device(start, at::kMeta);
  find_pass(type)->make(parse_config(params, "params"))->plan(shapes);
  return shapes;
}

/// Runs `type` without data: what comes out is what the plan says.
inline void check_plan(const std::string& type, const std::string& params,
                       const Model& start) {
  const Model shapes = planned(type, params, start);
  const Model out = run_pass(type, params, start, /*data=*/false).model;
  CHECK_NOTHROW(verify_model(out));
  CHECK((shapes.architecture.blocks == out.architecture.blocks));
  CHECK(shapes.architecture.hidden == out.architecture.hidden);
  CHECK(footprint(shapes).total().bytes == footprint(out).total().bytes);
  CHECK(shapes.config == out.config);
}

}  // namespace autoglm::test
