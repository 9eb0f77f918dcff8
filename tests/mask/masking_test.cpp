#include "models/masking.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>
#include <set>

#include "base/error.hpp"

namespace bl::models {
namespace {

// n particles and two event-level tokens behind them.
struct Event {
  std::vector<std::uint8_t> category;
  std::vector<float> eta, phi;

  explicit Event(std::size_t n, std::uint64_t index = 0, std::size_t extras = 2) {
    const Rng rng(8, "event");
    for (std::uint64_t i = 0; i < n; ++i) {
      category.push_back(static_cast<std::uint8_t>(1 + rng.below(6, index, 3 * i)));
      eta.push_back(static_cast<float>(-2.5 + 5 * rng.uniform(index, 3 * i + 1)));
      phi.push_back(static_cast<float>(-3.14 + 6.28 * rng.uniform(index, 3 * i + 2)));
    }
    category.resize(n + extras);
    eta.resize(n + extras);
    phi.resize(n + extras);
  }
  MaskInput input() const { return {category, eta, phi}; }
};

MaskOptions mode(MaskMode m) {
  MaskOptions o;
  o.mode = m;
  return o;
}

std::vector<std::uint8_t> mask_of(const MaskOptions& o, const Event& e, MaskKey key = {}, std::size_t replica = 0, std::uint64_t seed = 1) {
  std::vector<std::uint8_t> mask(e.category.size(), 9);
  const auto hidden = draw_mask(o, e.input(), key, replica, Rng(seed, "bl-mask"), mask);
  for (const auto m : mask) EXPECT_LE(m, 1);
  EXPECT_EQ(hidden, static_cast<std::size_t>(std::accumulate(mask.begin(), mask.end(), 0)));
  return mask;
}

std::size_t where(const std::vector<std::uint8_t>& mask) { return static_cast<std::size_t>(std::find(mask.begin(), mask.end(), 1) - mask.begin()); }

double distance(const Event& e, std::size_t a, std::size_t b) {
  double phi = std::abs(static_cast<double>(e.phi[a]) - static_cast<double>(e.phi[b]));
  if (phi > std::numbers::pi) phi = 2 * std::numbers::pi - phi;
  return std::hypot(static_cast<double>(e.eta[a]) - static_cast<double>(e.eta[b]), phi);
}

// χ² of counts against equal expectations. For 9 degrees of freedom 27.9 is exceeded once in a thousand; the numbers
// are the same in every run, so a failure is never chance.
double chi2(const std::vector<double>& counts, const std::vector<double>& expected) {
  double sum = 0;
  for (std::size_t i = 0; i < counts.size(); ++i) sum += (counts[i] - expected[i]) * (counts[i] - expected[i]) / expected[i];
  return sum;
}

TEST(One, HidesOneParticleEachWithTheSameProbability) {
  const Event e(10);
  std::vector<double> counts(12), expected(10, 2000.0);
  for (std::uint64_t i = 0; i < 20000; ++i) {
    const auto mask = mask_of(mode(MaskMode::one), e, {.event_index = i});
    ASSERT_EQ(std::count(mask.begin(), mask.end(), 1), 1);
    ++counts[where(mask)];
  }
  EXPECT_EQ(counts[10] + counts[11], 0) << "event-level tokens stay visible";
  counts.resize(10);
  EXPECT_LT(chi2(counts, expected), 27.9);
}

TEST(One, ExtrasAreHiddenWhenAsked) {
  const Event e(8);
  MaskOptions o = mode(MaskMode::one);
  o.extras = true;
  std::vector<double> counts(10), expected(10, 1000.0);
  for (std::uint64_t i = 0; i < 10000; ++i) ++counts[where(mask_of(o, e, {.event_index = i}))];
  EXPECT_LT(chi2(counts, expected), 27.9);
}

TEST(One, EpochsAndSeedsAreIndependent) {
  const Event e(10);
  std::vector<double> pairs(100), expected(100, 100.0);
  for (std::uint64_t i = 0; i < 10000; ++i)
    ++pairs[10 * where(mask_of(mode(MaskMode::one), e, {.event_index = i})) + where(mask_of(mode(MaskMode::one), e, {.event_index = i, .epoch = 1}))];
  EXPECT_LT(chi2(pairs, expected), 148.2);  // 99 degrees of freedom, one in a thousand
  std::fill(pairs.begin(), pairs.end(), 0.0);
  for (std::uint64_t i = 0; i < 10000; ++i)
    ++pairs[10 * where(mask_of(mode(MaskMode::one), e, {.event_index = i})) + where(mask_of(mode(MaskMode::one), e, {.event_index = i}, 0, 2))];
  EXPECT_LT(chi2(pairs, expected), 148.2);
}

TEST(Each, CoversEveryParticleOnce) {
  const Event e(7);
  const auto o = mode(MaskMode::each);
  ASSERT_EQ(replicas(o, e.category), 7u);
  std::set<std::size_t> seen;
  for (std::size_t r = 0; r < 7; ++r) {
    const auto mask = mask_of(o, e, {}, r);
    ASSERT_EQ(std::count(mask.begin(), mask.end(), 1), 1);
    seen.insert(where(mask));
  }
  EXPECT_EQ(seen, (std::set<std::size_t>{0, 1, 2, 3, 4, 5, 6}));
  MaskOptions extras = o;
  extras.extras = true;
  EXPECT_EQ(replicas(extras, e.category), 9u);
  EXPECT_EQ(where(mask_of(extras, e, {}, 8)), 8u);
  EXPECT_EQ(replicas(mode(MaskMode::one), e.category), 1u);
  EXPECT_EQ(replicas(o, Event(0).category), 1u) << "an event without particles is still written";
}

TEST(Fraction, TheExpectedShareIsHiddenUniformly) {
  const Event e(10);
  MaskOptions o = mode(MaskMode::fraction);
  for (const double fraction : {0.13, 0.4, 0.85, 1.0}) {
    o.fraction = fraction;
    double total = 0;
    std::vector<double> counts(10);
    for (std::uint64_t i = 0; i < 5000; ++i) {
      const auto mask = mask_of(o, e, {.event_index = i});
      const auto hidden = std::count(mask.begin(), mask.end(), 1);
      EXPECT_GE(hidden, std::max(1.0, std::floor(10 * fraction)));
      EXPECT_LE(hidden, std::ceil(10 * fraction));
      total += static_cast<double>(hidden);
      for (std::size_t p = 0; p < 10; ++p) counts[p] += mask[p];
    }
    EXPECT_NEAR(total / 50000, fraction, 0.005);
    EXPECT_LE(chi2(counts, std::vector<double>(10, total / 10)), 27.9);
  }
  o.fraction = 0.01;  // never nothing
  const auto mask = mask_of(o, e);
  EXPECT_EQ(std::count(mask.begin(), mask.end(), 1), 1);
}

TEST(Ramp, GrowsFromStartToEnd) {
  const Event e(20);
  MaskOptions o = mode(MaskMode::ramp);
  o.ramp_from = 0.1;
  o.ramp_to = 0.9;
  for (const double progress : {0.0, 0.25, 0.5, 1.0, 3.0}) {
    double total = 0;
    for (std::uint64_t i = 0; i < 3000; ++i) {
      const auto mask = mask_of(o, e, {.event_index = i, .progress = progress});
      total += static_cast<double>(std::count(mask.begin(), mask.end(), 1));
    }
    EXPECT_NEAR(total / 60000, 0.1 + 0.8 * std::min(progress, 1.0), 0.005) << progress;
  }
}

TEST(Hardest, AndSoftestFollowTheRank) {
  const Event e(5);
  MaskOptions o = mode(MaskMode::hardest);
  o.k = 2;
  EXPECT_EQ(mask_of(o, e), (std::vector<std::uint8_t>{1, 1, 0, 0, 0, 0, 0}));
  o.mode = MaskMode::softest;
  EXPECT_EQ(mask_of(o, e), (std::vector<std::uint8_t>{0, 0, 0, 1, 1, 0, 0}));
  o.k = 50;
  EXPECT_EQ(mask_of(o, e), (std::vector<std::uint8_t>{1, 1, 1, 1, 1, 0, 0}));
}

TEST(Rank, DrawsInProportionToTheRank) {
  const Event e(10);
  MaskOptions o = mode(MaskMode::rank);
  std::vector<double> counts(12), expected(10);
  for (std::uint64_t i = 0; i < 22000; ++i) ++counts[where(mask_of(o, e, {.event_index = i}))];
  for (std::size_t p = 0; p < 10; ++p) expected[p] = 22000 * static_cast<double>(10 - p) / 55;
  counts.resize(10);
  EXPECT_LT(chi2(counts, expected), 27.9);
  o.k = 4;
  for (std::uint64_t i = 0; i < 100; ++i) {
    const auto mask = mask_of(o, e, {.event_index = i});
    EXPECT_EQ(std::count(mask.begin(), mask.end(), 1), 4);
  }
}

TEST(Knn, HidesAParticleAndItsNearest) {
  MaskOptions o = mode(MaskMode::knn);
  o.k = 3;
  std::vector<double> seeds(12);
  for (std::uint64_t i = 0; i < 2000; ++i) {
    const Event e(12, i);
    const auto mask = mask_of(o, e, {.event_index = i});
    ASSERT_EQ(std::count(mask.begin(), mask.end(), 1), 4);
    // Some hidden particle has the other hidden ones as its three nearest.
    bool found = false;
    for (std::size_t s = 0; s < 12 && !found; ++s) {
      if (!mask[s]) continue;
      std::vector<std::size_t> order;
      for (std::size_t j = 0; j < 12; ++j)
        if (j != s) order.push_back(j);
      std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return distance(e, s, a) < distance(e, s, b); });
      found = mask[order[0]] && mask[order[1]] && mask[order[2]];
    }
    EXPECT_TRUE(found) << "event " << i;
    EXPECT_EQ(mask[12] + mask[13], 0);
  }
  const Event small(3);
  EXPECT_EQ(mask_of(o, small), (std::vector<std::uint8_t>{1, 1, 1, 0, 0}));
}

