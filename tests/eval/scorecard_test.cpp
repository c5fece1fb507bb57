#include "autoglm/eval/scorecard.h"

#include <limits>

#include "tests/support/throws.h"

using namespace autoglm;
using autoglm::test::error_of;

namespace {

Scorecard sample() {
  Scorecard s;
  s.data = "data/evaluation.txt";
  s.windows = 200;
  s.length = 256;
  s.tokens = 51200;
  s.text_bytes = 192915;
  s.perplexity = 30.155606359023832;
  s.bits_per_byte = 1.3042787869697905;
  s.accuracy = 0.3370703125;
  return s;
}

Latency sample_latency() {
  Latency l;
  l.device = "cpu (2 threads)";
  l.dtype = "fp32";
  l.batch = 2;
  l.prompt = 512;
  l.generated = 128;
  l.copy_bandwidth_gb_s = 11.25;
  l.prefill = {"prefill",           101.5, 110, 120, 5, 1u << 24, 0.165, 0.0147,
               "dequantize + gemm", true};
  l.decode = {"decode", 3.5,           4,    5, 640, 1u << 23, 2.4,
              0.213,    "packed avx2", false};
  return l;
}

}  // namespace

TEST_CASE("scorecard: JSON and back without a divergence") {
  const Json json = to_json(sample());
  CHECK_FALSE(json.contains("kl"));
  const Scorecard again = scorecard_from_json(json, "record.json");
  CHECK(again.data == "data/evaluation.txt");
  CHECK(again.windows == 200);
  CHECK(again.length == 256);
  CHECK(again.tokens == 51200);
  CHECK(again.text_bytes == 192915);
  CHECK(again.perplexity == sample().perplexity);
  CHECK(again.bits_per_byte == sample().bits_per_byte);
  CHECK(again.accuracy == sample().accuracy);
  CHECK_FALSE(again.divergence.has_value());
}

TEST_CASE("scorecard: text of the JSON keeps every digit") {
  Scorecard s = sample();
  s.divergence = Divergence{0.1, 1.0 / 3, 0.9, 0.99, 2e-17, 1.0000000000000002};
  const std::string text = to_text(to_json(s));
  const Scorecard again =
      scorecard_from_json(parse_json(text, "record.json"), "record.json");
  REQUIRE(again.divergence.has_value());
  CHECK(again.divergence->kl == 0.1);
  CHECK(again.divergence->kl_p99 == 1.0 / 3);
  CHECK(again.divergence->top1_agreement == 0.9);
  CHECK(again.divergence->cosine == 0.99);
  CHECK(again.divergence->l2 == 2e-17);
  CHECK(again.divergence->accuracy_retention == 1.0000000000000002);
  CHECK(to_text(to_json(again)) == text);
}

TEST_CASE("scorecard: a missing field is named with its file") {
  for (const char* key : {"data", "windows", "perplexity", "accuracy"}) {
    Json json = to_json(sample());
    json.erase(key);
    const std::string message = error_of(
        ErrorKind::kInput, [&] { scorecard_from_json(json, "record.json"); });
    CHECK(message == "record.json: " + std::string(key) + " is missing");
  }
}

TEST_CASE("scorecard: half a divergence is an error") {
  Scorecard s = sample();
  s.divergence = Divergence{};
  Json json = to_json(s);
  json.erase("l2");
  CHECK(error_of(ErrorKind::kInput, [&] {
          scorecard_from_json(json, "record.json");
        }) == "record.json: l2 is missing");
}

TEST_CASE("scorecard: a number that overflowed is not read as one") {
  Scorecard s = sample();
  s.perplexity = std::numeric_limits<double>::infinity();
  const Json json = parse_json(to_text(to_json(s)), "record.json");
  error_of(ErrorKind::kInput,
           [&] { scorecard_from_json(json, "record.json"); });
}

TEST_CASE("latency: JSON and back") {
  const Json json = parse_json(to_text(to_json(sample_latency())), "a.json");
  const Latency again = latency_from_json(json, "a.json");
  CHECK(to_json(again) == to_json(sample_latency()));
  CHECK(again.device == "cpu (2 threads)");
  CHECK(again.batch == 2);
  CHECK(again.prefill.simulated);
  CHECK_FALSE(again.decode.simulated);
  CHECK(again.decode.samples == 640);
  CHECK(again.decode.bytes_touched == 1u << 23);
  CHECK(again.decode.kernel == "packed avx2");
}

TEST_CASE("latency: a record has the phases that were measured, at least one") {
  Json json = to_json(sample_latency());
  json.erase("decode");
  CHECK(latency_from_json(json, "a.json").decode.samples == 0);
  CHECK(latency_from_json(json, "a.json").prefill.simulated);
  json.erase("prefill");
  error_of(ErrorKind::kInput, [&] { latency_from_json(json, "a.json"); });
  json = to_json(sample_latency());
  json["prefill"].erase("median_ms");
  CHECK(error_of(ErrorKind::kInput, [&] {
          latency_from_json(json, "a.json");
        }) == "a.json: median_ms is missing");
}
