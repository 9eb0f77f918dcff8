// Errors and exit codes: the only way a library of ours reports failure. Libraries never print and never exit.
#pragma once
#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace bl {

// Exit codes of every stage. 5 and 6 are consequences: the root cause of a broken pipeline is the first stage that
// ended with any other code.
enum class Exit : int {
  done = 0,        // finished; on sockets: confirmed downstream
  failed = 1,      // failed here
  usage = 2,       // the command line or a config file is wrong
  input = 3,       // the data are bad: schema, checksum, value
  write = 4,       // the output cannot be written
  downstream = 5,  // the reader of our output went away
  upstream = 6,    // the writer of our input went away, or told us that it failed
};

// A failure with its exit code. The message is one sentence that names the thing, the value, the limit and what to do.
class Error : public std::runtime_error {
 public:
  Error(Exit code, const std::string& message) : std::runtime_error(message), code_(code) {}
  Exit code() const noexcept { return code_; }

 private:
  Exit code_;
};

// The process was asked to stop by a signal; its exit code is 128 + signal.
class Interrupted : public Error {
 public:
  explicit Interrupted(int signal);
  int signal() const noexcept { return signal_; }

 private:
  int signal_;
};

// throw Error(code, formatted message)
template <class... Args>
[[noreturn]] void fail(Exit code, fmt::format_string<Args...> format, Args&&... args) {
  throw Error(code, fmt::format(format, std::forward<Args>(args)...));
}

// For errors of the programmer, which no input can reach.
inline void check(bool condition, std::string_view what) {
  if (!condition) throw std::logic_error("internal error: " + std::string(what));
}

// "did you mean" helper: the candidate closest to `word` by edit distance, or empty when none is near.
std::string nearest(std::string_view word, const std::vector<std::string>& candidates);

// The text of an errno value, e.g. "No space left on device".
std::string errno_text(int value);

}  // namespace bl
