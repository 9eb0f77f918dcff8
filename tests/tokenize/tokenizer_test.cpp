#include "models/tokenizer.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <numbers>
#include <set>

#include "base/error.hpp"
#include "events.hpp"
#include "models/tokenizer_fit.hpp"

namespace bl::models {
namespace {

using test::OwnedEvent;
using test::random_event;

FitOptions options(TokenizerKind kind) {
  FitOptions o;
  o.kind = kind;
  for (std::uint8_t c = 1; c < kCategories; ++c) o.categories.push_back(c);
  if (kind != TokenizerKind::formula) o.frame = Frame::met;
  o.codes = 40;
  return o;
}

std::vector<OwnedEvent> events(std::size_t n, std::size_t particles = 12) {
  std::vector<OwnedEvent> out;
  for (std::size_t i = 0; i < n; ++i) out.push_back(random_event(i, 1 + i % particles));
  return out;
}

Fitted fitted(const FitOptions& o, const std::vector<OwnedEvent>& from, std::size_t threads = 1, Unknown unknown = Unknown::error) {
  const Rng rng(5, "bl-tokenize");
  FitSample sample(o, rng, unknown);
  for (const auto& e : from) sample.add(e.view);
  Pool pool(threads);
  return fit(o, sample, rng, pool);
}

template <class Call>
void expect_error(Exit code, const std::string& part, Call call) {
  try {
    call();
    FAIL() << "no error; expected: " << part;
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), code) << e.what();
    EXPECT_NE(std::string(e.what()).find(part), std::string::npos) << e.what();
  }
}

TEST(Formula, TokensWorkedOutByHand) {
  FitOptions o = options(TokenizerKind::formula);
  o.pt_edges = {0, 50, 100, 200, 400, 1000};
  o.eta_edges = {-3, -1.8, -0.6, 0.6, 1.8, 3};
  o.phi_edges = {-3.2, -1.9, -0.6, 0.6, 1.9, 3.2};
  const Encoder encoder(fitted(o, events(1)).tokenizer);
  // (id−1)·125 + (pt−1)·25 + (eta−1)·5 + phi
  EXPECT_EQ(encoder.particle(1, 10, -2, -3), 1);                   // 0 + 0 + 0 + 1
  EXPECT_EQ(encoder.particle(2, 120, 0.7, 0), 125 + 50 + 15 + 3);  // b, third pt, fourth eta, third phi
  EXPECT_EQ(encoder.particle(4, 250, 0, 3), 375 + 75 + 10 + 5);    // e+
  EXPECT_EQ(encoder.particle(5, 55, -1, 1), 500 + 25 + 5 + 4);     // m-
  EXPECT_EQ(encoder.particle(7, 999, 2, 3), 875);                  // photon, last of everything: 7·125
  EXPECT_EQ(encoder.particle(9, 999, 2, 3), 1125);
  // on an edge: the bin above; at the very end: the last bin
  EXPECT_EQ(encoder.particle(1, 50, -1.8, -1.9), 25 + 5 + 2);
  EXPECT_EQ(encoder.particle(1, 1000, 3, 3.2), 125);
  // beyond the range: the nearest bin
  EXPECT_EQ(encoder.particle(1, 5000, -7, 0), 100 + 0 + 3);
  EXPECT_EQ(encoder.particle(10, 50, 0, 0), 0) << "a category it does not know";
}

TEST(Formula, FactorsFollowTheNumberOfBins) {
  FitOptions o = options(TokenizerKind::formula);
  o.categories = {2, 1};  // ids in the order given: b is 1, j is 2
  o.pt_bins = 3;
  o.eta_bins = 4;
  o.phi_bins = 2;
  o.extras = {Extra::n_jets, Extra::ht};
  const Tokenizer t = fitted(o, events(20), 1, Unknown::drop).tokenizer;
  const Encoder encoder(t);
  EXPECT_EQ(t.particle_tokens(), 2u * 3 * 4 * 2);
  EXPECT_EQ(t.vocabulary(), 1 + 48 + 16 + 10 + 3u);
  EXPECT_EQ(encoder.particle(2, 16, -2.9, -1), 1);
  EXPECT_EQ(encoder.particle(1, 900, 2.9, 1), 48);
  EXPECT_EQ(encoder.particle(1, 16, -2.9, 1), 24 + 2);
  EXPECT_EQ(t.extra_first(0), 49);
  EXPECT_EQ(t.extra_first(1), 65);
  EXPECT_EQ(t.start_id(), 75);
  EXPECT_EQ(t.stop_id(), 76);
  EXPECT_EQ(t.mask_id(), 77);
}

