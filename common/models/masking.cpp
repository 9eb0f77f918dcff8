#include "models/masking.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "base/error.hpp"

namespace bl::models {
namespace {

constexpr std::pair<MaskMode, std::string_view> kModes[] = {
    {MaskMode::one, "one"},         {MaskMode::each, "each"}, {MaskMode::fraction, "fraction"}, {MaskMode::ramp, "ramp"},     {MaskMode::hardest, "hardest"},
    {MaskMode::softest, "softest"}, {MaskMode::rank, "rank"}, {MaskMode::knn, "knn"},           {MaskMode::radius, "radius"}, {MaskMode::type, "type"},
};

bool takes_extras(MaskMode mode) { return mode == MaskMode::one || mode == MaskMode::each || mode == MaskMode::fraction || mode == MaskMode::ramp; }

bool maskable(const MaskOptions& options, std::uint8_t category) { return category > 0 || (options.extras && takes_extras(options.mode)); }

// Numbers of one event: index = epoch · 2^32 + a running count, so epochs never share a number.
class Draws {
 public:
  Draws(const Rng& rng, const MaskKey& key) : rng_(rng), event_(key.event_index), next_(std::uint64_t{key.epoch} << 32) {}
  double uniform() { return rng_.uniform(event_, next_++); }
  std::size_t below(std::size_t n) { return static_cast<std::size_t>(rng_.below(n, event_, next_++)); }

