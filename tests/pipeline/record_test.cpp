#include "autoglm/pipeline/record.h"

#include "tests/support/throws.h"

using namespace autoglm;

namespace {

Record sample() {
  Record r;
  r.autoglm_version = "0.1.0";
  r.libtorch_version = "2.11.0";
  r.started = "2026-01-01T00:00:00Z";
  r.status = "done";
  r.model = "m";
  r.output = "o";
  r.config = "c.yaml";
  r.input_fingerprint = "0123456789abcdef";
  r.device = "cpu";
  r.cpu = "a processor";
  r.threads = 2;
  r.seed = 3;
  r.data = {{"calibration", {{"windows", 4}}}};
  r.resolved = {{"seed", 3}};
  r.before.parameters = 100;
  r.before.weight_bytes = 200;
  r.before.parts = {{"embedding", 50}, {"mlp", 150}};
  r.before.linears = {{"head", 4, 8, "dense bf16", 16, 64}};
  r.before.blocks = {{4, 2, 768}};
  r.before.scorecard = Scorecard{};
  StepRecord step;
  step.name = step.type = "quantization";
  step.status = "done";
  step.seconds = 1.5;
  step.params = {{"bits", 8}};
  step.notes = {{"kept", true}};
  step.after = r.before;
  r.steps = {step};
  r.after = r.before;
  r.after->latency = Latency{};
  r.after->latency->prefill.samples = r.after->latency->decode.samples = 1;
  r.constraints = {{"kl", "<= 0.1", 0.05, 0.1, true}};
  return r;
}

}  // namespace

TEST_CASE("record: written and read again it is the same") {
  const Json json = to_json(sample());
  CHECK(to_text(to_json(record_from_json(json, "r.json"))) == to_text(json));
}

TEST_CASE("record: a missing field is an error with the file's name") {
  Json json = to_json(sample());
  json.erase("status");
  CHECK(test::error_of(ErrorKind::kInput, [&] {
          record_from_json(json, "r.json");
        }) == "r.json: status is missing");
  Json wrong = to_json(sample());
  wrong["steps"][0]["seconds"] = "long";
  CHECK(test::error_of(ErrorKind::kInput, [&] {
          record_from_json(wrong, "r.json");
        }) == "r.json: steps: seconds should be a number, but is \"long\"");
}
