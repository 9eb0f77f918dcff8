// Classifier of token sequences, e.g. a jet tagger: the trunk of a GptModel, pre-trained or not, and a head.
//
// A sequence t_1 … t_n is read as start, t_1 … t_n: n + 1 rows of states h_0 … h_n, each of which has seen what stands before
// it. The head makes one vector of them, and logits of that:
//   class-attention  a learned class token asks the states in a few blocks (CaiT, Touvron et al., arXiv:2103.17239; for jets
//                    ParT, Qu et al., arXiv:2202.03772): c += W_o attention(W_q norm(c), W_kv h); c += W_2 gelu(W_1 norm(c));
//                    logits = W norm(c) + b. The class token is not among the keys: that keeps h fixed for all blocks
//   sum              Σ_i relu(W_1 h_i + b_1), then W · + b (the head of OmniJet-α, Birk et al., arXiv:2403.05618)
//   mean             gelu(W_1 [mean_i h_i, h_n] + b_1), then W · + b
// W and b start at zero: a new head gives every class the same probability, whatever the trunk.
//
// A head may read a few variables of the event beside the tokens. A dense branch of two hidden layers then makes logits of
// them, standardised: those of a dense SetClassifier (models/set_classifier.hpp), whose weights it can begin with. The
// logits are the sum of both, so that training begins where the variables end, and the tokens learn the rest.
//
// Names of parameters: those of the trunk begin with "gpt/", as in the files of GptModel, those of the head with "tagger/",
// of the branch on variables "tagger/variables/".
#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/pool.hpp"
#include "models/examples.hpp"
#include "models/gpt.hpp"
#include "models/objective.hpp"
#include "models/set_classifier.hpp"
#include "models/state.hpp"
#include "nn/packed.hpp"
#include "nn/params.hpp"
#include "nn/tape.hpp"

namespace bl::models {

enum class Head : std::uint8_t { class_attention, sum, mean };
std::string_view name_of(Head head);  // "class-attention"
std::vector<std::string> head_names();
Head head_named(std::string_view name);  // throws Exit::usage and lists the names

// A number of an event that is read beside the tokens, as (x - mean) scale.
struct InputVariable {
  std::string name;  // of letters, digits and _
  double mean = 0, scale = 1;
  bool operator==(const InputVariable&) const = default;
};

struct ClassifierConfig {
  GptConfig trunk;  // without classes of its own: those would tell it the answer
  Head head = Head::class_attention;
  std::uint32_t classes = 2;
  std::uint32_t blocks = 2;              // class-attention
  double dropout = 0;                    // of the vector that the last layer reads; the trunk has its own
  std::vector<InputVariable> variables;  // none: tokens alone

  void validate() const;  // throws Exit::usage naming the setting
  std::map<std::string, std::string> to_map() const;
  static ClassifierConfig from_map(const std::map<std::string, std::string>& map);  // throws Exit::input naming what is missing
  bool operator==(const ClassifierConfig&) const = default;
};

// Packed input of one pass. Keeps its memory when cleared.
struct ClassifierInput {
  NextTokenInput rows;
  std::vector<std::int32_t> queries{0}, last, zeros, labels;  // queries: 0 … sequences; the others one a sequence
  std::vector<float> variables;                               // (sequences, variables) standardised

  void clear();
  // Event `event` of `from`, but with this label. Nothing is checked here.
  void add(const ClassifierConfig& config, const Examples& from, std::size_t event, std::int32_t label);
};

template <class T>
class Classifier {
 public:
  explicit Classifier(const ClassifierConfig& config);
  Classifier(const Classifier&) = delete;
  Classifier& operator=(const Classifier&) = delete;

  void init(std::uint64_t seed);
  const ClassifierConfig& config() const { return config_; }
  nn::Params<T>& params() { return params_; }
  const nn::Params<T>& params() const { return params_; }
  const GptTrunk& trunk() const { return trunk_; }

  // The branch on variables becomes this network: dense, with the layers and classes of the branch, on features that the
  // configuration standardises alike; of any other it is a std::logic_error.
  void begin_variables(const SetClassifier<float>& network);

  // (sequences, classes)
  nn::Var<T> logits(nn::Tape<T>& tape, const ClassifierInput& input) const;
  // Sum over the sequences of -log p(label); scale · that is differentiated.
  double loss(nn::Tape<T>& tape, const ClassifierInput& input, double scale) const;

