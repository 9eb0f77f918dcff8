// Summaries of streams as text, CSV and JSON.
#pragma once
#include <nlohmann/json.hpp>

#include <string>
#include <vector>

#include "data/batch.hpp"
#include "schema/schema.hpp"
#include "wire/hello.hpp"

namespace bl::show {

// What is known of a column after the whole stream went by.
struct ColumnSummary {
  std::string name, dims;
  Dtype dtype = Dtype::f32;
  bool text = false;
  std::uint64_t values = 0, not_finite = 0;
  double min = 0, max = 0, sum = 0;
};

struct StreamSummary {
  std::string path;
  wire::Hello hello;
  std::uint64_t stream = 0, events = 0, batches = 0, bytes = 0;
  std::vector<ColumnSummary> columns;
  std::vector<std::pair<std::string, std::uint64_t>> processes;  // events by process name, in order of appearance
  Digest digest;
  std::vector<Batch> first;  // holds at least the events that are printed

  void add(const Batch& batch, std::uint32_t keep);
};

// One event as JSON: event-level values as numbers, ragged ones as arrays, text as strings.
nlohmann::json event_json(const Batch& batch, std::uint32_t event);
nlohmann::json to_json(const StreamSummary& summary, std::uint32_t events);
std::string to_text(const StreamSummary& summary, std::uint32_t events);
// Event-level columns one line an event; ragged ones joined by spaces. `header` first.
std::string csv_header(const Batch& batch);
std::string csv_lines(const Batch& batch, std::uint32_t events);

}  // namespace bl::show
