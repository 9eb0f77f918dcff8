#include "models/trainer.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <sstream>

#include "base/error.hpp"
#include "base/hash.hpp"
#include "base/rng.hpp"
#include "dist/tree.hpp"
#include "nn/kernels.hpp"

namespace bl::models {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

template <class N>
N number(const std::map<std::string, std::string>& texts, const std::string& key) {
  const auto it = texts.find(key);
  if (it == texts.end()) fail(Exit::input, "the training state lacks '{}'", key);
  N value{};
  const char* end = it->second.data() + it->second.size();
  const auto [stop, error] = std::from_chars(it->second.data(), end, value);
  if (error != std::errc() || stop != end) fail(Exit::input, "the training state has {} = '{}', which is not a number", key, it->second);
  return value;
}

template <class T>
const std::vector<T>& values_of(const State& state, const std::string& name, std::size_t size) {
  const NamedArray* array = state.find(name);
  if (array == nullptr) fail(Exit::input, "the model file lacks the array '{}'", name);
  const auto* values = std::get_if<std::vector<T>>(&array->values);
  if (values == nullptr) fail(Exit::input, "the array '{}' of the model file has another type of number than expected", name);
  if (values->size() != size) fail(Exit::input, "the array '{}' of the model file has {} values, {} are expected", name, values->size(), size);
  return *values;
}

void put(State& state, std::string name, std::span<const float> values) {
  state.arrays.push_back({std::move(name), {values.size()}, std::vector<float>(values.begin(), values.end())});
}

std::map<std::string, std::string> prefixed(const std::string& prefix, const std::map<std::string, std::string>& map) {
  std::map<std::string, std::string> out;
  for (const auto& [key, value] : map) out[prefix + key] = value;
  return out;
}
std::map<std::string, std::string> without_prefix(const std::string& prefix, const std::map<std::string, std::string>& map) {
  std::map<std::string, std::string> out;
  for (const auto& [key, value] : map)
    if (key.starts_with(prefix)) out[key.substr(prefix.size())] = value;
  return out;
}

// A few events that any model of this configuration can read: not physics, only something to answer.
Examples fingerprint_examples(const EncoderConfig& config) {
  const Rng rng(7, "fingerprint");
  Examples data;
  for (std::uint64_t e = 0; e < 4; ++e) {
    const std::uint64_t n = std::min<std::uint64_t>(2 + 3 * e, config.positions);
    for (std::uint64_t i = 0; i < n; ++i) {
      data.tokens.push_back(static_cast<std::int32_t>(rng.below(config.vocabulary, e, 2 * i)));
      data.positions.push_back(static_cast<std::int32_t>(i));
      if (config.types > 0) data.types.push_back(static_cast<std::uint8_t>(rng.below(config.types, e, 2 * i + 1)));
    }
    data.offsets.push_back(data.tokens.size());
  }
  return data;
}

// The rate in the middle of the window of `width` steps through whose losses the steepest falling line goes.
double steepest(const std::vector<RateTrial>& trials, std::size_t width) {
  if (trials.size() < width) return 0;
  const auto least = std::ranges::min_element(trials, {}, &RateTrial::smoothed);
  const auto highest = std::max_element(trials.begin(), least + 1, [](const RateTrial& a, const RateTrial& b) { return a.smoothed < b.smoothed; });
  if (!(least->smoothed < 0.99 * highest->smoothed)) return 0;
  const auto end = std::max<std::size_t>(static_cast<std::size_t>(least - trials.begin()) + 1, width);
  double best = 0, rate = 0;
  for (std::size_t first = 0; first + width <= end; ++first) {
    double slope = 0;  // times a constant
    for (std::size_t i = 0; i < width; ++i) slope += (static_cast<double>(i) - 0.5 * static_cast<double>(width - 1)) * trials[first + i].loss;
    if (slope < best) {
      best = slope;
      rate = trials[first + width / 2].rate;
    }
  }
  return rate;
}

}  // namespace

const NamedArray* State::find(std::string_view name) const {
  const auto it = std::ranges::find(arrays, name, &NamedArray::name);
  return it == arrays.end() ? nullptr : &*it;
}

