#include "nn/optimizer.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <vector>

#include "base/error.hpp"
#include "nn/kernels.hpp"

namespace bl::nn {
namespace {

constexpr std::array<std::string_view, 3> kNames{"adamw", "lion", "sgd"};

constexpr std::size_t piece = 16384;

std::size_t pieces(std::size_t size) { return (size + piece - 1) / piece; }

// std::ref keeps std::function from allocating for the captures.
template <class F>
void in_pieces(Pool& pool, std::size_t size, const F& f) {
  const auto task = [&](std::size_t i, std::size_t) { f(i, i * piece, std::min(piece, size - i * piece)); };
  pool.run(pieces(size), std::ref(task));
}

}  // namespace

std::string_view name_of(OptimizerConfig::Kind kind) { return kNames.at(static_cast<std::size_t>(kind)); }

std::vector<std::string> optimizer_names() { return {kNames.begin(), kNames.end()}; }

OptimizerConfig::Kind optimizer_named(std::string_view name) {
  const auto* const it = std::ranges::find(kNames, name);
  if (it == kNames.end()) fail(Exit::usage, "the optimiser '{}' is not known; known are {}", name, fmt::join(kNames, ", "));
  return static_cast<OptimizerConfig::Kind>(it - kNames.begin());
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
Optimizer<T>::Optimizer(const Params<T>& params, const OptimizerConfig& config, std::span<const GroupRule> groups)
    : config_(config),
      list_(params.list()),
      rules_(apply_groups(params.list(), groups, config.decay)),
      rates_(rules_.size()),
      moment1_(params.size()),
      moment2_(config.kind == OptimizerConfig::Kind::adamw ? params.size() : 0) {
  find_frozen();
}

template <class T>
void Optimizer<T>::set_steps(std::uint64_t steps) {
  steps_ = steps;
  find_frozen();
}

template <class T>
void Optimizer<T>::find_frozen() {
  constexpr std::size_t border = 64 / sizeof(T);
  const auto frozen = [&](const ParamRule& rule) { return rule.frozen_at(steps_); };
  frozen_.clear();
  trained_ = {0, moment1_.size()};
  if (std::ranges::none_of(rules_, frozen)) return;
  frozen_.resize(moment1_.size() / border);
  std::size_t first = moment1_.size(), last = 0;
  for (std::size_t i = 0; i < rules_.size(); ++i) {
    const Param& p = list_[i].at;
    if (frozen(rules_[i])) {
      frozen_[p.offset / border] = 1;
    } else {
      first = std::min(first, p.offset);
      last = std::max(last, p.offset + p.size());
    }
  }
  first = first / piece * piece;
  trained_ = {first, first < last ? last - first : 0};
}

template <class T>
void Optimizer<T>::step(Pool& pool, Params<T>& params, const T* gradient, double rate, double scale) {
  for (std::size_t i = 0; i < rules_.size(); ++i) rates_[i] = rate * rules_[i].rate;
  update(pool, params, gradient, scale);
}

template <class T>
void Optimizer<T>::step(Pool& pool, Params<T>& params, const T* gradient, const Schedule& schedule, double scale) {
  for (std::size_t i = 0; i < rules_.size(); ++i) {
    const ParamRule& rule = rules_[i];
    Schedule own = schedule;
    const bool thawed = rule.frozen && rule.thaw;
    if (!thawed) own.warmup = rule.warmup.value_or(schedule.warmup);
    rates_[i] = own.at(steps_) * rule.rate;
    if (thawed && rule.warmup.value_or(0) > 0 && steps_ >= *rule.thaw)
      rates_[i] *= std::min(1.0, static_cast<double>(steps_ - *rule.thaw + 1) / static_cast<double>(*rule.warmup));
  }
  update(pool, params, gradient, scale);
}

template <class T>
void Optimizer<T>::update(Pool& pool, Params<T>& params, const T* gradient, double scale) {
  const std::uint64_t now = steps_++;
  const auto corrections = [&](std::uint64_t steps) {
    const auto t = static_cast<double>(steps);
    return std::pair(1 - std::pow(config_.beta1, t), 1 - std::pow(config_.beta2, t));
  };
  const auto whole = corrections(steps_);
  const std::vector<ParamInfo>& list = params.list();
  T* const values = params.values().data();
  in_pieces(pool, params.size(), [&](std::size_t, std::size_t start, std::size_t n) {
    const std::size_t end = start + n;
    auto it = std::partition_point(list.begin(), list.end(), [&](const ParamInfo& p) { return p.at.offset + p.at.size() <= start; });
    for (; it != list.end() && it->at.offset < end; ++it) {
      const auto i = static_cast<std::size_t>(it - list.begin());
      if (rules_[i].frozen_at(now)) continue;
      const std::size_t a = std::max(start, it->at.offset), b = std::min(end, it->at.offset + it->at.size());
      const double rate = rates_[i], decay = rules_[i].decay;
      switch (config_.kind) {
        case OptimizerConfig::Kind::adamw: {
          // The moments of what thaws begin when it does.
          const auto [correction1, correction2] = rules_[i].frozen && rules_[i].thaw ? corrections(steps_ - *rules_[i].thaw) : whole;
          const AdamW adam{rate, config_.beta1, config_.beta2, config_.epsilon, correction1, correction2, scale};
          kernels<T>().adamw(b - a, adam, decay, gradient + a, values + a, moment1_.data() + a, moment2_.data() + a);
          break;
        }
        case OptimizerConfig::Kind::lion:
          kernels<T>().lion(b - a, rate, config_.beta1, config_.beta2, decay, scale, gradient + a, values + a, moment1_.data() + a);
          break;
        case OptimizerConfig::Kind::sgd:
          kernels<T>().sgd(b - a, rate, config_.momentum, config_.nesterov, decay, scale, gradient + a, values + a, moment1_.data() + a);
          break;
      }
    }
  });
  if (std::ranges::any_of(rules_, [&](const ParamRule& rule) { return rule.thaw && *rule.thaw == steps_; })) find_frozen();
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
