#include "models/trainer.hpp"

#include <algorithm>
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

constexpr std::string_view state_name = "the training state";

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
  c.seed = number<std::uint64_t>(map, "seed", state_name);
  c.epochs = number<std::uint64_t>(map, "epochs", state_name);
  c.max_steps = number<std::uint64_t>(map, "max_steps", state_name);
  c.batch = number<std::uint32_t>(map, "batch", state_name);
  c.shard = number<std::uint32_t>(map, "shard", state_name);
  c.lanes = number<std::uint32_t>(map, "lanes", state_name);
  c.rate = number<double>(map, "rate", state_name);
  c.warmup = number<std::uint64_t>(map, "warmup", state_name);
  // What files of earlier versions do not say was then as follows.
  const auto word = [&](const char* key, const char* otherwise) {
    const auto it = map.find(key);
    return it == map.end() ? std::string(otherwise) : it->second;
  };
  const auto has = [&](const char* key) { return map.contains(key); };
  if (has("accumulate")) c.accumulate = number<std::uint32_t>(map, "accumulate", state_name);
  if (has("beta1")) c.beta1 = number<double>(map, "beta1", state_name);
  if (has("beta2")) c.beta2 = number<double>(map, "beta2", state_name);
  if (has("momentum")) c.momentum = number<double>(map, "momentum", state_name);
  if (has("nesterov")) c.nesterov = number<int>(map, "nesterov", state_name) != 0;
  c.last_rate = number<double>(map, "last_rate", state_name);
  c.clip = number<double>(map, "clip", state_name);
  c.decay = number<double>(map, "decay", state_name);
  c.ema = number<double>(map, "ema", state_name);
  c.validation = number<double>(map, "validation", state_name);
  c.patience = number<std::uint64_t>(map, "patience", state_name);
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
  Impl(std::unique_ptr<Objective> what, const TrainerConfig& trainer_config, Pool& workers, dist::Communicator& communicator)
      : config(trainer_config),
        pool(workers),
        ranks(communicator),
        objective(std::move(what)),
        params(objective->params()),
        optimizer(params, optimizer_config(trainer_config), trainer_config.groups),
        packed(params, trainer_config.precision, nn::Use::training),
        packed_for_evaluation(params, nn::Precision::f32, nn::Use::inference),
        arenas(workers.threads()),
        counts(objective->target_classes(), 0) {
    config.validate();
    if (ranks.size() > config.lanes)
      fail(Exit::usage, "{} ranks are too many: a batch is worked on in {} lanes, so start at most {} ranks", ranks.size(), config.lanes, config.lanes);
    // Other instructions round otherwise: the ranks' weights would drift apart.
    std::string facts = fmt::format("instruction set {}, products by {}", nn::kernel_target(), nn::product_backend(config.precision));
    for (const auto& map : {objective->settings(), config.to_map()})
      for (const auto& [key, value] : map) facts += fmt::format(", {} {}", key, value);
    ranks.must_agree("the training", facts);
    if (config.ema > 0) average = nn::Aligned<float>(params.size());
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
  std::unique_ptr<Objective> objective;
  nn::Params<float>& params;
  nn::Optimizer<float> optimizer;
  nn::PackedWeights packed, packed_for_evaluation;
  nn::Aligned<float> average;                           // empty without EMA
  nn::Aligned<float> best;                              // weights of the best validation, empty before there is one
  std::vector<nn::Arena> arenas;                        // one a worker
  std::vector<nn::Aligned<float>> lanes;                // those of this rank
  std::vector<float*> lane_pointers, trained_pointers;  // the latter: of the part that is trained
  dist::TreeSum tree;
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

  // The shards of a batch as packed input; returns the number of targets.
  std::size_t pack(const Examples& from, std::span<const std::uint32_t> events, const Masker& mask, std::uint64_t mask_epoch) {
    const std::size_t shards = (events.size() + config.shard - 1) / config.shard;
    if (losses.size() < shards) losses.resize(shards);
    objective->reserve(shards);
    const auto task = [&](std::size_t s, std::size_t) {
      const std::size_t first = s * config.shard;
      objective->pack(s, from, events.subspan(first, std::min<std::size_t>(config.shard, events.size() - first)), mask, mask_epoch);
    };
    pool.run(shards, std::ref(task));
    std::size_t targets = 0;
    for (std::size_t s = 0; s < shards; ++s) targets += objective->targets(s).size();
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
    const dist::Share own = dist::share(active, ranks.size(), ranks.rank());
    while (lanes.size() < std::max<std::size_t>(1, own.size())) {  // one is needed for the sum, even where all are others'
      lanes.emplace_back(params.size());
      lane_pointers.push_back(lanes.back().data());
    }
    packed.update(pool, params.values().data());
    const nn::Optimizer<float>::Range trained = optimizer.trained();
    const double scale = 1.0 / static_cast<double>(result.targets);
    const auto task = [&](std::size_t i, std::size_t worker) {
      std::memset(lanes[i].data() + trained.first, 0, trained.size * sizeof(float));
      for (std::size_t s = own.first + i; s < shards; s += active) {
        arenas[worker].reset();
        nn::Tape<float> tape(arenas[worker], params.values().data(), lanes[i].data());
        if (!optimizer.frozen().empty()) tape.freeze(optimizer.frozen().data());
        tape.use(&packed);
        tape.seed(config.seed, static_cast<std::uint32_t>(number), static_cast<std::uint32_t>(s));
        losses[s] = objective->loss(tape, s, scale);
        tape.backward();
      }
    };
    pool.run(own.size(), std::ref(task));
    gather_losses(shards, active);
    double loss = 0;
    for (std::size_t s = 0; s < shards; ++s) {
      loss += losses[s];
      result.tokens += objective->tokens(s);
    }
    result.loss = loss * scale;
    if (ranks.size() > 1) tree.run(ranks, pool, active, std::span<float* const>(lane_pointers).first(own.size()), params.size(), lanes[0].data());
    trained_pointers.clear();
    for (std::size_t i = 0; i < (ranks.size() > 1 ? 1 : active); ++i) trained_pointers.push_back(lane_pointers[i] + trained.first);
    result.gradient_norm = nn::reduce_gradients<float>(pool, trained_pointers, trained.size);
    if (!std::isfinite(result.loss) || !std::isfinite(result.gradient_norm)) {
      const std::string name = params.first_not_finite(std::span<const float>(lanes[0].data(), params.size()));
      fail(Exit::failed, "step {}: the loss is {} and the norm of the gradient {}; {}. Try a smaller learning rate (it was {:g})", number, result.loss,
           result.gradient_norm,
           name.empty() ? std::string("every single gradient is finite") : "the first gradient that is not finite is that of '" + name + "'", result.rate);
    }
    for (std::size_t s = 0; s < shards; ++s)
      for (const std::int32_t t : objective->targets(s)) ++counts[static_cast<std::size_t>(t)];
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

  const float* weights_for_evaluation() const { return config.ema > 0 && optimizer.steps() > 0 ? average.data() : params.values().data(); }
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
        losses[s] = objective->loss(tape, s, 0);
      };
      pool.run(own.size(), std::ref(task));
      gather_losses(shards, shards);
      for (std::size_t s = 0; s < shards; ++s) loss += losses[s];
    }
    return targets > 0 ? loss / static_cast<double>(targets) : std::numeric_limits<double>::quiet_NaN();
  }

  void hold(const Examples& examples, Masker mask) {
    if (expected_events != 0 && expected_events != examples.events())
      fail(Exit::input, "the training was started with {} events, now there are {}: resume needs the same input", expected_events, examples.events());
    if (examples.events() > std::numeric_limits<std::uint32_t>::max()) fail(Exit::input, "more than 2^32 events in memory");
    data = &examples;
    masker = std::move(mask);
    expected_events = examples.events();
  }

  void attach(const Examples& examples, std::vector<std::uint32_t> train, std::vector<std::uint32_t> validate, Masker mask) {
    hold(examples, std::move(mask));
    training = std::move(train);
    validation = std::move(validate);
    for (const auto* list : {&training, &validation})
      for (const std::uint32_t e : *list) bl::check(e < examples.events(), "attach(): an event that is not among the examples");
    if (training.empty()) fail(Exit::input, "no event to train on: {} events, {} of them kept for validation", examples.events(), validation.size());
  }

  void attach(const Examples& examples, Masker mask) {
    hold(examples, std::move(mask));
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
      if (best.size() == 0) best = nn::Aligned<float>(params.size());
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
    const auto values = copy(params.values()), moment1 = copy(optimizer.moment1()), moment2 = copy(optimizer.moment2()), mean = copy(average);
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
    std::ranges::copy(values, params.values().begin());
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
    for (const nn::ParamInfo& p : params.list()) {
      const float* from = weights_to_use() + p.at.offset;
      NamedArray a{"weights/" + p.name, {p.at.rows, p.at.width}, std::vector<float>(from, from + p.at.size())};
      if (p.at.rows == 1) a.shape = {p.at.width};
      s.arrays.push_back(std::move(a));
    }
    s.put("training/values", params.values());
    auto& o = const_cast<nn::Optimizer<float>&>(optimizer);
    s.put("training/moment1", o.moment1());
    if (!o.moment2().empty()) s.put("training/moment2", o.moment2());
    if (average.size() > 0) s.put("training/average", {average.data(), average.size()});
    if (best.size() > 0) s.put("training/best", {best.data(), best.size()});
    s.put("training/target_counts", counts);
    s.texts = prefixed("model/", objective->settings());
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

    objective->put_fingerprint(s, {weights_to_use(), params.size()}, pool);
    return s;
  }

  void restore(const State& s) {
    const auto copy = [&](const std::string& name, float* to) {
      const auto& v = s.values_of<float>(name, params.size());
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
    counts = s.values_of<std::int64_t>("training/target_counts", counts.size());
    optimizer.set_steps(number<std::uint64_t>(s.texts, "state/step", state_name));
    epoch = number<std::uint64_t>(s.texts, "state/epoch", state_name);
    step_of_epoch = number<std::uint64_t>(s.texts, "state/step_of_epoch", state_name);
    epochs_since_best = number<std::uint64_t>(s.texts, "state/epochs_since_best", state_name);
    best_validation = number<double>(s.texts, "state/best_validation", state_name);
    epoch_loss = number<double>(s.texts, "state/epoch_loss", state_name);
    epoch_targets = number<std::uint64_t>(s.texts, "state/epoch_targets", state_name);
    expected_events = number<std::uint64_t>(s.texts, "state/events", state_name);
    over = config.patience > 0 && epochs_since_best >= config.patience;
  }
};

