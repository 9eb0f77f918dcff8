#include "nn/ops/linear.hpp"

#include "base/error.hpp"
#include "nn/gemm.hpp"

namespace bl::nn {

template <class T>
void linear_forward(std::size_t rows, std::size_t in, std::size_t out, const T* x, const T* w, const T* b, Activation act, const T* residual, T* y, T* slope) {
  gemm(Trans::no, Trans::yes, rows, out, in, x, in, w, in, y, out, false);
  if (b != nullptr || residual != nullptr || act != Activation::none) kernels<T>().bias_activation(rows, out, y, b, act, residual, y, slope);
}

template <class T>
void linear_backward(std::size_t rows, std::size_t in, std::size_t out, const T* x, const T* w, const T* slope, T* dy, T* dx, bool accumulate_dx, T* dw,
                     T* db) {
  kernels<T>().bias_activation_back(rows, out, slope, dy, dy, db);
  if (dw != nullptr) gemm(Trans::yes, Trans::no, out, in, rows, dy, out, x, in, dw, in, true);
  if (dx != nullptr) gemm(Trans::no, Trans::no, rows, in, out, dy, out, w, in, dx, in, accumulate_dx);
}

template <class T>
Var<T> linear(Tape<T>& tape, Var<T> x, Var<T> w, Var<T> b, Activation act, Var<T> residual) {
  check(x->width == w->width && (b == nullptr || b->width == w->rows), "linear: shapes do not fit");
  check(residual == nullptr || (act == Activation::none && residual->rows == x->rows && residual->width == w->rows),
        "linear: residual of another shape, or with an activation");
  Var<T> y = tape.make(x->rows, w->rows);
  T* slope = act != Activation::none && tape.training() ? tape.arena().template take<T>(y->size()) : nullptr;
  linear_forward(x->rows, x->width, w->rows, x->value, w->value, b ? b->value : nullptr, act, residual ? residual->value : nullptr, y->value, slope);
  tape.record([&tape, x, w, b, residual, y, slope] {
    if (y->grad == nullptr) return;
    const Grad<T> dx = tape.open(x);
    linear_backward(x->rows, x->width, w->rows, x->value, w->value, slope, y->grad, dx.data, dx.accumulate, tape.open_zeroed(w), tape.open_zeroed(b));
    if (residual != nullptr) tape.pass_on(y, residual);
    else tape.close(y);
  });
  return y;
}

template <class T>
void gated_linear_forward(std::size_t rows, std::size_t in, std::size_t out, const T* x, const T* w, const T* b, Activation act, T* y, T* slopes, bool keep) {
  gemm(Trans::no, Trans::yes, rows, 2 * out, in, x, in, w, in, slopes, 2 * out, false);
  kernels<T>().gated_activation(rows, out, slopes, b, act, y, keep);
}

template <class T>
void gated_linear_backward(std::size_t rows, std::size_t in, std::size_t out, const T* x, const T* w, T* slopes, const T* dy, T* dx, bool accumulate_dx, T* dw,
                           T* db) {
  kernels<T>().gated_activation_back(rows, out, dy, slopes, db);
  if (dw != nullptr) gemm(Trans::yes, Trans::no, 2 * out, in, rows, slopes, 2 * out, x, in, dw, in, true);
  if (dx != nullptr) gemm(Trans::no, Trans::no, rows, in, 2 * out, slopes, 2 * out, w, in, dx, in, accumulate_dx);
}

template <class T>
Var<T> gated_linear(Tape<T>& tape, Var<T> x, Var<T> w, Var<T> b, Activation act) {
  check(x->width == w->width && w->rows % 2 == 0 && (b == nullptr || b->width == w->rows), "gated_linear: shapes do not fit");
  const std::size_t out = w->rows / 2, size = x->rows * w->rows;
  Var<T> y = tape.make(x->rows, out);
  T* slopes = tape.scratch(size);
  gated_linear_forward(x->rows, x->width, out, x->value, w->value, b ? b->value : nullptr, act, y->value, slopes, tape.training());
  if (!tape.training()) tape.give_back(slopes, size);
  tape.record([&tape, x, w, b, y, slopes, size] {
    if (y->grad != nullptr) {
      const Grad<T> dx = tape.open(x);
      gated_linear_backward(x->rows, x->width, w->rows / 2, x->value, w->value, slopes, y->grad, dx.data, dx.accumulate, tape.open_zeroed(w),
                            tape.open_zeroed(b));
    }
    tape.close(y);
    tape.give_back(slopes, size);
  });
  return y;
}

#define BEAMLINE_INSTANTIATE(T)                                                                                                      \
  template void linear_forward(std::size_t, std::size_t, std::size_t, const T*, const T*, const T*, Activation, const T*, T*, T*);   \
  template void linear_backward(std::size_t, std::size_t, std::size_t, const T*, const T*, const T*, T*, T*, bool, T*, T*);          \
  template Var<T> linear(Tape<T>&, Var<T>, Var<T>, Var<T>, Activation, Var<T>);                                                      \
  template void gated_linear_forward(std::size_t, std::size_t, std::size_t, const T*, const T*, const T*, Activation, T*, T*, bool); \
  template void gated_linear_backward(std::size_t, std::size_t, std::size_t, const T*, const T*, T*, const T*, T*, bool, T*, T*);    \
  template Var<T> gated_linear(Tape<T>&, Var<T>, Var<T>, Var<T>, Activation);
BEAMLINE_INSTANTIATE(float)
BEAMLINE_INSTANTIATE(double)
#undef BEAMLINE_INSTANTIATE

}  // namespace bl::nn
