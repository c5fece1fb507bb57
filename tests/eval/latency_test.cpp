#include "autoglm/eval/latency.h"

#include <cmath>
#include <string>

#include "autoglm/kernels/dense_linear.h"
#include "autoglm/model/dense_product.h"
#include "autoglm/model/footprint.h"
#include "tests/eval/bigram_model.h"
#include "tests/support/emulated_kernels.h"
#include "tests/support/packed_model.h"
#include "tests/support/throws.h"

using namespace autoglm;
using namespace autoglm::test;

namespace {

LatencyOptions short_run() {
  LatencyOptions options;
  options.prompt = 32;
  options.generate = 3;
  options.repeats = 2;
  return options;
}

void check_phase(const LatencyPhase& phase, double bandwidth) {
  INFO(phase.phase);
  for (const double value : {phase.median_ms, phase.p90_ms, phase.p99_ms,
                             phase.achieved_gb_s, phase.bandwidth_share}) {
    CHECK(std::isfinite(value));
    CHECK(value > 0);
  }
  CHECK(phase.median_ms <= phase.p90_ms);
  CHECK(phase.p90_ms <= phase.p99_ms);
  CHECK(phase.achieved_gb_s == Approx(static_cast<double>(phase.bytes_touched) /
                                      phase.median_ms / 1e6));
  CHECK(phase.bandwidth_share == Approx(phase.achieved_gb_s / bandwidth));
}

}  // namespace

TEST_CASE("latency: two models, interleaved, with their sample counts") {
  const Model dense = short_example(2);
  Model packed = dense;
  for (const NamedLinear& linear : named_linears(dense))
    if (linear.name != "embedding") round_weight(packed, linear.name, 4, 64);
  const std::vector<Latency> both =
      measure_latency({&dense, &packed}, short_run());
  REQUIRE(both.size() == 2);
  for (const Latency& latency : both) {
    CHECK(latency.device.rfind("cpu (", 0) == 0);
    CHECK(latency.dtype == "fp32");
    CHECK(latency.batch == 1);
    CHECK(latency.prompt == 32);
    CHECK(latency.generated == 3);
    CHECK(latency.copy_bandwidth_gb_s > 0);
    CHECK(latency.prefill.phase == "prefill");
    CHECK(latency.prefill.samples == 2);  // repeats
    CHECK(latency.decode.phase == "decode");
    CHECK(latency.decode.samples == 2 * 3);  // repeats * generate
    check_phase(latency.prefill, latency.copy_bandwidth_gb_s);
    check_phase(latency.decode, latency.copy_bandwidth_gb_s);
  }
  // One bandwidth for both, so that the shares can be compared.
  CHECK(both[0].copy_bandwidth_gb_s == both[1].copy_bandwidth_gb_s);

  const std::string few =
      std::string("dense bf16 ") + kernels::dense_linear_kernel();
  CHECK(both[0].prefill.kernel ==
        (has_bfloat16_product() ? "dense bf16, " + few : few + ", dense fp32"));
  CHECK(both[0].decode.kernel == few);
  CHECK_FALSE(both[0].prefill.simulated);
  CHECK_FALSE(both[0].decode.simulated);
  for (const LatencyPhase* phase : {&both[1].prefill, &both[1].decode}) {
    CHECK(phase->kernel.find("integer ") != std::string::npos);
    CHECK_FALSE(phase->simulated);
  }
  CHECK(both[1].decode.bytes_touched < both[0].decode.bytes_touched / 3);
}

TEST_CASE("latency: exact products with many tokens have no low-bit kernel") {
  Model packed = short_example(1);
  for (const NamedLinear& linear : named_linears(packed))
    if (linear.name != "embedding") round_weight(packed, linear.name, 4, 64);
  LatencyOptions options = short_run();
  options.product = QuantizedProduct::kExact;
  const Latency latency = measure_latency({&packed}, options).at(0);
  // One row runs through the packed kernel; 32 rows are dequantized first,
  // which must be said.
  CHECK(latency.decode.kernel.find("packed ") != std::string::npos);
  CHECK_FALSE(latency.decode.simulated);
  CHECK(latency.prefill.kernel.find("dequantize + gemm") != std::string::npos);
  CHECK(latency.prefill.simulated);
}

