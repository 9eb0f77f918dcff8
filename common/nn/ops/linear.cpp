#include "nn/ops/linear.hpp"

#include "base/error.hpp"
#include "nn/product.hpp"

namespace bl::nn {

template <class T>
Var<T> linear(Tape<T>& tape, Var<T> x, Var<T> w, Var<T> b, Activation act, Var<T> residual) {
  check(x->width == w->width && (b == nullptr || b->width == w->rows), "linear: shapes do not fit");
  check(residual == nullptr || (act == Activation::none && residual->rows == x->rows && residual->width == w->rows),
        "linear: residual of another shape, or with an activation");
  Var<T> y = tape.make(x->rows, w->rows, {x, w, b, residual});
  T* slope = act != Activation::none && y->wants_grad ? tape.arena().template take<T>(y->size()) : nullptr;
  const Product<T> product(tape, w);
  const auto kept = product.forward(x->rows, x->value, y->value);
  if (b != nullptr || residual != nullptr || act != Activation::none)
    kernels<T>().bias_activation(x->rows, w->rows, y->value, b ? b->value : nullptr, act, residual ? residual->value : nullptr, y->value, slope);
  if (!y->wants_grad) {
    product.release(kept);
    return y;
  }
  tape.record([&tape, x, w, b, residual, y, slope, product, kept] {
    if (y->grad != nullptr) {
      kernels<T>().bias_activation_back(x->rows, w->rows, slope, y->grad, y->grad, tape.open_zeroed(b));
      const Grad<T> dx = tape.open(x);
      product.backward(kept, y->grad, dx.data, dx.accumulate, tape.open_zeroed(w));
    }
    product.release(kept);
    if (y->grad == nullptr) return;
    if (residual != nullptr) tape.pass_on(y, residual);
    else tape.close(y);
  });
  return y;
}

template <class T>
Var<T> gated_linear(Tape<T>& tape, Var<T> x, Var<T> w, Var<T> b, Activation act) {
  check(x->width == w->width && w->rows % 2 == 0 && (b == nullptr || b->width == w->rows), "gated_linear: shapes do not fit");
  const std::size_t out = w->rows / 2, size = x->rows * w->rows;
  Var<T> y = tape.make(x->rows, out, {x, w, b});
  T* slopes = tape.scratch(size);
  const Product<T> product(tape, w);
  const auto kept = product.forward(x->rows, x->value, slopes);
  kernels<T>().gated_activation(x->rows, out, slopes, b ? b->value : nullptr, act, y->value, y->wants_grad);
  if (!y->wants_grad) {
    product.release(kept);
    tape.give_back(slopes, size);
    return y;
  }
  // slopes: d y / d (x Wᵀ + b) of both halves, then d loss / d (x Wᵀ + b)
  tape.record([&tape, x, w, b, y, slopes, size, product, kept] {
    if (y->grad != nullptr) {
      kernels<T>().gated_activation_back(x->rows, w->rows / 2, y->grad, slopes, tape.open_zeroed(b));
      const Grad<T> dx = tape.open(x);
      product.backward(kept, slopes, dx.data, dx.accumulate, tape.open_zeroed(w));
    }
    product.release(kept);
    tape.close(y);
    tape.give_back(slopes, size);
  });
  return y;
}

#define BEAMLINE_INSTANTIATE(T)                                                 \
  template Var<T> linear(Tape<T>&, Var<T>, Var<T>, Var<T>, Activation, Var<T>); \
  template Var<T> gated_linear(Tape<T>&, Var<T>, Var<T>, Var<T>, Activation);
BEAMLINE_INSTANTIATE(float)
BEAMLINE_INSTANTIATE(double)
#undef BEAMLINE_INSTANTIATE

}  // namespace bl::nn