TEST(Formula, DefaultEdgesDoNotDependOnTheEvents) {
  const auto a = fitted(options(TokenizerKind::formula), events(3)).tokenizer, b = fitted(options(TokenizerKind::formula), events(40)).tokenizer;
  EXPECT_EQ(a.hash(), b.hash());
  EXPECT_EQ(a.pt[0].edges.front(), 15);
  EXPECT_EQ(a.pt[0].edges.back(), 1000);
  EXPECT_NEAR(a.pt[3].edges[1], 15 * std::pow(1000.0 / 15, 0.2), 1e-9);
}

TEST(Quantile, EdgesAndMediansAreNumpys) {
  std::ifstream file(BEAMLINE_SOURCE_DIR "/tests/tokenize/reference.json");
  const auto r = nlohmann::json::parse(file)["quantile"];
  const auto values = r["values"].get<std::vector<float>>();
  for (const std::uint32_t bins : {1u, 4u, 5u, 7u}) {
    FitOptions o = options(TokenizerKind::quantile);
    o.categories = {1};
    o.pt_bins = bins;
    std::vector<OwnedEvent> from;
    for (std::size_t i = 0; i < values.size(); ++i) {
      from.push_back(random_event(i, 1));
      from.back().category[0] = 1;
      from.back().pt[0] = values[i];
    }
    const Tokenizer t = fitted(o, from).tokenizer;
    const auto& expected = r[std::to_string(bins)];
    ASSERT_EQ(t.pt[0].bins(), bins);
    for (std::size_t i = 0; i <= bins; ++i) EXPECT_NEAR(t.pt[0].edges[i], expected["edges"][i].get<double>(), 1e-9) << bins;
    for (std::size_t i = 0; i < bins; ++i) EXPECT_NEAR(t.pt[0].centres[i], expected["medians"][i].get<double>(), 1e-9) << bins;
    for (std::size_t i = 0; i < values.size(); ++i) EXPECT_EQ(t.pt[0].bin(static_cast<double>(values[i])), expected["bins"][i].get<std::size_t>()) << values[i];
  }
}

TEST(Quantile, EveryBinHoldsItsShareOfTheTrainingEntries) {
  FitOptions o = options(TokenizerKind::quantile);
  const auto from = events(2000);
  const auto result = fitted(o, from);
  const Tokenizer& t = result.tokenizer;
  for (std::size_t c = 0; c < 6; ++c) {  // categories 1…6 occur
    std::vector<std::uint64_t> by_pt(5);
    for (std::size_t token = 0; token < 125; ++token) by_pt[token / 25] += result.tally.used[1 + c * 125 + token];
    const auto [low, high] = std::minmax_element(by_pt.begin(), by_pt.end());
    EXPECT_LE(*high - *low, 2u) << category_name(t.categories[c]);
  }
  EXPECT_EQ(result.tally.pt_outside, (std::array<std::uint64_t, 2>{0, 0}));
  EXPECT_EQ(result.notes.size(), 3u) << "photons and taus have no entries of their own";
}

TEST(Quantile, TailsCutTheLastBinOfPtMetAndHt) {
  FitOptions o = options(TokenizerKind::quantile);
  o.extras = {Extra::ht, Extra::met, Extra::met_phi, Extra::n_jets};
  o.extra_bins = 4;
  const auto from = events(3000);
  const auto plain = fitted(o, from);
  o.tails = {0.95, 0.99};
  const auto result = fitted(o, from);
  const Tokenizer& t = result.tokenizer;
  ASSERT_EQ(t.pt[0].bins(), 7u);
  EXPECT_EQ(t.particle_tokens(), 9u * 7 * 25);
  EXPECT_EQ(t.extras[0].bins.bins(), 6u);
  EXPECT_EQ(t.extras[1].bins.bins(), 6u);
  EXPECT_EQ(t.extras[2].bins.bins(), 4u) << "an angle has no tail";
  EXPECT_EQ(t.extras[3].bins.bins(), 16u);
  EXPECT_EQ(t.eta.bins(), 5u);
  for (std::size_t i = 0; i < 5; ++i) EXPECT_EQ(t.pt[0].edges[i], plain.tokenizer.pt[0].edges[i]);
  EXPECT_EQ(t.pt[0].edges.back(), plain.tokenizer.pt[0].edges.back());
  std::vector<double> share(7);
  double total = 0;
  for (std::size_t token = 0; token < 175; ++token) {  // of the first category
    share[token / 25] += static_cast<double>(result.tally.used[1 + token]);
    total += static_cast<double>(result.tally.used[1 + token]);
  }
  EXPECT_NEAR(share[4] / total, 0.15, 0.001);
  EXPECT_NEAR(share[5] / total, 0.04, 0.001);
  EXPECT_NEAR(share[6] / total, 0.01, 0.001);
}

