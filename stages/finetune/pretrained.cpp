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

CodeVectors code_vectors(const std::string& tokenizer_path, const std::string& codebook) {
  const models::Tokenizer tokenizer = tokens::load(tokenizer_path);
  const std::string theirs = models::codebook_of(tokens::metadata(tokenizer));
  if (theirs != codebook)
    fail(Exit::input, "'{}' is the codebook {}, and the model was trained on tokens of codebook {}: give the tokenizer that it was trained with",
         tokenizer_path, theirs, codebook);
  CodeVectors v;
  if (tokenizer.network != nullptr) {
    const auto& codes = tokenizer.network->codebook();
    const auto values = tokenizer.network->params().of(codes);
    v.width = codes.width;
    v.values.assign(values.begin(), values.end());
    return v;
  }
  const std::size_t codes = tokenizer.particle_tokens(), categories = tokenizer.categories.size();
  const bool centres = tokenizer.kind == models::TokenizerKind::kmeans;
  const std::size_t features = centres ? tokenizer.features() : 3;
  v.width = features + (categories > 1 ? categories : 0);
  const models::Encoder encoder(tokenizer);
  for (std::size_t c = 0; c < codes; ++c) {
    const models::Decoded& d = encoder.decode(static_cast<std::int32_t>(c) + 1);
    if (centres)
      v.values.insert(v.values.end(), tokenizer.centres.begin() + static_cast<std::ptrdiff_t>(c * features),
                      tokenizer.centres.begin() + static_cast<std::ptrdiff_t>((c + 1) * features));
    else v.values.insert(v.values.end(), {std::log(std::max(d.pt, 1e-3f)), d.eta, d.phi});
    for (std::size_t k = 0; categories > 1 && k < categories; ++k) v.values.push_back(tokenizer.categories[k] == d.category ? 1.0f : 0.0f);
  }
  return v;
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
