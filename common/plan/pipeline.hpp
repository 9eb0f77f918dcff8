// A pipeline as its file says it: stages with their options, edges between them. Nothing is looked up or run here.
//
//   name = "example"                 # default: the file's name
//   seed = 7                         # --seed of every stage that does not set its own
//   [stage.mask]
//   run = "bl-mask"                  # the program; every key that is not listed below is an option of it
//   in = "runs/tokens.bl"            # file, or list of files; a pattern (*, ?, []) stands for the files that exist
//   out = "runs/masked.bl"           # file; another stage whose `in`, or input-file option, has this name depends on this one
//   stdout = "runs/report.txt"       # file for what the stage prints
//   workers = 3                      # processes that share the stream
//   cores = 2                        # becomes --threads
//   memory = "4G"                    # limit of the address space of each process
//   time = "30m"                     # the segment is stopped when a process runs longer
//   host = "localhost"               # where it runs
//   mode = "one"                     # an option of bl-mask
//   [edge.masked]
//   from = "mask"
//   to = "train"
//   via = "pipe"                     # file, pipe, ipc, tcp
//   path = "runs/masked.bl"          # of a file edge
//   port = 5555                      # of a tcp edge; `bind` is the address, default 127.0.0.1
//   credit = 8                       # of ipc and tcp edges: see docs/pipelines.md
#pragma once
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

namespace bl::plan {

struct Setting {
  std::string key;
  nlohmann::json value;  // bool, number, string, or array of strings
  int line = 0;
};

struct Stage {
  std::string name, run, doc;
  std::vector<std::string> in;
  std::string out, stdout_file, host = "localhost";
  int workers = 1, cores = 0;    // cores = 0: not said
  std::uint64_t memory = 0;      // bytes, 0: no limit
  std::uint64_t time = 0;        // seconds, 0: no limit
  std::vector<Setting> options;  // the stage's own
  int line = 0;
};

enum class Via { file, pipe, ipc, tcp };
std::string_view name_of(Via via);

struct Edge {
  std::string name, from, to, path, bind = "127.0.0.1";
  Via via = Via::file;
  int port = 0;
  std::string endpoint_options;  // "credit=8&timeout=5", passed to both ends
  int line = 0;
};

struct Pipeline {
  std::string path, name, doc;
  std::optional<std::uint64_t> seed;
  std::vector<Stage> stages;  // in the order of the file
  std::vector<Edge> edges;

  const Stage* find(std::string_view stage) const;
};

// What is wrong with a pipeline: every sentence names file, line, stage, key and value, and says what to do.
class Problems {
 public:
  void add(std::string sentence) { sentences_.push_back(std::move(sentence)); }
  bool any() const { return !sentences_.empty(); }
  void throw_if_any() const;  // Exit::usage, all sentences, one a line

 private:
  std::vector<std::string> sentences_;
};

// "FILE:LINE: " of a pipeline, for messages.
std::string at(const Pipeline& pipeline, int line);

// Reads a pipeline file. Throws Exit::input when it cannot be read, Exit::usage with all that is wrong in it.
Pipeline read_pipeline(const std::string& path);
Pipeline parse_pipeline(std::string_view text, const std::string& path);

}  // namespace bl::plan
