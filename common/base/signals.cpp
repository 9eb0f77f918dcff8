#include "base/signals.hpp"

#include <sys/auxv.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "base/error.hpp"

namespace bl::signals {
namespace {
std::atomic<int> g_pending = 0;  // set in a handler, read by all threads
static_assert(std::atomic<int>::is_always_lock_free);
int g_fd = -1;

void on_signal(int signal) {
  const int saved = errno;
  g_pending = signal;
  const std::uint64_t one = 1;
  if (g_fd >= 0) [[maybe_unused]]
    const auto n = ::write(g_fd, &one, sizeof one);
  errno = saved;
}

// The frame of a signal holds all registers: 11 KiB with AMX, more than SIGSTKSZ.
void use_own_stack() {
  constexpr std::size_t room = std::size_t{64} * 1024;
#ifdef AT_MINSIGSTKSZ
  const std::size_t size = room + ::getauxval(AT_MINSIGSTKSZ);
#else
  const std::size_t size = room;
#endif
  static std::unique_ptr<std::byte[]> memory;
  if (memory) return;
  memory = std::make_unique<std::byte[]>(size);
  stack_t stack{};
  stack.ss_sp = memory.get();
  stack.ss_size = size;
  ::sigaltstack(&stack, nullptr);
}

}  // namespace

void install() {
  use_own_stack();
  if (g_fd < 0) g_fd = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  struct sigaction action {};
  action.sa_handler = on_signal;
  sigemptyset(&action.sa_mask);
  action.sa_flags = SA_ONSTACK;  // no SA_RESTART: a blocked read or write returns EINTR and sees the flag
  ::sigaction(SIGINT, &action, nullptr);
  ::sigaction(SIGTERM, &action, nullptr);
  struct sigaction ignore {};
  ignore.sa_handler = SIG_IGN;
  ::sigaction(SIGPIPE, &ignore, nullptr);
}

void block() noexcept {
  sigset_t both;
  sigemptyset(&both);
  sigaddset(&both, SIGINT);
  sigaddset(&both, SIGTERM);
  ::pthread_sigmask(SIG_BLOCK, &both, nullptr);
}

int pending() noexcept { return g_pending; }
void throw_if_pending() {
  if (const int signal = g_pending; signal != 0) throw Interrupted(signal);
}
int fd() noexcept { return g_fd; }

}  // namespace bl::signals
