#include "nn/kernels.hpp"

#include <cmath>
#include <limits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "nn/kernels.cpp"
#include <hwy/foreach_target.h>
// after foreach_target
#include <hwy/contrib/math/math-inl.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace bl::nn::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Loads and stores of a whole vector, or of the rest of a row.
template <class D>
struct Whole {
  D d;
  template <class T>
  HWY_INLINE auto load(const T* p) const {
    return hn::LoadU(d, p);
  }
  template <class V, class T>
  HWY_INLINE void store(V v, T* p) const {
    hn::StoreU(v, d, p);
  }
};
template <class D>
struct Rest {
  D d;
  hn::Mask<D> mask;
  template <class T>
  HWY_INLINE auto load(const T* p) const {
    return hn::MaskedLoad(mask, d, p);
  }
  template <class V, class T>
  HWY_INLINE void store(V v, T* p) const {
    hn::BlendedStore(v, mask, d, p);
  }
};

// f(io, i) for every vector of n elements. What the mask leaves out reads as zero.
template <class D, class F>
HWY_INLINE void each(D d, std::size_t n, const F& f) {
  const std::size_t lanes = hn::Lanes(d);
  std::size_t i = 0;
  for (; i + lanes <= n; i += lanes) f(Whole<D>{d}, i);
  if (i < n) f(Rest<D>{d, hn::FirstN(d, n - i)}, i);
}

template <class D, class V>
HWY_INLINE V sigmoid(D d, V x) {
  using T = hn::TFromD<D>;
  const V one = hn::Set(d, T{1}), limit = hn::Set(d, static_cast<T>(sizeof(T) == 4 ? 87 : 700));
  return hn::Div(one, hn::Add(one, hn::Exp(d, hn::Min(limit, hn::Neg(x)))));
}

// act(x), and act'(x) in *slope.
template <Activation act, class D, class V>
HWY_INLINE V activate(D d, V x, V* slope) {
  using T = hn::TFromD<D>;
  const V one = hn::Set(d, T{1});
  if constexpr (act == Activation::relu) {
    *slope = hn::IfThenElseZero(hn::Gt(x, hn::Zero(d)), one);
    return hn::Max(x, hn::Zero(d));
  }
  if constexpr (act == Activation::silu) {
    const V s = sigmoid(d, x);
    *slope = hn::Mul(s, hn::MulAdd(x, hn::Sub(one, s), one));
    return hn::Mul(x, s);
  }
  if constexpr (act == Activation::gelu) {
    // x · sigmoid(u), u = 2 sqrt(2/pi) (x + 0.044715 x^3)
    const V c = hn::Set(d, static_cast<T>(1.5957691216057308)), a = hn::Set(d, static_cast<T>(1.5957691216057308 * 0.044715));
    const V a3 = hn::Set(d, static_cast<T>(3 * 1.5957691216057308 * 0.044715)), square = hn::Mul(x, x);
    const V s = sigmoid(d, hn::Mul(x, hn::MulAdd(a, square, c))), du = hn::MulAdd(a3, square, c);
    *slope = hn::MulAdd(hn::Mul(hn::Mul(x, du), s), hn::Sub(one, s), s);
    return hn::Mul(x, s);
  }
  if constexpr (act == Activation::sigmoid) {
    const V s = sigmoid(d, x);
    *slope = hn::Mul(s, hn::Sub(one, s));
    return s;
  }
  if constexpr (act == Activation::tanh) {
    const V t = hn::Tanh(d, x);
    *slope = hn::NegMulAdd(t, t, one);
    return t;
  }
  if constexpr (act == Activation::softplus) {
    *slope = sigmoid(d, x);
    return hn::Add(hn::Max(x, hn::Zero(d)), hn::Log1p(d, hn::Exp(d, hn::Neg(hn::Abs(x)))));
  }
  *slope = one;
  return x;
}

