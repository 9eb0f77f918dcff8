#include "score/model.hpp"

#include <cmath>

#include "base/error.hpp"
#include "base/hash.hpp"
#include "store/checkpoint.hpp"

namespace bl::score {
namespace {

std::string codebook(const nlohmann::json& tokenizer) {
  const auto it = tokenizer.is_object() ? tokenizer.find("hash") : tokenizer.end();
  return it != tokenizer.end() && it->is_string() ? it->get<std::string>() : "";
}

const std::vector<std::int64_t>* counts_of(const models::State& state, std::string_view name) {
  const models::NamedArray* array = state.find(name);
  return array == nullptr ? nullptr : std::get_if<std::vector<std::int64_t>>(&array->values);
}

}  // namespace

Model from_state(const models::State& state, const std::string& path) {
  const auto text = [&](const char* name) {
    const auto it = state.texts.find(name);
    return it == state.texts.end() ? std::string() : it->second;
  };
  if (text("objective") != "masked-token")
    fail(Exit::input, "'{}' was trained for the objective '{}': bl-score needs a model of masked tokens", path, text("objective"));
  Model model;
  model.path = path;
  model.hash = hex(store::model_hash(state));
  model.tokenizer = nlohmann::json::parse(text("tokenizer"), nullptr, false);
  if (codebook(model.tokenizer).empty()) fail(Exit::input, "'{}' does not say which codebook it was trained on: train it again", path);
  try {
    model.network = models::load_model(state);
  } catch (const Error& e) {
    fail(e.code(), "'{}': {}", path, e.what());
  }

  const std::size_t vocabulary = model.network->config().vocabulary;
  const auto* targets = counts_of(state, "training/target_counts");
  const auto* counts = counts_of(state, "unigram/counts");
  if (counts == nullptr) counts = targets;
  if (counts == nullptr || counts->size() != vocabulary)
    fail(Exit::input, "'{}' does not hold the frequencies of its {} tokens in training: train it again", path, vocabulary);
  double total = static_cast<double>(vocabulary);
  for (const std::int64_t n : *counts) {
    if (n < 0) fail(Exit::input, "'{}' holds a negative number of tokens, {}: it is damaged", path, n);
    total += static_cast<double>(n);
  }
  for (const std::int64_t n : *counts) model.unigram.push_back(std::log((static_cast<double>(n) + 1) / total));

  // A model whose targets were particles alone has never learned to predict an event-level token.
  const auto particles = model.tokenizer.find("particle_tokens");
  if (targets != nullptr && targets->size() == vocabulary && particles != model.tokenizer.end() && particles->is_number_unsigned()) {
    model.event_level = false;
    for (std::size_t id = particles->get<std::size_t>() + 1; id < vocabulary; ++id) model.event_level |= (*targets)[id] > 0;
  }
  return model;
}

Model load(const std::string& path) { return from_state(store::read_model<models::State>(store::Input(path)), path); }

void same_codebook(const Model& model, const wire::Hello& hello, std::string_view where) {
  const auto it = hello.meta.is_object() ? hello.meta.find("tokenizer") : hello.meta.end();
  const std::string theirs = it == hello.meta.end() ? "" : codebook(*it), ours = codebook(model.tokenizer);
  if (theirs.empty()) fail(Exit::input, "{} does not say which codebook its tokens are of: make them with bl-tokenize", where);
  if (theirs != ours)
    fail(Exit::input, "{} holds tokens of codebook {}, and '{}' was trained on codebook {}: tokenize with the tokenizer that it was trained with", where, theirs,
         model.path, ours);
}

}  // namespace bl::score