 private:
  const Rng& rng_;
  std::uint64_t event_, next_;
};

double distance2(const MaskInput& event, std::size_t a, std::size_t b) {
  const double eta = static_cast<double>(event.eta[a]) - event.eta[b];
  const double phi = std::remainder(static_cast<double>(event.phi[a]) - event.phi[b], 2 * std::numbers::pi);
  return eta * eta + phi * phi;
}

std::size_t hide_fraction(double fraction, std::vector<std::size_t>& candidates, Draws& draws, std::span<std::uint8_t> mask) {
  // Rounded up or down at random, so that the expected number is fraction · n wherever that is at least 1.
  const auto n = candidates.size();
  const double wanted = fraction * static_cast<double>(n);
  auto count = static_cast<std::size_t>(wanted + draws.uniform());
  count = std::clamp<std::size_t>(count, 1, n);
  for (std::size_t i = 0; i < count; ++i) {  // the first steps of a Fisher-Yates shuffle
    std::swap(candidates[i], candidates[i + draws.below(n - i)]);
    mask[candidates[i]] = 1;
  }
  return count;
}

std::size_t hide_by_rank(std::size_t k, std::span<const std::size_t> candidates, Draws& draws, std::span<std::uint8_t> mask) {
  // Weighted draw without replacement: the k largest of u^(1/w) (Efraimidis and Spirakis, IPL 97 (2006) 181).
  const auto n = candidates.size();
  std::vector<std::pair<double, std::size_t>> keys(n);
  for (std::size_t i = 0; i < n; ++i) keys[i] = {-std::log1p(-draws.uniform()) / static_cast<double>(n - i), candidates[i]};
  const auto count = std::min(k, n);
  std::partial_sort(keys.begin(), keys.begin() + static_cast<std::ptrdiff_t>(count), keys.end());
  for (std::size_t i = 0; i < count; ++i) mask[keys[i].second] = 1;
  return count;
}

std::size_t hide_neighbours(std::size_t k, const MaskInput& event, std::span<const std::size_t> candidates, Draws& draws, std::span<std::uint8_t> mask) {
  const auto n = candidates.size();
  const std::size_t seed = candidates[draws.below(n)];
  std::vector<std::pair<double, std::size_t>> near;
  near.reserve(n);
  for (const auto c : candidates)
    if (c != seed) near.emplace_back(distance2(event, seed, c), c);
  const auto count = std::min(k, near.size());
  std::partial_sort(near.begin(), near.begin() + static_cast<std::ptrdiff_t>(count), near.end());
  mask[seed] = 1;
  for (std::size_t i = 0; i < count; ++i) mask[near[i].second] = 1;
  return count + 1;
}

}  // namespace

std::string_view name_of(MaskMode mode) {
  for (const auto& [m, name] : kModes)
    if (m == mode) return name;
  return "unknown";
}

std::vector<std::string> mask_modes() {
  std::vector<std::string> names;
  for (const auto& entry : kModes) names.emplace_back(entry.second);
  return names;
}

MaskMode mask_mode_named(std::string_view name) {
  for (const auto& [m, known] : kModes)
    if (known == name) return m;
  fail(Exit::usage, "no mask mode is called '{}'; choose one of {}", name, fmt::join(mask_modes(), ", "));
}

void validate(const MaskOptions& o) {
  const auto fraction_in_range = [](double f) { return f > 0 && f <= 1; };
  if (o.mode == MaskMode::fraction && !fraction_in_range(o.fraction))
    fail(Exit::usage, "the masked fraction is {}, it must be above 0 and at most 1", o.fraction);
  if (o.mode == MaskMode::ramp && (!fraction_in_range(o.ramp_from) || !fraction_in_range(o.ramp_to)))
    fail(Exit::usage, "the ramp goes from {} to {}, both must be above 0 and at most 1", o.ramp_from, o.ramp_to);
  const bool counts = o.mode == MaskMode::hardest || o.mode == MaskMode::softest || o.mode == MaskMode::rank || o.mode == MaskMode::knn;
  if (counts && o.k == 0) fail(Exit::usage, "mode {} hides k tokens, and k is 0; give at least 1", name_of(o.mode));
  if (o.mode == MaskMode::radius && !(o.radius > 0 && std::isfinite(o.radius))) fail(Exit::usage, "the mask radius is {}, it must be above 0", o.radius);
  if (o.mode == MaskMode::type && o.types.empty()) fail(Exit::usage, "mode type needs the categories to hide, e.g. b,m-,m+");
  if (o.extras && !takes_extras(o.mode)) fail(Exit::usage, "mode {} never hides event-level tokens; modes one, each, fraction and ramp can", name_of(o.mode));
}

bool needs_directions(MaskMode mode) { return mode == MaskMode::knn || mode == MaskMode::radius; }

std::size_t replicas(const MaskOptions& options, std::span<const std::uint8_t> category) {
  if (options.mode != MaskMode::each) return 1;
  const auto n = std::count_if(category.begin(), category.end(), [&](std::uint8_t c) { return maskable(options, c); });
  return std::max<std::size_t>(1, static_cast<std::size_t>(n));
}

std::size_t draw_mask(const MaskOptions& options, const MaskInput& event, const MaskKey& key, std::size_t replica, const Rng& rng,
                      std::span<std::uint8_t> mask) {
  check(mask.size() == event.category.size(), "one mask byte per token");
  std::fill(mask.begin(), mask.end(), std::uint8_t{0});
  thread_local std::vector<std::size_t> candidates;  // kept, so that training draws masks without allocating
  candidates.clear();
  for (std::size_t i = 0; i < event.category.size(); ++i)
    if (maskable(options, event.category[i])) candidates.push_back(i);
  const auto n = candidates.size();
  if (n == 0) return 0;

  Draws draws(rng, key);
  const auto hide_range = [&](std::size_t first, std::size_t count) {
    for (std::size_t i = first; i < first + count; ++i) mask[candidates[i]] = 1;
    return count;
  };
  const std::size_t k = std::min<std::size_t>(options.k, n);
  switch (options.mode) {
    case MaskMode::one: return hide_range(draws.below(n), 1);
    case MaskMode::each: check(replica < n, "a replica for each maskable token"); return hide_range(replica, 1);
    case MaskMode::fraction: return hide_fraction(options.fraction, candidates, draws, mask);
    case MaskMode::ramp: {
      const double t = std::clamp(key.progress, 0.0, 1.0);
      return hide_fraction(options.ramp_from + t * (options.ramp_to - options.ramp_from), candidates, draws, mask);
    }
    case MaskMode::hardest: return hide_range(0, k);
    case MaskMode::softest: return hide_range(n - k, k);
    case MaskMode::rank: return hide_by_rank(options.k, candidates, draws, mask);
    case MaskMode::knn: return hide_neighbours(options.k, event, candidates, draws, mask);
    case MaskMode::radius: {
      const std::size_t seed = candidates[draws.below(n)];
      std::size_t count = 0;
      for (const auto c : candidates)
        if (c == seed || distance2(event, seed, c) < options.radius * options.radius) {
          mask[c] = 1;
          ++count;
        }
      return count;
    }
    case MaskMode::type: {
      std::size_t count = 0;
      for (const auto c : candidates)
        if (std::find(options.types.begin(), options.types.end(), event.category[c]) != options.types.end()) {
          mask[c] = 1;
          ++count;
        }
      return count;
    }
  }
  return 0;
}

}  // namespace bl::models