template <Activation act, class T>
void bias_activation_of(std::size_t rows, std::size_t width, const T* z, const T* bias, const T* residual, T* y, T* slope) {
  const hn::ScalableTag<T> d;
  using V = hn::Vec<decltype(d)>;
  for (std::size_t r = 0; r < rows; ++r, z += width, y += width) {
    each(d, width, [&](auto io, std::size_t i) HWY_ATTR {
      V x = io.load(z + i);
      if (bias != nullptr) x = hn::Add(x, io.load(bias + i));
      V derivative;
      x = activate<act>(d, x, &derivative);
      if (slope != nullptr) io.store(derivative, slope + i);
      if (residual != nullptr) x = hn::Add(x, io.load(residual + i));
      io.store(x, y + i);
    });
    if (residual != nullptr) residual += width;
    if (slope != nullptr) slope += width;
  }
}

template <class T>
void bias_activation(std::size_t rows, std::size_t width, const T* z, const T* bias, Activation act, const T* residual, T* y, T* slope) {
  switch (act) {
    case Activation::none: return bias_activation_of<Activation::none>(rows, width, z, bias, residual, y, slope);
    case Activation::relu: return bias_activation_of<Activation::relu>(rows, width, z, bias, residual, y, slope);
    case Activation::gelu: return bias_activation_of<Activation::gelu>(rows, width, z, bias, residual, y, slope);
    case Activation::silu: return bias_activation_of<Activation::silu>(rows, width, z, bias, residual, y, slope);
    case Activation::sigmoid: return bias_activation_of<Activation::sigmoid>(rows, width, z, bias, residual, y, slope);
    case Activation::tanh: return bias_activation_of<Activation::tanh>(rows, width, z, bias, residual, y, slope);
    case Activation::softplus: return bias_activation_of<Activation::softplus>(rows, width, z, bias, residual, y, slope);
  }
}

template <class T>
void bias_activation_back(std::size_t rows, std::size_t width, const T* slope, const T* dy, T* dz, T* dbias) {
  if (slope == nullptr && dz == dy && dbias == nullptr) return;
  const hn::ScalableTag<T> d;
  for (std::size_t r = 0; r < rows; ++r, dy += width, dz += width) {
    each(d, width, [&](auto io, std::size_t i) HWY_ATTR {
      auto g = io.load(dy + i);
      if (slope != nullptr) g = hn::Mul(g, io.load(slope + i));
      if (slope != nullptr || dz != dy) io.store(g, dz + i);
      if (dbias != nullptr) io.store(hn::Add(io.load(dbias + i), g), dbias + i);
    });
    if (slope != nullptr) slope += width;
  }
}

template <Activation act, class T>
void gated_activation_of(std::size_t rows, std::size_t width, T* z, const T* bias, T* y, bool slopes) {
  const hn::ScalableTag<T> d;
  using V = hn::Vec<decltype(d)>;
  for (std::size_t r = 0; r < rows; ++r, z += 2 * width, y += width)
    each(d, width, [&](auto io, std::size_t i) HWY_ATTR {
      V value = io.load(z + i), gate = io.load(z + width + i), slope;
      if (bias != nullptr) {
        value = hn::Add(value, io.load(bias + i));
        gate = hn::Add(gate, io.load(bias + width + i));
      }
      gate = activate<act>(d, gate, &slope);
      io.store(hn::Mul(value, gate), y + i);
      if (!slopes) return;
      io.store(gate, z + i);
      io.store(hn::Mul(value, slope), z + width + i);
    });
}

template <class T>
void gated_activation(std::size_t rows, std::size_t width, T* z, const T* bias, Activation act, T* y, bool slopes) {
  switch (act) {
    case Activation::none: return gated_activation_of<Activation::none>(rows, width, z, bias, y, slopes);
    case Activation::relu: return gated_activation_of<Activation::relu>(rows, width, z, bias, y, slopes);
    case Activation::gelu: return gated_activation_of<Activation::gelu>(rows, width, z, bias, y, slopes);
    case Activation::silu: return gated_activation_of<Activation::silu>(rows, width, z, bias, y, slopes);
    case Activation::sigmoid: return gated_activation_of<Activation::sigmoid>(rows, width, z, bias, y, slopes);
    case Activation::tanh: return gated_activation_of<Activation::tanh>(rows, width, z, bias, y, slopes);
    case Activation::softplus: return gated_activation_of<Activation::softplus>(rows, width, z, bias, y, slopes);
  }
}