TEST(Radius, HidesAllWithinTheRadiusOfAParticle) {
  MaskOptions o = mode(MaskMode::radius);
  o.radius = 1.2;
  bool wrapped = false;
  for (std::uint64_t i = 0; i < 2000; ++i) {
    const Event e(12, i);
    const auto mask = mask_of(o, e, {.event_index = i});
    bool found = false;
    for (std::size_t s = 0; s < 12 && !found; ++s) {
      if (!mask[s]) continue;
      found = true;
      for (std::size_t j = 0; j < 12; ++j) found = found && (mask[j] == 1) == (distance(e, s, j) < 1.2);
      if (found)
        for (std::size_t j = 0; j < 12; ++j) wrapped = wrapped || (mask[j] && std::abs(e.phi[s] - e.phi[j]) > 3.2f);
    }
    EXPECT_TRUE(found) << "event " << i;
  }
  EXPECT_TRUE(wrapped) << "neighbours across phi = ±pi were never met";
}

TEST(Type, HidesTheListedCategories) {
  MaskOptions o = mode(MaskMode::type);
  o.types = {2, 5};
  for (std::uint64_t i = 0; i < 100; ++i) {
    const Event e(9, i);
    const auto mask = mask_of(o, e, {.event_index = i});
    for (std::size_t j = 0; j < mask.size(); ++j) EXPECT_EQ(mask[j], e.category[j] == 2 || e.category[j] == 5);
  }
}

