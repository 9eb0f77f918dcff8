// Errors of statistics by the Poisson bootstrap: every event enters a replica a Poisson(1) number of times (Oza &
// Russell 2001; Chamandy et al., "Estimating uncertainty for massive data streams", Google 2012). The numbers are a
// function of (seed, replica, index of the event), so errors do not depend on threads or batches.
#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/pool.hpp"
#include "base/rng.hpp"

namespace bl::stats {

// times[i]: how often event i enters this replica. Inversion of 32 random bits, exact to 2^-32.
void poisson_times(const Rng& rng, std::uint64_t replica, std::span<std::uint8_t> times);

// Calls statistic(replica, times) for every replica, several at once on `pool`; times holds `events` numbers.
void bootstrap(std::size_t events, std::size_t replicas, const Rng& rng, Pool& pool,
               const std::function<void(std::size_t replica, std::span<const std::uint8_t> times)>& statistic);

// The spread of a statistic over replicas. NaN stands for a replica without a value and is left out.
struct Spread {
  double error = 0;          // standard deviation (n - 1); NaN with fewer than half of the replicas
  double low = 0, high = 0;  // 15.87 % and 84.13 % quantiles (linear between order statistics); NaN likewise
  double mean = 0;
  std::size_t replicas = 0;  // with a value
};
Spread spread(std::span<const double> values);

}  // namespace bl::stats
