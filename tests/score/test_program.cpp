// bl-score as a program, and with bl-threshold behind it.
#include <gtest/gtest.h>

#include "support.hpp"

namespace {

using namespace bl;
using namespace bl::test;

Digest digest_of(const std::string& path) {
  Digest d;
  for (const auto& b : read_stream(path)) d.add(b);
  return d;
}

class ScoreProgram : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { state_ = new models::State(trained_state(true)); }
  static void TearDownTestSuite() { delete state_; }
  void SetUp() override { write_model(f / "model.h5", *state_, tokenizer_meta()); }
  static models::State* state_;
  Folder f;
};
models::State* ScoreProgram::state_ = nullptr;

TEST_F(ScoreProgram, WritesScoresAndASummary) {
  write_tokens(f / "tokens.bl", token_events(300, 1), tokenizer_meta());
  const Outcome o = run(f, "bl-score --model model.h5 --in tokens.bl --out scores.bl --report sum.json");
  ASSERT_EQ(o.code, 0) << o.err;
  EXPECT_EQ(o.err, "");
  EXPECT_EQ(o.out, "");
  EXPECT_EQ(digest_of(f / "scores.bl").events, 300u);
  EXPECT_EQ(nlohmann::json::parse(read_file(f / "sum.json"))["events"], 300);
  ASSERT_EQ(run(f, "bl-score --model model.h5 --in tokens.bl --out x.bl --report sum.txt --slim").code, 0);
  EXPECT_NE(read_file(f / "sum.txt").find("unigram_mean_logp *"), std::string::npos);
  EXPECT_EQ(run(f, "bl-score --model model.h5 --in tokens.bl --out y.bl --report sum.txt").code, 4);
}

TEST_F(ScoreProgram, GivesTheSameByThreadsBatchesAndPipes) {
  const auto events = token_events(300, 2);
  write_tokens(f / "a.bl", events, tokenizer_meta(), 64);
  write_tokens(f / "b.bl", events, tokenizer_meta(), 11);
  ASSERT_EQ(run(f, "bl-score --model model.h5 --in a.bl --out one.bl --threads 1 --seed 3").code, 0);
  ASSERT_EQ(run(f, "bl-score --model model.h5 --in a.bl --out three.bl --threads 3 --seed 3").code, 0);
  ASSERT_EQ(run(f, "bl-score --model model.h5 --seed 3 < b.bl | cat > piped.bl").code, 0);
  EXPECT_EQ(digest_of(f / "one.bl"), digest_of(f / "three.bl"));
  EXPECT_EQ(digest_of(f / "one.bl"), digest_of(f / "piped.bl"));
  ASSERT_EQ(run(f, "bl-score --model model.h5 --in a.bl --out seed.bl --seed 4").code, 0);
  EXPECT_FALSE(digest_of(f / "one.bl") == digest_of(f / "seed.bl"));  // random_mask
}

