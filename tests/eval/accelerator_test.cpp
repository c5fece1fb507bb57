#include "autoglm/eval/accelerator.h"

#include <dlfcn.h>

#include "autoglm/model/device_kernels.h"
#include "tests/eval/gpu_or_skip.h"
#include "tests/support/catch.h"
#include "tests/support/throws.h"

namespace autoglm {
namespace {

using test::accelerator_or_skip;
using test::error_of;

TEST_CASE("find_cuda: gives an accelerator or a reason, never both") {
  std::string why;
  Accelerator* cuda = find_cuda(&why);
  INFO("why: " << why);
  CHECK((cuda == nullptr) == !why.empty());
}

TEST_CASE("find_cuda: looks once and then says the same") {
  std::string first, second;
  CHECK(find_cuda(&first) == find_cuda(&second));
  CHECK(first == second);
  CHECK(find_cuda() == find_cuda(&first));
}

TEST_CASE("find_cuda: without a driver the reason is the driver") {
  void* driver = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL);
  if (driver != nullptr) {
    dlclose(driver);
    WARN("skipped, this machine has a driver");
    return;
  }
  std::string why;
  CHECK(find_cuda(&why) == nullptr);
  CHECK_THAT(why, Catch::StartsWith("no NVIDIA driver (libcuda.so.1"));
}

TEST_CASE("has_cuda_kernels: kernels or a reason, never both") {
  std::string why, why_no_cuda;
  const bool there = has_cuda_kernels(&why);
  INFO("why: " << why);
  CHECK(there == why.empty());
  CHECK(there == (device_kernels_for(at::kCUDA) != nullptr));
  if (find_cuda(&why_no_cuda) == nullptr)
    CHECK((why == why_no_cuda || why == "built without nvcc"));
}

TEST_CASE("choose_device: cpu is the CPU") {
  CHECK(choose_device("cpu") == at::Device(at::kCPU));
}

TEST_CASE("choose_device: auto is a device that works") {
  const at::Device device = choose_device("auto");
  CHECK(device.is_cuda() == (find_cuda() != nullptr));
  const at::Tensor two = at::ones({2}, at::TensorOptions(device)).sum();
  CHECK(two.item<float>() == 2.0f);
}

TEST_CASE("choose_device: any other text is refused") {
  CHECK(error_of(ErrorKind::kConfig, [] { choose_device("gpu"); }) ==
        "unknown device 'gpu'; known: auto, cpu, cuda, cuda:N");
  for (const char* text :
       {"", "CPU", "cpu:0", "cuda:", "cuda:x", "cuda:-1", "cuda:1x", "cuda: 1",
        "cuda:128", "cuda0", "cuda:99999999999999999999"})
    CHECK(error_of(ErrorKind::kConfig, [&] { choose_device(text); }) ==
          "unknown device '" + std::string(text) +
              "'; known: auto, cpu, cuda, cuda:N");
}

TEST_CASE("choose_device: an absent CUDA device is refused with the reason") {
  std::string why;
  if (find_cuda(&why) != nullptr) {
    error_of(ErrorKind::kConfig, [] { choose_device("cuda:99"); });
    return;
  }
  for (const char* text : {"cuda", "cuda:0", "cuda:1"})
    CHECK(error_of(ErrorKind::kConfig, [&] { choose_device(text); }) ==
          "the device '" + std::string(text) + "' cannot be used: " + why);
}

TEST_CASE("accelerator: names the device and its memory", "[gpu]") {
  Accelerator* cuda = accelerator_or_skip();
  if (cuda == nullptr) return;
  CHECK_FALSE(cuda->device_name(0).empty());
  CHECK(cuda->total_memory(0) > (std::uint64_t{1} << 30));
}

TEST_CASE("accelerator: peak memory starts anew after a reset", "[gpu]") {
  Accelerator* cuda = accelerator_or_skip();
  if (cuda == nullptr) return;
  // Before any tensor: the allocator must be ready all the same.
  cuda->reset_peak_memory(0);
  const std::uint64_t before = cuda->peak_memory(0);
  const auto options = at::TensorOptions(at::kCUDA).dtype(at::kByte);
  at::Tensor block = at::empty({std::int64_t{64} << 20}, options);
  CHECK(cuda->peak_memory(0) >= before + (std::uint64_t{64} << 20));
  block.reset();
  CHECK(cuda->peak_memory(0) >= before + (std::uint64_t{64} << 20));
  cuda->reset_peak_memory(0);
  CHECK(cuda->peak_memory(0) < before + (std::uint64_t{64} << 20));
}

TEST_CASE("accelerator: times the work, not its launch", "[gpu]") {
  Accelerator* cuda = accelerator_or_skip();
  if (cuda == nullptr) return;
  const at::Tensor a = at::ones({4096, 4096}, at::TensorOptions(at::kCUDA));
  at::mm(a, a);
  cuda->synchronize(0);
  const double one = cuda->time_ms(0, [&] { at::mm(a, a); });
  const double ten = cuda->time_ms(0, [&] {
    for (int i = 0; i < 10; ++i) at::mm(a, a);
  });
  INFO(one << " ms, " << ten << " ms");
  CHECK(one > 0);
  CHECK(ten > 3 * one);
}

}  // namespace
}  // namespace autoglm
