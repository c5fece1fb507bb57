#include "tests/kernels/cuda/emulator.h"

#include <setjmp.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <exception>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace autoglm::test {
namespace {

constexpr std::size_t kStackBytes = 128 * 1024;
constexpr unsigned kMostThreads = 1024;

struct Copy {
  void* to;
  const void* from;
  std::size_t size;
};

enum class At { kRunning, kBarrier, kExchange, kEnd };

struct Fiber {
  ucontext_t start;  // for the first turn
  jmp_buf go_on;     // for all others: unlike swapcontext, no system call
  bool started = false;
  At at = At::kRunning;
  unsigned exchanges = 0;
  std::vector<Copy> copies;
};

struct Warp {
  Emulator::Payload payload[2][32];
};

// Memory that ends where an inaccessible page begins.
class EndGuarded {
 public:
  explicit EndGuarded(std::size_t bytes) : bytes_(bytes) {
    const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    size_ = (bytes + page - 1) / page * page + page;
    void* memory = mmap(nullptr, size_, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    memory_ = static_cast<char*>(memory);
    mprotect(memory_ + size_ - page, page, PROT_NONE);
    start_ = memory_ + size_ - page - bytes;
  }
  ~EndGuarded() { munmap(memory_, size_); }
  EndGuarded(const EndGuarded&) = delete;
  EndGuarded& operator=(const EndGuarded&) = delete;
  char* start() const { return start_; }
  void fill_with_nan() { std::memset(start_, 0xff, bytes_); }

 private:
  std::size_t bytes_, size_;
  char* memory_;
  char* start_;
};

}  // namespace

struct Emulator::State {
  std::vector<std::unique_ptr<char[]>> stacks;
  std::vector<Fiber> fibers;
  std::vector<Warp> warps;
  jmp_buf scheduler;
  std::unique_ptr<EndGuarded> shared;
  const std::function<void()>* body = nullptr;
  std::exception_ptr error;
  Index grid, block;
  unsigned threads = 0;
  unsigned current = 0;
  bool running = false, reversed = false;
  std::size_t most_shared = 0;

  Fiber& fiber() { return fibers[current]; }

  // Back to the scheduler, until it lets this fiber go on.
  void yield(At at) {
    fiber().at = at;
    if (_setjmp(fiber().go_on) == 0) _longjmp(scheduler, 1);
  }

  // Lets the current fiber run until it yields.
  void resume() {
    if (_setjmp(scheduler) != 0) return;
    Fiber& f = fiber();
    if (f.started) _longjmp(f.go_on, 1);
    f.started = true;
    setcontext(&f.start);
  }

  static void enter() {
    State& state = *get().state_;
    try {
      (*state.body)();
      if (!state.fiber().copies.empty())
        throw std::logic_error("a thread ends with copies on their way");
    } catch (...) {
      if (!state.error) state.error = std::current_exception();
    }
    state.fiber().at = At::kEnd;
    _longjmp(state.scheduler, 1);
  }

  void prepare(unsigned thread) {
    Fiber& f = fibers[thread];
    f.at = At::kRunning;
    f.started = false;
    f.exchanges = 0;
    f.copies.clear();
    getcontext(&f.start);
    f.start.uc_stack.ss_sp = stacks[thread].get();
    f.start.uc_stack.ss_size = kStackBytes;
    f.start.uc_link = nullptr;
    makecontext(&f.start, &State::enter, 0);
  }

  bool all(unsigned begin, unsigned count, At at) const {
    for (unsigned i = begin; i < begin + count; ++i)
      if (fibers[i].at != at) return false;
    return true;
  }

  void release(unsigned begin, unsigned count) {
    for (unsigned i = begin; i < begin + count; ++i)
      fibers[i].at = At::kRunning;
  }

  // Lets every thread that may run do so; true if one did.
  bool turn() {
    bool any = false;
    for (unsigned i = 0; i < threads; ++i) {
      current = reversed ? threads - 1 - i : i;
      if (fibers[current].at != At::kRunning) continue;
      any = true;
      resume();
      if (error) std::rethrow_exception(error);
    }
    for (unsigned w = 0; w < threads; w += 32)
      if (all(w, 32, At::kExchange)) release(w, 32);
    if (all(0, threads, At::kBarrier)) release(0, threads);
    return any;
  }

