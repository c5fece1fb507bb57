// How fast are the kernels for GPUs, against the memory?
//
//   cuda_kernels [--bits 2,3,4,8,fp8] [--rows 1,4,8,16] [--group 128]
//                [--shapes qkv,output,gate_up,down] [--cache 16,8,4]
//                [--tokens 2048,8192] [--batch 1,8] [--seconds S]
//
// Products: the shapes of a GLM-4-9B block, x and y in bf16; bytes are those of
// codes, scales, x and y. Attention of one token: 32 heads that share 2 of size
// 128, bytes are those of the cache. Every row says microseconds, GB/s, and
// that as a share of the copy bandwidth (bytes read and written) of the same
// run. Calls take turns with more memory than the second-level cache holds, as
// a decode step does, and are replayed as one graph, so that no launch is
// waited for. Times are medians. Codes are random. Without a device it says so
// and exits with 0.
#include "autoglm/kernels/cuda_kernels.h"

#include <cuda_runtime_api.h>
#include <fmt/core.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "autoglm/kernels/cuda_stream_kernels.h"
#include "cuda_support.h"

namespace {

namespace cuda = autoglm::kernels::cuda;
using autoglm::bench::check;
using autoglm::bench::Device;
using autoglm::bench::kShapes;
using autoglm::bench::Memory;
using autoglm::bench::microseconds;
using autoglm::bench::ones;
using autoglm::bench::Shape;
using autoglm::kernels::PackedMatrix;

struct Settings : autoglm::bench::Settings {
  Settings() {
    shapes = {"qkv", "output", "gate_up", "down"};
    rows = {1, 4, 8, 16};
  }
  std::int64_t group = 128;
  std::vector<std::string> bits = {"2", "3", "4", "8", "fp8"};
  std::vector<int> cache = {16, 8, 4};
  std::vector<std::int64_t> tokens = {2048, 8192};
  std::vector<std::int64_t> batch = {1, 8};
};

void print_row(const Device& device, const std::string& what, double bytes,
               double us) {
  const double rate = bytes / us / 1e3;
  fmt::print("{:<34}{:>10.1f}{:>10.0f}{:>9.0f} %\n", what, us, rate,
             100 * rate / device.copy);
}

// A weight [out, in] and how to multiply with it.
struct Weight {
  Memory codes, scales;
  PackedMatrix packed = {};
  cuda::Float8Matrix float8 = {};
  bool is_float8;
  double bytes;

  Weight(const Shape& shape, const std::string& bits, std::int64_t group)
      : codes(code_bytes(shape, bits), bits == "fp8" ? 0xb7 : 0xff),
        scales(ones(shape.out * groups(shape, bits, group))),
        is_float8(bits == "fp8"),
        bytes(static_cast<double>(code_bytes(shape, bits)) +
              2.0 *
                  static_cast<double>(shape.out * groups(shape, bits, group))) {
    constexpr auto kType = cuda::NumberType::kBFloat16;
    if (is_float8)
      float8 = {codes.as<std::uint8_t>(), scales.as<void>(), kType, shape.out,
                shape.in};
    else
      packed = {codes.as<std::uint32_t>(),
                scales.as<void>(),
                kType,
                nullptr,
                shape.out,
                shape.in,
                group > 0 ? group : shape.in,
                std::stoi(bits)};
  }

