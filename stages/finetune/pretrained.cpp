#include "finetune/pretrained.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "base/error.hpp"
#include "base/hash.hpp"
#include "models/codebook.hpp"
#include "models/objective.hpp"
#include "models/state_file.hpp"
#include "models/tokenizer.hpp"
#include "models/vqvae.hpp"
#include "store/h5.hpp"
#include "tokens/file.hpp"

namespace bl::finetune {
namespace {

constexpr std::string_view tagger_kind = "classification";

nlohmann::json json_attribute(const store::Input& file, const char* name) {
  return nlohmann::json::parse(file.has_attribute("", name) ? file.text_attribute("", name) : std::string(), nullptr, false);
}

}  // namespace

Pretrained load_pretrained_file(const std::string& path) {
  const store::Input file(path);
  Pretrained p;
  p.path = path;
  p.state = models::read_state(file, "next-token");
  p.tokenizer = json_attribute(file, "tokenizer");
  p.codebook = models::codebook_of(p.tokenizer);
  if (p.codebook.empty()) fail(Exit::input, "'{}' does not say which codebook it was trained on: train it again", path);
  p.hash = models::model_hash(p.state, p.codebook);
  try {
    p.config = models::load_gpt(p.state)->config();
  } catch (const Error& e) {
    fail(e.code(), "'{}': {}", path, e.what());
  }
  const auto start = p.tokenizer.find("start");
  if (start == p.tokenizer.end() || !start->is_number_integer() || start->get<std::int64_t>() != p.config.start_id())
    fail(Exit::input, "'{}' has no start token: its tokenizer names {}, its network has {}; train it on tokens of bl-tokenize", path,
         start == p.tokenizer.end() ? "none" : start->dump(), p.config.start_id());
  return p;
}

void save_tagger(const std::string& path, bool force, const models::State& state, const TaggerFacts& facts) {
  store::Output file(path, force);
  models::write_state(file, tagger_kind, state);
  file.attribute("", "tokenizer", facts.tokenizer.dump());
  file.attribute("", "tokenizer_hash", facts.codebook);
  file.attribute("", "classes", models::to_json(facts.classes).dump());
  file.attribute("", "training", facts.report.dump());
  file.attribute("", "history", facts.history.dump());
  file.commit();
}

models::State load_tagger(const std::string& path, const TaggerFacts& expected) {
  const store::Input file(path);
  models::State state = models::read_state(file, tagger_kind);
  const std::string codebook = file.has_attribute("", "tokenizer_hash") ? file.text_attribute("", "tokenizer_hash") : std::string();
  if (codebook != expected.codebook)
    fail(Exit::input, "'{}' was trained with the codebook {}, the tokens come from {}: use the same tokenizer", path, codebook, expected.codebook);
  if (const auto classes = models::classes_from_json(json_attribute(file, "classes")); classes != expected.classes)
    fail(Exit::input, "'{}' tells the classes {} apart, the input has {}: start anew", path, fmt::join(models::names_of(classes), ", "),
         fmt::join(models::names_of(expected.classes), ", "));
  return state;
}

}  // namespace bl::finetune
