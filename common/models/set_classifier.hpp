// Classifiers of jets (or events) by continuous numbers: what a classifier on tokens is compared with, and what tells two
// samples apart. The network reads rows of features; rows of an event stand one after the other, nothing is padded.
//
//   dense        one row an event (mass, tau21, …) -> perceptron -> logits
//   deep_sets    perceptron on each row -> sum over the event's rows -> perceptron -> logits
//                (Zaheer et al., arXiv:1703.06114; with momenta and angles the ParticleFlow of Komiske et al., arXiv:1810.05165)
//   transformer  linear -> blocks of models/transformer, without positions -> class attention -> perceptron -> logits. The
//                class token asks the same of every event, so its product with the keys is a matrix: one layer of the class
//                attention of Touvron et al. (arXiv:2103.17239) is a sum of values by the softmax of one linear map a head
//
// Features may have any units: each is shifted and scaled to mean 0 and deviation 1 over the rows that are trained on.
// Training is without files: data in, model out. All of it is a function of data, settings and seed alone; any number of
// threads gives the same bits.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "base/pool.hpp"
#include "models/transformer.hpp"
#include "nn/packed.hpp"
#include "nn/params.hpp"
#include "nn/tape.hpp"

namespace bl::models {

// Event e has the rows [offsets[e], offsets[e + 1]) of x (rows, features), and the class labels[e] in 0 … classes - 1. An
// event may be empty, but not where one row an event is meant.
struct SetData {
  std::size_t features = 0;
  std::vector<std::uint64_t> offsets{0};
  std::vector<float> x;
  std::vector<std::int32_t> labels;

  std::size_t events() const { return offsets.size() - 1; }
  std::size_t rows() const { return static_cast<std::size_t>(offsets.back()); }
  void add(std::span<const float> rows, std::int32_t label);  // whole rows of one event
};

enum class SetKind : std::uint8_t { dense, deep_sets, transformer };
std::string_view name_of(SetKind kind);  // "dense", "deep-sets", "transformer"

struct SetClassifierConfig {
  SetKind kind = SetKind::dense;
  std::uint32_t features = 0, classes = 2;
  std::uint32_t dim = 64;          // width of every hidden layer
  std::uint32_t layers = 2;        // hidden layers of the perceptron on rows; transformer: blocks
  std::uint32_t head_layers = 1;   // hidden layers after the sum over rows; not of dense
  std::uint32_t heads = 4;         // transformer
  std::uint32_t feed_forward = 2;  // transformer: inner width in units of dim
  double dropout = 0;              // of every hidden layer but the blocks', of each branch of a block

  void validate() const;  // throws Exit::usage naming the setting
};

template <class T>
class SetClassifier {
 public:
  explicit SetClassifier(const SetClassifierConfig& config);
  SetClassifier(const SetClassifier&) = delete;
  SetClassifier& operator=(const SetClassifier&) = delete;

  void init(std::uint64_t seed);  // weights are a function of seed and parameter name
  const SetClassifierConfig& config() const { return config_; }
  nn::Params<T>& params() { return params_; }
  const nn::Params<T>& params() const { return params_; }

  // What is done to features, and the mean number of rows of an event, by which sums over rows are divided so that the
  // perceptron after them reads numbers near 1. Not parameters: taken from the training data, then fixed.
  void standardise(const SetData& data, std::span<const std::uint32_t> events);
  void features(const float* row, T* out) const;  // one row, standardised
  // standardised = (x - mean) scale, one of each for every feature
  std::span<const double> means() const { return mean_; }
  std::span<const double> scales() const { return scale_; }

  // x (rows, features) standardised, of the events that `offsets` divides; both outlive the tape -> (events, classes)
  nn::Var<T> logits(nn::Tape<T>& tape, nn::Var<T> x, std::span<const std::int32_t> offsets) const;

 private:
  struct Layer {
    nn::Param weight, bias;
  };
  Layer add_layer(const std::string& name, std::size_t from, std::size_t to);
  nn::Var<T> hidden(nn::Tape<T>& tape, nn::Var<T> x, const Layer& layer) const;

  SetClassifierConfig config_;
  nn::Params<T> params_;
  std::vector<Layer> rows_, head_;
  BlockConfig block_;
  std::vector<Block> blocks_;
  Layer in_, scores_, values_, out_;   // in, scores and values: of the transformer
  nn::Param norm_weight_, norm_bias_;  // transformer, before the class attention
  std::vector<double> mean_, scale_;
  std::vector<T> per_event_;  // (dim): 1 / mean number of rows
};

struct SetTraining {
  std::uint32_t rounds = 40;       // at most; a round is an epoch, or round_steps steps where an epoch is shorter
  std::uint32_t round_steps = 25;  // so that few events are not over after a handful of steps
  std::uint32_t patience = 6;      // rounds without a smaller validation loss after which training ends; 0: never
  std::uint32_t batch = 256;       // events of a step; no more than the eighth part of the training events
  std::uint32_t shard = 32;        // events of a shard: changes the last bits
  std::uint32_t lanes = 8;         // the most threads that can work at once: changes the last bits
  double rate = 2e-3;              // of AdamW, falling to 0 over all rounds by half a cosine
  double decay = 0.01;
  double clip = 1;  // global norm of the gradient; 0: none

  void validate() const;  // throws Exit::usage naming the setting
};

struct SetRound {
  std::uint32_t round = 0;  // counted from 1
  double training = 0;      // mean cross-entropy of its steps, nats
  double validation = 0;    // cross-entropy of the validation events after it; NaN where there are none
  bool best = false;
};

// A trained classifier. Const: its scores do not depend on which events are scored together, nor on threads.
class TrainedSetClassifier {
 public:
  TrainedSetClassifier(std::shared_ptr<const SetClassifier<float>> model, std::vector<SetRound> history);
  const SetClassifier<float>& model() const { return *model_; }
  const std::vector<SetRound>& history() const { return history_; }
  // Probabilities [events][classes] of all events, or of those named. Labels are not looked at. Throws Exit::input for data
  // of other features, or a feature that is not finite.
  std::vector<double> scores(const SetData& data, Pool& pool) const;
  std::vector<double> scores(const SetData& data, std::span<const std::uint32_t> events, Pool& pool) const;

 private:
  std::shared_ptr<const SetClassifier<float>> model_;
  nn::PackedWeights packed_;
  std::vector<SetRound> history_;
};

// Trains on the events `training`; the weights kept are those of the smallest loss on the events `validation`, or the last
// where that is empty. `report` hears of every round as it ends. Throws Exit::input for a feature that is not finite, a label
// that is no class, a row too few or too many for a dense network, no training events or all of one class; Exit::failed
// where a loss is not finite.
TrainedSetClassifier train_set_classifier(const SetData& data, std::span<const std::uint32_t> training, std::span<const std::uint32_t> validation,
                                          const SetClassifierConfig& config, const SetTraining& settings, std::uint64_t seed, Pool& pool,
                                          const std::function<void(const SetRound&)>& report = {});

extern template class SetClassifier<float>;
extern template class SetClassifier<double>;

}  // namespace bl::models
