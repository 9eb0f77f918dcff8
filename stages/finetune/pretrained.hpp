// Files of bl-finetune: the pre-trained model and the tagger.
#pragma once
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "models/gpt.hpp"
#include "models/labels.hpp"
#include "models/state.hpp"

namespace bl::finetune {

struct Pretrained {
  std::string path;
  models::State state;
  models::GptConfig config;
  nlohmann::json tokenizer;  // metadata of the tokens it was trained on
  std::string codebook;      // their hash
  std::string hash;          // of weights, configuration and codebook
};
// Throws Exit::input, with the file's name: no next-token model, damaged, without codebook or start token.
Pretrained load_pretrained_file(const std::string& path);

struct TaggerFacts {
  nlohmann::json tokenizer;
  std::string codebook;
  std::vector<models::LabelClass> classes;
  nlohmann::json history;  // chain of the input, and this training
  nlohmann::json report;   // how it was trained, and what was loaded
};
// Written whole or not at all; replaces `path` when force.
void save_tagger(const std::string& path, bool force, const models::State& state, const TaggerFacts& facts);
// Of a tagger file, to go on with its training: Exit::input when it is of another codebook or other classes.
models::State load_tagger(const std::string& path, const TaggerFacts& expected);

}  // namespace bl::finetune
