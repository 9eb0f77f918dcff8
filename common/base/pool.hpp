// A blocking thread pool. Work is a fixed list of tasks whose split does not depend on the number of threads, so that
// results are bit-identical for 1, 2 or 8 of them; nobody spins.
#pragma once
#include <cstddef>
#include <functional>
#include <memory>

namespace bl {

class Pool {
 public:
  // The calling thread is one of them: Pool(1) starts none. Throws Exit::failed where the system gives no more threads.
  explicit Pool(std::size_t threads);
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  std::size_t threads() const noexcept;
  // Calls task(index, worker) for every index in [0, tasks), worker in [0, threads()); returns when all are done.
  // Task i runs on worker i % threads(). The exception of the lowest failing index is rethrown.
  void run(std::size_t tasks, const std::function<void(std::size_t index, std::size_t worker)>& task);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace bl
