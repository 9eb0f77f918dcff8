// Events in memory, column by column: what objectives make the input of a model from.
#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace bl::models {

struct EncoderConfig;
struct GptConfig;
struct ClassifierConfig;

// Event i has the tokens [offsets[i], offsets[i + 1]).
struct Examples {
  std::vector<std::uint64_t> offsets{0};
  std::vector<std::int32_t> tokens;
  std::vector<std::int32_t> positions;  // read by masked tokens alone
  std::vector<std::uint8_t> types;      // empty, or one per token
  std::vector<std::uint8_t> mask;       // empty, or one per token: 1 = hidden, a target
  std::vector<std::int32_t> labels;     // empty, or one per event: its class
  std::vector<float> variables;         // empty, or (events, number of variables): what a classifier reads beside tokens

  std::size_t events() const { return offsets.size() - 1; }
  std::size_t length(std::size_t event) const { return offsets[event + 1] - offsets[event]; }
  std::span<const std::int32_t> tokens_of(std::size_t event) const { return std::span(tokens).subspan(offsets[event], length(event)); }
  std::span<const float> variables_of(std::size_t event) const {
    const std::size_t width = events() == 0 ? 0 : variables.size() / events();
    return std::span(variables).subspan(event * width, width);
  }
  // Throws Exit::input for an id, a position, a length or a class out of the model's range, naming event (counted from
  // `first`), value and limit; so too for variables that the model reads and that are missing or not finite.
  void check(const EncoderConfig& config, std::uint64_t first = 0) const;
  void check(const GptConfig& config, std::uint64_t first = 0) const;
  void check(const ClassifierConfig& config, std::uint64_t first = 0) const;
};

// Fills the mask of event `event` (index into the examples) for an epoch; validation always asks for epoch 0. Called from
// several threads at once.
using Masker = std::function<void(std::size_t event, std::uint64_t epoch, std::span<std::uint8_t> mask)>;

}  // namespace bl::models
