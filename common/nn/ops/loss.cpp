#include "nn/ops/loss.hpp"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/error.hpp"
#include "nn/kernels.hpp"
#include "nn/product.hpp"

namespace bl::nn {
namespace {

// The gradient that a loss made in its forward becomes (or is added to) that of its input.
template <class T>
void hand_over(Tape<T>& tape, Var<T> input, T* gradient) {
  if (input->grad == nullptr) {
    input->grad = gradient;
    return;
  }
  kernels<T>().add(input->size(), input->grad, gradient, input->grad);
  tape.give_back(gradient, input->size());
}

// Σ_c w_c (z_c - shift), w 1 when null, in sixteen fixed partial sums that the compiler turns into vectors.
template <class T>
T weighted_sum(std::size_t n, const T* w, const T* z, T shift) {
  constexpr std::size_t lanes = 16;
  std::array<T, lanes> sums{};
  std::size_t i = 0;
  for (; i + lanes <= n; i += lanes)
    for (std::size_t l = 0; l < lanes; ++l) sums[l] += (w == nullptr ? T{1} : w[i + l]) * (z[i + l] - shift);
  for (; i < n; ++i) sums[i % lanes] += (w == nullptr ? T{1} : w[i]) * (z[i] - shift);
  T total = 0;
  for (const T x : sums) total += x;
  return total;
}

// Losses of rows of logits that share their options.
template <class T>
class RowLoss {
 public:
  // scale 0: no gradient.
  RowLoss(const char* op, std::size_t classes, const ClassTargets<T>& options, T scale)
      : classes_(classes), weights_(options.weights.empty() ? nullptr : options.weights.data()), smoothing_(static_cast<T>(options.smoothing)), scale_(scale) {
    if (!(options.smoothing >= 0 && options.smoothing < 1)) fail(Exit::usage, "{}: label smoothing {} is not in [0, 1)", op, options.smoothing);
    if (weights_ != nullptr && options.weights.size() != classes)
      fail(Exit::usage, "{}: {} class weights for {} classes; give one for each", op, options.weights.size(), classes);
    all_ = weights_ == nullptr ? static_cast<T>(classes) : weighted_sum<T>(classes, nullptr, weights_, T{0});
  }

  // The row's loss; logits, bias and dbias as in Kernels::cross_entropy. *log_probability, if any: of the target.
  T operator()(T* logits, const T* bias, std::size_t target, T* dbias, T* log_probability) const {
    const Kernels<T>& k = kernels<T>();
    const T weight = weights_ == nullptr ? T{1} : weights_[target];
    if (smoothing_ == T{0}) {
      // A weight of zero leaves nothing to add up, but the row must still become its gradient.
      const T loss = k.cross_entropy(classes_, logits, bias, target, scale_ * weight, dbias);
      if (scale_ != T{0} && weight == T{0}) std::fill_n(logits, classes_, T{0});
      if (log_probability != nullptr) *log_probability = -loss;
      return weight * loss;
    }
    // The targets q_c = (1 - s) w_t [c = t] + s / C w_c add up to `mass`: the loss is mass times that of the plain target,
    // minus Σ q_c (z_c - z_t).
    const T part = smoothing_ / static_cast<T>(classes_), mass = (T{1} - smoothing_) * weight + part * all_;
    if (bias != nullptr) k.add(classes_, logits, bias, logits);
    const T spread = weighted_sum(classes_, weights_, logits, logits[target]);
    const T plain = k.cross_entropy(classes_, logits, nullptr, target, scale_ * mass, dbias);
    if (scale_ != T{0}) {
      if (mass == T{0}) std::fill_n(logits, classes_, T{0});
      subtract(scale_ * part, logits, target);
      if (dbias != nullptr) subtract(scale_ * part, dbias, target);
    }
    if (log_probability != nullptr) *log_probability = -plain;
    return mass * plain - part * spread;
  }

 private:
  // What distinguishes q from mass · [c = t]; of a zero sum.
  void subtract(T factor, T* row, std::size_t target) const {
    for (std::size_t c = 0; c < classes_; ++c) row[c] -= factor * (weights_ == nullptr ? T{1} : weights_[c]);
    row[target] += factor * all_;
  }

