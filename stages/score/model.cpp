#include "score/model.hpp"

#include <cmath>
#include <variant>

#include "base/error.hpp"
#include "base/hash.hpp"
#include "models/state_file.hpp"
#include "store/h5.hpp"

namespace bl::score {
namespace {

std::string codebook(const nlohmann::json& tokenizer) {
  const auto it = tokenizer.is_object() ? tokenizer.find("hash") : tokenizer.end();
  return it != tokenizer.end() && it->is_string() ? it->get<std::string>() : "";
}

// What tells two models apart: weights, configuration and codebook. How the weights came about is not part of it.
std::uint64_t identity(const models::State& state, const std::string& codebook_hash) {
  std::uint64_t sum = hash64(codebook_hash);
  for (const models::NamedArray& array : state.arrays) {
    if (!array.name.starts_with("weights/")) continue;
    const std::uint64_t h = hash64(array.shape.data(), array.shape.size() * sizeof array.shape[0], hash64(array.name));
    sum += std::visit([&](const auto& v) { return hash64(v.data(), v.size() * sizeof v[0], h); }, array.values);
  }
  for (const auto& [name, text] : state.texts)
    if (name.starts_with("model/")) sum += hash64(text, hash64(name));
  return sum;
}

}  // namespace

Model from_state(const models::State& state, const nlohmann::json& tokenizer, const std::string& path) {
  Model model;
  model.path = path;
  model.tokenizer = tokenizer;
  if (codebook(tokenizer).empty()) fail(Exit::input, "'{}' does not say which codebook it was trained on: train it again", path);
  model.hash = hex(identity(state, codebook(tokenizer)));
  try {
    model.network = models::load_model(state);
  } catch (const Error& e) {
    fail(e.code(), "'{}': {}", path, e.what());
  }

  const std::size_t vocabulary = model.network->config().vocabulary;
  const models::NamedArray* array = state.find("training/target_counts");
  const auto* counts = array == nullptr ? nullptr : std::get_if<std::vector<std::int64_t>>(&array->values);
  if (counts == nullptr || counts->size() != vocabulary)
    fail(Exit::input, "'{}' does not hold the frequencies of its {} tokens in training: train it again", path, vocabulary);
  auto total = static_cast<double>(vocabulary);
  for (const std::int64_t n : *counts) {
    if (n < 0) fail(Exit::input, "'{}' holds a negative number of tokens, {}: it is damaged", path, n);
    total += static_cast<double>(n);
  }
  for (const std::int64_t n : *counts) model.unigram.push_back(std::log((static_cast<double>(n) + 1) / total));

  // A model whose targets were particles alone has never learned to predict an event-level token.
  const auto particles = model.tokenizer.find("particle_tokens");
  if (particles != model.tokenizer.end() && particles->is_number_integer() && particles->get<std::int64_t>() >= 0) {
    model.event_level = false;
    for (std::size_t id = particles->get<std::size_t>() + 1; id < vocabulary; ++id) model.event_level |= (*counts)[id] > 0;
  }
  return model;
}

Model load(const std::string& path) {
  const store::Input file(path);
  const models::State state = models::read_state(file, "masked-token");
  const std::string text = file.has_attribute("", "tokenizer") ? file.text_attribute("", "tokenizer") : "";
  return from_state(state, nlohmann::json::parse(text, nullptr, false), path);
}

void same_codebook(const Model& model, const wire::Hello& hello, std::string_view where) {
  const auto it = hello.meta.is_object() ? hello.meta.find("tokenizer") : hello.meta.end();
  const std::string theirs = it == hello.meta.end() ? "" : codebook(*it), ours = codebook(model.tokenizer);
  if (theirs.empty()) fail(Exit::input, "{} does not say which codebook its tokens are of: make them with bl-tokenize", where);
  if (theirs != ours)
    fail(Exit::input, "{} holds tokens of codebook {}, and '{}' was trained on codebook {}: tokenize with the tokenizer that it was trained with", where,
         theirs, model.path, ours);
}

}  // namespace bl::score
