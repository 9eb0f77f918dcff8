// The scores as functions of a model's log-probabilities.
#include <gtest/gtest.h>

#include <cmath>

#include "nn/arena.hpp"
#include "nn/tape.hpp"
#include "score/score.hpp"
#include "score/summary.hpp"
#include "support.hpp"

namespace {

using namespace bl;

const score::Model& model(bool event_level = true, bool types = false) {
  static const score::Model models[] = {score::from_state(test::trained_state(false), test::tokenizer_meta(), "model.h5"),
                                        score::from_state(test::trained_state(true), test::tokenizer_meta(), "model.h5"),
                                        score::from_state(test::trained_state(true, true), test::tokenizer_meta(), "typed.h5")};
  return models[types ? 2 : event_level ? 1 : 0];
}

Batch scored(const Batch& tokens, const score::Model& m, const score::Options& options = {}, std::uint64_t seed = 1, std::size_t threads = 1,
             std::uint64_t* unscored = nullptr) {
  Pool pool(threads);
  models::Scorer scorer(*m.network, pool);
  std::uint64_t none = 0;
  const Batch out = score::score(tokens, m, options, Rng(seed, "bl-score"), scorer, unscored ? *unscored : none);
  schema::check(schema::get("scores/1"), out, "scores");
  return out;
}

// log p of token t of event e with it alone hidden, straight from the model's logits.
double direct(const score::Model& m, const models::Examples& x, std::size_t e, std::size_t t) {
  models::MaskedInput input;
  input.add_one(m.network->config(), x, e, t);
  nn::Arena arena;
  nn::Tape<float> tape(arena, m.network->params());
  const auto logits = m.network->logits(tape, input);
  double largest = -1e30, sum = 0;
  for (std::size_t i = 0; i < logits->width; ++i) largest = std::max(largest, static_cast<double>(logits->value[i]));
  for (std::size_t i = 0; i < logits->width; ++i) sum += std::exp(logits->value[i] - largest);
  return logits->value[x.tokens[x.offsets[e] + t]] - largest - std::log(sum);
}

TEST(Score, TokenProbabilitiesAreTheModels) {
  const auto events = test::token_events(30, 1);
  for (const bool types : {false, true}) {
    const Batch out = scored(test::token_batch(events, 0, 30), model(true, types));
    const auto logp = out.get<float>("token_logp");
    for (std::size_t e = 0; e < 30; ++e)
      for (std::size_t t = events.examples.offsets[e]; t < events.examples.offsets[e + 1]; ++t)
        EXPECT_NEAR(logp[t], direct(model(true, types), events.examples, e, t - events.examples.offsets[e]), 2e-5);
  }
}

TEST(Score, CombinationsAreAsDefined) {
  const auto events = test::token_events(50, 2);
  const Batch out = scored(test::token_batch(events, 0, 50), model(), {3, true});
  const auto logp = out.get<float>("token_logp");
  const auto of = [&](const char* name) { return out.get<float>(std::string("score_") + name); };
  for (std::size_t e = 0; e < 50; ++e) {
    std::vector<double> l, particles;
    double prob = 0, sum = 0, unigram = 0, counts = 0;
    for (std::size_t t = events.examples.offsets[e]; t < events.examples.offsets[e + 1]; ++t) {
      l.push_back(logp[t]);
      sum += logp[t];
      prob += std::exp(static_cast<double>(logp[t]));
      unigram += model().unigram[static_cast<std::size_t>(events.examples.tokens[t])];
      if (events.category[t] != 0) particles.push_back(logp[t]);
      else counts += logp[t];
    }
    const double n = static_cast<double>(l.size());
    EXPECT_NEAR(of("mean_logp")[e], sum / n, 1e-5);
    EXPECT_NEAR(of("sum_logp")[e], sum, 1e-4);
    EXPECT_NEAR(of("mean_prob")[e], prob / n, 1e-6);
    EXPECT_NEAR(of("particles_mean_logp")[e], std::accumulate(particles.begin(), particles.end(), 0.0) / static_cast<double>(particles.size()), 1e-5);
    EXPECT_NEAR(of("counts_mean_logp")[e], counts, 1e-5);  // one event-level token
    EXPECT_NEAR(of("unigram_sum_logp")[e], unigram, 1e-4);
    EXPECT_NEAR(of("unigram_mean_logp")[e], unigram / n, 1e-5);
    EXPECT_TRUE(std::any_of(particles.begin(), particles.end(), [&](double p) { return static_cast<float>(p) == of("random_mask")[e]; }));
    std::sort(l.begin(), l.end());
    EXPECT_EQ(of("min_logp")[e], static_cast<float>(l[0]));
    const std::size_t k = std::min<std::size_t>(3, l.size());
    EXPECT_NEAR(of("worst_k")[e], std::accumulate(l.begin(), l.begin() + static_cast<std::ptrdiff_t>(k), 0.0) / static_cast<double>(k), 1e-5);
  }
  EXPECT_EQ(out.get<std::uint64_t>("event_id")[7], 5021u);
  EXPECT_EQ(out.text("process", 3), "sig");
  EXPECT_EQ(out.get<double>("weight")[0], 1.5);
  EXPECT_EQ(out.get<std::int32_t>("label")[3], 1);
}

TEST(Score, UnigramIsTheFrequencyAmongTheTargets) {
  const models::State state = test::trained_state(true);
  const auto& counts = std::get<std::vector<std::int64_t>>(state.find("training/target_counts")->values);
  const double total = static_cast<double>(std::accumulate(counts.begin(), counts.end(), std::int64_t{0})) + 29;
  for (std::size_t i = 0; i < counts.size(); ++i) EXPECT_NEAR(model().unigram[i], std::log((static_cast<double>(counts[i]) + 1) / total), 1e-12);
  double sum = 0;
  for (const double u : model().unigram) sum += std::exp(u);
  EXPECT_NEAR(sum, 1, 1e-12);
}

TEST(Score, DoesNotDependOnBatchesOrThreads) {
  const auto events = test::token_events(90, 3);
  const Batch whole = scored(test::token_batch(events, 0, 90), model());
  std::vector<Batch> parts;
  for (std::size_t first = 0; first < 90; first += 13)
    parts.push_back(scored(test::token_batch(events, first, std::min<std::size_t>(first + 13, 90)), model(), {}, 1, 3));
  Digest a, b;
  a.add(whole);
  for (const auto& p : parts) b.add(p);
  EXPECT_EQ(a, b);
}

TEST(Score, RandomMaskFollowsTheSeedAndTheEvent) {
  const auto events = test::token_events(60, 4);
  const Batch tokens = test::token_batch(events, 0, 60);
  const Batch first = scored(tokens, model(), {}, 1), again = scored(tokens, model(), {}, 1), other = scored(tokens, model(), {}, 2);
  const auto values = [](const Batch& b) {
    const auto v = b.get<float>("score_random_mask");
    return std::vector<float>(v.begin(), v.end());
  };
  EXPECT_EQ(values(first), values(again));
  EXPECT_NE(values(first), values(other));
}

TEST(Score, TokensThatWereNeverTargetsAreNotScored) {
  const auto events = test::token_events(40, 5);
  const score::Model& m = model(false);
  ASSERT_FALSE(m.event_level);
  const Batch out = scored(test::token_batch(events, 0, 40), m);
  EXPECT_FALSE(out.has("score_counts_mean_logp"));
  const auto logp = out.get<float>("token_logp");
  for (std::size_t t = 0; t < logp.size(); ++t) ASSERT_EQ(logp[t] == 0, events.category[t] == 0);
  for (std::size_t e = 0; e < 40; ++e) EXPECT_EQ(out.get<float>("score_mean_logp")[e], out.get<float>("score_particles_mean_logp")[e]);
}

TEST(Score, AnEventWithoutTokensIsCountedAndNotImprobable) {
  const auto events = test::token_events(10, 6, 4);
  std::uint64_t unscored = 0;
  const Batch out = scored(test::token_batch(events, 0, 10), model(), {}, 1, 1, &unscored);
  EXPECT_EQ(unscored, 1u);
  EXPECT_EQ(out.get<float>("score_mean_logp")[4], 0);
  EXPECT_EQ(out.get<float>("score_mean_prob")[4], 1);
  EXPECT_LT(out.get<float>("score_mean_logp")[5], 0);
  EXPECT_EQ(scored(test::token_batch(events, 0, 0), model()).events, 0u);
}

TEST(Score, SlimLeavesOutTheTokens) {
  const auto events = test::token_events(10, 6);
  const Batch full = scored(test::token_batch(events, 0, 10), model()), slim = scored(test::token_batch(events, 0, 10), model(), {3, false});
  EXPECT_FALSE(slim.has("token_logp"));
  EXPECT_FALSE(slim.has("token"));
  for (const auto& name : score::names(model())) EXPECT_EQ(full.at("score_" + name).value(3), slim.at("score_" + name).value(3));
}

TEST(Score, TokensOutOfTheModelsRangeAreNamed) {
  auto events = test::token_events(10, 7);
  events.examples.tokens[events.examples.offsets[6]] = 29;
  try {
    scored(test::token_batch(events, 4, 10), model());
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Exit::input);
    EXPECT_NE(std::string(e.what()).find("event 6: token 29"), std::string::npos) << e.what();
  }
}

