// The products of packed_linear.cpp done by ggml, the library under llama.cpp,
// for comparison: Q4_0 and Q8_0 weights in the layout that ggml's CPU back end
// prefers on this machine, as llama.cpp loads them.
//
//   ggml_linear [--threads N] [--types q4_0,q8_0] [--rows 1,4,16,128,512]
//               [--shapes gate_up,down] [--seconds S] [--quantile Q]
//               [--clock wall|cpu]
//
// Options and columns mean what they mean there. Built where CMake is given
// -DGGML_ROOT=<folder with include/ and lib/> of an installed ggml (from
// github.com/ggml-org/llama.cpp, or the sources in PyPI's llama-cpp-python).
#include <fmt/core.h>
#include <ggml-backend.h>
#include <ggml-cpu.h>
#include <ggml.h>
#include <unistd.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "bench_support.h"

namespace {

using autoglm::bench::copies_of;
using autoglm::bench::kShapes;
using autoglm::bench::Settings;
using autoglm::bench::Shape;
using autoglm::bench::time_ms;

// Where weights of `type` are held: the first of the CPU's special layouts
// that multiplies them, or plain memory.
ggml_backend_buffer_type_t buffer_type(ggml_backend_t cpu, ggml_tensor* weight,
                                       ggml_tensor* product) {
  ggml_backend_dev_t device = ggml_backend_get_device(cpu);
  const auto extra = reinterpret_cast<ggml_backend_dev_get_extra_bufts_t>(
      ggml_backend_reg_get_proc_address(ggml_backend_dev_backend_reg(device),
                                        "ggml_backend_dev_get_extra_bufts"));
  ggml_backend_buffer_type_t* types =
      extra != nullptr ? extra(device) : nullptr;
  for (; types != nullptr && *types != nullptr; ++types) {
    // The device answers for a weight that lies in such a buffer.
    weight->buffer = ggml_backend_buft_alloc_buffer(*types, 0);
    const bool taken = ggml_backend_dev_supports_op(device, product);
    ggml_backend_buffer_free(weight->buffer);
    weight->buffer = nullptr;
    if (taken) return *types;
  }
  return ggml_backend_cpu_buffer_type();
}

void measure(const Settings& settings, const Shape& shape, std::int64_t rows,
             ggml_type type) {
  ggml_backend_t cpu = ggml_backend_cpu_init();
  ggml_backend_cpu_set_n_threads(cpu, settings.threads);
  const std::size_t each =
      ggml_row_size(type, shape.in) * static_cast<std::size_t>(shape.out);
  const int copies = copies_of(each);
  const auto context = [](std::size_t tensors) {
    return ggml_init(
        {tensors * ggml_tensor_overhead() + ggml_graph_overhead() * tensors,
         nullptr, true});
  };
  ggml_context* held = context(static_cast<std::size_t>(copies));
  ggml_context* made = context(static_cast<std::size_t>(2 * copies + 2));
  ggml_tensor* x = ggml_new_tensor_2d(made, GGML_TYPE_F32, shape.in, rows);
  std::vector<ggml_tensor*> weights;
  std::vector<ggml_cgraph*> graphs;
  for (int i = 0; i < copies; ++i) {
    weights.push_back(ggml_new_tensor_2d(held, type, shape.in, shape.out));
    graphs.push_back(ggml_new_graph(made));
    ggml_build_forward_expand(graphs.back(),
                              ggml_mul_mat(made, weights.back(), x));
  }
  ggml_backend_buffer_type_t layout =
      buffer_type(cpu, weights[0], ggml_graph_node(graphs[0], 0));
  ggml_backend_buffer_t weight_memory =
      ggml_backend_alloc_ctx_tensors_from_buft(held, layout);
  ggml_backend_buffer_t rest = ggml_backend_alloc_ctx_tensors_from_buft(
      made, ggml_backend_cpu_buffer_type());
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  std::vector<float> numbers(static_cast<std::size_t>(shape.in * rows));
  for (float& number : numbers) number = normal(random);
  ggml_backend_tensor_set(x, numbers.data(), 0, ggml_nbytes(x));
  numbers.resize(static_cast<std::size_t>(shape.in * shape.out));
  for (float& number : numbers) number = normal(random);
  std::vector<std::uint8_t> codes(each);
  ggml_quantize_chunk(type, numbers.data(), codes.data(), 0, shape.out,
                      shape.in, nullptr);
  for (ggml_tensor* weight : weights)
    ggml_backend_tensor_set(weight, codes.data(), 0, each);
  const double ms = time_ms(settings, copies, [&](int round) {
    ggml_backend_graph_compute(cpu, graphs[static_cast<std::size_t>(round)]);
  });
  const double elements = static_cast<double>(shape.out * shape.in);
  fmt::print("{:>8} {:>5} {:>11} {:>9.3f} {:>7.1f} {:>8.0f}   {}\n", shape.name,
             rows, ggml_type_name(type), ms,
             1e-6 * static_cast<double>(each) / ms,
             2e-6 * elements * static_cast<double>(rows) / ms,
             ggml_backend_buft_name(layout));
  std::fflush(stdout);
  ggml_backend_buffer_free(weight_memory);
  ggml_backend_buffer_free(rest);
  ggml_free(held);
  ggml_free(made);
  ggml_backend_free(cpu);
}

void run(const Settings& settings, const std::vector<std::string>& types) {
  ggml_log_set([](ggml_log_level, const char*, void*) {}, nullptr);
  fmt::print(
      "{} threads, {} time\n\n{:>8} {:>5} {:>11} {:>9} {:>7} {:>8}   {}\n",
      settings.threads, settings.cpu_clock() ? "processor" : "wall", "shape",
      "rows", "weight", "ms", "GB/s", "GFLOP/s", "layout");
  for (const Shape& shape : kShapes) {
    if (!settings.takes(shape)) continue;
    for (const std::int64_t rows : settings.rows)
      for (const std::string& type : types)
        measure(settings, shape, rows,
                type == "q8_0"   ? GGML_TYPE_Q8_0
                : type == "q4_0" ? GGML_TYPE_Q4_0
                                 : GGML_TYPE_BF16);
  }
}

}  // namespace

int main(int count, char** words) {
  Settings settings;
  std::vector<std::string> types = {"q4_0", "q8_0"};
  CLI::App app("The products of packed_linear done by ggml.", "ggml_linear");
  add_options(app, settings);
  autoglm::bench::add_list(app, "--types", types, "of the weights")
      ->check(CLI::IsMember({"q4_0", "q8_0", "bf16"}));
  return autoglm::bench::run_program(app, count, words,
                                     [&] { run(settings, types); });
}
