#include "nn/ops/attention.hpp"

#include <algorithm>
#include <cmath>

#include "base/error.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "nn/ops/attention.cpp"
#include <hwy/foreach_target.h>
// after foreach_target
#include <hwy/contrib/math/math-inl.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace bl::nn::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Where a tile reads its left factor: element (r, k) at p[r * row + k * column].
template <class T>
struct Left {
  const T* p;
  std::size_t row, column;
};

// C (R, V vectors) = A (R, depth) · B (depth, V vectors), all sums in registers. The last vector holds `last` columns
// when `part`; B may then be read past its last column only as far as the mask allows.
template <std::size_t R, std::size_t V, bool part, class D, class T>
HWY_INLINE void tile(D d, std::size_t depth, Left<T> a, const T* b, std::size_t ldb, T* c, std::size_t ldc, bool accumulate, std::size_t last) {
  using Vec = hn::Vec<D>;
  const std::size_t lanes = hn::Lanes(d);
  const auto mask = hn::FirstN(d, part ? last : lanes);
  Vec sum[R][V];
  for (std::size_t r = 0; r < R; ++r)
    for (std::size_t v = 0; v < V; ++v) sum[r][v] = hn::Zero(d);
  const T* ap = a.p;
  for (std::size_t k = 0; k < depth; ++k, b += ldb, ap += a.column) {
    Vec y[V];
    for (std::size_t v = 0; v < V; ++v) y[v] = part && v + 1 == V ? hn::MaskedLoad(mask, d, b + v * lanes) : hn::LoadU(d, b + v * lanes);
#pragma GCC unroll 8
    for (std::size_t r = 0; r < R; ++r) {
      const Vec x = hn::Set(d, ap[r * a.row]);
#pragma GCC unroll 2
      for (std::size_t v = 0; v < V; ++v) sum[r][v] = hn::MulAdd(x, y[v], sum[r][v]);
    }
  }
#pragma GCC unroll 8
  for (std::size_t r = 0; r < R; ++r)
#pragma GCC unroll 2
    for (std::size_t v = 0; v < V; ++v) {
      T* to = c + r * ldc + v * lanes;
      if (part && v + 1 == V) {
        if (accumulate) sum[r][v] = hn::Add(sum[r][v], hn::MaskedLoad(mask, d, to));
        hn::BlendedStore(sum[r][v], mask, d, to);
      } else {
        if (accumulate) sum[r][v] = hn::Add(sum[r][v], hn::LoadU(d, to));
        hn::StoreU(sum[r][v], d, to);
      }
    }
}

template <std::size_t R, class D, class T>
HWY_INLINE void strip(D d, std::size_t depth, std::size_t columns, Left<T> a, const T* b, std::size_t ldb, T* c, std::size_t ldc, bool accumulate) {
  const std::size_t lanes = hn::Lanes(d);
  std::size_t j = 0;
  if constexpr (R <= 4)
    for (; j + 2 * lanes <= columns; j += 2 * lanes) tile<R, 2, false>(d, depth, a, b + j, ldb, c + j, ldc, accumulate, 0);
  for (; j + lanes <= columns; j += lanes) tile<R, 1, false>(d, depth, a, b + j, ldb, c + j, ldc, accumulate, 0);
  if (j < columns) tile<R, 1, true>(d, depth, a, b + j, ldb, c + j, ldc, accumulate, columns - j);
}

// C (rows, columns) = A (rows, depth) · B (depth, columns). `depth_of` and `start_of` bound the sum for a strip of rows
// that starts at row i and has r rows, which is how causal attention skips what is zero.
template <class D, class T, class Bounds>
HWY_INLINE void product(D d, std::size_t rows, std::size_t columns, Left<T> a, const T* b, std::size_t ldb, T* c, std::size_t ldc, bool accumulate,
                        const Bounds& bounds) {
  // One vector of columns leaves registers for eight rows at a time; more columns are better served by 4 x 2 vectors.
  const bool narrow = columns <= hn::Lanes(d);
  std::size_t i = 0;
  const auto run = [&](auto count) HWY_ATTR {
    constexpr std::size_t R = decltype(count)::value;
    const auto [from, to] = bounds(i, R);
    strip<R>(d, to - from, columns, Left<T>{a.p + i * a.row + from * a.column, a.row, a.column}, b + from * ldb, ldb, c + i * ldc, ldc, accumulate);
  };
  if (narrow)
    for (; i + 8 <= rows; i += 8) run(std::integral_constant<std::size_t, 8>{});
  for (; i + 4 <= rows; i += 4) run(std::integral_constant<std::size_t, 4>{});
  for (; i + 2 <= rows; i += 2) run(std::integral_constant<std::size_t, 2>{});
  if (i < rows) run(std::integral_constant<std::size_t, 1>{});
}