TEST(All, NothingToHideIsNoError) {
  for (const auto& name : mask_modes()) {
    MaskOptions o = mode(mask_mode_named(name));
    o.types = {1};
    EXPECT_EQ(mask_of(o, Event(0)), (std::vector<std::uint8_t>{0, 0})) << name;
    EXPECT_EQ(mask_of(o, Event(0, 0, 0)), (std::vector<std::uint8_t>{})) << name;
  }
}

TEST(All, AMaskDependsOnItsKeyAlone) {
  for (const auto& name : mask_modes()) {
    MaskOptions o = mode(mask_mode_named(name));
    o.types = {1, 2};
    o.k = 2;
    o.fraction = 0.37;
    const Event e(11, 5);
    const auto first = mask_of(o, e, {.event_index = 77, .epoch = 3, .progress = 0.4});
    mask_of(o, Event(4, 2), {.event_index = 78});
    EXPECT_EQ(mask_of(o, e, {.event_index = 77, .epoch = 3, .progress = 0.4}), first) << name;
  }
}

TEST(All, BadParametersAreUsageErrors) {
  const auto refused = [](const std::string& part, auto edit) {
    MaskOptions o;
    edit(o);
    try {
      validate(o);
      FAIL() << part;
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), Exit::usage);
      EXPECT_NE(std::string(e.what()).find(part), std::string::npos) << e.what();
    }
  };
  refused("the masked fraction is 0", [](MaskOptions& o) { o.mode = MaskMode::fraction, o.fraction = 0; });
  refused("the masked fraction is 1.5", [](MaskOptions& o) { o.mode = MaskMode::fraction, o.fraction = 1.5; });
  refused("the masked fraction is nan", [](MaskOptions& o) { o.mode = MaskMode::fraction, o.fraction = NAN; });
  refused("the ramp goes from 0 to 1", [](MaskOptions& o) { o.mode = MaskMode::ramp, o.ramp_from = 0; });
  refused("mode knn hides k tokens, and k is 0", [](MaskOptions& o) { o.mode = MaskMode::knn, o.k = 0; });
  refused("the mask radius is -1", [](MaskOptions& o) { o.mode = MaskMode::radius, o.radius = -1; });
  refused("mode type needs the categories", [](MaskOptions& o) { o.mode = MaskMode::type; });
  refused("mode knn never hides event-level tokens", [](MaskOptions& o) { o.mode = MaskMode::knn, o.extras = true; });
  EXPECT_THROW(mask_mode_named("two"), Error);
}

}  // namespace
}  // namespace bl::models
