#include "models/set_classifier.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include "base/error.hpp"
#include "base/rng.hpp"
#include "nn/ops/elementwise.hpp"
#include "nn/ops/linear.hpp"
#include "nn/ops/loss.hpp"
#include "nn/ops/norm.hpp"
#include "nn/ops/rows.hpp"
#include "nn/optimizer.hpp"
#include "nn/schedule.hpp"

namespace bl::models {
namespace {

using nn::Group;

// Events of one pass, packed and standardised.
struct Shard {
  std::vector<float> x;
  std::vector<std::int32_t> offsets, labels;

  void pack(const SetClassifier<float>& model, const SetData& data, std::span<const std::uint32_t> events, bool labelled) {
    const std::size_t width = data.features;
    offsets.assign(1, 0);
    labels.clear();
    std::size_t rows = 0;
    for (const std::uint32_t e : events) rows += static_cast<std::size_t>(data.offsets[e + 1] - data.offsets[e]);
    x.resize(rows * width);
    float* to = x.data();
    for (const std::uint32_t e : events) {
      for (std::uint64_t r = data.offsets[e]; r < data.offsets[e + 1]; ++r, to += width) model.features(data.x.data() + r * width, to);
      offsets.push_back(offsets.back() + static_cast<std::int32_t>(data.offsets[e + 1] - data.offsets[e]));
      if (labelled) labels.push_back(data.labels[e]);
    }
  }
  std::size_t events() const { return offsets.size() - 1; }
};

void check_features(const SetClassifierConfig& config, const SetData& data, std::span<const std::uint32_t> events) {
  if (data.features != config.features) fail(Exit::input, "the classifier reads {} features, the data have {}", config.features, data.features);
  bl::check(data.x.size() == data.rows() * data.features, "SetData: x does not have as many rows as the offsets say");
  for (const std::uint32_t e : events) {
    const std::uint64_t first = data.offsets[e], last = data.offsets[e + 1];
    if (config.kind == SetKind::dense && last - first != 1)
      fail(Exit::input, "event {} has {} rows of features, and a dense classifier reads one row an event", e, last - first);
    for (std::uint64_t i = first * data.features; i < last * data.features; ++i)
      if (!std::isfinite(data.x[i])) fail(Exit::input, "event {}: feature {} is {}, not a finite number", e, i % data.features, data.x[i]);
  }
}

// The pieces that a pass over `events` is cut into; independent of the number of threads.
template <class Use>
void in_shards(std::size_t events, std::size_t size, Pool& pool, const Use& use) {
  pool.run((events + size - 1) / size, [&](std::size_t s, std::size_t worker) { use(s, s * size, std::min(events, (s + 1) * size), worker); });
}

}  // namespace

void SetData::add(std::span<const float> rows, std::int32_t label) {
  bl::check(features > 0 && rows.size() % features == 0, "SetData: not whole rows");
  x.insert(x.end(), rows.begin(), rows.end());
  offsets.push_back(x.size() / features);
  labels.push_back(label);
}

std::string_view name_of(SetKind kind) {
  switch (kind) {
    case SetKind::dense: return "dense";
    case SetKind::deep_sets: return "deep-sets";
    default: return "transformer";
  }
}

void SetClassifierConfig::validate() const {
  const auto within = [](const char* name, std::uint64_t value, std::uint64_t low, std::uint64_t high) {
    if (value < low || value > high) fail(Exit::usage, "classifier: {} is {}, allowed are {} to {}", name, value, low, high);
  };
  within("features", features, 1, 1u << 16);
  within("classes", classes, 2, 1u << 16);
  within("dim", dim, 1, 1u << 14);
  within("layers", layers, 1, 100);
  within("head_layers", head_layers, 0, 100);
  if (kind == SetKind::transformer) {
    within("heads", heads, 1, dim);
    within("feed_forward", feed_forward, 1, 64);
    if (dim % heads != 0) fail(Exit::usage, "classifier: dim {} is not a multiple of heads {}", dim, heads);
  }
  if (!(dropout >= 0 && dropout < 1)) fail(Exit::usage, "classifier: dropout is {}, allowed is 0 to below 1", dropout);
}

template <class T>
SetClassifier<T>::SetClassifier(const SetClassifierConfig& config) : config_(config) {
  config_.validate();
  const std::size_t dim = config.dim;
  if (config.kind == SetKind::transformer) {
    block_.dim = config.dim;
    block_.heads = config.heads;
    block_.feed_forward = config.feed_forward;
    block_.dropout = config.dropout;
    in_ = add_layer("in", config.features, dim);
    for (std::uint32_t l = 0; l < config.layers; ++l) blocks_.push_back(add_block(params_, fmt::format("blocks/{}/", l), block_));
    norm_weight_ = params_.add("pool/norm/weight", 1, dim, Group::norm);
    norm_bias_ = params_.add("pool/norm/bias", 1, dim, Group::norm);
    scores_ = add_layer("pool/scores", dim, config.heads);
    values_ = add_layer("pool/values", dim, dim);
  } else {
    for (std::uint32_t l = 0; l < config.layers; ++l) rows_.push_back(add_layer(fmt::format("rows/{}", l), l == 0 ? config.features : dim, dim));
  }
  if (config.kind != SetKind::dense)
    for (std::uint32_t l = 0; l < config.head_layers; ++l) head_.push_back(add_layer(fmt::format("head/{}", l), dim, dim));
  out_ = add_layer("out", dim, config.classes);
  params_.allocate();
  init_norms(params_);
  mean_.assign(config.features, 0);
  scale_.assign(config.features, 1);
  per_event_.assign(dim, T{1});
}

template <class T>
typename SetClassifier<T>::Layer SetClassifier<T>::add_layer(const std::string& name, std::size_t from, std::size_t to) {
  return {params_.add(name + "/weight", to, from, Group::weight), params_.add(name + "/bias", 1, to, Group::bias)};
}

template <class T>
void SetClassifier<T>::init(std::uint64_t seed) {
  // Variances that keep the size of what passes: He et al. (arXiv:1502.01852) before a relu, LeCun's elsewhere.
  const auto draw = [&](const nn::Param& p, double gain) { params_.init_normal(p, seed, std::sqrt(gain / static_cast<double>(p.width))); };
  for (const auto* layers : {&rows_, &head_})
    for (const Layer& l : *layers) draw(l.weight, 2);
  draw(out_.weight, 1);
  if (config_.kind != SetKind::transformer) return;
  draw(in_.weight, 1);
  draw(scores_.weight, 1);
  draw(values_.weight, 1);
  for (const Block& b : blocks_) {
    draw(b.qkv_weight, 1);
    draw(b.up_weight, 1);
    const double shrink = 1.0 / (2.0 * static_cast<double>(blocks_.size()));  // 2 branches a block are added up
    draw(b.out_weight, shrink);
    draw(b.down_weight, shrink);
  }
}

template <class T>
void SetClassifier<T>::standardise(const SetData& data, std::span<const std::uint32_t> events) {
  const std::size_t width = config_.features;
  std::size_t rows = 0;
  const auto each = [&](const auto& use) {
    for (const std::uint32_t e : events)
      for (std::uint64_t r = data.offsets[e]; r < data.offsets[e + 1]; ++r) use(data.x.data() + r * width);
  };
  mean_.assign(width, 0);
  std::vector<double> squares(width);
  each([&](const float* row) {
    ++rows;
    for (std::size_t f = 0; f < width; ++f) mean_[f] += static_cast<double>(row[f]);
  });
  const double n = static_cast<double>(std::max<std::size_t>(rows, 1));
  for (double& m : mean_) m /= n;
  each([&](const float* row) {
    for (std::size_t f = 0; f < width; ++f) squares[f] += (static_cast<double>(row[f]) - mean_[f]) * (static_cast<double>(row[f]) - mean_[f]);
  });
  for (std::size_t f = 0; f < width; ++f) {
    // A feature of one value only says nothing, but f32 may leave a deviation of rounding.
    const double deviation = std::sqrt(squares[f] / n);
    scale_[f] = deviation > 1e-6 * std::abs(mean_[f]) ? 1 / deviation : 1;
  }
  const double per_event = static_cast<double>(rows) / static_cast<double>(std::max<std::size_t>(events.size(), 1));
  per_event_.assign(config_.dim, static_cast<T>(1 / std::max(per_event, 1.0)));
}

template <class T>
void SetClassifier<T>::features(const float* row, T* out) const {
  for (std::size_t f = 0; f < mean_.size(); ++f) out[f] = static_cast<T>((static_cast<double>(row[f]) - mean_[f]) * scale_[f]);
}

template <class T>
nn::Var<T> SetClassifier<T>::hidden(nn::Tape<T>& tape, nn::Var<T> x, const Layer& layer) const {
  return nn::dropout(tape, nn::linear(tape, x, tape.param(layer.weight), tape.param(layer.bias), nn::Activation::relu), config_.dropout);
}

template <class T>
nn::Var<T> SetClassifier<T>::logits(nn::Tape<T>& tape, nn::Var<T> x, std::span<const std::int32_t> offsets) const {
  const std::size_t events = offsets.size() - 1;
  const auto plain = [&](nn::Var<T> v, const Layer& layer) { return nn::linear(tape, v, tape.param(layer.weight), tape.param(layer.bias)); };
  nn::Var<T> h = x;
  if (x->rows == 0) {  // empty events only
    T* const zeros = tape.arena().template take<T>(events * config_.dim);
    std::fill_n(zeros, events * config_.dim, T{0});
    h = tape.input(zeros, events, config_.dim);
  } else if (config_.kind == SetKind::transformer) {
    h = plain(x, in_);
    for (const Block& block : blocks_) h = transform(tape, h, block, block_, offsets);
    h = nn::layer_norm(tape, h, tape.param(norm_weight_), tape.param(norm_bias_));
    h = nn::segment_softmax_sum(tape, plain(h, values_), plain(h, scores_), offsets);
  } else {
    for (const Layer& layer : rows_) h = hidden(tape, h, layer);
    if (config_.kind == SetKind::deep_sets) {
      h = nn::segment_sum(tape, h, offsets);
      h = nn::layer_scale(tape, h, tape.input(per_event_.data(), 1, per_event_.size()));
    }
  }
  for (const Layer& layer : head_) h = hidden(tape, h, layer);
  return plain(h, out_);
}

template class SetClassifier<float>;
template class SetClassifier<double>;

void SetTraining::validate() const {
  const auto need = [](bool good, const char* what, auto value, const char* allowed) {
    if (!good) fail(Exit::usage, "classifier training: {} is {}, allowed is {}", what, value, allowed);
  };
  need(rounds >= 1, "rounds", rounds, "1 or more");
  need(round_steps >= 1, "round_steps", round_steps, "1 or more");
  need(batch >= 1, "batch", batch, "1 or more events");
  need(shard >= 1, "shard", shard, "1 or more events");
  need(lanes >= 1 && lanes <= 256, "lanes", lanes, "1 to 256");
  need(rate > 0 && std::isfinite(rate), "the learning rate", rate, "above 0");
  need(decay >= 0 && std::isfinite(decay), "decay", decay, "0 or more");
  need(clip >= 0, "clip", clip, "0 or more");
}

TrainedSetClassifier::TrainedSetClassifier(std::shared_ptr<const SetClassifier<float>> model, std::vector<SetRound> history)
    : model_(std::move(model)), packed_(model_->params(), nn::Precision::f32, nn::Use::inference), history_(std::move(history)) {
  Pool one(1);
  packed_.update(one, model_->params().values().data());
}

std::vector<double> TrainedSetClassifier::scores(const SetData& data, Pool& pool) const {
  std::vector<std::uint32_t> all(data.events());
  std::iota(all.begin(), all.end(), 0u);
  return scores(data, all, pool);
}

std::vector<double> TrainedSetClassifier::scores(const SetData& data, std::span<const std::uint32_t> events, Pool& pool) const {
  check_features(model_->config(), data, events);
  const std::size_t classes = model_->config().classes;
  std::vector<double> result(events.size() * classes);
  std::vector<nn::Arena> arenas(pool.threads());
  std::vector<Shard> shards(pool.threads());
  in_shards(events.size(), 64, pool, [&](std::size_t, std::size_t first, std::size_t last, std::size_t worker) {
    Shard& shard = shards[worker];
    shard.pack(*model_, data, events.subspan(first, last - first), false);
    arenas[worker].reset();
    nn::Tape<float> tape(arenas[worker], model_->params());
    tape.use(&packed_);
    const nn::Var<float> logits = model_->logits(tape, tape.input(shard.x.data(), shard.x.size() / data.features, data.features), shard.offsets);
    for (std::size_t i = 0; i < last - first; ++i) {
      const float* row = logits->value + i * classes;
      double* out = result.data() + (first + i) * classes;
      const auto largest = static_cast<double>(*std::max_element(row, row + classes));
      double sum = 0;
      for (std::size_t c = 0; c < classes; ++c) sum += out[c] = std::exp(static_cast<double>(row[c]) - largest);
      for (std::size_t c = 0; c < classes; ++c) out[c] /= sum;
    }
  });
  return result;
}

TrainedSetClassifier train_set_classifier(const SetData& data, std::span<const std::uint32_t> training, std::span<const std::uint32_t> validation,
                                          const SetClassifierConfig& config, const SetTraining& settings, std::uint64_t seed, Pool& pool,
                                          const std::function<void(const SetRound&)>& report) {
  settings.validate();
  auto model = std::make_shared<SetClassifier<float>>(config);
  if (training.empty()) fail(Exit::input, "there are no events to train the classifier on");
  for (const auto events : {training, validation}) {
    check_features(config, data, events);
    for (const std::uint32_t e : events)
      if (const std::int32_t label = data.labels.at(e); label < 0 || label >= static_cast<std::int32_t>(config.classes))
        fail(Exit::input, "event {} is labelled {}, the classifier's classes are 0 to {}", e, label, config.classes - 1);
  }
  if (std::ranges::all_of(training, [&](std::uint32_t e) { return data.labels[e] == data.labels[training[0]]; }))
    fail(Exit::input, "all {} events to train on are of class {}: a classifier needs two", training.size(), data.labels[training[0]]);
  model->init(seed);
  model->standardise(data, training);

  const std::size_t n = training.size(), width = data.features;
  const std::size_t batch = std::clamp<std::size_t>((n + 7) / 8, 1, settings.batch);
  const std::size_t per_epoch = std::max<std::size_t>(1, n / batch), per_round = std::max<std::size_t>(per_epoch, settings.round_steps);
  nn::Params<float>& params = model->params();
  nn::OptimizerConfig optimizer_config;
  optimizer_config.decay = settings.decay;
  nn::Optimizer<float> optimizer(params, optimizer_config);
  nn::Schedule schedule;
  schedule.kind = nn::Schedule::Kind::cosine;
  schedule.rate = settings.rate;
  schedule.total = std::uint64_t{settings.rounds} * per_round;
  nn::PackedWeights for_evaluation(params, nn::Precision::f32, nn::Use::inference);

  const std::size_t largest_step = (n + per_epoch - 1) / per_epoch, most_shards = (largest_step + settings.shard - 1) / settings.shard;
  std::vector<nn::Arena> arenas(pool.threads());
  std::vector<nn::Aligned<float>> lanes;
  std::vector<float*> lane_pointers;
  for (std::size_t l = 0; l < std::min<std::size_t>(settings.lanes, most_shards); ++l) {
    lanes.emplace_back(params.size());
    lane_pointers.push_back(lanes.back().data());
  }
  std::vector<Shard> packed(pool.threads());
  std::vector<double> losses;

  // One step on the events; returns the mean loss.
  const auto step = [&](std::span<const std::uint32_t> events) {
    const std::size_t shards = (events.size() + settings.shard - 1) / settings.shard, active = std::min(lanes.size(), shards);
    const std::uint64_t number = optimizer.steps();
    const double scale = 1.0 / static_cast<double>(events.size());
    losses.assign(shards, 0);
    pool.run(active, [&](std::size_t lane, std::size_t worker) {
      std::memset(lanes[lane].data(), 0, params.size() * sizeof(float));
      for (std::size_t s = lane; s < shards; s += active) {
        Shard& shard = packed[worker];
        const std::size_t first = s * settings.shard, last = std::min<std::size_t>(events.size(), first + settings.shard);
        shard.pack(*model, data, events.subspan(first, last - first), true);
        arenas[worker].reset();
        nn::Tape<float> tape(arenas[worker], params.values().data(), lanes[lane].data());
        tape.seed(seed, static_cast<std::uint32_t>(number), static_cast<std::uint32_t>(s));
        const auto logits = model->logits(tape, tape.input(shard.x.data(), shard.x.size() / width, width), shard.offsets);
        losses[s] = nn::cross_entropy<float>(tape, logits, shard.labels, scale);
        tape.backward();
      }
    });
    const double loss = std::accumulate(losses.begin(), losses.end(), 0.0) * scale;
    const double norm = nn::reduce_gradients<float>(pool, std::span<float* const>(lane_pointers).first(active), params.size());
    if (!std::isfinite(loss) || !std::isfinite(norm))
      fail(Exit::failed, "step {} of the classifier: the loss is {} and the norm of the gradient {}; try a smaller learning rate (it was {:g})", number, loss,
           norm, schedule.at(number));
    optimizer.step(pool, params, lanes[0].data(), schedule, nn::clip_factor(norm, settings.clip));
    return loss;
  };
  const auto evaluate = [&] {
    for_evaluation.update(pool, params.values().data());
    losses.assign((validation.size() + settings.shard - 1) / settings.shard, 0);
    in_shards(validation.size(), settings.shard, pool, [&](std::size_t s, std::size_t first, std::size_t last, std::size_t worker) {
      Shard& shard = packed[worker];
      shard.pack(*model, data, validation.subspan(first, last - first), true);
      arenas[worker].reset();
      nn::Tape<float> tape(arenas[worker], params);
      tape.use(&for_evaluation);
      const auto logits = model->logits(tape, tape.input(shard.x.data(), shard.x.size() / width, width), shard.offsets);
      losses[s] = nn::cross_entropy<float>(tape, logits, shard.labels, 0);
    });
    return std::accumulate(losses.begin(), losses.end(), 0.0) / static_cast<double>(validation.size());
  };

  const Rng rng(seed, "shuffle");
  std::vector<std::uint32_t> order(training.begin(), training.end());
  std::uint64_t epoch = 0;
  std::size_t next = per_epoch;  // step of the epoch
  std::vector<SetRound> history;
  nn::Aligned<float> best(params.size());
  double least = std::numeric_limits<double>::infinity();
  std::uint32_t last_best = 0;
  for (std::uint32_t r = 1; r <= settings.rounds; ++r) {
    SetRound round;
    round.round = r;
    for (std::size_t i = 0; i < per_round; ++i) {
      if (next == per_epoch) {
        for (std::size_t k = n - 1; k > 0; --k) std::swap(order[k], order[rng.below(k + 1, epoch, k)]);
        ++epoch;
        next = 0;
      }
      const std::size_t first = n * next / per_epoch, last = n * (next + 1) / per_epoch;
      round.training += step(std::span<const std::uint32_t>(order).subspan(first, last - first)) / static_cast<double>(per_round);
      ++next;
    }
    round.validation = validation.empty() ? std::numeric_limits<double>::quiet_NaN() : evaluate();
    round.best = validation.empty() || round.validation < least;
    if (round.best) {
      least = round.validation;
      last_best = r;
      std::ranges::copy(params.values(), best.data());
    }
    history.push_back(round);
    if (report) report(round);
    if (settings.patience > 0 && r - last_best >= settings.patience) break;
  }
  std::copy_n(best.data(), params.size(), params.values().data());
  return {std::move(model), std::move(history)};
}

}  // namespace bl::models
