#include "models/vqvae_trainer.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>

#include "base/error.hpp"
#include "base/hash.hpp"
#include "base/rng.hpp"
#include "models/kmeans.hpp"
#include "nn/schedule.hpp"

namespace bl::models {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr std::string_view kWhat = "the checkpoint";

// Jets of one pass, packed.
struct Shard {
  std::vector<float> x;
  std::vector<std::int32_t> offsets;

  void pack(const JetSet& data, std::span<const std::uint32_t> jets) {
    x.clear();
    offsets.assign(1, 0);
    for (const std::uint32_t j : jets) {
      const auto first = static_cast<std::ptrdiff_t>(data.offsets[j] * kVqFeatures), last = static_cast<std::ptrdiff_t>(data.offsets[j + 1] * kVqFeatures);
      x.insert(x.end(), data.x.begin() + first, data.x.begin() + last);
      offsets.push_back(static_cast<std::int32_t>(x.size() / kVqFeatures));
    }
  }
  std::size_t rows() const { return x.size() / kVqFeatures; }
};

}  // namespace

void VqVaeTraining::validate() const {
  const auto need = [](bool good, const char* what, auto value, const char* allowed) {
    if (!good) fail(Exit::usage, "VQ-VAE training: {} is {}, allowed is {}", what, value, allowed);
  };
  need(epochs >= 1, "epochs", epochs, "1 or more");
  need(batch >= 1, "batch", batch, "1 or more jets");
  need(shard >= 1, "shard", shard, "1 or more jets");
  need(lanes >= 1 && lanes <= 256, "lanes", lanes, "1 to 256");
  need(rate > 0 && std::isfinite(rate), "the learning rate", rate, "above 0");
  need(decay >= 0, "decay", decay, "0 or more");
  need(clip >= 0, "clip", clip, "0 or more");
  need(validation >= 0 && validation < 1, "validation", validation, "0 to below 1");
  need(weights.codebook >= 0 && std::isfinite(weights.codebook), "the codebook weight", weights.codebook, "0 or more");
  need(weights.commitment >= 0 && std::isfinite(weights.commitment), "the commitment weight", weights.commitment, "0 or more");
  need(weights.sync >= 0 && std::isfinite(weights.sync), "sync", weights.sync, "0 or more");
  need(ema >= 0 && ema < 1, "ema", ema, "0 to below 1");
  need(ema > 0 || weights.codebook > 0 || weights.sync > 0, "the codebook weight", weights.codebook, "above 0 where codes follow the gradient");
  need(replace_after >= -1, "replace_after", replace_after, "-1 or more");
  need(kmeans_iterations >= 1, "kmeans_iterations", kmeans_iterations, "1 or more");
}

std::map<std::string, std::string> VqVaeTraining::to_map() const {
  const auto text = [](const auto& v) { return fmt::format("{}", v); };
  return {{"seed", text(seed)},
          {"epochs", text(epochs)},
          {"max_steps", text(max_steps)},
          {"batch", text(batch)},
          {"shard", text(shard)},
          {"lanes", text(lanes)},
          {"rate", text(rate)},
          {"decay", text(decay)},
          {"clip", text(clip)},
          {"validation", text(validation)},
          {"codebook_weight", text(weights.codebook)},
          {"commitment_weight", text(weights.commitment)},
          {"sync", text(weights.sync)},
          {"rotation", text(weights.estimator == nn::Estimator::rotation ? 1 : 0)},
          {"ema", text(ema)},
          {"replace_after", text(replace_after)},
          {"kmeans_iterations", text(kmeans_iterations)}};
}