void TrainerConfig::validate() const {
  const auto need = [](bool good, const char* what, auto value, const char* allowed) {
    if (!good) fail(Exit::usage, "training: {} is {}, allowed is {}", what, value, allowed);
  };
  need(batch >= 1, "batch", batch, "1 or more events");
  need(shard >= 1, "shard", shard, "1 or more events");
  need(lanes >= 1 && lanes <= 256, "lanes", lanes, "1 to 256");
  need(accumulate >= 1, "accumulate", accumulate, "1 or more batches");
  need(beta1 >= 0 && beta1 < 1, "beta1", beta1, "0 to below 1");
  need(beta2 >= 0 && beta2 < 1, "beta2", beta2, "0 to below 1");
  need(momentum >= 0 && momentum < 1, "momentum", momentum, "0 to below 1");
  need(!nesterov || momentum > 0, "momentum", momentum, "above 0 with Nesterov");
  need(rate > 0 && std::isfinite(rate), "the learning rate", rate, "above 0");
  need(last_rate >= 0 && last_rate <= 1, "last_rate", last_rate, "0 to 1");
  need(clip >= 0, "clip", clip, "0 or more");
  need(decay >= 0, "decay", decay, "0 or more");
  need(ema >= 0 && ema < 1, "ema", ema, "0 to below 1");
  need(validation >= 0 && validation < 1, "validation", validation, "0 to below 1");
}

std::map<std::string, std::string> TrainerConfig::to_map() const {
  const auto text = [](const auto& x) { return fmt::format("{}", x); };
  std::string rules;
  for (const nn::GroupRule& rule : groups) rules += (rules.empty() ? "" : " ") + rule.text();
  if (rules.empty()) rules = "none";
  return {{"seed", text(seed)},
          {"epochs", text(epochs)},
          {"max_steps", text(max_steps)},
          {"batch", text(batch)},
          {"shard", text(shard)},
          {"lanes", text(lanes)},
          {"rate", text(rate)},
          {"accumulate", text(accumulate)},
          {"optimizer", std::string(nn::name_of(optimizer))},
          {"beta1", text(beta1)},
          {"beta2", text(beta2)},
          {"momentum", text(momentum)},
          {"nesterov", text(nesterov ? 1 : 0)},
          {"schedule", std::string(nn::name_of(schedule))},
          {"warmup", text(warmup)},
          {"groups", rules},
          {"last_rate", text(last_rate)},
          {"clip", text(clip)},
          {"decay", text(decay)},
          {"ema", text(ema)},
          {"validation", text(validation)},
          {"precision", std::string(nn::name_of(precision))},
          {"patience", text(patience)}};
}

TrainerConfig TrainerConfig::from_map(const std::map<std::string, std::string>& map) {
  TrainerConfig c;
  c.seed = number<std::uint64_t>(map, "seed");
  c.epochs = number<std::uint64_t>(map, "epochs");
  c.max_steps = number<std::uint64_t>(map, "max_steps");
  c.batch = number<std::uint32_t>(map, "batch");
  c.shard = number<std::uint32_t>(map, "shard");
  c.lanes = number<std::uint32_t>(map, "lanes");
  c.rate = number<double>(map, "rate");
  c.warmup = number<std::uint64_t>(map, "warmup");
  // What files of earlier versions do not say was then as follows.
  const auto word = [&](const char* key, const char* otherwise) {
    const auto it = map.find(key);
    return it == map.end() ? std::string(otherwise) : it->second;
  };
  const auto has = [&](const char* key) { return map.contains(key); };
  if (has("accumulate")) c.accumulate = number<std::uint32_t>(map, "accumulate");
  if (has("beta1")) c.beta1 = number<double>(map, "beta1");
  if (has("beta2")) c.beta2 = number<double>(map, "beta2");
  if (has("momentum")) c.momentum = number<double>(map, "momentum");
  if (has("nesterov")) c.nesterov = number<int>(map, "nesterov") != 0;
  c.last_rate = number<double>(map, "last_rate");
  c.clip = number<double>(map, "clip");
  c.decay = number<double>(map, "decay");
  c.ema = number<double>(map, "ema");
  c.validation = number<double>(map, "validation");
  c.patience = number<std::uint64_t>(map, "patience");
  try {
    c.precision = nn::precision_named(word("precision", "f32"));
    c.optimizer = nn::optimizer_named(word("optimizer", "adamw"));
    c.schedule = nn::schedule_named(word("schedule", word("cosine", "1") == "1" ? "cosine" : "constant"));
    std::istringstream rules(word("groups", "none"));
    for (std::string rule; rules >> rule && rule != "none";) c.groups.push_back(nn::parse_groups(std::span(&rule, 1)).at(0));
    c.validate();
  } catch (const Error& e) {
    fail(Exit::input, "the training state is not valid: {}", e.what());
  }
  return c;
}

