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

// What all targets share.
#ifndef BEAMLINE_ATTENTION_ONCE
#define BEAMLINE_ATTENTION_ONCE
namespace bl::nn::attention_detail {

inline constexpr std::size_t kBlock = 64;    // queries at a time: their scores stay in the caches
inline constexpr std::size_t kStrip = 8;     // most rows of one register tile; strips start at multiples of their height
inline constexpr double kHidden = -1e30;     // added to the score of a hidden pair: its exponential is exactly zero
inline constexpr double kLowestMax = -1e29;  // least maximum of a row, so that a row that sees nothing has zeros only

inline std::size_t round_up(std::size_t n, std::size_t to) { return (n + to - 1) / to * to; }
// Keys of a row of scores: whole vectors, of four numbers at least.
inline std::size_t padded_keys(std::size_t n, std::size_t lanes) { return round_up(n, std::max<std::size_t>(lanes, 4)); }

// One sequence: its tokens and where its pairs start.
struct Sequence {
  std::size_t query = 0, queries = 0, key = 0, keys = 0, pair = 0;
};
template <class F>
void each_sequence(const AttentionShape& shape, const F& f) {
  const auto& keys = shape.key_offsets.empty() ? shape.offsets : shape.key_offsets;
  Sequence s;
  for (std::size_t i = 0; i + 1 < shape.offsets.size(); ++i) {
    s.query = static_cast<std::size_t>(shape.offsets[i]);
    s.queries = static_cast<std::size_t>(shape.offsets[i + 1]) - s.query;
    s.key = static_cast<std::size_t>(keys[i]);
    s.keys = static_cast<std::size_t>(keys[i + 1]) - s.key;
    f(s);
    s.pair += s.queries * s.keys;
  }
}

}  // namespace bl::nn::attention_detail
#endif

HWY_BEFORE_NAMESPACE();
namespace bl::nn::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
using namespace attention_detail;

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

// Rows that go with two vectors of columns: 32 registers hold eight of them, 16 registers four.
constexpr std::size_t rows_of_two = HWY_TARGET <= HWY_AVX3 ? 8 : 4;

template <std::size_t R, class D, class T>
HWY_INLINE void strip(D d, std::size_t depth, std::size_t columns, Left<T> a, const T* b, std::size_t ldb, T* c, std::size_t ldc, bool accumulate) {
  const std::size_t lanes = hn::Lanes(d);
  std::size_t j = 0;
  if constexpr (R <= rows_of_two)
    for (; j + 2 * lanes <= columns; j += 2 * lanes) tile<R, 2, false>(d, depth, a, b + j, ldb, c + j, ldc, accumulate, 0);
  for (; j + lanes <= columns; j += lanes) tile<R, 1, false>(d, depth, a, b + j, ldb, c + j, ldc, accumulate, 0);
  if (j < columns) tile<R, 1, true>(d, depth, a, b + j, ldb, c + j, ldc, accumulate, columns - j);
}

// What of a strip of rows is worked on: the part [from, to) of the sum, and the first columns.
struct Part {
  std::size_t from, to, columns;
};

// C (rows, columns) = A (rows, depth) · B (depth, columns). part_of(i, r) tells it for the strip of r rows at row i, which
// is how causal attention skips what is zero.
template <class D, class T, class F>
HWY_INLINE void product(D d, std::size_t rows, std::size_t columns, Left<T> a, const T* b, std::size_t ldb, T* c, std::size_t ldc, bool accumulate,
                        const F& part_of) {
  // One vector of columns leaves registers for eight rows at a time.
  const bool narrow = rows_of_two == 8 || columns <= hn::Lanes(d);
  std::size_t i = 0;
  const auto run = [&](auto count) HWY_ATTR {
    constexpr std::size_t R = decltype(count)::value;
    const Part p = part_of(i, R);
    strip<R>(d, p.to - p.from, p.columns, Left<T>{a.p + i * a.row + p.from * a.column, a.row, a.column}, b + p.from * ldb, ldb, c + i * ldc, ldc, accumulate);
  };
  if (narrow)
    for (; i + 8 <= rows; i += 8) run(std::integral_constant<std::size_t, 8>{});
  for (; i + 4 <= rows; i += 4) run(std::integral_constant<std::size_t, 4>{});
  for (; i + 2 <= rows; i += 2) run(std::integral_constant<std::size_t, 2>{});
  if (i < rows) run(std::integral_constant<std::size_t, 1>{});
}