template <class T>
void gated_activation_back(std::size_t rows, std::size_t width, const T* dy, T* z, T* dbias) {
  const hn::ScalableTag<T> d;
  for (std::size_t r = 0; r < rows; ++r, dy += width)
    for (std::size_t half = 0; half < 2; ++half, z += width) {
      T* sums = dbias == nullptr ? nullptr : dbias + half * width;
      each(d, width, [&](auto io, std::size_t i) HWY_ATTR {
        const auto g = hn::Mul(io.load(dy + i), io.load(z + i));
        io.store(g, z + i);
        if (sums != nullptr) io.store(hn::Add(io.load(sums + i), g), sums + i);
      });
    }
}

template <class T>
void sin_cos_turns(std::size_t rows, std::size_t width, const T* t, T* y) {
  const hn::ScalableTag<T> d;
  const auto turn = hn::Set(d, static_cast<T>(6.283185307179586));
  for (std::size_t r = 0; r < rows; ++r, t += width, y += 2 * width)
    each(d, width, [&](auto io, std::size_t i) HWY_ATTR {
      const auto x = io.load(t + i), angle = hn::Mul(turn, hn::Sub(x, hn::Round(x)));
      io.store(hn::Sin(d, angle), y + i);
      io.store(hn::Cos(d, angle), y + width + i);
    });
}

template <class T>
void norm(std::size_t rows, std::size_t width, bool centre, double epsilon, const T* x, const T* weight, const T* bias, T* y, T* mean, T* rstd) {
  const hn::ScalableTag<T> d;
  using V = hn::Vec<decltype(d)>;
  const T n = static_cast<T>(width);
  for (std::size_t r = 0; r < rows; ++r, x += width, y += width) {
    T m = 0;
    if (centre) {
      V sum = hn::Zero(d);
      each(d, width, [&](auto io, std::size_t i) HWY_ATTR { sum = hn::Add(sum, io.load(x + i)); });
      m = hn::GetLane(hn::SumOfLanes(d, sum)) / n;
      mean[r] = m;
    }
    const V vm = hn::Set(d, m);
    V squares = hn::Zero(d);
    const std::size_t lanes = hn::Lanes(d), whole = width / lanes * lanes;
    for (std::size_t i = 0; i < whole; i += lanes) {
      const V c = hn::Sub(hn::LoadU(d, x + i), vm);
      squares = hn::MulAdd(c, c, squares);
    }
    if (whole < width) {
      const auto mask = hn::FirstN(d, width - whole);
      const V c = hn::IfThenElseZero(mask, hn::Sub(hn::MaskedLoad(mask, d, x + whole), vm));
      squares = hn::MulAdd(c, c, squares);
    }
    const T inverse = T{1} / std::sqrt(hn::GetLane(hn::SumOfLanes(d, squares)) / n + static_cast<T>(epsilon));
    rstd[r] = inverse;
    const V vr = hn::Set(d, inverse);
    each(d, width, [&](auto io, std::size_t i) HWY_ATTR {
      const V h = hn::Mul(hn::Sub(io.load(x + i), vm), vr);
      io.store(bias != nullptr ? hn::MulAdd(h, io.load(weight + i), io.load(bias + i)) : hn::Mul(h, io.load(weight + i)), y + i);
    });
  }
}

template <class T>
void norm_back(std::size_t rows, std::size_t width, bool centre, const T* x, const T* weight, const T* mean, const T* rstd, const T* dy, T* dx, bool accumulate,
               T* dweight, T* dbias) {
  const hn::ScalableTag<T> d;
  using V = hn::Vec<decltype(d)>;
  const T n = static_cast<T>(width);
  for (std::size_t r = 0; r < rows; ++r, x += width, dy += width) {
    const V vm = hn::Set(d, centre ? mean[r] : T{0}), vr = hn::Set(d, rstd[r]);
    V sum_g = hn::Zero(d), sum_gh = hn::Zero(d);
    each(d, width, [&](auto io, std::size_t i) HWY_ATTR {
      const V h = hn::Mul(hn::Sub(io.load(x + i), vm), vr), g = io.load(dy + i), gw = hn::Mul(g, io.load(weight + i));
      sum_g = hn::Add(sum_g, gw);
      sum_gh = hn::MulAdd(gw, h, sum_gh);  // beyond the row gw is zero
      if (dweight != nullptr) io.store(hn::MulAdd(g, h, io.load(dweight + i)), dweight + i);
      if (dbias != nullptr) io.store(hn::Add(g, io.load(dbias + i)), dbias + i);
    });
    if (dx == nullptr) continue;
    const V a = hn::Set(d, centre ? hn::GetLane(hn::SumOfLanes(d, sum_g)) / n : T{0});
    const V b = hn::Set(d, hn::GetLane(hn::SumOfLanes(d, sum_gh)) / n);
    each(d, width, [&](auto io, std::size_t i) HWY_ATTR {
      const V h = hn::Mul(hn::Sub(io.load(x + i), vm), vr), gw = hn::Mul(io.load(dy + i), io.load(weight + i));
      const V g = hn::Mul(vr, hn::Sub(hn::Sub(gw, a), hn::Mul(h, b)));
      io.store(accumulate ? hn::Add(io.load(dx + i), g) : g, dx + i);
    });
    dx += width;
  }
}