  void run_block() {
    if (shared) shared->fill_with_nan();
    for (unsigned i = 0; i < threads; ++i) prepare(i);
    while (!all(0, threads, At::kEnd))
      if (!turn())
        throw std::logic_error(
            "threads wait for others that never come (block " +
            std::to_string(block.x) + ", " + std::to_string(block.y) + ", " +
            std::to_string(block.z) + ")");
  }
};

Emulator::Emulator() : state_(std::make_unique<State>()) {}
Emulator::~Emulator() = default;

Emulator& Emulator::get() {
  static Emulator emulator;
  return emulator;
}

void Emulator::run(Index grid, unsigned threads, std::size_t shared_bytes,
                   const std::function<void()>& body) {
  State& s = *state_;
  if (s.running) throw std::logic_error("a kernel launches a kernel");
  if (threads == 0 || threads % 32 != 0 || threads > kMostThreads)
    throw std::logic_error("threads of a block: " + std::to_string(threads));
  if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.y > 65535 ||
      grid.z > 65535)
    throw std::logic_error("a grid that no GPU takes");
  // What compute capability 8.6 has, the least of all above 8.0.
  if (shared_bytes > 99 * 1024)
    throw std::logic_error("shared memory: " + std::to_string(shared_bytes));
  while (s.stacks.size() < threads)
    s.stacks.push_back(std::make_unique<char[]>(kStackBytes));
  s.fibers.resize(threads);
  s.warps.resize(threads / 32);
  s.shared.reset();
  if (shared_bytes > 0) s.shared = std::make_unique<EndGuarded>(shared_bytes);
  s.most_shared = std::max(s.most_shared, shared_bytes);
  s.body = &body;
  s.error = nullptr;
  s.grid = grid;
  s.threads = threads;
  s.running = true;
  struct Stop {
    bool& running;
    ~Stop() { running = false; }
  } stop{s.running};
  const std::uint64_t blocks =
      static_cast<std::uint64_t>(grid.x) * grid.y * grid.z;
  for (std::uint64_t i = 0; i < blocks; ++i) {
    const std::uint64_t b = s.reversed ? blocks - 1 - i : i;
    s.block = {static_cast<unsigned>(b % grid.x),
               static_cast<unsigned>(b / grid.x % grid.y),
               static_cast<unsigned>(b / grid.x / grid.y)};
    s.run_block();
  }
}

void Emulator::reverse(bool on) { state_->reversed = on; }

std::size_t Emulator::take_most_shared() {
  return std::exchange(state_->most_shared, 0);
}

Emulator::Index Emulator::thread() const { return {state_->current, 0, 0}; }
Emulator::Index Emulator::block() const { return state_->block; }
Emulator::Index Emulator::grid() const { return state_->grid; }
int Emulator::lane() const { return static_cast<int>(state_->current % 32); }

void* Emulator::shared() {
  require(state_->shared != nullptr, "the block has shared memory");
  return state_->shared->start();
}

void Emulator::barrier() { state_->yield(At::kBarrier); }

const Emulator::Payload* Emulator::exchange(const void* mine,
                                            std::size_t size) {
  require(size <= sizeof(Payload), "at most 32 bytes are exchanged");
  State& s = *state_;
  Warp& warp = s.warps[s.current / 32];
  // Two sets in turns: a lane may already bring its next payload while others
  // still read the last.
  auto& payload = warp.payload[s.fiber().exchanges++ % 2];
  std::memcpy(payload[s.current % 32], mine, size);
  s.yield(At::kExchange);
  return payload;
}

void Emulator::copy_later(void* to, const void* from, std::size_t size) {
  state_->fiber().copies.push_back({to, from, size});
}

void Emulator::wait_for_copies() {
  for (const Copy& copy : state_->fiber().copies)
    std::memcpy(copy.to, copy.from, copy.size);
  state_->fiber().copies.clear();
}

void Emulator::require(bool condition, const char* what) const {
  if (!condition) throw std::logic_error(std::string("not so: ") + what);
}

void Emulator::require_aligned(const void* pointer,
                               std::size_t alignment) const {
  require(reinterpret_cast<std::uintptr_t>(pointer) % alignment == 0,
          "a pointer is aligned to what it loads");
}

}  // namespace autoglm::test
