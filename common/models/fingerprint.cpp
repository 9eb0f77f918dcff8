#include "models/fingerprint.hpp"

#include <algorithm>
#include <cmath>

#include "base/error.hpp"
#include "base/rng.hpp"

namespace bl::models {

Examples fingerprint_examples(const GptConfig& config) {
  const Rng rng(7, "fingerprint");
  Examples data;
  for (std::uint64_t e = 0; e < fingerprint_events; ++e) {
    const std::uint64_t n = std::min<std::uint64_t>(1 + 4 * e, config.positions - 1);
    for (std::uint64_t i = 0; i < n; ++i) data.tokens.push_back(static_cast<std::int32_t>(rng.below(static_cast<std::uint64_t>(config.start_id()), e, i)));
    data.offsets.push_back(data.tokens.size());
    if (config.classes > 0) data.labels.push_back(static_cast<std::int32_t>(rng.below(config.classes, e, 1000)));
  }
  return data;
}

void put_fingerprint_examples(State& state, const Examples& examples) {
  state.put("fingerprint/offsets", std::vector<std::int64_t>(examples.offsets.begin(), examples.offsets.end()));
  state.put("fingerprint/tokens", std::vector<std::int64_t>(examples.tokens.begin(), examples.tokens.end()));
}

Examples stored_examples(const State& state) {
  Examples examples;
  const auto& offsets = state.values_of<std::int64_t>("fingerprint/offsets", fingerprint_events + 1);
  const bool good = offsets.front() == 0 && std::ranges::is_sorted(offsets) && offsets.back() <= 1000;
  if (!good) fail(Exit::input, "the model file's fingerprint has damaged offsets");
  examples.offsets.assign(offsets.begin(), offsets.end());
  for (const std::int64_t x : state.values_of<std::int64_t>("fingerprint/tokens", examples.offsets.back()))
    examples.tokens.push_back(static_cast<std::int32_t>(x));
  return examples;
}

void compare_answers(const State& state, std::span<const float> answers) {
  const auto& expected = state.values_of<float>("fingerprint/log_probability", answers.size());
  for (std::size_t i = 0; i < answers.size(); ++i)
    if (!(std::abs(answers[i] - expected[i]) <= 1e-3f * std::max(1.0f, std::abs(expected[i]))))
      fail(Exit::input, "the model does not answer as it did when it was saved: log-probability {} instead of {} for token {} of its fingerprint", answers[i],
           expected[i], i);
}

void load_weights(const State& state, nn::Params<float>& params) {
  for (const nn::ParamInfo& p : params.list()) {
    const auto& v = state.values_of<float>("weights/" + p.name, p.at.size());
    std::ranges::copy(v, params.of(p.at).begin());
  }
}

}  // namespace bl::models