// Largest of n > 0 numbers; the rest of the last vector counts as the first element.
template <class T, class D>
HWY_INLINE T largest(D d, std::size_t n, const T* x) {
  auto best = hn::Set(d, x[0]);
  const std::size_t lanes = hn::Lanes(d);
  std::size_t i = 0;
  for (; i + lanes <= n; i += lanes) best = hn::Max(best, hn::LoadU(d, x + i));
  T m = hn::GetLane(hn::MaxOfLanes(d, best));
  for (; i < n; ++i) m = m < x[i] ? x[i] : m;
  return m;
}

template <class T>
T cross_entropy(std::size_t n, T* logits, const T* bias, std::size_t target, T scale, T* dbias) {
  const hn::ScalableTag<T> d;
  using V = hn::Vec<decltype(d)>;
  if (bias != nullptr) each(d, n, [&](auto io, std::size_t i) HWY_ATTR { io.store(hn::Add(io.load(logits + i), io.load(bias + i)), logits + i); });
  const T m = largest(d, n, logits), at_target = logits[target];
  const V vm = hn::Set(d, m);
  const std::size_t lanes = hn::Lanes(d), whole = n / lanes * lanes;
  V sum = hn::Zero(d);
  const bool keep = scale != T{0};
  for (std::size_t i = 0; i < whole; i += lanes) {
    const V e = hn::Exp(d, hn::Sub(hn::LoadU(d, logits + i), vm));
    if (keep) hn::StoreU(e, d, logits + i);
    sum = hn::Add(sum, e);
  }
  if (whole < n) {
    const auto mask = hn::FirstN(d, n - whole);
    const V e = hn::IfThenElseZero(mask, hn::Exp(d, hn::Sub(hn::MaskedLoad(mask, d, logits + whole), vm)));
    if (keep) hn::BlendedStore(e, mask, d, logits + whole);
    sum = hn::Add(sum, e);
  }
  const T total = hn::GetLane(hn::SumOfLanes(d, sum));
  const T loss = std::log(total) + (m - at_target);
  if (!keep) return loss;
  const V factor = hn::Set(d, scale / total);
  each(d, n, [&](auto io, std::size_t i) HWY_ATTR {
    const V g = hn::Mul(io.load(logits + i), factor);
    io.store(g, logits + i);
    if (dbias != nullptr) io.store(hn::Add(io.load(dbias + i), g), dbias + i);
  });
  logits[target] -= scale;
  if (dbias != nullptr) dbias[target] -= scale;
  return loss;
}

template <class T>
void log_softmax(std::size_t n, T* row) {
  const hn::ScalableTag<T> d;
  using V = hn::Vec<decltype(d)>;
  const T m = largest(d, n, row);
  const V vm = hn::Set(d, m);
  V sum = hn::Zero(d);
  const std::size_t lanes = hn::Lanes(d), whole = n / lanes * lanes;
  for (std::size_t i = 0; i < whole; i += lanes) sum = hn::Add(sum, hn::Exp(d, hn::Sub(hn::LoadU(d, row + i), vm)));
  if (whole < n) {
    const auto mask = hn::FirstN(d, n - whole);
    sum = hn::Add(sum, hn::IfThenElseZero(mask, hn::Exp(d, hn::Sub(hn::MaskedLoad(mask, d, row + whole), vm))));
  }
  const V shift = hn::Set(d, m + std::log(hn::GetLane(hn::SumOfLanes(d, sum))));
  each(d, n, [&](auto io, std::size_t i) HWY_ATTR { io.store(hn::Sub(io.load(row + i), shift), row + i); });
}

