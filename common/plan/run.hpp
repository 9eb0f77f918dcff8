// Running a segment: its processes joined by pipes and sockets, and what came of it.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "plan/plan.hpp"

namespace bl::plan {

struct Outcome {
  std::string stage, program;
  int worker = 0, workers = 1;
  int code = -1;         // exit code, 128 + signal
  bool stopped = false;  // we asked it to stop
  std::uint64_t events = 0, bytes = 0;
  double seconds = 0;     // from its start to its end
  bool measured = false;  // events and bytes are known
};

struct Report {
  bool unchanged = false;  // nothing was run: programs, options, inputs and outputs are those of the last run
  std::vector<Outcome> outcomes;
  int root = -1;     // index of the outcome that is the root cause of a failure; -1: all went well
  int signal = 0;    // the signal that ended the run
  std::string late;  // the stage that ran longer than its `time`
};

struct RunOptions {
  double settle = 5;  // s that the others get to end by themselves after one has failed
  double grace = 60;  // s between SIGTERM and SIGKILL: a training saves its state in between
};

// Runs `segment` unless nothing it depends on has changed since the run that `done` (a file) records, and records it
// there. Throws Exit::write, Exit::input, Exit::failed; a failing stage is in the report instead.
Report run_segment(const Segment& segment, const std::string& done, const RunOptions& options = {});

// stage, events, MB/s, seconds, exit: one line a process.
std::string table(const Report& report);
// The root cause in one sentence, or "".
std::string verdict(const Report& report, const Segment& segment);
std::string meaning_of(int code);

}  // namespace bl::plan
