#include "nn/decode.hpp"

#include <algorithm>
#include <cmath>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "nn/decode.cpp"
#include <hwy/foreach_target.h>
// after foreach_target
#include <hwy/contrib/math/math-inl.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace bl::nn::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

constexpr std::size_t block = 16;  // tokens of a block of keys
using Tag = hn::CappedTag<float, block>;
using Vec = hn::Vec<Tag>;

// Memory that is read soon: the processor's own prefetching stops at every page. `ahead` floats lie between what is fetched
// and what is worked on; nothing is fetched behind the end.
constexpr std::size_t ahead = 4096;
HWY_INLINE void fetch(const float* from, std::size_t floats, const float* end) {
  for (const float* const to = std::min(from + floats, end); from < to; from += 16) __builtin_prefetch(from);
}

// y (V vectors) += Σ_j p[j] · values[j], rows `stride` apart. Four sums at once: one alone would wait for each addition.
template <std::size_t V>
HWY_INLINE void add_weighted(Tag d, std::size_t n, const float* p, const float* values, std::size_t stride, float* y) {
  const std::size_t lanes = hn::Lanes(d);
  Vec sum[4][V];
  for (std::size_t v = 0; v < V; ++v) {
    sum[0][v] = hn::LoadU(d, y + v * lanes);
    sum[1][v] = sum[2][v] = sum[3][v] = hn::Zero(d);
  }
  std::size_t j = 0;
  for (; j + 4 <= n; j += 4)
#pragma GCC unroll 4
    for (std::size_t u = 0; u < 4; ++u) {
      const Vec weight = hn::Set(d, p[j + u]);
#pragma GCC unroll 2
      for (std::size_t v = 0; v < V; ++v) sum[u][v] = hn::MulAdd(weight, hn::LoadU(d, values + (j + u) * stride + v * lanes), sum[u][v]);
    }
  for (; j < n; ++j)
    for (std::size_t v = 0; v < V; ++v) sum[0][v] = hn::MulAdd(hn::Set(d, p[j]), hn::LoadU(d, values + j * stride + v * lanes), sum[0][v]);
  for (std::size_t v = 0; v < V; ++v) hn::StoreU(hn::Add(hn::Add(sum[0][v], sum[1][v]), hn::Add(sum[2][v], sum[3][v])), d, y + v * lanes);
}