template <class T>
void add(std::size_t n, const T* a, const T* b, T* y) {
  each(hn::ScalableTag<T>(), n, [&](auto io, std::size_t i) HWY_ATTR { io.store(hn::Add(io.load(a + i), io.load(b + i)), y + i); });
}

template <class T>
void add_scaled(std::size_t n, T factor, const T* x, T* y) {
  const hn::ScalableTag<T> d;
  const auto f = hn::Set(d, factor);
  each(d, n, [&](auto io, std::size_t i) HWY_ATTR { io.store(hn::MulAdd(f, io.load(x + i), io.load(y + i)), y + i); });
}

template <class T>
void blend(std::size_t n, T keep, const T* x, T* y) {
  const hn::ScalableTag<T> d;
  const auto k = hn::Set(d, keep), r = hn::Set(d, T{1} - keep);
  each(d, n, [&](auto io, std::size_t i) HWY_ATTR { io.store(hn::MulAdd(k, io.load(y + i), hn::Mul(r, io.load(x + i))), y + i); });
}

template <class T>
double sum_squares(std::size_t n, const T* x) {
  const hn::ScalableTag<T> d;
  using V = hn::Vec<decltype(d)>;
  // Blocks bound the rounding error of float sums; the blocks are summed in double.
  constexpr std::size_t block = 1024;
  double total = 0;
  for (std::size_t start = 0; start < n; start += block) {
    V sum = hn::Zero(d);
    each(d, n - start < block ? n - start : block, [&](auto io, std::size_t i) HWY_ATTR {
      const V v = io.load(x + start + i);
      sum = hn::MulAdd(v, v, sum);
    });
    total += static_cast<double>(hn::GetLane(hn::SumOfLanes(d, sum)));
  }
  return total;
}

template <class T>
T squared_distances(std::size_t dim, const T* points, const T* z, T* distance) {
  constexpr std::size_t count = 64;
  const hn::CappedTag<T, count / 4> d;
  using V = hn::Vec<decltype(d)>;
  const std::size_t lanes = hn::Lanes(d);
  V least = hn::Set(d, std::numeric_limits<T>::infinity());
  for (std::size_t i = 0; i < count; i += 4 * lanes) {
    V sum0 = hn::Zero(d), sum1 = sum0, sum2 = sum0, sum3 = sum0;
    const T* p = points + i;
    for (std::size_t c = 0; c < dim; ++c, p += count) {
      const V at = hn::Set(d, z[c]);
      const V d0 = hn::Sub(hn::LoadU(d, p), at), d1 = hn::Sub(hn::LoadU(d, p + lanes), at);
      const V d2 = hn::Sub(hn::LoadU(d, p + 2 * lanes), at), d3 = hn::Sub(hn::LoadU(d, p + 3 * lanes), at);
      sum0 = hn::Add(sum0, hn::Mul(d0, d0));
      sum1 = hn::Add(sum1, hn::Mul(d1, d1));
      sum2 = hn::Add(sum2, hn::Mul(d2, d2));
      sum3 = hn::Add(sum3, hn::Mul(d3, d3));
    }
    hn::StoreU(sum0, d, distance + i);
    hn::StoreU(sum1, d, distance + i + lanes);
    hn::StoreU(sum2, d, distance + i + 2 * lanes);
    hn::StoreU(sum3, d, distance + i + 3 * lanes);
    least = hn::Min(least, hn::Min(hn::Min(sum0, sum1), hn::Min(sum2, sum3)));
  }
  return hn::GetLane(hn::MinOfLanes(d, least));
}

