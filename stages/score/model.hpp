// A model file as bl-score needs it: the network, the frequencies of tokens in training, and the codebook they belong to.
#pragma once
#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "models/encoder.hpp"
#include "models/trainer.hpp"
#include "wire/hello.hpp"

namespace bl::score {

struct Model {
  std::unique_ptr<models::MaskedTokenModel<float>> network;
  std::string path;
  std::string hash;             // of weights, configuration and codebook
  nlohmann::json tokenizer;     // metadata of the training stream's tokens; "hash" is that of the codebook
  std::vector<double> unigram;  // (vocabulary) log of the frequency of an id among the targets of training, (n + 1) / (N + vocabulary)
  bool event_level = true;      // were event-level tokens among the targets of the training?
};

// Throws Exit::input, with the file's name: no model, another objective, damaged, without codebook or frequencies.
Model load(const std::string& path);
Model from_state(const models::State& state, const nlohmann::json& tokenizer, const std::string& path);

// Throws Exit::input and names both codebooks unless the stream's tokens are of the model's.
void same_codebook(const Model& model, const wire::Hello& hello, std::string_view where);

}  // namespace bl::score
