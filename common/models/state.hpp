// What a model file holds, in memory: named arrays and named texts. Numbers among the texts are printed so that they come
// back exactly.
#pragma once
#include <charconv>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/error.hpp"
#include "nn/kernels.hpp"

namespace bl::models {

struct NamedArray {
  std::string name;
  std::vector<std::uint64_t> shape;
  std::variant<std::vector<float>, std::vector<double>, std::vector<std::int64_t>> values;
};
struct State {
  std::vector<NamedArray> arrays;
  std::map<std::string, std::string> texts;

  const NamedArray* find(std::string_view name) const;
  void put(std::string name, std::span<const float> values);
  void put(std::string name, std::vector<std::int64_t> values);
  // The values of an array; throws Exit::input, with its name, where it is missing or of another type or size.
  template <class T>
  const std::vector<T>& values_of(const std::string& name, std::size_t size) const;
};

using Texts = std::map<std::string, std::string>;
Texts prefixed(const std::string& prefix, const Texts& map);
Texts texts_below(const std::string& prefix, const Texts& map);  // of those that have it

// A number among texts; throws Exit::input, saying what the texts are, where it is missing or none.
template <class N>
N number(const Texts& texts, const std::string& key, std::string_view what) {
  const auto it = texts.find(key);
  if (it == texts.end()) fail(Exit::input, "{} lacks '{}'", what, key);
  N value{};
  const char* end = it->second.data() + it->second.size();
  const auto [stop, error] = std::from_chars(it->second.data(), end, value);
  if (error != std::errc() || stop != end) fail(Exit::input, "{} has {} = '{}', which is not a number", what, key, it->second);
  return value;
}
// The activation among the settings of a model, none, relu, gelu or silu; throws Exit::input when it is not known.
std::string_view name_of(nn::Activation activation);
nn::Activation activation_of(const Texts& settings);

// What tells two models apart, in 16 digits: weights, configuration and codebook. How the weights came about is not part of it.
std::string model_hash(const State& state, std::string_view codebook);

}  // namespace bl::models
