#include "plan/run.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <thread>

#include "base/error.hpp"
#include "base/files.hpp"
#include "base/hash.hpp"
#include "base/signals.hpp"
#include "plan/make.hpp"
#include "plan/process.hpp"

namespace bl::plan {
namespace {

using Clock = std::chrono::steady_clock;

// A descriptor that closes itself.
class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Fd() {
    if (fd_ >= 0) ::close(fd_);
  }
  int get() const { return fd_; }

 private:
  int fd_ = -1;
};

// The folder of a running segment: its sockets and metrics. Short, because the path of a socket has at most 107 letters.
class RunFolder {
 public:
  RunFolder() {
    const char* base = std::getenv("TMPDIR");
    std::string name = (base && *base && std::string_view(base).size() < 40 ? std::string(base) : "/tmp") + "/bl-run.XXXXXX";
    if (!::mkdtemp(name.data())) fail(Exit::write, "cannot make a folder '{}': {}", name, errno_text(errno));
    path_ = name;
  }
  RunFolder(const RunFolder&) = delete;
  RunFolder& operator=(const RunFolder&) = delete;
  ~RunFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

bool starts_with(std::string_view text, std::string_view prefix) { return text.substr(0, prefix.size()) == prefix; }

// What the result depends on, as one hash: programs and options, and the content of every file that is read.
std::string key_of(const Segment& segment) {
  auto parts = nlohmann::json::array();
  for (const auto& p : segment.processes) parts.push_back({p.stage, p.hash, p.args, p.in, p.out, p.stdout_file, p.worker});
  nlohmann::json files = nlohmann::json::object();
  for (const auto& [path, hash] : segment.inputs) files[path] = hex(hash_file(path));
  for (const auto& path : segment.uses) files[path] = hex(hash_path(path));
  return hex(hash64(nlohmann::json{{"processes", parts}, {"files", files}, {"outputs", segment.outputs}}.dump()));
}

bool same_as_last_run(const Segment& segment, const std::string& done, const std::string& key) {
  std::error_code ignored;
  if (!std::filesystem::is_regular_file(done, ignored)) return false;
  const auto record = nlohmann::json::parse(read_file(done), nullptr, false);
  if (!record.is_object() || record.value("key", "") != key || !record.contains("outputs")) return false;
  for (const auto& path : segment.outputs)
    if (!std::filesystem::exists(path, ignored) || record["outputs"].value(path, "") != hex(hash_path(path))) return false;
  return true;
}

void touch(const std::string& path) {
  if (::utimensat(AT_FDCWD, path.c_str(), nullptr, 0) != 0) fail(Exit::write, "cannot touch '{}': {}", path, errno_text(errno));
}

struct Running {
  pid_t pid = -1;
  Clock::time_point started, ended;
  std::string metrics;
  bool alive = false;
};

void read_metrics(const std::string& path, Outcome& outcome) {
  std::error_code ignored;
  if (path.empty() || !std::filesystem::is_regular_file(path, ignored)) return;
  const std::string text = read_file(path);
  std::size_t end = text.size();
  while (end > 0) {  // the last line that says how much was done
    const auto start = text.rfind('\n', end - 1);
    const auto first = start == std::string::npos ? 0 : start + 1;
    const auto line = nlohmann::json::parse(text.substr(first, end - first), nullptr, false);
    if (line.is_object() && line.contains("events") && line["events"].is_number() && line.contains("bytes") && line["bytes"].is_number()) {
      outcome.events = line["events"].get<std::uint64_t>();
      outcome.bytes = line["bytes"].get<std::uint64_t>();
      outcome.measured = true;
      return;
    }
    if (start == std::string::npos) return;
    end = start;
  }
}

class Runner {
 public:
  Runner(const Segment& segment, const RunOptions& options) : segment_(segment), options_(options) {}
  Runner(const Runner&) = delete;
  Runner& operator=(const Runner&) = delete;
  ~Runner() {  // reached with living processes only when an error is on its way up
    for (auto& r : running_)
      if (r.alive) ::kill(-r.pid, SIGKILL);
    for (auto& r : running_)
      if (r.alive) ::waitpid(r.pid, nullptr, 0);
    for (const auto& part : parts_) ::unlink(part.first.c_str());
  }

  Report run() {
    for (const auto& p : segment_.processes)
      if (p.host != "localhost")
        fail(Exit::usage,
             "stage '{}' has host = \"{}\", and bl-run starts processes on this machine only: run that segment there, or let make do it with RUN=\"ssh {}\"",
             p.stage, p.host, p.host);
    for (const auto& path : segment_.outputs) make_folder_of(path);
    start_all();
    watch();
    Report report;
    report.signal = signal_;
    report.late = late_;
    for (std::size_t i = 0; i < running_.size(); ++i) {
      read_metrics(running_[i].metrics, outcomes_[i]);
      outcomes_[i].seconds = std::chrono::duration<double>(running_[i].ended - running_[i].started).count();
    }
    report.root = root_cause();
    report.outcomes = outcomes_;
    if (report.root < 0) {
      for (const auto& [part, path] : parts_) commit_part(part, path);
      parts_.clear();
    }
    return report;
  }

