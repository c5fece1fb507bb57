#include <ATen/Parallel.h>

#include <mutex>
#include <set>
#include <thread>

#include "tests/support/catch.h"

TEST_CASE("parallel_for: loops of this project run on libtorch's threads") {
  // Where OpenMP is off at compile time the template runs everything on the
  // caller's thread, with the same results.
  const int before = at::get_num_threads();
  at::set_num_threads(2);
  std::mutex mutex;
  std::set<std::thread::id> threads;
  at::parallel_for(0, 2, 1, [&](std::int64_t, std::int64_t) {
    const std::lock_guard lock(mutex);
    threads.insert(std::this_thread::get_id());
  });
  at::set_num_threads(before);
  CHECK(threads.size() == 2);
}
