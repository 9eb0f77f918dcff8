#include "base/pool.hpp"

#include <condition_variable>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "base/error.hpp"
#include "base/signals.hpp"

namespace bl {

struct Pool::State {
  std::vector<std::thread> workers;
  std::mutex mutex;
  std::condition_variable start, finished;
  const std::function<void(std::size_t, std::size_t)>* task = nullptr;
  std::size_t tasks = 0, threads = 1, running = 0;
  std::size_t round = 0;
  bool stop = false;
  std::exception_ptr error;
  std::size_t error_index = 0;

  void work(std::size_t worker) {
    for (std::size_t i = worker; i < tasks; i += threads) {
      try {
        (*task)(i, worker);
      } catch (...) {
        const std::lock_guard lock(mutex);
        if (!error || i < error_index) {
          error = std::current_exception();
          error_index = i;
        }
        return;
      }
    }
  }

  void join() {
    {
      const std::lock_guard lock(mutex);
      stop = true;
    }
    start.notify_all();
    for (auto& worker : workers) worker.join();
  }

  void loop(std::size_t worker) {
    signals::block();  // they come to the thread that made the pool
    std::size_t seen = 0;
    std::unique_lock lock(mutex);
    for (;;) {
      start.wait(lock, [&] { return stop || round != seen; });
      if (stop) return;
      seen = round;
      lock.unlock();
      work(worker);
      lock.lock();
      if (--running == 0) finished.notify_one();
    }
  }
};

Pool::Pool(std::size_t threads) : state_(std::make_unique<State>()) {
  state_->threads = threads == 0 ? 1 : threads;
  try {
    for (std::size_t w = 1; w < state_->threads; ++w) state_->workers.emplace_back([this, w] { state_->loop(w); });
  } catch (const std::system_error& e) {
    state_->join();  // those that did start
    fail(Exit::failed, "cannot start {} threads ({}): lower --threads", threads, e.what());
  }
}

Pool::~Pool() { state_->join(); }

std::size_t Pool::threads() const noexcept { return state_->threads; }

void Pool::run(std::size_t tasks, const std::function<void(std::size_t, std::size_t)>& task) {
  auto& s = *state_;
  {
    const std::lock_guard lock(s.mutex);
    s.task = &task;
    s.tasks = tasks;
    s.running = s.workers.size();
    s.error = nullptr;
    ++s.round;
  }
  if (!s.workers.empty()) s.start.notify_all();
  s.work(0);
  std::unique_lock lock(s.mutex);
  s.finished.wait(lock, [&] { return s.running == 0; });
  if (s.error) std::rethrow_exception(std::exchange(s.error, nullptr));
}

}  // namespace bl
