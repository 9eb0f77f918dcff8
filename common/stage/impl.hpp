// State behind Program and Context. Internal to stage/.
#pragma once
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "stage/context.hpp"
#include "stage/program.hpp"
#include "transport/transport.hpp"

namespace bl::stage {

using Target = std::variant<bool*, int*, std::int64_t*, std::uint64_t*, double*, std::string*, std::vector<std::string>*>;

struct Option::Impl {
  std::string flag, doc;
  Target target;
  nlohmann::json initial;  // the default
  Role role = Role::value;
  bool required = false, effect = true, common = false, first = false;
  bool bounded = false;
  double low = 0, high = 0;
  std::vector<std::string> choices;

  std::string key() const { return flag.substr(2); }  // "--mode" -> "mode"
  std::string type() const;                           // "bool", "int", "uint", "float", "string", "list"
  nlohmann::json value() const;
};

struct Example {
  std::string command, what;
};

struct Program::Impl {
  std::string name, summary;
  std::deque<Option::Impl> options;  // a deque: Option handles point into it
  std::vector<std::string> reads, writes;
  std::string files_doc;
  bool takes_files = false, parallel = false, positional = false;
  std::vector<Example> examples;
  std::vector<std::pair<std::string, std::string>> notes;

  // common options
  std::string in = "-", out = "-", config, log_level = "warn", metrics;
  std::vector<std::string> inputs;
  std::uint64_t seed = 1;
  int threads = 1;
  bool force = false, quiet = false;
  std::size_t rank = 0;  // of the processes that run this command together

  Option::Impl& add(const std::string& flag, Target target, const std::string& doc);
  std::string help() const;
  std::string describe() const;
};

struct Context::Impl {
  const Program::Impl& program;
  std::unique_ptr<Pool> pool;
  std::unique_ptr<Progress> progress;
  std::map<std::string, std::string> dependencies;  // path -> hash
  std::vector<std::string> streams_read;            // ids of the streams read, in order of opening
  // Unfinished streams are aborted, with the reason, when the stage fails.
  // They outlive the reader or writer that a failing body leaves behind, so that the peers are told why.
  std::vector<std::shared_ptr<transport::Sink>> sinks;
  std::vector<std::shared_ptr<transport::Source>> sources;
  // Keeps a stream, and lets go of those that nobody uses any more (a file that is read again for each epoch).
  template <class T>
  static void keep(std::vector<std::shared_ptr<T>>& all, const std::shared_ptr<T>& one) {
    std::erase_if(all, [](const auto& other) { return other.use_count() == 1; });
    all.push_back(one);
  }

  explicit Impl(const Program::Impl& p) : program(p) {}
};

}  // namespace bl::stage