// to (d, ld) = factor · fromᵀ, from (n, d) with rows `stride` apart; columns n … ld become zero. ld is a multiple of four.
template <class T>
HWY_INLINE void transpose(std::size_t n, std::size_t d, const T* from, std::size_t stride, T factor, T* to, std::size_t ld) {
  const hn::CappedTag<T, 4> q;
  const bool vectors = sizeof(T) == 4 && hn::Lanes(q) == 4;
  for (std::size_t j = 0; j < ld; j += 4, from += 4 * stride) {
    const std::size_t rows = j < n ? std::min<std::size_t>(4, n - j) : 0;
    std::size_t k = 0;
    if (vectors) {
      const auto f = hn::Set(q, factor), zero = hn::Zero(q);
      for (; k + 4 <= d; k += 4) {
        auto r0 = zero, r1 = zero, r2 = zero, r3 = zero;
        if (rows > 0) r0 = hn::Mul(hn::LoadU(q, from + k), f);
        if (rows > 1) r1 = hn::Mul(hn::LoadU(q, from + stride + k), f);
        if (rows > 2) r2 = hn::Mul(hn::LoadU(q, from + 2 * stride + k), f);
        if (rows > 3) r3 = hn::Mul(hn::LoadU(q, from + 3 * stride + k), f);
        const auto low02 = hn::InterleaveLower(q, r0, r2), low13 = hn::InterleaveLower(q, r1, r3);
        const auto high02 = hn::InterleaveUpper(q, r0, r2), high13 = hn::InterleaveUpper(q, r1, r3);
        T* at = to + k * ld + j;
        hn::StoreU(hn::InterleaveLower(q, low02, low13), q, at);
        hn::StoreU(hn::InterleaveUpper(q, low02, low13), q, at + ld);
        hn::StoreU(hn::InterleaveLower(q, high02, high13), q, at + 2 * ld);
        hn::StoreU(hn::InterleaveUpper(q, high02, high13), q, at + 3 * ld);
      }
    }
    for (; k < d; ++k)
      for (std::size_t l = 0; l < 4; ++l) to[k * ld + j + l] = l < rows ? from[l * stride + k] * factor : T{0};
  }
}

// to (n, ld): rows of d numbers side by side. In the matrix they lie a power of two apart more often than not, and would
// throw each other out of L1.
template <class D, class T>
HWY_INLINE void gather(D d, std::size_t n, std::size_t hd, const T* from, std::size_t stride, T* to, std::size_t ld) {
  const std::size_t lanes = hn::Lanes(d), whole = hd / lanes * lanes;
  const auto rest = hn::FirstN(d, hd - whole);
  for (std::size_t i = 0; i < n; ++i, from += stride, to += ld) {
    for (std::size_t k = 0; k < whole; k += lanes) hn::StoreU(hn::LoadU(d, from + k), d, to + k);
    if (whole < hd) hn::StoreU(hn::MaskedLoad(rest, d, from + whole), d, to + whole);
  }
}

// One head of one sequence. Pairs of bias and its gradient are `heads` numbers apart, those of lse too.
template <class T, bool causal>
struct Head {
  std::size_t nq, nk, hd, heads;
  const T *q, *k, *v;
  std::size_t ldq, ldk;
  const T* bias;
  const T* hide;  // (nq, padded keys), or one row for all when hide_stride is 0: 0 or kHidden
  std::size_t hide_stride;

  std::size_t seen(std::size_t i) const { return causal ? i + 1 : nk; }
  // Keys that the strip of r queries at query i looks at.
  std::size_t seen_by(std::size_t i, std::size_t r) const { return causal ? std::min(nk, i + r) : nk; }
};

