#include "tokens/file.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "base/files.hpp"
#include "base/hash.hpp"
#include "events.hpp"
#include "models/tokenizer_fit.hpp"

namespace bl::tokens {
namespace {

using models::TokenizerKind;

class File : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::temp_directory_path() / ("beamline_tokenizer_" + std::to_string(::getpid()));
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string path(const std::string& name) const { return (folder_ / name).string(); }

  static models::Tokenizer made(TokenizerKind kind) {
    models::FitOptions o;
    o.kind = kind;
    for (std::uint8_t c = 1; c < models::kCategories; ++c) o.categories.push_back(c);
    o.frame = kind == TokenizerKind::formula ? models::Frame::absolute : models::Frame::met;
    o.codes = 30;
    o.extras = {models::Extra::ht, models::Extra::n_jets};
    const Rng rng(1, "file");
    models::FitSample sample(o, rng);
    for (std::uint64_t i = 0; i < 200; ++i) sample.add(test::random_event(i, 1 + i % 9).view);
    Pool pool(1);
    auto t = models::fit(o, sample, rng, pool).tokenizer;
    t.fit.seed = 0xfedcba9876543210;  // above the largest signed number
    t.fit.digest = "0123";
    t.fit.history = R"([{"stage":"bl-tokenize"}])";
    return t;
  }
  std::string saved(TokenizerKind kind) const {
    const auto name = path(std::string(name_of(kind)) + ".h5");
    store::Output file(name, true);
    save(file, made(kind));
    file.commit();
    return name;
  }

  std::filesystem::path folder_;
};

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

TEST_F(File, WhatIsSavedIsLoaded) {
  for (const auto kind : {TokenizerKind::formula, TokenizerKind::quantile, TokenizerKind::kmeans}) {
    const auto t = made(kind), back = load(saved(kind));
    EXPECT_EQ(back.hash(), t.hash());
    EXPECT_EQ(back.vocabulary(), t.vocabulary());
    EXPECT_EQ(back.fit.counts, t.fit.counts);
    EXPECT_EQ(back.fit.events, 200u);
    EXPECT_EQ(back.fit.particles, t.fit.particles);
    EXPECT_EQ(back.fit.seed, t.fit.seed);
    EXPECT_EQ(back.fit.digest, "0123");
    EXPECT_EQ(back.fit.history, t.fit.history);
    EXPECT_EQ(metadata(back), metadata(t));
    EXPECT_EQ(metadata(t)["vocabulary"], t.vocabulary());
    EXPECT_EQ(metadata(t)["mask"], t.mask_id());
    EXPECT_EQ(metadata(t)["extras"][1]["name"], "n_jets");
  }
}

TEST_F(File, TheTableOfDecodedValuesIsThere) {
  const store::Input file(saved(TokenizerKind::kmeans));
  const models::Encoder encoder(made(TokenizerKind::kmeans));
  const auto pt = file.read<float>("decoded/pt");
  const auto category = file.read<std::uint8_t>("decoded/category");
  ASSERT_EQ(pt.size(), encoder.tokenizer().vocabulary());
  for (std::size_t i = 0; i < pt.size(); ++i) {
    EXPECT_EQ(pt[i], encoder.decode(static_cast<std::int32_t>(i)).pt);
    EXPECT_EQ(category[i], encoder.decode(static_cast<std::int32_t>(i)).category);
  }
}

TEST_F(File, OneFitMakesOneFile) {
  const auto a = saved(TokenizerKind::kmeans);
  const auto first = read_file(a);
  EXPECT_EQ(first, read_file(saved(TokenizerKind::kmeans)));
}

TEST_F(File, RefusesOtherFiles) {
  expect_refused(path("absent.h5"), "absent.h5");
  std::ofstream(path("text.h5")) << "this is no HDF5 file, only a line of text";
  expect_refused(path("text.h5"), "HDF5");
  {
    store::Output other(path("other.h5"), false);
    other.write("weights", std::vector<float>{1, 2, 3});
    other.commit();
  }
  expect_refused(path("other.h5"), "not a tokenizer");
  {
    store::Output newer(path("newer.h5"), false);
    newer.attribute("", "format", "beamline tokenizer");
    newer.attribute("", "version", kFileVersion + 1);
    newer.commit();
  }
  expect_refused(path("newer.h5"), "version 2, this program reads up to 1");
  {
    store::Output empty(path("empty.h5"), false);
    empty.attribute("", "format", "beamline tokenizer");
    empty.attribute("", "version", kFileVersion);
    empty.commit();
  }
  expect_refused(path("empty.h5"), "kind");
}

TEST_F(File, RefusesACodebookThatWasChangedByHand) {
  auto t = made(TokenizerKind::quantile);
  const auto honest = hex(t.hash());
  t.eta.edges[2] += 0.01;
  store::Output file(path("forged.h5"), false);
  save(file, t);
  file.attribute("", "hash", honest);
  file.commit();
  expect_refused(path("forged.h5"), "and it says " + honest);
}

TEST_F(File, ATruncatedOrDamagedFileIsRefusedOrUnharmed) {
  const auto name = saved(TokenizerKind::kmeans);
  const auto raw = read_file(name);
  const auto hash = load(name).hash();
  const auto counts = load(name).fit.counts;
  for (const double part : {0.0, 0.05, 0.5, 0.9, 0.999}) {
    std::ofstream(path("cut.h5"), std::ios::binary) << raw.substr(0, static_cast<std::size_t>(part * static_cast<double>(raw.size())));
    expect_refused(path("cut.h5"), "cut.h5");
  }
  const Rng rng(1, "flips");
  std::size_t refused = 0;
  for (std::uint64_t i = 0; i < 300; ++i) {
    auto damaged = raw;
    damaged[rng.below(raw.size(), i, 0)] ^= static_cast<char>(1 << rng.below(8, i, 1));
    std::ofstream(path("flip.h5"), std::ios::binary) << damaged;
    try {
      const auto t = load(path("flip.h5"));
      EXPECT_EQ(t.hash(), hash);
      EXPECT_EQ(t.fit.counts, counts);
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), Exit::input) << e.what();
      ++refused;
    }
  }
  EXPECT_GT(refused, 20u);
}

TEST_F(File, DoesNotOverwriteUnasked) {
  const auto name = saved(TokenizerKind::formula);
  EXPECT_THROW(store::Output(name, false), Error);
}

}  // namespace
}  // namespace bl::tokens
