// Autoregressive model of token sequences: causal pre-norm transformer (GPT-2, Radford et al. 2019; for the constituents
// of jets OmniJet-α, Birk et al., arXiv:2403.05618).
//
//   x_i = token[id_i] + position[i] (+ class[c], c the class of the whole sequence, where the model knows classes)
//   layer: x += W_o attention(W_qkv norm(x)), token i seeing 0 … i; x += W_2 act(W_1 norm(x))
//   log p(id_{i+1} | id_0 … id_i) = log softmax(W norm(x_i) + b)
//
// A sequence t_1 … t_n is read as start, t_1 … t_n and has to answer t_1 … t_n, stop: n + 1 rows. Sequences are packed:
// matrices (rows, width) without padding, and offsets. Logits never exist all at once.
#pragma once
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "models/examples.hpp"
#include "models/transformer.hpp"
#include "nn/kernels.hpp"
#include "nn/packed.hpp"
#include "nn/params.hpp"
#include "nn/tape.hpp"

namespace bl::models {

struct GptConfig {
  std::uint32_t vocabulary = 8194;  // ids, the two special ones included: the last but one is start, the last is stop
  std::uint32_t positions = 129;    // rows of the longest sequence: its tokens and start
  std::uint32_t classes = 0;        // of sequences, with an embedding that is added to every row; 0: none
  std::uint32_t dim = 256, heads = 8, layers = 3;
  std::uint32_t feed_forward = 4;  // hidden width of the feed-forward part, in units of dim
  double dropout = 0.0;            // after the embedding, the attention and the feed-forward part
  nn::Activation activation = nn::Activation::gelu;

  BlockConfig block() const { return {dim, heads, feed_forward, activation, dropout, true}; }
  std::int32_t start_id() const { return static_cast<std::int32_t>(vocabulary) - 2; }
  std::int32_t stop_id() const { return static_cast<std::int32_t>(vocabulary) - 1; }
  void validate() const;  // throws Exit::usage naming the setting
  std::map<std::string, std::string> to_map() const;
  static GptConfig from_map(const std::map<std::string, std::string>& map);  // throws Exit::input naming what is missing
  bool operator==(const GptConfig&) const = default;
};

// Packed input of one pass. Keeps its memory when cleared.
struct NextTokenInput {
  std::vector<std::int32_t> offsets{0}, tokens, positions, classes, targets;  // but for offsets one a row; classes: if the model knows any

  void clear();
  void add(const GptConfig& config, std::span<const std::int32_t> sequence, std::int32_t label = 0);  // nothing is checked here
};

// The model without its last layer: what fine-tuning takes over (models/classifier.hpp).
struct GptTrunk {
  nn::Param token, position, class_of, norm_weight, norm_bias;
  std::vector<Block> blocks;
};
// Adds the parameters by the names "gpt/token", "gpt/0/norm1/weight" and so on.
template <class T>
GptTrunk add_trunk(nn::Params<T>& params, const GptConfig& config);
// After allocate(). Normal distributions, a function of seed and parameter name; norms are left to init_norms.
template <class T>
void init_trunk(nn::Params<T>& params, const GptTrunk& trunk, const GptConfig& config, std::uint64_t seed);
// States after the last norm, (rows, dim).
template <class T>
nn::Var<T> states(nn::Tape<T>& tape, const GptTrunk& trunk, const GptConfig& config, const NextTokenInput& input);

template <class T>
class GptModel {
 public:
  explicit GptModel(const GptConfig& config);
  GptModel(const GptModel&) = delete;
  GptModel& operator=(const GptModel&) = delete;

  // Weights drawn from normal distributions, a function of seed and parameter name.
  void init(std::uint64_t seed);
  const GptConfig& config() const { return config_; }
  nn::Params<T>& params() { return params_; }
  const nn::Params<T>& params() const { return params_; }

  // States after the last norm, (rows, dim).
  nn::Var<T> hidden(nn::Tape<T>& tape, const NextTokenInput& input) const { return states(tape, parts_, config_, input); }
  // Sum over all rows of -log p(target); scale · that is differentiated. log_probability: as in linear_cross_entropy.
  double loss(nn::Tape<T>& tape, const NextTokenInput& input, double scale, std::span<T> log_probability = {}) const;

  // Multiplications and additions of forward and backward, for `rows` rows whose sequences have `pairs` = Σ n² pairs, half
  // of which causality leaves: what a benchmark divides by time.
  double training_flops(double rows, double pairs) const;

  // The parameters by their part in the forward pass, for those who make the pass in another way (generation).
  struct Parts : GptTrunk {
    nn::Param head_weight, head_bias;
  };
  const Parts& parts() const { return parts_; }

 private:
  GptConfig config_;
  nn::Params<T> params_;
  Parts parts_;
};

extern template class GptModel<float>;
extern template class GptModel<double>;

}  // namespace bl::models
