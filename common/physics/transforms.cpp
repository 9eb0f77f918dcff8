#include "physics/transforms.hpp"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numbers>

namespace bl::physics {
namespace {

using nlohmann::json;

struct Known {
  StepKind kind;
  std::string_view name;
  std::vector<std::string> parameters;
};

const std::vector<Known>& known_steps() {
  static const std::vector<Known> all{
      {StepKind::identity, "identity", {}},
      {StepKind::scale, "scale", {"shift", "factor"}},
      {StepKind::log, "log", {}},
      {StepKind::log1p, "log1p", {}},
      {StepKind::signed_log, "signed_log", {}},
      {StepKind::clip, "clip", {"low", "high"}},
      {StepKind::tanh, "tanh", {}},
      {StepKind::sincos, "sincos", {}},
      {StepKind::uniform_normal, "uniform_normal", {"low", "high"}},
      {StepKind::quantile_normal, "quantile_normal", {"knots", "x", "z"}},
      {StepKind::standardise, "standardise", {"mean", "deviation"}},
  };
  return all;
}

const Known& known(StepKind kind) {
  for (const auto& step : known_steps())
    if (step.kind == kind) return step;
  throw std::logic_error("internal error: a transform without a name");
}

std::string joined(const std::vector<std::string>& names) {
  std::string text;
  for (const auto& name : names) text += (text.empty() ? "" : ", ") + name;
  return text.empty() ? "none" : text;
}

// The share of a uniform feature stays this far from 0 and 1, so that its normal quantile is finite (|y| < 6).
constexpr double kEdge = 1e-9;
// tanh of more than this is 1 in single precision.
constexpr double kTanhMax = 1.0 - 0x1p-24;

// Piecewise linear through rising (from, to); beyond the ends with the slope of the outermost piece.
double interpolate(const std::vector<double>& from, const std::vector<double>& to, double value) {
  if (from.size() == 1) return to[0];
  auto upper = static_cast<std::size_t>(std::upper_bound(from.begin(), from.end(), value) - from.begin());
  upper = std::clamp<std::size_t>(upper, 1, from.size() - 1);
  const double slope = (to[upper] - to[upper - 1]) / (from[upper] - from[upper - 1]);
  return to[upper - 1] + (value - from[upper - 1]) * slope;
}

}  // namespace

double normal_cdf(double z) { return 0.5 * std::erfc(-z / std::numbers::sqrt2); }

// P. J. Acklam's rational approximation (relative error 1e-9), then one step of Halley's method to full precision.
double normal_quantile(double p) {
  check(p > 0 && p < 1, "a normal quantile of a probability outside (0, 1)");
  constexpr double a[] = {-3.969683028665376e+01, 2.209460984245205e+02,  -2.759285104469687e+02,
                          1.383577518672690e+02,  -3.066479806614716e+01, 2.506628277459239e+00};
  constexpr double b[] = {-5.447609879822406e+01, 1.615858368580409e+02, -1.556989798598866e+02, 6.680131188771972e+01, -1.328068155288572e+01};
  constexpr double c[] = {-7.784894002430293e-03, -3.223964580411365e-01, -2.400758277161838e+00,
                          -2.549732539343734e+00, 4.374664141464968e+00,  2.938163982698783e+00};
  constexpr double d[] = {7.784695709041462e-03, 3.224671290700398e-01, 2.445134137142996e+00, 3.754408661907416e+00};
  constexpr double low = 0.02425;
  const auto tail = [&](double q) {
    return (((((c[0] * q + c[1]) * q + c[2]) * q + c[3]) * q + c[4]) * q + c[5]) / ((((d[0] * q + d[1]) * q + d[2]) * q + d[3]) * q + 1);
  };
  double x = 0;
  if (p < low) {
    x = tail(std::sqrt(-2 * std::log(p)));
  } else if (p > 1 - low) {
    x = -tail(std::sqrt(-2 * std::log1p(-p)));
  } else {
    const double q = p - 0.5, r = q * q;
    x = (((((a[0] * r + a[1]) * r + a[2]) * r + a[3]) * r + a[4]) * r + a[5]) * q / (((((b[0] * r + b[1]) * r + b[2]) * r + b[3]) * r + b[4]) * r + 1);
  }
  const double u = (normal_cdf(x) - p) * std::sqrt(2 * std::numbers::pi) * std::exp(x * x / 2);
  return x - u / (1 + x * u / 2);
}

void Step::fit(std::span<const double> values) {
  if (values.empty()) fail(Exit::input, "'{}' has no values to be fitted on", known(kind).name);
  if (kind == StepKind::standardise) {
    double sum = 0, squares = 0;
    for (const double v : values) sum += v;
    const double mean = sum / static_cast<double>(values.size());
    for (const double v : values) squares += (v - mean) * (v - mean);
    const double deviation = std::sqrt(squares / static_cast<double>(values.size()));
    a = mean;
    b = deviation > 0 ? deviation : 1;  // a constant feature becomes 0
  } else if (kind == StepKind::quantile_normal) {
    std::vector<double> sorted(values.begin(), values.end());
    std::sort(sorted.begin(), sorted.end());
    x.clear();
    z.clear();
    std::vector<int> ties;
    for (int k = 0; k < knots; ++k) {
      const double p = (k + 0.5) / knots;
      const double rank = std::clamp(p * static_cast<double>(sorted.size()) - 0.5, 0.0, static_cast<double>(sorted.size() - 1));
      const auto below = static_cast<std::size_t>(rank);
      const double part = rank - static_cast<double>(below);
      const double value = part > 0 ? sorted[below] + part * (sorted[below + 1] - sorted[below]) : sorted[below];
      const double quantile = normal_quantile(p);
      if (!x.empty() && value <= x.back()) {  // equal values share one knot, at the mean of their quantiles
        ++ties.back();
        z.back() += (quantile - z.back()) / ties.back();
      } else {
        x.push_back(value);
        z.push_back(quantile);
        ties.push_back(1);
      }
    }
  }
  fitted = true;
}

double Step::forward(double v) const {
  switch (kind) {
    case StepKind::identity: return v;
    case StepKind::scale: return (v - a) * b;
    case StepKind::log:
      if (!(v > 0)) fail(Exit::input, "'log' takes values above 0, not {}: put a 'clip' before it or use 'log1p'", v);
      return std::log(v);
    case StepKind::log1p:
      if (!(v > -1)) fail(Exit::input, "'log1p' takes values above -1, not {}: put a 'clip' before it or use 'signed_log'", v);
      return std::log1p(v);
    case StepKind::signed_log: return std::copysign(std::log1p(std::abs(v)), v);
    case StepKind::clip: return std::min(std::max(v, a), b);
    case StepKind::tanh: return std::tanh(v);
    case StepKind::sincos: return std::sin(v);
    case StepKind::uniform_normal:
      // A float of pi is above pi: that much rounding is allowed at the edges.
      if (!(v >= a - 1e-6 * (b - a) && v <= b + 1e-6 * (b - a))) fail(Exit::input, "'uniform_normal' takes values from {} to {}, not {}", a, b, v);
      return normal_quantile(std::clamp((v - a) / (b - a), kEdge, 1 - kEdge));
    case StepKind::quantile_normal: return interpolate(x, z, v);
    case StepKind::standardise: return (v - a) / b;
  }
  throw std::logic_error("internal error: an unknown transform");
}

double Step::inverse(double y) const {
  switch (kind) {
    case StepKind::identity: return y;
    case StepKind::scale: return y / b + a;
    case StepKind::log: return std::exp(y);
    case StepKind::log1p: return std::expm1(y);
    case StepKind::signed_log: return std::copysign(std::expm1(std::abs(y)), y);
    case StepKind::clip: return std::min(std::max(y, a), b);
    case StepKind::tanh: return std::atanh(std::clamp(y, -kTanhMax, kTanhMax));
    case StepKind::sincos: return std::asin(std::clamp(y, -1.0, 1.0));
    case StepKind::uniform_normal: return a + normal_cdf(y) * (b - a);
    case StepKind::quantile_normal: return z.size() == 1 ? x[0] : interpolate(z, x, y);
    case StepKind::standardise: return y * b + a;
  }
  throw std::logic_error("internal error: an unknown transform");
}

namespace {

double number(const json& step, const char* key, double missing, std::string_view where) {
  const auto found = step.find(key);
  if (found == step.end()) return missing;
  if (!found->is_number()) fail(Exit::usage, "{}: '{}' must be a number, not {}", where, key, found->dump());
  const double value = found->get<double>();
  if (!std::isfinite(value)) fail(Exit::usage, "{}: '{}' must be finite", where, key);
  return value;
}

std::vector<double> numbers(const json& step, const char* key, std::string_view where) {
  const auto found = step.find(key);
  if (found == step.end()) return {};
  std::vector<double> values;
  if (found->is_array())
    for (const auto& value : *found)
      if (value.is_number()) values.push_back(value.get<double>());
  if (values.empty() || values.size() != found->size()) fail(Exit::usage, "{}: '{}' must be a list of numbers", where, key);
  for (std::size_t i = 1; i < values.size(); ++i)
    if (!(values[i] > values[i - 1])) fail(Exit::usage, "{}: '{}' must rise, entry {} is {} after {}", where, key, i, values[i], values[i - 1]);
  return values;
}

Step parse_step(const json& given, std::string_view where) {
  const json step = given.is_string() ? json{{"step", given}} : given;
  if (!step.is_object() || !step.contains("step") || !step["step"].is_string())
    fail(Exit::usage, "{}: a transform is a name such as \"log\", or a table such as {{ step = \"clip\", low = 0, high = 1 }}, not {}", where, given.dump());
  const std::string name = step["step"].get<std::string>();
  const Known* found = nullptr;
  std::vector<std::string> names;
  for (const auto& candidate : known_steps()) {
    names.emplace_back(candidate.name);
    if (candidate.name == name) found = &candidate;
  }
  if (!found) {
    const std::string near = nearest(name, names);
    fail(Exit::usage, "{}: unknown transform '{}'{}; known are {}", where, name, near.empty() ? "" : fmt::format(" (did you mean '{}'?)", near), joined(names));
  }
  for (const auto& [key, value] : step.items())
    if (key != "step" && std::find(found->parameters.begin(), found->parameters.end(), key) == found->parameters.end())
      fail(Exit::usage, "{}: transform '{}' has no parameter '{}'; it has {}", where, name, key, joined(found->parameters));

  Step s;
  s.kind = found->kind;
  switch (s.kind) {
    case StepKind::scale:
      s.a = number(step, "shift", 0, where);
      s.b = number(step, "factor", 1, where);
      if (s.b == 0) fail(Exit::usage, "{}: the factor of 'scale' must not be 0", where);
      break;
    case StepKind::clip:
    case StepKind::uniform_normal:
      if (!step.contains("low") || !step.contains("high")) fail(Exit::usage, "{}: transform '{}' needs 'low' and 'high'", where, name);
      s.a = number(step, "low", 0, where);
      s.b = number(step, "high", 0, where);
      if (!(s.a < s.b)) fail(Exit::usage, "{}: 'low' of '{}' must be below 'high', they are {} and {}", where, name, s.a, s.b);
      break;
    case StepKind::standardise:
      if (step.contains("mean") != step.contains("deviation"))
        fail(Exit::usage, "{}: 'standardise' takes both 'mean' and 'deviation', or none to fit them", where);
      s.fitted = step.contains("mean");
      s.a = number(step, "mean", 0, where);
      s.b = number(step, "deviation", 1, where);
      if (!(s.b > 0)) fail(Exit::usage, "{}: the deviation of 'standardise' must be above 0, it is {}", where, s.b);
      break;
    case StepKind::quantile_normal: {
      const double knots = number(step, "knots", 1001, where);
      if (!(knots >= 2 && knots <= 100'000 && knots == std::floor(knots)))
        fail(Exit::usage, "{}: 'knots' must be a whole number from 2 to 100000, not {}", where, knots);
      s.knots = static_cast<int>(knots);
      s.x = numbers(step, "x", where);
      s.z = numbers(step, "z", where);
      if (s.x.size() != s.z.size()) fail(Exit::usage, "{}: 'x' and 'z' of 'quantile_normal' must be of the same length", where);
      s.fitted = !s.x.empty();
      break;
    }
    default: break;
  }
  return s;
}

}  // namespace

Chain Chain::parse(const nlohmann::json& steps, std::string_view where) {
  if (!steps.is_array()) fail(Exit::usage, "{}: a chain of transforms is a list such as [\"log\", \"standardise\"], not {}", where, steps.dump());
  Chain chain;
  for (const auto& step : steps) {
    if (!chain.steps_.empty() && chain.steps_.back().kind == StepKind::sincos) fail(Exit::usage, "{}: 'sincos' must be the last step of a chain", where);
    chain.steps_.push_back(parse_step(step, where));
  }
  return chain;
}

nlohmann::json Chain::json() const {
  auto steps = nlohmann::json::array();
  for (const auto& s : steps_) {
    nlohmann::json step{{"step", known(s.kind).name}};
    switch (s.kind) {
      case StepKind::scale: step["shift"] = s.a, step["factor"] = s.b; break;
      case StepKind::clip:
      case StepKind::uniform_normal: step["low"] = s.a, step["high"] = s.b; break;
      case StepKind::standardise:
        if (s.fitted) step["mean"] = s.a, step["deviation"] = s.b;
        break;
      case StepKind::quantile_normal:
        step["knots"] = s.knots;
        if (s.fitted) step["x"] = s.x, step["z"] = s.z;
        break;
      default: break;
    }
    steps.push_back(std::move(step));
  }
  return steps;
}

bool Chain::fitted() const {
  return std::all_of(steps_.begin(), steps_.end(), [](const Step& s) { return s.fitted; });
}

std::size_t Chain::outputs() const { return !steps_.empty() && steps_.back().kind == StepKind::sincos ? 2 : 1; }

void Chain::fit(std::vector<double> values) {
  for (auto& step : steps_) {
    if (!step.fitted) step.fit(values);
    for (auto& value : values) value = step.forward(value);
  }
}

std::array<double, 2> Chain::forward(double x) const {
  for (const auto& step : steps_) {
    if (step.kind == StepKind::sincos) return {std::sin(x), std::cos(x)};
    x = step.forward(x);
  }
  return {x, 0};
}

double Chain::inverse(std::array<double, 2> y) const {
  double x = y[0];
  for (auto step = steps_.rbegin(); step != steps_.rend(); ++step) x = step->kind == StepKind::sincos ? std::atan2(y[0], y[1]) : step->inverse(x);
  return x;
}

}  // namespace bl::physics
