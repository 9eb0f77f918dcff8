// Progress of long work: one line redrawn on a terminal, nothing otherwise; the same numbers as JSON lines to a file.
#pragma once
#include <nlohmann/json_fwd.hpp>

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

namespace bl {

class Progress {
 public:
  // metrics: path of a JSON-lines file, empty for none. quiet: never draw. Throws Exit::write.
  Progress(std::string program, const std::string& metrics, bool quiet);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void total(std::uint64_t events);                     // for the ETA; 0 = unknown
  void total_bytes(std::uint64_t bytes);                // for the ETA where the number of events is not known
  void add(std::uint64_t events, std::uint64_t bytes);  // after each batch; redraws at most 5 times a second
  void note(std::string text);                          // shown at the end of the line, e.g. "loss 3.12"
  void metric(const nlohmann::json& line);              // appends one JSON line (adds "t", seconds since the start)
  void finish();                                        // last metric line {"done":true, events, bytes, seconds}, clears the line
  std::uint64_t events() const;
  double seconds() const;
  bool drawing() const;  // is a person watching?

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace bl