// Scores of the queries i0 … i1 - 1 with the keys that their strips see, and what is added to them. s (i1 - i0, np).
template <class D, class T, bool causal>
HWY_INLINE void scores(D d, const Head<T, causal>& h, std::size_t i0, std::size_t i1, const T* kt, std::size_t np, T* s) {
  const std::size_t lanes = hn::Lanes(d);
  product(d, i1 - i0, np, Left<T>{h.q + i0 * h.ldq, h.ldq, 1}, kt, np, s, np, false, [&](std::size_t i, std::size_t r) {
    return Part{0, h.hd, round_up(h.seen_by(i0 + i, r), lanes)};
  });
  if (h.bias != nullptr)
    for (std::size_t i = i0; i < i1; ++i)
      for (std::size_t j = 0; j < h.seen(i); ++j) s[(i - i0) * np + j] += h.bias[(i * h.nk + j) * h.heads];
  if (h.hide != nullptr)
    for (std::size_t i = i0; i < i1; ++i) {
      T* row = s + (i - i0) * np;
      for (std::size_t j = 0; j < h.seen(i); j += lanes) hn::StoreU(hn::Add(hn::LoadU(d, row + j), hn::LoadU(d, h.hide + i * h.hide_stride + j)), d, row + j);
    }
}

// Where the numbers of row i end that products read: whole strips of rows do.
template <class T, bool causal>
HWY_INLINE std::size_t row_end(const Head<T, causal>& h, std::size_t i, std::size_t lanes) {
  return round_up(causal ? std::min(h.nk, (i / kStrip + 1) * kStrip) : h.nk, lanes);
}

template <class D, class T, bool causal>
HWY_INLINE void forward_head(D d, const Head<T, causal>& h, T* out, std::size_t ldo, T* lse, T* scratch) {
  using V = hn::Vec<D>;
  const std::size_t lanes = hn::Lanes(d), np = padded_keys(h.nk, lanes), hp = round_up(h.hd, lanes), block = std::min(h.nq, kBlock);
  T* kt = scratch;                              // (hd, np)
  T* v = kt + h.hd * np;                        // (nk, hp)
  T* s = v + h.nk * hp;                         // (block, np)
  T* sums = s + block * np;                     // (block, and the rest of a vector)
  T* inverses = sums + round_up(block, lanes);  // the same
  transpose(h.nk, h.hd, h.k, h.ldk, static_cast<T>(1 / std::sqrt(static_cast<double>(h.hd))), kt, np);
  gather(d, h.nk, h.hd, h.v, h.ldk, v, hp);
  const V lowest = hn::Set(d, static_cast<T>(kLowestMax));
  for (std::size_t i0 = 0; i0 < h.nq; i0 += kBlock) {
    const std::size_t i1 = std::min(h.nq, i0 + kBlock);
    scores(d, h, i0, i1, kt, np, s);
    for (std::size_t i = i0; i < i1; ++i) {
      T* row = s + (i - i0) * np;
      const std::size_t seen = h.seen(i), whole = seen / lanes * lanes, end = row_end(h, i, lanes);
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
      for (std::size_t j = round_up(seen, lanes); j < end; j += lanes) hn::StoreU(hn::Zero(d), d, row + j);
      sums[i - i0] = hn::GetLane(hn::SumOfLanes(d, sum));
      lse[i * h.heads] = hn::GetLane(m);
    }
    // The rows of P are not normalised: dividing the d outputs of a row is cheaper. One vector logarithm for all rows.
    T* o = out + i0 * ldo;
    product(d, i1 - i0, h.hd, Left<T>{s, np, 1}, v, hp, o, ldo, false, [&](std::size_t i, std::size_t r) { return Part{0, h.seen_by(i0 + i, r), h.hd}; });
    // The sum of a row that sees nothing is zero.
    for (std::size_t i = i1 - i0; i < round_up(i1 - i0, lanes); ++i) sums[i] = 0;
    for (std::size_t i = 0; i < i1 - i0; i += lanes) {
      const V one = hn::Set(d, T{1}), sum = hn::LoadU(d, sums + i), safe = hn::IfThenElse(hn::Eq(sum, hn::Zero(d)), one, sum);
      hn::StoreU(hn::Div(one, safe), d, inverses + i);
      hn::StoreU(hn::Log(d, safe), d, sums + i);
    }
    for (std::size_t i = 0; i < i1 - i0; ++i, o += ldo) {
      const V f = hn::Set(d, inverses[i]);
      std::size_t c = 0;
      for (; c + lanes <= h.hd; c += lanes) hn::StoreU(hn::Mul(hn::LoadU(d, o + c), f), d, o + c);
      for (; c < h.hd; ++c) o[c] *= inverses[i];
    }
    for (std::size_t i = i0; i < i1; ++i) lse[i * h.heads] += sums[i - i0];
  }
}

