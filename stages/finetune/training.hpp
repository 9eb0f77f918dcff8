// How a tagger is trained: modes, and settings that are chosen by the number of jets where the user does not say them.
#pragma once
#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/pool.hpp"
#include "finetune/jets.hpp"
#include "finetune/pretrained.hpp"
#include "models/classifier.hpp"
#include "models/set_classifier.hpp"
#include "models/trainer.hpp"
#include "tokens/code_vectors.hpp"

namespace bl::finetune {

// full: trunk and head are trained, from the pre-trained weights. frozen: the head alone. gradual: the head alone at first.
// scratch: both from random weights; scratch_codebook: with the tokens' embedding made from the codebook. jet_variables: a
// dense network on a few numbers of the jet, without tokens; full_variables, scratch_variables: full and scratch with a head
// that reads these numbers too ("full+variables"). The last three are of learning curves.
enum class Mode : std::uint8_t { full, frozen, gradual, scratch, scratch_codebook, jet_variables, full_variables, scratch_variables };
std::string_view name_of(Mode mode);  // "scratch-codebook"
std::vector<std::string> mode_names();
Mode mode_named(std::string_view name);  // throws Exit::usage and lists the names
bool reads_variables(Mode mode);

struct Settings {
  std::string head = "class-attention", optimizer = "adamw", schedule = "cosine", precision = "f32";
  std::vector<std::string> groups;
  int blocks = 2, epochs = 0, batch = 0, shard = 32;
  std::int64_t patience = -1, warmup = -1, frozen_epochs = -1;
  double rate = 1e-3, trunk_rate = -1, dropout = -1, head_dropout = 0.3, decay = 0.01, clip = 1.0, ema = 0.0;
};

// What is left to choose, by the number of jets to train on:
//   batch     a twelfth of the jets, 16 to 256
//   epochs    as many as make 30,000 jets, 8 to 50
//   patience  a fourth of the epochs, 3 at least
//   warmup    a tenth of the steps, 100 at most
//   trunk     its rate is 0.3 of the head's, from scratch the same; its dropout 0.1, none where it is frozen
models::TrainerConfig trainer_config(const Settings& s, Mode mode, std::size_t training_jets, std::uint64_t seed);
// variables: the network that the head's branch on jet variables begins as, or nullptr: a head on tokens alone.
using VariablesNetwork = models::SetClassifier<float>;
models::ClassifierConfig classifier_config(const Settings& s, Mode mode, const models::GptConfig& trunk, std::size_t classes,
                                           const VariablesNetwork* variables);

// The jets of the list and their variables, in its order.
models::SetData variables_of(const Jets& jets, std::span<const std::uint32_t> list);
// A dense network on the jet variables, trained on these jets.
models::TrainedSetClassifier train_on_variables(const Jets& jets, const Split& split, std::size_t classes, std::uint64_t seed, Pool& pool);
// The same before its training: what it reads is standardised alike.
std::unique_ptr<VariablesNetwork> untrained_on_variables(const Jets& jets, const Split& split, std::size_t classes);

struct Start {
  std::unique_ptr<models::Trainer> trainer;
  models::LoadReport loaded;
};
// A trainer at its first step. vectors: of scratch_codebook; variables: as above.
Start start(const Settings& s, Mode mode, const Pretrained& pretrained, const tokens::CodeVectors& vectors, std::size_t classes,
            const models::TrainerConfig& config, const VariablesNetwork* variables, Pool& pool);

// Of metrics and files: {"arrays": …, "parameters": …, "names": […]} for each of loaded, skipped and new.
nlohmann::json to_json(const models::LoadReport& report);

}  // namespace bl::finetune
