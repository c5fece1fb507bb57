// A copy of a vector that ends where an inaccessible page begins: one byte too
// far is a crash, not luck.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <new>
#include <vector>

namespace autoglm::test {

class GuardedBuffer {
 public:
  template <class T>
  explicit GuardedBuffer(const std::vector<T>& values) {
    const std::size_t bytes = values.size() * sizeof(T);
    const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    size_ = (bytes + page - 1) / page * page + page;
    void* memory = mmap(nullptr, size_, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    memory_ = static_cast<char*>(memory);
    if (mprotect(memory_ + size_ - page, page, PROT_NONE) != 0)
      throw std::bad_alloc();
    start_ = memory_ + size_ - page - bytes;
    if (bytes > 0) std::memcpy(start_, values.data(), bytes);
  }
  ~GuardedBuffer() { munmap(memory_, size_); }
  GuardedBuffer(const GuardedBuffer&) = delete;
  GuardedBuffer& operator=(const GuardedBuffer&) = delete;

  template <class T>
  T* as() const {
    return static_cast<T*>(static_cast<void*>(start_));
  }

 private:
  char* memory_;
  char* start_;
  std::size_t size_;
};

}  // namespace autoglm::test