template <class D, class T, bool causal>
HWY_INLINE void backward_head(D d, const Head<T, causal>& h, const T* lse, const T* dout, std::size_t ldo, const AttentionGradient<T>& g, std::size_t ldq,
                              std::size_t ldk, T* scratch) {
  using V = hn::Vec<D>;
  const std::size_t lanes = hn::Lanes(d), np = padded_keys(h.nk, lanes), hp = round_up(h.hd, lanes), block = std::min(h.nq, kBlock);
  const T scale = static_cast<T>(1 / std::sqrt(static_cast<double>(h.hd)));
  T* kt = scratch;         // (hd, np)
  T* vt = kt + h.hd * np;  // (hd, np)
  T* k = vt + h.hd * np;   // (nk, hp)
  T* q = k + h.nk * hp;    // (block, hp)
  T* o = q + block * hp;   // (block, hp): d loss / d out
  T* p = o + block * hp;   // (block, np): scores, then probabilities
  T* ds = p + block * np;  // (block, np): d loss / d probabilities, then d loss / d scores
  transpose(h.nk, h.hd, h.k, h.ldk, scale, kt, np);
  transpose(h.nk, h.hd, h.v, h.ldk, T{1}, vt, np);
  gather(d, h.nk, h.hd, h.k, h.ldk, k, hp);
  const V factor = hn::Set(d, g.bias == nullptr ? scale : T{1});
  bool accumulate_kv = g.accumulate_kv;
  // The last block of queries first: it sees every key, so it writes what the others add to.
  std::size_t i1 = h.nq;
  do {
    const std::size_t i0 = i1 == 0 ? 0 : (i1 - 1) / kBlock * kBlock, rows = i1 - i0, keys = h.seen_by(i0, rows);
    gather(d, rows, h.hd, h.q + i0 * h.ldq, h.ldq, q, hp);
    gather(d, rows, h.hd, dout + i0 * ldo, ldo, o, hp);
    scores(d, h, i0, i1, kt, np, p);
    product(d, rows, np, Left<T>{o, hp, 1}, vt, np, ds, np, false, [&](std::size_t i, std::size_t r) {
      return Part{0, h.hd, round_up(h.seen_by(i0 + i, r), lanes)};
    });
    for (std::size_t i = i0; i < i1; ++i) {
      T *row = p + (i - i0) * np, *grad = ds + (i - i0) * np;
      const std::size_t seen = h.seen(i), whole = seen / lanes * lanes, end = row_end(h, i, lanes);
      const auto mask = hn::FirstN(d, seen - whole);
      const V l = hn::Set(d, lse[i * h.heads]);
      V sum = hn::Zero(d);
      for (std::size_t j = 0; j < whole; j += lanes) {
        const V e = hn::Exp(d, hn::Sub(hn::LoadU(d, row + j), l));
        sum = hn::MulAdd(e, hn::LoadU(d, grad + j), sum);
        hn::StoreU(e, d, row + j);
      }
      if (whole < seen) {
        const V e = hn::IfThenElseZero(mask, hn::Exp(d, hn::Sub(hn::LoadU(d, row + whole), l)));
        sum = hn::MulAdd(e, hn::LoadU(d, grad + whole), sum);
        hn::StoreU(e, d, row + whole);
      }
      // d loss / d score = p (d loss / d p - Σ p d loss / d p)
      const V mean = hn::SumOfLanes(d, sum);
      std::size_t j = 0;
      for (; j < seen; j += lanes) hn::StoreU(hn::Mul(hn::Mul(hn::LoadU(d, row + j), hn::Sub(hn::LoadU(d, grad + j), mean)), factor), d, grad + j);
      for (; j < end; j += lanes) {
        hn::StoreU(hn::Zero(d), d, row + j);
        hn::StoreU(hn::Zero(d), d, grad + j);
      }
    }
    if (g.bias != nullptr)
      for (std::size_t i = i0; i < i1; ++i)
        for (std::size_t j = 0; j < h.seen(i); ++j) {
          T& x = ds[(i - i0) * np + j];
          g.bias[(i * h.nk + j) * h.heads] += x;
          x *= scale;
        }
    product(d, rows, h.hd, Left<T>{ds, np, 1}, k, hp, g.q + i0 * ldq, ldq, g.accumulate_q, [&](std::size_t i, std::size_t r) {
      return Part{0, h.seen_by(i0 + i, r), h.hd};
    });
    // Key j is seen by the queries from j on.
    const auto after = [&](std::size_t j, std::size_t) { return Part{causal && j > i0 ? j - i0 : 0, rows, h.hd}; };
    product(d, keys, h.hd, Left<T>{ds, 1, np}, q, hp, g.k, ldk, accumulate_kv, after);
    product(d, keys, h.hd, Left<T>{p, 1, np}, o, hp, g.v, ldk, accumulate_kv, after);
    accumulate_kv = true;
    i1 = i0;
  } while (i1 > 0);
}

