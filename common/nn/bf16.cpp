#include "nn/bf16.hpp"

#include <bit>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "nn/bf16.cpp"
#include <hwy/foreach_target.h>
// after foreach_target
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace bl::nn::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

void to_bf16_kernel(std::size_t n, const float* x, std::uint16_t* y) {
  const hn::ScalableTag<std::uint32_t> d;
  const hn::RebindToFloat<decltype(d)> df;
  const hn::Rebind<std::uint16_t, decltype(d)> half;
  const auto rounded = [&](auto value) HWY_ATTR {
    const auto bits = hn::BitCast(d, value);
    const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(d, 1u));
    const auto nearest = hn::ShiftRight<16>(hn::Add(bits, hn::Add(odd, hn::Set(d, 0x7fffu))));
    const auto quiet = hn::Or(hn::ShiftRight<16>(bits), hn::Set(d, 0x40u));  // adding could carry a NaN over to a number
    return hn::IfThenElse(hn::RebindMask(d, hn::IsNaN(value)), quiet, nearest);
  };
  const std::size_t lanes = hn::Lanes(d);
  std::size_t i = 0;
  for (; i + lanes <= n; i += lanes) hn::StoreU(hn::TruncateTo(half, rounded(hn::LoadU(df, x + i))), half, y + i);
  for (; i < n; ++i) {
    const auto bits = std::bit_cast<std::uint32_t>(x[i]);
    const bool nan = (bits & 0x7fffffffu) > 0x7f800000u;
    y[i] = static_cast<std::uint16_t>(nan ? (bits >> 16) | 0x40u : (bits + ((bits >> 16) & 1u) + 0x7fffu) >> 16);
  }
}

void from_bf16_kernel(std::size_t n, const std::uint16_t* x, float* y) {
  const hn::ScalableTag<std::uint32_t> d;
  const hn::RebindToFloat<decltype(d)> df;
  const hn::Rebind<std::uint16_t, decltype(d)> half;
  const std::size_t lanes = hn::Lanes(d);
  std::size_t i = 0;
  for (; i + lanes <= n; i += lanes) hn::StoreU(hn::BitCast(df, hn::ShiftLeft<16>(hn::PromoteTo(d, hn::LoadU(half, x + i)))), df, y + i);
  for (; i < n; ++i) y[i] = std::bit_cast<float>(static_cast<std::uint32_t>(x[i]) << 16);
}

}  // namespace bl::nn::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace bl::nn {
HWY_EXPORT(to_bf16_kernel);
HWY_EXPORT(from_bf16_kernel);

static_assert(sizeof(Bf16) == 2);
void to_bf16(std::size_t n, const float* x, Bf16* y) { HWY_DYNAMIC_DISPATCH(to_bf16_kernel)(n, x, reinterpret_cast<std::uint16_t*>(y)); }
void from_bf16(std::size_t n, const Bf16* x, float* y) { HWY_DYNAMIC_DISPATCH(from_bf16_kernel)(n, reinterpret_cast<const std::uint16_t*>(x), y); }

}  // namespace bl::nn
#endif
