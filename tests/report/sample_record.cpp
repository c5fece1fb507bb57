#include "tests/report/sample_record.h"

#include "autoglm/core/text.h"

namespace autoglm {
namespace {

constexpr std::int64_t kHidden = 256, kHeadSize = 64, kVocabulary = 4096;
constexpr std::int64_t kBlocks = 8;

void add_linear(ModelRecord& model, std::string name, const char* part,
                std::int64_t out, std::int64_t in, double bits) {
  const auto elements = static_cast<std::uint64_t>(out * in);
  LinearRecord linear{std::move(name), out,  in,
                      "dense bf16",    bits, elements * 2};
  if (bits < 16) {
    linear.format = fmt::format("int{:.0f} per-channel symmetric", bits);
    linear.bytes = elements * static_cast<std::uint64_t>(bits) / 8 +
                   static_cast<std::uint64_t>(out) * 2;
  }
  model.parameters += elements;
  model.weight_bytes += linear.bytes;
  for (auto& [key, bytes] : model.parts)
    if (key == part) bytes += linear.bytes;
  model.linears.push_back(std::move(linear));
}

ModelRecord model_of(std::int64_t heads, std::int64_t ffn, double bits) {
  ModelRecord model;
  model.parts = {{"embedding", 0}, {"attention", 0}, {"mlp", 0},
                 {"norms", 8704},  {"head", 0},      {"extra", 0}};
  model.weight_bytes = 8704;
  model.parameters = 4352;
  add_linear(model, "embedding", "embedding", kVocabulary, kHidden, 16);
  for (std::int64_t i = 0; i < kBlocks; ++i) {
    // Not all blocks alike, so that the pictures show differences.
    const std::int64_t width = ffn < 768 ? ffn + 32 * (i % 3) : ffn;
    const double mlp_bits = bits < 16 && i % 4 == 3 ? 4 : bits;
    const std::string prefix = fmt::format("layers.{}.", i);
    add_linear(model, prefix + "attention.query", "attention",
               heads * kHeadSize, kHidden, bits);
    add_linear(model, prefix + "attention.key", "attention", 2 * kHeadSize,
               kHidden, bits);
    add_linear(model, prefix + "attention.value", "attention", 2 * kHeadSize,
               kHidden, bits);
    add_linear(model, prefix + "attention.output", "attention", kHidden,
               heads * kHeadSize, bits);
    add_linear(model, prefix + "mlp.gate_up", "mlp", 2 * width, kHidden,
               mlp_bits);
    add_linear(model, prefix + "mlp.down", "mlp", kHidden, width, mlp_bits);
    model.blocks.push_back({heads, 2, width});
  }
  add_linear(model, "head", "head", kVocabulary, kHidden, 16);
  return model;
}

Scorecard score(double perplexity, double bits_per_byte, double accuracy) {
  Scorecard card;
  card.data = "examples/data/evaluation.txt";
  card.windows = 200;
  card.length = 256;
  card.tokens = 51200;
  card.text_bytes = 183400;
  card.perplexity = perplexity;
  card.bits_per_byte = bits_per_byte;
  card.accuracy = accuracy;
  return card;
}

Scorecard score(double perplexity, double bits_per_byte, double accuracy,
                const Divergence& divergence) {
  Scorecard card = score(perplexity, bits_per_byte, accuracy);
  card.divergence = divergence;
  return card;
}

Latency latency(double prefill, double decode, const char* kernel) {
  Latency out;
  out.device = "cpu (2 threads)";
  out.dtype = "float";
  out.prompt = 256;
  out.generated = 64;
  out.copy_bandwidth_gb_s = 21.4;
  out.prefill = {"prefill", prefill,    prefill * 1.05, prefill * 1.12,
                 5,         16'800'000, 16.8 / prefill, 0.02,
                 kernel,    false};
  out.decode = {"decode", decode,     decode * 1.08, decode * 1.3,
                320,      16'800'000, 16.8 / decode, 16.8 / decode / 21.4,
                kernel,   false};
  return out;
}

Json layer_errors() {
  Json rows = Json::array();
  for (int i = 0; i < kBlocks; ++i)
    rows.push_back({{"layer", fmt::format("layers.{}.mlp.down", i)},
                    {"error before", 0.0123 + 0.001 * i},
                    {"error after", 0.0061 + 0.0006 * i}});
  return rows;
}

}  // namespace

Record sample_record() {
  Record record;
  record.autoglm_version = "0.1.0";
  record.libtorch_version = "2.11.0";
  record.started = "2026-03-01T12:00:00Z";
  record.seconds = 201.4;
  record.status = "gate not met";
  record.model = "examples/glm-books";
  record.output = "out/glm-books-small";
  record.config = "configs/sample.yaml";
  record.input_fingerprint = "89ab01234567cdef";
  record.device = "cpu";
  record.cpu = "Example CPU @ 2.60GHz";
  record.threads = 2;
  record.data = {{"calibration",
                  {{"source", "examples/data/calibration.txt"},
                   {"windows", 128},
                   {"length", 256}}},
                 {"evaluation",
                  {{"source", "examples/data/evaluation.txt"},
                   {"windows", 200},
                   {"length", 256}}}};
  record.resolved = {
      {"model", "examples/glm-books"},
      {"seed", 0},
      {"compression", Json::array({{{"type", "structured_pruning"},
                                    {"params", {{"sparsity_ratio", 0.4}}}}})}};

  record.before = model_of(4, 768, 16);
  record.before.disk_bytes = 17'400'000;
  record.before.scorecard = score(29.871, 1.1893, 0.3472);
  record.before.latency = latency(41.2, 3.31, "dense fp32");

  StepRecord prune;
  prune.name = prune.type = "structured_pruning";
  prune.status = "done";
  prune.seconds = 9.3;
  prune.params = {{"sparsity_ratio", 0.4},
                  {"target_layers", {"encoder.block.*"}},
                  {"repair", true}};
  prune.notes = {{"channels kept", "60 %"}, {"repair error", layer_errors()}};
  prune.after = model_of(2, 448, 16);
  prune.after->scorecard = score(58.42, 1.4236, 0.2731,
                                 {0.712, 3.91, 0.5212, 0.9412, 0.214, 0.7866});

  StepRecord distill;
  distill.name = distill.type = "distillation";
  distill.status = "done";
  distill.seconds = 120.6;
  distill.params = {{"minutes", 2}, {"temperature", 2.0}};
  distill.notes = {{"held-out loss", {3.91, 3.71, 3.64, 3.61}},
                   {"tokens per second", 10450}};
  distill.after = prune.after;
  distill.after->scorecard = score(
      36.93, 1.2630, 0.3215, {0.241, 1.62, 0.6931, 0.9745, 0.121, 0.9260});

  StepRecord quantize;
  quantize.name = "last_int8";
  quantize.type = "quantization";
  quantize.status = "done";
  quantize.seconds = 31.9;
  quantize.params = {{"bits", 8}, {"method", "adaquant"}};
  quantize.notes = {{"layers improved", 44}};
  quantize.after = model_of(2, 448, 8);
  quantize.after->scorecard = score(
      37.02, 1.2637, 0.3213, {0.243, 1.64, 0.6922, 0.9743, 0.122, 0.9254});

  record.steps = {prune, distill, quantize};
  record.after = quantize.after;
  record.after->disk_bytes = 7'250'000;
  record.after->latency = latency(28.4, 1.74, "avx512 packed");
  record.constraints = {
      {"accuracy_retention", ">= 0.983", 0.9254, 0.983, false},
      {"latency decode (batch 1)", "<= 2 ms", 1.74, 2, true},
      {"size", "<= 8.0 MB", 7'250'000, 8'000'000, true}};
  return record;
}

Record failed_record() {
  Record record = sample_record();
  record.status = "failed";
  record.error = "non-finite loss <nan> & \"no\" way on\n  in 'distillation'";
  record.steps.resize(2);
  StepRecord& step = record.steps[1];
  step.status = "failed";
  step.error = record.error;
  step.after.reset();
  step.notes = nullptr;
  record.after.reset();
  record.before.latency.reset();
  record.constraints.clear();
  return record;
}

}  // namespace autoglm
