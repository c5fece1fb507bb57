// Memory of the device under test. The tests of this folder are built twice:
// into test_kernels with the emulator (emulated_memory.cpp), and, where nvcc is
// found, into test_kernels_cuda for a GPU (cuda_memory.cpp).
#pragma once

#include <cstddef>
#include <cstring>
#include <functional>
#include <vector>

namespace autoglm::test {

/// False, after a warning that says why, if there is no device.
bool has_device();

/// Runs `body` under every order of threads that the device offers.
void for_each_order(const std::function<void()>& body);

/// Bytes on the device, aligned to 16. Too far a read of the emulator's is a
/// crash; what is not written reads as NaN.
class DeviceBuffer {
 public:
  explicit DeviceBuffer(std::size_t bytes);
  DeviceBuffer(const void* from, std::size_t bytes);
  template <class T>
  explicit DeviceBuffer(const std::vector<T>& values)
      : DeviceBuffer(values.data(), values.size() * sizeof(T)) {}
  ~DeviceBuffer();
  DeviceBuffer(const DeviceBuffer&) = delete;
  DeviceBuffer& operator=(const DeviceBuffer&) = delete;

  template <class T>
  T* as() const {
    return static_cast<T*>(memory_);
  }
  template <class T>
  std::vector<T> read() const {
    std::vector<T> out(bytes_ / sizeof(T));
    read_bytes(out.data());
    return out;
  }

 private:
  void read_bytes(void* to) const;
  void* memory_ = nullptr;
  std::size_t bytes_ = 0;
};

}  // namespace autoglm::test
