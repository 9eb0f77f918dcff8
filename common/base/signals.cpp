#include "base/signals.hpp"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdint>

#include "base/error.hpp"

namespace bl::signals {
namespace {
volatile std::sig_atomic_t g_pending = 0;
int g_fd = -1;

void on_signal(int signal) {
  const int saved = errno;
  g_pending = signal;
  const std::uint64_t one = 1;
  if (g_fd >= 0) [[maybe_unused]]
    const auto n = ::write(g_fd, &one, sizeof one);
  errno = saved;
}
}  // namespace

void install() {
  if (g_fd < 0) g_fd = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  struct sigaction action {};
  action.sa_handler = on_signal;
  sigemptyset(&action.sa_mask);
  action.sa_flags = 0;  // no SA_RESTART: a blocked read or write returns EINTR and sees the flag
  ::sigaction(SIGINT, &action, nullptr);
  ::sigaction(SIGTERM, &action, nullptr);
  struct sigaction ignore {};
  ignore.sa_handler = SIG_IGN;
  ::sigaction(SIGPIPE, &ignore, nullptr);
}

int pending() noexcept { return g_pending; }
void throw_if_pending() {
  if (g_pending != 0) throw Interrupted(g_pending);
}
int fd() noexcept { return g_fd; }

}  // namespace bl::signals
