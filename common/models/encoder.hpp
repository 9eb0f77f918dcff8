// Bidirectional encoder for sequences of tokens (pre-norm transformer; Vaswani et al., arXiv:1706.03762, Xiong et al.,
// arXiv:2002.04745) with a head that predicts hidden tokens.
//
//   x = token[id] + position[rank] (+ type[category])
//   layer: x += W_o attention(W_qkv norm(x)); x += W_2 act(W_1 norm(x))
//   head:  log softmax(W norm(x) + b)
//
// Events are packed: matrices (tokens, width) without padding, and offsets. In the last layer only the rows that are
// asked for (the hidden tokens) pass through the output projection and the feed-forward part.
#pragma once
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "base/pool.hpp"
#include "models/examples.hpp"
#include "models/transformer.hpp"
#include "nn/arena.hpp"
#include "nn/kernels.hpp"
#include "nn/packed.hpp"
#include "nn/params.hpp"
#include "nn/tape.hpp"

namespace bl::models {

struct EncoderConfig {
  std::uint32_t vocabulary = 0;  // ids, the special ones included
  std::uint32_t mask_id = 0;     // the id that stands for a hidden token
  std::uint32_t positions = 32;  // ranks 0 … positions-1
  std::uint32_t types = 0;       // categories 0 … types-1 with an embedding of their own; 0: none. A hidden token has none
  std::uint32_t dim = 64, heads = 4, layers = 3;
  std::uint32_t feed_forward = 4;  // hidden width of the feed-forward part, in units of dim
  double dropout = 0.0;            // after the embedding, the attention and the feed-forward part
  nn::Activation activation = nn::Activation::gelu;

  BlockConfig block() const { return {dim, heads, feed_forward, activation, dropout, false}; }
  void validate() const;  // throws Exit::usage naming the setting
  std::map<std::string, std::string> to_map() const;
  static EncoderConfig from_map(const std::map<std::string, std::string>& map);  // throws Exit::input naming what is missing
  bool operator==(const EncoderConfig&) const = default;
};

// Packed input of one pass: tokens with the hidden ones replaced, and what they were. Keeps its memory when cleared.
struct MaskedInput {
  std::vector<std::int32_t> offsets{0}, tokens, positions, types;
  std::vector<std::int32_t> rows, targets;  // of the hidden tokens

  void clear();
  // Event i of `data`, hiding what `mask` (one byte per token of the event) says. Nothing is checked here.
  void add(const EncoderConfig& config, const Examples& data, std::size_t event, std::span<const std::uint8_t> mask);
  // Event i with only its token `hidden` hidden.
  void add_one(const EncoderConfig& config, const Examples& data, std::size_t event, std::size_t hidden);
};

template <class T>
class MaskedTokenModel {
 public:
  explicit MaskedTokenModel(const EncoderConfig& config);
  MaskedTokenModel(const MaskedTokenModel&) = delete;
  MaskedTokenModel& operator=(const MaskedTokenModel&) = delete;

  // Weights drawn from normal distributions, a function of seed and parameter name.
  void init(std::uint64_t seed);
  const EncoderConfig& config() const { return config_; }
  nn::Params<T>& params() { return params_; }
  const nn::Params<T>& params() const { return params_; }

  // Hidden states after the last norm: (rows.size(), dim), or of all tokens when `rows` is empty.
  nn::Var<T> encode(nn::Tape<T>& tape, const MaskedInput& input, std::span<const std::int32_t> rows) const;
  // Sum over hidden tokens of -log p(token); scale · that is differentiated. log_probability: as in linear_cross_entropy.
  double loss(nn::Tape<T>& tape, const MaskedInput& input, double scale, std::span<T> log_probability = {}) const;
  // Logits of the hidden tokens, (targets, vocabulary).
  nn::Var<T> logits(nn::Tape<T>& tape, const MaskedInput& input) const;

  // Multiplications and additions of forward and backward, for `tokens` tokens in sequences with `pairs` pairs, of
  // which `targets` are hidden: what a benchmark divides by time.
  double training_flops(double tokens, double pairs, double targets) const;

 private:
  EncoderConfig config_;
  nn::Params<T> params_;
  nn::Param token_, position_, type_, norm_weight_, norm_bias_, head_weight_, head_bias_;
  std::vector<Block> blocks_;
};

// Scores events with a model that stays as it is: its weights are laid out once, memory is kept from call to call. A value
// does not depend on the other events, on how they are batched, or on the number of threads. Examples must have passed
// check().
class Scorer {
 public:
  Scorer(const MaskedTokenModel<float>& model, Pool& pool);

  // log p(token | all other tokens of its event) of every token that is `wanted` (one byte per token; empty: all), with it
  // alone hidden; 0 for the others. One value per token of `data`.
  std::vector<float> token_log_probabilities(const Examples& data, std::span<const std::uint8_t> wanted);
  // log p of the tokens that `data.mask` hides, all of an event at once; 0 for the others.
  std::vector<float> masked_log_probabilities(const Examples& data);

 private:
  // log p of the hidden tokens of `input`.
  std::span<const float> answers(const MaskedInput& input, std::size_t worker);

  const MaskedTokenModel<float>& model_;
  Pool& pool_;
  nn::PackedWeights packed_;
  std::vector<nn::Arena> arenas_;  // these of each worker
  std::vector<MaskedInput> inputs_;
  std::vector<std::vector<float>> results_;
};

extern template class MaskedTokenModel<float>;
extern template class MaskedTokenModel<double>;

}  // namespace bl::models
