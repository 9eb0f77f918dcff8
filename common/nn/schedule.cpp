#include "nn/schedule.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

#include "base/error.hpp"

namespace bl::nn {
namespace {

constexpr std::array<std::string_view, 4> kNames{"constant", "cosine", "one-cycle", "inverse-sqrt"};

// From 1 at x = 0 to 0 at x = 1.
double half_cosine(double x) { return 0.5 * (1 + std::cos(std::numbers::pi * std::min(1.0, x))); }

double one_cycle(const Schedule& s, std::uint64_t step) {
  constexpr double first = 1.0 / 25, last = first / 1e4;
  const auto total = static_cast<double>(std::max<std::uint64_t>(s.total, 1)), now = static_cast<double>(step);
  const double rise = s.warmup > 0 ? static_cast<double>(std::min(s.warmup, s.total)) : 0.3 * total;
  const double top = std::max(0.0, rise - 1), end = std::max(top, total - 1);
  if (now < top) return s.rate * (1 - (1 - first) * half_cosine(now / top));
  return s.rate * (last + (1 - last) * (end > top ? half_cosine((now - top) / (end - top)) : 1.0));
}

}  // namespace

double Schedule::at(std::uint64_t step) const {
  if (kind == Kind::one_cycle) return one_cycle(*this, step);
  if (step < warmup) return rate * static_cast<double>(step + 1) / static_cast<double>(warmup);
  if (kind == Kind::inverse_sqrt) return rate * std::sqrt(static_cast<double>(std::max<std::uint64_t>(warmup, 1)) / static_cast<double>(step + 1));
  if (kind == Kind::constant || total <= warmup) return rate;
  const double x = std::min(1.0, static_cast<double>(step - warmup) / static_cast<double>(total - warmup));
  return rate * (last + (1 - last) * 0.5 * (1 + std::cos(std::numbers::pi * x)));
}

std::string_view name_of(Schedule::Kind kind) { return kNames.at(static_cast<std::size_t>(kind)); }

std::vector<std::string> schedule_names() { return {kNames.begin(), kNames.end()}; }

Schedule::Kind schedule_named(std::string_view name) {
  const auto* const it = std::ranges::find(kNames, name);
  if (it == kNames.end()) fail(Exit::usage, "the schedule '{}' is not known; known are {}", name, fmt::join(kNames, ", "));
  return static_cast<Schedule::Kind>(it - kNames.begin());
}

}  // namespace bl::nn