struct Trainer::Impl {
  Impl(const EncoderConfig& model_config, const TrainerConfig& trainer_config, Pool& workers, dist::Communicator& communicator)
      : config(trainer_config),
        pool(workers),
        ranks(communicator),
        model(model_config),
        optimizer(model.params(), optimizer_config(trainer_config), trainer_config.groups),
        packed(model.params(), trainer_config.precision, nn::Use::training),
        packed_for_evaluation(model.params(), nn::Precision::f32, nn::Use::inference),
        arenas(workers.threads()),
        counts(model_config.vocabulary, 0) {
    config.validate();
    if (ranks.size() > config.lanes)
      fail(Exit::usage, "{} ranks are too many: a batch is worked on in {} lanes, so start at most {} ranks", ranks.size(), config.lanes, config.lanes);
    // Other instructions round otherwise: the ranks' weights would drift apart.
    std::string facts = fmt::format("instruction set {}, products by {}", nn::kernel_target(), nn::product_backend(config.precision));
    for (const auto& map : {model_config.to_map(), config.to_map()})
      for (const auto& [key, value] : map) facts += fmt::format(", {} {}", key, value);
    ranks.must_agree("the training", facts);
    if (config.ema > 0) average = nn::Aligned<float>(model.params().size());
  }

  static nn::OptimizerConfig optimizer_config(const TrainerConfig& config) {
    nn::OptimizerConfig c;
    c.kind = config.optimizer;
    c.beta1 = config.beta1;
    c.beta2 = config.beta2 > 0 ? config.beta2 : c.kind == nn::OptimizerConfig::Kind::lion ? 0.99 : 0.999;
    c.momentum = config.momentum;
    c.nesterov = config.nesterov;
    c.decay = config.decay;
    return c;
  }

  TrainerConfig config;
  Pool& pool;
  dist::Communicator& ranks;
  MaskedTokenModel<float> model;
  nn::Optimizer<float> optimizer;
  nn::PackedWeights packed, packed_for_evaluation;
  nn::Aligned<float> average;             // empty without EMA
  nn::Aligned<float> best;                // weights of the best validation, empty before there is one
  std::vector<nn::Arena> arenas;          // one a worker
  std::vector<nn::Aligned<float>> lanes;  // those of this rank
  std::vector<float*> lane_pointers;
  dist::TreeSum tree;
  std::vector<MaskedInput> inputs;  // one a shard
  std::vector<std::vector<std::uint8_t>> masks;
  std::vector<double> losses;  // one a shard
  std::vector<double> sent_losses;
  std::vector<std::size_t> sent_bytes;  // of each rank
  std::vector<std::int64_t> counts;

  // data in memory
  const Examples* data = nullptr;
  Masker masker;
  std::vector<std::uint32_t> training, validation, order;
  std::uint64_t ordered_epoch = std::numeric_limits<std::uint64_t>::max();
  std::uint64_t expected_events = 0;  // of a resumed state; 0: any
  std::uint64_t epoch = 0, step_of_epoch = 0, epochs_since_best = 0;
  double best_validation = infinity, epoch_loss = 0;
  std::uint64_t epoch_targets = 0;
  bool over = false;
  std::optional<double> forced_rate;  // in place of the schedule, by find_rate

  std::uint64_t steps_per_epoch() const {
    if (training.empty()) return 0;
    const std::uint64_t events = std::uint64_t{config.batch} * config.accumulate;
    return std::max<std::uint64_t>(1, (training.size() + events / 2) / events);
  }
  std::uint64_t planned() const {
    std::uint64_t n = data != nullptr && config.epochs > 0 ? config.epochs * steps_per_epoch() : 0;
    if (config.max_steps > 0) n = n > 0 ? std::min(n, config.max_steps) : config.max_steps;
    return n;
  }
  nn::Schedule schedule() const {
    nn::Schedule s;
    s.kind = config.schedule;
    s.rate = config.rate;
    s.warmup = config.warmup;
    s.total = planned();
    s.last = config.last_rate;
    if (s.kind == nn::Schedule::Kind::one_cycle && s.total == 0)
      fail(Exit::usage, "the schedule one-cycle needs a known number of steps: set max_steps, or train for epochs over data in memory");
    return s;
  }

