// Blocks of threads as fibers: the machine under emulated_device.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>

namespace autoglm::test {

class Emulator {
 public:
  struct Index {
    unsigned x = 0, y = 0, z = 0;
  };

  /// The one emulator; single-threaded.
  static Emulator& get();

  /// Runs `body` as every thread of every block, block after block. threads: a
  /// multiple of 32, up to 1024. Throws std::logic_error for what a GPU would
  /// punish with a hang or with undefined results.
  void run(Index grid, unsigned threads, std::size_t shared_bytes,
           const std::function<void()>& body);

  /// Threads (and blocks) take turns from the last to the first from now on.
  void reverse(bool on);

  /// Bytes of shared memory of the largest block since the last call.
  std::size_t take_most_shared();

  // For the running thread:
  Index thread() const;
  Index block() const;
  Index grid() const;
  int lane() const;
  void* shared();
  void barrier();
  /// Gives `size` (at most 32) bytes to the warp; returns those of all lanes,
  /// valid until the lane's next exchange but one.
  using Payload = unsigned char[32];
  const Payload* exchange(const void* mine, std::size_t size);
  void copy_later(void* to, const void* from, std::size_t size);
  void wait_for_copies();
  void require(bool condition, const char* what) const;
  void require_aligned(const void* pointer, std::size_t alignment) const;

 private:
  Emulator();
  ~Emulator();
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace autoglm::test
