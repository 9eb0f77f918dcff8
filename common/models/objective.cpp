#include "models/objective.hpp"

#include <algorithm>
#include <cmath>

#include "base/error.hpp"
#include "base/rng.hpp"
#include "models/classifier.hpp"
#include "models/fingerprint.hpp"
#include "nn/arena.hpp"

namespace bl::models {
namespace {

constexpr const char* settings_prefix = "model/";

std::vector<std::int64_t> integers(const auto& values) { return {values.begin(), values.end()}; }

// A few events that any model of this configuration can read: not physics, only something to answer.
Examples fingerprint_examples(const EncoderConfig& config) {
  const Rng rng(7, "fingerprint");
  Examples data;
  for (std::uint64_t e = 0; e < fingerprint_events; ++e) {
    const std::uint64_t n = std::min<std::uint64_t>(2 + 3 * e, config.positions);
    for (std::uint64_t i = 0; i < n; ++i) {
      data.tokens.push_back(static_cast<std::int32_t>(rng.below(config.vocabulary, e, 2 * i)));
      data.positions.push_back(static_cast<std::int32_t>(i));
      if (config.types > 0) data.types.push_back(static_cast<std::uint8_t>(rng.below(config.types, e, 2 * i + 1)));
    }
    data.offsets.push_back(data.tokens.size());
  }
  return data;
}

// log p of every token and of stop, one sequence after the other.
std::vector<float> answers_of(const GptModel<float>& model, const Examples& data) {
  NextTokenInput input;
  for (std::size_t e = 0; e < data.events(); ++e) input.add(model.config(), data.tokens_of(e), data.labels.empty() ? 0 : data.labels[e]);
  std::vector<float> answers(input.targets.size());
  nn::Arena arena;
  nn::Tape<float> tape(arena, model.params());
  model.loss(tape, input, 0, answers);
  return answers;
}

}  // namespace

void MaskedTokens::reserve(std::size_t shards) {
  if (inputs_.size() >= shards) return;
  inputs_.resize(shards);
  masks_.resize(shards);
}

void MaskedTokens::pack(std::size_t s, const Examples& from, std::span<const std::uint32_t> events, const Masker& mask, std::uint64_t epoch) {
  bl::check(mask || from.mask.size() == from.tokens.size(), "training without a mask");
  MaskedInput& input = inputs_[s];
  input.clear();
  for (const std::uint32_t e : events) {
    const std::size_t first = from.offsets[e], n = from.offsets[e + 1] - first;
    if (!mask) {
      input.add(model_.config(), from, e, std::span(from.mask).subspan(first, n));
      continue;
    }
    masks_[s].assign(n, 0);
    mask(e, epoch, masks_[s]);
    input.add(model_.config(), from, e, masks_[s]);
  }
}

void MaskedTokens::put_fingerprint(State& state, std::span<const float> weights, Pool& pool) const {
  MaskedTokenModel<float> used(model_.config());
  std::ranges::copy(weights, used.params().values().begin());
  const Examples examples = fingerprint_examples(model_.config());
  const std::vector<float> answers = Scorer(used, pool).token_log_probabilities(examples, {});
  put_fingerprint_examples(state, examples);
  state.put("fingerprint/positions", integers(examples.positions));
  if (!examples.types.empty()) state.put("fingerprint/types", integers(examples.types));
  state.put("fingerprint/log_probability", answers);
}

Texts NextTokens::settings() const {
  Texts settings = model_.config().to_map();
  settings["objective"] = kind();
  return settings;
}

void NextTokens::reserve(std::size_t shards) {
  if (inputs_.size() < shards) inputs_.resize(shards);
}

void NextTokens::pack(std::size_t s, const Examples& from, std::span<const std::uint32_t> events, const Masker&, std::uint64_t) {
  NextTokenInput& input = inputs_[s];
  input.clear();
  for (const std::uint32_t e : events) input.add(model_.config(), from.tokens_of(e), model_.config().classes > 0 ? from.labels[e] : 0);
}

void NextTokens::put_fingerprint(State& state, std::span<const float> weights, Pool&) const {
  GptModel<float> used(model_.config());
  std::ranges::copy(weights, used.params().values().begin());
  const Examples examples = fingerprint_examples(model_.config());
  put_fingerprint_examples(state, examples);
  if (!examples.labels.empty()) state.put("fingerprint/labels", integers(examples.labels));
  state.put("fingerprint/log_probability", answers_of(used, examples));
}

std::unique_ptr<Objective> make_objective(const Texts& settings) {
  const auto it = settings.find("objective");
  const std::string kind = it == settings.end() ? "masked-token" : it->second;
  if (kind == "masked-token") return std::make_unique<MaskedTokens>(EncoderConfig::from_map(settings));
  if (kind == "next-token") return std::make_unique<NextTokens>(GptConfig::from_map(settings));
  if (kind == "classification") return std::make_unique<Classification>(ClassifierConfig::from_map(settings));
  fail(Exit::input, "the model was trained for '{}', which this program does not know", kind);
}

std::unique_ptr<MaskedTokenModel<float>> load_model(const State& state) {
  auto model = std::make_unique<MaskedTokenModel<float>>(EncoderConfig::from_map(texts_below(settings_prefix, state.texts)));
  load_weights(state, model->params());
  Examples examples = stored_examples(state);
  const std::size_t n = examples.tokens.size();
  for (const std::int64_t x : state.values_of<std::int64_t>("fingerprint/positions", n)) examples.positions.push_back(static_cast<std::int32_t>(x));
  if (model->config().types > 0)
    for (const std::int64_t x : state.values_of<std::int64_t>("fingerprint/types", n)) examples.types.push_back(static_cast<std::uint8_t>(x));
  examples.check(model->config());
  Pool pool(1);
  compare_answers(state, Scorer(*model, pool).token_log_probabilities(examples, {}));
  return model;
}

std::unique_ptr<GptModel<float>> load_gpt(const State& state) {
  auto model = std::make_unique<GptModel<float>>(GptConfig::from_map(texts_below(settings_prefix, state.texts)));
  load_weights(state, model->params());
  Examples examples = stored_examples(state);
  if (model->config().classes > 0)
    for (const std::int64_t x : state.values_of<std::int64_t>("fingerprint/labels", examples.events())) examples.labels.push_back(static_cast<std::int32_t>(x));
  examples.check(model->config());
  compare_answers(state, answers_of(*model, examples));
  return model;
}

}  // namespace bl::models
