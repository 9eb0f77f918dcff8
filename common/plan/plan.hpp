// A checked pipeline, cut at its files into segments: a segment is one stage, or stages joined by streams, and is what
// make starts, one rule each. Files go between segments.
#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "plan/describe.hpp"
#include "plan/pipeline.hpp"

namespace bl::plan {

// One process of a segment. Wires are "" (none), a file's path, "pipe:EDGE", "ipc:NAME?options" (a socket in the folder
// that exists as long as the segment runs) or "tcp://host:port?options".
struct Process {
  std::string stage, program, path, hash, host;
  int worker = 0;                       // 0 … workers-1
  std::vector<std::string> args;        // options that decide the result
  std::vector<std::string> other_args;  // those that do not: threads, log level, metrics
  std::vector<std::string> in;
  std::string out, stdout_file;
  std::string metrics;  // file for its --metrics; "run:": one that lasts as long as the segment; "": it has none
  bool prints = false;  // what it prints is for people, not a stream
  std::uint64_t memory = 0, time = 0;
};

struct Segment {
  std::string pipeline, name;
  std::vector<std::string> stages;            // sources first
  std::vector<Process> processes;             // the same order
  std::map<std::string, std::string> inputs;  // files that no stage makes -> xxh3-64 of the content, "" when not known yet
  std::vector<std::string> uses;              // files that other segments make
  std::vector<std::string> outputs, reports;  // files that this one makes; those of them that hold printed text
};

struct Plan {
  Pipeline pipeline;
  std::map<std::string, ProgramInfo> programs;  // by stage
  std::vector<Segment> segments;                // each after those that it depends on
};

// Everything that can be checked before anything runs: programs, options, files, schemas, cycles, ports. Throws
// Exit::usage with every problem found. `find` returns what the program named by `run` says of itself, or nullopt when
// there is no such program.
using Finder = std::function<std::optional<ProgramInfo>(const std::string& run)>;
Plan make_plan(Pipeline pipeline, const Finder& find);
// The same with programs from `folder` or PATH.
Plan make_plan(Pipeline pipeline, const std::string& folder);

nlohmann::json to_json(const Segment& segment);
Segment segment_from_json(const nlohmann::json& json, const std::string& where);  // throws Exit::input

// The graph as mermaid text: a box a stage, a frame a segment, a cylinder a file.
std::string graph(const Plan& plan);

}  // namespace bl::plan
