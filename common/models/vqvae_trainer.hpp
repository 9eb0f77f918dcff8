// Training of a VQ-VAE tokenizer, without files: jets in, losses out, and a state that can be saved and resumed to the
// same bits.
//
// A step's jets are cut into shards of a fixed number; shard s belongs to lane s mod lanes, a lane adds up its shards in
// order, and lanes are added by a fixed tree: gradients, and what the codes were used for. Random numbers are functions of
// (seed, step, index). So any number of threads gives the same bits.
#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/pool.hpp"
#include "models/trainer.hpp"
#include "models/vqvae.hpp"
#include "nn/optimizer.hpp"

namespace bl::models {

// Jets in memory: jet j has the constituents [offsets[j], offsets[j + 1]) of x (constituents, 3), as VqVaeConfig::features
// makes them. A jet may be empty.
struct JetSet {
  std::vector<std::uint64_t> offsets{0};
  std::vector<float> x;

  std::size_t jets() const { return offsets.size() - 1; }
  std::size_t constituents() const { return x.size() / kVqFeatures; }
};

struct VqVaeTraining {
  std::uint64_t seed = 1;
  std::uint64_t epochs = 20;
  std::uint64_t max_steps = 0;  // 0: no limit
  std::uint32_t batch = 64;     // jets of a step
  std::uint32_t shard = 16;     // jets of a shard: changes the last bits
  std::uint32_t lanes = 8;      // the most threads that can work at once: changes the last bits
  double rate = 3e-3;           // the largest of a one-cycle schedule (nn/schedule.hpp)
  double decay = 0.01;          // of the matrices, by AdamW
  double clip = 1;              // global norm of the gradient; 0: no clipping
  double validation = 0.1;      // fraction of the jets
  VqVaeWeights weights;
  double ema = 0.9;                     // share of the old average that each step keeps in the codebook; 0: by gradient
  std::int64_t replace_after = -1;      // steps without use after which a code is replaced; 0: never; -1: as many as bring
                                        // twenty constituents a code, at least 10
  std::uint32_t kmeans_iterations = 4;  // of the codebook's start on encoder outputs

  void validate() const;  // throws Exit::usage naming the setting
  std::map<std::string, std::string> to_map() const;
  static VqVaeTraining from_map(const std::map<std::string, std::string>& map);
};

struct VqVaeStep {
  double loss = 0;            // all terms
  double reconstruction = 0;  // mean (x - x')² over constituents and features
  double quantisation = 0;    // mean (z - e)² over constituents and latent numbers
  double gradient_norm = 0;   // before clipping
  double rate = 0;
  std::size_t jets = 0, constituents = 0;
  std::size_t used = 0;  // codes chosen in this step
  double perplexity = 0;
  std::size_t replaced = 0;  // codes that got a new place
};

struct VqVaeEpoch {
  std::uint64_t epoch = 0;              // counted from 0
  double loss = 0, reconstruction = 0;  // means of the epoch's steps
  double validation = 0;                // reconstruction of the validation jets; NaN where there are none
  std::size_t used = 0;                 // codes that the validation jets chose (without any: the epoch's)
  double perplexity = 0;
  std::size_t replaced = 0;
  bool best = false;
};

class VqVaeTrainer {
 public:
  VqVaeTrainer(const VqVaeConfig& model, const VqVaeTraining& config, Pool& pool);
  // Continues from a saved state of the same settings: Exit::usage names the first that differs.
  VqVaeTrainer(const State& state, const VqVaeConfig& model, const VqVaeTraining& config, Pool& pool);
  ~VqVaeTrainer();

  // Fixes the split and the order; data must outlive the trainer. Throws Exit::input for a feature that is not finite,
  // when there are fewer constituents to train on than codes, or when a resumed state was trained on other jets.
  void attach(const JetSet& data);
  std::size_t training_jets() const;
  std::size_t validation_jets() const;
  std::uint64_t steps_per_epoch() const;
  std::uint64_t planned_steps() const;
  std::uint64_t steps() const;
  double best_validation() const;       // reconstruction by the model of result(); +infinity before the first epoch
  std::uint64_t replace_after() const;  // in steps; 0: never

  // The next step, or nullopt when training is over; the first one places the codes by k-means. `epoch` is set after the
  // last step of an epoch. Throws Exit::failed when the loss or a gradient is not finite, naming step and parameter.
  struct Advance {
    VqVaeStep step;
    std::optional<VqVaeEpoch> epoch;
  };
  std::optional<Advance> advance();

  State state() const;
  // The model to use: the best by validation where there is one, else as it is now.
  std::shared_ptr<VqVae<float>> result() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace bl::models
