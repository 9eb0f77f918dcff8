// Events drawn from a next-token model, as a stream of tokens/1.
#pragma once
#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "data/batch.hpp"
#include "models/generator.hpp"
#include "models/state.hpp"
#include "stage/context.hpp"

namespace bl::generate {

// What of a model file generation needs.
struct Model {
  std::unique_ptr<models::GptModel<float>> network;
  std::string path;
  std::string hash;                    // of weights, configuration and codebook
  nlohmann::json tokenizer;            // metadata of the training stream's tokens; "hash" is that of the codebook
  std::vector<std::string> classes;    // names by class; empty: the model knows none
  std::vector<std::uint8_t> category;  // (ids below start) of each id, as in tokens/1
  bool draws_unknown = false;          // was id 0, a particle without a token, among the targets of training?
};
// Throws Exit::input, with the file's name: no model, another objective, damaged, without codebook or start token.
Model load(const std::string& path);
Model from_state(const models::State& state, const nlohmann::json& tokenizer, std::vector<std::string> classes, const std::string& path);

// What sequences begin with: sequence i with prompt i mod size().
struct Prompts {
  std::vector<std::uint64_t> offsets{0};
  std::vector<std::int32_t> tokens;

  std::size_t size() const { return offsets.size() - 1; }
  std::span<const std::int32_t> of(std::uint64_t sequence) const;  // empty where there are none
};
// One prompt from the words of --prompt. Throws Exit::usage for what is no id of the model, or too many of them.
Prompts prompt_of(const std::vector<std::string>& ids, const Model& model, std::size_t longest);
// Adds the first `most` tokens (0: all) of each event. Throws Exit::input, naming the event, for tokens that are not the
// model's, or more than `longest`.
void add_prompts(Prompts& prompts, const Batch& tokens, const Model& model, std::size_t most, std::size_t longest);

// Classes by name; throws Exit::usage and lists the model's classes where one is not known, or where the model needs a
// class or knows none.
std::vector<std::int32_t> classes_of(const std::vector<std::string>& names, const Model& model);

// Sequences first, first + 1, … as a batch of tokens/1. labels: sequence i is of class labels[i mod size]; may be empty.
Batch to_batch(std::span<const models::Sequence> sequences, std::uint64_t first, const Model& model, std::span<const std::int32_t> labels);

// meta["tokenizer"], meta["model"] and meta["generation"] of the stream, and meta["labels"]: the names of its classes.
nlohmann::json metadata(const Model& model, const models::GeneratorConfig& config);

}  // namespace bl::generate