TEST(Kinds, WhatIsDecodedLiesInTheBinOfItsToken) {
  for (const auto kind : {TokenizerKind::formula, TokenizerKind::quantile}) {
    const auto result = fitted(options(kind), events(800));
    const Encoder encoder(result.tokenizer);
    std::size_t tried = 0;
    for (std::int32_t token = 1; token <= static_cast<std::int32_t>(result.tokenizer.particle_tokens()); ++token) {
      const Decoded& d = encoder.decode(token);
      // A bin of no width cannot give its own value back; every used one has a width.
      if (result.tally.used[static_cast<std::size_t>(token)] == 0) continue;
      EXPECT_EQ(encoder.particle(d.category, static_cast<double>(d.pt), static_cast<double>(d.eta), static_cast<double>(d.phi)), token) << name_of(kind);
      ++tried;
    }
    EXPECT_GT(tried, 200u);
  }
}

TEST(Kmeans, TokensAreTheNearestCodesOfTheirCategoryAndDecodeCloseBy) {
  FitOptions o = options(TokenizerKind::kmeans);
  o.codes = 600;
  const auto from = events(1500);
  const auto result = fitted(o, from);
  const Tokenizer& t = result.tokenizer;
  const Encoder encoder(t);
  EXPECT_EQ(t.particle_tokens(), 600u);
  EXPECT_EQ(t.codes[6], 1u) << "photons have no entries and still one code";
  for (std::size_t e = 0; e < 50; ++e)
    for (std::size_t i = 0; i < from[e].pt.size(); ++i) {
      const auto d = to_frame(t.frame, from[e].view, static_cast<double>(from[e].eta[i]), static_cast<double>(from[e].phi[i]));
      const auto token = encoder.particle(from[e].category[i], static_cast<double>(from[e].pt[i]), static_cast<double>(d.eta), static_cast<double>(d.phi));
      EXPECT_EQ(encoder.decode(token).category, from[e].category[i]);
      float features[4];
      raw_features(t.frame, static_cast<double>(from[e].pt[i]), static_cast<double>(d.eta), static_cast<double>(d.phi), features);
      double best = INFINITY, mine = INFINITY;
      std::size_t first = 0;
      for (std::size_t c = 0; t.categories[c] != from[e].category[i]; ++c) first += t.codes[c];
      for (std::size_t c = first; c < first + t.codes[from[e].category[i] - 1u]; ++c) {
        double sum = 0;
        for (std::size_t k = 0; k < 4; ++k) sum += std::pow(static_cast<double>((features[k] - t.mean[k]) / t.scale[k] - t.centres[c * 4 + k]), 2);
        best = std::min(best, sum);
        if (static_cast<std::int32_t>(c) + 1 == token) mine = sum;
      }
      EXPECT_NEAR(mine, best, 1e-5);
    }
  EXPECT_LT(result.tally.pt_error.quantile68(), 0.35);
  EXPECT_LT(result.tally.eta_error.std(), 0.5);
  EXPECT_LT(result.tally.phi_error.std(), 0.7);
  EXPECT_NEAR(result.tally.eta_error.mean(), 0, 0.03);
}

TEST(Kmeans, CodesAreSharedByTheThreeFifthsPowerOfTheEntries) {
  FitOptions o = options(TokenizerKind::kmeans);
  o.categories = {1, 2};
  o.codes = 110;
  std::vector<OwnedEvent> from;
  for (std::size_t i = 0; i < 3300; ++i) {
    from.push_back(random_event(i, 1));
    from.back().category[0] = i % 33 == 0 ? 2 : 1;  // 3200 and 100: (3200/100)^0.6 = 8
  }
  const auto t = fitted(o, from).tokenizer;
  EXPECT_NEAR(t.codes[0], 110.0 * 8 / 9, 1);
  EXPECT_EQ(t.codes[0] + t.codes[1], 110u);
}

