#include "mask/mask.hpp"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <numeric>

#include "base/error.hpp"
#include "schema/schema.hpp"

namespace bl::mask {
namespace {

Batch tokens(std::uint32_t events, std::uint64_t first = 0) {
  const Rng rng(31, "tokens");
  std::vector<std::uint64_t> index;
  std::vector<std::uint32_t> offsets{0};
  std::vector<std::int32_t> token;
  std::vector<std::uint16_t> position;
  std::vector<std::uint8_t> category;
  std::vector<float> pt, eta, phi;
  for (std::uint64_t e = first; e < first + events; ++e) {
    index.push_back(e);
    const auto n = e == 3 ? 0 : 1 + rng.below(10, e, 0);
    for (std::uint64_t i = 0; i < n; ++i) {
      token.push_back(static_cast<std::int32_t>(1 + rng.below(500, e, 10 + i)));
      position.push_back(static_cast<std::uint16_t>(i));
      category.push_back(static_cast<std::uint8_t>(1 + rng.below(3, e, 50 + i)));
      pt.push_back(100.0f - static_cast<float>(i));
      eta.push_back(static_cast<float>(rng.uniform(e, 100 + i)));
      phi.push_back(static_cast<float>(rng.uniform(e, 200 + i)));
    }
    token.push_back(600);
    position.push_back(18);
    category.push_back(0);
    pt.push_back(0);
    eta.push_back(0);
    phi.push_back(0);
    offsets.push_back(static_cast<std::uint32_t>(token.size()));
  }
  Batch b;
  b.events = events;
  b.set("event_index", {"event"}, index);
  b.set("event_id", {"event"}, index);
  b.set("weight", {"event"}, std::vector<double>(events, 1.0));
  b.set_text("process", std::vector<std::string>(events, "tt"));
  b.set("token_offsets", {"event+1"}, offsets);
  b.set("token", {"token"}, token);
  b.set("position", {"token"}, position);
  b.set("category", {"token"}, category);
  b.set("pt", {"token"}, pt);
  b.set("eta", {"token"}, eta);
  b.set("phi", {"token"}, phi);
  schema::check(schema::get("tokens/1"), b, "test");
  return b;
}

Settings settings(const std::string& mode) {
  Settings s;
  s.options.mode = models::mask_mode_named(mode);
  s.options.types = {2};
  s.options.k = 2;
  s.ramp_events = 200;
  return s;
}

TEST(Mask, TheSameHoweverTheStreamIsCut) {
  const Rng rng(1, "bl-mask");
  const Batch whole = tokens(200);
  for (const auto& mode : models::mask_modes()) {
    Counts one, many;
    Digest at_once, in_parts;
    const Batch masked = apply(whole, settings(mode), rng, one);
    schema::check(schema::get("masked/1"), masked, mode);
    at_once.add(masked);
    for (std::uint32_t first = 0; first < 200; first += 23) in_parts.add(apply(slice(whole, first, std::min(23u, 200 - first)), settings(mode), rng, many));
    EXPECT_EQ(at_once, in_parts) << mode;
    EXPECT_EQ(report(one), report(many)) << mode;
    EXPECT_EQ(apply(slice(whole, 0, 0), settings(mode), rng, one).events, 0u);
  }
}

TEST(Mask, CountsAreThoseOfTheColumn) {
  const Rng rng(1, "bl-mask");
  Counts counts;
  const Batch out = apply(tokens(200), settings("type"), rng, counts);
  const auto mask = out.get<std::uint8_t>("mask");
  const auto category = out.get<std::uint8_t>("category");
  EXPECT_EQ(counts.masked, static_cast<std::uint64_t>(std::accumulate(mask.begin(), mask.end(), 0)));
  EXPECT_EQ(counts.masked_of[2], counts.masked);
  EXPECT_EQ(counts.masked, static_cast<std::uint64_t>(std::count(category.begin(), category.end(), 2)));
  EXPECT_EQ(counts.tokens, mask.size());
  EXPECT_GT(counts.without_target, 0u);
  EXPECT_EQ(report(counts)["masked_by_category"]["b"], counts.masked.load());
}

TEST(Each, WritesAnEventOncePerParticle) {
  const Rng rng(1, "bl-mask");
  Counts counts;
  const Batch in = tokens(50);
  const Batch out = apply(in, settings("each"), rng, counts);
  const auto before = in.get<std::uint32_t>("token_offsets"), after = out.get<std::uint32_t>("token_offsets");
  const auto replica = out.get<std::uint32_t>("replica");
  const auto index = out.get<std::uint64_t>("event_index");
  const auto mask = out.get<std::uint8_t>("mask");
  std::uint32_t row = 0;
  for (std::uint32_t e = 0; e < 50; ++e) {
    const auto particles = before[e + 1] - before[e] - 1;  // one token is of the event
    for (std::uint32_t r = 0; r < std::max(particles, 1u); ++r, ++row) {
      ASSERT_EQ(index[row], e);
      EXPECT_EQ(replica[row], r);
      ASSERT_EQ(after[row + 1] - after[row], before[e + 1] - before[e]);
      for (std::uint32_t i = 0; i <= particles; ++i) EXPECT_EQ(mask[after[row] + i], particles > 0 && i == r);
    }
  }
  EXPECT_EQ(row, out.events);
  EXPECT_EQ(counts.events_in, 50u);
  EXPECT_EQ(counts.events_out, row);
  EXPECT_EQ(counts.without_target, 1u) << "event 3 has no particle";
}

TEST(Ramp, FollowsTheEventIndex) {
  const Rng rng(1, "bl-mask");
  Settings s = settings("ramp");
  const auto share = [&](std::uint64_t first) {
    Counts counts;
    apply(tokens(2000, first), s, rng, counts);
    return static_cast<double>(counts.masked) / static_cast<double>(counts.tokens - 2000);
  };
  s.ramp_events = 1'000'000;
  EXPECT_NEAR(share(500'000), 0.55, 0.02);
  EXPECT_NEAR(share(2'000'000), 1.0, 1e-9);
}

TEST(Mask, ModesThatNeedDirectionsSaySo) {
  Batch b = tokens(5);
  b.erase("eta");
  Counts counts;
  const Rng rng(1, "bl-mask");
  for (const std::string mode : {"knn", "radius"}) {
    try {
      apply(b, settings(mode), rng, counts);
      FAIL();
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), Exit::input);
      EXPECT_NE(std::string(e.what()).find("needs the columns eta and phi"), std::string::npos);
    }
  }
  b.erase("phi");
  b.erase("pt");
  EXPECT_NO_THROW(apply(b, settings("hardest"), rng, counts));
}

TEST(Mask, TheMetadataHoldsModeAndParameters) {
  EXPECT_EQ(metadata(settings("knn"), 7), (nlohmann::json{{"mode", "knn"}, {"k", 2}, {"seed", 7}, {"extras", false}}));
  EXPECT_EQ(metadata(settings("type"), 7)["types"], nlohmann::json::array({"b"}));
  EXPECT_EQ(metadata(settings("ramp"), 7)["events"], 200);
}

}  // namespace
}  // namespace bl::mask
