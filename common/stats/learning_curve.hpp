// How many training events a method needs to reach a value, read off its learning curve, and how many times more another
// method needs.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "base/rng.hpp"

namespace bl::stats {

struct CurvePoint {
  double size = 0;   // training events, > 0
  double value = 0;  // of a metric: accuracy, AUC …; a mean over seeds
  double error = 0;  // of that mean (over_seeds().error), >= 0; 0 means exactly known
};

enum class Reach : std::uint8_t {
  reached,  // between two points of the curve
  always,   // already at the smallest size: the size needed is that or less
  never     // not even at the largest size: the size needed is larger, nobody knows by how much
};
std::string_view name_of(Reach reach);

struct LearningCurveOptions {
  bool rising = true;           // large values are good; false for a loss
  std::size_t replicas = 2000;  // for the errors; 0: none
};

// The size needed. `size` is interpolated where reached, else the smallest or largest size of the curve, a limit that is no
// estimate. low, high: 68 % interval; 0 where it goes below the smallest size, infinite where it goes beyond the largest (the
// curve is never extrapolated). `reach_probability`, of replicas: how sure it is that the curve reaches the value within its
// sizes (always included).
struct SizeNeeded {
  Reach reach = Reach::never;
  double size = 0, low = 0, high = 0;
  double reach_probability = 0;
};

// Points in any order, at different sizes. More training does not hurt: the values are first made monotonic by isotonic
// regression with weights 1 / error^2 (equal weights where an error is 0; Barlow et al., "Statistical inference under order
// restrictions", 1972), which changes nothing on a monotonic curve; between points they are linear in ln(size). The interval
// comes from `replicas` curves with normal errors, drawn by rng. Exit::input for fewer than 2 points, a size that is not
// above 0 or comes twice, values that are not finite, errors that are not finite or below 0.
SizeNeeded size_needed(std::span<const CurvePoint> curve, double target, const LearningCurveOptions& options, const Rng& rng);

enum class RatioKind : std::uint8_t {
  measured,     // both curves reach the value
  lower_limit,  // the ratio is this or more: `other` never reaches it, or `method` always does
  upper_limit,  // the ratio is this or less
  unknown       // both always, or both never: NaN
};
std::string_view name_of(RatioKind kind);

// Size that `other` needs / size that `method` needs for the same value: above 1 when `method` needs fewer events. low, high:
// 68 % interval over replicas of both curves, infinite or 0 where one of them does not reach; NaN when more than half of the
// replicas say nothing.
struct SizeRatio {
  RatioKind kind = RatioKind::unknown;
  double ratio = 0, low = 0, high = 0;
  SizeNeeded method, other;
};
SizeRatio size_ratio(std::span<const CurvePoint> method, std::span<const CurvePoint> other, double target, const LearningCurveOptions& options, const Rng& rng);

}  // namespace bl::stats
