// The kernels of a GPU on the emulated device of tests/kernels/cuda, for
// tensors on the CPU, with a count of the calls that were taken.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "autoglm/model/device_kernels.h"

namespace autoglm::test {

/// Whether the emulated device records work, and how that goes.
enum class Recording { kNone, kWorks, kFails };

/// Kernels of the CPU for as long as it lives.
class EmulatedKernels {
 public:
  explicit EmulatedKernels(Recording recording = Recording::kNone)
      : kernels_(table()) {
    if (recording == Recording::kWorks) kernels_.capture = capture;
    if (recording == Recording::kFails) kernels_.capture = refuse;
    calls().clear();
    set_device_kernels(at::kCPU, &kernels_);
  }
  ~EmulatedKernels() { set_device_kernels(at::kCPU, nullptr); }
  EmulatedKernels(const EmulatedKernels&) = delete;
  EmulatedKernels& operator=(const EmulatedKernels&) = delete;

  /// How often a kernel did its work since the last question.
  static int take(const std::string& name) {
    int count = 0;
    std::vector<std::string> others;
    for (std::string& call : calls()) {
      if (call == name)
        ++count;
      else
        others.push_back(std::move(call));
    }
    calls() = std::move(others);
    return count;
  }
  static int take_all() {
    const auto count = static_cast<int>(calls().size());
    calls().clear();
    return count;
  }

 private:
  using Status = kernels::cuda::Status;

  static std::vector<std::string>& calls() {
    static std::vector<std::string> all;
    return all;
  }
  static Status counted(Status status, const char* name) {
    if (status == Status::kOk) calls().emplace_back(name);
    return status;
  }

  // Done again by calling it again.
  class Again final : public CapturedWork {
   public:
    explicit Again(std::function<void()> body) : body_(std::move(body)) {}
    void replay() override {
      calls().emplace_back("replay");
      body_();
    }

   private:
    std::function<void()> body_;
  };
  static std::unique_ptr<CapturedWork> capture(
      at::Device, const std::function<void()>& body) {
    body();
    calls().emplace_back("capture");
    return std::make_unique<Again>(body);
  }
  static std::unique_ptr<CapturedWork> refuse(at::Device,
                                              const std::function<void()>&) {
    TORCH_CHECK(false, "operation not permitted when stream is capturing");
  }

  static const DeviceKernels& table() {
    namespace cuda = kernels::cuda;
    static const DeviceKernels kernels = [] {
      DeviceKernels out = {};
      out.stream = [](at::Device) -> cuda::Stream { return nullptr; };
      out.launch = cuda::launchers();
      out.launch.packed_linear = [](const auto& weight, const auto& a,
                                    auto stream) {
        return counted(cuda::packed_linear(weight, a, stream), "packed");
      };
      out.launch.float8_linear = [](const auto& weight, const auto& a,
                                    auto stream) {
        return counted(cuda::float8_linear(weight, a, stream), "float8");
      };
      out.launch.unpack_packed = [](const auto& weight, auto begin, auto end,
                                    void* to, auto type, auto stream) {
        return counted(cuda::unpack_rows(weight, begin, end, to, type, stream),
                       "unpack");
      };
      out.launch.unpack_float8 = [](const auto& weight, auto begin, auto end,
                                    void* to, auto type, auto stream) {
        return counted(cuda::unpack_rows(weight, begin, end, to, type, stream),
                       "unpack float8");
      };
      out.launch.rms_norm = [](const auto& a, auto stream) {
        return counted(cuda::rms_norm(a, stream),
                       a.residual != nullptr ? "norm of sum" : "norm");
      };
      out.launch.silu_product = [](const auto& a, auto stream) {
        return counted(cuda::silu_product(a, stream), "silu");
      };
      out.launch.rotate_heads = [](const auto& a, auto stream) {
        return counted(cuda::rotate_heads(a, stream), "rotate");
      };
      out.launch.round_to_int8 = [](const auto& a, auto stream) {
        return counted(cuda::round_to_int8(a, stream), "round");
      };
      out.launch.decode_attention = [](const auto& a, auto stream) {
        return counted(cuda::decode_attention(a, stream), "attention");
      };
      return out;
    }();
    return kernels;
  }

  DeviceKernels kernels_;
};

}  // namespace autoglm::test
