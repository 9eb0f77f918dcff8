#include "stats/bootstrap.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "stats/correlation.hpp"
#include "stats/efficiency.hpp"

namespace bl::stats {
namespace {

// P(N <= k) · 2^32 of Poisson(1), rounded. The last entry is 2^32: a number above 12 has probability 6e-11.
constexpr std::array<std::uint64_t, 13> poisson_table() {
  std::array<std::uint64_t, 13> table{};
  double term = 0.36787944117144233, sum = 0;  // exp(-1)
  for (std::size_t k = 0; k < table.size(); ++k) {
    if (k > 0) term /= static_cast<double>(k);
    sum += term;
    table[k] = static_cast<std::uint64_t>(sum * 4294967296.0 + 0.5);  // NOLINT(bugprone-incorrect-roundings): lround is not constexpr, and sum > 0
  }
  return table;
}
constexpr auto kPoisson = poisson_table();

std::uint8_t poisson(std::uint32_t bits) {
  std::uint8_t n = 0;
  while (n < kPoisson.size() && bits >= kPoisson[n]) ++n;
  return n;
}

}  // namespace

void poisson_times(const Rng& rng, std::uint64_t replica, std::span<std::uint8_t> times) {
  for (std::size_t i = 0; i < times.size(); i += 2) {
    const std::uint64_t bits = rng.bits(replica, i / 2);  // two events a draw
    times[i] = poisson(static_cast<std::uint32_t>(bits));
    if (i + 1 < times.size()) times[i + 1] = poisson(static_cast<std::uint32_t>(bits >> 32));
  }
}

void bootstrap(std::size_t events, std::size_t replicas, const Rng& rng, Pool& pool,
               const std::function<void(std::size_t, std::span<const std::uint8_t>)>& statistic) {
  std::vector<std::vector<std::uint8_t>> times(pool.threads());
  pool.run(replicas, [&](std::size_t replica, std::size_t worker) {
    auto& mine = times[worker];
    mine.resize(events);
    poisson_times(rng, replica, mine);
    statistic(replica, mine);
  });
}

Spread spread(std::span<const double> values) {
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  std::vector<double> good;
  std::copy_if(values.begin(), values.end(), std::back_inserter(good), [](double v) { return !std::isnan(v); });
  Spread s;
  s.replicas = good.size();
  if (good.size() < 2 || 2 * good.size() < values.size()) {
    s.error = s.low = s.high = s.mean = kNan;
    return s;
  }
  std::sort(good.begin(), good.end());
  double sum = 0;
  for (const double v : good) sum += v;
  s.mean = sum / static_cast<double>(good.size());
  double squares = 0;
  for (const double v : good) squares += (v - s.mean) * (v - s.mean);
  s.error = std::sqrt(squares / static_cast<double>(good.size() - 1));
  s.low = quantile_of_sorted(good, 0.5 * (1 - kOneSigma));
  s.high = quantile_of_sorted(good, 0.5 * (1 + kOneSigma));
  return s;
}

}  // namespace bl::stats
