// Taggers that bl-finetune made: the probability of each class.
#pragma once
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "base/pool.hpp"
#include "data/batch.hpp"
#include "models/classifier.hpp"
#include "models/labels.hpp"

namespace bl::score {

struct Tagger {
  std::unique_ptr<models::Classifier<float>> network;
  std::string path;
  std::string hash;          // of weights, configuration and codebook
  nlohmann::json tokenizer;  // metadata of the training stream's tokens
  std::vector<models::LabelClass> classes;
};

bool is_tagger(const std::string& path);  // by the kind that the file names
// Throws Exit::input, with the file's name: damaged, without codebook or classes, of variables that are not known here.
Tagger load_tagger(const std::string& path);

// meta["model"] and meta["tagger"] of the stream of scores, and meta["labels"]: the names of its labels.
nlohmann::json metadata(const Tagger& tagger);

// tokens/1 or /2 -> scores/1: logit_<class> and score_<class> (softmax of the logits) of each class; label: the class that
// the event's process belongs to, -1 for none. No tokens. The values of an event do not depend on the others, nor on threads.
// Throws Exit::input when a token or a length is out of the model's range, with the event's index in the stream, and where a
// tagger reads jet variables that cannot be computed from the batch.
Batch tag(const Batch& batch, const Tagger& tagger, models::ClassifierScorer& scorer, Pool& pool);

}  // namespace bl::score