// Tiles are padded to whole vectors: for 17 to 24 keys, or up to 8, half a 512-bit vector wastes less. Double is there for
// checks: one width will do.
template <class T, class F>
HWY_INLINE void with_lanes(std::size_t n, std::size_t hd, const F& f) {
  const hn::ScalableTag<T> full;
  if constexpr (sizeof(T) == 8) {
    f(full);
  } else {
    const hn::Half<hn::ScalableTag<T>> half;
    const std::size_t lanes = hn::Lanes(full), rest = n % lanes;
    if (hd % lanes != 0 || (n < 3 * lanes && rest > 0 && rest <= lanes / 2)) f(half);
    else f(full);
  }
}

// The heads of a sequence: f(d, head, h) for each, where head is everything but the column of head h. hide: memory
// for the mask of a sequence.
template <bool causal, class T, class F>
HWY_INLINE void with_heads(const AttentionShape& shape, const AttentionInput<T>& in, const Sequence& s, T* hide, const F& f) {
  const std::size_t hd = shape.dim / shape.heads;
  with_lanes<T>(s.keys, hd, [&](auto d) HWY_ATTR {
    Head<T, causal> head{s.queries, s.keys, hd, shape.heads, nullptr, nullptr, nullptr, in.q_stride, in.kv_stride, nullptr, nullptr, 0};
    const std::size_t np = padded_keys(s.keys, hn::Lanes(d));
    if (shape.mask.keys != nullptr || shape.mask.pairs != nullptr) {
      const std::size_t rows = shape.mask.pairs != nullptr ? s.queries : 1;
      for (std::size_t i = 0; i < rows; ++i)
        for (std::size_t j = 0; j < np; ++j) {
          const bool seen = j < s.keys && (shape.mask.keys == nullptr || shape.mask.keys[s.key + j] != 0) &&
                            (shape.mask.pairs == nullptr || shape.mask.pairs[s.pair + i * s.keys + j] != 0);
          hide[i * np + j] = static_cast<T>(seen ? 0 : kHidden);
        }
      head.hide = hide;
      head.hide_stride = rows > 1 ? np : 0;
    }
    for (std::size_t h = 0; h < shape.heads; ++h) {
      head.q = in.q + s.query * in.q_stride + h * hd;
      head.k = in.k + s.key * in.kv_stride + h * hd;
      head.v = in.v + s.key * in.kv_stride + h * hd;
      head.bias = in.bias == nullptr ? nullptr : in.bias + s.pair * shape.heads + h;
      f(d, head, h);
    }
  });
}

template <bool causal, class T>
void forward(const AttentionShape& shape, const AttentionInput<T>& in, T* out, T* lse, T* scratch, T* hide) {
  each_sequence(shape, [&](const Sequence& s) HWY_ATTR {
    with_heads<causal>(shape, in, s, hide, [&](auto d, const auto& head, std::size_t h) HWY_ATTR {
      forward_head(d, head, out + s.query * shape.dim + h * head.hd, shape.dim, lse + s.query * shape.heads + h, scratch);
    });
  });
}

template <bool causal, class T>
void backward(const AttentionShape& shape, const AttentionInput<T>& in, const T* lse, const T* dout, const AttentionGradient<T>& g, T* scratch, T* hide) {
  each_sequence(shape, [&](const Sequence& s) HWY_ATTR {
    with_heads<causal>(shape, in, s, hide, [&](auto d, const auto& head, std::size_t h) HWY_ATTR {
      AttentionGradient<T> to = g;
      to.q += s.query * in.q_stride + h * head.hd;
      to.k += s.key * in.kv_stride + h * head.hd;
      to.v += s.key * in.kv_stride + h * head.hd;
      if (to.bias != nullptr) to.bias += s.pair * shape.heads + h;
      backward_head(d, head, lse + s.query * shape.heads + h, dout + s.query * shape.dim + h * head.hd, shape.dim, to, in.q_stride, in.kv_stride, scratch);
    });
  });
}

