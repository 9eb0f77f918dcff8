// Signals that arrive in the middle of a matrix product leave memory as it is.
#include <gtest/gtest.h>
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <thread>
#include <vector>

#include "base/pool.hpp"
#include "base/signals.hpp"
#include "nn/gemm.hpp"

namespace bl::nn {
namespace {

// Products by all threads of a pool while signals come all the time. Memory of many sizes is taken and given back, which ends
// the process where the lists between the pieces have been overwritten.
[[noreturn]] void products_under_fire() {
  signals::install();
  Pool pool(2);
  const std::size_t rows = 400, width = 256;
  const std::vector<float> x(rows * width, 0.5f), w(width * width, 0.25f);
  const pthread_t self = pthread_self();
  std::atomic<bool> over = false;
  std::thread archer([&] {
    signals::block();
    for (std::size_t i = 0; !over; ++i) {
      if (i % 2 == 0) pthread_kill(self, SIGTERM);
      else ::kill(::getpid(), SIGTERM);  // to any thread
      std::this_thread::sleep_for(std::chrono::microseconds(300));
    }
  });
  std::atomic<bool> right = true;
  const auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds(1500);
  while (std::chrono::steady_clock::now() < until)
    pool.run(8, [&](std::size_t task, std::size_t) {
      std::vector<float> y(rows * width), dw(width * width);
      gemm(Trans::no, Trans::yes, rows, width, width, x.data(), width, w.data(), width, y.data(), width, false);
      gemm(Trans::yes, Trans::no, width, width, rows, y.data(), width, x.data(), width, dw.data(), width, false);
      if (y[task] != 32.0f || dw[task] != 6400.0f) right = false;
      for (std::size_t n = 16; n < 60'000; n = n * 3 / 2) {
        std::vector<char> a(n), b(n + 64);
        b[n] = a[n / 2];
      }
    });
  over = true;
  archer.join();
  std::_Exit(right && signals::pending() == SIGTERM ? 0 : 1);
}

TEST(Signals, do_not_disturb_products) {
  const pid_t child = ::fork();
  if (child == 0) products_under_fire();
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status)) << "killed by signal " << WTERMSIG(status);
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

}  // namespace
}  // namespace bl::nn
