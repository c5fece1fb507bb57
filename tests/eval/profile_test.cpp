#include "autoglm/eval/profile.h"

#include <algorithm>

#include "tests/eval/bigram_model.h"
#include "tests/support/throws.h"

using namespace autoglm;
using namespace autoglm::test;

TEST_CASE("profile: every part of both phases has its time") {
  const Model model = short_example(2);
  LatencyOptions options;
  options.prompt = 16;
  options.generate = 3;
  options.repeats = 2;
  const auto profiles =
      profile(to_compute(model, at::kCPU, at::kFloat), options);
  REQUIRE(profiles.size() == 2);
  const std::vector<std::string> parts = {
      "embedding", "norms",  "query, key, value",
      "attention", "output", "gate, up",
      "down",      "head",   "sampling"};
  for (const Profile& one : profiles) {
    std::vector<std::string> names;
    double sum = 0;
    for (const PartTime& part : one.parts) {
      names.push_back(part.part);
      CHECK(part.ms > 0);
      sum += part.ms;
    }
    CHECK(names == parts);
    CHECK(one.sum_ms() == Approx(sum));
    CHECK(one.blocks_ms() == Approx(sum - one.parts.front().ms -
                                    one.parts[7].ms - one.parts[8].ms));
    CHECK(one.step_ms > 0);
    const Json json = to_json(one);
    CHECK(json["parts_ms"].size() == parts.size());
    CHECK(json["prompt"] == 16);
  }
  CHECK(profiles[0].phase == "prefill");
  CHECK(profiles[1].phase == "decode");
}

TEST_CASE("profile: a phase that was not asked for is not there") {
  const Model model = to_compute(short_example(1), at::kCPU, at::kFloat);
  LatencyOptions options;
  options.prompt = 0;
  options.generate = 2;
  options.repeats = 1;
  options.prefill = false;
  const auto profiles = profile(model, options);
  REQUIRE(profiles.size() == 1);
  CHECK(profiles[0].phase == "decode");
  options.decode = false;
  error_of(ErrorKind::kInternal, [&] { profile(model, options); });
}
