// Processes of a stream, started, stopped, killed and awaited by a test.
#pragma once
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

namespace bl::test {

using Clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

inline void sleep_for(std::chrono::milliseconds t) { std::this_thread::sleep_for(t); }

// A folder of its own, short enough for socket paths; removed with everything in it.
class Folder {
 public:
  Folder() {
    char name[] = "/tmp/bl-test-XXXXXX";
    path_ = ::mkdtemp(name);
  }
  ~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

inline std::string content(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

// A TCP port that was free a moment ago.
inline std::string free_port() {
  const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address);
  socklen_t size = sizeof address;
  ::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size);
  ::close(fd);
  return std::to_string(ntohs(address.sin_port));
}

class Process {
 public:
  Process() = default;
  // log: where stdout and stderr go, appended.
  Process(std::vector<std::string> args, const std::string& log) : args_(std::move(args)), log_(log) { start(); }
  Process(Process&& other) noexcept { *this = std::move(other); }
  Process& operator=(Process&& other) noexcept {
    std::swap(args_, other.args_);
    std::swap(log_, other.log_);
    std::swap(pid_, other.pid_);
    std::swap(status_, other.status_);
    return *this;
  }
  ~Process() {
    if (running()) {
      signal(SIGCONT);
      kill();
    }
  }

  void start() {
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 1, log_.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644);
    posix_spawn_file_actions_adddup2(&actions, 1, 2);
    std::vector<char*> argv;
    for (auto& a : args_) argv.push_back(a.data());
    argv.push_back(nullptr);
    ::posix_spawnp(&pid_, argv[0], &actions, nullptr, argv.data(), environ);
    posix_spawn_file_actions_destroy(&actions);
    status_ = -1;
  }
  bool running() {
    if (pid_ <= 0) return false;
    if (status_ < 0) {
      int s = 0;
      if (::waitpid(pid_, &s, WNOHANG) == pid_) status_ = WIFEXITED(s) ? WEXITSTATUS(s) : 128 + WTERMSIG(s);
    }
    return status_ < 0;
  }
  void signal(int number) const {
    if (pid_ > 0) ::kill(pid_, number);
  }
  void kill() {
    if (!running()) return;
    signal(SIGKILL);
    wait(10s);
  }
  // The exit code, 128 + signal, or -1 when it still runs after `limit`.
  int wait(std::chrono::milliseconds limit) {
    const auto until = Clock::now() + limit;
    while (running() && Clock::now() < until) sleep_for(2ms);
    return status_;
  }
  pid_t pid() const { return pid_; }
  std::string log() const { return content(log_); }

 private:
  std::vector<std::string> args_;
  std::string log_;
  pid_t pid_ = -1;
  int status_ = -1;
};

}  // namespace bl::test
