#include "nn/panels.hpp"

#include <algorithm>
#include <array>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "nn/panels.cpp"
#include <hwy/foreach_target.h>
// after foreach_target
#include <hwy/highway.h>

// Without it the tile below is kept in memory instead of registers.
#if defined(__clang__)
#define BEAMLINE_UNROLL _Pragma("unroll")
#else
#define BEAMLINE_UNROLL _Pragma("GCC unroll 16")
#endif

HWY_BEFORE_NAMESPACE();
namespace bl::nn::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

constexpr std::size_t panel = 32;  // columns
// The block of k over which a tile is summed in registers: its 14 rows of x (14 KiB) stay in the L1 cache, and the rows lie
// so far apart that they do not fall on the same cache lines, as those of a matrix with 1,024 columns would.
constexpr std::size_t block_k = 256, distance = block_k + 16;
constexpr std::size_t ahead = 128 * panel;  // floats of B that are fetched before they are needed: 16 KiB
constexpr std::size_t block_n = 512;        // columns whose panels stay in the L2 cache (512 KiB)

using Tag = hn::CappedTag<float, panel / 2>;
constexpr std::size_t lanes = hn::MaxLanes(Tag());
// Two vectors of columns and as many rows as the registers hold: 32 of AVX-512, 16 otherwise.
constexpr std::size_t most_rows = HWY_TARGET <= HWY_AVX3 ? 14 : 6;

// Two vectors of y for `valid` of M rows: M · 2 sums in registers.
template <std::size_t M>
HWY_NOINLINE void tile(std::size_t k, const float* HWY_RESTRICT x, const float* HWY_RESTRICT b, float* HWY_RESTRICT y, std::size_t ldy, std::size_t valid,
                       bool accumulate) {
  const Tag d;
  using V = hn::Vec<Tag>;
  V left[M], right[M];
  BEAMLINE_UNROLL
  for (std::size_t r = 0; r < M; ++r) left[r] = right[r] = hn::Zero(d);
  // Fetched while the sums are made: on layers of 64 and 128 wide this is worth a tenth.
  BEAMLINE_UNROLL
  for (std::size_t r = 0; r < M; ++r) {
    __builtin_prefetch(y + r * ldy, 1);
    __builtin_prefetch(y + r * ldy + lanes, 1);
  }
  for (std::size_t i = 0; i < k; ++i, ++x, b += panel) {
    // The processor's own prefetching stops at every page, and weights are read through once.
    __builtin_prefetch(b + ahead);
    __builtin_prefetch(b + ahead + lanes);
    const V b0 = hn::LoadU(d, b), b1 = hn::LoadU(d, b + lanes);
    BEAMLINE_UNROLL
    for (std::size_t r = 0; r < M; ++r) {
      const V a = hn::Set(d, x[r * distance]);
      left[r] = hn::MulAdd(a, b0, left[r]);
      right[r] = hn::MulAdd(a, b1, right[r]);
    }
  }
  BEAMLINE_UNROLL
  for (std::size_t r = 0; r < M; ++r) {
    if (r >= valid) break;
    float* const to = y + r * ldy;
    hn::StoreU(accumulate ? hn::Add(hn::LoadU(d, to), left[r]) : left[r], d, to);
    hn::StoreU(accumulate ? hn::Add(hn::LoadU(d, to + lanes), right[r]) : right[r], d, to + lanes);
  }
}

void tile_of(std::size_t rows, std::size_t k, const float* x, const float* b, float* y, std::size_t ldy, bool accumulate) {
  if (rows > 6) {
    if (rows > 8) tile<most_rows>(k, x, b, y, ldy, rows, accumulate);
    else tile<std::min<std::size_t>(8, most_rows)>(k, x, b, y, ldy, rows, accumulate);
  } else if (rows > 4) {
    tile<6>(k, x, b, y, ldy, rows, accumulate);
  } else if (rows > 2) {
    tile<4>(k, x, b, y, ldy, rows, accumulate);
  } else if (rows == 2) {
    tile<2>(k, x, b, y, ldy, rows, accumulate);
  } else {
    tile<1>(k, x, b, y, ldy, rows, accumulate);
  }
}

void multiply(std::size_t rows, std::size_t k, std::size_t n, const float* x, std::size_t ldx, const float* panels, float* y, std::size_t ldy,
              bool accumulate) {
  alignas(64) thread_local std::array<float, most_rows * distance> some;  // rows of x
  alignas(64) std::array<float, most_rows * panel> edge;                  // of y, where the last panel has fewer columns
  for (std::size_t n0 = 0; n0 < n; n0 += block_n) {
    const std::size_t n1 = std::min(n, n0 + block_n);
    for (std::size_t k0 = 0; k0 < k; k0 += block_k) {
      const std::size_t width = std::min(block_k, k - k0);
      const bool add = accumulate || k0 > 0;
      for (std::size_t r0 = 0; r0 < rows; r0 += most_rows) {
        const std::size_t count = std::min(most_rows, rows - r0);
        for (std::size_t r = 0; r < count; ++r) std::copy_n(x + (r0 + r) * ldx + k0, width, some.data() + r * distance);
        for (std::size_t r = count; r < most_rows; ++r) std::fill_n(some.data() + r * distance, width, 0.0f);
        for (std::size_t j = n0; j < n1; j += panel) {
          const float* const b = panels + j * k + k0 * panel;
          float* const to = y + r0 * ldy + j;
          const bool whole = n1 - j >= panel;
          for (std::size_t c = 0; c < panel; c += 2 * lanes) {
            if (whole) tile_of(count, width, some.data(), b + c, to + c, ldy, add);
            else tile_of(count, width, some.data(), b + c, edge.data() + c, panel, false);
          }
          if (whole) continue;
          for (std::size_t r = 0; r < count; ++r)
            for (std::size_t c = 0; c < n1 - j; ++c) to[r * ldy + c] = add ? to[r * ldy + c] + edge[r * panel + c] : edge[r * panel + c];
        }
      }
    }
  }
}

}  // namespace bl::nn::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace bl::nn {
HWY_EXPORT(multiply);

void pack_panels(Trans tb, std::size_t k, std::size_t n, const float* b, std::size_t ldb, float* panels) {
  constexpr std::size_t panel = 32;
  for (std::size_t j = 0; j < n; j += panel, panels += panel * k) {
    const std::size_t columns = std::min(panel, n - j);
    if (columns < panel) std::fill_n(panels, panel * k, 0.0f);
    if (tb == Trans::no) {
      for (std::size_t i = 0; i < k; ++i) std::copy_n(b + i * ldb + j, columns, panels + i * panel);
      continue;
    }
    constexpr std::size_t step = 16;  // a cache line of each of the rows
    for (std::size_t start = 0; start < k; start += step)
      for (std::size_t c = 0; c < columns; ++c)
        for (std::size_t i = start, end = std::min(k, start + step); i < end; ++i) panels[i * panel + c] = b[(j + c) * ldb + i];
  }
}

void multiply_panels(std::size_t rows, std::size_t k, std::size_t n, const float* x, std::size_t ldx, const float* panels, float* y, std::size_t ldy,
                     bool accumulate) {
  HWY_DYNAMIC_DISPATCH(multiply)(rows, k, n, x, ldx, panels, y, ldy, accumulate);
}

}  // namespace bl::nn
#endif