template <class T>
void adamw(std::size_t n, const AdamW& a, double decay, const T* grad, T* value, T* moment1, T* moment2) {
  const hn::ScalableTag<T> d;
  const auto set = [&](double x) HWY_ATTR { return hn::Set(d, static_cast<T>(x)); };
  const auto scale = set(a.scale), b1 = set(a.beta1), r1 = set(1 - a.beta1), b2 = set(a.beta2), r2 = set(1 - a.beta2);
  const auto shrink = set(1 - a.rate * decay), rate = set(a.rate / a.correction1), root = set(1 / std::sqrt(a.correction2));
  const auto epsilon = set(a.epsilon);
  each(d, n, [&](auto io, std::size_t i) HWY_ATTR {
    const auto g = hn::Mul(io.load(grad + i), scale);
    const auto m = hn::MulAdd(b1, io.load(moment1 + i), hn::Mul(r1, g));
    const auto v = hn::MulAdd(b2, io.load(moment2 + i), hn::Mul(r2, hn::Mul(g, g)));
    io.store(m, moment1 + i);
    io.store(v, moment2 + i);
    const auto step = hn::Div(hn::Mul(rate, m), hn::MulAdd(hn::Sqrt(v), root, epsilon));
    io.store(hn::Sub(hn::Mul(io.load(value + i), shrink), step), value + i);
  });
}

template <class T>
void lion(std::size_t n, double rate, double beta1, double beta2, double decay, double scale, const T* grad, T* value, T* moment) {
  const hn::ScalableTag<T> d;
  const auto set = [&](double x) HWY_ATTR { return hn::Set(d, static_cast<T>(x)); };
  const auto s = set(scale), b1 = set(beta1), r1 = set(1 - beta1), b2 = set(beta2), r2 = set(1 - beta2);
  const auto shrink = set(1 - rate * decay), eta = set(rate), zero = hn::Zero(d);
  each(d, n, [&](auto io, std::size_t i) HWY_ATTR {
    const auto g = hn::Mul(io.load(grad + i), s), m = io.load(moment + i);
    const auto c = hn::MulAdd(b1, m, hn::Mul(r1, g));
    const auto step = hn::IfThenElse(hn::Eq(c, zero), zero, hn::CopySign(eta, c));
    io.store(hn::MulAdd(b2, m, hn::Mul(r2, g)), moment + i);
    io.store(hn::Sub(hn::Mul(io.load(value + i), shrink), step), value + i);
  });
}

template <class T>
void sgd(std::size_t n, double rate, double momentum, bool nesterov, double decay, double scale, const T* grad, T* value, T* moment) {
  const hn::ScalableTag<T> d;
  const auto set = [&](double x) HWY_ATTR { return hn::Set(d, static_cast<T>(x)); };
  const auto s = set(scale), mu = set(momentum), wd = set(decay), minus_rate = set(-rate);
  each(d, n, [&](auto io, std::size_t i) HWY_ATTR {
    const auto v = io.load(value + i), g = hn::MulAdd(wd, v, hn::Mul(io.load(grad + i), s));
    const auto m = hn::MulAdd(mu, io.load(moment + i), g);
    io.store(m, moment + i);
    io.store(hn::MulAdd(minus_rate, nesterov ? hn::MulAdd(mu, m, g) : m, v), value + i);
  });
}

template <class T>
Kernels<T> table() {
  return {bias_activation<T>,
          bias_activation_back<T>,
          gated_activation<T>,
          gated_activation_back<T>,
          sin_cos_turns<T>,
          norm<T>,
          norm_back<T>,
          cross_entropy<T>,
          log_softmax<T>,
          add<T>,
          add_scaled<T>,
          blend<T>,
          sum_squares<T>,
          squared_distances<T>,
          adamw<T>,
          lion<T>,
          sgd<T>};
}
Kernels<float> table_float() { return table<float>(); }
Kernels<double> table_double() { return table<double>(); }
const char* target_name() { return hwy::TargetName(HWY_TARGET); }

}  // namespace bl::nn::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace bl::nn {
HWY_EXPORT(table_float);
HWY_EXPORT(table_double);
HWY_EXPORT(target_name);

template <>
const Kernels<float>& kernels<float>() {
  static const Kernels<float> table = HWY_DYNAMIC_DISPATCH(table_float)();
  return table;
}
template <>
const Kernels<double>& kernels<double>() {
  static const Kernels<double> table = HWY_DYNAMIC_DISPATCH(table_double)();
  return table;
}
const char* kernel_target() { return HWY_DYNAMIC_DISPATCH(target_name)(); }

}  // namespace bl::nn
#endif
