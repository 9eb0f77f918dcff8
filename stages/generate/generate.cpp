#include "generate/generate.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>

#include "base/error.hpp"
#include "models/codebook.hpp"
#include "models/objective.hpp"
#include "models/state_file.hpp"
#include "store/h5.hpp"

namespace bl::generate {
namespace {

constexpr std::string_view kind = "next-token";

// The category of each id: what it was in training; that of the nearest id where it did not occur, as the codes of a category
// follow each other. Ids behind those of particles are event-level tokens.
std::vector<std::uint8_t> categories_of(const models::State& state, const nlohmann::json& tokenizer, std::size_t ids) {
  std::vector<std::uint8_t> result(ids, 0);
  if (const auto* array = state.find("tokens/category"))
    if (const auto* seen = std::get_if<std::vector<std::int64_t>>(&array->values))
      for (std::size_t i = 0; i < std::min(ids, seen->size()); ++i) result[i] = static_cast<std::uint8_t>(std::clamp<std::int64_t>((*seen)[i], 0, 10));
  const std::size_t end = std::min<std::size_t>(ids, tokenizer.value("particle_tokens", ids) + 1);
  for (std::size_t i = 2; i < end; ++i)
    if (result[i] == 0) result[i] = result[i - 1];
  for (std::size_t i = end; i-- > 2;)
    if (result[i - 1] == 0) result[i - 1] = result[i];
  return result;
}

// Where an event-level token stands, whatever the number of particles; -1 for a particle's token.
std::int32_t fixed_position(const nlohmann::json& tokenizer, std::int32_t token) {
  const auto extras = tokenizer.find("extras");
  if (extras == tokenizer.end() || !extras->is_array()) return -1;
  for (const auto& extra : *extras) {
    const std::int32_t first = extra.value("first", -1), count = extra.value("count", 0);
    if (first >= 0 && token >= first && token - first < count) return extra.value("position", 0);
  }
  return -1;
}

}  // namespace

Model from_state(const models::State& state, const nlohmann::json& tokenizer, std::vector<std::string> classes, const std::string& path) {
  Model model;
  model.path = path;
  model.tokenizer = tokenizer;
  model.classes = std::move(classes);
  const std::string codebook = models::codebook_of(tokenizer);
  if (codebook.empty()) fail(Exit::input, "'{}' does not say which codebook it was trained on: train it again", path);
  model.hash = models::model_hash(state, codebook);
  try {
    model.network = models::load_gpt(state);
  } catch (const Error& e) {
    fail(e.code(), "'{}': {}", path, e.what());
  }
  const models::GptConfig& config = model.network->config();
  const auto id = [&](const char* name) {
    const auto it = tokenizer.find(name);
    return it != tokenizer.end() && it->is_number_integer() ? it->get<std::int64_t>() : -1;
  };
  if (id("start") != config.start_id() || id("stop") != config.stop_id())
    fail(Exit::input, "'{}' has no start token: its tokenizer names start {} and stop {}, its network has {} and {}; train it on tokens of bl-tokenize", path,
         id("start"), id("stop"), config.start_id(), config.stop_id());
  if (model.classes.size() != config.classes)
    fail(Exit::input, "'{}' names {} classes and its network knows {}: it is damaged", path, model.classes.size(), config.classes);
  model.category = categories_of(state, tokenizer, static_cast<std::size_t>(config.start_id()));
  const models::NamedArray* array = state.find("training/target_counts");
  const auto* counts = array == nullptr ? nullptr : std::get_if<std::vector<std::int64_t>>(&array->values);
  model.draws_unknown = counts != nullptr && !counts->empty() && counts->front() > 0;
  return model;
}

Model load(const std::string& path) {
  const store::Input file(path);
  const models::State state = models::read_state(file, kind);
  const auto json = [&](const char* name) {
    return nlohmann::json::parse(file.has_attribute("", name) ? file.text_attribute("", name) : std::string(), nullptr, false);
  };
  const nlohmann::json names = json("classes");
  std::vector<std::string> classes;
  if (names.is_array())
    for (const auto& name : names) classes.push_back(name.is_string() ? name.get<std::string>() : name.dump());
  return from_state(state, json("tokenizer"), std::move(classes), path);
}

std::span<const std::int32_t> Prompts::of(std::uint64_t sequence) const {
  if (size() == 0) return {};
  const std::size_t i = sequence % size();
  return std::span(tokens).subspan(offsets[i], offsets[i + 1] - offsets[i]);
}

Prompts prompt_of(const std::vector<std::string>& ids, const Model& model, std::size_t longest) {
  const std::int32_t start = model.network->config().start_id();
  Prompts prompts;
  for (const std::string& text : ids) {
    std::int32_t id = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), id);
    if (error != std::errc() || end != text.data() + text.size()) fail(Exit::usage, "--prompt: '{}' is not the id of a token", text);
    if (id < 0 || id >= start) fail(Exit::usage, "--prompt: token {} is out of the vocabulary of 0 to {}", id, start - 1);
    prompts.tokens.push_back(id);
  }
  if (prompts.tokens.size() > longest) fail(Exit::usage, "--prompt has {} tokens, a sequence has at most {}", prompts.tokens.size(), longest);
  prompts.offsets.push_back(prompts.tokens.size());
  return prompts;
}

