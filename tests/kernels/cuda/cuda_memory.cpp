#include <cuda_runtime_api.h>

#include <stdexcept>
#include <string>

#include "tests/kernels/cuda/device_memory.h"
#include "tests/support/catch.h"

namespace autoglm::test {
namespace {

void require(cudaError_t error) {
  if (error != cudaSuccess)
    throw std::runtime_error(std::string("CUDA: ") + cudaGetErrorString(error));
}

}  // namespace

bool has_device() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error == cudaSuccess && count > 0) return true;
  WARN("skipped, no CUDA device: " << cudaGetErrorString(error));
  return false;
}

void for_each_order(const std::function<void()>& body) { body(); }

DeviceBuffer::DeviceBuffer(std::size_t bytes) : bytes_(bytes) {
  require(cudaMalloc(&memory_, bytes > 0 ? bytes : 1));
  require(cudaMemset(memory_, 0xff, bytes));
}

DeviceBuffer::DeviceBuffer(const void* from, std::size_t bytes)
    : DeviceBuffer(bytes) {
  require(cudaMemcpy(memory_, from, bytes, cudaMemcpyHostToDevice));
}

DeviceBuffer::~DeviceBuffer() { cudaFree(memory_); }

// Waits for the kernels that write.
void DeviceBuffer::read_bytes(void* to) const {
  require(cudaMemcpy(to, memory_, bytes_, cudaMemcpyDeviceToHost));
}

}  // namespace autoglm::test
