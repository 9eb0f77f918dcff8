// Optimisers, clipping and moving average over the flat block of parameters. Work is cut into fixed pieces of
// the block, so any number of threads gives the same bits.
#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/pool.hpp"
#include "nn/arena.hpp"
#include "nn/groups.hpp"
#include "nn/params.hpp"
#include "nn/schedule.hpp"

namespace bl::nn {

struct OptimizerConfig {
  // With gradient g, rate η, decay λ and moments that start at 0:
  //   adamw  Loshchilov & Hutter, arXiv:1711.05101: m = β1 m + (1-β1) g, v = β2 v + (1-β2) g²,
  //          w -= η λ w + η m/(1-β1^t) / (sqrt(v/(1-β2^t)) + ε)
  //   lion   Chen et al., arXiv:2302.06675: w -= η (sign(β1 m + (1-β1) g) + λ w), then m = β2 m + (1-β2) g
  //   sgd    as PyTorch: g += λ w, m = μ m + g, w -= η m; Nesterov: w -= η (g + μ m)
  enum class Kind : std::uint8_t { adamw, lion, sgd } kind = Kind::adamw;
  double beta1 = 0.9, beta2 = 0.999;  // adamw and lion; Lion's authors use a beta2 of 0.99
  double epsilon = 1e-8;              // adamw
  double momentum = 0.9;              // sgd
  bool nesterov = false;              // sgd
  double decay = 0.01;                // of the matrices, where no group says otherwise
};

// "adamw", "lion", "sgd".
std::string_view name_of(OptimizerConfig::Kind kind);
std::vector<std::string> optimizer_names();
OptimizerConfig::Kind optimizer_named(std::string_view name);  // throws Exit::usage that lists the names

// Sum of per-lane gradient blocks by a fixed tree, in place: lanes[0] receives it. Returns the global L2 norm of the sum.
template <class T>
double reduce_gradients(Pool& pool, std::span<T* const> lanes, std::size_t size);

template <class T>
class Optimizer {
 public:
  // Throws Exit::usage where the groups do not fit (nn/groups.hpp).
  Optimizer(const Params<T>& params, const OptimizerConfig& config, std::span<const GroupRule> groups = {});
  // One step; the gradient is multiplied by `scale` (clipping) first. `rate` is multiplied by each group's factor.
  void step(Pool& pool, Params<T>& params, const T* gradient, double rate, double scale);
  // The same by a schedule, at step steps(): groups follow it with their own warm-up.
  void step(Pool& pool, Params<T>& params, const T* gradient, const Schedule& schedule, double scale);

  const std::vector<ParamRule>& rules() const { return rules_; }  // one a parameter
  // One byte for every 64 bytes of the block, 1 where its parameter is frozen in the next step; empty when none is. See
  // Tape::freeze.
  std::span<const std::uint8_t> frozen() const { return frozen_; }
  // The part of the block that the next step changes: everything before and after is frozen. `first` is where one of the
  // pieces begins that reduce_gradients adds up, so that the norm of this part has the bits of that of the whole.
  struct Range {
    std::size_t first = 0, size = 0;
  };
  Range trained() const { return trained_; }
  std::uint64_t steps() const { return steps_; }
  void set_steps(std::uint64_t steps);
  std::span<T> moment1() { return {moment1_.data(), moment1_.size()}; }
  std::span<T> moment2() { return {moment2_.data(), moment2_.size()}; }  // empty but for AdamW

 private:
  void update(Pool& pool, Params<T>& params, const T* gradient, double scale);  // by rates_
  void find_frozen();                                                           // of the next step

  OptimizerConfig config_;
  std::vector<ParamInfo> list_;
  std::vector<ParamRule> rules_;
  std::vector<std::uint8_t> frozen_;
  Range trained_;
  std::vector<double> rates_;  // of this step, one a parameter
  std::uint64_t steps_ = 0;
  Aligned<T> moment1_, moment2_;
};

// average = keep · average + (1 - keep) · values
template <class T>
void move_average(Pool& pool, std::span<T> average, std::span<const T> values, double keep);

// Factor that brings `norm` down to `limit`; 1 when it is below, or limit is 0 (no clipping).
double clip_factor(double norm, double limit);

}  // namespace bl::nn
