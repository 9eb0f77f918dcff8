// Token quality: residuals against numpy, codes by hand, what single tokens mean, classifiers before and after.
#include "evaluate/token_quality.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <numbers>
#include <set>

#include "base/error.hpp"
#include "evaluate/two_sample.hpp"
#include "models/vqvae.hpp"

namespace bl::evaluate {
namespace {

// 5 bins in log pt from 1 to 243 GeV (edges 1, 3, 9, …), 4 in eta and in phi from -0.8 to 0.8.
models::Tokenizer grid(std::uint32_t max_particles = 16) {
  models::Tokenizer t;
  t.kind = models::TokenizerKind::binning;
  t.input = "particles/1";
  t.categories = {models::kCategories};
  t.frame = models::Frame::jet;
  t.max_particles = max_particles;
  t.pt = {models::logarithmic_bins(1, 243, 5)};
  t.eta = t.phi = models::uniform_bins(-0.8, 0.8, 4);
  return t;
}

// A network of weights that were never trained: all that matters here is that tokens mean what their company makes of them.
models::Tokenizer network(bool conditional) {
  models::VqVaeConfig config;
  config.conditional = conditional;
  config.codes = 32;
  config.dim = 16;
  config.heads = 2;
  config.layers = 2;
  auto model = std::make_shared<models::VqVae<float>>(config);
  model->init(3);
  const Rng rng(4, "weights");
  const auto values = model->params().values();
  for (std::size_t i = 0; i < values.size(); ++i) values[i] += static_cast<float>(0.2 * rng.normal(0, i));
  models::Tokenizer t = grid();
  t.kind = conditional ? models::TokenizerKind::vqvae_conditional : models::TokenizerKind::vqvae;
  t.pt = {models::uniform_bins(config.lowest_pt, config.highest_pt, 1)};
  t.eta = t.phi = models::uniform_bins(-config.max_angle, config.max_angle, 1);
  t.codes = {config.codes};
  t.network = model;
  return t;
}

struct Particle {
  float pt, eta, phi;
};
Batch batch_of(const std::vector<std::vector<Particle>>& jets, float axis_eta = 0, float axis_phi = 0) {
  std::vector<std::uint64_t> index;
  std::vector<std::uint32_t> offsets{0};
  std::vector<float> pt, eta, phi;
  for (const auto& jet : jets) {
    index.push_back(index.size());
    for (const Particle& p : jet) {
      pt.push_back(p.pt);
      eta.push_back(p.eta);
      phi.push_back(p.phi);
    }
    offsets.push_back(static_cast<std::uint32_t>(pt.size()));
  }
  Batch b;
  b.events = static_cast<std::uint32_t>(jets.size());
  b.set("event_index", {"event"}, index);
  b.set("jet_eta", {"event"}, std::vector<float>(jets.size(), axis_eta));
  b.set("jet_phi", {"event"}, std::vector<float>(jets.size(), axis_phi));
  b.set("particle_offsets", {"event+1"}, offsets);
  b.set("pt", {"particle"}, pt);
  b.set("eta", {"particle"}, eta);
  b.set("phi", {"particle"}, phi);
  return b;
}

std::vector<std::vector<Particle>> random_jets(std::size_t jets, std::uint64_t seed, double width = 0.2) {
  const Rng rng(seed, "jets");
  std::vector<std::vector<Particle>> out(jets);
  for (std::uint64_t j = 0; j < jets; ++j)
    for (std::uint64_t i = 0; i < 3 + rng.below(20, j, 0); ++i)
      out[j].push_back({static_cast<float>(std::exp(4 - 0.2 * static_cast<double>(i) + 0.3 * rng.normal(j, 3 * i + 1))),
                        static_cast<float>(std::clamp(width * rng.normal(j, 3 * i + 2), -0.79, 0.79)),
                        static_cast<float>(std::clamp(width * rng.normal(j, 3 * i + 3), -0.79, 0.79))});
  return out;
}

TEST(TokenQuality, residuals_and_quantiles_are_those_of_numpy) {
  std::ifstream file(BEAMLINE_SOURCE_DIR "/tests/evaluate/token_quality.json");
  const auto fixture = nlohmann::json::parse(file);
  const models::Encoder encoder(grid());
  Tokenized t(encoder);
  t.offsets = fixture["offsets"].get<std::vector<std::uint32_t>>();
  t.pt = fixture["pt"].get<std::vector<float>>();
  t.eta = fixture["eta"].get<std::vector<float>>();
  t.phi = fixture["phi"].get<std::vector<float>>();
  t.decoded_pt = fixture["after_pt"].get<std::vector<float>>();
  t.decoded_eta = fixture["after_eta"].get<std::vector<float>>();
  t.decoded_phi = fixture["after_phi"].get<std::vector<float>>();
  t.token.resize(t.pt.size());
  Batch before;
  before.events = static_cast<std::uint32_t>(t.jets());
  before.set("particle_offsets", {"event+1"}, t.offsets);
  before.set("pt", {"particle"}, t.pt);
  before.set("eta", {"particle"}, t.eta);
  before.set("phi", {"particle"}, t.phi);
  Pool pool(2);
  auto residuals = constituent_residuals(t);
  for (auto& r : jet_residuals(jet_values(before, pool), jet_values(t, pool))) residuals.push_back(r);
  std::set<std::string> seen;
  for (const Residual& r : residuals) {
    if (!fixture["spread"].contains(r.name)) continue;
    seen.insert(r.name);
    const auto expected = fixture["spread"][r.name].get<std::vector<double>>();
    const double found[] = {r.spread.mean, r.spread.deviation, r.spread.mean_absolute, r.spread.q01, r.spread.q16, r.spread.median, r.spread.q84, r.spread.q99};
    for (std::size_t i = 0; i < expected.size(); ++i) EXPECT_NEAR(found[i], expected[i], 1e-9 * (1 + std::abs(expected[i]))) << r.name << " " << i;
    EXPECT_EQ(r.spread.missing, 0u);
  }
  EXPECT_EQ(seen.size(), 6u);
}

TEST(TokenQuality, what_is_missing_is_counted_and_left_out) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const std::vector<double> values{1, nan, 3, -2};
  const Spread s = spread(values);
  EXPECT_EQ(s.entries, 3u);
  EXPECT_EQ(s.missing, 1u);
  EXPECT_NEAR(s.mean, 2.0 / 3, 1e-15);
  EXPECT_NEAR(s.mean_absolute, 2, 1e-15);
  EXPECT_EQ(s.median, 1);
  EXPECT_TRUE(std::isnan(spread(std::vector<double>{nan}).mean));
  EXPECT_TRUE(std::isnan(spread({}).median));
}

TEST(TokenQuality, codes_dead_codes_and_perplexity_by_hand) {
  // Cells of the grid: 4 constituents in one, 2 in another, 1 each in two more. One is beyond the 3 hardest of its jet.
  const Batch jets = in_jet_frame(batch_of({{{50, 0.1f, 0.1f}, {45, 0.2f, 0.3f}, {2, -0.5f, 0.1f}, {1.5f, 0.7f, 0.7f}},
                                            {},
                                            {{40, 0.3f, 0.2f}, {30, 0.1f, 0.1f}, {2.5f, -0.7f, 0.3f}},
                                            {{10, 0, 0}, {2, 0.7f, -0.7f}}}));
  const models::Encoder encoder(grid(3));
  Pool pool(2);
  const Tokenized t = encode_and_decode(jets, encoder, pool);
  EXPECT_EQ(t.jets(), 4u);
  EXPECT_EQ(t.offsets, (std::vector<std::uint32_t>{0, 3, 3, 6, 8}));
  EXPECT_EQ(t.tally.truncated_particles, 1u);
  EXPECT_EQ(t.tally.particles, 9u);
  const models::Usage u = usage(encoder.tokenizer(), t.tally.used);
  EXPECT_EQ(u.codes, 80u);
  EXPECT_EQ(u.used, 4u);
  EXPECT_EQ(u.dead, 76u);
  // entropy of 1/2, 1/4, 1/8, 1/8: 7/4 bits
  EXPECT_NEAR(u.perplexity, std::pow(2, 1.75), 1e-12);
  // a cell is decoded to its middle: sqrt(27 · 81) GeV, 0.2, 0.2
  EXPECT_NEAR(t.decoded_pt[0], std::sqrt(27.0 * 81), 1e-3);
  EXPECT_NEAR(t.decoded_eta[0], 0.2, 1e-6);
  EXPECT_NEAR(t.decoded_phi[0], 0.2, 1e-6);
  EXPECT_EQ(t.pt[0], 50);
}

TEST(TokenQuality, jets_are_compared_in_their_frame) {
  std::vector<std::vector<Particle>> moved = random_jets(60, 3);
  const auto still = moved;
  for (auto& jet : moved)
    for (Particle& p : jet) {
      p.eta += 1.3f;
      p.phi = static_cast<float>(std::remainder(static_cast<double>(p.phi) + 3.0, 2 * std::numbers::pi));
    }
  Pool pool(2);
  const Batch a = in_jet_frame(batch_of(still)), b = in_jet_frame(batch_of(moved, 1.3f, 3.0f));
  const auto before = jet_values(a, pool), after = jet_values(b, pool);
  for (const Residual& r : jet_residuals(before, after)) {
    EXPECT_EQ(r.spread.entries, 60u) << r.name;
    EXPECT_LT(r.spread.mean_absolute, 1e-4) << r.name;
  }
  // Jets of one or two constituents have no tau32: they are missing on both sides
  const auto few = jet_values(in_jet_frame(batch_of({{{10, 0, 0}, {5, 0.1f, 0}}})), pool);
  const auto difference = jet_residuals(few, few);
  EXPECT_EQ(difference[3].name, "tau32");
  EXPECT_EQ(difference[3].spread.missing, 1u);
  EXPECT_EQ(difference[1].spread.entries, 1u);
}

TEST(TokenQuality, threads_do_not_matter_and_every_kind_works) {
  const Batch jets = in_jet_frame(batch_of(random_jets(700, 5)));
  for (const models::Tokenizer& tokenizer : {grid(), network(false), network(true)}) {
    const models::Encoder encoder(tokenizer);
    Pool one(1), three(3);
    const Tokenized a = encode_and_decode(jets, encoder, one), b = encode_and_decode(jets, encoder, three);
    EXPECT_EQ(a.token, b.token);
    EXPECT_EQ(a.offsets, b.offsets);
    EXPECT_EQ(a.decoded_pt, b.decoded_pt);
    EXPECT_EQ(a.decoded_phi, b.decoded_phi);
    EXPECT_EQ(a.tally.used, b.tally.used);
    EXPECT_EQ(a.jets(), 700u);
    EXPECT_EQ(a.token.size(), a.pt.size());
    EXPECT_EQ(a.token.size(), a.decoded_eta.size());
    EXPECT_EQ(a.offsets.back(), a.token.size());
  }
}

TEST(TokenCloud, tokens_of_an_unconditional_tokenizer_are_points) {
  const Batch jets = in_jet_frame(batch_of(random_jets(300, 7)));
  Pool pool(2);
  CloudOptions options;
  options.repeats = 20;
  for (const models::Tokenizer& tokenizer : {grid(), network(false)}) {
    const models::Encoder encoder(tokenizer);
    const Tokenized t = encode_and_decode(jets, encoder, pool);
    const auto cloud = token_cloud(encoder, t.tally.used, options, Rng(1, "cloud"), pool);
    ASSERT_FALSE(cloud.empty());
    for (const CloudToken& token : cloud) {
      ASSERT_EQ(token.pt.size(), 1u);
      EXPECT_EQ(token.pt[0], encoder.decode(token.token).pt);
      EXPECT_EQ(token.eta[0], encoder.decode(token.token).eta);
      EXPECT_EQ(token.count, t.tally.used[static_cast<std::size_t>(token.token)]);
    }
  }
}

TEST(TokenCloud, tokens_of_a_conditional_tokenizer_are_clouds) {
  const models::Encoder encoder(network(true));
  std::vector<std::uint64_t> used(encoder.tokenizer().vocabulary());
  for (std::size_t id = 1; id <= 20; ++id) used[id] = 100 - 4 * id;  // 12 codes are dead
  CloudOptions options;
  options.tokens = 8;
  options.repeats = 30;
  options.companions = 10;
  Pool one(1), three(3);
  const Rng rng(1, "cloud");
  const auto cloud = token_cloud(encoder, used, options, rng, one), again = token_cloud(encoder, used, options, rng, three);
  ASSERT_EQ(cloud.size(), 8u);
  std::set<std::int32_t> different;
  for (std::size_t k = 0; k < cloud.size(); ++k) {
    const CloudToken& token = cloud[k];
    different.insert(token.token);
    EXPECT_GT(token.count, 0u);
    EXPECT_EQ(token.pt.size(), 30u);
    EXPECT_EQ(token.pt, again[k].pt);
    EXPECT_GT(*std::ranges::max_element(token.eta) - *std::ranges::min_element(token.eta), 1e-4);
  }
  EXPECT_EQ(different.size(), 8u);
  EXPECT_TRUE(std::ranges::is_sorted(cloud, std::greater<>(), &CloudToken::count));
  // The first repeat by hand
  std::vector<std::int32_t> jet{cloud[0].token};
  std::vector<std::int32_t> by_use;
  for (std::int32_t id = 1; id <= 20; ++id) by_use.insert(by_use.end(), used[static_cast<std::size_t>(id)], id);
  for (std::uint64_t c = 0; c < 10; ++c) jet.push_back(by_use[rng.below(by_use.size(), static_cast<std::uint64_t>(jet[0]) * 30, c)]);
  std::vector<models::Decoded> decoded;
  encoder.decode_jets(jet, std::vector<std::uint64_t>{0, jet.size()}, decoded);
  EXPECT_EQ(decoded[0].pt, cloud[0].pt[0]);
  // Without company all repeats are the same
  options.companions = 0;
  for (const CloudToken& token : token_cloud(encoder, used, options, rng, one)) EXPECT_EQ(std::ranges::count(token.eta, token.eta[0]), 30);
  // More tokens than are in use: each once
  options.tokens = 50;
  EXPECT_EQ(token_cloud(encoder, used, options, rng, one).size(), 20u);
  std::ranges::fill(used, 0u);
  EXPECT_TRUE(token_cloud(encoder, used, options, rng, one).empty());
}

TEST(Tagging, jets_of_one_event_are_in_one_part) {
  std::vector<std::uint64_t> event_id;
  for (std::uint64_t e = 0; e < 4000; ++e) event_id.insert(event_id.end(), {e, e});
  const Parts parts = split_by_event(event_id, Rng(1, "parts"));
  std::vector<int> part(4000, -1);
  int number = 0;
  for (const auto* jets : {&parts.training, &parts.validation, &parts.testing}) {
    for (const std::uint32_t j : *jets) {
      int& of_event = part[event_id[j]];
      EXPECT_TRUE(of_event == -1 || of_event == number);
      of_event = number;
    }
    ++number;
  }
  EXPECT_EQ(parts.training.size() + parts.validation.size() + parts.testing.size(), 8000u);
  EXPECT_NEAR(static_cast<double>(parts.training.size()), 4800, 200);
  EXPECT_NEAR(static_cast<double>(parts.testing.size()), 2400, 200);
}

TEST(Tagging, coarse_tokens_cost_a_classifier_what_they_blur) {
  // Classes differ in width, 0.1 and 0.13: a grid of 0.4 by 0.4 hides most of it.
  std::vector<std::vector<Particle>> jets = random_jets(700, 11, 0.1), wide = random_jets(700, 12, 0.13);
  jets.insert(jets.end(), wide.begin(), wide.end());
  Pool pool(2);
  const Batch frame = in_jet_frame(batch_of(jets));
  const models::Encoder encoder(grid(64));
  const Tokenized t = encode_and_decode(frame, encoder, pool);
  auto before = constituent_sets(frame.get<std::uint32_t>("particle_offsets"), frame.get<float>("pt"), frame.get<float>("eta"), frame.get<float>("phi"));
  auto after = constituent_sets(t.offsets, t.decoded_pt, t.decoded_eta, t.decoded_phi);
  std::vector<std::uint64_t> event_id;
  for (std::uint64_t j = 0; j < 1400; ++j) {
    event_id.push_back(j);
    before.labels[j] = after.labels[j] = j >= 700;
  }
  const Parts parts = split_by_event(event_id, Rng(2, "parts"));
  const Tagging fine = train_and_test(before, parts, models::SetKind::deep_sets, 2, 2, 1, pool),
                coarse = train_and_test(after, parts, models::SetKind::deep_sets, 2, 2, 1, pool);
  EXPECT_GT(fine.auc.mean, 0.75);
  EXPECT_GT(fine.auc.mean, coarse.auc.mean + 0.05);
  EXPECT_GT(fine.accuracy.mean, coarse.accuracy.mean);
  EXPECT_EQ(fine.aucs.size(), 2u);
  EXPECT_NE(fine.aucs[0], fine.aucs[1]);
  for (auto& label : before.labels) label = 0;
  EXPECT_THROW(train_and_test(before, parts, models::SetKind::deep_sets, 2, 1, 1, pool), Error);
}

}  // namespace
}  // namespace bl::evaluate
