// Training of a model for an objective, without files: batches in, losses out, and a state that can be saved and resumed to
// the same bits.
//
// A batch is cut into shards of a fixed number of events; shard s belongs to lane s mod lanes, a lane adds up its shards
// in order, and the lanes are added by a fixed tree. Which thread or rank works on a lane is of no consequence, so 1, 2 or
// 8 threads or ranks give the same bits. All random numbers are functions of (seed, step, shard, index).
//
// With several ranks every one has the whole state and the same events, and calls the same functions in the same order;
// only the work on shards is divided. Any rank's state() is that of the training.
#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/pool.hpp"
#include "dist/communicator.hpp"
#include "models/objective.hpp"
#include "models/state.hpp"
#include "nn/optimizer.hpp"
#include "nn/packed.hpp"

namespace bl::models {

struct TrainerConfig {
  std::uint64_t seed = 1;
  std::uint64_t epochs = 10;     // over attached data; 0: no limit
  std::uint64_t max_steps = 0;   // 0: no limit
  std::uint32_t batch = 256;     // events
  std::uint32_t shard = 32;      // events of a shard: changes the last bits
  std::uint32_t lanes = 8;       // the most threads that can work at once: changes the last bits
  std::uint32_t accumulate = 1;  // batches of a step: the bits of a batch so many times as large, in the memory of one shard
  nn::OptimizerConfig::Kind optimizer = nn::OptimizerConfig::Kind::adamw;
  double beta1 = 0.9, beta2 = 0;  // adamw and lion; beta2 0: 0.999, for lion 0.99
  double momentum = 0.9;          // sgd
  bool nesterov = false;          // sgd
  nn::Schedule::Kind schedule = nn::Schedule::Kind::cosine;
  double rate = 1e-3;
  std::uint64_t warmup = 100;  // steps; 0 with one_cycle: 3/10 of all
  double last_rate = 0.01;     // cosine: at the last step, where that is known, as a fraction of `rate`
  double clip = 1.0;           // global norm of the gradient; 0: no clipping
  double decay = 0.01;
  std::vector<nn::GroupRule> groups;
  double ema = 0.0;                              // weight of the old average, e.g. 0.999; 0: no average
  double validation = 0.1;                       // fraction of the events, chosen by ordinal number
  std::uint64_t patience = 0;                    // epochs without a better validation loss before training stops; 0: never
  nn::Precision precision = nn::Precision::f32;  // of the products of a step; evaluation is always in f32

  void validate() const;  // throws Exit::usage naming the setting
  std::map<std::string, std::string> to_map() const;
  static TrainerConfig from_map(const std::map<std::string, std::string>& map);
};

struct StepResult {
  double loss = 0;           // mean over the targets of -log p
  double gradient_norm = 0;  // before clipping
  double rate = 0;
  std::size_t events = 0, tokens = 0, targets = 0;
};

// A learning-rate range test (Smith, arXiv:1506.01186): steps on a copy of the weights, at rates that rise exponentially.
struct RateSearch {
  double lowest = 1e-7, highest = 10;
  std::uint64_t steps = 200;  // from the lowest to the highest; at least 20
};
struct RateTrial {
  double rate = 0;
  double loss = 0;      // of the step
  double smoothed = 0;  // running mean, 0.9 of it the earlier losses
};
struct RateTable {
  std::vector<RateTrial> trials;  // fewer than asked for where the loss became infinite, or four times the smallest
  // Where the loss falls fastest: the slope of a line through a tenth of the steps, before the smallest smoothed loss.
  // 0 where the smoothed loss never fell by a hundredth.
  double suggested = 0;
};

struct EpochResult {
  std::uint64_t epoch = 0;     // counted from 0
  double training_loss = 0;    // mean over its targets
  double validation_loss = 0;  // with the averaged weights where there are any; NaN without validation events
  bool best = false;
};

class Trainer {
 public:
  // Throws Exit::usage when there are more ranks than lanes, Exit::failed when the ranks are not alike.
  Trainer(std::unique_ptr<Objective> objective, const TrainerConfig& config, Pool& pool, dist::Communicator& ranks = dist::alone());
  Trainer(const EncoderConfig& model, const TrainerConfig& config, Pool& pool, dist::Communicator& ranks = dist::alone());  // MaskedTokens
  Trainer(const GptConfig& model, const TrainerConfig& config, Pool& pool, dist::Communicator& ranks = dist::alone());      // NextTokens
  // Continues from a saved state. Throws Exit::input when the state is incomplete or does not fit.
  Trainer(const State& state, Pool& pool, dist::Communicator& ranks = dist::alone());
  // The same with other limits (epochs, max_steps, patience, and what only matters per epoch); what determines the bits
  // of a step must be equal: Exit::usage names the setting that differs.
  Trainer(const State& state, const TrainerConfig& config, Pool& pool, dist::Communicator& ranks = dist::alone());
  ~Trainer();

  const TrainerConfig& config() const;
  Objective& objective();
  nn::Params<float>& params();
  Texts settings() const;            // of the model
  MaskedTokenModel<float>& model();  // of MaskedTokens
  GptModel<float>& gpt();            // of NextTokens

  // One step on events of `data` given by index, batch · accumulate of them as a rule. Masked tokens: without masker data.mask is used.
  // Throws Exit::usage where the schedule needs a number of steps that is not known, and Exit::failed when the loss or a
  // gradient is not finite, naming the step and the first parameter; the weights are then those before the step.
  StepResult step(const Examples& data, std::span<const std::uint32_t> events, const Masker& masker = {});
  // Mean loss over the targets of these events, by the averaged weights where there are any.
  double evaluate(const Examples& data, std::span<const std::uint32_t> events, const Masker& masker = {});

  // Many epochs over data in memory. attach() fixes the split and the order; data must outlive the trainer. `first` is
  // the ordinal number of the first event.
  void attach(const Examples& data, Masker masker = {});
  // The same with a split of the caller's: indices of events. The setting `validation` is not looked at.
  void attach(const Examples& data, std::vector<std::uint32_t> training, std::vector<std::uint32_t> validation, Masker masker = {});
  std::size_t training_events() const;
  std::size_t validation_events() const;
  std::uint64_t steps_per_epoch() const;
  std::uint64_t planned_steps() const;  // 0: not known
  // The next step of the plan, or nullopt when training is over. After the last step of an epoch `finished` is set.
  struct Advance {
    StepResult step;
    std::optional<EpochResult> epoch;
  };
  std::optional<Advance> advance();
  // On the attached data; weights, moments and counters are afterwards what they were. `after_step` is called after each.
  RateTable find_rate(const RateSearch& search, const std::function<void(const RateTrial&)>& after_step = {});

  std::uint64_t steps() const;
  std::uint64_t epoch() const;
  double best_validation() const;  // +infinity before the first epoch
  // Plug-in entropy of the frequencies of all targets trained on so far, in nats: the loss of a model that knows no
  // more than how often each token occurs.
  double unigram_entropy() const;
  std::span<const std::int64_t> target_counts() const;  // (vocabulary)

  // Everything needed to resume, and the weights to use ("weights/<name>"): the best by validation, else averaged, else
  // the current ones; with a fingerprint of inputs and outputs that load_model verifies.
  State state() const;
  // Throws Exit::failed in every rank when the ranks' weights are not the same to the bit: called by all before one saves.
  void check_ranks() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace bl::models