void forward_float(const AttentionShape& s, const AttentionInput<float>& in, float* out, float* lse, float* scratch, float* hide) {
  if (s.causal) forward<true>(s, in, out, lse, scratch, hide);
  else forward<false>(s, in, out, lse, scratch, hide);
}
void forward_double(const AttentionShape& s, const AttentionInput<double>& in, double* out, double* lse, double* scratch, double* hide) {
  if (s.causal) forward<true>(s, in, out, lse, scratch, hide);
  else forward<false>(s, in, out, lse, scratch, hide);
}
void backward_float(const AttentionShape& s, const AttentionInput<float>& in, const float* lse, const float* dout, const AttentionGradient<float>& g,
                    float* scratch, float* hide) {
  if (s.causal) backward<true>(s, in, lse, dout, g, scratch, hide);
  else backward<false>(s, in, lse, dout, g, scratch, hide);
}
void backward_double(const AttentionShape& s, const AttentionInput<double>& in, const double* lse, const double* dout, const AttentionGradient<double>& g,
                     double* scratch, double* hide) {
  if (s.causal) backward<true>(s, in, lse, dout, g, scratch, hide);
  else backward<false>(s, in, lse, dout, g, scratch, hide);
}

}  // namespace bl::nn::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace bl::nn {
HWY_EXPORT(forward_float);
HWY_EXPORT(forward_double);
HWY_EXPORT(backward_float);
HWY_EXPORT(backward_double);

namespace {

// Of all sequences: the working memory of the heads, and of the mask behind it.
struct Scratch {
  std::size_t heads = 0, mask = 0;
};
template <class T>
Scratch scratch_of(const AttentionShape& shape) {
  using namespace attention_detail;
  constexpr std::size_t widest = 64 / sizeof(T);  // lanes of a 512-bit vector
  const std::size_t hd = shape.dim / shape.heads, hp = round_up(hd, widest);
  Scratch most;
  each_sequence(shape, [&](const Sequence& s) {
    const std::size_t np = round_up(s.keys, widest), block = round_up(std::min(s.queries, kBlock), widest);
    // the larger of the two, the backward
    most.heads = std::max(most.heads, 2 * hd * np + s.keys * hp + 2 * block * hp + 2 * block * np + block);
    most.mask = std::max(most.mask, shape.mask.pairs != nullptr ? s.queries * np : shape.mask.keys != nullptr ? np : 0);
  });
  most.heads = round_up(most.heads, widest);
  return most;
}

}  // namespace

std::size_t AttentionShape::pairs() const {
  std::size_t sum = 0;
  attention_detail::each_sequence(*this, [&](const attention_detail::Sequence& s) { sum += s.queries * s.keys; });
  return sum;
}

template <class T>
std::size_t attention_scratch(const AttentionShape& shape) {
  const Scratch s = scratch_of<T>(shape);
  return s.heads + s.mask;
}

template <>
void attention_forward(const AttentionShape& shape, const AttentionInput<float>& in, float* out, float* lse, float* scratch) {
  HWY_DYNAMIC_DISPATCH(forward_float)(shape, in, out, lse, scratch, scratch + scratch_of<float>(shape).heads);
}
template <>
void attention_forward(const AttentionShape& shape, const AttentionInput<double>& in, double* out, double* lse, double* scratch) {
  HWY_DYNAMIC_DISPATCH(forward_double)(shape, in, out, lse, scratch, scratch + scratch_of<double>(shape).heads);
}
template <>
void attention_backward(const AttentionShape& shape, const AttentionInput<float>& in, const float* lse, const float* dout, const AttentionGradient<float>& g,
                        float* scratch) {
  HWY_DYNAMIC_DISPATCH(backward_float)(shape, in, lse, dout, g, scratch, scratch + scratch_of<float>(shape).heads);
}
template <>
void attention_backward(const AttentionShape& shape, const AttentionInput<double>& in, const double* lse, const double* dout,
                        const AttentionGradient<double>& g, double* scratch) {
  HWY_DYNAMIC_DISPATCH(backward_double)(shape, in, lse, dout, g, scratch, scratch + scratch_of<double>(shape).heads);
}