struct Range {
  std::size_t from, to;
};

// to (d, ld) = factor · fromᵀ, from (n, d) with rows `stride` apart; columns n … ld become zero.
template <class T>
HWY_INLINE void transpose(std::size_t n, std::size_t d, const T* from, std::size_t stride, T factor, T* to, std::size_t ld) {
  for (std::size_t k = 0; k < d; ++k)
    for (std::size_t j = n; j < ld; ++j) to[k * ld + j] = 0;
  std::size_t j = 0;
  for (; j + 4 <= n; j += 4, from += 4 * stride)
    for (std::size_t k = 0; k < d; ++k)
      for (std::size_t l = 0; l < 4; ++l) to[k * ld + j + l] = from[l * stride + k] * factor;
  for (; j < n; ++j, from += stride)
    for (std::size_t k = 0; k < d; ++k) to[k * ld + j] = from[k] * factor;
}

template <class D, class T>
HWY_INLINE void forward_head(D d, std::size_t n, std::size_t hd, bool causal, const T* q, const T* k, const T* v, std::size_t ld, const T* bias,
                             std::size_t heads, T* out, std::size_t ldo, T* lse, T* scratch) {
  using V = hn::Vec<D>;
  const std::size_t lanes = hn::Lanes(d), np = (n + lanes - 1) / lanes * lanes;
  T* kt = scratch;       // (hd, np)
  T* s = kt + hd * np;   // (n, np)
  T* sums = s + n * np;  // (np)
  transpose(n, hd, k, ld, static_cast<T>(1 / std::sqrt(static_cast<double>(hd))), kt, np);
  const auto all = [&](std::size_t, std::size_t) { return Range{0, hd}; };
  product(d, n, np, Left<T>{q, ld, 1}, kt, np, s, np, false, all);
  if (bias != nullptr)
    for (std::size_t i = 0; i < n; ++i)
      for (std::size_t j = 0; j < n; ++j) s[i * np + j] += bias[(i * n + j) * heads];
  const V lowest = hn::Set(d, static_cast<T>(-1e30));
  for (std::size_t i = 0; i < n; ++i) {
    T* row = s + i * np;
    const std::size_t seen = causal ? i + 1 : n, whole = seen / lanes * lanes;
    const auto mask = hn::FirstN(d, seen - whole);
    V best = lowest;
    for (std::size_t j = 0; j < whole; j += lanes) best = hn::Max(best, hn::LoadU(d, row + j));
    if (whole < seen) best = hn::Max(best, hn::IfThenElse(mask, hn::LoadU(d, row + whole), lowest));
    const V m = hn::MaxOfLanes(d, best);
    V sum = hn::Zero(d);
    for (std::size_t j = 0; j < whole; j += lanes) {
      const V e = hn::Exp(d, hn::Sub(hn::LoadU(d, row + j), m));
      sum = hn::Add(sum, e);
      hn::StoreU(e, d, row + j);
    }
    if (whole < seen) {
      const V e = hn::IfThenElseZero(mask, hn::Exp(d, hn::Sub(hn::LoadU(d, row + whole), m)));
      sum = hn::Add(sum, e);
      hn::StoreU(e, d, row + whole);
    }
    for (std::size_t j = (seen + lanes - 1) / lanes * lanes; j < np; j += lanes) hn::StoreU(hn::Zero(d), d, row + j);
    sums[i] = hn::GetLane(hn::SumOfLanes(d, sum));
    lse[i * heads] = hn::GetLane(m);
  }
  // The rows of P are not normalised: dividing the d outputs of a row is cheaper. One vector logarithm for all rows.
  product(d, n, hd, Left<T>{s, np, 1}, v, ld, out, ldo, false, [&](std::size_t i, std::size_t r) { return Range{0, causal ? std::min(n, i + r) : n}; });
  for (std::size_t i = 0; i < n; ++i) {
    T* o = out + i * ldo;
    const T inverse = T{1} / sums[i];
    const V f = hn::Set(d, inverse);
    std::size_t c = 0;
    for (; c + lanes <= hd; c += lanes) hn::StoreU(hn::Mul(hn::LoadU(d, o + c), f), d, o + c);
    for (; c < hd; ++c) o[c] *= inverse;
  }
  for (std::size_t i = n; i < np; ++i) sums[i] = 1;
  for (std::size_t i = 0; i < n; i += lanes) hn::StoreU(hn::Log(d, hn::LoadU(d, sums + i)), d, sums + i);
  for (std::size_t i = 0; i < n; ++i) lse[i * heads] += sums[i];
}

