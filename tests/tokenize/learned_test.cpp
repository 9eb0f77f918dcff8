// VQ-VAE tokenizers in the stage: batches there and back, the file.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>

#include "base/files.hpp"
#include "base/hash.hpp"
#include "models/tokenizer_fit.hpp"
#include "models/vqvae.hpp"
#include "schema/schema.hpp"
#include "tokens/convert.hpp"
#include "tokens/file.hpp"

namespace bl::tokens {
namespace {

using models::Encoder;
using models::TokenizerKind;
using models::Unknown;

constexpr TokenizerKind kBoth[] = {TokenizerKind::vqvae, TokenizerKind::vqvae_conditional};

// Jets of 0 to 19 constituents within 0.4 of axes all over the detector; jets 3, 13, 23 … are empty.
Batch jets(std::uint32_t events, bool with_axis = true) {
  const Rng rng(23, "jets");
  std::vector<std::uint64_t> index;
  std::vector<std::uint32_t> offsets{0};
  std::vector<float> pt, eta, phi, jet_pt, jet_eta, jet_phi, jet_mass;
  for (std::uint32_t e = 0; e < events; ++e) {
    index.push_back(e);
    jet_pt.push_back(100);
    jet_mass.push_back(20);
    jet_eta.push_back(static_cast<float>(-2 + 4 * rng.uniform(e, 900)));
    jet_phi.push_back(static_cast<float>(-3.14 + 6.28 * rng.uniform(e, 901)));
    const auto n = e % 10 == 3 ? 0 : 1 + rng.below(19, e, 0);
    std::vector<float> pts;
    for (std::uint64_t i = 0; i < n; ++i) pts.push_back(static_cast<float>(std::exp(4.5 * rng.uniform(e, 1 + i))));
    std::sort(pts.begin(), pts.end(), std::greater<>());
    pt.insert(pt.end(), pts.begin(), pts.end());
    for (std::uint64_t i = 0; i < n; ++i) {
      eta.push_back(jet_eta[e] + static_cast<float>(-0.4 + 0.8 * rng.uniform(e, 100 + i)));
      phi.push_back(static_cast<float>(
          std::clamp(std::remainder(static_cast<double>(jet_phi[e]) - 0.4 + 0.8 * rng.uniform(e, 200 + i), 2 * models::kPi), -models::kPi, models::kPi)));
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
    b.set("jet_pt", {"event"}, jet_pt);
    b.set("jet_eta", {"event"}, jet_eta);
    b.set("jet_phi", {"event"}, jet_phi);
    b.set("jet_mass", {"event"}, jet_mass);
  }
  b.set("particle_offsets", {"event+1"}, offsets);
  b.set("pt", {"particle"}, pt);
  b.set("eta", {"particle"}, eta);
  b.set("phi", {"particle"}, phi);
  schema::check(schema::get("particles/1"), b, "test");
  return b;
}

models::Tokenizer fitted(const Batch& batch, TokenizerKind kind, bool clip = false, double max_angle = 0.8) {
  models::FitOptions o;
  o.kind = kind;
  o.input = "particles/1";
  o.categories = {models::kCategories};
  o.frame = models::Frame::jet;
  o.max_particles = 16;
  models::VqVaeConfig network;
  network.conditional = kind == TokenizerKind::vqvae_conditional;
  network.codes = 64;
  network.dim = 16;
  network.heads = 2;
  network.layers = 2;
  network.clip = clip;
  network.max_angle = max_angle;
  models::VqVaeTraining training;
  training.epochs = 10;
  training.batch = 32;
  training.rate = 5e-3;
  const Rng rng(1, "test");
  models::FitSample sample(o, rng);
  for_each_event(batch, o.btag, Unknown::error, [&](const models::Event& e) { sample.add(e); });
  const models::LearnedFit fit(o, network, sample);
  Pool pool(2);
  models::VqVaeTrainer trainer(network, training, pool);
  trainer.attach(fit.jets());
  while (trainer.advance()) {
  }
  auto t = fit.finish(trainer.result(), pool).tokenizer;
  t.fit.seed = 7;
  t.fit.digest = "0123";
  t.fit.history = R"([{"stage":"bl-tokenize"}])";
  return t;
}

Batch encoded(const Batch& batch, const Encoder& encoder, models::Tally* tally = nullptr) {
  models::Tally total(encoder);
  std::mutex lock;
  Batch out = encode(batch, encoder, Unknown::error, true, total, lock);
  schema::check(schema::get("tokens/2"), out, "test");
  if (tally) tally->merge(total);
  return out;
}

Batch decoded(const Batch& tokens, const Encoder& encoder) {
  std::uint64_t lost = 0;
  std::mutex lock;
  Batch out = decode(tokens, encoder, lost, lock);
  EXPECT_EQ(lost, 0u);
  schema::check(schema::get("particles/1"), out, "test");
  return out;
}

TEST(Learned, JetsAreDecodedWhereTheyLay) {
  const Batch whole = jets(400);
  for (const auto kind : kBoth) {
    const Encoder encoder(fitted(whole, kind));
    models::Tally tally(encoder);
    const Batch tokens = encoded(whole, encoder, &tally);
    EXPECT_EQ(tally.dropped, 0u);
    EXPECT_EQ(tally.events, 400u);
    EXPECT_GT(tally.truncated_particles, 0u);
    EXPECT_LT(tally.eta_error.std(), 0.18) << name_of(kind);  // the constituents' own is 0.23
    EXPECT_LT(tally.phi_error.std(), 0.18) << name_of(kind);
    const auto id = tokens.get<std::int32_t>("token");
    EXPECT_TRUE(std::ranges::all_of(id, [](std::int32_t t) { return t >= 1 && t <= 64; }));
    const Batch back = decoded(tokens, encoder);
    for (const auto* name : {"event_index", "event_id", "weight", "process", "jet_eta", "jet_phi"})
      EXPECT_TRUE(std::ranges::equal(back.at(name).raw.bytes(), whole.at(name).raw.bytes())) << name;
    const auto ends = back.get<std::uint32_t>("particle_offsets"), starts = whole.get<std::uint32_t>("particle_offsets");
    const auto pt = back.get<float>("pt"), eta = back.get<float>("eta"), phi = back.get<float>("phi"), jet_pt = back.get<float>("jet_pt");
    const auto axis_eta = back.get<float>("jet_eta"), axis_phi = back.get<float>("jet_phi");
    for (std::uint32_t e = 0; e < back.events; ++e) {
      EXPECT_EQ(ends[e + 1] - ends[e], std::min(16u, starts[e + 1] - starts[e]));
      EXPECT_TRUE(std::is_sorted(pt.begin() + ends[e], pt.begin() + ends[e + 1], std::greater<>()));
      for (auto i = ends[e]; i < ends[e + 1]; ++i) {
        EXPECT_LE(std::abs(eta[i] - axis_eta[e]), 0.81f);
        EXPECT_LE(std::abs(std::remainder(static_cast<double>(phi[i] - axis_phi[e]), 2 * models::kPi)), 0.81);
      }
      if (e % 10 == 3) {
        EXPECT_EQ(jet_pt[e], 0.0f) << "an empty jet";
      } else {
        EXPECT_GT(jet_pt[e], 0.0f);
      }
    }
  }
}

TEST(Learned, TokensWithoutAnAxisAreDecodedAroundZero) {
  const Batch whole = jets(100);
  const Encoder encoder(fitted(whole, TokenizerKind::vqvae_conditional));
  Batch tokens = encoded(whole, encoder);
  for (const auto* name : {"jet_pt", "jet_eta", "jet_phi", "jet_mass"}) tokens.erase(name);
  schema::check(schema::get("tokens/1"), tokens, "test");
  const Batch back = decoded(tokens, encoder);
  for (const float eta : back.get<float>("eta")) EXPECT_LE(std::abs(eta), 0.8f);
  for (const float axis : back.get<float>("jet_eta")) EXPECT_EQ(axis, 0.0f);
}

TEST(Learned, AJetWithoutAnAxisGetsThatOfItsConstituents) {
  const Batch bare = jets(100, false);
  const Encoder encoder(fitted(jets(100), TokenizerKind::vqvae));
  const Batch tokens = encoded(bare, encoder);
  EXPECT_FALSE(tokens.has("jet_pt"));
  const auto eta = tokens.get<float>("jet_eta");
  std::uint32_t e = 0;
  for_each_event(bare, 0.5, Unknown::error, [&](const models::Event& jet) { EXPECT_FLOAT_EQ(eta[e++], static_cast<float>(jet.axis_eta)); });
}

TEST(Learned, TheSameTokensHoweverTheStreamIsCut) {
  const Batch whole = jets(300);
  for (const auto kind : kBoth) {
    const Encoder encoder(fitted(whole, kind));
    models::Tally at_once(encoder), in_parts(encoder);
    Digest one, many, back_one, back_many;
    one.add(encoded(whole, encoder, &at_once));
    back_one.add(decoded(encoded(whole, encoder), encoder));
    for (std::uint32_t first = 0; first < 300; first += 37) {
      const Batch part = encoded(slice(whole, first, std::min(37u, 300 - first)), encoder, &in_parts);
      many.add(part);
      back_many.add(decoded(part, encoder));
    }
    EXPECT_EQ(one, many);
    EXPECT_EQ(back_one, back_many);
    EXPECT_EQ(at_once.used, in_parts.used);
    EXPECT_EQ(at_once.pt_error.mean(), in_parts.pt_error.mean());
  }
}

TEST(Learned, ConstituentsTooFarOutAreCountedAndDroppedOrClipped) {
  const Batch whole = jets(200);
  std::uint64_t within = 0, beyond = 0, beyond_eta = 0;
  for_each_event(whole, 0.5, Unknown::error, [&](const models::Event& jet) {
    for (std::size_t i = 0; i < std::min<std::size_t>(16, jet.pt.size()); ++i) {
      const auto d = models::to_frame(models::Frame::jet, jet, static_cast<double>(jet.eta[i]), static_cast<double>(jet.phi[i]));
      const bool out = std::abs(d.eta) > 0.3f || std::abs(d.phi) > 0.3f;
      (out ? beyond : within) += 1;
      beyond_eta += std::abs(d.eta) > 0.3f;
    }
  });
  ASSERT_GT(beyond, 100u);
  for (const bool clip : {false, true}) {
    const Encoder encoder(fitted(whole, TokenizerKind::vqvae_conditional, clip, 0.3));
    models::Tally tally(encoder);
    const Batch tokens = encoded(whole, encoder, &tally);
    EXPECT_EQ(tally.dropped, clip ? 0 : beyond);
    EXPECT_EQ(tally.eta_outside[0] + tally.eta_outside[1], beyond_eta);
    EXPECT_EQ(tokens.get<std::int32_t>("token").size(), clip ? within + beyond : within);
    const auto offsets = tokens.get<std::uint32_t>("token_offsets");
    const auto position = tokens.get<std::uint16_t>("position");
    for (std::uint32_t e = 0; e < tokens.events; ++e)
      for (auto i = offsets[e]; i < offsets[e + 1]; ++i) EXPECT_EQ(position[i], i - offsets[e]);
  }
}

TEST(Learned, SpecialTokensAndTheWholeVocabulary) {
  const Batch whole = jets(100);
  const Encoder encoder(fitted(whole, TokenizerKind::vqvae_conditional));
  const models::Tokenizer& t = encoder.tokenizer();
  EXPECT_EQ(t.vocabulary(), 64u + 4);
  const auto meta = metadata(t);
  EXPECT_EQ(meta["start"], 65);
  EXPECT_EQ(meta["stop"], 66);
  EXPECT_EQ(meta["mask"], 67);
  EXPECT_EQ(meta["kind"], "vqvae-conditional");
  EXPECT_EQ(meta["conditional"], true);
  EXPECT_EQ(meta["positions"], 16u);
  Batch tokens = encoded(whole, encoder);
  tokens.find("token")->edit<std::int32_t>()[0] = t.stop_id();
  std::uint64_t lost = 0;
  std::mutex lock;
  const Batch back = decode(tokens, encoder, lost, lock);
  EXPECT_EQ(lost, 1u);
  EXPECT_EQ(back.get<float>("pt").size() + 1, tokens.get<std::int32_t>("token").size());
  tokens.find("token")->edit<std::int32_t>()[0] = 68;
  EXPECT_THROW(decode(tokens, encoder, lost, lock), Error);
}

class LearnedFile : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::path(::testing::TempDir()) / ("learned_" + std::to_string(::getpid()));
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  std::string path(const std::string& name) const { return (folder_ / name).string(); }
  std::string saved(const models::Tokenizer& t, const std::string& name) const {
    store::Output file(path(name), true);
    save(file, t);
    file.commit();
    return path(name);
  }

  std::filesystem::path folder_;
};

TEST_F(LearnedFile, WhatIsSavedIsLoadedAndDoesTheSame) {
  const Batch whole = jets(150);
  for (const auto kind : kBoth) {
    const auto t = fitted(whole, kind);
    const auto back = load(saved(t, "a.h5"));
    EXPECT_EQ(back.hash(), t.hash());
    EXPECT_EQ(metadata(back), metadata(t));
    EXPECT_EQ(back.fit.counts, t.fit.counts);
    EXPECT_TRUE(back.network->config() == t.network->config());
    EXPECT_TRUE(std::ranges::equal(back.network->params().values(), t.network->params().values()));
    const Encoder first(t), second(back);
    Digest a, b;
    a.add(encoded(whole, first));
    b.add(encoded(whole, second));
    EXPECT_EQ(a, b);
    const store::Input file(path("a.h5"));
    EXPECT_EQ(file.has_dataset("decoded/pt"), kind == TokenizerKind::vqvae) << "conditional tokens stand for nothing by themselves";
    EXPECT_EQ(read_file(path("a.h5")), read_file(saved(back, "b.h5")));
  }
}

void expect_refused(const std::string& file, const std::string& part) {
  try {
    load(file);
    FAIL() << "no error; expected: " << part;
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Exit::input) << e.what();
    EXPECT_NE(std::string(e.what()).find(part), std::string::npos) << e.what();
    EXPECT_NE(std::string(e.what()).find(file), std::string::npos) << e.what();
  }
}

TEST_F(LearnedFile, ADamagedOrForgedFileIsRefused) {
  const auto t = fitted(jets(150), TokenizerKind::vqvae_conditional);
  const auto name = saved(t, "tok.h5");
  const auto raw = read_file(name);
  for (const double part : {0.0, 0.05, 0.5, 0.9, 0.999}) {
    std::ofstream(path("cut.h5"), std::ios::binary) << raw.substr(0, static_cast<std::size_t>(part * static_cast<double>(raw.size())));
    expect_refused(path("cut.h5"), "cut.h5");
  }
  const Rng rng(1, "flips");
  for (std::uint64_t i = 0; i < 100; ++i) {
    auto damaged = raw;
    damaged[rng.below(raw.size(), i, 0)] ^= static_cast<char>(1 << rng.below(8, i, 1));
    std::ofstream(path("flip.h5"), std::ios::binary) << damaged;
    expect_refused(path("flip.h5"), "flip.h5");
  }
  // Changed and sealed again.
  const auto forge = [&](const std::string& to, const auto& change) {
    models::Tokenizer other = t;
    auto network = std::make_shared<models::VqVae<float>>(t.network->config());
    std::ranges::copy(t.network->params().values(), network->params().values().begin());
    other.network = network;
    store::Output file(path(to), true);
    change(*network);
    save(file, other);
    file.attribute("", "hash", hex(t.hash()));
    file.commit();
    return path(to);
  };
  expect_refused(forge("weight.h5", [](auto& n) { n.params().of(n.codebook())[5] += 0.25f; }), "and it says " + hex(t.hash()));
  const auto attribute = [&](const std::string& to, const std::string& key, const std::string& value) {
    store::Output file(path(to), true);
    save(file, t);
    file.attribute("", "network:" + key, std::string_view(value));
    file.commit();
    return path(to);
  };
  expect_refused(attribute("codes.h5", "codes", "65"), "its codebook does not have 65 codes of 4 numbers");
  expect_refused(attribute("dim.h5", "dim", "18"), "its network is not 18 wide");
  expect_refused(attribute("layers.h5", "layers", "3"), "decoder/2/up/weight");
  expect_refused(attribute("heads.h5", "heads", "3"), "not a multiple of heads 3");
  expect_refused(attribute("angle.h5", "max_angle", "0.7"), "and it says " + hex(t.hash()));
}

}  // namespace
}  // namespace bl::tokens
