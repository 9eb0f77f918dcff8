#include "plan/process.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>

#include "base/error.hpp"

namespace bl::plan {
namespace {

// After fork() only async-signal-safe calls are allowed; an error travels to the parent as errno through a pipe that
// exec closes.
[[noreturn]] void become(const Spawn& spawn, char* const* argv, int report, pid_t parent) {
  const auto give_up = [&] {
    const int why = errno;
    [[maybe_unused]] const auto n = ::write(report, &why, sizeof why);
    ::_exit(127);
  };
  ::setpgid(0, 0);
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (::getppid() != parent) ::_exit(128 + SIGTERM);
  struct sigaction standard {};
  standard.sa_handler = SIG_DFL;
  for (const int s : {SIGINT, SIGTERM, SIGPIPE, SIGCHLD, SIGHUP}) ::sigaction(s, &standard, nullptr);
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  int in = spawn.in;
  if (in < 0) in = ::open("/dev/null", O_RDONLY);
  if (in < 0 || ::dup2(in, STDIN_FILENO) < 0) give_up();
  if (spawn.out >= 0 && ::dup2(spawn.out, STDOUT_FILENO) < 0) give_up();
  if (spawn.memory > 0) {
    const rlimit limit{spawn.memory, spawn.memory};
    if (::setrlimit(RLIMIT_AS, &limit) != 0) give_up();
  }
  ::execv(argv[0], argv);
  give_up();
  ::_exit(127);
}

}  // namespace

pid_t start(const Spawn& spawn) {
  std::vector<char*> argv;
  for (const auto& word : spawn.argv) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  int report[2];
  if (::pipe2(report, O_CLOEXEC) != 0) fail(Exit::failed, "cannot start '{}': {}", spawn.argv[0], errno_text(errno));
  const pid_t parent = ::getpid();
  const pid_t child = ::fork();
  if (child < 0) {
    const int why = errno;
    ::close(report[0]);
    ::close(report[1]);
    fail(Exit::failed, "cannot start '{}': {}", spawn.argv[0], errno_text(why));
  }
  if (child == 0) become(spawn, argv.data(), report[1], parent);
  ::setpgid(child, child);  // in both, so that it holds whoever runs first
  ::close(report[1]);
  int why = 0;
  ssize_t n = 0;
  do n = ::read(report[0], &why, sizeof why);
  while (n < 0 && errno == EINTR);
  ::close(report[0]);
  if (n > 0) {
    ::waitpid(child, nullptr, 0);
    fail(Exit::failed, "cannot start '{}': {}", spawn.argv[0], errno_text(why));
  }
  return child;
}

int code_of(int status) { return WIFEXITED(status) ? WEXITSTATUS(status) : WIFSIGNALED(status) ? 128 + WTERMSIG(status) : 1; }

std::string capture(const std::vector<std::string>& argv, double seconds) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) fail(Exit::failed, "cannot start '{}': {}", argv[0], errno_text(errno));
  pid_t child = -1;
  try {
    child = start({argv, -1, ends[1], 0});
  } catch (...) {
    ::close(ends[0]);
    ::close(ends[1]);
    throw;
  }
  ::close(ends[1]);
  std::string text;
  const auto until = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  bool late = false;
  for (;;) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(until - std::chrono::steady_clock::now()).count();
    pollfd wait{ends[0], POLLIN, 0};
    const int ready = left <= 0 ? 0 : ::poll(&wait, 1, static_cast<int>(left));
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0) {
      late = true;
      break;
    }
    char block[4096];
    const ssize_t n = ::read(ends[0], block, sizeof block);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    text.append(block, static_cast<std::size_t>(n));
  }
  ::close(ends[0]);
  if (late) ::kill(-child, SIGKILL);
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (late) fail(Exit::failed, "'{} {}' did not end within {} s", argv[0], argv.size() > 1 ? argv[1] : "", seconds);
  if (const int code = code_of(status); code != 0) fail(Exit::failed, "'{} {}' ended with exit code {}", argv[0], argv.size() > 1 ? argv[1] : "", code);
  return text;
}

}  // namespace bl::plan
