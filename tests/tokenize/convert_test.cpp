#include "tokens/convert.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "events.hpp"
#include "models/tokenizer_fit.hpp"
#include "schema/schema.hpp"

namespace bl::tokens {
namespace {

using models::Encoder;
using models::Unknown;

constexpr double kPi = models::kPi;

float random_float(std::uint64_t event, std::uint64_t index, double low, double high) {
  return static_cast<float>(low + (high - low) * Rng(21, "convert").uniform(event, index));
}

// Whole events with all kinds of objects; the first has none.
Batch objects(std::uint32_t events, std::uint64_t first = 0, bool falling = true) {
  const Rng rng(22, "objects");
  std::vector<std::uint64_t> index, id;
  std::vector<double> weight;
  std::vector<std::string> process;
  std::vector<std::uint32_t> offsets{0};
  std::vector<float> met, met_phi, pt, eta, phi, mass, btag;
  std::vector<std::uint8_t> type;
  std::vector<std::int8_t> charge;
  for (std::uint64_t e = first; e < first + events; ++e) {
    index.push_back(e);
    id.push_back(1000 + e);
    weight.push_back(0.5 + static_cast<double>(e));
    process.push_back(e % 2 ? "ttH" : "");
    met.push_back(random_float(e, 900, 0, 300));
    met_phi.push_back(random_float(e, 901, -3.14, 3.14));
    const auto n = e == 0 ? 0 : 1 + rng.below(24, e, 0);
    std::vector<float> pts;
    for (std::uint64_t i = 0; i < n; ++i) pts.push_back(random_float(e, i, 15, 600));
    if (falling) std::sort(pts.begin(), pts.end(), std::greater<>());
    pt.insert(pt.end(), pts.begin(), pts.end());
    for (std::uint64_t i = 0; i < n; ++i) {
      type.push_back(static_cast<std::uint8_t>(1 + rng.below(5, e, 100 + i)));
      const bool lepton = type.back() == 2 || type.back() == 3 || type.back() == 5;
      charge.push_back(lepton ? (rng.below(2, e, 200 + i) ? std::int8_t{1} : std::int8_t{-1}) : std::int8_t{0});
      btag.push_back(type.back() == 1 ? random_float(e, 300 + i, 0, 1) : 0.0f);
      eta.push_back(random_float(e, 400 + i, -2.5, 2.5));
      phi.push_back(random_float(e, 500 + i, -3.14, 3.14));
      mass.push_back(1);
    }
    offsets.push_back(static_cast<std::uint32_t>(pt.size()));
  }
  Batch b;
  b.events = events;
  b.set("event_index", {"event"}, index);
  b.set("event_id", {"event"}, id);
  b.set("weight", {"event"}, weight);
  b.set_text("process", process);
  b.set("label", {"event"}, std::vector<std::int32_t>(events, -1));
  b.set("met", {"event"}, met);
  b.set("met_phi", {"event"}, met_phi);
  b.set("object_offsets", {"event+1"}, offsets);
  b.set("type", {"object"}, type);
  b.set("charge", {"object"}, charge);
  b.set("pt", {"object"}, pt);
  b.set("eta", {"object"}, eta);
  b.set("phi", {"object"}, phi);
  b.set("mass", {"object"}, mass);
  b.set("btag", {"object"}, btag);
  schema::check(schema::get("objects/1"), b, "test");
  return b;
}

Batch jets(std::uint32_t events, bool with_axis) {
  const Rng rng(23, "jets");
  std::vector<std::uint64_t> index;
  std::vector<std::uint32_t> offsets{0};
  std::vector<float> pt, eta, phi, jet_eta, jet_phi;
  for (std::uint32_t e = 0; e < events; ++e) {
    index.push_back(e);
    jet_eta.push_back(random_float(e, 900, -1.5, 1.5));
    jet_phi.push_back(random_float(e, 901, -3.14, 3.14));
    const auto n = 1 + rng.below(40, e, 0);
    std::vector<float> pts;
    for (std::uint64_t i = 0; i < n; ++i) pts.push_back(random_float(e, i, 1, 100));
    std::sort(pts.begin(), pts.end(), std::greater<>());
    pt.insert(pt.end(), pts.begin(), pts.end());
    for (std::uint64_t i = 0; i < n; ++i) {
      eta.push_back(jet_eta[e] + random_float(e, 100 + i, -0.4, 0.4));
      phi.push_back(static_cast<float>(
          std::clamp(std::remainder(static_cast<double>(jet_phi[e] + random_float(e, 200 + i, -0.4, 0.4)), 2 * std::numbers::pi), -kPi, kPi)));
    }
    offsets.push_back(static_cast<std::uint32_t>(pt.size()));
  }
  Batch b;
  b.events = events;
  b.set("event_index", {"event"}, index);
  b.set("event_id", {"event"}, index);
  b.set("weight", {"event"}, std::vector<double>(events, 1.0));
  b.set_text("process", std::vector<std::string>(events, "q"));
  if (with_axis) {
    b.set("jet_eta", {"event"}, jet_eta);
    b.set("jet_phi", {"event"}, jet_phi);
  }
  b.set("particle_offsets", {"event+1"}, offsets);
  b.set("pt", {"particle"}, pt);
  b.set("eta", {"particle"}, eta);
  b.set("phi", {"particle"}, phi);
  schema::check(schema::get("particles/1"), b, "test");
  return b;
}

models::Tokenizer fitted(const Batch& batch, models::TokenizerKind kind, std::vector<models::Extra> extras = {}) {
  models::FitOptions o;
  o.kind = kind;
  o.codes = 200;
  o.iterations = 10;
  o.extras = std::move(extras);
  if (batch.has("particle_offsets")) {
    o.input = "particles/1";
    o.categories = {models::kCategories};
    o.frame = models::Frame::jet;
  } else {
    for (std::uint8_t c = 1; c < models::kCategories; ++c) o.categories.push_back(c);
    o.frame = kind == models::TokenizerKind::formula ? models::Frame::absolute : models::Frame::met;
  }
  o.max_particles = 18;
  const Rng rng(1, "test");
  models::FitSample sample(o, rng);
  for_each_event(batch, o.btag, Unknown::error, [&](const models::Event& e) { sample.add(e); });
  Pool pool(1);
  return models::fit(o, sample, rng, pool).tokenizer;
}

Batch encoded(const Batch& batch, const Encoder& encoder, models::Tally* tally = nullptr) {
  models::Tally total(encoder);
  std::mutex lock;
  Batch out = encode(batch, encoder, Unknown::error, true, total, lock);
  schema::check(schema::get(batch.has("object_offsets") ? "tokens/1" : "tokens/2"), out, "test");
  if (tally) tally->merge(total);
  return out;
}

Batch decoded(const Batch& tokens, const Encoder& encoder) {
  std::uint64_t lost = 0;
  std::mutex lock;
  Batch out = decode(tokens, encoder, lost, lock);
  schema::check(schema::get(encoder.tokenizer().input), out, "test");
  return out;
}

TEST(Category, TypeChargeAndBtag) {
  EXPECT_EQ(category_of(1, 0, 0.49f, 0.5), 1);
  EXPECT_EQ(category_of(1, 0, 0.5f, 0.5), 2);
  EXPECT_EQ(category_of(2, -1, 0, 0.5), 3);
  EXPECT_EQ(category_of(2, 1, 0, 0.5), 4);
  EXPECT_EQ(category_of(3, -1, 0, 0.5), 5);
  EXPECT_EQ(category_of(3, 1, 0, 0.5), 6);
  EXPECT_EQ(category_of(4, 0, 0, 0.5), 7);
  EXPECT_EQ(category_of(5, -1, 0, 0.5), 8);
  EXPECT_EQ(category_of(5, 1, 0, 0.5), 9);
  EXPECT_EQ(category_of(3, 0, 0, 0.5), 0);
}

TEST(Convert, ALeptonWithoutChargeIsNamed) {
  Batch b = objects(6);
  const auto offsets = b.get<std::uint32_t>("object_offsets");
  const auto at = offsets[4];
  b.find("type")->edit<std::uint8_t>()[at] = 3;
  b.find("charge")->edit<std::int8_t>()[at] = 0;
  const auto ignore = [](const models::Event&) {};
  try {
    for_each_event(b, 0.5, Unknown::error, ignore);
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Exit::input);
    EXPECT_STREQ(e.what(), "event 4, object 0: a muon of charge 0 has no category; choose --unknown drop to leave such objects out");
  }
  EXPECT_NO_THROW(for_each_event(b, 0.5, Unknown::drop, ignore));
}

TEST(Convert, EventLevelQuantitiesAreCountedOrTakenFromTheStream) {
  Batch b = objects(200);
  std::vector<std::array<float, models::kExtras>> made;
  for_each_event(b, 0.5, Unknown::error, [&](const models::Event& e) { made.push_back(e.extras); });
  const auto offsets = b.get<std::uint32_t>("object_offsets");
  const auto type = b.get<std::uint8_t>("type");
  const auto pt = b.get<float>("pt"), btag = b.get<float>("btag");
  for (std::uint32_t e = 0; e < b.events; ++e) {
    float jets = 0, bjets = 0, leptons = 0;
    double ht = 0;
    for (auto i = offsets[e]; i < offsets[e + 1]; ++i) {
      jets += type[i] == 1;
      bjets += type[i] == 1 && btag[i] >= 0.5f;
      leptons += type[i] == 2 || type[i] == 3;
      ht += type[i] == 1 ? static_cast<double>(pt[i]) : 0;
    }
    EXPECT_EQ(made[e][2], jets);
    EXPECT_EQ(made[e][3], bjets);
    EXPECT_EQ(made[e][4], leptons);
    EXPECT_NEAR(static_cast<double>(made[e][5]), ht, 1e-3);
    EXPECT_EQ(made[e][0], b.get<float>("met")[e]);
  }
  b.set("n_jets", {"event"}, std::vector<float>(b.events, 42.0f));  // a recipe counted before it cut
  for_each_event(b, 0.5, Unknown::error, [&](const models::Event& e) { EXPECT_EQ(e.extras[2], 42.0f); });
}

TEST(Convert, ParticlesAreRankedInPtWhateverTheirOrder) {
  const Batch sorted = objects(100);
  Batch mixed = objects(100, 0, false);
  const Encoder encoder(fitted(sorted, models::TokenizerKind::quantile));
  const Batch tokens = encoded(mixed, encoder);
  const auto offsets = tokens.get<std::uint32_t>("token_offsets");
  const auto pt = tokens.get<float>("pt");
  const auto position = tokens.get<std::uint16_t>("position");
  for (std::uint32_t e = 0; e < tokens.events; ++e)
    for (auto i = offsets[e]; i < offsets[e + 1]; ++i) {
      EXPECT_EQ(position[i], i - offsets[e]);
      EXPECT_TRUE(i == offsets[e] || pt[i] <= pt[i - 1]);
    }
}

TEST(Convert, TheSameTokensHoweverTheStreamIsCut) {
  const Batch whole = objects(300);
  const Encoder encoder(fitted(whole, models::TokenizerKind::kmeans, {models::Extra::n_jets, models::Extra::met}));
  models::Tally at_once(encoder), in_parts(encoder);
  Digest one, many;
  one.add(encoded(whole, encoder, &at_once));
  for (std::uint32_t first = 0; first < 300; first += 37) many.add(encoded(slice(whole, first, std::min(37u, 300 - first)), encoder, &in_parts));
  EXPECT_EQ(one, many);
  EXPECT_EQ(at_once.used, in_parts.used);
  EXPECT_EQ(at_once.truncated_particles, in_parts.truncated_particles);
  EXPECT_GT(at_once.truncated_particles, 0u);
  EXPECT_EQ(at_once.pt_error.mean(), in_parts.pt_error.mean());
  EXPECT_EQ(at_once.phi_error.std(), in_parts.phi_error.std());
}

TEST(Convert, ThereAndBackStaysWithinTheBins) {
  const Batch whole = objects(400);
  for (const auto kind : {models::TokenizerKind::formula, models::TokenizerKind::quantile}) {
    const Encoder encoder(fitted(whole, kind));
    const Batch tokens = encoded(whole, encoder);
    const Batch back = decoded(tokens, encoder);
    // Decoding and encoding again gives the same tokens, up to the order among particles whose bins decode alike.
    const Batch again = encoded(back, encoder);
    const auto a = tokens.get<std::int32_t>("token"), b = again.get<std::int32_t>("token");
    const auto offsets = tokens.get<std::uint32_t>("token_offsets");
    ASSERT_EQ(a.size(), b.size());
    for (std::uint32_t e = 0; e < tokens.events; ++e) {
      std::vector<std::int32_t> x(a.begin() + offsets[e], a.begin() + offsets[e + 1]), y(b.begin() + offsets[e], b.begin() + offsets[e + 1]);
      std::sort(x.begin(), x.end());
      std::sort(y.begin(), y.end());
      EXPECT_EQ(x, y) << "event " << e << " " << name_of(kind);
    }
    for (const auto* name : {"event_index", "event_id", "weight", "process", "label", "met", "met_phi"})
      EXPECT_TRUE(std::ranges::equal(back.at(name).raw.bytes(), whole.at(name).raw.bytes())) << name;
    const auto pt = back.get<float>("pt");
    const auto ends = back.get<std::uint32_t>("object_offsets");
    for (std::uint32_t e = 0; e < back.events; ++e) EXPECT_TRUE(std::is_sorted(pt.begin() + ends[e], pt.begin() + ends[e + 1], std::greater<>()));
  }
}

TEST(Convert, JetsAreTakenAroundTheirAxis) {
  const Batch with = jets(200, true);
  for (const auto kind : {models::TokenizerKind::formula, models::TokenizerKind::quantile, models::TokenizerKind::kmeans}) {
    const Encoder encoder(fitted(with, kind));
    models::Tally tally(encoder);
    Batch tokens = encoded(with, encoder, &tally);
    EXPECT_FALSE(tokens.has("met"));
    EXPECT_TRUE(std::ranges::equal(tokens.get<float>("jet_eta"), with.get<float>("jet_eta")));
    const Batch there = decoded(tokens, encoder);
    const auto ends = there.get<std::uint32_t>("particle_offsets");
    for (std::uint32_t e = 0; e < there.events; ++e)
      for (auto i = ends[e]; i < ends[e + 1]; ++i) EXPECT_LT(std::abs(there.get<float>("eta")[i] - with.get<float>("jet_eta")[e]), 0.81f);
    tokens.erase("jet_eta");
    tokens.erase("jet_phi");
    EXPECT_LT(tally.eta_error.std(), 0.1) << name_of(kind);
    EXPECT_LT(tally.phi_error.std(), 0.1) << name_of(kind);
    EXPECT_EQ(tally.phi_outside[0] + tally.phi_outside[1], 0u);
    const Batch back = decoded(tokens, encoder);
    for (const float eta : back.get<float>("eta")) EXPECT_LT(std::abs(eta), 0.8f);
    for (const float phi : back.get<float>("phi")) EXPECT_LT(std::abs(phi), 0.8f);
    for (const float axis : back.get<float>("jet_eta")) EXPECT_EQ(axis, 0.0f);
  }
}

TEST(Convert, TheAxisOfAJetWithoutOneIsTheSumOfItsConstituents) {
  const Batch b = jets(50, false);
  const auto offsets = b.get<std::uint32_t>("particle_offsets");
  const auto pt = b.get<float>("pt"), eta = b.get<float>("eta"), phi = b.get<float>("phi");
  std::uint32_t e = 0;
  for_each_event(b, 0.5, Unknown::error, [&](const models::Event& jet) {
    double x = 0, y = 0, z = 0;
    for (auto i = offsets[e]; i < offsets[e + 1]; ++i) {
      x += static_cast<double>(pt[i]) * std::cos(static_cast<double>(phi[i]));
      y += static_cast<double>(pt[i]) * std::sin(static_cast<double>(phi[i]));
      z += static_cast<double>(pt[i]) * std::sinh(static_cast<double>(eta[i]));
    }
    const double theta = std::atan2(std::hypot(x, y), z);
    EXPECT_NEAR(jet.axis_eta, -std::log(std::tan(theta / 2)), 1e-9);
    EXPECT_NEAR(jet.axis_phi, std::atan2(y, x), 1e-9);
    ++e;
  });
}

TEST(Decode, RefusesTokensOutsideTheVocabularyAndSkipsSpecialOnes) {
  const Batch whole = objects(20);
  const Encoder encoder(fitted(whole, models::TokenizerKind::quantile, {models::Extra::ht}));
  Batch tokens = encoded(whole, encoder);
  std::mutex lock;
  std::uint64_t lost = 0;
  const auto offsets = tokens.get<std::uint32_t>("token_offsets");
  tokens.find("token")->edit<std::int32_t>()[offsets[2] + 1] = encoder.tokenizer().mask_id();
  tokens.find("token")->edit<std::int32_t>()[offsets[3]] = 0;
  const Batch back = decode(tokens, encoder, lost, lock);
  EXPECT_EQ(lost, 2u);
  const auto ends = back.get<std::uint32_t>("object_offsets");
  EXPECT_EQ(ends[3] - ends[2], offsets[3] - offsets[2] - 1 - 1) << "one masked, one for ht";
  const auto vocabulary = static_cast<std::int32_t>(encoder.tokenizer().vocabulary());
  tokens.find("token")->edit<std::int32_t>()[offsets[2] + 1] = vocabulary;
  try {
    decode(tokens, encoder, lost, lock);
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Exit::input);
    EXPECT_EQ(std::string(e.what()), fmt::format("event 2, token 1: {} is not in the tokenizer's vocabulary of {}", vocabulary, vocabulary));
  }
}