void attend(const CacheShape& shape, std::size_t n, const float* qkv, float* keys, float* values, float* out, float* p) {
  const Tag d;
  const std::size_t lanes = hn::Lanes(d), heads = shape.heads, hd = shape.head_dim, dim = heads * hd, padded = shape.padded();
  const std::size_t blocks = (n + block - 1) / block, last = (n - 1) % block, part = block * hd;  // of one head in a block
  const Vec scale = hn::Set(d, 1 / std::sqrt(static_cast<float>(hd)));
  float* const key_block = keys + (blocks - 1) * heads * part;
  float* const value_block = values + (blocks - 1) * heads * part;
  for (std::size_t h = 0; h < heads; ++h) {
    for (std::size_t c = 0; c < hd; ++c) key_block[h * part + c * block + last] = qkv[dim + h * hd + c];
    std::copy_n(qkv + 2 * dim + h * hd, hd, value_block + h * part + last * hd);
  }

  const float* from = keys;
  const float *const keys_end = keys + blocks * heads * part, *const values_end = values + blocks * heads * part;
  fetch(keys, ahead, keys_end);
  for (std::size_t b = 0; b < blocks; ++b)
    for (std::size_t h = 0; h < heads; ++h, from += part) {
      fetch(from + ahead, part, keys_end);
      const float* q = qkv + h * hd;
      for (std::size_t l = 0; l < block; l += lanes) {
        const float* k = from + l;
        Vec s0 = hn::Zero(d), s1 = s0, s2 = s0, s3 = s0;
        std::size_t c = 0;
        for (; c + 4 <= hd; c += 4, k += 4 * block) {
          s0 = hn::MulAdd(hn::Set(d, q[c]), hn::LoadU(d, k), s0);
          s1 = hn::MulAdd(hn::Set(d, q[c + 1]), hn::LoadU(d, k + block), s1);
          s2 = hn::MulAdd(hn::Set(d, q[c + 2]), hn::LoadU(d, k + 2 * block), s2);
          s3 = hn::MulAdd(hn::Set(d, q[c + 3]), hn::LoadU(d, k + 3 * block), s3);
        }
        for (; c < hd; ++c, k += block) s0 = hn::MulAdd(hn::Set(d, q[c]), hn::LoadU(d, k), s0);
        Vec score = hn::Mul(scale, hn::Add(hn::Add(s0, s1), hn::Add(s2, s3)));
        const std::size_t first = b * block + l;
        if (first + lanes > n) score = hn::IfThenElse(hn::FirstN(d, n > first ? n - first : 0), score, hn::Set(d, -1e30f));
        hn::StoreU(score, d, p + h * padded + first);
      }
    }

  fetch(values, ahead, values_end);
  for (std::size_t h = 0; h < heads; ++h) {
    float* const weights = p + h * padded;
    Vec best = hn::LoadU(d, weights), total = hn::Zero(d);
    for (std::size_t j = lanes; j < blocks * block; j += lanes) best = hn::Max(best, hn::LoadU(d, weights + j));
    const Vec highest = hn::Set(d, hn::GetLane(hn::MaxOfLanes(d, best)));
    for (std::size_t j = 0; j < blocks * block; j += lanes) {
      const Vec e = hn::Exp(d, hn::Sub(hn::LoadU(d, weights + j), highest));
      hn::StoreU(e, d, weights + j);
      total = hn::Add(total, e);
    }
    const Vec factor = hn::Set(d, 1 / hn::GetLane(hn::SumOfLanes(d, total)));
    for (std::size_t j = 0; j < blocks * block; j += lanes) hn::StoreU(hn::Mul(factor, hn::LoadU(d, weights + j)), d, weights + j);
  }

  std::fill_n(out, dim, 0.0f);
  from = values;
  for (std::size_t b = 0; b < blocks; ++b)
    for (std::size_t h = 0; h < heads; ++h, from += part) {
      fetch(from + ahead, part, values_end);
      const std::size_t count = std::min(block, n - b * block);
      const float* const weights = p + h * padded + b * block;
      float* const to = out + h * hd;
      std::size_t c = 0;
      for (; c + 2 * lanes <= hd; c += 2 * lanes) add_weighted<2>(d, count, weights, from + c, hd, to + c);
      for (; c + lanes <= hd; c += lanes) add_weighted<1>(d, count, weights, from + c, hd, to + c);
      for (; c < hd; ++c)
        for (std::size_t j = 0; j < count; ++j) to[c] += weights[j] * from[j * hd + c];
    }
}

void weigh(std::size_t n, const float* logits, float inverse_temperature, float* weights, float* sums) {
  const Tag d;
  const std::size_t lanes = hn::Lanes(d);
  Vec best = hn::Set(d, logits[0]);
  std::size_t i = 0;
  for (; i + lanes <= n; i += lanes) best = hn::Max(best, hn::LoadU(d, logits + i));
  float largest = hn::GetLane(hn::MaxOfLanes(d, best));
  for (; i < n; ++i) largest = std::max(largest, logits[i]);
  const Vec m = hn::Set(d, largest), factor = hn::Set(d, inverse_temperature);
  for (std::size_t start = 0; start < n; start += sampling_block) {
    const std::size_t end = std::min(n, start + sampling_block);
    Vec sum = hn::Zero(d);
    for (i = start; i + lanes <= end; i += lanes) {
      const Vec e = hn::Exp(d, hn::Mul(factor, hn::Sub(hn::LoadU(d, logits + i), m)));
      hn::StoreU(e, d, weights + i);
      sum = hn::Add(sum, e);
    }
    if (i < end) {
      const auto mask = hn::FirstN(d, end - i);
      const Vec e = hn::IfThenElseZero(mask, hn::Exp(d, hn::Mul(factor, hn::Sub(hn::MaskedLoad(mask, d, logits + i), m))));
      hn::BlendedStore(e, mask, d, weights + i);
      sum = hn::Add(sum, e);
    }
    *sums++ = hn::GetLane(hn::SumOfLanes(d, sum));
  }
}

}  // namespace bl::nn::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace bl::nn {
HWY_EXPORT(attend);
HWY_EXPORT(weigh);

void attend_cached(const CacheShape& shape, std::size_t n, const float* qkv, float* keys, float* values, float* out, float* scratch) {
  HWY_DYNAMIC_DISPATCH(attend)(shape, n, qkv, keys, values, out, scratch);
}
void sampling_weights(std::size_t n, const float* logits, float inverse_temperature, float* weights, float* sums) {
  HWY_DYNAMIC_DISPATCH(weigh)(n, logits, inverse_temperature, weights, sums);
}

}  // namespace bl::nn
#endif
