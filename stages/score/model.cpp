#include "score/model.hpp"

#include <cmath>
#include <variant>

#include "base/error.hpp"
#include "models/codebook.hpp"
#include "models/state_file.hpp"
#include "store/h5.hpp"

namespace bl::score {

Model from_state(const models::State& state, const nlohmann::json& tokenizer, const std::string& path) {
  Model model;
  model.path = path;
  model.tokenizer = tokenizer;
  if (models::codebook_of(tokenizer).empty()) fail(Exit::input, "'{}' does not say which codebook it was trained on: train it again", path);
  model.hash = models::model_hash(state, models::codebook_of(tokenizer));
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
  models::same_codebook(model.path, models::codebook_of(model.tokenizer), hello.meta, where);
}

}  // namespace bl::score
