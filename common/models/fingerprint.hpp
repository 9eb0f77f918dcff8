// A few inputs with a model's answers, kept in its file and verified when it is loaded; and its weights by name.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "models/examples.hpp"
#include "models/gpt.hpp"
#include "models/state.hpp"
#include "nn/params.hpp"

namespace bl::models {

inline constexpr std::uint64_t fingerprint_events = 4;

// Events that any model of this configuration can read: not physics, only something to answer.
Examples fingerprint_examples(const GptConfig& config);
// As "fingerprint/offsets" and "fingerprint/tokens".
void put_fingerprint_examples(State& state, const Examples& examples);
// Throws Exit::input where they are missing or damaged. Tokens and offsets alone.
Examples stored_examples(const State& state);

// Throws Exit::input unless the answers are the stored ones to 1e-3.
void compare_answers(const State& state, std::span<const float> answers);

// "weights/<name>" of the state; throws Exit::input naming the array that is missing or of the wrong size.
void load_weights(const State& state, nn::Params<float>& params);

}  // namespace bl::models
