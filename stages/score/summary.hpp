// What the scores of a stream look like, without a glance at what its events are: ranges, and how far a score merely
// follows the number of objects. Who is signal is looked at by bl-threshold alone.
#pragma once
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "data/batch.hpp"

namespace bl::score {

class Summary {
 public:
  explicit Summary(std::vector<std::string> names) : names_(std::move(names)), values_(names_.size()) {}
  void add(const Batch& scores);
  // Also the trivial n_objects, ht and met where the stream has them.
  nlohmann::json json() const;
  std::string text() const;

 private:
  struct Row;
  std::vector<Row> rows() const;
  std::vector<std::string> names_;
  std::vector<std::vector<double>> values_;
  std::vector<std::vector<double>> plain_{3};  // n_objects, ht, met
  std::uint64_t events_ = 0;
};

}  // namespace bl::score