  // The shards of a batch as packed input; returns the number of hidden tokens.
  std::size_t pack(const Examples& from, std::span<const std::uint32_t> events, const Masker& mask, std::uint64_t mask_epoch) {
    const std::size_t shards = (events.size() + config.shard - 1) / config.shard;
    if (inputs.size() < shards) {
      inputs.resize(shards);
      masks.resize(shards);
      losses.resize(shards);
    }
    bl::check(mask || from.mask.size() == from.tokens.size(), "training without a mask");
    const auto task = [&](std::size_t s, std::size_t) {
      MaskedInput& input = inputs[s];
      input.clear();
      for (std::size_t i = s * config.shard; i < std::min<std::size_t>(events.size(), (s + 1) * config.shard); ++i) {
        const std::size_t e = events[i], first = from.offsets[e], n = from.offsets[e + 1] - first;
        if (!mask) {
          input.add(model.config(), from, e, std::span(from.mask).subspan(first, n));
          continue;
        }
        masks[s].assign(n, 0);
        mask(e, mask_epoch, masks[s]);
        input.add(model.config(), from, e, masks[s]);
      }
    };
    pool.run(shards, std::ref(task));
    std::size_t targets = 0;
    for (std::size_t s = 0; s < shards; ++s) targets += inputs[s].targets.size();
    return targets;
  }

  // The losses of all shards to all ranks; shard s belongs to lane s mod `stride`, and lanes are shared out.
  void gather_losses(std::size_t shards, std::size_t stride) {
    if (ranks.size() == 1) return;
    sent_losses.resize(shards);
    sent_bytes.clear();
    const auto each = [&](const auto& f) {  // f(shard, place in sent_losses), lane by lane
      std::size_t place = 0;
      for (std::size_t r = 0; r < ranks.size(); ++r) {
        const std::size_t start = place;
        const dist::Share own = dist::share(stride, ranks.size(), r);
        for (std::size_t lane = own.first; lane < own.last; ++lane)
          for (std::size_t s = lane; s < shards; s += stride) f(s, place++);
        if (sent_bytes.size() <= r) sent_bytes.push_back((place - start) * sizeof(double));
      }
    };
    each([&](std::size_t s, std::size_t place) { sent_losses[place] = losses[s]; });
    ranks.gather(sent_losses.data(), sent_bytes);
    each([&](std::size_t s, std::size_t place) { losses[s] = sent_losses[place]; });
  }

  StepResult step(const Examples& from, std::span<const std::uint32_t> events, const Masker& mask) {
    StepResult result;
    result.events = events.size();
    result.targets = pack(from, events, mask, epoch);
    const std::uint64_t number = optimizer.steps();
    const nn::Schedule rates = forced_rate ? nn::Schedule{.rate = *forced_rate} : schedule();
    result.rate = rates.at(number);
    if (result.targets == 0) return result;
    const std::size_t shards = (events.size() + config.shard - 1) / config.shard, active = std::min<std::size_t>(config.lanes, shards);
    nn::Params<float>& params = model.params();
    const dist::Share own = dist::share(active, ranks.size(), ranks.rank());
    while (lanes.size() < std::max<std::size_t>(1, own.size())) {  // one is needed for the sum, even where all are others'
      lanes.emplace_back(params.size());
      lane_pointers.push_back(lanes.back().data());
    }
    packed.update(pool, params.values().data());
    const double scale = 1.0 / static_cast<double>(result.targets);
    const auto task = [&](std::size_t i, std::size_t worker) {
      std::memset(lanes[i].data(), 0, params.size() * sizeof(float));
      for (std::size_t s = own.first + i; s < shards; s += active) {
        arenas[worker].reset();
        nn::Tape<float> tape(arenas[worker], params.values().data(), lanes[i].data());
        if (!optimizer.frozen().empty()) tape.freeze(optimizer.frozen().data());
        tape.use(&packed);
        tape.seed(config.seed, static_cast<std::uint32_t>(number), static_cast<std::uint32_t>(s));
        losses[s] = model.loss(tape, inputs[s], scale);
        tape.backward();
      }
    };
    pool.run(own.size(), std::ref(task));
    gather_losses(shards, active);
    double loss = 0;
    for (std::size_t s = 0; s < shards; ++s) {
      loss += losses[s];
      result.tokens += inputs[s].tokens.size();
    }
    result.loss = loss * scale;
    if (ranks.size() > 1) tree.run(ranks, pool, active, std::span<float* const>(lane_pointers).first(own.size()), params.size(), lanes[0].data());
    result.gradient_norm = nn::reduce_gradients<float>(pool, std::span<float* const>(lane_pointers).first(ranks.size() > 1 ? 1 : active), params.size());
    if (!std::isfinite(result.loss) || !std::isfinite(result.gradient_norm)) {
      const std::string name = params.first_not_finite(std::span<const float>(lanes[0].data(), params.size()));
      fail(Exit::failed, "step {}: the loss is {} and the norm of the gradient {}; {}. Try a smaller learning rate (it was {:g})", number, result.loss,
           result.gradient_norm,
           name.empty() ? std::string("every single gradient is finite") : "the first gradient that is not finite is that of '" + name + "'", result.rate);
    }
    for (std::size_t s = 0; s < shards; ++s)
      for (const std::int32_t t : inputs[s].targets) ++counts[static_cast<std::size_t>(t)];
    const double clip = nn::clip_factor(result.gradient_norm, config.clip);
    if (forced_rate) optimizer.step(pool, params, lanes[0].data(), *forced_rate, clip);
    else optimizer.step(pool, params, lanes[0].data(), rates, clip);
    if (config.ema > 0) {
      // The first steps would leave the average at the random start for long: it begins as a plain mean.
      const auto t = static_cast<double>(number);
      nn::move_average<float>(pool, {average.data(), average.size()}, params.values(), std::min(config.ema, t / (t + 1)));
    }
    return result;
  }