template <class D, class T>
HWY_INLINE void backward_head(D d, std::size_t n, std::size_t hd, bool causal, const T* q, const T* k, const T* v, std::size_t ld, const T* bias,
                              std::size_t heads, const T* lse, const T* dout, std::size_t ldo, T* dq, T* dk, T* dv, bool accumulate, T* dbias, T* scratch) {
  using V = hn::Vec<D>;
  const std::size_t lanes = hn::Lanes(d), np = (n + lanes - 1) / lanes * lanes;
  const T scale = static_cast<T>(1 / std::sqrt(static_cast<double>(hd)));
  T* kt = scratch;       // (hd, np)
  T* vt = kt + hd * np;  // (hd, np)
  T* p = vt + hd * np;   // (n, np): scores, then probabilities
  T* ds = p + n * np;    // (n, np): d loss / d probabilities, then d loss / d scores
  transpose(n, hd, k, ld, scale, kt, np);
  transpose(n, hd, v, ld, T{1}, vt, np);
  const auto all = [&](std::size_t, std::size_t) { return Range{0, hd}; };
  product(d, n, np, Left<T>{q, ld, 1}, kt, np, p, np, false, all);
  product(d, n, np, Left<T>{dout, ldo, 1}, vt, np, ds, np, false, all);
  if (bias != nullptr)
    for (std::size_t i = 0; i < n; ++i)
      for (std::size_t j = 0; j < n; ++j) p[i * np + j] += bias[(i * n + j) * heads];
  const V factor = hn::Set(d, dbias == nullptr ? scale : T{1});
  for (std::size_t i = 0; i < n; ++i) {
    T *row = p + i * np, *grad = ds + i * np;
    const std::size_t seen = causal ? i + 1 : n;
    const V l = hn::Set(d, lse[i * heads]);
    V sum = hn::Zero(d);
    for (std::size_t j = 0; j < np; j += lanes) {
      V e = hn::Zero(d);
      if (j < seen) {
        e = hn::Exp(d, hn::Sub(hn::LoadU(d, row + j), l));
        if (j + lanes > seen) e = hn::IfThenElseZero(hn::FirstN(d, seen - j), e);
      }
      sum = hn::MulAdd(e, hn::LoadU(d, grad + j), sum);
      hn::StoreU(e, d, row + j);
    }
    // d loss / d score = p (d loss / d p - Σ p d loss / d p)
    const V mean = hn::SumOfLanes(d, sum);
    for (std::size_t j = 0; j < np; j += lanes) hn::StoreU(hn::Mul(hn::Mul(hn::LoadU(d, row + j), hn::Sub(hn::LoadU(d, grad + j), mean)), factor), d, grad + j);
  }
  if (dbias != nullptr)
    for (std::size_t i = 0; i < n; ++i)
      for (std::size_t j = 0; j < n; ++j) {
        dbias[(i * n + j) * heads] += ds[i * np + j];
        ds[i * np + j] *= scale;
      }
  const auto before = [&](std::size_t i, std::size_t r) { return Range{0, causal ? std::min(n, i + r) : n}; };
  const auto after = [&](std::size_t i, std::size_t) { return Range{causal ? i : 0, n}; };
  product(d, n, hd, Left<T>{ds, np, 1}, k, ld, dq, ld, accumulate, before);
  product(d, n, hd, Left<T>{ds, 1, np}, q, ld, dk, ld, accumulate, after);
  product(d, n, hd, Left<T>{p, 1, np}, dout, ldo, dv, ldo * 3, accumulate, after);
}