  std::size_t classes_;
  const T* weights_;
  T smoothing_, scale_;
  T all_;  // Σ_c w_c
};

// Σ w ρ(d) with value(d) and slope(d) of ρ.
template <class T, class Value, class Slope>
double regression(const char* misfit, Tape<T>& tape, Var<T> prediction, std::span<const T> target, double scale, std::span<const T> weights, Value value,
                  Slope slope) {
  check(target.size() == prediction->size() && (weights.empty() || weights.size() == target.size()), misfit);
  double loss = 0;
  for (std::size_t i = 0; i < target.size(); ++i) {
    const double l = value(static_cast<double>(prediction->value[i]) - static_cast<double>(target[i]));
    loss += weights.empty() ? l : l * static_cast<double>(weights[i]);
  }
  tape.record([&tape, prediction, target, weights, scale, slope] {
    const Grad<T> g = tape.open(prediction);
    if (!g) return;
    const T factor = static_cast<T>(scale);
    for (std::size_t i = 0; i < target.size(); ++i) {
      const T weighted = weights.empty() ? factor : factor * weights[i], d = weighted * slope(prediction->value[i] - target[i]);
      g.data[i] = g.accumulate ? g.data[i] + d : d;
    }
  });
  return loss;
}

}  // namespace

template <class T>
double cross_entropy(Tape<T>& tape, Var<T> logits, std::span<const std::int32_t> targets, double scale, const ClassTargets<T>& options) {
  check(targets.size() == logits->rows, "cross_entropy: one target a row");
  const bool differentiate = tape.training() && logits->wants_grad;
  const RowLoss<T> row_loss("cross_entropy", logits->width, options, differentiate ? static_cast<T>(scale) : T{0});
  // Where nothing is differentiated one row of working memory is enough.
  const std::size_t stride = differentiate ? logits->width : 0, size = differentiate ? logits->size() : logits->width;
  T* g = tape.scratch(size);
  double loss = 0;
  for (std::size_t r = 0; r < logits->rows; ++r) {
    std::copy_n(logits->value + r * logits->width, logits->width, g + r * stride);
    loss += static_cast<double>(row_loss(g + r * stride, nullptr, static_cast<std::size_t>(targets[r]), nullptr, nullptr));
  }
  if (differentiate) tape.record([&tape, logits, g] { hand_over(tape, logits, g); });
  else tape.give_back(g, size);
  return loss;
}

std::size_t cross_entropy_chunk(std::size_t classes) { return std::clamp<std::size_t>((std::size_t{1} << 18) / std::max<std::size_t>(classes, 1), 384, 512); }

template <class T>
double linear_cross_entropy(Tape<T>& tape, Var<T> x, Var<T> w, Var<T> b, std::span<const std::int32_t> targets, double scale, std::span<T> log_probability,
                            const ClassTargets<T>& options) {
  const std::size_t rows = x->rows, width = x->width, classes = w->rows, chunk = std::min(rows, cross_entropy_chunk(classes));
  check(w->width == width && targets.size() == rows && (b == nullptr || b->width == classes), "linear_cross_entropy: shapes do not fit");
  check(log_probability.empty() || log_probability.size() == rows, "linear_cross_entropy: one log-probability a row");
  const bool differentiate = tape.training() && (x->wants_grad || w->wants_grad || (b != nullptr && b->wants_grad));
  const RowLoss<T> row_loss("linear_cross_entropy", classes, options, differentiate ? static_cast<T>(scale) : T{0});
  T* dw = differentiate ? tape.open_zeroed(w) : nullptr;
  T* db = differentiate ? tape.open_zeroed(b) : nullptr;
  T* dx = differentiate && x->wants_grad ? tape.scratch(x->size()) : nullptr;
  T* logits = tape.scratch(chunk * classes);
  const Product<T> product(tape, w);
  double loss = 0;
  for (std::size_t start = 0; start < rows; start += chunk) {
    const std::size_t m = std::min(chunk, rows - start);
    const T* from = x->value + start * width;
    const auto kept = product.forward(m, from, logits);
    for (std::size_t r = 0; r < m; ++r) {
      T* log_p = log_probability.empty() ? nullptr : &log_probability[start + r];
      loss += static_cast<double>(row_loss(logits + r * classes, b ? b->value : nullptr, static_cast<std::size_t>(targets[start + r]), db, log_p));
    }
    if (differentiate) product.backward(kept, logits, dx != nullptr ? dx + start * width : nullptr, false, dw);
    product.release(kept);
  }
  tape.give_back(logits, chunk * classes);
  if (dx != nullptr) tape.record([&tape, x, dx] { hand_over(tape, x, dx); });
  return loss;
}

template <class T>
double squared_error(Tape<T>& tape, Var<T> prediction, std::span<const T> target, double scale, std::span<const T> weights) {
  return regression(
      "squared_error: shapes do not fit", tape, prediction, target, scale, weights, [](double d) { return d * d; }, [](T d) { return 2 * d; });
}

template <class T>
double absolute_error(Tape<T>& tape, Var<T> prediction, std::span<const T> target, double scale, std::span<const T> weights) {
  return regression(
      "absolute_error: shapes do not fit", tape, prediction, target, scale, weights, [](double d) { return std::abs(d); },
      [](T d) { return static_cast<T>((d > 0) - (d < 0)); });
}

template <class T>
double huber_loss(Tape<T>& tape, Var<T> prediction, std::span<const T> target, double delta, double scale, std::span<const T> weights) {
  if (!(delta > 0)) fail(Exit::usage, "huber_loss: delta {} is not positive", delta);
  return regression(
      "huber_loss: shapes do not fit", tape, prediction, target, scale, weights,
      [delta](double d) { return std::abs(d) <= delta ? d * d / 2 : delta * (std::abs(d) - delta / 2); },
      [limit = static_cast<T>(delta)](T d) { return std::clamp(d, -limit, limit); });
}

#define BEAMLINE_INSTANTIATE(T)                                                                                                                        \
  template double cross_entropy(Tape<T>&, Var<T>, std::span<const std::int32_t>, double, const ClassTargets<T>&);                                      \
  template double linear_cross_entropy(Tape<T>&, Var<T>, Var<T>, Var<T>, std::span<const std::int32_t>, double, std::span<T>, const ClassTargets<T>&); \
  template double squared_error(Tape<T>&, Var<T>, std::span<const T>, double, std::span<const T>);                                                     \
  template double absolute_error(Tape<T>&, Var<T>, std::span<const T>, double, std::span<const T>);                                                    \
  template double huber_loss(Tape<T>&, Var<T>, std::span<const T>, double, double, std::span<const T>);
BEAMLINE_INSTANTIATE(float)
BEAMLINE_INSTANTIATE(double)
#undef BEAMLINE_INSTANTIATE

}  // namespace bl::nn
