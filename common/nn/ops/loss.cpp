#include "nn/ops/loss.hpp"

#include <algorithm>

#include "base/error.hpp"
#include "nn/gemm.hpp"
#include "nn/kernels.hpp"

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

}  // namespace

template <class T>
double cross_entropy(Tape<T>& tape, Var<T> logits, std::span<const std::int32_t> targets, double scale) {
  check(targets.size() == logits->rows, "cross_entropy: one target a row");
  const bool differentiate = tape.training() && logits->wants_grad;
  T* g = tape.arena().template take<T>(logits->size());
  std::copy_n(logits->value, logits->size(), g);
  double loss = 0;
  for (std::size_t r = 0; r < logits->rows; ++r)
    loss += static_cast<double>(kernels<T>().cross_entropy(logits->width, g + r * logits->width, nullptr, static_cast<std::size_t>(targets[r]),
                                                           differentiate ? static_cast<T>(scale) : T{0}, nullptr));
  if (differentiate) tape.record([&tape, logits, g] { hand_over(tape, logits, g); });
  return loss;
}

std::size_t cross_entropy_chunk(std::size_t classes) { return std::clamp<std::size_t>((std::size_t{1} << 18) / std::max<std::size_t>(classes, 1), 16, 512); }

template <class T>
double linear_cross_entropy(Tape<T>& tape, Var<T> x, Var<T> w, Var<T> b, std::span<const std::int32_t> targets, double scale, std::span<T> log_probability) {
  const std::size_t rows = x->rows, width = x->width, classes = w->rows, chunk = std::min(rows, cross_entropy_chunk(classes));
  check(w->width == width && targets.size() == rows && (b == nullptr || b->width == classes), "linear_cross_entropy: shapes do not fit");
  check(log_probability.empty() || log_probability.size() == rows, "linear_cross_entropy: one log-probability a row");
  const bool differentiate = tape.training();
  T* dw = differentiate ? tape.open_zeroed(w) : nullptr;
  T* db = differentiate ? tape.open_zeroed(b) : nullptr;
  T* dx = differentiate && x->wants_grad ? tape.scratch(x->size()) : nullptr;
  T* logits = tape.scratch(chunk * classes);
  double loss = 0;
  for (std::size_t start = 0; start < rows; start += chunk) {
    const std::size_t m = std::min(chunk, rows - start);
    const T* from = x->value + start * width;
    gemm(Trans::no, Trans::yes, m, classes, width, from, width, w->value, width, logits, classes, false);
    for (std::size_t r = 0; r < m; ++r) {
      const T l = kernels<T>().cross_entropy(classes, logits + r * classes, b ? b->value : nullptr, static_cast<std::size_t>(targets[start + r]),
                                             differentiate ? static_cast<T>(scale) : T{0}, db);
      loss += static_cast<double>(l);
      if (!log_probability.empty()) log_probability[start + r] = -l;
    }
    if (dw != nullptr) gemm(Trans::yes, Trans::no, classes, width, m, logits, classes, from, width, dw, width, true);
    if (dx != nullptr) gemm(Trans::no, Trans::no, m, width, classes, logits, classes, w->value, width, dx + start * width, width, false);
  }
  tape.give_back(logits, chunk * classes);
  if (dx != nullptr) tape.record([&tape, x, dx] { hand_over(tape, x, dx); });
  return loss;
}

template <class T>
double squared_error(Tape<T>& tape, Var<T> prediction, std::span<const T> target, double scale) {
  check(target.size() == prediction->size(), "squared_error: shapes do not fit");
  double loss = 0;
  for (std::size_t i = 0; i < target.size(); ++i) {
    const double d = static_cast<double>(prediction->value[i]) - static_cast<double>(target[i]);
    loss += d * d;
  }
  tape.record([&tape, prediction, target, scale] {
    const Grad<T> g = tape.open(prediction);
    if (!g) return;
    const T factor = static_cast<T>(2 * scale);
    for (std::size_t i = 0; i < target.size(); ++i) {
      const T d = factor * (prediction->value[i] - target[i]);
      g.data[i] = g.accumulate ? g.data[i] + d : d;
    }
  });
  return loss;
}

#define BEAMLINE_INSTANTIATE(T)                                                                                                \
  template double cross_entropy(Tape<T>&, Var<T>, std::span<const std::int32_t>, double);                                      \
  template double linear_cross_entropy(Tape<T>&, Var<T>, Var<T>, Var<T>, std::span<const std::int32_t>, double, std::span<T>); \
  template double squared_error(Tape<T>&, Var<T>, std::span<const T>, double);
BEAMLINE_INSTANTIATE(float)
BEAMLINE_INSTANTIATE(double)
#undef BEAMLINE_INSTANTIATE

}  // namespace bl::nn
