// Learning curves: how good a tagger gets with so many labelled jets, for each mode and seed.
#pragma once
#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "base/pool.hpp"
#include "finetune/jets.hpp"
#include "finetune/pretrained.hpp"
#include "finetune/training.hpp"
#include "tokens/code_vectors.hpp"

namespace bl::finetune {

// One trained tagger, judged on the test jets. Definitions: docs/finetune.md.
struct Point {
  Mode mode = Mode::full;
  std::uint64_t jets = 0, stopping_jets = 0, seed = 0;
  double accuracy = 0, auc = 0;
  double rejection_30 = 0, rejection_50 = 0;  // infinite where no background passes
  std::uint64_t epochs = 0;
  double seconds = 0;
};
nlohmann::json to_json(const Point& point);
Point point_from_json(const nlohmann::json& json);  // throws nlohmann::json::exception or Exit::usage

// Jets that stop a training on `jets`: half as many, 100 to 1,000.
std::size_t stopping_jets(std::size_t jets);

// probability (jets, classes). Accuracy, and of two classes the first against the second, else the macro mean of each against
// the rest; a rejection of several classes is the inverse of their mean background efficiency.
void judge(std::span<const double> probability, std::span<const std::int32_t> labels, std::size_t classes, Pool& pool, Point& point);

struct Plan {
  std::vector<Mode> modes;
  std::vector<std::size_t> sizes;
  std::uint64_t first_seed = 1, seeds = 5;
};

class Curve {
 public:
  // settings: what the points depend on beside mode, size and seed; points of a file with others are not gone on with.
  Curve(std::string path, nlohmann::json head, nlohmann::json settings);
  // Reads what an earlier run has written. When that was a run of other settings: throws Exit::usage, naming what differs, or
  // begins anew, if the file may be replaced.
  void go_on(bool replace);
  bool has(Mode mode, std::size_t jets, std::uint64_t seed) const;
  void add(const Point& point);  // and writes the file, whole or not at all
  const std::vector<Point>& points() const { return points_; }

  // Mean and standard error over seeds of each mode and size; then, for the best metric values, how many times more jets the
  // other modes need. For people.
  std::string table(std::uint64_t seed) const;

 private:
  void write() const;
  std::string path_;
  nlohmann::json head_, settings_;
  std::vector<Point> points_;
};

struct CurveData {
  const Pretrained* pretrained = nullptr;
  const tokens::CodeVectors* vectors = nullptr;
  const Jets *labelled = nullptr, *test = nullptr;
  std::span<const models::LabelClass> classes;
};
// Trains and judges every point of the plan that the curve lacks, several at a time: one on each thread, the largest first.
// A point has the bits it has alone. done: called after each point, with the lock held; stop: asked between steps, and ends all when
// it throws; worked: after each step, with jets times epochs as unit, of `total_work`.
double total_work(const Plan& plan, const Curve& curve, const Settings& settings);
void run_curve(const Plan& plan, const Settings& settings, const CurveData& data, std::size_t threads, Curve& curve,
               const std::function<void(const Point&)>& done, const std::function<void()>& stop, const std::function<void(double)>& worked);

}  // namespace bl::finetune
