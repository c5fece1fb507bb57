#include "autoglm/eval/accelerator.h"

#include <dlfcn.h>

#include <charconv>
#include <filesystem>

#include "autoglm/core/error.h"
#include "autoglm/core/text.h"

namespace autoglm {
namespace {

namespace fs = std::filesystem;

struct Found {
  Accelerator* accelerator = nullptr;
  std::string why;
};

std::vector<fs::path> plugin_places() {
  std::error_code error;
  const fs::path program = fs::read_symlink("/proc/self/exe", error);
  const fs::path folder = program.parent_path();
  const char* name = "libautoglm_cuda.so";
  return {folder / name, folder.parent_path() / "lib" / name,
          fs::path(AUTOGLM_PLUGIN_DIR) / name};
}

// The driver first: without it the plug-in's gigabytes of libraries need not
// be opened to know the answer.
Found look_for_cuda() {
  void* driver = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL);
  if (driver == nullptr) return {nullptr, "no NVIDIA driver (libcuda.so.1)"};
  dlclose(driver);
  for (const fs::path& place : plugin_places()) {
    if (!fs::exists(place)) continue;
    // Symbols stay open to all: torch registers its CUDA backend globally.
    void* plugin = dlopen(place.c_str(), RTLD_NOW | RTLD_GLOBAL);
    if (plugin == nullptr)
      return {nullptr,
              fmt::format("the CUDA plug-in cannot be opened: {}", dlerror())};
    using Make = Accelerator* (*)(char*, std::size_t);
    const auto make =
        reinterpret_cast<Make>(dlsym(plugin, "autoglm_make_accelerator"));
    if (make == nullptr)
      return {nullptr, "the CUDA plug-in is of another version"};
    char why[256] = "";
    Accelerator* accelerator = make(why, sizeof why);
    return {accelerator, why};
  }
  return {nullptr, "this build has no CUDA plug-in (libautoglm_cuda.so)"};
}

}  // namespace

Accelerator* find_cuda(std::string* why) {
  static const Found found = look_for_cuda();
  if (why != nullptr) *why = found.why;
  return found.accelerator;
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