 private:
  std::string endpoint(const std::string& wire) const { return starts_with(wire, "ipc:") ? "ipc://" + folder_.path() + "/" + wire.substr(4) : wire; }

  void start_all() {
    std::map<std::string, std::pair<Fd, Fd>> pipes;  // edge -> read end, write end
    for (const auto& p : segment_.processes) {
      if (!starts_with(p.out, "pipe:")) continue;
      int ends[2];
      if (::pipe2(ends, O_CLOEXEC) != 0) fail(Exit::failed, "cannot make a pipe: {}", errno_text(errno));
      ::fcntl(ends[0], F_SETPIPE_SZ, 1 << 20);  // the default of 64 KiB costs most of the speed; refused beyond a user's quota
      pipes[p.out] = {Fd(ends[0]), Fd(ends[1])};
    }
    for (const auto& p : segment_.processes) {
      Outcome outcome;
      outcome.stage = p.stage;
      outcome.program = p.program;
      outcome.worker = p.worker;
      outcome.workers =
          static_cast<int>(std::count_if(segment_.processes.begin(), segment_.processes.end(), [&](const Process& q) { return q.stage == p.stage; }));
      Running running;
      Spawn spawn;
      spawn.memory = p.memory;
      spawn.argv.push_back(p.path);
      spawn.argv.insert(spawn.argv.end(), p.args.begin(), p.args.end());
      spawn.argv.insert(spawn.argv.end(), p.other_args.begin(), p.other_args.end());
      std::string in;
      for (const auto& wire : p.in) {
        in += in.empty() ? "" : ",";
        if (starts_with(wire, "pipe:")) {
          spawn.in = pipes.at(wire).first.get();
          in += "-";
        } else {
          in += endpoint(wire);
        }
      }
      if (!in.empty()) spawn.argv.push_back("--in=" + in);
      Fd file;
      if (starts_with(p.out, "pipe:")) {
        spawn.out = pipes.at(p.out).second.get();
      } else {
        if (!p.out.empty()) spawn.argv.push_back("--out=" + endpoint(p.out));
        if (!p.stdout_file.empty()) {
          const std::string part = p.stdout_file + ".part";
          file = Fd(::open(part.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666));
          if (file.get() < 0) fail(Exit::write, "cannot create '{}': {}", part, errno_text(errno));
          parts_.emplace_back(part, p.stdout_file);
        } else if (!p.prints) {
          file = Fd(::open("/dev/null", O_WRONLY | O_CLOEXEC));
        }
        spawn.out = file.get();
      }
      if (!p.metrics.empty()) {
        running.metrics = p.metrics == "run:" ? fmt::format("{}/{}.{}.jsonl", folder_.path(), p.stage, p.worker) : p.metrics;
        if (p.metrics != "run:") make_folder_of(p.metrics);
        spawn.argv.push_back("--metrics=" + running.metrics);
      }
      running.started = running.ended = Clock::now();
      running.pid = start(spawn);
      running.alive = true;
      running_.push_back(running);
      outcomes_.push_back(outcome);
    }
  }

  // Signals the living ones, sources first.
  void send(int signal) {
    for (std::size_t i = 0; i < running_.size(); ++i) {
      if (!running_[i].alive) continue;
      outcomes_[i].stopped = true;
      ::kill(-running_[i].pid, signal);
    }
  }

  // A program that does not catch SIGPIPE dies of it when its reader has gone, perhaps before the reader's own end is seen.
  static bool consequence(int code) {
    return code == 0 || code == static_cast<int>(Exit::downstream) || code == static_cast<int>(Exit::upstream) || code == 128 + SIGPIPE;
  }

  void watch() {
    const auto seconds = [](double s) { return std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(s)); };
    std::optional<Clock::time_point> stop_at, kill_at;
    auto pause = std::chrono::milliseconds(1);
    for (;;) {
      bool any = false;
      for (std::size_t i = 0; i < running_.size(); ++i) {
        auto& r = running_[i];
        if (!r.alive) continue;
        int status = 0;
        if (::waitpid(r.pid, &status, WNOHANG) == r.pid) {
          r.alive = false;
          r.ended = Clock::now();
          outcomes_[i].code = code_of(status);
          if (outcomes_[i].code != 0) {
            ended_badly_.push_back(i);
            if (!stop_at) stop_at = r.ended + seconds(options_.settle);
          }
          continue;
        }
        any = true;
        const auto limit = segment_.processes[i].time;
        if (limit > 0 && late_.empty() && Clock::now() - r.started > std::chrono::seconds(limit)) {
          late_ = r.alive ? outcomes_[i].stage : "";
          send(SIGTERM);
          kill_at = Clock::now() + seconds(options_.grace);
        }
      }
      if (!any) return;
      const auto now = Clock::now();
      if (signals::pending() != 0 && signal_ == 0) {
        signal_ = signals::pending();
        send(signal_);
        kill_at = now + seconds(options_.grace);
      } else if (stop_at && !kill_at && now > *stop_at) {
        send(SIGTERM);
        kill_at = now + seconds(options_.grace);
      } else if (kill_at && now > *kill_at) {
        send(SIGKILL);
      }
      std::this_thread::sleep_for(pause);
      if (pause < std::chrono::milliseconds(20)) pause *= 2;
    }
  }

