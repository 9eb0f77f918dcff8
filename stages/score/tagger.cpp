#include "score/tagger.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "base/error.hpp"
#include "models/codebook.hpp"
#include "models/state_file.hpp"
#include "store/h5.hpp"
#include "tokens/jet_variables.hpp"

namespace bl::score {
namespace {

constexpr std::string_view kind = "classification";

nlohmann::json json_of(const store::Input& file, const char* name) {
  return nlohmann::json::parse(file.has_attribute("", name) ? file.text_attribute("", name) : std::string(), nullptr, false);
}

}  // namespace

bool is_tagger(const std::string& path) {
  const store::Input file(path);
  return file.has_attribute("", "kind") && file.text_attribute("", "kind") == kind;
}

Tagger load_tagger(const std::string& path) {
  const store::Input file(path);
  const models::State state = models::read_state(file, kind);
  Tagger tagger;
  tagger.path = path;
  tagger.tokenizer = json_of(file, "tokenizer");
  const std::string codebook = models::codebook_of(tagger.tokenizer);
  if (codebook.empty()) fail(Exit::input, "'{}' does not say which codebook it was trained on: train it again", path);
  tagger.hash = models::model_hash(state, codebook);
  try {
    tagger.classes = models::classes_from_json(json_of(file, "classes"));
    tagger.network = models::load_classifier(state);
  } catch (const Error& e) {
    fail(e.code(), "'{}': {}", path, e.what());
  }
  if (tagger.classes.size() != tagger.network->config().classes)
    fail(Exit::input, "'{}' names {} classes and its network knows {}: it is damaged", path, tagger.classes.size(), tagger.network->config().classes);
  if (const auto& variables = tagger.network->config().variables;
      !variables.empty() && !std::ranges::equal(variables, tokens::jet_variable_names(), {}, &models::InputVariable::name)) {
    std::vector<std::string> names;
    names.reserve(variables.size());
    for (const models::InputVariable& v : variables) names.push_back(v.name);
    fail(Exit::input, "'{}' reads the jet variables {}, known are {} in this order: train it again", path, fmt::join(names, ", "),
         fmt::join(tokens::jet_variable_names(), ", "));
  }
  return tagger;
}

nlohmann::json metadata(const Tagger& tagger) {
  nlohmann::json labels = nlohmann::json::object();
  const std::vector<std::string> names = models::names_of(tagger.classes);
  for (std::size_t c = 0; c < names.size(); ++c) labels[std::to_string(c)] = names[c];
  return {{"model", {{"hash", tagger.hash}, {"objective", kind}, {"codebook", tagger.tokenizer["hash"]}}},
          {"tagger", {{"classes", names}, {"processes", models::to_json(tagger.classes)}, {"model", tagger.hash}}},
          {"labels", labels}};
}

Batch tag(const Batch& batch, const Tagger& tagger, models::ClassifierScorer& scorer, Pool& pool) {
  const auto offsets = batch.get<std::uint32_t>("token_offsets");
  const auto token = batch.get<std::int32_t>("token");
  const auto index = batch.get<std::uint64_t>("event_index");
  models::Examples examples;
  examples.offsets.assign(offsets.begin(), offsets.end());
  examples.tokens.assign(token.begin(), token.end());
  if (!tagger.network->config().variables.empty()) {
    try {
      examples.variables = tokens::jet_variables(batch, pool);
    } catch (const Error& e) {
      fail(e.code(), "'{}' reads jet variables: {}", tagger.path, e.what());
    }
  }
  examples.check(tagger.network->config(), batch.events > 0 ? index[0] : 0);

  const std::size_t classes = tagger.classes.size();
  const std::vector<float> logits = scorer.logits(examples);
  std::vector<std::vector<float>> columns(classes, std::vector<float>(batch.events)), probabilities = columns;
  std::vector<std::int32_t> label(batch.events);
  for (std::uint32_t e = 0; e < batch.events; ++e) {
    const float* row = logits.data() + e * classes;
    const double largest = *std::max_element(row, row + classes);
    double sum = 0;
    for (std::size_t c = 0; c < classes; ++c) {
      if (!std::isfinite(row[c])) fail(Exit::failed, "event {}: '{}' gives a logit of {}: the tagger is not usable", index[e], tagger.path, row[c]);
      sum += std::exp(row[c] - largest);
    }
    for (std::size_t c = 0; c < classes; ++c) {
      columns[c][e] = row[c];
      probabilities[c][e] = static_cast<float>(std::exp(row[c] - largest) / sum);
    }
    label[e] = models::class_of(tagger.classes, batch.text("process", e));
  }

  Batch out;
  out.seq = batch.seq;
  out.events = batch.events;
  for (const char* name : {"event_index", "event_id", "weight", "process_char_offsets", "process", "n_objects", "ht", "met", "met_phi"})
    if (const Column* column = batch.find(name)) out.put(*column);
  out.set("label", {"event"}, label);
  out.set("token_offsets", {"event+1"}, std::vector<std::uint32_t>(batch.events + 1u, 0));
  for (std::size_t c = 0; c < classes; ++c) out.set("logit_" + tagger.classes[c].name, {"event"}, columns[c]);
  for (std::size_t c = 0; c < classes; ++c) out.set("score_" + tagger.classes[c].name, {"event"}, probabilities[c]);
  return out;
}

}  // namespace bl::score