VqVaeTraining VqVaeTraining::from_map(const std::map<std::string, std::string>& map) {
  VqVaeTraining c;
  c.seed = number<std::uint64_t>(map, "seed", kWhat);
  c.epochs = number<std::uint64_t>(map, "epochs", kWhat);
  c.max_steps = number<std::uint64_t>(map, "max_steps", kWhat);
  c.batch = number<std::uint32_t>(map, "batch", kWhat);
  c.shard = number<std::uint32_t>(map, "shard", kWhat);
  c.lanes = number<std::uint32_t>(map, "lanes", kWhat);
  c.rate = number<double>(map, "rate", kWhat);
  c.decay = number<double>(map, "decay", kWhat);
  c.clip = number<double>(map, "clip", kWhat);
  c.validation = number<double>(map, "validation", kWhat);
  c.weights.codebook = number<double>(map, "codebook_weight", kWhat);
  c.weights.commitment = number<double>(map, "commitment_weight", kWhat);
  c.weights.sync = number<double>(map, "sync", kWhat);
  c.weights.estimator = number<int>(map, "rotation", kWhat) != 0 ? nn::Estimator::rotation : nn::Estimator::straight_through;
  c.ema = number<double>(map, "ema", kWhat);
  c.replace_after = number<std::int64_t>(map, "replace_after", kWhat);
  c.kmeans_iterations = number<std::uint32_t>(map, "kmeans_iterations", kWhat);
  try {
    c.validate();
  } catch (const Error& e) {
    fail(Exit::input, "the checkpoint is not valid: {}", e.what());
  }
  return c;
}

struct VqVaeTrainer::Impl {
  Impl(const VqVaeConfig& model_config, const VqVaeTraining& trainer_config, Pool& workers)
      : config(trainer_config),
        pool(workers),
        model(std::make_shared<VqVae<float>>(model_config)),
        optimizer(model->params(), optimizer_config(trainer_config)),
        for_evaluation(model->params(), nn::Precision::f32, nn::Use::inference),
        arenas(workers.threads()),
        usage(model_config.codes) {
    config.validate();
  }

  static nn::OptimizerConfig optimizer_config(const VqVaeTraining& training) {
    nn::OptimizerConfig c;
    c.decay = training.decay;
    return c;
  }

  VqVaeTraining config;
  Pool& pool;
  std::shared_ptr<VqVae<float>> model;
  nn::Optimizer<float> optimizer;
  nn::PackedWeights for_evaluation;
  std::optional<nn::CodebookKeeper<float>> keeper;
  nn::NearestCodes<float> nearest;
  nn::Aligned<float> best;                      // empty before there is one
  std::vector<nn::Arena> arenas;                // one a worker
  std::vector<nn::Aligned<float>> lanes, uses;  // gradients, and use of the codes
  std::vector<float*> lane_pointers, use_pointers;
  std::vector<Shard> shards;
  std::vector<double> reconstructions, quantisations;  // one a shard
  std::vector<std::vector<float>> latents;             // one a shard
  std::vector<std::vector<std::int32_t>> ids;          // one a shard
  std::vector<float> candidates;
  nn::CodeUsage usage;  // of the epoch

  const JetSet* data = nullptr;
  std::vector<std::uint32_t> training, validation, order;
  std::uint64_t ordered_epoch = std::numeric_limits<std::uint64_t>::max();
  std::uint64_t replace_after = 0;
  std::string fingerprint;  // of the jets
  std::uint64_t epoch = 0, step_of_epoch = 0;
  double best_validation = infinity, epoch_loss = 0, epoch_reconstruction = 0;
  std::uint64_t epoch_constituents = 0, epoch_replaced = 0;

  std::size_t codes() const { return model->config().codes; }
  std::size_t latent() const { return model->config().latent; }
  std::span<float> codebook() { return model->params().of(model->codebook()); }

  std::uint64_t steps_per_epoch() const { return std::max<std::uint64_t>(1, (training.size() + config.batch / 2) / config.batch); }
  std::uint64_t planned() const {
    const std::uint64_t n = config.epochs * steps_per_epoch();
    return config.max_steps > 0 ? std::min(n, config.max_steps) : n;
  }