  static std::size_t code_bytes(const Shape& shape, const std::string& bits) {
    const std::int64_t width = bits == "fp8" ? 8 : std::stoi(bits);
    return static_cast<std::size_t>(shape.out * ((shape.in * width + 31) / 32) *
                                    4);
  }
  static std::int64_t groups(const Shape& shape, const std::string& bits,
                             std::int64_t group) {
    return bits == "fp8" || group <= 0 ? 1 : (shape.in + group - 1) / group;
  }
  std::int64_t workspace(std::int64_t rows) const {
    constexpr auto kType = cuda::NumberType::kBFloat16;
    return is_float8 ? cuda::linear_workspace(float8, kType, rows)
                     : cuda::linear_workspace(packed, kType, rows);
  }
  void multiply(const cuda::LinearArguments& a, cudaStream_t stream) const {
    check(is_float8 ? cuda::float8_linear(float8, a, stream)
                    : cuda::packed_linear(packed, a, stream));
  }
};

void time_products(const Device& device, const Settings& settings,
                   const Shape& shape, const std::string& bits) {
  std::vector<Weight> weights = {Weight(shape, bits, settings.group)};
  while (weights.size() < device.copies_of(weights[0].bytes))
    weights.emplace_back(shape, bits, settings.group);
  for (const std::int64_t rows : settings.rows) {
    const Memory x = ones(rows * shape.in);
    const Memory y(static_cast<std::size_t>(2 * rows * shape.out));
    const Memory workspace(
        static_cast<std::size_t>(weights[0].workspace(rows)));
    cuda::LinearArguments a = {};
    a.x = x.as<void>();
    a.y = y.as<void>();
    a.x_type = a.y_type = a.bias_type = cuda::NumberType::kBFloat16;
    a.rows = rows;
    a.workspace = workspace.as<void>();
    const double us = microseconds(
        device, settings, weights.size(),
        [&](std::size_t i) { weights[i].multiply(a, device.stream); });
    const double moved =
        weights[0].bytes +
        2.0 * static_cast<double>(rows * (shape.in + shape.out));
    print_row(device,
              fmt::format("{} {} bits, {} rows", shape.name, bits, rows), moved,
              us);
  }
}

void time_attention(const Device& device, const Settings& settings,
                    std::int64_t batch, std::int64_t tokens, int bits) {
  constexpr std::int64_t kHeads = 32, kGroups = 2, kSize = 128;
  const std::int64_t token_bytes =
      bits == 16 ? 2 * kSize : kSize * bits / 8 + 4;
  const std::int64_t bytes = batch * kGroups * tokens * token_bytes;
  struct Cache {
    Memory keys, values;
  };
  std::vector<Cache> caches;
  const std::size_t count = device.copies_of(2.0 * static_cast<double>(bytes));
  // Numbers of bf16 below 2, and steps in fp16 as small.
  while (caches.size() < count)
    caches.push_back({Memory(static_cast<std::size_t>(bytes), 0x3f),
                      Memory(static_cast<std::size_t>(bytes), 0x3f)});
  const Memory query = ones(batch * kHeads * kSize);
  const Memory y(static_cast<std::size_t>(2 * batch * kHeads * kSize));
  const Memory workspace(static_cast<std::size_t>(
      cuda::attention_workspace(batch, kHeads, kGroups, tokens, kSize)));
  cuda::AttentionArguments a = {};
  a.query = query.as<void>();
  a.query_batch_stride = kHeads * kSize;
  a.query_head_stride = kSize;
  a.cache_token_stride = bits == 16 ? kSize : token_bytes;
  a.cache_group_stride = tokens * a.cache_token_stride;
  a.cache_batch_stride = kGroups * a.cache_group_stride;
  a.cache_bits = bits == 16 ? 0 : bits;
  a.y = y.as<void>();
  a.type = cuda::NumberType::kBFloat16;
  a.batch = batch;
  a.heads = kHeads;
  a.groups = kGroups;
  a.tokens = tokens;
  a.size = kSize;
  a.scale = 0.088f;
  a.workspace = workspace.as<void>();
  const double us =
      microseconds(device, settings, caches.size(), [&](std::size_t i) {
        a.keys = caches[i].keys.as<void>();
        a.values = caches[i].values.as<void>();
        check(cuda::decode_attention(a, device.stream));
      });
  print_row(device,
            fmt::format("attention {} bits, {} x {}", bits, batch, tokens),
            2.0 * static_cast<double>(bytes), us);
}

void run(const Settings& settings) {
  int devices = 0;
  if (const cudaError_t error = cudaGetDeviceCount(&devices);
      error != cudaSuccess || devices == 0) {
    fmt::print("no CUDA device: {}\n", cudaGetErrorString(error));
    return;
  }
  cudaDeviceProp properties;
  check(cudaGetDeviceProperties(&properties, 0));
  Device device;
  check(cudaStreamCreate(&device.stream));
  device.rotation = std::max<std::size_t>(
      std::size_t{256} << 20,
      4 * static_cast<std::size_t>(properties.l2CacheSize));
  autoglm::bench::time_copy(device, settings);
  fmt::print("{}, copy {:.0f} GB/s, groups of {}\n", properties.name,
             device.copy, settings.group);
  fmt::print("{:<34}{:>10}{:>10}{:>11}\n", "", "us", "GB/s", "of copy");
  for (const Shape& shape : kShapes)
    for (const std::string& bits : settings.bits)
      if (settings.takes(shape)) time_products(device, settings, shape, bits);
  for (const int bits : settings.cache)
    for (const std::int64_t batch : settings.batch)
      for (const std::int64_t tokens : settings.tokens)
        time_attention(device, settings, batch, tokens, bits);
  check(cudaStreamDestroy(device.stream));
}

}  // namespace

int main(int count, char** words) {
  using autoglm::bench::add_list;
  Settings settings;
  CLI::App app("The kernels for GPUs, against the memory.", "cuda_kernels");
  add_options(app, settings);
  add_list(app, "--bits", settings.bits, "of the weights")
      ->check(CLI::IsMember({"2", "3", "4", "5", "6", "7", "8", "fp8"}));
  app.add_option("--group", settings.group,
                 "weights that share a scale; 0: a whole row")
      ->capture_default_str();
  add_list(app, "--cache", settings.cache, "bits of the cache")
      ->check(CLI::IsMember({16, 8, 4}));
  add_list(app, "--tokens", settings.tokens, "in the cache")
      ->check(CLI::PositiveNumber);
  add_list(app, "--batch", settings.batch, "sequences at once")
      ->check(CLI::PositiveNumber);
  return autoglm::bench::run_program(app, count, words, [&] { run(settings); });
}