  const float* weights_for_evaluation() const { return config.ema > 0 && optimizer.steps() > 0 ? average.data() : model.params().values().data(); }
  const float* weights_to_use() const { return best.size() > 0 ? best.data() : weights_for_evaluation(); }

  double evaluate(const Examples& from, std::span<const std::uint32_t> events, const Masker& mask) {
    double loss = 0;
    std::size_t targets = 0;
    packed_for_evaluation.update(pool, weights_for_evaluation());
    // In pieces, so that the packed inputs of a large validation set are not all in memory.
    const std::size_t piece = std::size_t{config.shard} * config.lanes * 4;
    for (std::size_t start = 0; start < events.size(); start += piece) {
      const auto some = events.subspan(start, std::min(piece, events.size() - start));
      targets += pack(from, some, mask, 0);
      const std::size_t shards = (some.size() + config.shard - 1) / config.shard;
      const dist::Share own = dist::share(shards, ranks.size(), ranks.rank());
      const auto task = [&](std::size_t i, std::size_t worker) {
        const std::size_t s = own.first + i;
        arenas[worker].reset();
        nn::Tape<float> tape(arenas[worker], const_cast<float*>(weights_for_evaluation()), nullptr);
        tape.use(&packed_for_evaluation);
        losses[s] = model.loss(tape, inputs[s], 0);
      };
      pool.run(own.size(), std::ref(task));
      gather_losses(shards, shards);
      for (std::size_t s = 0; s < shards; ++s) loss += losses[s];
    }
    return targets > 0 ? loss / static_cast<double>(targets) : std::numeric_limits<double>::quiet_NaN();
  }

  void attach(const Examples& examples, Masker mask) {
    if (expected_events != 0 && expected_events != examples.events())
      fail(Exit::input, "the training was started with {} events, now there are {}: resume needs the same input", expected_events, examples.events());
    if (examples.events() > std::numeric_limits<std::uint32_t>::max()) fail(Exit::input, "more than 2^32 events in memory");
    data = &examples;
    masker = std::move(mask);
    expected_events = examples.events();
    const Rng rng(config.seed, "validation");
    training.clear();
    validation.clear();
    for (std::uint32_t e = 0; e < examples.events(); ++e) (rng.uniform(e, 0) < config.validation ? validation : training).push_back(e);
    if (training.empty()) fail(Exit::input, "no event to train on: {} events, {} of them kept for validation", examples.events(), validation.size());
  }

  void shuffle() {
    if (ordered_epoch == epoch) return;
    order = training;
    const Rng rng(config.seed, "shuffle");
    for (std::size_t i = order.size() - 1; i > 0; --i) std::swap(order[i], order[rng.below(i + 1, epoch, i)]);
    ordered_epoch = epoch;
  }