Trainer::Trainer(std::unique_ptr<Objective> objective, const TrainerConfig& config, Pool& pool, dist::Communicator& ranks)
    : impl_(std::make_unique<Impl>(std::move(objective), config, pool, ranks)) {
  impl_->objective->init(config.seed);
}

Trainer::Trainer(const EncoderConfig& model, const TrainerConfig& config, Pool& pool, dist::Communicator& ranks)
    : Trainer(std::make_unique<MaskedTokens>(model), config, pool, ranks) {}

Trainer::Trainer(const GptConfig& model, const TrainerConfig& config, Pool& pool, dist::Communicator& ranks)
    : Trainer(std::make_unique<NextTokens>(model), config, pool, ranks) {}

Trainer::Trainer(const State& state, Pool& pool, dist::Communicator& ranks)
    : Trainer(state, TrainerConfig::from_map(texts_below("training/", state.texts)), pool, ranks) {}

Trainer::Trainer(const State& state, const TrainerConfig& config, Pool& pool, dist::Communicator& ranks)
    : impl_(std::make_unique<Impl>(make_objective(texts_below("model/", state.texts)), config, pool, ranks)) {
  auto before = TrainerConfig::from_map(texts_below("training/", state.texts)).to_map(), now = config.to_map();
  for (const char* free : {"epochs", "max_steps", "patience"}) before.erase(free), now.erase(free);
  for (const auto& [key, value] : before)
    if (now[key] != value) fail(Exit::usage, "the training to resume was started with {} {}, now it is {}: leave it out, or start anew", key, value, now[key]);
  impl_->restore(state);
}