TEST(Fit, DependsOnTheSetOfEventsNotOnTheirOrderNorOnThreads) {
  auto from = events(3000);
  for (const auto kind : {TokenizerKind::formula, TokenizerKind::quantile, TokenizerKind::kmeans}) {
    FitOptions o = options(kind);
    o.extras = {Extra::met, Extra::ht};
    o.limit = 4000;  // of some 19,500 particles: events are left out
    const auto a = fitted(o, from, 1);
    std::reverse(from.begin(), from.end());
    const auto b = fitted(o, from, 3);
    std::rotate(from.begin(), from.begin() + 1234, from.end());
    const auto c = fitted(o, from, 2);
    EXPECT_EQ(a.tokenizer.hash(), b.tokenizer.hash()) << name_of(kind);
    EXPECT_EQ(a.tokenizer.hash(), c.tokenizer.hash()) << name_of(kind);
    EXPECT_EQ(a.tally.used, c.tally.used) << name_of(kind);
    EXPECT_EQ(a.tally.pt_error.mean(), c.tally.pt_error.mean());
    EXPECT_EQ(a.tally.eta_error.std(), c.tally.eta_error.std());
    EXPECT_EQ(a.tokenizer.fit.events, 3000u);
    EXPECT_LT(a.tokenizer.fit.sampled_events, 1000u);
    EXPECT_GT(a.tokenizer.fit.sampled_events, 200u);
  }
}

TEST(Fit, RefusesWhatCannotBeFitted) {
  const auto few = events(2, 3);
  FitOptions o = options(TokenizerKind::kmeans);
  o.codes = 100;
  expect_error(Exit::input, "3 particles cannot fill 100 k-means codes", [&] { fitted(o, few); });
  o.codes = 5;
  expect_error(Exit::usage, "5 codes are asked for, it must be 9 (one for each category)", [&] { fitted(o, few); });
  o = options(TokenizerKind::quantile);
  o.pt_bins = 50;
  expect_error(Exit::input, "3 particles cannot fill 50 quantile bins", [&] { fitted(o, few); });
  expect_error(Exit::input, "there is no event", [&] { fitted(o, {}); });
  expect_error(Exit::input, "hold no particle", [&] { fitted(o, {random_event(0, 0)}); });
  o.pt_edges = {1, 2};
  expect_error(Exit::usage, "bin edges can be given to the formula only", [&] { fitted(o, few); });
  o = options(TokenizerKind::formula);
  o.pt_edges = {1, 2, 2};
  expect_error(Exit::usage, "bin edges must rise", [&] { fitted(o, few); });
  o = options(TokenizerKind::formula);
  o.tails = {0.99};
  expect_error(Exit::usage, "tails are fitted", [&] { fitted(o, few); });
  o = options(TokenizerKind::quantile);
  o.tails = {0.8};
  expect_error(Exit::usage, "the tail quantile 0.8 must lie above 0.8", [&] { fitted(o, few); });
  o.tails = {0.99, 0.95};
  expect_error(Exit::usage, "the tail quantile 0.95 must lie above 0.99", [&] { fitted(o, few); });
  o = options(TokenizerKind::formula);
  o.extras = {Extra::ht, Extra::ht};
  expect_error(Exit::usage, "ht is asked for twice", [&] { fitted(o, few); });
  o = options(TokenizerKind::formula);
  o.categories = {1, 2};
  auto lepton = random_event(7, 2);
  lepton.category[1] = 5;
  lepton.category[0] = 1;
  expect_error(Exit::input, "event 7, object 1: category m- is not one of those to tokenize (j, b)", [&] { fitted(o, {lepton}); });
}

