#include "nn/ops/embedding.hpp"

#include <algorithm>

#include "base/error.hpp"
#include "nn/kernels.hpp"

namespace bl::nn {

template <class T>
void embedding_forward(std::size_t rows, std::span<const Lookup<T>> lookups, T* y) {
  const std::size_t width = lookups[0].table->width;
  const auto row = [&](const Lookup<T>& l, std::size_t r) { return l.table->value + static_cast<std::size_t>(l.ids[r]) * width; };
  for (std::size_t r = 0; r < rows; ++r, y += width) {
    if (lookups.size() == 1) {
      std::copy_n(row(lookups[0], r), width, y);
      continue;
    }
    kernels<T>().add(width, row(lookups[0], r), row(lookups[1], r), y);
    for (std::size_t t = 2; t < lookups.size(); ++t) kernels<T>().add(width, y, row(lookups[t], r), y);
  }
}

template <class T>
void embedding_backward(Tape<T>& tape, std::size_t rows, std::span<const Lookup<T>> lookups, const T* dy) {
  for (const Lookup<T>& l : lookups) {
    T* g = tape.open_zeroed(l.table);
    if (g == nullptr) continue;
    const std::size_t width = l.table->width;
    for (std::size_t r = 0; r < rows; ++r) {
      T* to = g + static_cast<std::size_t>(l.ids[r]) * width;
      kernels<T>().add(width, to, dy + r * width, to);
    }
  }
}

template <class T>
Var<T> embedding(Tape<T>& tape, std::size_t rows, std::span<const Lookup<T>> lookups) {
  check(!lookups.empty(), "embedding without a table");
  for (const Lookup<T>& l : lookups) check(l.table->width == lookups[0].table->width, "embedding: tables of different width");
  Var<T> y = tape.make(rows, lookups[0].table->width);
  y->wants_grad = std::ranges::any_of(lookups, [](const Lookup<T>& l) { return l.table->wants_grad; });
  embedding_forward(rows, lookups, y->value);
  auto* kept = tape.arena().template take<Lookup<T>>(lookups.size());
  std::copy(lookups.begin(), lookups.end(), kept);
  tape.record([&tape, rows, kept, n = lookups.size(), y] {
    if (y->grad == nullptr) return;
    embedding_backward(tape, rows, std::span<const Lookup<T>>(kept, n), y->grad);
    tape.close(y);
  });
  return y;
}

#define BEAMLINE_INSTANTIATE(T)                                                                  \
  template void embedding_forward(std::size_t, std::span<const Lookup<T>>, T*);                  \
  template void embedding_backward(Tape<T>&, std::size_t, std::span<const Lookup<T>>, const T*); \
  template Var<T> embedding(Tape<T>&, std::size_t, std::span<const Lookup<T>>);
BEAMLINE_INSTANTIATE(float)
BEAMLINE_INSTANTIATE(double)
#undef BEAMLINE_INSTANTIATE

}  // namespace bl::nn