  void attach(const JetSet& jets) {
    if (jets.jets() > std::numeric_limits<std::uint32_t>::max()) fail(Exit::input, "more than 2^32 jets in memory");
    for (std::size_t i = 0; i < jets.x.size(); ++i)
      if (!std::isfinite(jets.x[i])) fail(Exit::input, "feature {} of constituent {} is {}, not a finite number", i % kVqFeatures, i / kVqFeatures, jets.x[i]);
    data = &jets;
    const std::string now = hex(hash64(jets.x.data(), jets.x.size() * sizeof(float), hash64(jets.offsets.data(), jets.offsets.size() * sizeof(std::uint64_t))));
    if (!fingerprint.empty() && fingerprint != now) fail(Exit::input, "the fit was started on other jets: to resume it needs the same input and limits");
    const Rng rng(config.seed, "validation");
    training.clear();
    validation.clear();
    std::uint64_t constituents = 0;
    for (std::uint32_t j = 0; j < jets.jets(); ++j) {
      if (jets.offsets[j + 1] == jets.offsets[j]) continue;  // nothing to learn from an empty jet
      if (rng.uniform(j, 0) < config.validation) {
        validation.push_back(j);
        continue;
      }
      training.push_back(j);
      constituents += jets.offsets[j + 1] - jets.offsets[j];
    }
    if (constituents < codes())
      fail(Exit::input, "the {} jets to train on hold {} constituents, too few for {} codes; give more jets or ask for fewer codes", training.size(),
           constituents, codes());
    fingerprint = now;
    const double a_step = static_cast<double>(constituents) / static_cast<double>(steps_per_epoch());
    constexpr double chances = 20;  // a code used as often as the mean is then left out by chance with a probability of 2e-9
    replace_after = config.replace_after >= 0 ? static_cast<std::uint64_t>(config.replace_after)
                                              : static_cast<std::uint64_t>(std::max(10.0, std::ceil(chances * static_cast<double>(codes()) / a_step)));
    nn::CodebookConfig c;
    c.decay = config.ema;
    c.replace_after = static_cast<std::uint32_t>(std::min<std::uint64_t>(replace_after, 0xffffffffu));
    c.seed = config.seed;
    const bool resumed = keeper.has_value();
    std::optional<nn::CodebookKeeper<float>> before = std::move(keeper);
    keeper.emplace(codes(), latent(), c);
    if (!resumed) return;
    std::ranges::copy(before->average_counts(), keeper->average_counts().begin());
    std::ranges::copy(before->average_sums(), keeper->average_sums().begin());
    std::ranges::copy(before->updates_unused(), keeper->updates_unused().begin());
  }

  std::size_t pack(std::span<const std::uint32_t> jets) {
    const std::size_t n = (jets.size() + config.shard - 1) / config.shard;
    if (shards.size() < n) {
      shards.resize(n);
      reconstructions.resize(n);
      quantisations.resize(n);
      latents.resize(n);
      ids.resize(n);
    }
    const auto task = [&](std::size_t s, std::size_t) {
      shards[s].pack(*data, jets.subspan(s * config.shard, std::min<std::size_t>(config.shard, jets.size() - s * config.shard)));
    };
    pool.run(n, std::ref(task));
    return n;
  }

  void build_nearest() { nearest.build(codes(), latent(), codebook().data()); }

  // Codes start at the centres of encoder outputs.
  void place_codes() {
    const std::size_t wanted = std::max<std::size_t>(16 * codes(), 16384);  // a rough start: the encoder moves at once
    shuffle();
    std::vector<std::uint32_t> jets;
    std::size_t points = 0;
    for (std::size_t i = 0; i < order.size() && points < wanted; ++i) {
      jets.push_back(order[i]);
      points += data->offsets[order[i] + 1] - data->offsets[order[i]];
    }
    for_evaluation.update(pool, model->params().values().data());
    const std::size_t n = pack(jets);
    const auto task = [&](std::size_t s, std::size_t worker) {
      arenas[worker].reset();
      nn::Tape<float> tape(arenas[worker], model->params());
      tape.use(&for_evaluation);
      const Shard& shard = shards[s];
      const nn::Var<float> z = model->encode(tape, tape.input(shard.x.data(), shard.rows(), kVqFeatures), shard.offsets);
      latents[s].assign(z->value, z->value + z->size());
    };
    pool.run(n, std::ref(task));
    std::vector<float> z;
    for (std::size_t s = 0; s < n; ++s) z.insert(z.end(), latents[s].begin(), latents[s].end());
    KmeansOptions options;
    options.codes = codes();
    options.max_iterations = config.kmeans_iterations;
    const KmeansResult centres = kmeans(z, latent(), {}, options, Rng(config.seed, "codebook"), pool);
    std::ranges::copy(centres.centres, codebook().begin());
    keeper->start(codebook());
  }