TEST_F(ScoreProgram, RefusesWhatDoesNotBelongTogether) {
  const auto events = token_events(50, 3);
  write_tokens(f / "tokens.bl", events, tokenizer_meta());
  write_tokens(f / "other.bl", events, tokenizer_meta("dd22"));
  write_tokens(f / "unknown.bl", events, nullptr);
  auto wild = events;
  wild.examples.tokens[wild.examples.offsets[40]] = 31;
  write_tokens(f / "wild.bl", wild, tokenizer_meta());
  write_stream(f / "scores.bl", sample(20, 0.5, 1, 1));
  write_model(f / "bare.h5", *state_, nullptr);
  models::State damaged = *state_;
  for (auto& array : damaged.arrays)
    if (array.name.starts_with("weights/")) std::get<std::vector<float>>(array.values)[0] += 3;
  write_model(f / "damaged.h5", damaged, tokenizer_meta());
  models::State empty;
  write_model(f / "empty.h5", empty, tokenizer_meta());
  write_file(f / "text.h5", "not HDF5", false);
  const std::string whole = read_file(f / "tokens.bl");
  write_file(f / "cut.bl", whole.substr(0, whole.size() / 2), false);

  struct Case {
    std::string what, command, expected;
    int code;
  };
  const Case cases[] = {
      {"another codebook", "--model model.h5 --in other.bl", "codebook dd22, and 'model.h5' was trained on codebook bb00", 3},
      {"no codebook", "--model model.h5 --in unknown.bl", "does not say which codebook", 3},
      {"a token out of range", "--model model.h5 --in wild.bl", "event 40: token 31", 3},
      {"not tokens", "--model model.h5 --in scores.bl", "expected", 3},
      {"cut short", "--model model.h5 --in cut.bl", "cut.bl", 6},
      {"no model", "--model none.h5 --in tokens.bl", "none.h5", 3},
      {"not HDF5", "--model text.h5 --in tokens.bl", "text.h5", 3},
      {"a model without codebook", "--model bare.h5 --in tokens.bl", "'bare.h5' does not say which codebook", 3},
      {"a model that answers otherwise", "--model damaged.h5 --in tokens.bl", "damaged.h5", 3},
      {"a model without weights", "--model empty.h5 --in tokens.bl", "empty.h5", 3},
      {"no --model", "--in tokens.bl", "--model", 2},
      {"k of nothing", "--model model.h5 --in tokens.bl --k 0", "--k", 2},
  };
  for (const Case& c : cases) {
    const Outcome o = run(f, "bl-score --out new.bl " + c.command);
    EXPECT_EQ(o.code, c.code) << c.what << ": " << o.err;
    EXPECT_NE(o.err.find(c.expected), std::string::npos) << c.what << ": " << o.err;
    EXPECT_EQ(std::count(o.err.begin(), o.err.end(), '\n'), 1) << c.what << ": " << o.err;
    EXPECT_FALSE(std::filesystem::exists(f / "new.bl")) << c.what;
  }
}

TEST_F(ScoreProgram, EmptyStreamsAndEventsPass) {
  write_tokens(f / "none.bl", token_events(0, 1), tokenizer_meta());
  ASSERT_EQ(run(f, "bl-score --model model.h5 --in none.bl --out empty.bl --report none.txt").code, 0);
  EXPECT_EQ(digest_of(f / "empty.bl").events, 0u);
  write_tokens(f / "gap.bl", token_events(20, 1, 7), tokenizer_meta());
  const Outcome o = run(f, "bl-score --model model.h5 --in gap.bl --out gap_scores.bl");
  EXPECT_EQ(o.code, 0);
  EXPECT_NE(o.err.find("1 events have no token"), std::string::npos) << o.err;
}

TEST_F(ScoreProgram, AThresholdIsBoundToModelAndOptions) {
  write_tokens(f / "tokens.bl", token_events(600, 4), tokenizer_meta());
  ASSERT_EQ(run(f, "bl-score --model model.h5 --in tokens.bl --out cr.bl").code, 0);
  const Outcome fit = run(f, "bl-threshold --fit --in cr.bl --save thr.json --score worst_k --signal sig --bootstrap 20 --orientation low");
  ASSERT_EQ(fit.code, 0) << fit.err;
  EXPECT_NE(fit.out.find("unigram_mean_logp *"), std::string::npos);
  // Another k is another score.
  ASSERT_EQ(run(f, "bl-score --model model.h5 --in tokens.bl --out k5.bl --k 5").code, 0);
  const Outcome k5 = run(f, "bl-threshold --with thr.json --in k5.bl --out a.bl");
  EXPECT_EQ(k5.code, 3);
  EXPECT_NE(k5.err.find("\"k\":3"), std::string::npos) << k5.err;
  // So is another model.
  write_model(f / "other.h5", trained_state(false), tokenizer_meta());
  ASSERT_EQ(run(f, "bl-score --model other.h5 --in tokens.bl --out other.bl").code, 0);
  const Outcome other = run(f, "bl-threshold --with thr.json --in other.bl --out a.bl");
  EXPECT_EQ(other.code, 3);
  EXPECT_NE(other.err.find("model"), std::string::npos) << other.err;
  const Outcome same = run(f, "bl-threshold --with thr.json --in cr.bl --out a.bl --bootstrap 20");
  EXPECT_EQ(same.code, 0) << same.err;
}

}  // namespace
