#include "models/gpt.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <string>

#include "base/error.hpp"
#include "models/state.hpp"
#include "nn/ops/elementwise.hpp"
#include "nn/ops/embedding.hpp"
#include "nn/ops/loss.hpp"
#include "nn/ops/norm.hpp"

namespace bl::models {
namespace {

using nn::Group;

constexpr double init_deviation = 0.02;

}  // namespace

void GptConfig::validate() const {
  const auto within = [](const char* name, std::uint64_t value, std::uint64_t low, std::uint64_t high) {
    if (value < low || value > high) fail(Exit::usage, "gpt: {} is {}, allowed are {} to {}", name, value, low, high);
  };
  within("vocabulary", vocabulary, 3, 1u << 24);
  within("positions", positions, 1, 1u << 20);
  within("classes", classes, 0, 1u << 16);
  within("dim", dim, 1, 1u << 16);
  within("heads", heads, 1, dim);
  within("layers", layers, 1, 1000);
  within("feed_forward", feed_forward, 1, 64);
  if (dim % heads != 0) fail(Exit::usage, "gpt: dim {} is not a multiple of heads {}", dim, heads);
  if (!(dropout >= 0 && dropout < 1)) fail(Exit::usage, "gpt: dropout is {}, allowed is 0 to below 1", dropout);
}

std::map<std::string, std::string> GptConfig::to_map() const {
  const auto text = [](const auto& x) { return fmt::format("{}", x); };
  return {{"vocabulary", text(vocabulary)},
          {"positions", text(positions)},
          {"classes", text(classes)},
          {"dim", text(dim)},
          {"heads", text(heads)},
          {"layers", text(layers)},
          {"feed_forward", text(feed_forward)},
          {"dropout", text(dropout)},
          {"activation", std::string(name_of(activation))}};
}

GptConfig GptConfig::from_map(const std::map<std::string, std::string>& map) {
  GptConfig c;
  const auto read = [&map]<class N>(const char* key, N& value) { value = number<N>(map, key, "the model's configuration"); };
  read("vocabulary", c.vocabulary);
  read("positions", c.positions);
  read("classes", c.classes);
  read("dim", c.dim);
  read("heads", c.heads);
  read("layers", c.layers);
  read("feed_forward", c.feed_forward);
  read("dropout", c.dropout);
  c.activation = activation_of(map);
  try {
    c.validate();
  } catch (const Error& e) {
    fail(Exit::input, "the model's configuration is not valid: {}", e.what());
  }
  return c;
}

void Examples::check(const GptConfig& config, std::uint64_t first) const {
  bl::check(offsets.back() == tokens.size(), "examples: columns of different length");
  bl::check(config.classes == 0 || labels.size() == events(), "examples: the model has classes, the data have not");
  for (std::size_t e = 0; e < events(); ++e) {
    if (length(e) + 1 > config.positions) fail(Exit::input, "event {} has {} tokens, the model reads at most {}", first + e, length(e), config.positions - 1);
    for (const std::int32_t token : tokens_of(e))
      if (token < 0 || token >= config.start_id())
        fail(Exit::input, "event {}: token {} is out of the vocabulary of 0 to {}", first + e, token, config.start_id() - 1);
    if (config.classes > 0 && (labels[e] < 0 || static_cast<std::uint32_t>(labels[e]) >= config.classes))
      fail(Exit::input, "event {}: class {} is out of the model's {} classes", first + e, labels[e], config.classes);
  }
}

void NextTokenInput::clear() {
  offsets.assign(1, 0);
  tokens.clear();
  positions.clear();
  classes.clear();
  targets.clear();
}

void NextTokenInput::add(const GptConfig& config, std::span<const std::int32_t> sequence, std::int32_t label) {
  tokens.push_back(config.start_id());
  tokens.insert(tokens.end(), sequence.begin(), sequence.end());
  targets.insert(targets.end(), sequence.begin(), sequence.end());
  targets.push_back(config.stop_id());
  for (std::size_t i = 0; i <= sequence.size(); ++i) positions.push_back(static_cast<std::int32_t>(i));
  if (config.classes > 0) classes.insert(classes.end(), sequence.size() + 1, label);
  offsets.push_back(static_cast<std::int32_t>(tokens.size()));
}

template <class T>
GptTrunk add_trunk(nn::Params<T>& params, const GptConfig& config) {
  const std::size_t dim = config.dim;
  GptTrunk trunk;
  trunk.token = params.add("gpt/token", config.vocabulary, dim, Group::embedding);
  trunk.position = params.add("gpt/position", config.positions, dim, Group::embedding);
  if (config.classes > 0) trunk.class_of = params.add("gpt/class", config.classes, dim, Group::embedding);
  for (std::uint32_t l = 0; l < config.layers; ++l) trunk.blocks.push_back(add_block(params, fmt::format("gpt/{}/", l), config.block()));
  trunk.norm_weight = params.add("gpt/norm/weight", 1, dim, Group::norm);
  trunk.norm_bias = params.add("gpt/norm/bias", 1, dim, Group::norm);
  return trunk;
}

template <class T>
void init_trunk(nn::Params<T>& params, const GptTrunk& trunk, const GptConfig& config, std::uint64_t seed) {
  // GPT-2: 0.02 everywhere, less for what is added to the stream of residuals by all layers.
  const double branch = init_deviation / std::sqrt(2.0 * config.layers);
  for (const nn::Param& p : {trunk.token, trunk.position}) params.init_normal(p, seed, init_deviation);
  if (config.classes > 0) params.init_normal(trunk.class_of, seed, init_deviation);
  for (const Block& b : trunk.blocks) {
    params.init_normal(b.qkv_weight, seed, init_deviation);
    params.init_normal(b.up_weight, seed, init_deviation);
    params.init_normal(b.out_weight, seed, branch);
    params.init_normal(b.down_weight, seed, branch);
  }
}

template <class T>
nn::Var<T> states(nn::Tape<T>& tape, const GptTrunk& trunk, const GptConfig& config, const NextTokenInput& input) {
  std::array<nn::Lookup<T>, 3> lookups{{{tape.param(trunk.token), input.tokens.data()}, {tape.param(trunk.position), input.positions.data()}, {}}};
  if (config.classes > 0) lookups[2] = {tape.param(trunk.class_of), input.classes.data()};
  nn::Var<T> x = nn::embedding<T>(tape, input.tokens.size(), std::span<const nn::Lookup<T>>(lookups.data(), config.classes > 0 ? 3 : 2));
  x = nn::dropout(tape, x, config.dropout);
  for (const Block& b : trunk.blocks) x = transform<T>(tape, x, b, config.block(), input.offsets);
  return nn::layer_norm(tape, x, tape.param(trunk.norm_weight), tape.param(trunk.norm_bias));
}

template <class T>
GptModel<T>::GptModel(const GptConfig& config) : config_(config) {
  config_.validate();
  static_cast<GptTrunk&>(parts_) = add_trunk(params_, config);
  parts_.head_weight = params_.add("head/weight", config.vocabulary, config.dim, Group::weight);
  parts_.head_bias = params_.add("head/bias", 1, config.vocabulary, Group::bias);
  params_.allocate();
  init_norms(params_);
}

template <class T>
void GptModel<T>::init(std::uint64_t seed) {
  init_trunk(params_, parts_, config_, seed);
  params_.init_normal(parts_.head_weight, seed, init_deviation);
}

template <class T>
double GptModel<T>::loss(nn::Tape<T>& tape, const NextTokenInput& input, double scale, std::span<T> log_probability) const {
  if (input.tokens.empty()) return 0;
  nn::Var<T> h = hidden(tape, input);
  return nn::linear_cross_entropy<T>(tape, h, tape.param(parts_.head_weight), tape.param(parts_.head_bias), input.targets, scale, log_probability);
}

template <class T>
double GptModel<T>::training_flops(double rows, double pairs) const {
  const double d = config_.dim, layers = config_.layers;
  const double matrices = layers * (4.0 + 2.0 * config_.feed_forward) * d * d + d * config_.vocabulary;
  return 6 * rows * matrices + 14 * layers * pairs / 2 * d;  // attention: 4 forward, 10 backward (the scores are made twice)
}

#define BEAMLINE_INSTANTIATE(T)                                                               \
  template GptTrunk add_trunk(nn::Params<T>&, const GptConfig&);                              \
  template void init_trunk(nn::Params<T>&, const GptTrunk&, const GptConfig&, std::uint64_t); \
  template nn::Var<T> states(nn::Tape<T>&, const GptTrunk&, const GptConfig&, const NextTokenInput&);
BEAMLINE_INSTANTIATE(float)
BEAMLINE_INSTANTIATE(double)
#undef BEAMLINE_INSTANTIATE

template class GptModel<float>;
template class GptModel<double>;

}  // namespace bl::models
