#include "stats/floor.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.hpp"

namespace bl::stats {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

double quotient(double a, double b) { return b != 0 ? a / b : a > 0 ? std::numeric_limits<double>::infinity() : kNan; }

// Of either sample, in value and floor alike.
std::size_t events_each(std::size_t reference_rows, std::size_t sample_rows) {
  const std::size_t n = std::min(reference_rows / 2, sample_rows);
  if (n == 0) fail(Exit::input, "a floor needs 2 events of the reference and 1 of the sample, not {} and {}", reference_rows, sample_rows);
  return n;
}

}  // namespace

AgainstFloor against_floor(const Estimate& value, const Estimate& floor) {
  AgainstFloor r;
  r.value = value.value;
  r.error = value.error;
  r.floor = floor.value;
  r.floor_error = floor.error;
  r.ratio = quotient(r.value, r.floor);
  r.ratio_error = std::isfinite(r.ratio) ? std::hypot(r.error, r.ratio * r.floor_error) / std::abs(r.floor) : kNan;
  const double error = std::hypot(r.error, r.floor_error);
  r.significance = error > 0 && std::isfinite(error) ? (r.value - r.floor) / error : kNan;
  return r;
}

Halves halves(std::size_t rows, const Rng& rng, std::uint64_t replica) {
  if (rows < 2) fail(Exit::input, "a reference of {} events has no two halves: give 2 or more", rows);
  std::vector<std::uint32_t> order = shuffled(rng, replica, rows);
  const auto middle = order.begin() + static_cast<std::ptrdiff_t>(rows / 2);
  return {{order.begin(), middle}, {middle, middle + static_cast<std::ptrdiff_t>(rows / 2)}};
}

AgainstFloor against_floor(std::size_t reference_rows, std::size_t sample_rows, const RowsEstimate& metric, const Rng& rng) {
  const std::size_t n = events_each(reference_rows, sample_rows);
  const Halves parts = halves(reference_rows, rng, 0);
  const std::vector<std::uint32_t> sample = shuffled(rng, 1, sample_rows);
  const auto a = std::span(parts.first).first(n);
  const Estimate value = metric(a, std::span(sample).first(n), false);
  AgainstFloor r = against_floor(value, metric(a, std::span(parts.second).first(n), true));
  r.events = n;
  r.replicas = 1;
  return r;
}

AgainstFloor against_floor(std::size_t reference_rows, std::size_t sample_rows, const RowsMetric& metric, const FloorOptions& options, const Rng& rng,
                           Pool& pool) {
  if (options.replicas < 2) fail(Exit::usage, "a floor with errors needs 2 replicas or more, not {}", options.replicas);
  if (options.most == 0) fail(Exit::usage, "a floor needs 1 event or more in each evaluation, not 0");
  const std::size_t n = std::min(events_each(reference_rows, sample_rows), options.most);
  std::vector<double> value(options.replicas), floor(options.replicas), difference(options.replicas);
  pool.run(options.replicas, [&](std::size_t replica, std::size_t worker) {
    const std::vector<std::uint32_t> reference = shuffled(rng, 2 * replica, reference_rows), sample = shuffled(rng, 2 * replica + 1, sample_rows);
    const auto a = std::span(reference).first(n);
    value[replica] = metric(worker, a, std::span(sample).first(n), false);
    floor[replica] = metric(worker, a, std::span(reference).subspan(n, n), true);
    difference[replica] = value[replica] - floor[replica];
  });
  const OverSeeds v = over_seeds(value), f = over_seeds(floor), d = over_seeds(difference);
  AgainstFloor r = against_floor({v.mean, v.deviation}, {f.mean, f.deviation});
  r.significance = d.deviation > 0 ? d.mean / d.deviation : kNan;
  r.events = n;
  r.replicas = options.replicas;
  return r;
}

AgainstFloor against_floor(const Sample& reference, const Sample& sample, const SampleMetric& metric, const FloorOptions& options, const Rng& rng, Pool& pool) {
  require(reference);
  require(sample);
  return against_floor(
      reference.value.size(), sample.value.size(),
      [&](std::size_t, std::span<const std::uint32_t> a, std::span<const std::uint32_t> b, bool b_is_reference) {
        std::vector<double> value[2], weight[2];
        const auto pick = [&](const Sample& from, std::span<const std::uint32_t> rows, int side) {
          for (const std::uint32_t r : rows) {
            value[side].push_back(from.value[r]);
            if (!from.weight.empty()) weight[side].push_back(from.weight[r]);
          }
          return Sample{value[side], weight[side], from.name};
        };
        const Sample first = pick(reference, a, 0);
        return metric(first, pick(b_is_reference ? reference : sample, b, 1));
      },
      options, rng, pool);
}

}  // namespace bl::stats
