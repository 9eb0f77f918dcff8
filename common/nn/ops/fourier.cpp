#include "nn/ops/fourier.hpp"

#include <cmath>
#include <numbers>

#include "base/error.hpp"
#include "nn/gemm.hpp"
#include "nn/kernels.hpp"

namespace bl::nn {

template <class T>
void fourier_forward(std::size_t rows, std::size_t in, std::size_t features, const T* x, const T* b, T* y) {
  // The phases wait in the right half of y, the last place that is overwritten: a row is read before it is written.
  gemm_rows(Trans::yes, rows, features, in, x, in, b, in, y + features, 2 * features, false);
  for (std::size_t r = 0; r < rows; ++r) kernels<T>().sin_cos_turns(1, features, y + (2 * r + 1) * features, y + 2 * r * features);
}

template <class T>
void fourier_backward(std::size_t rows, std::size_t in, std::size_t features, const T* x, const T* b, const T* y, const T* dy, T* dt, T* dx, bool accumulate_dx,
                      T* db) {
  constexpr T turn = 2 * std::numbers::pi_v<T>;
  for (std::size_t r = 0; r < rows; ++r) {
    const T *sine = y + 2 * r * features, *cosine = sine + features, *dsine = dy + 2 * r * features, *dcosine = dsine + features;
    for (std::size_t k = 0; k < features; ++k) dt[r * features + k] = turn * (dsine[k] * cosine[k] - dcosine[k] * sine[k]);
  }
  if (db != nullptr) gemm(Trans::yes, Trans::no, features, in, rows, dt, features, x, in, db, in, true);
  if (dx != nullptr) gemm(Trans::no, Trans::no, rows, in, features, dt, features, b, in, dx, in, accumulate_dx);
}

template <class T>
Var<T> fourier_features(Tape<T>& tape, Var<T> x, Var<T> frequencies) {
  check(x->width == frequencies->width, "fourier_features: shapes do not fit");
  const std::size_t features = frequencies->rows;
  Var<T> y = tape.make(x->rows, 2 * features, {x, frequencies});
  fourier_forward(x->rows, x->width, features, x->value, frequencies->value, y->value);
  tape.record([&tape, x, frequencies, y] {
    if (y->grad == nullptr) return;
    T* db = tape.open_zeroed(frequencies);
    if (const Grad<T> dx = tape.open(x); dx || db != nullptr) {
      const std::size_t size = y->size() / 2;
      T* dt = tape.scratch(size);
      fourier_backward(x->rows, x->width, frequencies->rows, x->value, frequencies->value, y->value, y->grad, dt, dx.data, dx.accumulate, db);
      tape.give_back(dt, size);
    }
    tape.close(y);
  });
  return y;
}

template <class T>
std::vector<T> axis_frequencies(std::size_t in, std::size_t each, double lowest, double highest) {
  if (!(lowest > 0 && highest >= lowest)) fail(Exit::usage, "Fourier features: frequencies from {} to {} are not positive and rising", lowest, highest);
  std::vector<T> b(in * each * in, T{0});
  for (std::size_t i = 0; i < in; ++i)
    for (std::size_t k = 0; k < each; ++k) {
      const double part = each > 1 ? static_cast<double>(k) / static_cast<double>(each - 1) : 0;
      b[(i * each + k) * in + i] = static_cast<T>(lowest * std::pow(highest / lowest, part));
    }
  return b;
}

template <class T>
std::vector<T> position_frequencies(std::size_t width, double base) {
  if (width % 2 != 0 || !(base > 0)) fail(Exit::usage, "sinusoidal positions: width {} must be even and base {} positive", width, base);
  std::vector<T> b(width / 2);
  for (std::size_t i = 0; i < b.size(); ++i)
    b[i] = static_cast<T>(std::pow(base, -2 * static_cast<double>(i) / static_cast<double>(width)) / (2 * std::numbers::pi));
  return b;
}

#define BEAMLINE_INSTANTIATE(T)                                                                                                    \
  template void fourier_forward(std::size_t, std::size_t, std::size_t, const T*, const T*, T*);                                    \
  template void fourier_backward(std::size_t, std::size_t, std::size_t, const T*, const T*, const T*, const T*, T*, T*, bool, T*); \
  template Var<T> fourier_features(Tape<T>&, Var<T>, Var<T>);                                                                      \
  template std::vector<T> axis_frequencies(std::size_t, std::size_t, double, double);                                              \
  template std::vector<T> position_frequencies(std::size_t, double);
BEAMLINE_INSTANTIATE(float)
BEAMLINE_INSTANTIATE(double)
#undef BEAMLINE_INSTANTIATE

}  // namespace bl::nn
