#include "nn/ops/rows.hpp"

#include <algorithm>

#include "base/error.hpp"
#include "nn/kernels.hpp"

namespace bl::nn {

template <class T>
Var<T> gather_rows(Tape<T>& tape, Var<T> x, std::span<const std::int32_t> ids) {
  const std::size_t width = x->width;
  Var<T> y = tape.make(ids.size(), width);
  for (std::size_t i = 0; i < ids.size(); ++i) std::copy_n(x->value + static_cast<std::size_t>(ids[i]) * width, width, y->value + i * width);
  tape.record([&tape, x, ids, y] {
    if (y->grad == nullptr) return;
    if (T* dx = tape.open_zeroed(x))
      for (std::size_t i = 0; i < ids.size(); ++i) {
        T* to = dx + static_cast<std::size_t>(ids[i]) * x->width;
        kernels<T>().add(x->width, to, y->grad + i * x->width, to);
      }
    tape.close(y);
  });
  return y;
}

template <class T>
Var<T> segment_mean(Tape<T>& tape, Var<T> x, std::span<const std::int32_t> offsets) {
  check(!offsets.empty() && static_cast<std::size_t>(offsets.back()) == x->rows, "segment_mean: offsets do not cover the rows");
  const std::size_t width = x->width;
  Var<T> y = tape.make(offsets.size() - 1, width);
  std::fill_n(y->value, y->size(), T{0});
  const auto weight = [](std::span<const std::int32_t> o, std::size_t s) { return T{1} / static_cast<T>(o[s + 1] - o[s]); };
  for (std::size_t s = 0; s + 1 < offsets.size(); ++s)
    for (std::int32_t r = offsets[s]; r < offsets[s + 1]; ++r)
      kernels<T>().add_scaled(width, weight(offsets, s), x->value + static_cast<std::size_t>(r) * width, y->value + s * width);
  tape.record([&tape, x, offsets, weight, y] {
    if (y->grad == nullptr) return;
    if (T* dx = tape.open_zeroed(x))
      for (std::size_t s = 0; s + 1 < offsets.size(); ++s)
        for (std::int32_t r = offsets[s]; r < offsets[s + 1]; ++r)
          kernels<T>().add_scaled(x->width, weight(offsets, s), y->grad + s * x->width, dx + static_cast<std::size_t>(r) * x->width);
    tape.close(y);
  });
  return y;
}

#define BEAMLINE_INSTANTIATE(T)                                                 \
  template Var<T> gather_rows(Tape<T>&, Var<T>, std::span<const std::int32_t>); \
  template Var<T> segment_mean(Tape<T>&, Var<T>, std::span<const std::int32_t>);
BEAMLINE_INSTANTIATE(float)
BEAMLINE_INSTANTIATE(double)
#undef BEAMLINE_INSTANTIATE

}  // namespace bl::nn