TEST(Encode, PositionsTruncationAndExtras) {
  FitOptions o = options(TokenizerKind::quantile);
  o.max_particles = 4;
  o.extras = {Extra::n_jets, Extra::met_phi};
  const auto from = events(500);
  const Encoder encoder(fitted(o, from).tokenizer);
  Tokens tokens;
  Tally tally(encoder);
  const auto event = random_event(1000, 7);
  encoder.encode(event.view, tokens, tally);
  ASSERT_EQ(tokens.token.size(), 6u);
  EXPECT_EQ(tokens.position, (std::vector<std::uint16_t>{0, 1, 2, 3, 4, 5}));
  EXPECT_EQ(tokens.category[3], event.category[3]);
  EXPECT_EQ(tokens.category[4], 0);
  EXPECT_EQ(tokens.pt[0], event.pt[0]);
  EXPECT_EQ(tokens.pt[5], 0.0f);
  EXPECT_EQ(tally.truncated_events, 1u);
  EXPECT_EQ(tally.truncated_particles, 3u);
  EXPECT_EQ(tally.particles, 7u);
  const auto& t = encoder.tokenizer();
  EXPECT_EQ(tokens.token[4], t.extra_first(0) + 7) << "n_jets of random_event is its number of particles";
  double value = 0;
  EXPECT_TRUE(encoder.decode_extra(tokens.token[4], 0, value));
  EXPECT_EQ(value, 7);
  EXPECT_FALSE(encoder.decode_extra(tokens.token[4], 1, value));
  // a short event leaves the positions of the extras where they are
  Tokens other;
  encoder.encode(random_event(1001, 2).view, other, tally);
  EXPECT_EQ(other.position, (std::vector<std::uint16_t>{0, 1, 4, 5}));
  // more than the last bin counts as the last
  auto crowded = random_event(1002, 2);
  crowded.view.extras[static_cast<std::size_t>(Extra::n_jets)] = 40;
  encoder.encode(crowded.view, other, tally);
  EXPECT_EQ(other.token[6], t.extra_first(0) + 15);
}

TEST(Encode, UnknownCategories) {
  FitOptions o = options(TokenizerKind::formula);
  o.categories = {1, 2};
  auto event = random_event(3, 3);
  event.category = {1, 5, 2};
  event.view.category = event.category;
  const Tokenizer t = fitted(o, {event}, 1, Unknown::drop).tokenizer;
  {
    const Encoder encoder(t);
    Tokens tokens;
    Tally tally(encoder);
    expect_error(Exit::input, "event 3, object 1: category m- is not one of the tokenizer's (j, b)", [&] { encoder.encode(event.view, tokens, tally); });
  }
  {
    const Encoder encoder(t, Unknown::token);
    Tokens tokens;
    Tally tally(encoder);
    encoder.encode(event.view, tokens, tally);
    ASSERT_EQ(tokens.token.size(), 3u);
    EXPECT_EQ(tokens.token[1], 0);
    EXPECT_EQ(tokens.category[1], 5);
    EXPECT_EQ(tokens.position[2], 2);
    EXPECT_EQ(tally.unknown, 1u);
    EXPECT_EQ(tally.used[0], 1u);
  }
  {
    const Encoder encoder(t, Unknown::drop);
    Tokens tokens;
    Tally tally(encoder);
    encoder.encode(event.view, tokens, tally);
    ASSERT_EQ(tokens.token.size(), 2u);
    EXPECT_EQ(tokens.position[1], 1);
    EXPECT_EQ(tally.unknown, 1u);
  }
}

TEST(Encode, RangesOfIdsDoNotOverlap) {
  FitOptions o = options(TokenizerKind::kmeans);
  for (std::size_t e = 0; e < kExtras; ++e) o.extras.push_back(static_cast<Extra>(e));
  const Tokenizer t = fitted(o, events(300)).tokenizer;
  std::set<std::int32_t> ids{0, t.start_id(), t.stop_id(), t.mask_id()};
  std::size_t size = ids.size() + t.particle_tokens();
  for (std::size_t i = 1; i <= t.particle_tokens(); ++i) ids.insert(static_cast<std::int32_t>(i));
  for (std::size_t k = 0; k < t.extras.size(); ++k) {
    size += t.extras[k].bins.bins();
    for (std::size_t i = 0; i < t.extras[k].bins.bins(); ++i) ids.insert(t.extra_first(k) + static_cast<std::int32_t>(i));
  }
  EXPECT_EQ(ids.size(), size);
  EXPECT_EQ(size, t.vocabulary());
  EXPECT_EQ(*ids.rbegin(), static_cast<std::int32_t>(t.vocabulary()) - 1);
}

TEST(Encode, OutOfRangeIsCounted) {
  FitOptions o = options(TokenizerKind::formula);
  const Encoder encoder(fitted(o, events(1)).tokenizer);
  Tally tally(encoder);
  encoder.particle(1, 5, 0, 0, tally);
  encoder.particle(1, 2000, -4, 0, tally);
  encoder.particle(1, 1001, 3.5, 0, tally);
  EXPECT_EQ(tally.pt_outside, (std::array<std::uint64_t, 2>{1, 2}));
  EXPECT_EQ(tally.eta_outside, (std::array<std::uint64_t, 2>{1, 1}));
  EXPECT_EQ(tally.phi_outside, (std::array<std::uint64_t, 2>{0, 0}));
}