void add_prompts(Prompts& prompts, const Batch& tokens, const Model& model, std::size_t most, std::size_t longest) {
  const std::int32_t start = model.network->config().start_id();
  const auto offsets = tokens.get<std::uint32_t>("token_offsets");
  const auto token = tokens.get<std::int32_t>("token");
  const auto index = tokens.get<std::uint64_t>("event_index");
  for (std::uint32_t e = 0; e < tokens.events; ++e) {
    const std::size_t n = offsets[e + 1] - offsets[e], take = most > 0 ? std::min(most, n) : n;
    if (take > longest) fail(Exit::input, "event {} has {} tokens, a prompt has at most {}: take fewer of each with --prompt-tokens", index[e], take, longest);
    for (std::size_t i = offsets[e]; i < offsets[e] + take; ++i) {
      if (token[i] < 0 || token[i] >= start) fail(Exit::input, "event {}: token {} is out of the vocabulary of 0 to {}", index[e], token[i], start - 1);
      prompts.tokens.push_back(token[i]);
    }
    prompts.offsets.push_back(prompts.tokens.size());
  }
}

std::vector<std::int32_t> classes_of(const std::vector<std::string>& names, const Model& model) {
  if (names.empty() && !model.classes.empty())
    fail(Exit::usage, "'{}' makes events of a class: choose with --class among {}", model.path, fmt::join(model.classes, ", "));
  if (!names.empty() && model.classes.empty()) fail(Exit::usage, "--class {}: '{}' was trained without --classes and knows none", names.front(), model.path);
  std::vector<std::int32_t> result;
  for (const std::string& name : names) {
    const auto it = std::ranges::find(model.classes, name);
    if (it == model.classes.end()) fail(Exit::usage, "--class: '{}' does not know '{}', only {}", model.path, name, fmt::join(model.classes, ", "));
    result.push_back(static_cast<std::int32_t>(it - model.classes.begin()));
  }
  return result;
}

Batch to_batch(std::span<const models::Sequence> sequences, std::uint64_t first, const Model& model, std::span<const std::int32_t> labels) {
  Batch b;
  b.events = static_cast<std::uint32_t>(sequences.size());
  std::vector<std::uint64_t> index;
  std::vector<std::string> process;
  std::vector<std::int32_t> label, token;
  std::vector<float> n_objects;
  std::vector<std::uint32_t> offsets{0};
  std::vector<std::uint16_t> position;
  std::vector<std::uint8_t> category;
  for (std::size_t i = 0; i < sequences.size(); ++i) {
    index.push_back(first + i);
    if (!labels.empty()) label.push_back(labels[(first + i) % labels.size()]);
    process.push_back(labels.empty() ? "generated" : model.classes[static_cast<std::size_t>(label.back())]);
    std::uint16_t rank = 0;
    for (const std::int32_t t : sequences[i].tokens) {
      const std::int32_t fixed = fixed_position(model.tokenizer, t);
      token.push_back(t);
      category.push_back(model.category[static_cast<std::size_t>(t)]);
      position.push_back(fixed >= 0 ? static_cast<std::uint16_t>(fixed) : rank++);
    }
    offsets.push_back(static_cast<std::uint32_t>(token.size()));
    n_objects.push_back(static_cast<float>(rank));
  }
  b.set("event_index", {"event"}, index);
  b.set("event_id", {"event"}, index);
  b.set("weight", {"event"}, std::vector<double>(b.events, 1.0));
  b.set_text("process", process);
  if (!labels.empty()) b.set("label", {"event"}, label);
  b.set("n_objects", {"event"}, n_objects);
  b.set("token_offsets", {"event+1"}, offsets);
  b.set("token", {"token"}, token);
  b.set("position", {"token"}, position);
  b.set("category", {"token"}, category);
  return b;
}

nlohmann::json metadata(const Model& model, const models::GeneratorConfig& config) {
  const models::Sampling& s = config.sampling;
  nlohmann::json meta = {
      {"tokenizer", model.tokenizer},
      {"model", {{"hash", model.hash}, {"objective", kind}, {"codebook", models::codebook_of(model.tokenizer)}}},
      {"generation",
       {{"temperature", s.temperature}, {"top_k", s.top_k}, {"top_p", s.top_p}, {"stop_threshold", s.stop_threshold}, {"max_length", config.max_length}}}};
  for (std::size_t c = 0; c < model.classes.size(); ++c) meta["labels"][std::to_string(c)] = model.classes[c];
  return meta;
}

}  // namespace bl::generate
