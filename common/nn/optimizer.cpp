#include "nn/optimizer.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numbers>
#include <vector>

#include "nn/kernels.hpp"

namespace bl::nn {
namespace {

constexpr std::size_t piece = 16384;

std::size_t pieces(std::size_t size) { return (size + piece - 1) / piece; }

// std::ref keeps std::function from allocating for the captures.
template <class F>
void in_pieces(Pool& pool, std::size_t size, const F& f) {
  const auto task = [&](std::size_t i, std::size_t) { f(i, i * piece, std::min(piece, size - i * piece)); };
  pool.run(pieces(size), std::ref(task));
}

}  // namespace

double Schedule::at(std::uint64_t step) const {
  if (step < warmup) return rate * static_cast<double>(step + 1) / static_cast<double>(warmup);
  if (kind == Kind::constant || total <= warmup) return rate;
  const double x = std::min(1.0, static_cast<double>(step - warmup) / static_cast<double>(total - warmup));
  return rate * (last + (1 - last) * 0.5 * (1 + std::cos(std::numbers::pi * x)));
}

template <class T>
double reduce_gradients(Pool& pool, std::span<T* const> lanes, std::size_t size) {
  thread_local std::vector<double> squares;  // keeps its memory from step to step
  squares.resize(pieces(size));
  double* const partial = squares.data();  // the caller's, not each worker's own
  in_pieces(pool, size, [&](std::size_t i, std::size_t start, std::size_t n) {
    for (std::size_t gap = 1; gap < lanes.size(); gap *= 2)
      for (std::size_t l = 0; l + gap < lanes.size(); l += 2 * gap) kernels<T>().add(n, lanes[l] + start, lanes[l + gap] + start, lanes[l] + start);
    partial[i] = kernels<T>().sum_squares(n, lanes[0] + start);
  });
  double sum = 0;
  for (const double s : squares) sum += s;
  return std::sqrt(sum);
}

template <class T>
Optimizer<T>::Optimizer(const Params<T>& params, const OptimizerConfig& config)
    : config_(config), moment1_(params.size()), moment2_(config.kind == OptimizerConfig::Kind::adamw ? params.size() : 0) {}

template <class T>
void Optimizer<T>::step(Pool& pool, Params<T>& params, const T* gradient, double rate, double scale) {
  ++steps_;
  const double t = static_cast<double>(steps_);
  const AdamW adam{rate, config_.beta1, config_.beta2, config_.epsilon, 1 - std::pow(config_.beta1, t), 1 - std::pow(config_.beta2, t), scale};
  const std::vector<ParamInfo>& list = params.list();
  T* const values = params.values().data();
  in_pieces(pool, params.size(), [&](std::size_t, std::size_t start, std::size_t n) {
    const std::size_t end = start + n;
    auto it = std::partition_point(list.begin(), list.end(), [&](const ParamInfo& p) { return p.at.offset + p.at.size() <= start; });
    for (; it != list.end() && it->at.offset < end; ++it) {
      const std::size_t a = std::max(start, it->at.offset), b = std::min(end, it->at.offset + it->at.size());
      const double decay = it->group == Group::weight || config_.decay_all ? config_.decay : 0;
      if (config_.kind == OptimizerConfig::Kind::adamw)
        kernels<T>().adamw(b - a, adam, decay, gradient + a, values + a, moment1_.data() + a, moment2_.data() + a);
      else kernels<T>().sgd(b - a, rate, config_.momentum, decay, scale, gradient + a, values + a, moment1_.data() + a);
    }
  });
}

template <class T>
void move_average(Pool& pool, std::span<T> average, std::span<const T> values, double keep) {
  in_pieces(pool, average.size(),
            [&](std::size_t, std::size_t start, std::size_t n) { kernels<T>().blend(n, static_cast<T>(keep), values.data() + start, average.data() + start); });
}

double clip_factor(double norm, double limit) { return limit > 0 && norm > limit ? limit / norm : 1.0; }

#define BEAMLINE_INSTANTIATE(T)                                              \
  template double reduce_gradients(Pool&, std::span<T* const>, std::size_t); \
  template class Optimizer<T>;                                               \
  template void move_average(Pool&, std::span<T>, std::span<const T>, double);
BEAMLINE_INSTANTIATE(float)
BEAMLINE_INSTANTIATE(double)
#undef BEAMLINE_INSTANTIATE

}  // namespace bl::nn