  VqVaeStep step(std::span<const std::uint32_t> jets) {
    VqVaeStep result;
    const std::uint64_t number = optimizer.steps();
    const std::size_t n = pack(jets), active = std::min<std::size_t>(config.lanes, n);
    result.jets = jets.size();
    for (std::size_t s = 0; s < n; ++s) result.constituents += shards[s].rows();
    nn::Params<float>& params = model->params();
    while (lanes.size() < active) {
      lanes.emplace_back(params.size());
      lane_pointers.push_back(lanes.back().data());
      uses.emplace_back(keeper->block_size());
      use_pointers.push_back(uses.back().data());
    }
    build_nearest();
    nn::Schedule schedule;
    schedule.kind = nn::Schedule::Kind::one_cycle;
    schedule.rate = config.rate;
    schedule.total = planned();
    result.rate = schedule.at(number);
    const double scale = 1.0 / static_cast<double>(result.constituents);
    const auto task = [&](std::size_t lane, std::size_t worker) {
      std::memset(lanes[lane].data(), 0, params.size() * sizeof(float));
      std::memset(uses[lane].data(), 0, keeper->block_size() * sizeof(float));
      for (std::size_t s = lane; s < n; s += active) {
        arenas[worker].reset();
        nn::Tape<float> tape(arenas[worker], params.values().data(), lanes[lane].data());
        tape.seed(config.seed, static_cast<std::uint32_t>(number), static_cast<std::uint32_t>(s));
        const auto loss = model->loss(tape, std::span<const float>(shards[s].x), shards[s].offsets, nearest, config.weights, scale, config.ema == 0);
        reconstructions[s] = loss.reconstruction;
        quantisations[s] = loss.quantisation;
        latents[s].assign(loss.latent->value, loss.latent->value + loss.latent->size());
        ids[s].assign(loss.ids.begin(), loss.ids.end());
        keeper->add_use(shards[s].rows(), latents[s].data(), ids[s].data(), uses[lane].data());
        tape.backward();
      }
    };
    pool.run(active, std::ref(task));
    for (std::size_t s = 0; s < n; ++s) {
      result.reconstruction += reconstructions[s] * scale;
      result.quantisation += quantisations[s] * scale;
    }
    result.loss = result.reconstruction + (config.weights.commitment + (config.ema == 0 ? config.weights.codebook : 0)) * result.quantisation;
    result.gradient_norm = nn::reduce_gradients<float>(pool, std::span<float* const>(lane_pointers).first(active), params.size());
    if (!std::isfinite(result.loss) || !std::isfinite(result.gradient_norm)) {
      const std::string name = params.first_not_finite(std::span<const float>(lanes[0].data(), params.size()));
      fail(Exit::failed, "step {}: the loss is {} and the norm of the gradient {}; {}. Try a smaller learning rate (it was {:g})", number, result.loss,
           result.gradient_norm,
           name.empty() ? std::string("every single gradient is finite") : "the first gradient that is not finite is that of '" + name + "'", result.rate);
    }
    nn::reduce_gradients<float>(pool, std::span<float* const>(use_pointers).first(active), keeper->block_size());
    nn::CodeUsage now(codes());
    candidates.clear();
    for (std::size_t s = 0; s < n; ++s) {
      now.add(ids[s]);
      usage.add(ids[s]);
      candidates.insert(candidates.end(), latents[s].begin(), latents[s].end());
    }
    result.used = now.used();
    result.perplexity = now.perplexity();
    optimizer.step(pool, params, lanes[0].data(), schedule, nn::clip_factor(result.gradient_norm, config.clip));
    result.replaced = keeper->update(number, uses[0].data(), candidates, codebook());
    return result;
  }