TEST(Score, ModelsAreToldApart) {
  models::State state = test::trained_state(true);
  const std::string hash = score::from_state(state, test::tokenizer_meta(), "m").hash;
  EXPECT_EQ(hash, model().hash);
  EXPECT_NE(hash, model(false).hash);
  EXPECT_NE(hash, score::from_state(state, test::tokenizer_meta("cc11"), "m").hash);
  // How the weights came about does not change what the model is.
  state.texts["state/epoch"] = "77";
  EXPECT_EQ(hash, score::from_state(state, test::tokenizer_meta(), "m").hash);
}

TEST(Score, SummaryLooksAtNoTruth) {
  const auto events = test::token_events(200, 8);
  Batch labelled = test::token_batch(events, 0, 200), bare = test::token_batch(events, 0, 200, false);
  bare.set_text("process", std::vector<std::string>(200));
  score::Summary a(score::names(model())), b(score::names(model()));
  a.add(scored(labelled, model()));
  b.add(scored(bare, model()));
  EXPECT_EQ(a.json(), b.json());
  const auto json = a.json();
  EXPECT_EQ(json["events"], 200);
  double unigram_sum = 0;
  for (const auto& s : json["scores"]) {
    if (s["score"] == "n_objects") {
      EXPECT_DOUBLE_EQ(s["spearman_n_objects"].get<double>(), 1.0);
    }
    if (s["score"] == "unigram_sum_logp") unigram_sum = s["spearman_n_objects"];
  }
  EXPECT_LT(unigram_sum, -0.9);  // a sum of about equal terms counts them
  EXPECT_NE(a.text().find("n_objects *"), std::string::npos);
  EXPECT_EQ(score::Summary(score::names(model())).json()["events"], 0);
}

}  // namespace