// Tiles are padded to whole vectors: for 17 to 24 tokens, or up to 8, half a 512-bit vector wastes less.
template <class T, class F>
HWY_INLINE void with_lanes(std::size_t n, std::size_t hd, const F& f) {
  const hn::ScalableTag<T> full;
  const hn::Half<hn::ScalableTag<T>> half;
  const std::size_t lanes = hn::Lanes(full), rest = n % lanes;
  if (hd % lanes != 0 || (n < 3 * lanes && rest > 0 && rest <= lanes / 2)) f(half);
  else f(full);
}

template <class T>
void forward(const AttentionShape& shape, const T* qkv, const T* bias, T* out, T* lse, T* scratch) {
  const std::size_t dim = shape.dim, heads = shape.heads, hd = dim / heads;
  for (std::size_t s = 0; s + 1 < shape.offsets.size(); ++s) {
    const std::size_t first = static_cast<std::size_t>(shape.offsets[s]), n = static_cast<std::size_t>(shape.offsets[s + 1]) - first;
    if (n == 0) continue;
    with_lanes<T>(n, hd, [&](auto d) HWY_ATTR {
      for (std::size_t h = 0; h < heads; ++h) {
        const T* q = qkv + first * 3 * dim + h * hd;
        forward_head(d, n, hd, shape.causal, q, q + dim, q + 2 * dim, 3 * dim, bias ? bias + h : nullptr, heads, out + first * dim + h * hd, dim,
                     lse + first * heads + h, scratch);
      }
    });
    if (bias != nullptr) bias += n * n * heads;
  }
}

template <class T>
void backward(const AttentionShape& shape, const T* qkv, const T* bias, const T* lse, const T* dout, T* dqkv, bool accumulate, T* dbias, T* scratch) {
  const std::size_t dim = shape.dim, heads = shape.heads, hd = dim / heads;
  for (std::size_t s = 0; s + 1 < shape.offsets.size(); ++s) {
    const std::size_t first = static_cast<std::size_t>(shape.offsets[s]), n = static_cast<std::size_t>(shape.offsets[s + 1]) - first;
    if (n == 0) continue;
    with_lanes<T>(n, hd, [&](auto d) HWY_ATTR {
      for (std::size_t h = 0; h < heads; ++h) {
        const T* q = qkv + first * 3 * dim + h * hd;
        T* dq = dqkv + first * 3 * dim + h * hd;
        backward_head(d, n, hd, shape.causal, q, q + dim, q + 2 * dim, 3 * dim, bias ? bias + h : nullptr, heads, lse + first * heads + h,
                      dout + first * dim + h * hd, dim, dq, dq + dim, dq + 2 * dim, accumulate, dbias ? dbias + h : nullptr, scratch);
      }
    });
    if (bias != nullptr) bias += n * n * heads;
    if (dbias != nullptr) dbias += n * n * heads;
  }
}

void forward_float(const AttentionShape& s, const float* qkv, const float* bias, float* out, float* lse, float* scratch) {
  forward(s, qkv, bias, out, lse, scratch);
}
void forward_double(const AttentionShape& s, const double* qkv, const double* bias, double* out, double* lse, double* scratch) {
  forward(s, qkv, bias, out, lse, scratch);
}
void backward_float(const AttentionShape& s, const float* qkv, const float* bias, const float* lse, const float* dout, float* dqkv, bool accumulate,
                    float* dbias, float* scratch) {
  backward(s, qkv, bias, lse, dout, dqkv, accumulate, dbias, scratch);
}
void backward_double(const AttentionShape& s, const double* qkv, const double* bias, const double* lse, const double* dout, double* dqkv, bool accumulate,
                     double* dbias, double* scratch) {
  backward(s, qkv, bias, lse, dout, dqkv, accumulate, dbias, scratch);
}

}  // namespace bl::nn::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace bl::nn {
HWY_EXPORT(forward_float);
HWY_EXPORT(forward_double);
HWY_EXPORT(backward_float);
HWY_EXPORT(backward_double);

