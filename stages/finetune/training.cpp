#include "finetune/training.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <numeric>

#include "base/error.hpp"
#include "tokens/code_vectors.hpp"
#include "tokens/jet_variables.hpp"

namespace bl::finetune {
namespace {

constexpr double trunk_dropout = 0.1;  // labelled jets are few, whatever the pre-training had

constexpr std::array<std::string_view, 8> kModes{"full",          "frozen",         "gradual",          "scratch", "scratch-codebook",
                                                 "jet-variables", "full+variables", "scratch+variables"};

bool from_scratch(Mode mode) { return mode == Mode::scratch || mode == Mode::scratch_codebook || mode == Mode::scratch_variables; }

}  // namespace

std::string_view name_of(Mode mode) { return kModes.at(static_cast<std::size_t>(mode)); }
std::vector<std::string> mode_names() { return {kModes.begin(), kModes.end()}; }
Mode mode_named(std::string_view name) {
  const auto* const it = std::ranges::find(kModes, name);
  if (it == kModes.end()) fail(Exit::usage, "the mode '{}' is not known; known are {}", name, fmt::join(kModes, ", "));
  return static_cast<Mode>(it - kModes.begin());
}

bool reads_variables(Mode mode) { return mode == Mode::jet_variables || mode == Mode::full_variables || mode == Mode::scratch_variables; }

models::TrainerConfig trainer_config(const Settings& s, Mode mode, std::size_t training_jets, std::uint64_t seed) {
  models::TrainerConfig c;
  c.seed = seed;
  const auto jets = static_cast<std::uint64_t>(std::max<std::size_t>(training_jets, 1));
  c.batch = s.batch > 0 ? static_cast<std::uint32_t>(s.batch) : static_cast<std::uint32_t>(std::clamp<std::uint64_t>(jets / 12, 16, 256));
  c.epochs = s.epochs > 0 ? static_cast<std::uint64_t>(s.epochs) : std::clamp<std::uint64_t>(30000 / jets, 8, 50);
  c.patience = s.patience >= 0 ? static_cast<std::uint64_t>(s.patience) : std::max<std::uint64_t>(3, c.epochs / 4);
  c.shard = static_cast<std::uint32_t>(s.shard);
  const std::uint64_t steps_of_epoch = std::max<std::uint64_t>(1, (jets + c.batch / 2) / c.batch);  // as the trainer counts them
  c.optimizer = nn::optimizer_named(s.optimizer);
  c.rate = s.rate;
  c.schedule = nn::schedule_named(s.schedule);
  const bool own_rise = c.schedule == nn::Schedule::Kind::one_cycle;
  c.warmup = s.warmup >= 0 ? static_cast<std::uint64_t>(s.warmup) : own_rise ? 0 : std::min<std::uint64_t>(100, steps_of_epoch * c.epochs / 10);
  c.clip = s.clip;
  c.decay = s.decay;
  c.ema = s.ema;
  c.validation = 0;  // the split is ours
  c.precision = nn::precision_named(s.precision);
  std::vector<std::string> groups;
  const double factor = s.trunk_rate >= 0 ? s.trunk_rate : from_scratch(mode) ? 1.0 : 0.3;
  if (mode == Mode::frozen) {
    groups.emplace_back("gpt/*:freeze");
  } else {
    groups.push_back(fmt::format("gpt/*:rate={}", factor));
    if (mode == Mode::gradual) {
      const std::uint64_t epochs = s.frozen_epochs >= 0 ? static_cast<std::uint64_t>(s.frozen_epochs) : std::max<std::uint64_t>(1, c.epochs / 5);
      if (epochs > 0) groups.push_back(fmt::format("gpt/*:freeze,thaw={},warmup={}", epochs * steps_of_epoch, steps_of_epoch));
    }
  }
  groups.insert(groups.end(), s.groups.begin(), s.groups.end());
  c.groups = nn::parse_groups(groups);
  c.validate();
  return c;
}

models::ClassifierConfig classifier_config(const Settings& s, Mode mode, const models::GptConfig& trunk, std::size_t classes,
                                           const VariablesNetwork* variables) {
  models::ClassifierConfig c;
  c.trunk = trunk;
  c.trunk.classes = 0;
  // Noise in states that nobody can adapt to would only be noise.
  c.trunk.dropout = s.dropout >= 0 ? s.dropout : mode == Mode::frozen ? 0 : trunk_dropout;
  c.head = models::head_named(s.head);
  c.classes = static_cast<std::uint32_t>(classes);
  c.blocks = static_cast<std::uint32_t>(s.blocks);
  c.dropout = s.head_dropout;
  if (variables != nullptr)
    for (std::size_t k = 0; k < tokens::kJetVariables; ++k)
      c.variables.push_back({tokens::jet_variable_names()[k], variables->means()[k], variables->scales()[k]});
  c.validate();
  return c;
}

models::SetData variables_of(const Jets& jets, std::span<const std::uint32_t> list) {
  models::SetData data;
  data.features = tokens::kJetVariables;
  for (const std::uint32_t i : list) data.add(jets.examples().variables_of(i), jets.examples().labels[i]);
  return data;
}

models::TrainedSetClassifier train_on_variables(const Jets& jets, const Split& split, std::size_t classes, std::uint64_t seed, Pool& pool) {
  const std::size_t n = split.training.size();
  std::vector<std::uint32_t> list = split.training;
  list.insert(list.end(), split.stopping.begin(), split.stopping.end());
  std::vector<std::uint32_t> training(n), stopping(split.stopping.size());
  std::iota(training.begin(), training.end(), 0u);
  std::iota(stopping.begin(), stopping.end(), static_cast<std::uint32_t>(n));
  return models::train_set_classifier(variables_of(jets, list), training, stopping, models::variables_network(tokens::kJetVariables, classes),
                                      models::SetTraining{}, seed, pool);
}

std::unique_ptr<VariablesNetwork> untrained_on_variables(const Jets& jets, const Split& split, std::size_t classes) {
  auto network = std::make_unique<VariablesNetwork>(models::variables_network(tokens::kJetVariables, classes));
  std::vector<std::uint32_t> all(split.training.size());
  std::iota(all.begin(), all.end(), 0u);
  network->standardise(variables_of(jets, split.training), all);
  return network;
}

Start start(const Settings& s, Mode mode, const Pretrained& pretrained, const tokens::CodeVectors& vectors, std::size_t classes,
            const models::TrainerConfig& config, const VariablesNetwork* variables, Pool& pool) {
  Start result;
  auto objective = std::make_unique<models::Classification>(classifier_config(s, mode, pretrained.config, classes, variables));
  models::Classifier<float>& model = objective->model();
  result.trainer = std::make_unique<models::Trainer>(std::move(objective), config, pool);
  if (variables != nullptr) model.begin_variables(*variables);
  if (!from_scratch(mode)) {
    try {
      result.loaded = models::load_pretrained(pretrained.state, model.params());
    } catch (const Error& e) {
      fail(e.code(), "'{}': {}", pretrained.path, e.what());
    }
    return result;
  }
  if (mode == Mode::scratch_codebook) models::embed_codebook(model.params(), model.trunk(), vectors.values, vectors.width, config.seed);
  for (const nn::ParamInfo& p : model.params().list()) {
    result.loaded.fresh.push_back(p.name);
    result.loaded.fresh_parameters += p.at.size();
  }
  return result;
}

nlohmann::json to_json(const models::LoadReport& report) {
  const auto part = [](const std::vector<std::string>& names, std::size_t parameters) {
    return nlohmann::json{{"arrays", names.size()}, {"parameters", parameters}, {"names", names}};
  };
  return {{"loaded", part(report.loaded, report.loaded_parameters)},
          {"skipped", part(report.skipped, report.skipped_parameters)},
          {"new", part(report.fresh, report.fresh_parameters)}};
}

}  // namespace bl::finetune
