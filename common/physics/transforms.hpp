// Invertible transforms of a feature, joined into chains: how a number of GeV becomes an input of a network, and back.
//
// The closed list (x in, y out):
//   identity         y = x
//   scale            y = (x - shift) * factor                          parameters shift (0), factor (1, not 0)
//   log              y = ln x                                          x > 0
//   log1p            y = ln(1 + x)                                     x > -1
//   signed_log       y = sign(x) ln(1 + |x|)
//   clip             y = min(max(x, low), high)                        low, high; what it cuts off does not come back
//   tanh             y = tanh x                                        saturates: |x| above 8 does not come back
//   sincos           y = (sin x, cos x), two columns; last of a chain  comes back in [-pi, pi]
//   uniform_normal   y = Phi^-1((x - low) / (high - low))              low <= x <= high; of a flat feature such as phi
//   quantile_normal  y = Phi^-1(rank of x), fitted                     knots (1001); linear between knots and beyond them
//   standardise      y = (x - mean) / deviation, fitted
// Phi is the distribution function of the standard normal. Fitted steps get their parameters from fit(), or from the
// JSON form of a chain that was fitted before.
#pragma once
#include <nlohmann/json_fwd.hpp>

#include <array>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"

namespace bl::physics {

enum class StepKind { identity, scale, log, log1p, signed_log, clip, tanh, sincos, uniform_normal, quantile_normal, standardise };

struct Step {
  StepKind kind = StepKind::identity;
  double a = 0, b = 1;       // shift and factor; low and high; mean and deviation
  int knots = 1001;          // wanted by quantile_normal
  std::vector<double> x, z;  // of quantile_normal: rising x, rising z
  bool fitted = true;

  void fit(std::span<const double> values);  // sorts a copy
  double forward(double v) const;            // throws Exit::input "log takes values above 0, not -3"
  double inverse(double y) const;
};

class Chain {
 public:
  Chain() = default;
  // steps: a JSON array of names ("log") and objects ({"step": "clip", "low": 0, "high": 1}); `where` names it in errors.
  // Throws Exit::usage for an unknown step or parameter, and lists the known ones.
  static Chain parse(const nlohmann::json& steps, std::string_view where);
  nlohmann::json json() const;  // parse() of it gives the same chain, fitted parameters included

  bool fitted() const;
  // 2 when the chain ends in sincos, else 1.
  std::size_t outputs() const;
  // Fits every step on what the steps before it make of `values`. Throws Exit::input for an empty set and for values
  // outside a step's domain.
  void fit(std::vector<double> values);

  std::array<double, 2> forward(double x) const;  // the second is 0 with one output; throws Exit::input
  double inverse(std::array<double, 2> y) const;

  const std::vector<Step>& steps() const { return steps_; }

 private:
  std::vector<Step> steps_;
};

double normal_cdf(double z);       // Phi
double normal_quantile(double p);  // Phi^-1, 0 < p < 1

}  // namespace bl::physics