  // Mean squared error of the features; counts the codes.
  double evaluate(std::span<const std::uint32_t> jets, nn::CodeUsage& counts) {
    for_evaluation.update(pool, model->params().values().data());
    build_nearest();
    double sum = 0;
    std::size_t rows = 0;
    const std::size_t piece = std::size_t{config.shard} * 64;
    for (std::size_t start = 0; start < jets.size(); start += piece) {
      const std::size_t n = pack(jets.subspan(start, std::min(piece, jets.size() - start)));
      const auto task = [&](std::size_t s, std::size_t worker) {
        arenas[worker].reset();
        nn::Tape<float> tape(arenas[worker], model->params());
        tape.use(&for_evaluation);
        const auto loss = model->loss(tape, std::span<const float>(shards[s].x), shards[s].offsets, nearest, config.weights, 0, false);
        reconstructions[s] = loss.reconstruction;
        ids[s].assign(loss.ids.begin(), loss.ids.end());
      };
      pool.run(n, std::ref(task));
      for (std::size_t s = 0; s < n; ++s) {
        sum += reconstructions[s];
        rows += shards[s].rows();
        counts.add(ids[s]);
      }
    }
    return rows > 0 ? sum / static_cast<double>(rows) : std::numeric_limits<double>::quiet_NaN();
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
    if (optimizer.steps() >= planned()) return std::nullopt;
    if (optimizer.steps() == 0) place_codes();
    shuffle();
    const std::uint64_t batches = steps_per_epoch(), n = order.size(), first = n * step_of_epoch / batches, last = n * (step_of_epoch + 1) / batches;
    Advance result;
    result.step = step(std::span<const std::uint32_t>(order).subspan(first, last - first));
    epoch_loss += result.step.loss * static_cast<double>(result.step.constituents);
    epoch_reconstruction += result.step.reconstruction * static_cast<double>(result.step.constituents);
    epoch_constituents += result.step.constituents;
    epoch_replaced += result.step.replaced;
    if (++step_of_epoch < batches && optimizer.steps() < planned()) return result;

    VqVaeEpoch e;
    e.epoch = epoch;
    e.loss = epoch_loss / static_cast<double>(epoch_constituents);
    e.reconstruction = epoch_reconstruction / static_cast<double>(epoch_constituents);
    e.replaced = epoch_replaced;
    nn::CodeUsage counts(codes());
    e.validation = evaluate(validation, counts);
    if (validation.empty()) counts = usage;
    e.used = counts.used();
    e.perplexity = counts.perplexity();
    if (e.validation < best_validation) {
      best_validation = e.validation;
      e.best = true;
      if (best.size() == 0) best = nn::Aligned<float>(model->params().size());
      std::ranges::copy(model->params().values(), best.data());
    }
    ++epoch;
    step_of_epoch = epoch_constituents = epoch_replaced = 0;
    epoch_loss = epoch_reconstruction = 0;
    usage = nn::CodeUsage(codes());
    result.epoch = e;
    return result;
  }

  State state() const {
    State s;
    const auto put = [&](std::string name, std::span<const float> values) {
      s.arrays.push_back({std::move(name), {values.size()}, std::vector<float>(values.begin(), values.end())});
    };
    const auto put_counts = [&](std::string name, const auto& values) {
      s.arrays.push_back({std::move(name), {values.size()}, std::vector<std::int64_t>(values.begin(), values.end())});
    };
    put("training/values", model->params().values());
    auto& o = const_cast<nn::Optimizer<float>&>(optimizer);
    put("training/moment1", o.moment1());
    put("training/moment2", o.moment2());
    if (best.size() > 0) put("training/best", {best.data(), best.size()});
    if (keeper) {
      auto& k = const_cast<nn::CodebookKeeper<float>&>(*keeper);
      if (config.ema > 0) {
        put("codebook/counts", k.average_counts());
        put("codebook/sums", k.average_sums());
      }
      put_counts("codebook/unused", k.updates_unused());
    }
    put_counts("codebook/usage", usage.counts);
    for (const auto& [key, value] : model->config().to_map()) s.texts["model/" + key] = value;
    for (const auto& [key, value] : config.to_map()) s.texts["training/" + key] = value;
    const auto text = [&](const std::string& key, const auto& value) { s.texts["state/" + key] = fmt::format("{}", value); };
    text("step", optimizer.steps());
    text("epoch", epoch);
    text("step_of_epoch", step_of_epoch);
    text("best_validation", best_validation);
    text("epoch_loss", epoch_loss);
    text("epoch_reconstruction", epoch_reconstruction);
    text("epoch_constituents", epoch_constituents);
    text("epoch_replaced", epoch_replaced);
    text("jets", fingerprint);
    return s;
  }