 private:
  struct ClassBlock {
    nn::Param norm1_weight, norm1_bias, query_weight, query_bias, key_value_weight, key_value_bias, out_weight, out_bias;
    nn::Param norm2_weight, norm2_bias, up_weight, up_bias, down_weight, down_bias;
  };
  struct Layer {
    nn::Param weight, bias;
  };
  nn::Var<T> pooled(nn::Tape<T>& tape, nn::Var<T> h, const ClassifierInput& input) const;

  ClassifierConfig config_;
  nn::Params<T> params_;
  GptTrunk trunk_;
  std::vector<ClassBlock> blocks_;
  nn::Param class_token_, norm_weight_, norm_bias_;  // class-attention
  nn::Param hidden_weight_, hidden_bias_;            // sum, mean
  nn::Param out_weight_, out_bias_;
  std::vector<Layer> variables_;  // the last one makes logits
};
extern template class Classifier<float>;
extern template class Classifier<double>;

// The objective "classification": Examples with labels.
class Classification final : public Objective {
 public:
  explicit Classification(const ClassifierConfig& config) : model_(config) {}
  Classifier<float>& model() { return model_; }

  std::string_view kind() const override { return "classification"; }
  nn::Params<float>& params() override { return model_.params(); }
  Texts settings() const override;
  void init(std::uint64_t seed) override { model_.init(seed); }
  std::size_t target_classes() const override { return model_.config().classes; }
  void reserve(std::size_t shards) override;
  void pack(std::size_t s, const Examples& from, std::span<const std::uint32_t> events, const Masker& mask, std::uint64_t epoch) override;
  std::span<const std::int32_t> targets(std::size_t s) const override { return inputs_[s].labels; }
  std::size_t tokens(std::size_t s) const override { return inputs_[s].rows.tokens.size(); }
  double loss(nn::Tape<float>& tape, std::size_t s, double scale) const override { return model_.loss(tape, inputs_[s], scale); }
  void put_fingerprint(State& state, std::span<const float> weights, Pool& pool) const override;

 private:
  Classifier<float> model_;
  std::vector<ClassifierInput> inputs_;
};

// What the branch on so many variables is a copy of.
SetClassifierConfig variables_network(std::size_t variables, std::size_t classes);

// As load_model (models/objective.hpp).
std::unique_ptr<Classifier<float>> load_classifier(const State& state);

// What became of the arrays of a pre-trained model.
struct LoadReport {
  std::vector<std::string> loaded, skipped, fresh;  // skipped: arrays of the file that nothing here has; fresh: not in the file
  std::size_t loaded_parameters = 0, skipped_parameters = 0, fresh_parameters = 0;
};
// Copies the weights of a state into parameters of the same name and shape; the others stay as they are. The embedding of
// classes that a trunk was conditioned on is no input any more: its mean is added to every position. Throws Exit::input when
// nothing matches.
LoadReport load_pretrained(const State& state, nn::Params<float>& params);

// Rows 0 … codes-1 of `vectors` (codes, width) become the embedding of the tokens 1 … codes of a trunk that is trained from
// scratch: standardised over the codes and joined by 96 sines of them along random directions, all projected by a random matrix
// (functions of seed) to dim, with elements of variance 1. Throws Exit::input when the model has fewer tokens than that.
void embed_codebook(nn::Params<float>& params, const GptTrunk& trunk, std::span<const float> vectors, std::size_t width, std::uint64_t seed);

// Scores sequences with a model that stays as it is: weights are laid out once. A value does not depend on the other
// sequences, on how they are batched, or on the number of threads. Examples must have passed check().
class ClassifierScorer {
 public:
  ClassifierScorer(const Classifier<float>& model, Pool& pool);
  // (sequences, classes), those of `events`, or of all
  std::vector<float> logits(const Examples& data);
  std::vector<float> logits(const Examples& data, std::span<const std::uint32_t> events);

 private:
  const Classifier<float>& model_;
  Pool& pool_;
  nn::PackedWeights packed_;
  std::vector<nn::Arena> arenas_;  // these of each worker
  std::vector<ClassifierInput> inputs_;
};

}  // namespace bl::models