TEST_CASE("latency: bytes are the weights and, in decode, the cache") {
  const Model model = short_example(1);
  LatencyOptions options = short_run();
  options.repeats = 1;
  options.generate = 4;
  options.batch = 2;
  options.dtype = at::kBFloat16;
  const Latency latency = measure_latency({&model}, options).at(0);
  CHECK(latency.dtype == "bf16");
  CHECK(latency.decode.kernel.starts_with("dense bf16 "));
  CHECK(latency.batch == 2);
  CHECK(latency.prefill.samples == 1);
  CHECK(latency.decode.samples == 4);
  // The example is bf16 already: as many bytes as on disk.
  const std::uint64_t weights = footprint(model).bytes_per_token;
  CHECK(latency.prefill.bytes_touched == weights);
  // Keys and values of one layer, 2 heads of 64, two bytes each, for two
  // sequences of 32 + 4 / 2 tokens.
  const std::uint64_t cache = 2 * 2 * 64 * 2 * 2 * (32 + 2);
  CHECK(latency.decode.bytes_touched == weights + cache);
  // In 4 bits half a byte each, and four bytes for each head.
  Model coded = model;
  coded.architecture.kv_cache_bits = 4;
  CHECK(measure_latency({&coded}, options).at(0).decode.bytes_touched ==
        weights + 2 * 2 * (32 + 4) * 2 * (32 + 2));
}

TEST_CASE("latency: decode alone, after a context that was not run") {
  const Model model = short_example(1);
  const LatencyLab lab({model}, at::kCPU, at::kBFloat16);
  LatencyPoint point;
  point.generate = 3;
  point.repeats = 2;
  point.prefill = false;
  const std::uint64_t weights = footprint(model).bytes_per_token;
  const std::uint64_t each = 2 * 2 * 64 * 2;  // keys and values, bf16
  for (const std::int64_t context : {0, 1, 50}) {
    point.prompt = context;
    const Latency latency = lab.measure(point).at(0);
    CHECK(latency.prompt == context);
    CHECK(latency.prefill.samples == 0);
    CHECK(latency.decode.samples == 6);
    CHECK(latency.decode.rounds_ms.size() == 2);
    CHECK(latency.decode.bytes_touched ==
          Approx(static_cast<double>(weights) +
                 static_cast<double>(each) * static_cast<double>(context + 1))
              .epsilon(1e-3));
    CHECK_FALSE(to_json(latency).contains("prefill"));
    const Latency again = latency_from_json(to_json(latency), "a.json");
    CHECK(again.decode.rounds_ms == latency.decode.rounds_ms);
    CHECK(again.prefill.samples == 0);
  }
  point.prompt = 20;
  point.prefill = true;
  point.decode = false;
  const Latency prefill = lab.measure(point).at(0);
  CHECK(prefill.prefill.samples == 2);
  CHECK(prefill.decode.samples == 0);
  point.prefill = false;
  error_of(ErrorKind::kInternal, [&] { lab.measure(point); });
}

TEST_CASE("latency: nothing to measure is our own fault") {
  error_of(ErrorKind::kInternal, [] { measure_latency({}, short_run()); });
  const Model model = short_example(1);
  LatencyOptions options = short_run();
  options.repeats = 0;
  error_of(ErrorKind::kInternal, [&] { measure_latency({&model}, options); });
}

TEST_CASE("latency: names the kernels of a device and the graph of a step") {
  TinySize size;
  size.hidden = size.ffn = 64;
  size.head_size = 16;
  const Model model = packed_model(tiny_model("glm4", 1, size), 4, 32);
  LatencyOptions options;
  options.prompt = 40;  // too many rows for the kernel
  options.generate = 5;
  options.repeats = 1;
  const EmulatedKernels kernels(Recording::kWorks);
  const Latency latency = measure_latency({&model}, options)[0];
  CHECK(latency.decode.kernel == "cuda packed (one graph)");
  CHECK_FALSE(latency.decode.simulated);
  CHECK(latency.decode.samples == 5);
  CHECK(latency.prefill.kernel == "cuda packed, dequantize + gemm");
  CHECK(latency.prefill.simulated);
  // A warm-up round and one that counts.
  CHECK(EmulatedKernels::take("capture") == 2);
  CHECK(EmulatedKernels::take("replay") == 2 * 5);
}
