// The command line of a stage, declared as data. The runner gives every stage --in, --out, --seed, --threads, --config,
// --log-level, --metrics, --quiet, --help, --version, --describe, signals, history, progress and exit codes (base/error.hpp).
//
//   int main(int argc, char** argv) {
//     bl::stage::Program program("bl-mask", "Hide some tokens of each event and keep them as targets.");
//     bl::mask::Options options;
//     program.reads({"tokens/1"}).writes({"masked/1"});
//     program.option("--mode", options.mode, "Which tokens are hidden").one_of({"one", "each"});
//     program.example("bl-mask --mode one --in tokens.bl --out masked.bl", "hide one particle of each event");
//     return program.run(argc, argv, [&](bl::stage::Context& context) {
//       context.transform("masked/1", [&](bl::Batch batch) { return bl::mask::apply(std::move(batch), options, context.rng()); });
//     });
//   }
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "stage/context.hpp"

namespace bl::stage {

// What kind of file an option names, so that a pipeline knows its artefacts.
enum class Role { value, input_file, output_file };

class Option {
 public:
  Option& required();
  Option& range(double low, double high);            // inclusive; a value outside is a usage error
  Option& one_of(std::vector<std::string> choices);  // anything else is a usage error that lists them
  Option& input_file();                              // an artefact that is read: hashed into the history
  Option& output_file();                             // an artefact that is written
  Option& first_word();                              // one of its choices may be the first word: bl-evaluate generation --in …
  Option& no_effect();                               // does not change the result (a path, a verbosity): left out of the stream id

  struct Impl;
  explicit Option(Impl* impl) : impl_(impl) {}

 private:
  Impl* impl_;
};

class Program {
 public:
  Program(std::string name, std::string summary);
  ~Program();
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  // Any of these schemas is read from --in (default "-", stdin).
  Program& reads(std::vector<std::string> schemas);
  // --in takes one or more files of other formats, or streams; the stage opens them itself (Context::inputs()).
  Program& reads_files(std::string doc);
  // --in may also be given as a plain argument: bl-show events.bl
  Program& positional();
  // One of these schemas is written to --out (default "-", stdout).
  Program& writes(std::vector<std::string> schemas);
  // The kernel handles each batch by itself: results do not depend on how many workers share the stream.
  Program& parallel();
  // This process is number `rank` (from 0) of several that run the same command together. All but 0 draw no progress, write
  // no metrics and log errors only; an error that all of them meet is said once, by 0.
  Program& member(std::size_t rank);
  Program& example(std::string command, std::string what);
  Program& note(std::string title, std::string text);  // a section of --help and the man page

  // Options. A bool is a flag. `value` holds the default and must outlive run().
  Option option(const std::string& flag, bool& value, const std::string& doc);
  Option option(const std::string& flag, int& value, const std::string& doc);
  Option option(const std::string& flag, std::int64_t& value, const std::string& doc);
  Option option(const std::string& flag, std::uint64_t& value, const std::string& doc);
  Option option(const std::string& flag, double& value, const std::string& doc);
  Option option(const std::string& flag, std::string& value, const std::string& doc);
  Option option(const std::string& flag, std::vector<std::string>& value, const std::string& doc);  // repeated or comma-separated

  // Parses, then runs `body`; turns every exception into one line on stderr and an exit code. An option conflict that
  // the declarations cannot express is reported by fail(Exit::usage, …) at the start of the body.
  int run(int argc, char** argv, const std::function<void(Context&)>& body);

  struct Impl;

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace bl::stage