  std::optional<Advance> advance() {
    bl::check(data != nullptr, "advance() before attach()");
    over = over || (config.epochs > 0 && epoch >= config.epochs) || (config.max_steps > 0 && optimizer.steps() >= config.max_steps);
    if (over) return std::nullopt;
    const std::uint64_t batches = steps_per_epoch();
    bl::check(batches > 0, "advance() without an event to train on");
    shuffle();
    const std::uint64_t n = order.size(), first = n * step_of_epoch / batches, last = n * (step_of_epoch + 1) / batches;
    Advance result;
    result.step = step(*data, std::span<const std::uint32_t>(order).subspan(first, last - first), masker);
    epoch_loss += result.step.loss * static_cast<double>(result.step.targets);
    epoch_targets += result.step.targets;
    if (++step_of_epoch < batches) return result;

    EpochResult e;
    e.epoch = epoch;
    e.training_loss = epoch_targets > 0 ? epoch_loss / static_cast<double>(epoch_targets) : 0;
    e.validation_loss = evaluate(*data, validation, masker);
    if (e.validation_loss < best_validation) {
      best_validation = e.validation_loss;
      epochs_since_best = 0;
      e.best = true;
      if (best.size() == 0) best = nn::Aligned<float>(model.params().size());
      std::copy_n(weights_for_evaluation(), best.size(), best.data());
    } else {
      ++epochs_since_best;
    }
    over = config.patience > 0 && !validation.empty() && epochs_since_best >= config.patience;
    ++epoch;
    step_of_epoch = epoch_targets = 0;
    epoch_loss = 0;
    result.epoch = e;
    return result;
  }

  RateTable find_rate(const RateSearch& search, const std::function<void(const RateTrial&)>& after_step) {
    bl::check(data != nullptr, "find_rate() before attach()");
    if (!(search.lowest > 0 && search.highest > search.lowest && std::isfinite(search.highest) && search.steps >= 20))
      fail(Exit::usage, "the rates to try are {:g} to {:g} in {} steps, allowed are two rising rates above 0 and 20 or more steps", search.lowest,
           search.highest, search.steps);
    const auto copy = [](auto&& block) { return std::vector<float>(block.data(), block.data() + block.size()); };
    const auto values = copy(model.params().values()), moment1 = copy(optimizer.moment1()), moment2 = copy(optimizer.moment2()), mean = copy(average);
    const auto counted = counts;
    const std::uint64_t steps_before = optimizer.steps(), epoch_before = epoch;
    RateTable table;
    double sum = 0, weight = 0, least = infinity;
    const std::uint64_t batches = steps_per_epoch();
    bl::check(batches > 0, "find_rate() without an event to train on");
    for (std::uint64_t i = 0; i < search.steps; ++i) {
      const std::uint64_t b = i % batches;
      epoch = epoch_before + i / batches;
      shuffle();
      const std::uint64_t n = order.size(), first = n * b / batches, last = n * (b + 1) / batches;
      forced_rate = search.lowest * std::pow(search.highest / search.lowest, static_cast<double>(i) / static_cast<double>(search.steps - 1));
      RateTrial trial;
      trial.rate = *forced_rate;
      try {
        trial.loss = step(*data, std::span<const std::uint32_t>(order).subspan(first, last - first), masker).loss;
      } catch (const Error& e) {
        if (e.code() != Exit::failed) throw;
        break;  // the loss is not finite: no larger rate will do better
      }
      sum = 0.9 * sum + 0.1 * trial.loss;
      weight = 0.9 * weight + 0.1;
      trial.smoothed = sum / weight;
      least = std::min(least, trial.smoothed);
      table.trials.push_back(trial);
      if (after_step) after_step(trial);
      if (trial.smoothed > 4 * least) break;
    }
    forced_rate.reset();
    std::ranges::copy(values, model.params().values().begin());
    std::ranges::copy(moment1, optimizer.moment1().begin());
    std::ranges::copy(moment2, optimizer.moment2().begin());
    std::ranges::copy(mean, average.data());
    counts = counted;
    optimizer.set_steps(steps_before);
    epoch = epoch_before;
    table.suggested = steepest(table.trials, search.steps / 10);
    return table;
  }