TEST(Frames, ThereAndBack) {
  for (const auto frame : {Frame::absolute, Frame::met, Frame::jet})
    for (int i = 0; i < 200; ++i) {
      auto event = random_event(static_cast<std::uint64_t>(i), 1);
      event.view.axis_eta = 0.3;
      event.view.axis_phi = 3.0;
      const double met_phi = static_cast<double>(event.view.extras[static_cast<std::size_t>(Extra::met_phi)]);
      const auto d = to_frame(frame, event.view, static_cast<double>(event.eta[0]), static_cast<double>(event.phi[0]));
      EXPECT_LE(std::abs(static_cast<double>(d.phi)), kPi);
      const auto back = from_frame(frame, 0.3, frame == Frame::jet ? 3.0 : met_phi, static_cast<double>(d.eta), static_cast<double>(d.phi));
      EXPECT_NEAR(static_cast<double>(back.eta), static_cast<double>(event.eta[0]), 1e-6);
      EXPECT_NEAR(std::remainder(static_cast<double>(back.phi) - static_cast<double>(event.phi[0]), 2 * std::numbers::pi), 0, 1e-6);
    }
  OwnedEvent event = random_event(0, 1);
  event.view.extras[static_cast<std::size_t>(Extra::met_phi)] = 3.0f;
  EXPECT_NEAR(static_cast<double>(to_frame(Frame::met, event.view, 0, -3.0).phi), 2 * std::numbers::pi - 6, 1e-6);
}

TEST(Frames, TokensOfTheMetFrameDoNotChangeWhenTheEventIsTurned) {
  const auto from = events(400);
  const Encoder encoder(fitted(options(TokenizerKind::quantile), from).tokenizer);
  for (std::size_t e = 0; e < 100; ++e) {
    OwnedEvent turned = from[e];
    for (float& phi : turned.phi) phi = static_cast<float>(std::remainder(static_cast<double>(phi) + 1.25, 2 * std::numbers::pi));
    turned.view.category = turned.category;
    turned.view.pt = turned.pt;
    turned.view.eta = turned.eta;
    turned.view.phi = turned.phi;
    auto& met_phi = turned.view.extras[static_cast<std::size_t>(Extra::met_phi)];
    met_phi = static_cast<float>(std::remainder(static_cast<double>(met_phi) + 1.25, 2 * std::numbers::pi));
    Tokens a, b;
    Tally tally(encoder);
    encoder.encode(from[e].view, a, tally);
    encoder.encode(turned.view, b, tally);
    EXPECT_EQ(a.token, b.token);
  }
}

TEST(Hash, NamesTheCodebookAndNotWhatItWasFittedOn) {
  FitOptions o = options(TokenizerKind::quantile);
  o.extras = {Extra::ht};
  const Tokenizer t = fitted(o, events(500)).tokenizer;
  Tokenizer same = t;
  same.fit.seed = 99;
  same.fit.counts[1] += 5;
  EXPECT_EQ(same.hash(), t.hash());
  std::set<std::uint64_t> hashes{t.hash()};
  const auto changed = [&](auto edit) {
    Tokenizer other = t;
    edit(other);
    hashes.insert(other.hash());
  };
  changed([](Tokenizer& x) { x.pt[2].edges[1] = std::nextafter(x.pt[2].edges[1], 1e9); });
  changed([](Tokenizer& x) { x.eta.centres[0] += 1e-9; });
  changed([](Tokenizer& x) { x.phi.edges[1] += 1e-9; });
  changed([](Tokenizer& x) { x.frame = Frame::absolute; });
  changed([](Tokenizer& x) { x.max_particles = 17; });
  changed([](Tokenizer& x) { x.btag = 0.6; });
  changed([](Tokenizer& x) { std::swap(x.categories[0], x.categories[1]); });
  changed([](Tokenizer& x) { x.extras[0].what = Extra::met; });
  changed([](Tokenizer& x) { x.extras.clear(); });
  changed([](Tokenizer& x) { x.kind = TokenizerKind::formula; });
  changed([](Tokenizer& x) { x.input = "particles/1"; });
  EXPECT_EQ(hashes.size(), 12u);
}

