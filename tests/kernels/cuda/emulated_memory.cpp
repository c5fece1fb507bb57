#include <sys/mman.h>
#include <unistd.h>

#include <new>

#include "tests/kernels/cuda/device_memory.h"
#include "tests/kernels/cuda/emulator.h"

namespace autoglm::test {
namespace {

std::size_t pages(std::size_t bytes) {
  const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  return (bytes + page - 1) / page * page;
}

// The data end within 16 bytes of an inaccessible page, since they start at 16
// bytes.
std::size_t rounded(std::size_t bytes) { return (bytes + 15) / 16 * 16; }

}  // namespace

bool has_device() { return true; }

void for_each_order(const std::function<void()>& body) {
  struct Restore {
    ~Restore() { Emulator::get().reverse(false); }
  } restore;
  for (const bool reverse : {false, true}) {
    Emulator::get().reverse(reverse);
    body();
  }
}

DeviceBuffer::DeviceBuffer(std::size_t bytes) : bytes_(bytes) {
  const std::size_t guard = pages(1), size = pages(rounded(bytes)) + guard;
  void* memory = mmap(nullptr, size, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  char* end = static_cast<char*>(memory) + size - guard;
  mprotect(end, guard, PROT_NONE);
  memory_ = end - rounded(bytes);
  std::memset(memory_, 0xff, rounded(bytes));
}

DeviceBuffer::DeviceBuffer(const void* from, std::size_t bytes)
    : DeviceBuffer(bytes) {
  if (bytes > 0) std::memcpy(memory_, from, bytes);
}

DeviceBuffer::~DeviceBuffer() {
  const std::size_t size = pages(rounded(bytes_)) + pages(1);
  char* end = static_cast<char*>(memory_) + rounded(bytes_) + pages(1);
  munmap(end - size, size);
}

void DeviceBuffer::read_bytes(void* to) const {
  if (bytes_ > 0) std::memcpy(to, memory_, bytes_);
}

}  // namespace autoglm::test