  State state() const {
    State s;
    const nn::Params<float>& params = model.params();
    for (const nn::ParamInfo& p : params.list()) {
      const float* from = weights_to_use() + p.at.offset;
      NamedArray a{"weights/" + p.name, {p.at.rows, p.at.width}, std::vector<float>(from, from + p.at.size())};
      if (p.at.rows == 1) a.shape = {p.at.width};
      s.arrays.push_back(std::move(a));
    }
    put(s, "training/values", params.values());
    auto& o = const_cast<nn::Optimizer<float>&>(optimizer);
    put(s, "training/moment1", o.moment1());
    if (!o.moment2().empty()) put(s, "training/moment2", o.moment2());
    if (average.size() > 0) put(s, "training/average", {average.data(), average.size()});
    if (best.size() > 0) put(s, "training/best", {best.data(), best.size()});
    s.arrays.push_back({"training/target_counts", {counts.size()}, counts});
    s.texts = prefixed("model/", model.config().to_map());
    s.texts.merge(prefixed("training/", config.to_map()));
    const auto text = [&](const std::string& key, const auto& value) { s.texts["state/" + key] = fmt::format("{}", value); };
    text("step", optimizer.steps());
    text("epoch", epoch);
    text("step_of_epoch", step_of_epoch);
    text("epochs_since_best", epochs_since_best);
    text("best_validation", best_validation);
    text("epoch_loss", epoch_loss);
    text("epoch_targets", epoch_targets);
    text("events", expected_events);
    text("over", over ? 1 : 0);

    MaskedTokenModel<float> used(model.config());
    std::copy_n(weights_to_use(), params.size(), used.params().values().data());
    const Examples examples = fingerprint_examples(model.config());
    const std::vector<float> answers = Scorer(used, pool).token_log_probabilities(examples, {});
    const auto integers = [](const auto& v) { return std::vector<std::int64_t>(v.begin(), v.end()); };
    s.arrays.push_back({"fingerprint/offsets", {examples.offsets.size()}, integers(examples.offsets)});
    s.arrays.push_back({"fingerprint/tokens", {examples.tokens.size()}, integers(examples.tokens)});
    s.arrays.push_back({"fingerprint/positions", {examples.positions.size()}, integers(examples.positions)});
    if (!examples.types.empty()) s.arrays.push_back({"fingerprint/types", {examples.types.size()}, integers(examples.types)});
    put(s, "fingerprint/log_probability", answers);
    return s;
  }

  void restore(const State& s) {
    nn::Params<float>& params = model.params();
    const auto copy = [&](const std::string& name, float* to) {
      const auto& v = values_of<float>(s, name, params.size());
      std::copy(v.begin(), v.end(), to);
    };
    copy("training/values", params.values().data());
    copy("training/moment1", optimizer.moment1().data());
    if (!optimizer.moment2().empty()) copy("training/moment2", optimizer.moment2().data());
    if (config.ema > 0) copy("training/average", average.data());
    if (s.find("training/best") != nullptr) {
      best = nn::Aligned<float>(params.size());
      copy("training/best", best.data());
    }
    counts = values_of<std::int64_t>(s, "training/target_counts", counts.size());
    optimizer.set_steps(number<std::uint64_t>(s.texts, "state/step"));
    epoch = number<std::uint64_t>(s.texts, "state/epoch");
    step_of_epoch = number<std::uint64_t>(s.texts, "state/step_of_epoch");
    epochs_since_best = number<std::uint64_t>(s.texts, "state/epochs_since_best");
    best_validation = number<double>(s.texts, "state/best_validation");
    epoch_loss = number<double>(s.texts, "state/epoch_loss");
    epoch_targets = number<std::uint64_t>(s.texts, "state/epoch_targets");
    expected_events = number<std::uint64_t>(s.texts, "state/events");
    over = config.patience > 0 && epochs_since_best >= config.patience;
  }
};

Trainer::Trainer(const EncoderConfig& model, const TrainerConfig& config, Pool& pool, dist::Communicator& ranks)
    : impl_(std::make_unique<Impl>(model, config, pool, ranks)) {
  impl_->model.init(config.seed);
}

Trainer::Trainer(const State& state, Pool& pool, dist::Communicator& ranks)
    : Trainer(state, TrainerConfig::from_map(without_prefix("training/", state.texts)), pool, ranks) {}

Trainer::Trainer(const State& state, const TrainerConfig& config, Pool& pool, dist::Communicator& ranks)
    : impl_(std::make_unique<Impl>(EncoderConfig::from_map(without_prefix("model/", state.texts)), config, pool, ranks)) {
  auto before = TrainerConfig::from_map(without_prefix("training/", state.texts)).to_map(), now = config.to_map();
  for (const char* free : {"epochs", "max_steps", "patience"}) before.erase(free), now.erase(free);
  for (const auto& [key, value] : before)
    if (now[key] != value) fail(Exit::usage, "the training to resume was started with {} {}, now it is {}: leave it out, or start anew", key, value, now[key]);
  impl_->restore(state);
}