  void restore(const State& s) {
    const std::size_t size = model->params().size();
    const auto copy = [&](const std::string& name, float* to, std::size_t n) { std::ranges::copy(s.values_of<float>(name, n), to); };
    copy("training/values", model->params().values().data(), size);
    copy("training/moment1", optimizer.moment1().data(), size);
    copy("training/moment2", optimizer.moment2().data(), size);
    if (s.find("training/best") != nullptr) {
      best = nn::Aligned<float>(size);
      copy("training/best", best.data(), size);
    }
    if (s.find("codebook/unused") != nullptr) {
      nn::CodebookConfig c;
      c.decay = config.ema;
      keeper.emplace(codes(), latent(), c);
      if (config.ema > 0) {
        copy("codebook/counts", keeper->average_counts().data(), codes());
        copy("codebook/sums", keeper->average_sums().data(), codes() * latent());
      }
      const auto& unused = s.values_of<std::int64_t>("codebook/unused", codes());
      std::ranges::transform(unused, keeper->updates_unused().begin(), [](std::int64_t n) { return static_cast<std::uint32_t>(n); });
    }
    const auto& used = s.values_of<std::int64_t>("codebook/usage", codes());
    usage.counts.assign(used.begin(), used.end());
    optimizer.set_steps(number<std::uint64_t>(s.texts, "state/step", kWhat));
    epoch = number<std::uint64_t>(s.texts, "state/epoch", kWhat);
    step_of_epoch = number<std::uint64_t>(s.texts, "state/step_of_epoch", kWhat);
    best_validation = number<double>(s.texts, "state/best_validation", kWhat);
    epoch_loss = number<double>(s.texts, "state/epoch_loss", kWhat);
    epoch_reconstruction = number<double>(s.texts, "state/epoch_reconstruction", kWhat);
    epoch_constituents = number<std::uint64_t>(s.texts, "state/epoch_constituents", kWhat);
    epoch_replaced = number<std::uint64_t>(s.texts, "state/epoch_replaced", kWhat);
    const auto jets = s.texts.find("state/jets");
    if (jets == s.texts.end()) fail(Exit::input, "the checkpoint lacks 'state/jets'");
    fingerprint = jets->second;
  }
};

VqVaeTrainer::VqVaeTrainer(const VqVaeConfig& model, const VqVaeTraining& config, Pool& pool) : impl_(std::make_unique<Impl>(model, config, pool)) {
  impl_->model->init(config.seed);
}

VqVaeTrainer::VqVaeTrainer(const State& state, const VqVaeConfig& model, const VqVaeTraining& config, Pool& pool)
    : impl_(std::make_unique<Impl>(model, config, pool)) {
  auto before = VqVaeTraining::from_map(texts_below("training/", state.texts)).to_map(), now = config.to_map();
  before.merge(VqVaeConfig::from_map(texts_below("model/", state.texts)).to_map());
  now.merge(model.to_map());
  for (const auto& [key, value] : before)
    if (now[key] != value) fail(Exit::usage, "the fit to resume was started with {} {}, now it is {}: leave it out, or start anew", key, value, now[key]);
  impl_->restore(state);
}

VqVaeTrainer::~VqVaeTrainer() = default;

void VqVaeTrainer::attach(const JetSet& data) { impl_->attach(data); }
std::size_t VqVaeTrainer::training_jets() const { return impl_->training.size(); }
std::size_t VqVaeTrainer::validation_jets() const { return impl_->validation.size(); }
std::uint64_t VqVaeTrainer::steps_per_epoch() const { return impl_->steps_per_epoch(); }
std::uint64_t VqVaeTrainer::planned_steps() const { return impl_->planned(); }
std::uint64_t VqVaeTrainer::steps() const { return impl_->optimizer.steps(); }
double VqVaeTrainer::best_validation() const { return impl_->best_validation; }
std::uint64_t VqVaeTrainer::replace_after() const { return impl_->replace_after; }
std::optional<VqVaeTrainer::Advance> VqVaeTrainer::advance() { return impl_->advance(); }
State VqVaeTrainer::state() const { return impl_->state(); }

std::shared_ptr<VqVae<float>> VqVaeTrainer::result() const {
  auto model = std::make_shared<VqVae<float>>(impl_->model->config());
  const std::size_t size = model->params().size();
  const float* from = impl_->best.size() > 0 ? impl_->best.data() : impl_->model->params().values().data();
  std::copy_n(from, size, model->params().values().data());
  return model;
}

}  // namespace bl::models
