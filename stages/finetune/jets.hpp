// Labelled jets in memory, from batches of tokens: what is trained on, what stops the training, what is tested on.
#pragma once
#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "base/pool.hpp"
#include "data/batch.hpp"
#include "models/examples.hpp"
#include "models/gpt.hpp"
#include "models/labels.hpp"

namespace bl::finetune {

class Jets {
 public:
  // `where` names the stream in messages. model: the limits on tokens.
  Jets(std::string where, const models::GptConfig& model) : where_(std::move(where)), model_(model) {}

  // Throws Exit::input, naming the jet, for a token or a length that the model does not read.
  void add(const Batch& batch);
  // The same with the variables of each jet (tokens/jet_variables.hpp), for all batches or none. Throws Exit::input where the
  // tokens lack their constituents.
  void add_with_variables(const Batch& batch, Pool& pool);

  // The classes that the stream itself tells of: every process, in the order of meta["labels"], the others behind by name.
  // Throws Exit::input where the jets name no process, or one alone.
  std::vector<models::LabelClass> classes(const nlohmann::json& meta) const;
  // Drops the jets of no class and gives the others their labels. Throws Exit::input where a class has no jet.
  void label(std::span<const models::LabelClass> classes);

  // Puts the jets of another stream, labelled alike, behind these; returns their indices.
  std::vector<std::uint32_t> append(const Jets& other);

  const models::Examples& examples() const { return examples_; }
  std::size_t size() const { return examples_.events(); }
  std::span<const std::uint64_t> event_ids() const { return event_id_; }
  std::size_t dropped() const { return dropped_; }  // by label()
  const std::string& where() const { return where_; }
  // Of ids, tokens and labels, in their order.
  std::string digest() const;

 private:
  std::string where_;
  models::GptConfig model_;
  models::Examples examples_;
  std::vector<std::uint64_t> event_id_;
  std::vector<std::uint32_t> process_;  // index in names_
  std::map<std::string, std::uint32_t> number_;
  std::vector<std::string> names_;
  std::size_t dropped_ = 0;
};

// Indices of jets; no event_id is in both.
struct Split {
  std::vector<std::uint32_t> training, stopping;
};
// A fraction of the events, chosen by a function of (seed, event_id), stops the training; of at most `max_jets` jets (0: all)
// that were drawn as below.
Split split_by_event(const Jets& jets, std::size_t classes, double fraction, std::size_t max_jets, std::uint64_t seed);
// So many jets to train and to stop on, the same number of each class (the first classes one more where that does not
// divide), drawn by seed. Of one seed the smaller training sample is part of the larger. Throws Exit::input, naming the
// class, where there are too few.
Split draw(const Jets& jets, std::span<const models::LabelClass> classes, std::size_t training, std::size_t stopping, std::uint64_t seed);

// Throws Exit::input and names the first event_id that both have.
void refuse_common_events(const Jets& a, const Jets& b);

}  // namespace bl::finetune