TEST(Validate, RefusesForgedTokenizers) {
  const Tokenizer good = fitted(options(TokenizerKind::quantile), events(300)).tokenizer;
  const Tokenizer codes = fitted(options(TokenizerKind::kmeans), events(300)).tokenizer;
  validate(good);
  validate(codes);
  const auto refused = [](Tokenizer t, const std::string& part, auto edit) {
    edit(t);
    expect_error(Exit::input, part, [&] { Encoder{t}; });
  };
  refused(good, "knows no category", [](Tokenizer& t) { t.categories.clear(); });
  refused(good, "names category j twice", [](Tokenizer& t) { t.categories[3] = 1; });
  refused(good, "category 0 is 11", [](Tokenizer& t) { t.categories[0] = 11; });
  refused(good, "pt bins for 8 categories", [](Tokenizer& t) { t.pt.pop_back(); });
  refused(good, "edges of eta fall", [](Tokenizer& t) { t.eta.edges[1] = -50; });
  refused(good, "not a finite number", [](Tokenizer& t) { t.phi.edges[1] = NAN; });
  refused(good, "do not fit together", [](Tokenizer& t) { t.phi.edges.pop_back(); });
  refused(good, "keeps 0 particles", [](Tokenizer& t) { t.max_particles = 0; });
  refused(good, "counts", [](Tokenizer& t) { t.fit.counts.pop_back(); });
  refused(codes, "without codes", [](Tokenizer& t) { t.codes[0] = 0; });
  refused(codes, "numbers in its centres", [](Tokenizer& t) { t.centres.pop_back(); });
  refused(codes, "numbers in its centres", [](Tokenizer& t) { t.codes[0] += 1; });
  refused(codes, "the limit is", [](Tokenizer& t) { t.codes[0] = 4'000'000'000u; });
  refused(codes, "not a finite number", [](Tokenizer& t) { t.centres[0] = INFINITY; });
  refused(codes, "has mean", [](Tokenizer& t) { t.scale[0] = 0; });
}

TEST(Report, ErrorsAgreeWithDirectSumsAndMergeInAnyOrder) {
  const Rng rng(4, "errors");
  ErrorTally whole, left, right;
  std::vector<double> sizes;
  double sum = 0, squares = 0;
  for (std::uint64_t i = 0; i < 5000; ++i) {
    const double x = 0.3 * rng.normal(i, 0) + 0.05;
    whole.add(x);
    (i % 3 == 0 ? left : right).add(x);
    sizes.push_back(std::abs(x));
    sum += x;
    squares += x * x;
  }
  std::sort(sizes.begin(), sizes.end());
  EXPECT_NEAR(whole.mean(), sum / 5000, 1e-9);
  EXPECT_NEAR(whole.std(), std::sqrt(squares / 5000 - sum * sum / 25e6), 1e-9);
  EXPECT_NEAR(whole.quantile68(), sizes[3400], 0.02 * sizes[3400]);
  ErrorTally ab = left, ba = right;
  ab.merge(right);
  ba.merge(left);
  EXPECT_EQ(ab.mean(), whole.mean());
  EXPECT_EQ(ba.mean(), whole.mean());
  EXPECT_EQ(ba.std(), whole.std());
  EXPECT_EQ(ab.quantile68(), whole.quantile68());
  EXPECT_EQ(ErrorTally().std(), 0);
}

TEST(Report, UsageOfKnownCounts) {
  const Tokenizer t = fitted(options(TokenizerKind::formula), events(1)).tokenizer;
  std::vector<std::uint64_t> counts(t.vocabulary());
  for (std::size_t i = 1; i <= 8; ++i) counts[i] = 100;
  Usage u = usage(t, counts);
  EXPECT_EQ(u.codes, 1125u);
  EXPECT_EQ(u.used, 8u);
  EXPECT_EQ(u.dead, 1117u);
  EXPECT_NEAR(u.perplexity, 8, 1e-9);
  EXPECT_NEAR(u.entropy, std::log(8.0), 1e-12);
  counts[0] = 800;  // a token that is not a particle's counts in the entropy of all
  u = usage(t, counts);
  EXPECT_NEAR(u.entropy, std::log(2.0) + 0.5 * std::log(8.0), 1e-12);
  EXPECT_NEAR(u.particle_entropy, std::log(8.0), 1e-12);
}

}  // namespace
}  // namespace bl::models
