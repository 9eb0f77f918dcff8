// Inputs of an evaluation: named files and streams, and jets in memory.
#pragma once
#include <nlohmann/json.hpp>

#include <cstdint>
#include <string>
#include <vector>

#include "data/batch.hpp"
#include "report/page.hpp"
#include "stage/context.hpp"
#include "wire/hello.hpp"

namespace bl::evaluate {

// --in NAME=FILE, or FILE alone, whose name is then that of the file without folder and ending. A name holds no '/' and no ':'.
struct Input {
  std::string name, path;
};
std::vector<Input> named_inputs(const std::vector<std::string>& in, const std::string& option = "--in");
// The only input; Exit::usage for several.
Input only_input(const std::vector<std::string>& in, const std::string& what);

// A whole stream in memory: the columns `keep` that it has, and the offsets that they need.
struct Stream {
  std::string path;
  wire::Hello hello;
  Batch batch;
};
Stream read_stream(stage::Context& context, const std::string& endpoint, const std::string& schema, const std::vector<std::string>& keep);

// The input's history, followed by this evaluation's own entry.
report::Origin origin_of(const std::string& name, const Stream& stream, const stage::Context& context);

// Constituents of jets: jet j owns entries offsets[j] … offsets[j + 1] - 1. GeV; eta and phi in the laboratory, or relative to
// the jet's axis.
struct JetSample {
  std::string path;
  std::vector<std::uint32_t> offsets{0};
  std::vector<float> pt, eta, phi;
  std::vector<float> axis_eta, axis_phi;  // of each jet; empty where the stream has none
  std::vector<std::uint64_t> event_id;
  bool weighted = false;  // weights differ: they are not used
  std::size_t size() const { return offsets.size() - 1; }
  // Jets that were generated and decoded lie around (0, 0): their axis columns are absent or 0 throughout.
  bool has_axes() const;
};
// Of a particles/1 stream; `most` of them (0: all), drawn by rng and kept in order. Exit::input when there are none.
JetSample jets_of(const Stream& stream, std::size_t most, const Rng& rng);
// `most` of the jets (all where there are no more), drawn by rng and kept in order.
JetSample some_of(const JetSample& jets, std::size_t most, const Rng& rng);
// Constituents relative to the axes, which are then 0. Nothing where has_axes() is false.
void to_jet_frame(JetSample& jets);
// As a particles/1 batch of what observables need.
Batch to_batch(const JetSample& jets);

}  // namespace bl::evaluate
