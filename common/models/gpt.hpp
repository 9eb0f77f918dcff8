// Autoregressive model of token sequences: causal pre-norm transformer (GPT-2, Radford et al. 2019; for the constituents
// of jets OmniJet-α, Birk et al., arXiv:2403.05618).
//
//   x_i = token[id_i] + position[i]
//   layer: x += W_o attention(W_qkv norm(x)), token i seeing 0 … i; x += W_2 act(W_1 norm(x))
//   log p(id_{i+1} | id_0 … id_i) = log softmax(W norm(x_i) + b)
//
// A sequence t_1 … t_n is read as start, t_1 … t_n and has to answer t_1 … t_n, stop: n + 1 rows. Sequences are packed:
// matrices (rows, width) without padding, and offsets. Logits never exist all at once.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "base/pool.hpp"
#include "models/transformer.hpp"
#include "nn/arena.hpp"
#include "nn/kernels.hpp"
#include "nn/optimizer.hpp"
#include "nn/packed.hpp"
#include "nn/params.hpp"
#include "nn/tape.hpp"

namespace bl::models {

struct GptConfig {
  std::uint32_t vocabulary = 8194;  // ids, the two special ones included: the last but one is start, the last is stop
  std::uint32_t positions = 129;    // rows of the longest sequence: its tokens and start
  std::uint32_t dim = 256, heads = 8, layers = 3;
  std::uint32_t feed_forward = 4;  // hidden width of the feed-forward part, in units of dim
  double dropout = 0.0;            // after the embedding, the attention and the feed-forward part
  nn::Activation activation = nn::Activation::gelu;

  std::int32_t start_id() const { return static_cast<std::int32_t>(vocabulary) - 2; }
  std::int32_t stop_id() const { return static_cast<std::int32_t>(vocabulary) - 1; }
  BlockConfig block() const { return {dim, heads, feed_forward, activation, dropout, true}; }
  void validate() const;  // throws Exit::usage naming the setting
};

// Sequences in memory: sequence i has the tokens [offsets[i], offsets[i + 1]), without start and stop.
struct TokenSequences {
  std::vector<std::uint64_t> offsets{0};
  std::vector<std::int32_t> tokens;

  std::size_t size() const { return offsets.size() - 1; }
  std::size_t length(std::size_t i) const { return offsets[i + 1] - offsets[i]; }
  // Throws Exit::input for an id or a length out of the model's range, naming sequence (counted from `first`), value and limit.
  void check(const GptConfig& config, std::uint64_t first = 0) const;
};

// Packed input of one pass. Keeps its memory when cleared.
struct NextTokenInput {
  std::vector<std::int32_t> offsets{0}, tokens, positions, targets;  // the last three: one a row

  void clear();
  void add(const GptConfig& config, std::span<const std::int32_t> sequence);  // nothing is checked here
};

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
  nn::Var<T> hidden(nn::Tape<T>& tape, const NextTokenInput& input) const;
  // Sum over all rows of -log p(target); scale · that is differentiated. log_probability: as in linear_cross_entropy.
  double loss(nn::Tape<T>& tape, const NextTokenInput& input, double scale, std::span<T> log_probability = {}) const;

  // Multiplications and additions of forward and backward, for `rows` rows whose sequences have `pairs` = Σ n² pairs, half
  // of which causality leaves: what a benchmark divides by time.
  double training_flops(double rows, double pairs) const;

 private:
  GptConfig config_;
  nn::Params<T> params_;
  nn::Param token_, position_, norm_weight_, norm_bias_, head_weight_, head_bias_;
  std::vector<Block> blocks_;
};

struct GptTraining {
  nn::OptimizerConfig optimizer;
  double rate = 1e-3;
  double clip = 0;                               // global norm of the gradient; 0: no clipping
  std::uint64_t seed = 1;                        // of dropout
  std::uint32_t shard = 1024;                    // rows at which a shard is full: changes the last bits
  std::uint32_t lanes = 4;                       // the most threads that can work at once: changes the last bits
  nn::Precision precision = nn::Precision::f32;  // of the products
  void validate() const;                         // throws Exit::usage naming the setting
};

// Training steps on batches of sequences. A batch is cut into shards of whole sequences, shard s belongs to lane
// s mod lanes, a lane adds up its shards in order and the lanes are added by a fixed tree: any number of threads gives
// the same bits.
class GptTrainer {
 public:
  GptTrainer(GptModel<float>& model, const GptTraining& config, Pool& pool);

  struct Result {
    double loss = 0;           // mean over the rows of -log p
    double gradient_norm = 0;  // before clipping
    std::size_t rows = 0;
  };
  // One step on all sequences, which must have passed check(). Throws Exit::failed when the loss or a gradient is not
  // finite, naming the step and the first parameter; the weights are then those before the step.
  Result step(const TokenSequences& batch);
  std::uint64_t steps() const { return optimizer_.steps(); }

 private:
  std::size_t pack(const TokenSequences& batch);  // returns the number of shards

  GptModel<float>& model_;
  GptTraining config_;
  Pool& pool_;
  nn::Optimizer<float> optimizer_;
  nn::PackedWeights packed_;
  std::vector<nn::Arena> arenas_;          // one a worker
  std::vector<nn::Aligned<float>> lanes_;  // gradients
  std::vector<float*> lane_pointers_;
  std::vector<NextTokenInput> inputs_;  // one a shard
  std::vector<double> losses_;          // one a shard
};

extern template class GptModel<float>;
extern template class GptModel<double>;

}  // namespace bl::models
