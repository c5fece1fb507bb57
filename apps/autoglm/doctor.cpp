// autoglm doctor: device, instruction set, libtorch, kernels found.
#include <ATen/Parallel.h>
#include <torch/version.h>
#include <unistd.h>

#include "autoglm/core/text.h"
#include "autoglm/core/version.h"
#include "autoglm/eval/accelerator.h"
#include "autoglm/kernels/dense_linear.h"
#include "autoglm/kernels/integer_linear.h"
#include "autoglm/kernels/packed_linear.h"
#include "autoglm/model/dense_product.h"
#include "commands.h"
#include "print.h"

namespace autoglm::cli {
namespace {

std::string instruction_sets() {
  std::vector<std::string> found;
  __builtin_cpu_init();
#define AUTOGLM_ISA(name) \
  if (__builtin_cpu_supports(name)) found.emplace_back(name)
  AUTOGLM_ISA("avx2");
  AUTOGLM_ISA("fma");
  AUTOGLM_ISA("avx512f");
  AUTOGLM_ISA("avx512bw");
  AUTOGLM_ISA("avx512vnni");
  AUTOGLM_ISA("avx512bf16");
#undef AUTOGLM_ISA
  return found.empty() ? "baseline x86-64"
                       : fmt::format("{}", fmt::join(found, " "));
}

void doctor(const Session& session) {
  session.begin();
  std::string why;
  Accelerator* cuda = find_cuda(&why);
  const std::string gpu = cuda != nullptr
                              ? fmt::format("{} ({})", cuda->device_name(0),
                                            format_bytes(cuda->total_memory(0)))
                              : "none: " + why;
  std::string why_no_kernels;
  const std::string gpu_kernels =
      has_cuda_kernels(&why_no_kernels)
          ? "low-bit products, dequantization, norms, rotation, attention, one "
            "graph per step"
          : "none: " + why_no_kernels;
  const auto memory = static_cast<std::uint64_t>(sysconf(_SC_PHYS_PAGES)) *
                      static_cast<std::uint64_t>(sysconf(_SC_PAGE_SIZE));
  const Json json = {{"autoglm", version()},
                     {"libtorch", TORCH_VERSION},
                     {"threads", at::get_num_threads()},
                     {"memory_bytes", memory},
                     {"instruction_sets", instruction_sets()},
                     {"low_bit_kernel", kernels::packed_linear_kernel()},
                     {"integer_kernel", kernels::integer_linear_kernel()},
                     {"few_rows_kernel", kernels::dense_linear_kernel()},
                     {"dense_product", dense_product_library()},
                     {"cuda", gpu},
                     {"cuda_kernels", gpu_kernels}};
  if (session.json) return print_json(json);
  TextTable table({"what", "found"});
  table.add_row({"autoglm", version()});
  table.add_row({"libtorch", TORCH_VERSION});
  table.add_row({"CPU threads", std::to_string(at::get_num_threads())});
  table.add_row({"memory", format_bytes(memory)});
  table.add_row({"instruction sets", instruction_sets()});
  table.add_row({"low-bit kernel", kernels::packed_linear_kernel()});
  table.add_row({"integer kernel", kernels::integer_linear_kernel()});
  table.add_row({"dense, few rows", kernels::dense_linear_kernel()});
  table.add_row({"dense fp32 product", dense_product_library()});
  table.add_row({"CUDA", gpu});
  table.add_row({"CUDA kernels", gpu_kernels});
  print(table.text());
}

}  // namespace

void add_doctor(CLI::App& app, Session& session) {
  CLI::App* command = app.add_subcommand(
      "doctor", "device, instruction set, libtorch, kernels found");
  command->callback([&session] { doctor(session); });
}

}  // namespace autoglm::cli
