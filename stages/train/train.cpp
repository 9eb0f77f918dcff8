#include "train/train.hpp"

#include <fmt/ranges.h>

#include <algorithm>

#include "base/error.hpp"
#include "models/state_file.hpp"
#include "models/tokenizer.hpp"
#include "store/h5.hpp"

namespace bl::train {
namespace {

std::uint32_t fact(const nlohmann::json& tokenizer, const char* name, const std::string& where) {
  const auto it = tokenizer.find(name);
  if (it == tokenizer.end() || !it->is_number_unsigned() || it->get<std::uint64_t>() > 0xffffffffu)
    fail(Exit::input, "'{}': the metadata of the tokens do not say their {}; write them with bl-tokenize", where, name);
  return it->get<std::uint32_t>();
}

}  // namespace

Objective objective_named(std::string_view name) { return name == "next-token" ? Objective::next_token : Objective::masked_token; }
std::string_view name_of(Objective objective) { return objective == Objective::next_token ? "next-token" : "masked-token"; }

TokenFacts token_facts(const wire::Hello& hello, const std::string& where, Objective objective) {
  if (objective == Objective::next_token && !hello.schema.starts_with("tokens/"))
    fail(Exit::input, "'{}' holds {}, and the objective next-token learns from tokens that bl-tokenize wrote: leave bl-mask out", where, hello.schema);
  const auto it = hello.meta.find("tokenizer");
  if (it == hello.meta.end() || !it->is_object()) fail(Exit::input, "'{}': the metadata of the tokens name no tokenizer; write them with bl-tokenize", where);
  TokenFacts facts;
  facts.tokenizer = *it;
  facts.vocabulary = fact(*it, "vocabulary", where);
  if (objective == Objective::masked_token) {
    facts.mask_id = fact(*it, "mask", where);
  } else {
    facts.start_id = fact(*it, "start", where);
    if (const auto stop = fact(*it, "stop", where); facts.start_id < 1 || stop != facts.start_id + 1)
      fail(Exit::input, "'{}': the tokens have the start id {} and the stop id {}, stop must follow start behind all tokens", where, facts.start_id, stop);
  }
  facts.positions = fact(*it, "positions", where);
  facts.hash = it->value("hash", std::string());
  if (facts.hash.empty()) fail(Exit::input, "'{}': the metadata of the tokens lack the hash of their codebook; write them with bl-tokenize", where);
  return facts;
}

Masking masking_of(const wire::Hello& hello, const Masking& otherwise, bool redraw) {
  Masking masking = otherwise;
  masking.redraw = redraw;
  const auto it = hello.meta.find("mask");
  if (it == hello.meta.end() || !it->is_object()) {
    if (hello.schema.starts_with("masked/")) masking.redraw = false;
    return masking;
  }
  const nlohmann::json& m = *it;
  masking.options = {};
  masking.options.mode = models::mask_mode_named(m.value("mode", std::string("one")));
  masking.options.extras = m.value("extras", false);
  masking.options.fraction = m.value("fraction", masking.options.fraction);
  masking.options.k = m.value("k", masking.options.k);
  for (const auto& name : m.value("types", std::vector<std::string>())) masking.options.types.push_back(models::category_named(name));
  masking.seed = m.value("seed", masking.seed);
  const models::MaskMode mode = masking.options.mode;
  if (models::needs_directions(mode) || mode == models::MaskMode::each || mode == models::MaskMode::ramp) masking.redraw = false;
  return masking;
}

void Events::add(const Batch& batch) {
  const auto offsets = batch.get<std::uint32_t>("token_offsets");
  const auto token = batch.get<std::int32_t>("token");
  const auto position = batch.get<std::uint16_t>("position");
  const auto category = batch.get<std::uint8_t>("category");
  const auto index = batch.get<std::uint64_t>("event_index");
  const bool next = reads_.objective == Objective::next_token;
  for (std::size_t i = 0; i < token.size(); ++i) {
    const bool known = token[i] >= 0 && static_cast<std::uint32_t>(token[i]) < reads_.vocabulary;
    if (known && (next || position[i] < reads_.positions) && (reads_.types == 0 || category[i] < reads_.types)) continue;
    std::uint32_t e = 0;
    while (offsets[e + 1] <= i) ++e;
    if (next) fail(Exit::input, "event {}: token {} is out of the vocabulary of 0 to {}", index[e], token[i], reads_.vocabulary - 1);
    fail(Exit::input, "event {}: token {} at position {} of category {} does not fit a model with {} ids and {} positions", index[e], token[i], position[i],
         category[i], reads_.vocabulary, reads_.positions);
  }
  for (std::uint32_t e = 0; next && e < batch.events; ++e) {
    if (const std::uint32_t n = offsets[e + 1] - offsets[e]; n + 1 > reads_.positions)
      fail(Exit::input, "event {} has {} tokens, the model reads at most {}: raise --positions, or keep fewer with bl-tokenize --max-objects", index[e], n,
           reads_.positions - 1);
    if (reads_.classes.empty()) continue;
    const std::string process = batch.text("process", e);
    const auto it = std::ranges::find(reads_.classes, process);
    if (it == reads_.classes.end())
      fail(Exit::input, "event {} is of the process '{}', which is none of --classes {}: name it there, or leave its events out", index[e], process,
           fmt::join(reads_.classes, ","));
    examples_.labels.push_back(static_cast<std::int32_t>(it - reads_.classes.begin()));
  }
  const std::uint64_t start = examples_.offsets.back();
  for (std::uint32_t e = 0; e < batch.events; ++e) examples_.offsets.push_back(start + offsets[e + 1]);
  examples_.tokens.insert(examples_.tokens.end(), token.begin(), token.end());
  event_index_.insert(event_index_.end(), index.begin(), index.end());
  if (next) {
    for (std::size_t i = 0; i < token.size(); ++i) categories_[static_cast<std::size_t>(token[i])] = category[i];
    return;
  }
  examples_.positions.insert(examples_.positions.end(), position.begin(), position.end());
  category_.insert(category_.end(), category.begin(), category.end());
  if (reads_.types > 0) examples_.types.insert(examples_.types.end(), category.begin(), category.end());
  if (const Column* mask = batch.find("mask")) {
    const auto values = mask->as<std::uint8_t>();
    examples_.mask.insert(examples_.mask.end(), values.begin(), values.end());
  }
}

void Events::drop(std::size_t first) {
  const auto tokens = static_cast<std::ptrdiff_t>(examples_.offsets[first]);
  const auto cut = [](auto& v, std::ptrdiff_t n) { v.erase(v.begin(), v.begin() + n); };
  cut(examples_.offsets, static_cast<std::ptrdiff_t>(first));
  for (auto& o : examples_.offsets) o -= static_cast<std::uint64_t>(tokens);
  cut(examples_.tokens, tokens);
  if (!examples_.labels.empty()) cut(examples_.labels, static_cast<std::ptrdiff_t>(first));
  if (!examples_.positions.empty()) cut(examples_.positions, tokens);
  if (!examples_.types.empty()) cut(examples_.types, tokens);
  if (!examples_.mask.empty()) cut(examples_.mask, tokens);
  if (!category_.empty()) cut(category_, tokens);
  cut(event_index_, static_cast<std::ptrdiff_t>(first));
}

models::Masker Events::masker(const Masking& masking) const {
  if (reads_.objective == Objective::next_token) return {};
  return [this, masking, rng = Rng(masking.seed, "bl-mask")](std::size_t event, std::uint64_t epoch, std::span<std::uint8_t> mask) {
    const std::size_t first = examples_.offsets[event];
    const bool stored = examples_.mask.size() == examples_.tokens.size();
    if (stored && (epoch == 0 || !masking.redraw)) {
      std::copy_n(examples_.mask.begin() + static_cast<std::ptrdiff_t>(first), mask.size(), mask.begin());
      return;
    }
    models::MaskKey key;
    key.event_index = event_index_[event];
    key.epoch = masking.redraw ? static_cast<std::uint32_t>(epoch) : 0;
    models::draw_mask(masking.options, {std::span(category_).subspan(first, mask.size()), {}, {}}, key, 0, rng, mask);
  };
}

void save(const std::string& path, bool force, models::State state, const ModelFacts& facts) {
  const bool next = facts.objective == Objective::next_token;
  if (next) state.put("tokens/category", facts.categories);
  store::Output file(path, force);
  models::write_state(file, name_of(facts.objective), state);
  file.attribute("", "tokenizer", facts.tokens.tokenizer.dump());
  file.attribute("", "tokenizer_hash", facts.tokens.hash);
  if (next) file.attribute("", "classes", nlohmann::json(facts.classes).dump());
  else file.attribute("", "mask", facts.mask.dump());
  file.attribute("", "history", facts.history.dump());
  file.commit();
}

Loaded load(const std::string& path, Objective objective) {
  const store::Input file(path);
  Loaded loaded{models::read_state(file, name_of(objective)), {}, {}, {}};
  if (file.has_attribute("", "tokenizer_hash")) loaded.tokenizer_hash = file.text_attribute("", "tokenizer_hash");
  if (objective == Objective::masked_token) return loaded;
  const auto classes = nlohmann::json::parse(file.has_attribute("", "classes") ? file.text_attribute("", "classes") : "[]", nullptr, false);
  if (!classes.is_array()) fail(Exit::input, "'{}' does not say its classes: train it again", path);
  for (const auto& c : classes) loaded.classes.push_back(c.is_string() ? c.get<std::string>() : c.dump());
  if (const auto* array = loaded.state.find("tokens/category"))
    if (const auto* values = std::get_if<std::vector<std::int64_t>>(&array->values)) loaded.categories = *values;
  return loaded;
}

}  // namespace bl::train
