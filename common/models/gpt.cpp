#include "models/gpt.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <functional>
#include <string>

#include "base/error.hpp"
#include "nn/ops/elementwise.hpp"
#include "nn/ops/embedding.hpp"
#include "nn/ops/loss.hpp"
#include "nn/ops/norm.hpp"

namespace bl::models {
namespace {

using nn::Activation;
using nn::Group;

}  // namespace

void GptConfig::validate() const {
  const auto within = [](const char* name, std::uint64_t value, std::uint64_t low, std::uint64_t high) {
    if (value < low || value > high) fail(Exit::usage, "gpt: {} is {}, allowed are {} to {}", name, value, low, high);
  };
  within("vocabulary", vocabulary, 3, 1u << 24);
  within("positions", positions, 1, 1u << 20);
  within("dim", dim, 1, 1u << 16);
  within("heads", heads, 1, dim);
  within("layers", layers, 1, 1000);
  within("feed_forward", feed_forward, 1, 64);
  if (dim % heads != 0) fail(Exit::usage, "gpt: dim {} is not a multiple of heads {}", dim, heads);
  if (!(dropout >= 0 && dropout < 1)) fail(Exit::usage, "gpt: dropout is {}, allowed is 0 to below 1", dropout);
}

void GptTraining::validate() const {
  if (!(rate > 0 && std::isfinite(rate))) fail(Exit::usage, "gpt training: the learning rate is {}, allowed is above 0", rate);
  if (!(clip >= 0)) fail(Exit::usage, "gpt training: clip is {}, allowed is 0 or more", clip);
  if (shard < 1) fail(Exit::usage, "gpt training: shard is 0, allowed are 1 or more rows");
  if (lanes < 1 || lanes > 256) fail(Exit::usage, "gpt training: lanes is {}, allowed are 1 to 256", lanes);
}

void TokenSequences::check(const GptConfig& config, std::uint64_t first) const {
  for (std::size_t i = 0; i < size(); ++i) {
    if (length(i) + 1 > config.positions)
      fail(Exit::input, "sequence {} has {} tokens, the model reads at most {}", first + i, length(i), config.positions - 1);
    for (std::size_t t = offsets[i]; t < offsets[i + 1]; ++t)
      if (tokens[t] < 0 || tokens[t] >= config.start_id())
        fail(Exit::input, "sequence {}: token {} is out of the vocabulary of 0 to {}", first + i, tokens[t], config.start_id() - 1);
  }
}

void NextTokenInput::clear() {
  offsets.assign(1, 0);
  tokens.clear();
  positions.clear();
  targets.clear();
}

void NextTokenInput::add(const GptConfig& config, std::span<const std::int32_t> sequence) {
  tokens.push_back(config.start_id());
  tokens.insert(tokens.end(), sequence.begin(), sequence.end());
  targets.insert(targets.end(), sequence.begin(), sequence.end());
  targets.push_back(config.stop_id());
  for (std::size_t i = 0; i <= sequence.size(); ++i) positions.push_back(static_cast<std::int32_t>(i));
  offsets.push_back(static_cast<std::int32_t>(tokens.size()));
}

template <class T>
GptModel<T>::GptModel(const GptConfig& config) : config_(config) {
  config_.validate();
  const std::size_t dim = config.dim;
  token_ = params_.add("gpt/token", config.vocabulary, dim, Group::embedding);
  position_ = params_.add("gpt/position", config.positions, dim, Group::embedding);
  for (std::uint32_t l = 0; l < config.layers; ++l) blocks_.push_back(add_block(params_, fmt::format("gpt/{}/", l), config.block()));
  norm_weight_ = params_.add("gpt/norm/weight", 1, dim, Group::norm);
  norm_bias_ = params_.add("gpt/norm/bias", 1, dim, Group::norm);
  head_weight_ = params_.add("head/weight", config.vocabulary, dim, Group::weight);
  head_bias_ = params_.add("head/bias", 1, config.vocabulary, Group::bias);
  params_.allocate();
  init_norms(params_);
}

template <class T>
void GptModel<T>::init(std::uint64_t seed) {
  // GPT-2: 0.02 everywhere, less for what is added to the stream of residuals by all layers.
  constexpr double deviation = 0.02;
  const double branch = deviation / std::sqrt(2.0 * config_.layers);
  for (const nn::Param& p : {token_, position_, head_weight_}) params_.init_normal(p, seed, deviation);
  for (const Block& b : blocks_) {
    params_.init_normal(b.qkv_weight, seed, deviation);
    params_.init_normal(b.up_weight, seed, deviation);
    params_.init_normal(b.out_weight, seed, branch);
    params_.init_normal(b.down_weight, seed, branch);
  }
}

template <class T>
nn::Var<T> GptModel<T>::hidden(nn::Tape<T>& tape, const NextTokenInput& input) const {
  using nn::Var;
  const std::array<nn::Lookup<T>, 2> lookups{{{tape.param(token_), input.tokens.data()}, {tape.param(position_), input.positions.data()}}};
  Var<T> x = nn::embedding<T>(tape, input.tokens.size(), lookups);
  x = nn::dropout(tape, x, config_.dropout);
  for (const Block& b : blocks_) x = transform<T>(tape, x, b, config_.block(), input.offsets);
  return nn::layer_norm(tape, x, tape.param(norm_weight_), tape.param(norm_bias_));
}

template <class T>
double GptModel<T>::loss(nn::Tape<T>& tape, const NextTokenInput& input, double scale, std::span<T> log_probability) const {
  if (input.tokens.empty()) return 0;
  nn::Var<T> h = hidden(tape, input);
  return nn::linear_cross_entropy<T>(tape, h, tape.param(head_weight_), tape.param(head_bias_), input.targets, scale, log_probability);
}

template <class T>
double GptModel<T>::training_flops(double rows, double pairs) const {
  const double d = config_.dim, layers = config_.layers;
  const double matrices = layers * (4.0 + 2.0 * config_.feed_forward) * d * d + d * config_.vocabulary;
  return 6 * rows * matrices + 14 * layers * pairs / 2 * d;  // attention: 4 forward, 10 backward (the scores are made twice)
}

template class GptModel<float>;
template class GptModel<double>;

GptTrainer::GptTrainer(GptModel<float>& model, const GptTraining& config, Pool& pool)
    : model_(model),
      config_(config),
      pool_(pool),
      optimizer_(model.params(), config.optimizer),
      packed_(model.params(), config.precision, nn::Use::training),
      arenas_(pool.threads()) {
  config_.validate();
}

std::size_t GptTrainer::pack(const TokenSequences& batch) {
  std::size_t shards = 0;
  for (std::size_t i = 0; i < batch.size(); ++i) {
    if (shards == 0 || inputs_[shards - 1].tokens.size() >= config_.shard) {
      if (shards == inputs_.size()) inputs_.emplace_back();
      inputs_[shards++].clear();
    }
    inputs_[shards - 1].add(model_.config(), std::span(batch.tokens).subspan(batch.offsets[i], batch.length(i)));
  }
  return shards;
}

GptTrainer::Result GptTrainer::step(const TokenSequences& batch) {
  Result result;
  const std::size_t shards = pack(batch), active = std::min<std::size_t>(config_.lanes, shards);
  if (shards == 0) return result;
  for (std::size_t s = 0; s < shards; ++s) result.rows += inputs_[s].tokens.size();
  losses_.resize(std::max(losses_.size(), shards));
  nn::Params<float>& params = model_.params();
  while (lanes_.size() < active) {
    lanes_.emplace_back(params.size());
    lane_pointers_.push_back(lanes_.back().data());
  }
  packed_.update(pool_, params.values().data());
  const double scale = 1.0 / static_cast<double>(result.rows);
  const std::uint64_t number = optimizer_.steps();
  const auto task = [&](std::size_t lane, std::size_t worker) {
    std::memset(lanes_[lane].data(), 0, params.size() * sizeof(float));
    for (std::size_t s = lane; s < shards; s += active) {
      arenas_[worker].reset();
      nn::Tape<float> tape(arenas_[worker], params.values().data(), lanes_[lane].data());
      tape.use(&packed_);
      tape.seed(config_.seed, static_cast<std::uint32_t>(number), static_cast<std::uint32_t>(s));
      losses_[s] = model_.loss(tape, inputs_[s], scale);
      tape.backward();
    }
  };
  pool_.run(active, std::ref(task));
  for (std::size_t s = 0; s < shards; ++s) result.loss += losses_[s];
  result.loss *= scale;
  result.gradient_norm = nn::reduce_gradients<float>(pool_, std::span<float* const>(lane_pointers_).first(active), params.size());
  if (!std::isfinite(result.loss) || !std::isfinite(result.gradient_norm)) {
    const std::string name = params.first_not_finite(std::span<const float>(lanes_[0].data(), params.size()));
    fail(Exit::failed, "step {}: the loss is {} and the norm of the gradient {}; {}. Try a smaller learning rate (it was {:g})", number, result.loss,
         result.gradient_norm,
         name.empty() ? std::string("every single gradient is finite") : "the first gradient that is not finite is that of '" + name + "'", config_.rate);
  }
  optimizer_.step(pool_, params, lanes_[0].data(), config_.rate, nn::clip_factor(result.gradient_norm, config_.clip));
  return result;
}

}  // namespace bl::models