namespace {

// kv null: q holds query | key | value.
template <class T>
AttentionInput<T> input_of(Var<T> q, Var<T> kv, Var<T> bias, std::size_t dim) {
  const T* keys = kv == nullptr ? q->value + dim : kv->value;
  return {q->value, q->width, keys, keys + dim, kv == nullptr ? q->width : kv->width, bias ? bias->value : nullptr};
}

template <class T>
Var<T> attend(Tape<T>& tape, const AttentionShape& shape, Var<T> q, Var<T> kv, Var<T> bias) {
  check(shape.dim % shape.heads == 0 && !shape.offsets.empty() && static_cast<std::size_t>(shape.offsets.back()) == q->rows, "attention: shapes do not fit");
  check(bias == nullptr || (bias->rows == shape.pairs() && bias->width == shape.heads), "attention: bias of another shape");
  Var<T> y = tape.make(q->rows, shape.dim, {q, kv, bias});
  T* lse = tape.arena().template take<T>(q->rows * shape.heads);
  const std::size_t need = attention_scratch<T>(shape);
  T* work = tape.scratch(need);
  attention_forward(shape, input_of(q, kv, bias, shape.dim), y->value, lse, work);
  tape.give_back(work, need);
  tape.record([&tape, shape, q, kv, bias, lse, need, y] {
    if (y->grad == nullptr) return;
    AttentionGradient<T> to;
    to.bias = tape.open_zeroed(bias);
    const Grad<T> gq = tape.open(q), gkv = kv == nullptr ? gq : tape.open(kv);
    if (gq || gkv || to.bias != nullptr) {
      // What nobody wants goes to memory that is given back at once.
      to.q = gq ? gq.data : tape.scratch(q->size());
      T* keys = kv == nullptr ? to.q + shape.dim : gkv ? gkv.data : tape.scratch(kv->size());
      to.k = keys;
      to.v = keys + shape.dim;
      to.accumulate_q = gq.accumulate;
      to.accumulate_kv = gkv.accumulate;
      T* scratch = tape.scratch(need);
      attention_backward<T>(shape, input_of(q, kv, bias, shape.dim), lse, y->grad, to, scratch);
      tape.give_back(scratch, need);
      if (!gq) tape.give_back(to.q, q->size());
      if (kv != nullptr && !gkv) tape.give_back(keys, kv->size());
    }
    tape.close(y);
  });
  return y;
}

}  // namespace

template <class T>
Var<T> attention(Tape<T>& tape, Var<T> qkv, std::span<const std::int32_t> offsets, std::size_t heads, bool causal, Var<T> bias, AttentionMask mask) {
  check(qkv->width % 3 == 0, "attention: a row must be query | key | value");
  return attend<T>(tape, {offsets, heads, qkv->width / 3, causal, {}, mask}, qkv, nullptr, bias);
}

template <class T>
Var<T> cross_attention(Tape<T>& tape, Var<T> q, Var<T> kv, std::span<const std::int32_t> offsets, std::span<const std::int32_t> key_offsets, std::size_t heads,
                       Var<T> bias, AttentionMask mask) {
  check(kv->width == 2 * q->width && key_offsets.size() == offsets.size() && !key_offsets.empty() && static_cast<std::size_t>(key_offsets.back()) == kv->rows,
        "cross_attention: shapes do not fit");
  return attend<T>(tape, {offsets, heads, q->width, false, key_offsets, mask}, q, kv, bias);
}

#define BEAMLINE_INSTANTIATE(T)                                                                                         \
  template std::size_t attention_scratch<T>(const AttentionShape&);                                                     \
  template Var<T> attention(Tape<T>&, Var<T>, std::span<const std::int32_t>, std::size_t, bool, Var<T>, AttentionMask); \
  template Var<T> cross_attention(Tape<T>&, Var<T>, Var<T>, std::span<const std::int32_t>, std::span<const std::int32_t>, std::size_t, Var<T>, AttentionMask);
BEAMLINE_INSTANTIATE(float)
BEAMLINE_INSTANTIATE(double)
#undef BEAMLINE_INSTANTIATE

}  // namespace bl::nn
#endif
