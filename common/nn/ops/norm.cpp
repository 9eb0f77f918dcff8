#include "nn/ops/norm.hpp"

#include "base/error.hpp"
#include "nn/kernels.hpp"

namespace bl::nn {

template <class T>
void layer_norm_forward(std::size_t rows, std::size_t width, const T* x, const T* weight, const T* bias, T* y, T* mean, T* rstd) {
  kernels<T>().norm(rows, width, true, norm_epsilon, x, weight, bias, y, mean, rstd);
}

template <class T>
void layer_norm_backward(std::size_t rows, std::size_t width, const T* x, const T* weight, const T* mean, const T* rstd, const T* dy, T* dx, bool accumulate_dx,
                         T* dweight, T* dbias) {
  kernels<T>().norm_back(rows, width, true, x, weight, mean, rstd, dy, dx, accumulate_dx, dweight, dbias);
}

template <class T>
void rms_norm_forward(std::size_t rows, std::size_t width, const T* x, const T* weight, T* y, T* rstd) {
  kernels<T>().norm(rows, width, false, norm_epsilon, x, weight, nullptr, y, nullptr, rstd);
}

template <class T>
void rms_norm_backward(std::size_t rows, std::size_t width, const T* x, const T* weight, const T* rstd, const T* dy, T* dx, bool accumulate_dx, T* dweight) {
  kernels<T>().norm_back(rows, width, false, x, weight, nullptr, rstd, dy, dx, accumulate_dx, dweight, nullptr);
}

template <class T>
Var<T> layer_norm(Tape<T>& tape, Var<T> x, Var<T> weight, Var<T> bias) {
  check(weight->size() == x->width && bias->size() == x->width, "layer_norm: shapes do not fit");
  Var<T> y = tape.make(x->rows, x->width, {x, weight, bias});
  T* mean = tape.arena().template take<T>(x->rows);
  T* rstd = tape.arena().template take<T>(x->rows);
  layer_norm_forward(x->rows, x->width, x->value, weight->value, bias->value, y->value, mean, rstd);
  tape.record([&tape, x, weight, bias, y, mean, rstd] {
    if (y->grad == nullptr) return;
    const Grad<T> dx = tape.open(x);
    layer_norm_backward(x->rows, x->width, x->value, weight->value, mean, rstd, y->grad, dx.data, dx.accumulate, tape.open_zeroed(weight),
                        tape.open_zeroed(bias));
    tape.close(y);
  });
  return y;
}

template <class T>
Var<T> rms_norm(Tape<T>& tape, Var<T> x, Var<T> weight) {
  check(weight->size() == x->width, "rms_norm: shapes do not fit");
  Var<T> y = tape.make(x->rows, x->width, {x, weight});
  T* rstd = tape.arena().template take<T>(x->rows);
  rms_norm_forward(x->rows, x->width, x->value, weight->value, y->value, rstd);
  tape.record([&tape, x, weight, y, rstd] {
    if (y->grad == nullptr) return;
    const Grad<T> dx = tape.open(x);
    rms_norm_backward(x->rows, x->width, x->value, weight->value, rstd, y->grad, dx.data, dx.accumulate, tape.open_zeroed(weight));
    tape.close(y);
  });
  return y;
}

#define BEAMLINE_INSTANTIATE(T)                                                                                                    \
  template void layer_norm_forward(std::size_t, std::size_t, const T*, const T*, const T*, T*, T*, T*);                            \
  template void layer_norm_backward(std::size_t, std::size_t, const T*, const T*, const T*, const T*, const T*, T*, bool, T*, T*); \
  template Var<T> layer_norm(Tape<T>&, Var<T>, Var<T>, Var<T>);                                                                    \
  template void rms_norm_forward(std::size_t, std::size_t, const T*, const T*, T*, T*);                                            \
  template void rms_norm_backward(std::size_t, std::size_t, const T*, const T*, const T*, const T*, T*, bool, T*);                 \
  template Var<T> rms_norm(Tape<T>&, Var<T>, Var<T>);
BEAMLINE_INSTANTIATE(float)
BEAMLINE_INSTANTIATE(double)
#undef BEAMLINE_INSTANTIATE

}  // namespace bl::nn
