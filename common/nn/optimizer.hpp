// Optimisers, schedules, clipping and moving average over the flat block of parameters. Work is cut into fixed pieces of
// the block, so any number of threads gives the same bits.
#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <string>

#include "base/pool.hpp"
#include "nn/arena.hpp"
#include "nn/params.hpp"

namespace bl::nn {

struct OptimizerConfig {
  enum class Kind : std::uint8_t { adamw, sgd } kind = Kind::adamw;
  double beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8;  // AdamW (Loshchilov & Hutter, arXiv:1711.05101)
  double momentum = 0.9;                              // SGD
  double decay = 0.01;                                // of weights and, with decay_all, of everything else too
  bool decay_all = false;                             // biases, norms and embeddings as well
};

struct Schedule {
  enum class Kind : std::uint8_t { constant, cosine } kind = Kind::constant;
  double rate = 1e-3;                   // the largest
  std::uint64_t warmup = 0;             // steps of linear rise from rate / warmup, before either kind
  std::uint64_t total = 0;              // cosine: the step at which `last` is reached
  double last = 0;                      // fraction of `rate` at the end
  double at(std::uint64_t step) const;  // step counts from 0
};

// Sum of per-lane gradient blocks by a fixed tree, in place: lanes[0] receives it. Returns the global L2 norm of the sum.
template <class T>
double reduce_gradients(Pool& pool, std::span<T* const> lanes, std::size_t size);

template <class T>
class Optimizer {
 public:
  Optimizer(const Params<T>& params, const OptimizerConfig& config);
  // One step; the gradient is multiplied by `scale` (clipping) first.
  void step(Pool& pool, Params<T>& params, const T* gradient, double rate, double scale);

  std::uint64_t steps() const { return steps_; }
  void set_steps(std::uint64_t steps) { steps_ = steps; }
  std::span<T> moment1() { return {moment1_.data(), moment1_.size()}; }
  std::span<T> moment2() { return {moment2_.data(), moment2_.size()}; }  // empty for SGD

 private:
  OptimizerConfig config_;
  std::uint64_t steps_ = 0;
  Aligned<T> moment1_, moment2_;
};

// average = keep · average + (1 - keep) · values
template <class T>
void move_average(Pool& pool, std::span<T> average, std::span<const T> values, double keep);

// Factor that brings `norm` down to `limit`; 1 when it is below, or limit is 0 (no clipping).
double clip_factor(double norm, double limit);

}  // namespace bl::nn