Trainer::~Trainer() = default;

const TrainerConfig& Trainer::config() const { return impl_->config; }
Objective& Trainer::objective() { return *impl_->objective; }
nn::Params<float>& Trainer::params() { return impl_->params; }
Texts Trainer::settings() const { return impl_->objective->settings(); }
MaskedTokenModel<float>& Trainer::model() {
  auto* const masked = dynamic_cast<MaskedTokens*>(impl_->objective.get());
  bl::check(masked != nullptr, "the model of another objective");
  return masked->model();
}
GptModel<float>& Trainer::gpt() {
  auto* const next = dynamic_cast<NextTokens*>(impl_->objective.get());
  bl::check(next != nullptr, "the model of another objective");
  return next->model();
}
StepResult Trainer::step(const Examples& data, std::span<const std::uint32_t> events, const Masker& masker) { return impl_->step(data, events, masker); }
double Trainer::evaluate(const Examples& data, std::span<const std::uint32_t> events, const Masker& masker) { return impl_->evaluate(data, events, masker); }
void Trainer::attach(const Examples& data, Masker masker) { impl_->attach(data, std::move(masker)); }
void Trainer::attach(const Examples& data, std::vector<std::uint32_t> training, std::vector<std::uint32_t> validation, Masker masker) {
  impl_->attach(data, std::move(training), std::move(validation), std::move(masker));
}
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
  const auto values = impl_->params.values();
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

}  // namespace bl::models
