#include "models/encoder.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>

#include "base/error.hpp"
#include "models/state.hpp"
#include "nn/ops/elementwise.hpp"
#include "nn/ops/embedding.hpp"
#include "nn/ops/linear.hpp"
#include "nn/ops/loss.hpp"
#include "nn/ops/norm.hpp"

namespace bl::models {
namespace {

using nn::Group;

}  // namespace

void EncoderConfig::validate() const {
  const auto within = [](const char* name, std::uint64_t value, std::uint64_t low, std::uint64_t high) {
    if (value < low || value > high) fail(Exit::usage, "encoder: {} is {}, allowed are {} to {}", name, value, low, high);
  };
  within("vocabulary", vocabulary, 2, 1u << 24);
  within("mask_id", mask_id, 0, vocabulary - 1);
  within("positions", positions, 1, 1u << 20);
  within("types", types, 0, 256);
  within("dim", dim, 1, 1u << 16);
  within("heads", heads, 1, dim);
  within("layers", layers, 1, 1000);
  within("feed_forward", feed_forward, 1, 64);
  if (dim % heads != 0) fail(Exit::usage, "encoder: dim {} is not a multiple of heads {}", dim, heads);
  if (!(dropout >= 0 && dropout < 1)) fail(Exit::usage, "encoder: dropout is {}, allowed is 0 to below 1", dropout);
}

std::map<std::string, std::string> EncoderConfig::to_map() const {
  const auto text = [](const auto& x) { return fmt::format("{}", x); };
  return {{"vocabulary", text(vocabulary)},
          {"mask_id", text(mask_id)},
          {"positions", text(positions)},
          {"types", text(types)},
          {"dim", text(dim)},
          {"heads", text(heads)},
          {"layers", text(layers)},
          {"feed_forward", text(feed_forward)},
          {"dropout", text(dropout)},
          {"activation", std::string(name_of(activation))}};
}

EncoderConfig EncoderConfig::from_map(const std::map<std::string, std::string>& map) {
  EncoderConfig c;
  const auto read = [&map]<class N>(const char* key, N& value) { value = number<N>(map, key, "the model's configuration"); };
  read("vocabulary", c.vocabulary);
  read("mask_id", c.mask_id);
  read("positions", c.positions);
  read("types", c.types);
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

void Examples::check(const EncoderConfig& config, std::uint64_t first) const {
  bl::check(positions.size() == tokens.size() && offsets.back() == tokens.size(), "examples: columns of different length");
  bl::check(config.types == 0 || types.size() == tokens.size(), "examples: the model has types, the data have not");
  for (std::size_t e = 0; e < events(); ++e)
    for (std::uint64_t t = offsets[e]; t < offsets[e + 1]; ++t) {
      if (tokens[t] < 0 || static_cast<std::uint32_t>(tokens[t]) >= config.vocabulary)
        fail(Exit::input, "event {}: token {} is out of the model's vocabulary of {}", first + e, tokens[t], config.vocabulary);
      if (positions[t] < 0 || static_cast<std::uint32_t>(positions[t]) >= config.positions)
        fail(Exit::input, "event {}: position {} is out of the model's range of {}", first + e, positions[t], config.positions);
      if (config.types > 0 && types[t] >= config.types)
        fail(Exit::input, "event {}: category {} is out of the model's range of {}", first + e, types[t], config.types);
    }
}

void MaskedInput::clear() {
  offsets.assign(1, 0);
  for (auto* v : {&tokens, &positions, &types, &rows, &targets}) v->clear();
}

void MaskedInput::add(const EncoderConfig& config, const Examples& data, std::size_t event, std::span<const std::uint8_t> mask) {
  const std::size_t first = data.offsets[event], n = data.offsets[event + 1] - first;
  for (std::size_t i = 0; i < n; ++i) {
    const bool hidden = mask[i] != 0;
    if (hidden) {
      rows.push_back(static_cast<std::int32_t>(tokens.size()));
      targets.push_back(data.tokens[first + i]);
    }
    tokens.push_back(hidden ? static_cast<std::int32_t>(config.mask_id) : data.tokens[first + i]);
    positions.push_back(data.positions[first + i]);
    // The last type stands for "hidden": the category would give the token away.
    if (config.types > 0) types.push_back(hidden ? static_cast<std::int32_t>(config.types) : data.types[first + i]);
  }
  offsets.push_back(static_cast<std::int32_t>(tokens.size()));
}

void MaskedInput::add_one(const EncoderConfig& config, const Examples& data, std::size_t event, std::size_t hidden) {
  const std::size_t first = data.offsets[event], last = data.offsets[event + 1], start = tokens.size();
  tokens.insert(tokens.end(), data.tokens.begin() + static_cast<std::ptrdiff_t>(first), data.tokens.begin() + static_cast<std::ptrdiff_t>(last));
  positions.insert(positions.end(), data.positions.begin() + static_cast<std::ptrdiff_t>(first), data.positions.begin() + static_cast<std::ptrdiff_t>(last));
  if (config.types > 0) {
    types.insert(types.end(), data.types.begin() + static_cast<std::ptrdiff_t>(first), data.types.begin() + static_cast<std::ptrdiff_t>(last));
    types[start + hidden] = static_cast<std::int32_t>(config.types);
  }
  rows.push_back(static_cast<std::int32_t>(start + hidden));
  targets.push_back(tokens[start + hidden]);
  tokens[start + hidden] = static_cast<std::int32_t>(config.mask_id);
  offsets.push_back(static_cast<std::int32_t>(tokens.size()));
}

template <class T>
MaskedTokenModel<T>::MaskedTokenModel(const EncoderConfig& config) : config_(config) {
  config_.validate();
  const std::size_t dim = config.dim;
  token_ = params_.add("encoder/token", config.vocabulary, dim, Group::embedding);
  position_ = params_.add("encoder/position", config.positions, dim, Group::embedding);
  if (config.types > 0) type_ = params_.add("encoder/type", config.types + 1, dim, Group::embedding);
  for (std::uint32_t l = 0; l < config.layers; ++l) blocks_.push_back(add_block(params_, fmt::format("encoder/{}/", l), config.block()));
  norm_weight_ = params_.add("encoder/norm/weight", 1, dim, Group::norm);
  norm_bias_ = params_.add("encoder/norm/bias", 1, dim, Group::norm);
  head_weight_ = params_.add("head/weight", config.vocabulary, dim, Group::weight);
  head_bias_ = params_.add("head/bias", 1, config.vocabulary, Group::bias);
  params_.allocate();
  init_norms(params_);
}

template <class T>
void MaskedTokenModel<T>::init(std::uint64_t seed) {
  const double dim = config_.dim;
  params_.init_normal(token_, seed, 0.1);
  params_.init_normal(position_, seed, 0.1);
  if (config_.types > 0) params_.init_normal(type_, seed, 0.1);
  // The branches of all layers add up in one stream: their last matrices start smaller (Radford et al. 2019, GPT-2).
  const double branch = 1 / std::sqrt(2.0 * config_.layers);
  for (const Block& b : blocks_) {
    params_.init_normal(b.qkv_weight, seed, std::sqrt(0.4 / dim));
    params_.init_normal(b.out_weight, seed, branch * std::sqrt(0.4 / dim));
    params_.init_normal(b.up_weight, seed, std::sqrt(0.4 / dim));
    params_.init_normal(b.down_weight, seed, branch * std::sqrt(0.4 / (dim * config_.feed_forward)));
  }
  params_.init_normal(head_weight_, seed, 0.02);
}

template <class T>
nn::Var<T> MaskedTokenModel<T>::encode(nn::Tape<T>& tape, const MaskedInput& input, std::span<const std::int32_t> rows) const {
  using nn::Var;
  std::array<nn::Lookup<T>, 3> lookups{{{tape.param(token_), input.tokens.data()}, {tape.param(position_), input.positions.data()}, {}}};
  if (config_.types > 0) lookups[2] = {tape.param(type_), input.types.data()};
  Var<T> x = nn::embedding<T>(tape, input.tokens.size(), std::span<const nn::Lookup<T>>(lookups.data(), config_.types > 0 ? 3 : 2));
  x = nn::dropout(tape, x, config_.dropout);
  // Only what is asked for goes through the last block as a whole.
  for (const Block& b : blocks_) x = transform<T>(tape, x, b, config_.block(), input.offsets, &b == &blocks_.back() ? rows : std::span<const std::int32_t>{});
  return nn::layer_norm(tape, x, tape.param(norm_weight_), tape.param(norm_bias_));
}

template <class T>
double MaskedTokenModel<T>::loss(nn::Tape<T>& tape, const MaskedInput& input, double scale, std::span<T> log_probability) const {
  if (input.rows.empty()) return 0;
  nn::Var<T> h = encode(tape, input, input.rows);
  return nn::linear_cross_entropy<T>(tape, h, tape.param(head_weight_), tape.param(head_bias_), input.targets, scale, log_probability);
}

template <class T>
nn::Var<T> MaskedTokenModel<T>::logits(nn::Tape<T>& tape, const MaskedInput& input) const {
  nn::Var<T> h = encode(tape, input, input.rows);
  return nn::linear(tape, h, tape.param(head_weight_), tape.param(head_bias_));
}

template <class T>
double MaskedTokenModel<T>::training_flops(double tokens, double pairs, double targets) const {
  const double d = config_.dim, layers = config_.layers, after = (1.0 + 2.0 * config_.feed_forward) * d * d;
  const double matrices = tokens * (layers * 3 * d * d + (layers - 1) * after) + targets * (after + d * config_.vocabulary);
  return 6 * matrices + 14 * layers * pairs * d;  // attention: 4 forward, 10 backward (the scores are made twice)
}

template class MaskedTokenModel<float>;
template class MaskedTokenModel<double>;

Scorer::Scorer(const MaskedTokenModel<float>& model, Pool& pool)
    : model_(model),
      pool_(pool),
      packed_(model.params(), nn::Precision::f32, nn::Use::inference),
      arenas_(pool.threads()),
      inputs_(pool.threads()),
      results_(pool.threads()) {
  packed_.update(pool, model.params().values().data());
}

std::span<const float> Scorer::answers(const MaskedInput& input, std::size_t worker) {
  results_[worker].resize(input.rows.size());
  arenas_[worker].reset();
  nn::Tape<float> tape(arenas_[worker], model_.params());
  tape.use(&packed_);
  model_.loss(tape, input, 0, results_[worker]);
  return results_[worker];
}

std::vector<float> Scorer::token_log_probabilities(const Examples& data, std::span<const std::uint8_t> wanted) {
  // Tasks are runs of whole events with about this many tokens in all their copies: enough for a matrix product, small
  // enough for a cache. An event with many tokens is cut into several passes.
  constexpr std::size_t target = 2048;
  std::vector<std::size_t> starts{0};
  std::size_t load = 0;
  for (std::size_t e = 0; e < data.events(); ++e) {
    const std::size_t n = data.offsets[e + 1] - data.offsets[e];
    if (load > 0 && load + n * n > target) {
      starts.push_back(e);
      load = 0;
    }
    load += n * n;
  }
  starts.push_back(data.events());
  std::vector<float> result(data.tokens.size(), 0.0f);
  const auto task = [&](std::size_t t, std::size_t worker) {
    MaskedInput& input = inputs_[worker];
    std::size_t event = starts[t], token = 0;
    while (event < starts[t + 1]) {
      input.clear();
      const std::size_t first_event = event, first_token = token;
      while (event < starts[t + 1] && input.tokens.size() < 2 * target) {
        const std::size_t first = data.offsets[event];
        if (token == data.offsets[event + 1] - first) {
          ++event;
          token = 0;
          continue;
        }
        if (wanted.empty() || wanted[first + token] != 0) input.add_one(model_.config(), data, event, token);
        ++token;
      }
      if (input.rows.empty()) continue;
      const std::span<const float> values = answers(input, worker);
      std::size_t next = 0;
      for (std::size_t e = first_event, i = first_token; next < values.size(); ++e, i = 0)
        for (; i < data.offsets[e + 1] - data.offsets[e] && next < values.size(); ++i)
          if (wanted.empty() || wanted[data.offsets[e] + i] != 0) result[data.offsets[e] + i] = values[next++];
    }
  };
  pool_.run(starts.size() - 1, std::ref(task));
  return result;
}

std::vector<float> Scorer::masked_log_probabilities(const Examples& data) {
  std::vector<float> result(data.tokens.size(), 0.0f);
  MaskedInput& input = inputs_[0];
  for (std::size_t e = 0; e < data.events(); ++e) {
    const std::size_t first = data.offsets[e], n = data.offsets[e + 1] - first;
    input.clear();
    input.add(model_.config(), data, e, std::span(data.mask).subspan(first, n));
    const std::span<const float> values = answers(input, 0);
    for (std::size_t r = 0; r < values.size(); ++r) result[first + static_cast<std::size_t>(input.rows[r])] = values[r];
  }
  return result;
}

}  // namespace bl::models
