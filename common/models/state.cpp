#include "models/state.hpp"

#include <algorithm>
#include <array>

#include "base/hash.hpp"

namespace bl::models {
namespace {

constexpr std::array<std::string_view, 4> activation_names{"none", "relu", "gelu", "silu"};

}  // namespace

const NamedArray* State::find(std::string_view name) const {
  const auto it = std::ranges::find(arrays, name, &NamedArray::name);
  return it == arrays.end() ? nullptr : &*it;
}

void State::put(std::string name, std::span<const float> values) {
  arrays.push_back({std::move(name), {values.size()}, std::vector<float>(values.begin(), values.end())});
}
void State::put(std::string name, std::vector<std::int64_t> values) {
  const std::uint64_t n = values.size();
  arrays.push_back({std::move(name), {n}, std::move(values)});
}

template <class T>
const std::vector<T>& State::values_of(const std::string& name, std::size_t size) const {
  const NamedArray* array = find(name);
  if (array == nullptr) fail(Exit::input, "the model file lacks the array '{}'", name);
  const auto* values = std::get_if<std::vector<T>>(&array->values);
  if (values == nullptr) fail(Exit::input, "the array '{}' of the model file has another type of number than expected", name);
  if (values->size() != size) fail(Exit::input, "the array '{}' of the model file has {} values, {} are expected", name, values->size(), size);
  return *values;
}
template const std::vector<float>& State::values_of(const std::string&, std::size_t) const;
template const std::vector<std::int64_t>& State::values_of(const std::string&, std::size_t) const;

Texts prefixed(const std::string& prefix, const Texts& map) {
  Texts out;
  for (const auto& [key, value] : map) out[prefix + key] = value;
  return out;
}
Texts texts_below(const std::string& prefix, const Texts& map) {
  Texts out;
  for (const auto& [key, value] : map)
    if (key.starts_with(prefix)) out[key.substr(prefix.size())] = value;
  return out;
}

std::string_view name_of(nn::Activation activation) { return activation_names.at(static_cast<std::size_t>(activation)); }
nn::Activation activation_of(const Texts& settings) {
  const auto it = settings.find("activation");
  const auto name = it == settings.end() ? activation_names.end() : std::ranges::find(activation_names, it->second);
  if (name == activation_names.end()) fail(Exit::input, "the model's configuration has no known activation");
  return static_cast<nn::Activation>(name - activation_names.begin());
}

std::string model_hash(const State& state, std::string_view codebook) {
  std::uint64_t sum = hash64(codebook);
  for (const NamedArray& array : state.arrays) {
    if (!array.name.starts_with("weights/")) continue;
    const std::uint64_t h = hash64(array.shape.data(), array.shape.size() * sizeof array.shape[0], hash64(array.name));
    sum += std::visit([&](const auto& v) { return hash64(v.data(), v.size() * sizeof v[0], h); }, array.values);
  }
  for (const auto& [name, text] : state.texts)
    if (name.starts_with("model/")) sum += hash64(text, hash64(name));
  return hex(sum);
}

}  // namespace bl::models
