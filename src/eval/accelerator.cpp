#include "autoglm/eval/accelerator.h"

#include <dlfcn.h>

#include <charconv>
#include <filesystem>

#include "autoglm/core/error.h"
#include "autoglm/core/text.h"
#include "autoglm/model/device_kernels.h"

namespace autoglm {
namespace {

namespace fs = std::filesystem;

constexpr const char* kNotBuilt = "built without nvcc";

struct Found {
  Accelerator* accelerator = nullptr;
  std::string why;
  std::string why_no_kernels;
};

Found without(const std::string& why) {
  return {nullptr, why, AUTOGLM_HAS_CUDA_KERNELS ? why : kNotBuilt};
}

std::vector<fs::path> plugin_places() {
  std::error_code error;
  const fs::path program = fs::read_symlink("/proc/self/exe", error);
  const fs::path folder = program.parent_path();
  const char* name = "libautoglm_cuda.so";
  return {folder / name, folder.parent_path() / "lib" / name,
          fs::path(AUTOGLM_PLUGIN_DIR) / name};
}

// The model calls the plug-in's kernels from now on; or the reason why not.
std::string bring_kernels(void* plugin) {
  using Kernels = const DeviceKernels* (*)(char*, std::size_t);
  const auto kernels =
      reinterpret_cast<Kernels>(dlsym(plugin, "autoglm_device_kernels"));
  if (kernels == nullptr) return kNotBuilt;
  char why[256] = "";
  const DeviceKernels* table = kernels(why, sizeof why);
  if (table != nullptr) set_device_kernels(at::kCUDA, table);
  return why;
}

// The driver first: without it the plug-in's gigabytes of libraries need not
// be opened to know the answer.
Found look_for_cuda() {
  void* driver = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL);
  if (driver == nullptr) return without("no NVIDIA driver (libcuda.so.1)");
  dlclose(driver);
  for (const fs::path& place : plugin_places()) {
    if (!fs::exists(place)) continue;
    // Symbols stay open to all: torch registers its CUDA backend globally.
    void* plugin = dlopen(place.c_str(), RTLD_NOW | RTLD_GLOBAL);
    if (plugin == nullptr)
      return without(
          fmt::format("the CUDA plug-in cannot be opened: {}", dlerror()));
    using Make = Accelerator* (*)(char*, std::size_t);
    const auto make =
        reinterpret_cast<Make>(dlsym(plugin, "autoglm_make_accelerator"));
    if (make == nullptr)
      return without("the CUDA plug-in is of another version");
    char why[256] = "";
    Accelerator* accelerator = make(why, sizeof why);
    if (accelerator == nullptr) return without(why);
    return {accelerator, "", bring_kernels(plugin)};
  }
  return without("this build has no CUDA plug-in (libautoglm_cuda.so)");
}

const Found& found_cuda() {
  static const Found found = look_for_cuda();
  return found;
}

}  // namespace

Accelerator* find_cuda(std::string* why) {
  if (why != nullptr) *why = found_cuda().why;
  return found_cuda().accelerator;
}

bool has_cuda_kernels(std::string* why) {
  if (why != nullptr) *why = found_cuda().why_no_kernels;
  return found_cuda().why_no_kernels.empty();
}

at::Device choose_device(const std::string& text) {
  if (text == "cpu") return at::kCPU;
  if (text == "auto")
    return find_cuda() != nullptr ? at::Device(at::kCUDA, 0) : at::kCPU;
  int index = 0;
  bool fine = text == "cuda";
  if (text.starts_with("cuda:")) {
    const char* end = text.data() + text.size();
    const auto result = std::from_chars(text.data() + 5, end, index);
    fine = result.ec == std::errc() && result.ptr == end && index >= 0 &&
           index < 128;
  }
  if (!fine)
    fail(ErrorKind::kConfig,
         fmt::format("unknown device '{}'; known: auto, cpu, cuda, cuda:N",
                     text));
  std::string why;
  Accelerator* cuda = find_cuda(&why);
  if (cuda == nullptr)
    fail(ErrorKind::kConfig,
         fmt::format("the device '{}' cannot be used: {}", text, why));
  try {
    cuda->device_name(index);
  } catch (const std::exception&) {
    fail(ErrorKind::kConfig, fmt::format("there is no device '{}'", text));
  }
  return {at::kCUDA, static_cast<at::DeviceIndex>(index)};
}

}  // namespace autoglm
