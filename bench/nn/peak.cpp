#include "peak.hpp"

#include <time.h>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "peak.cpp"
#include <hwy/foreach_target.h>
// after foreach_target
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace bl::bench::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Twelve independent sums hide the latency of the multiply-add and fit into sixteen registers. Returns floating-point
// operations; the result goes to *sink so that nothing is left out.
double multiply_add(long rounds, float* sink) {
  const hn::ScalableTag<float> d;
  using V = hn::Vec<decltype(d)>;
  const V b = hn::Set(d, 0.999f), c = hn::Set(d, 0.001f);
  // Different starts: the compiler would see that equal sums stay equal, and compute one of them.
  const auto at = [&](float x) HWY_ATTR { return hn::Set(d, x + *sink); };
  V s0 = at(0), s1 = at(1), s2 = at(2), s3 = at(3), s4 = at(4), s5 = at(5), s6 = at(6), s7 = at(7), s8 = at(8), s9 = at(9), s10 = at(10), s11 = at(11);
  for (long i = 0; i < rounds; ++i) {
    s0 = hn::MulAdd(s0, b, c), s1 = hn::MulAdd(s1, b, c), s2 = hn::MulAdd(s2, b, c), s3 = hn::MulAdd(s3, b, c);
    s4 = hn::MulAdd(s4, b, c), s5 = hn::MulAdd(s5, b, c), s6 = hn::MulAdd(s6, b, c), s7 = hn::MulAdd(s7, b, c);
    s8 = hn::MulAdd(s8, b, c), s9 = hn::MulAdd(s9, b, c), s10 = hn::MulAdd(s10, b, c), s11 = hn::MulAdd(s11, b, c);
  }
  const V a = hn::Add(hn::Add(hn::Add(s0, s1), hn::Add(s2, s3)), hn::Add(hn::Add(s4, s5), hn::Add(s6, s7)));
  *sink = hn::GetLane(hn::SumOfLanes(d, hn::Add(a, hn::Add(hn::Add(s8, s9), hn::Add(s10, s11)))));
  return 24.0 * static_cast<double>(hn::Lanes(d)) * static_cast<double>(rounds);
}

}  // namespace bl::bench::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace bl::bench {
HWY_EXPORT(multiply_add);

double fma_peak(double seconds) {
  const auto now = [] {
    timespec t{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
  };
  volatile float keep = 0;
  double best = 0;
  for (const double start = now(); now() - start < seconds;) {
    float sink = 0;
    const double t = now(), flops = HWY_DYNAMIC_DISPATCH(multiply_add)(1000000, &sink);
    keep = keep + sink;
    const double rate = flops / (now() - t) * 1e-9;
    best = best > rate ? best : rate;
  }
  return best;
}

}  // namespace bl::bench
#endif
