// Generation: what the model says at each step, the same bits however it is divided, and draws that follow the distribution.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <map>
#include <numeric>
#include <stdexcept>

#include "base/error.hpp"
#include "models/generator.hpp"
#include "nn/arena.hpp"
#include "nn/ops/linear.hpp"

namespace bl::models {
namespace {

GptConfig config_of(std::uint32_t vocabulary, std::uint32_t dim, std::uint32_t heads, std::uint32_t classes = 0) {
  GptConfig c;
  c.vocabulary = vocabulary;
  c.positions = 33;
  c.dim = dim;
  c.heads = heads;
  c.layers = 2;
  c.classes = classes;
  return c;
}

// Weights large enough that some tokens are much more probable than others.
std::unique_ptr<GptModel<float>> make_model(const GptConfig& config, float factor = 12, float stop_bias = 0) {
  auto model = std::make_unique<GptModel<float>>(config);
  model->init(5);
  for (const nn::ParamInfo& p : model->params().list())
    if (p.group != nn::Group::norm)
      for (float& x : model->params().of(p.at)) x *= factor;
  model->params().of(model->parts().head_bias)[static_cast<std::size_t>(config.stop_id())] = stop_bias;
  return model;
}

// Logits of every row of start and these tokens, by the forward of training.
std::vector<std::vector<float>> all_logits(const GptModel<float>& model, std::span<const std::int32_t> tokens, std::int32_t label) {
  NextTokenInput input;
  input.add(model.config(), tokens, label);
  nn::Arena arena;
  nn::Tape<float> tape(arena, model.params());
  const auto& parts = model.parts();
  const nn::Var<float> y = nn::linear(tape, model.hidden(tape, input), tape.param(parts.head_weight), tape.param(parts.head_bias));
  std::vector<std::vector<float>> rows;
  for (std::size_t r = 0; r < y->rows; ++r) rows.emplace_back(y->value + r * y->width, y->value + (r + 1) * y->width);
  return rows;
}

double log_probability(const std::vector<float>& logits, std::int32_t token) {
  double total = 0;
  for (const float l : logits) total += std::exp(static_cast<double>(l));
  return static_cast<double>(logits[static_cast<std::size_t>(token)]) - std::log(total);
}

std::vector<Sequence> generate(const GptModel<float>& model, GeneratorConfig config, std::size_t threads, std::size_t count, std::uint64_t first = 0,
                               const std::function<Beginning(std::uint64_t)>& begin = {}) {
  Pool pool(threads);
  config.keep_log_probability = true;
  return Generator(model, config, Rng(9, "bl-generate"), pool).generate(first, count, begin);
}

bool same(const Sequence& a, const Sequence& b) { return a.tokens == b.tokens && a.stopped == b.stopped && a.log_probability == b.log_probability; }

TEST(Generator, greedy_is_the_best_of_the_full_forward_and_log_probabilities_agree) {
  for (const GptConfig& config : {config_of(50, 24, 3), config_of(300, 20, 2, 3), config_of(11, 33, 1), config_of(90, 128, 4)}) {
    const auto model = make_model(config);
    GeneratorConfig greedy;
    greedy.sampling.top_k = 1;
    greedy.batch = 5;
    const auto begin = [&](std::uint64_t i) {
      static const std::vector<std::int32_t> prompts{3, 1, 4, 1, 5, 9, 2, 6};
      return Beginning{std::span(prompts).first(i % 8), config.classes > 0 ? static_cast<std::int32_t>(i % config.classes) : 0};
    };
    const std::vector<Sequence> sequences = generate(*model, greedy, 2, 12, 0, begin);
    std::size_t compared = 0;
    for (std::size_t i = 0; i < sequences.size(); ++i) {
      const Sequence& s = sequences[i];
      ASSERT_LE(s.tokens.size(), 32u);
      const auto logits = all_logits(*model, s.tokens, begin(i).label);
      const std::size_t prompt = begin(i).prompt.size();
      ASSERT_TRUE(std::ranges::equal(begin(i).prompt, std::span(s.tokens).first(prompt)));
      for (std::size_t t = prompt; t < s.tokens.size() + (s.stopped ? 1 : 0); ++t, ++compared) {
        auto row = logits[t];
        const std::int32_t chosen = t < s.tokens.size() ? s.tokens[t] : config.stop_id();
        EXPECT_NEAR(s.log_probability[t - prompt], log_probability(row, chosen), 2e-4) << "sequence " << i << ", token " << t;
        row[static_cast<std::size_t>(config.start_id())] = -1e30f;
        EXPECT_EQ(chosen, std::ranges::max_element(row) - row.begin()) << "sequence " << i << ", token " << t;
      }
    }
    EXPECT_GT(compared, 50u);
  }
}

TEST(Generator, sampled_log_probabilities_are_those_of_the_full_forward) {
  const auto model = make_model(config_of(60, 32, 4, 2), 8, 2);
  GeneratorConfig c;
  c.sampling.temperature = 1.3;
  c.sampling.top_p = 0.95;
  const auto begin = [](std::uint64_t i) { return Beginning{{}, static_cast<std::int32_t>(i % 2)}; };
  std::size_t stopped = 0;
  for (std::uint64_t i = 0; const Sequence& s : generate(*model, c, 2, 40, 0, begin)) {
    stopped += s.stopped;
    ASSERT_EQ(s.log_probability.size(), s.tokens.size() + (s.stopped ? 1 : 0));
    const auto logits = all_logits(*model, s.tokens, begin(i++).label);
    for (std::size_t t = 0; t < s.log_probability.size(); ++t)
      ASSERT_NEAR(s.log_probability[t], log_probability(logits[t], t < s.tokens.size() ? s.tokens[t] : model->config().stop_id()), 2e-4);
  }
  EXPECT_GT(stopped, 5u);
  EXPECT_LT(stopped, 40u) << "sequences of every kind are needed";
}

TEST(Generator, batch_threads_and_pieces_do_not_change_a_bit) {
  const auto model = make_model(config_of(200, 48, 4), 6, 3);
  GeneratorConfig c;
  c.sampling.top_k = 50;
  const std::vector<Sequence> expected = generate(*model, c, 1, 150);
  std::map<std::size_t, std::size_t> lengths;
  for (const Sequence& s : expected) ++lengths[s.tokens.size()];
  EXPECT_GT(lengths.size(), 5u) << "sequences of one length show nothing";
  for (const auto& [batch, threads] : {std::pair<std::uint32_t, std::size_t>{1, 1}, {7, 1}, {64, 2}, {3, 3}, {1000, 4}}) {
    c.batch = batch;
    const std::vector<Sequence> other = generate(*model, c, threads, 150);
    for (std::size_t i = 0; i < 150; ++i) ASSERT_TRUE(same(other[i], expected[i])) << "sequence " << i << ", batch " << batch << ", " << threads << " threads";
  }
  // and with one generator for several pieces
  Pool pool(2);
  c.keep_log_probability = true;
  Generator generator(*model, c, Rng(9, "bl-generate"), pool);
  for (const std::uint64_t first : {100u, 0u, 50u}) {
    const auto piece = generator.generate(first, 50);
    for (std::size_t i = 0; i < 50; ++i) ASSERT_TRUE(same(piece[i], expected[first + i])) << "sequence " << first + i;
  }
}

TEST(Generator, a_sequence_goes_on_from_its_own_beginning) {
  const auto model = make_model(config_of(80, 32, 2), 8, 1);
  const std::vector<Sequence> whole = generate(*model, {}, 2, 30);
  const auto begin = [&](std::uint64_t i) { return Beginning{std::span(whole[i].tokens).first(whole[i].tokens.size() / 2), 0}; };
  const std::vector<Sequence> again = generate(*model, {}, 2, 30, 0, begin);
  for (std::size_t i = 0; i < 30; ++i) {
    EXPECT_EQ(again[i].tokens, whole[i].tokens);
    EXPECT_EQ(again[i].stopped, whole[i].stopped);
  }
}

TEST(Generator, length_stop_and_forbidden_ids) {
  const GptConfig config = config_of(20, 16, 2);
  const auto eager = make_model(config, 4, 40), endless = make_model(config, 4, -40);
  for (const Sequence& s : generate(*eager, {}, 1, 5)) {
    EXPECT_TRUE(s.tokens.empty());
    EXPECT_TRUE(s.stopped);
  }
  for (const Sequence& s : generate(*endless, {}, 1, 5)) {
    EXPECT_EQ(s.tokens.size(), 32u);
    EXPECT_FALSE(s.stopped);
  }
  GeneratorConfig c;
  c.max_length = 7;
  c.never = {0, 1, 2};
  for (const Sequence& s : generate(*endless, c, 1, 50)) {
    EXPECT_EQ(s.tokens.size(), 7u);
    for (const std::int32_t t : s.tokens) EXPECT_TRUE(t >= 3 && t < config.start_id()) << t;
  }
  // A stop of little probability is left out by the threshold.
  const auto rare = make_model(config, 4, -1);
  std::size_t with = 0, without = 0;
  for (const Sequence& s : generate(*rare, {}, 1, 200)) with += s.stopped;
  c = {};
  c.sampling.stop_threshold = 1;
  for (const Sequence& s : generate(*rare, c, 1, 200)) without += s.stopped;
  EXPECT_GT(with, 20u);
  EXPECT_EQ(without, 0u);
  // A prompt as long as a sequence may be leaves nothing to do.
  const std::vector<std::int32_t> prompt(7, 4);
  c = {};
  c.max_length = 7;
  const auto full = generate(*endless, c, 2, 3, 0, [&](std::uint64_t) { return Beginning{prompt, 0}; });
  for (const Sequence& s : full) EXPECT_EQ(s.tokens, prompt);
  EXPECT_TRUE(generate(*endless, c, 2, 0).empty());
}

TEST(Generator, what_a_callback_throws_ends_the_generation) {
  const auto model = make_model(config_of(20, 16, 2), 4, -40);
  Pool pool(2);
  Generator generator(*model, {}, Rng(1, "bl-generate"), pool);
  std::atomic<int> steps = 0;
  EXPECT_THROW(generator.generate(0, 100, {},
                                  [&](std::size_t) {
                                    if (++steps > 10) throw std::runtime_error("enough");
                                  }),
               std::runtime_error);
  EXPECT_EQ(generator.generate(0, 3).size(), 3u) << "and may be used again";
}

// χ² of counts against probabilities; tokens that are expected less than five times are counted together.
void expect_follows(const std::map<std::int32_t, std::size_t>& counts, const std::map<std::int32_t, double>& probability, std::size_t draws, const char* what) {
  double chi2 = 0, rest = 0, rest_seen = 0;
  std::size_t bins = 0, seen = 0;
  for (const auto& [token, n] : counts) {
    EXPECT_TRUE(probability.contains(token) && probability.at(token) > 0) << what << ": token " << token << " was drawn";
    seen += n;
  }
  EXPECT_EQ(seen, draws);
  for (const auto& [token, p] : probability) {
    const auto it = counts.find(token);
    const double n = it == counts.end() ? 0 : static_cast<double>(it->second), expected = p * static_cast<double>(draws);
    if (expected < 5) {
      rest += expected;
      rest_seen += n;
      continue;
    }
    ++bins;
    chi2 += (n - expected) * (n - expected) / expected;
  }
  if (rest >= 5) {
    ++bins;
    chi2 += (rest_seen - rest) * (rest_seen - rest) / rest;
  }
  ASSERT_GE(bins, 2u) << what;
  // Wilson and Hilferty's cube root is normal: 4.3 deviations, a chance of 1e-5.
  const double k = static_cast<double>(bins - 1), z = (std::cbrt(chi2 / k) - (1 - 2 / (9 * k))) / std::sqrt(2 / (9 * k));
  EXPECT_LT(z, 4.3) << what << ": chi2 " << chi2 << " for " << k << " degrees of freedom";
}

// The definition, written out: probabilities in double, sorted.
std::map<std::int32_t, double> expected_distribution(const std::vector<float>& logits, const Sampling& s, const std::vector<std::int32_t>& never,
                                                     std::int32_t stop) {
  std::vector<std::pair<double, std::int32_t>> p;
  double total = 0;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    if (std::ranges::find(never, static_cast<std::int32_t>(i)) != never.end()) continue;
    p.emplace_back(std::exp(static_cast<double>(logits[i]) / s.temperature), static_cast<std::int32_t>(i));
    total += p.back().first;
  }
  for (auto& x : p) x.first /= total;
  std::erase_if(p, [&](const auto& x) { return x.second == stop && x.first < s.stop_threshold; });
  std::ranges::sort(p, [](const auto& a, const auto& b) { return a.first > b.first || (a.first == b.first && a.second < b.second); });
  if (s.top_k > 0 && p.size() > s.top_k) p.resize(s.top_k);
  total = 0;
  for (const auto& x : p) total += x.first;
  double sum = 0;
  std::size_t kept = 0;
  while (kept < p.size() && (kept == 0 || sum < s.top_p * total)) sum += p[kept++].first;
  p.resize(kept);
  std::map<std::int32_t, double> result;
  for (const auto& [x, id] : p) result[id] = x / sum;
  return result;
}

TEST(Sampler, draws_follow_the_distribution) {
  const Rng rng(17, "draws");
  std::size_t number = 0;
  for (const std::size_t vocabulary : {9u, 400u}) {
    std::vector<float> logits(vocabulary);
    for (std::size_t i = 0; i < vocabulary; ++i) logits[i] = static_cast<float>(1.5 * rng.normal(999, i));
    logits[3] = logits[1];  // equals
    const auto stop = static_cast<std::int32_t>(vocabulary) - 1;
    const std::vector<std::int32_t> never{stop - 1, 2};
    std::vector<Sampling> settings(11);
    settings[1].temperature = 0.5;
    settings[2].temperature = 2.5;
    settings[3].top_k = 4;
    settings[4].top_p = 0.6;
    settings[5].top_p = 0.97;
    settings[6].stop_threshold = 0.9;
    settings[7] = {0.7, 6, 0.8, 0};
    settings[8] = {1.5, 0, 0.5, 0.9};
    settings[9] = {1, 5, 1, 0.9};
    settings[10].top_k = static_cast<std::uint32_t>(vocabulary);
    for (const Sampling& s : settings) {
      constexpr std::size_t draws = 40'000;
      Sampler sampler(s, vocabulary, never, stop);
      std::vector<float> row = logits;
      std::map<std::int32_t, std::size_t> counts;
      ++number;
      for (std::size_t i = 0; i < draws; ++i) ++counts[sampler.draw(row.data(), rng.uniform(number, i))];
      EXPECT_EQ(row, logits) << "logits are put back";
      const std::string what =
          fmt::format("vocabulary {}, temperature {}, top-k {}, top-p {}, threshold {}", vocabulary, s.temperature, s.top_k, s.top_p, s.stop_threshold);
      expect_follows(counts, expected_distribution(logits, s, never, stop), draws, what.c_str());
    }
  }
}

TEST(Sampler, ends_of_the_interval_and_extremes) {
  std::vector<float> logits{-2, 1, 1, -3, 0.5f};
  Sampler all({}, 5, {}, 4);
  EXPECT_EQ(all.draw(logits.data(), 0), 0);
  EXPECT_EQ(all.draw(logits.data(), 1 - 0x1p-53), 4);
  EXPECT_EQ(Sampler({1, 1, 1, 0}, 5, {}, 4).draw(logits.data(), 0.99), 1) << "of equals the first";
  EXPECT_EQ(Sampler({1e-300, 0, 1, 0}, 5, {1}, 4).draw(logits.data(), 0.99), 2);
  EXPECT_EQ(Sampler({1, 0, 1e-9, 0}, 5, {}, 4).draw(logits.data(), 0.99), 1);
  for (float& x : logits) x += 2e4f;
  EXPECT_EQ(Sampler({1, 1, 1, 0}, 5, {}, 4).draw(logits.data(), 0.5), 1);
  for (const Sampling& bad : {Sampling{0, 0, 1, 0}, Sampling{-1, 0, 1, 0}, Sampling{1, 0, 0, 0}, Sampling{1, 0, 1.1, 0}, Sampling{1, 0, 1, -0.1}}) {
    try {
      bad.validate();
      ADD_FAILURE() << "accepted";
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), Exit::usage);
    }
  }
}