  // The first to end with a code that is not the consequence of another's failure.
  int root_cause() const {
    for (std::size_t i = 0; i < outcomes_.size(); ++i)
      if (!late_.empty() && outcomes_[i].stage == late_ && outcomes_[i].code != 0) return static_cast<int>(i);
    for (const auto i : ended_badly_)
      if (!consequence(outcomes_[i].code) && !outcomes_[i].stopped) return static_cast<int>(i);
    return ended_badly_.empty() ? -1 : static_cast<int>(*std::min_element(ended_badly_.begin(), ended_badly_.end()));
  }

  const Segment& segment_;
  RunOptions options_;
  RunFolder folder_;
  std::vector<Running> running_;
  std::vector<Outcome> outcomes_;
  std::vector<std::size_t> ended_badly_;                    // in the order in which they ended
  std::vector<std::pair<std::string, std::string>> parts_;  // files of printed text: part, final name
  int signal_ = 0;
  std::string late_;
};

}  // namespace

Report run_segment(const Segment& segment, const std::string& done, const RunOptions& options) {
  const std::string key = key_of(segment);
  if (same_as_last_run(segment, done, key)) {
    for (const auto& path : segment.outputs) touch(path);
    touch(done);
    Report report;
    report.unchanged = true;
    return report;
  }
  Report report = Runner(segment, options).run();
  if (report.root >= 0 || report.signal != 0) return report;
  nlohmann::json outputs = nlohmann::json::object();
  for (const auto& path : segment.outputs) {
    std::error_code ignored;
    if (!std::filesystem::exists(path, ignored))
      fail(Exit::failed, "segment '{}' ended well but did not write '{}': an option of its stages that turns this output on may be missing", segment.name,
           path);
    outputs[path] = hex(hash_path(path));
    if (std::filesystem::is_directory(path, ignored)) touch(path);  // make looks at its time, which files within do not change
  }
  make_folder_of(done);
  write_file(done, nlohmann::json{{"key", key}, {"outputs", outputs}}.dump(1) + "\n", true);
  return report;
}

std::string meaning_of(int code) {
  switch (code) {
    case 0: return "done";
    case 1: return "failed";
    case 2: return "usage";
    case 3: return "bad input";
    case 4: return "cannot write";
    case 5: return "reader lost";
    case 6: return "writer lost";
    default: break;
  }
  if (code > 128 && code < 128 + 65) {
    const char* name = ::sigabbrev_np(code - 128);
    return name ? fmt::format("SIG{}", name) : fmt::format("signal {}", code - 128);
  }
  return "unknown";
}

std::string table(const Report& report) {
  std::size_t width = 5;
  const auto name = [](const Outcome& o) { return o.workers > 1 ? fmt::format("{}.{}", o.stage, o.worker) : o.stage; };
  for (const auto& o : report.outcomes) width = std::max(width, name(o).size());
  std::string out = fmt::format("{:<{}}  {:>12}  {:>8}  {:>8}  exit\n", "stage", width, "events", "MB/s", "seconds");
  for (const auto& o : report.outcomes) {
    const std::string events = o.measured ? fmt::format("{}", o.events) : "-";
    const std::string rate = o.measured && o.seconds > 0 ? fmt::format("{:.1f}", static_cast<double>(o.bytes) / o.seconds / 1e6) : "-";
    out += fmt::format("{:<{}}  {:>12}  {:>8}  {:>8.2f}  {} {}{}\n", name(o), width, events, rate, o.seconds, o.code, meaning_of(o.code),
                       o.stopped && o.code != 0 ? ", stopped by bl-run" : "");
  }
  return out;
}

std::string verdict(const Report& report, const Segment& segment) {
  if (report.root < 0) return "";
  const auto& o = report.outcomes[static_cast<std::size_t>(report.root)];
  if (!report.late.empty()) {
    for (const auto& p : segment.processes)
      if (p.stage == report.late)
        return fmt::format("segment '{}': stage '{}' ran longer than its time of {} s and was stopped: raise `time`, or give it less to do", segment.name,
                           p.stage, p.time);
  }
  return fmt::format("segment '{}': root cause: stage '{}' ({}) ended with exit code {} ({})", segment.name, o.stage, o.program, o.code, meaning_of(o.code));
}

}  // namespace bl::plan