TEST(Decode, MetComesFromItsTokenWhereTheStreamDoesNotCarryIt) {
  const Batch whole = objects(300);
  const Encoder encoder(fitted(whole, models::TokenizerKind::quantile, {models::Extra::met, models::Extra::met_phi}));
  Batch tokens = encoded(whole, encoder);
  tokens.erase("met");
  tokens.erase("met_phi");
  const Batch back = decoded(tokens, encoder);
  for (std::uint32_t e = 0; e < 300; ++e) EXPECT_NEAR(static_cast<double>(back.get<float>("met")[e]), static_cast<double>(whole.get<float>("met")[e]), 60);
  const Encoder plain(fitted(whole, models::TokenizerKind::quantile));
  Batch bare = encoded(whole, plain);
  bare.erase("met");
  std::uint64_t lost = 0;
  std::mutex lock;
  EXPECT_THROW(decode(bare, plain, lost, lock), Error);
}

TEST(Convert, NothingInNothingOut) {
  const Batch whole = objects(30);
  const Encoder encoder(fitted(whole, models::TokenizerKind::quantile));
  const Batch none = slice(whole, 0, 0);
  EXPECT_EQ(encoded(none, encoder).events, 0u);
  EXPECT_EQ(decoded(encoded(none, encoder), encoder).events, 0u);
}

}  // namespace
}  // namespace bl::tokens