std::size_t AttentionShape::longest() const {
  std::int32_t n = 0;
  for (std::size_t s = 0; s + 1 < offsets.size(); ++s) n = std::max(n, offsets[s + 1] - offsets[s]);
  return static_cast<std::size_t>(n);
}

std::size_t AttentionShape::pairs() const {
  std::size_t sum = 0;
  for (std::size_t s = 0; s + 1 < offsets.size(); ++s)
    sum += static_cast<std::size_t>(offsets[s + 1] - offsets[s]) * static_cast<std::size_t>(offsets[s + 1] - offsets[s]);
  return sum;
}

template <class T>
std::size_t attention_scratch(const AttentionShape& shape) {
  constexpr std::size_t widest = 64 / sizeof(T);  // lanes of a 512-bit vector
  const std::size_t n = shape.longest(), np = (n + widest - 1) / widest * widest, hd = shape.dim / shape.heads;
  return 2 * hd * np + 2 * n * np + np;
}

template <>
void attention_forward(const AttentionShape& shape, const float* qkv, const float* bias, float* out, float* lse, float* scratch) {
  HWY_DYNAMIC_DISPATCH(forward_float)(shape, qkv, bias, out, lse, scratch);
}
template <>
void attention_forward(const AttentionShape& shape, const double* qkv, const double* bias, double* out, double* lse, double* scratch) {
  HWY_DYNAMIC_DISPATCH(forward_double)(shape, qkv, bias, out, lse, scratch);
}
template <>
void attention_backward(const AttentionShape& shape, const float* qkv, const float* bias, const float* lse, const float* dout, float* dqkv, bool accumulate,
                        float* dbias, float* scratch) {
  HWY_DYNAMIC_DISPATCH(backward_float)(shape, qkv, bias, lse, dout, dqkv, accumulate, dbias, scratch);
}
template <>
void attention_backward(const AttentionShape& shape, const double* qkv, const double* bias, const double* lse, const double* dout, double* dqkv,
                        bool accumulate, double* dbias, double* scratch) {
  HWY_DYNAMIC_DISPATCH(backward_double)(shape, qkv, bias, lse, dout, dqkv, accumulate, dbias, scratch);
}

template <class T>
Var<T> attention(Tape<T>& tape, Var<T> qkv, std::span<const std::int32_t> offsets, std::size_t heads, bool causal, Var<T> bias) {
  const AttentionShape shape{offsets, heads, qkv->width / 3, causal};
  check(qkv->width % (3 * heads) == 0 && !offsets.empty() && static_cast<std::size_t>(offsets.back()) == qkv->rows, "attention: shapes do not fit");
  check(bias == nullptr || (bias->rows == shape.pairs() && bias->width == heads), "attention: bias of another shape");
  Var<T> y = tape.make(qkv->rows, shape.dim);
  T* lse = tape.arena().template take<T>(qkv->rows * heads);
  const std::size_t need = attention_scratch<T>(shape);
  T* scratch = tape.scratch(need);
  attention_forward(shape, static_cast<const T*>(qkv->value), static_cast<const T*>(bias ? bias->value : nullptr), y->value, lse, scratch);
  tape.give_back(scratch, need);
  tape.record([&tape, shape, qkv, bias, lse, need, y] {
    if (y->grad == nullptr) return;
    T* dbias = tape.open_zeroed(bias);
    if (const Grad<T> g = tape.open(qkv); g || dbias != nullptr) {
      T* dqkv = g ? g.data : tape.scratch(qkv->size());
      T* work = tape.scratch(need);
      attention_backward(shape, static_cast<const T*>(qkv->value), static_cast<const T*>(bias ? bias->value : nullptr), static_cast<const T*>(lse),
                         static_cast<const T*>(y->grad), dqkv, g.accumulate, dbias, work);
      tape.give_back(work, need);
      if (!g) tape.give_back(dqkv, qkv->size());
    }
    tape.close(y);
  });
  return y;
}

template std::size_t attention_scratch<float>(const AttentionShape&);
template std::size_t attention_scratch<double>(const AttentionShape&);
template Var<float> attention(Tape<float>&, Var<float>, std::span<const std::int32_t>, std::size_t, bool, Var<float>);
template Var<double> attention(Tape<double>&, Var<double>, std::span<const std::int32_t>, std::size_t, bool, Var<double>);

}  // namespace bl::nn
#endif