TEST(Generator, first_tokens_follow_the_model) {
  const auto model = make_model(config_of(12, 16, 2), 6);
  GeneratorConfig c;
  c.max_length = 1;
  c.sampling.temperature = 0.8;
  constexpr std::size_t draws = 30'000;
  std::map<std::int32_t, std::size_t> counts;
  for (const Sequence& s : generate(*model, c, 2, draws)) ++counts[s.stopped ? model->config().stop_id() : s.tokens.at(0)];
  const std::vector<float> logits = all_logits(*model, {}, 0)[0];
  expect_follows(counts, expected_distribution(logits, c.sampling, {model->config().start_id()}, model->config().stop_id()), draws, "first tokens");
}

TEST(Generator, settings_that_the_model_does_not_allow) {
  const GptConfig model = config_of(20, 16, 2);
  const auto refused = [&](auto change, const char* says) {
    GeneratorConfig c;
    change(c);
    try {
      c.validate(model);
      ADD_FAILURE() << says << " was accepted";
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), Exit::usage);
      EXPECT_NE(std::string(e.what()).find(says), std::string::npos) << e.what();
    }
  };
  refused([](GeneratorConfig& c) { c.max_length = 33; }, "33 tokens, the model reads at most 32");
  refused([](GeneratorConfig& c) { c.batch = 0; }, "the batch is 0");
  refused([](GeneratorConfig& c) { c.sampling.top_k = 21; }, "top-k is 21, the model knows 20 ids");
  refused([](GeneratorConfig& c) { c.sampling.temperature = 0; }, "the temperature is 0");
}

}  // namespace
}  // namespace bl::models