Trainer::~Trainer() = default;

const TrainerConfig& Trainer::config() const { return impl_->config; }
const EncoderConfig& Trainer::model_config() const { return impl_->model.config(); }
MaskedTokenModel<float>& Trainer::model() { return impl_->model; }
StepResult Trainer::step(const Examples& data, std::span<const std::uint32_t> events, const Masker& masker) { return impl_->step(data, events, masker); }
double Trainer::evaluate(const Examples& data, std::span<const std::uint32_t> events, const Masker& masker) { return impl_->evaluate(data, events, masker); }
void Trainer::attach(const Examples& data, Masker masker) { impl_->attach(data, std::move(masker)); }
std::size_t Trainer::training_events() const { return impl_->training.size(); }
std::size_t Trainer::validation_events() const { return impl_->validation.size(); }
std::uint64_t Trainer::steps_per_epoch() const { return impl_->steps_per_epoch(); }
std::uint64_t Trainer::planned_steps() const { return impl_->planned(); }
std::optional<Trainer::Advance> Trainer::advance() { return impl_->advance(); }
RateTable Trainer::find_rate(const RateSearch& search, const std::function<void(const RateTrial&)>& after_step) { return impl_->find_rate(search, after_step); }
std::uint64_t Trainer::steps() const { return impl_->optimizer.steps(); }
std::uint64_t Trainer::epoch() const { return impl_->epoch; }
double Trainer::best_validation() const { return impl_->best_validation; }
std::span<const std::int64_t> Trainer::target_counts() const { return impl_->counts; }
State Trainer::state() const { return impl_->state(); }

void Trainer::check_ranks() const {
  const auto values = impl_->model.params().values();
  const std::uint64_t hash = hash64(values.data(), values.size_bytes());
  impl_->ranks.must_agree("the weights", fmt::format("step {}, hash {}", steps(), hex(hash)));
}

double Trainer::unigram_entropy() const {
  double total = 0, sum = 0;
  for (const std::int64_t c : impl_->counts)
    if (c > 0) {
      const auto x = static_cast<double>(c);
      total += x;
      sum += x * std::log(x);
    }
  return total > 0 ? std::log(total) - sum / total : 0;
}

std::unique_ptr<MaskedTokenModel<float>> load_model(const State& state) {
  auto model = std::make_unique<MaskedTokenModel<float>>(EncoderConfig::from_map(without_prefix("model/", state.texts)));
  for (const nn::ParamInfo& p : model->params().list()) {
    const auto& v = values_of<float>(state, "weights/" + p.name, p.at.size());
    std::ranges::copy(v, model->params().of(p.at).begin());
  }
  Examples examples = fingerprint_examples(model->config());
  examples.tokens.clear(), examples.positions.clear(), examples.types.clear();
  const auto& offsets = values_of<std::int64_t>(state, "fingerprint/offsets", examples.offsets.size());
  bool good = offsets.front() == 0 && std::ranges::is_sorted(offsets) && offsets.back() <= 1000;
  if (!good) fail(Exit::input, "the model file's fingerprint has damaged offsets");
  examples.offsets.assign(offsets.begin(), offsets.end());
  const std::size_t n = examples.offsets.back();
  for (const std::int64_t x : values_of<std::int64_t>(state, "fingerprint/tokens", n)) examples.tokens.push_back(static_cast<std::int32_t>(x));
  for (const std::int64_t x : values_of<std::int64_t>(state, "fingerprint/positions", n)) examples.positions.push_back(static_cast<std::int32_t>(x));
  if (model->config().types > 0)
    for (const std::int64_t x : values_of<std::int64_t>(state, "fingerprint/types", n)) examples.types.push_back(static_cast<std::uint8_t>(x));
  examples.check(model->config());
  const auto& expected = values_of<float>(state, "fingerprint/log_probability", n);
  Pool pool(1);
  const std::vector<float> answers = Scorer(*model, pool).token_log_probabilities(examples, {});
  for (std::size_t i = 0; i < n; ++i)
    if (!(std::abs(answers[i] - expected[i]) <= 1e-3f * std::max(1.0f, std::abs(expected[i]))))
      fail(Exit::input, "the model does not answer as it did when it was saved: log-probability {} instead of {} for token {} of its fingerprint", answers[i],
           expected[i], i);
  return model;
}

}  // namespace bl::models
