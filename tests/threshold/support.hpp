// Streams of scores to test with, and programs to run on them.
#pragma once
#include <sys/wait.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "base/files.hpp"
#include "base/rng.hpp"
#include "data/batch.hpp"
#include "schema/schema.hpp"
#include "transport/transport.hpp"
#include "wire/batch.hpp"
#include "wire/hello.hpp"

namespace bl::test {

// One event of a scores/1 stream.
struct Scored {
  std::string process;
  float score = 0;
  float n_objects = 6;
  double weight = 1;
  std::int32_t label = 0;
};

// Background "bg1" and "bg2" around 0, signal "sig" around `shift`; n_objects follows the score of the signal a little.
inline std::vector<Scored> sample(std::size_t n, double signal_fraction, double shift, std::uint64_t seed) {
  const Rng rng(seed, "test sample");
  std::vector<Scored> events(n);
  for (std::size_t i = 0; i < n; ++i) {
    const bool signal = rng.uniform(i, 0) < signal_fraction;
    events[i].process = signal ? "sig" : rng.uniform(i, 1) < 0.5 ? "bg1" : "bg2";
    events[i].score = static_cast<float>(rng.normal(i, 2) + (signal ? shift : 0.0));
    events[i].n_objects = static_cast<float>(5 + rng.below(6, i, 3) + (signal ? rng.below(3, i, 4) : 0));
    events[i].label = signal;
  }
  return events;
}

inline Batch batch_of(std::span<const Scored> events, std::uint64_t first, bool labelled) {
  Batch b;
  b.events = static_cast<std::uint32_t>(events.size());
  std::vector<std::uint64_t> index, id;
  std::vector<double> weight;
  std::vector<float> score, second, n_objects;
  std::vector<std::int32_t> label;
  std::vector<std::string> process;
  for (std::size_t i = 0; i < events.size(); ++i) {
    index.push_back(first + i);
    id.push_back(1000000 + 7 * (first + i));
    weight.push_back(events[i].weight);
    score.push_back(events[i].score);
    second.push_back(0.5f * events[i].score + events[i].n_objects);
    n_objects.push_back(events[i].n_objects);
    label.push_back(events[i].label);
    process.push_back(events[i].process);
  }
  b.set("event_index", {"event"}, index);
  b.set("event_id", {"event"}, id);
  b.set("weight", {"event"}, weight);
  b.set_text("process", process);
  b.set("token_offsets", {"event+1"}, std::vector<std::uint32_t>(events.size() + 1, 0));
  b.set("score_mean_logp", {"event"}, score);
  b.set("score_unigram_mean_logp", {"event"}, second);
  b.set("n_objects", {"event"}, n_objects);
  if (labelled) b.set("label", {"event"}, label);
  return b;
}

struct StreamOptions {
  bool labelled = true;
  std::size_t batch = 100;
  std::string model = "aa00", tokenizer = "bb00";
};

// Writes without checking values, so that a stream can hold what a stage would never write.
inline void write_stream(const std::string& path, std::span<const Scored> events, const StreamOptions& o = {}) {
  const auto& schema = schema::get("scores/1");
  const auto sink = transport::open_sink(path, {true});
  wire::Hello hello;
  hello.schema = schema.id();
  hello.schema_hash = schema.hash;
  hello.meta = {{"model", {{"hash", o.model}}}, {"tokenizer", {{"hash", o.tokenizer}}}};
  sink->write(wire::hello_frame(1, hello));
  std::uint64_t seq = 0;
  for (std::size_t first = 0; first < events.size(); first += o.batch) {
    const auto part = events.subspan(first, std::min(o.batch, events.size() - first));
    wire::Frame frame;
    frame.kind = wire::Kind::batch;
    frame.stream = 1;
    frame.seq = seq++;
    frame.schema = schema.hash;
    frame.count = static_cast<std::uint32_t>(part.size());
    frame.body = wire::encode(batch_of(part, first, o.labelled));
    sink->write(frame);
  }
  sink->finish();
}

inline std::vector<Batch> read_stream(const std::string& path) {
  const auto source = transport::open_source(path);
  std::vector<Batch> batches;
  while (const auto frame = source->read())
    if (frame->kind == wire::Kind::batch) batches.push_back(wire::decode(frame->body, frame->seq, path));
  return batches;
}

// A folder that is gone when the test ends.
class Folder {
 public:
  Folder() {
    std::string name = (std::filesystem::temp_directory_path() / "beamline-XXXXXX").string();
    path_ = ::mkdtemp(name.data());
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  std::string operator/(const std::string& name) const { return (path_ / name).string(); }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

struct Outcome {
  int code = -1;
  std::string out, err;
};

// Runs a command line of the shell inside `folder`; the project's programs are on its PATH.
inline Outcome run(const Folder& folder, const std::string& command) {
  const std::string out = folder / ".stdout", err = folder / ".stderr";
  const std::string line =
      "cd '" + folder.path().string() + "' && PATH='" BEAMLINE_BIN_DIR "':\"$PATH\" && { " + command + "; } </dev/null >'" + out + "' 2>'" + err + "'";
  const int status = std::system(line.c_str());
  return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), read_file(out), read_file(err)};
}

}  // namespace bl::test
