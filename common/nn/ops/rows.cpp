#include "nn/ops/rows.hpp"

#include <algorithm>
#include <cmath>

#include "base/error.hpp"
#include "nn/kernels.hpp"

namespace bl::nn {
namespace {

using Offsets = std::span<const std::int32_t>;

void check_cover(Offsets offsets, std::size_t rows, const char* what) {
  check(!offsets.empty() && offsets.front() == 0 && static_cast<std::size_t>(offsets.back()) == rows, what);
}

std::size_t segments(Offsets offsets) { return offsets.size() - 1; }
std::size_t first_row(Offsets offsets, std::size_t s) { return static_cast<std::size_t>(offsets[s]); }

// What arrives for `n` numbers is written, or added to what is there.
template <class T>
void put(std::size_t n, const T* from, T* to, bool accumulate) {
  if (accumulate) kernels<T>().add(n, to, from, to);
  else std::copy_n(from, n, to);
}

template <class T>
struct Part {
  Var<T> var;
};

// The parts of a concatenation, kept for the backward.
template <class T>
Part<T>* keep(Tape<T>& tape, std::span<const Var<T>> parts) {
  auto* const kept = tape.arena().template take<Part<T>>(parts.size());
  for (std::size_t p = 0; p < parts.size(); ++p) kept[p] = {parts[p]};
  return kept;
}

template <class T>
bool any_wants_grad(std::span<const Var<T>> parts) {
  return std::ranges::any_of(parts, [](Var<T> part) { return part->wants_grad; });
}

template <class T>
T segment_weight(Offsets offsets, std::size_t s, bool mean) {
  return mean ? T{1} / static_cast<T>(offsets[s + 1] - offsets[s]) : T{1};
}

template <class T>
Var<T> segment_total(Tape<T>& tape, Var<T> x, Offsets offsets, bool mean) {
  check_cover(offsets, x->rows, "segment_mean, segment_sum: offsets do not cover the rows");
  const std::size_t width = x->width;
  Var<T> y = tape.make(segments(offsets), width, {x});
  std::fill_n(y->value, y->size(), T{0});
  for (std::size_t s = 0; s < y->rows; ++s)
    for (std::size_t r = first_row(offsets, s); r < first_row(offsets, s + 1); ++r)
      kernels<T>().add_scaled(width, segment_weight<T>(offsets, s, mean), x->value + r * width, y->value + s * width);
  tape.record([&tape, x, offsets, mean, y] {
    if (y->grad == nullptr) return;
    if (T* dx = tape.open_zeroed(x))
      for (std::size_t s = 0; s < y->rows; ++s)
        for (std::size_t r = first_row(offsets, s); r < first_row(offsets, s + 1); ++r)
          kernels<T>().add_scaled(x->width, segment_weight<T>(offsets, s, mean), y->grad + s * x->width, dx + r * x->width);
    tape.close(y);
  });
  return y;
}

}  // namespace

template <class T>
Var<T> gather_rows(Tape<T>& tape, Var<T> x, std::span<const std::int32_t> ids) {
  const std::size_t width = x->width;
  Var<T> y = tape.make(ids.size(), width, {x});
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
Var<T> scatter_add_rows(Tape<T>& tape, Var<T> x, std::span<const std::int32_t> ids, std::size_t rows) {
  check(ids.size() == x->rows, "scatter_add_rows: not one id for each row");
  const std::size_t width = x->width;
  Var<T> y = tape.make(rows, width, {x});
  std::fill_n(y->value, y->size(), T{0});
  for (std::size_t i = 0; i < ids.size(); ++i) {
    T* to = y->value + static_cast<std::size_t>(ids[i]) * width;
    kernels<T>().add(width, to, x->value + i * width, to);
  }
  tape.record([&tape, x, ids, y] {
    if (y->grad == nullptr) return;
    if (const Grad<T> dx = tape.open(x))
      for (std::size_t i = 0; i < ids.size(); ++i) put(x->width, y->grad + static_cast<std::size_t>(ids[i]) * x->width, dx.data + i * x->width, dx.accumulate);
    tape.close(y);
  });
  return y;
}

template <class T>
Var<T> segment_mean(Tape<T>& tape, Var<T> x, std::span<const std::int32_t> offsets) {
  return segment_total(tape, x, offsets, true);
}

template <class T>
Var<T> segment_sum(Tape<T>& tape, Var<T> x, std::span<const std::int32_t> offsets) {
  return segment_total(tape, x, offsets, false);
}

template <class T>
Var<T> segment_max(Tape<T>& tape, Var<T> x, std::span<const std::int32_t> offsets) {
  check_cover(offsets, x->rows, "segment_max: offsets do not cover the rows");
  const std::size_t width = x->width;
  Var<T> y = tape.make(segments(offsets), width, {x});
  std::fill_n(y->value, y->size(), T{0});
  auto* const winner = tape.arena().template take<std::int32_t>(y->size());
  for (std::size_t s = 0; s < y->rows; ++s) {
    const std::size_t first = first_row(offsets, s), last = first_row(offsets, s + 1);
    if (first == last) continue;
    T* best = y->value + s * width;
    std::int32_t* from = winner + s * width;
    std::copy_n(x->value + first * width, width, best);
    std::fill_n(from, width, offsets[s]);
    for (std::size_t r = first + 1; r < last; ++r)
      for (std::size_t c = 0; c < width; ++c) {
        const T v = x->value[r * width + c];
        if (v > best[c] || (std::isnan(v) && !std::isnan(best[c]))) {
          best[c] = v;
          from[c] = static_cast<std::int32_t>(r);
        }
      }
  }
  tape.record([&tape, x, offsets, winner, y] {
    if (y->grad == nullptr) return;
    if (T* dx = tape.open_zeroed(x))
      for (std::size_t s = 0; s < y->rows; ++s) {
        if (offsets[s] == offsets[s + 1]) continue;
        for (std::size_t c = 0; c < x->width; ++c) dx[static_cast<std::size_t>(winner[s * x->width + c]) * x->width + c] += y->grad[s * x->width + c];
      }
    tape.close(y);
  });
  return y;
}

template <class T>
Var<T> segment_softmax_sum(Tape<T>& tape, Var<T> x, Var<T> logits, std::span<const std::int32_t> offsets) {
  check_cover(offsets, x->rows, "segment_softmax_sum: offsets do not cover the rows");
  check(logits->rows == x->rows && logits->width > 0 && x->width % logits->width == 0,
        "segment_softmax_sum: logits are not (rows, heads), or the width is no multiple of the heads");
  const std::size_t width = x->width, heads = logits->width, dim = width / heads;
  Var<T> y = tape.make(segments(offsets), width, {x, logits});
  std::fill_n(y->value, y->size(), T{0});
  T* const weight = tape.arena().template take<T>(logits->size());  // the softmax, kept for the backward
  for (std::size_t s = 0; s < y->rows; ++s) {
    const std::size_t first = first_row(offsets, s), last = first_row(offsets, s + 1);
    for (std::size_t h = 0; first < last && h < heads; ++h) {
      T largest = logits->value[first * heads + h];
      for (std::size_t r = first + 1; r < last; ++r) largest = std::max(largest, logits->value[r * heads + h]);
      T sum = 0;
      for (std::size_t r = first; r < last; ++r) sum += weight[r * heads + h] = std::exp(logits->value[r * heads + h] - largest);
      for (std::size_t r = first; r < last; ++r) {
        weight[r * heads + h] /= sum;
        kernels<T>().add_scaled(dim, weight[r * heads + h], x->value + r * width + h * dim, y->value + s * width + h * dim);
      }
    }
  }
  tape.record([&tape, x, logits, offsets, weight, dim, y] {
    if (y->grad == nullptr) return;
    T* const dx = tape.open_zeroed(x);
    T* const dlogits = tape.open_zeroed(logits);
    const std::size_t n = logits->width;
    const auto dot = [dim](const T* a, const T* b) {
      T sum = 0;
      for (std::size_t i = 0; i < dim; ++i) sum += a[i] * b[i];
      return sum;
    };
    for (std::size_t s = 0; s < y->rows; ++s)
      for (std::size_t h = 0; h < n; ++h) {
        const T* const dy = y->grad + s * x->width + h * dim;
        const T mean = dot(y->value + s * x->width + h * dim, dy);
        for (std::size_t r = first_row(offsets, s); r < first_row(offsets, s + 1); ++r) {
          const std::size_t at = r * x->width + h * dim;
          const T w = weight[r * n + h];
          if (dx != nullptr) kernels<T>().add_scaled(dim, w, dy, dx + at);
          if (dlogits != nullptr) dlogits[r * n + h] += w * (dot(x->value + at, dy) - mean);
        }
      }
    tape.close(y);
  });
  return y;
}

template <class T>
Var<T> broadcast_rows(Tape<T>& tape, Var<T> x, std::span<const std::int32_t> offsets) {
  check(offsets.size() == x->rows + 1 && offsets.front() == 0, "broadcast_rows: not one segment for each row");
  const std::size_t width = x->width;
  Var<T> y = tape.make(static_cast<std::size_t>(offsets.back()), width, {x});
  for (std::size_t s = 0; s < x->rows; ++s)
    for (std::size_t r = first_row(offsets, s); r < first_row(offsets, s + 1); ++r) std::copy_n(x->value + s * width, width, y->value + r * width);
  tape.record([&tape, x, offsets, y] {
    if (y->grad == nullptr) return;
    if (T* dx = tape.open_zeroed(x))
      for (std::size_t s = 0; s < x->rows; ++s)
        for (std::size_t r = first_row(offsets, s); r < first_row(offsets, s + 1); ++r)
          kernels<T>().add(x->width, dx + s * x->width, y->grad + r * x->width, dx + s * x->width);
    tape.close(y);
  });
  return y;
}

template <class T>
Var<T> concat_columns(Tape<T>& tape, std::span<const Var<T>> parts) {
  check(!parts.empty(), "concat_columns of nothing");
  std::size_t width = 0;
  for (const Var<T> part : parts) {
    check(part->rows == parts[0]->rows, "concat_columns: parts with different numbers of rows");
    width += part->width;
  }
  Var<T> y = tape.make(parts[0]->rows, width);
  y->wants_grad = any_wants_grad(parts);
  std::size_t first = 0;
  for (const Var<T> part : parts) {
    for (std::size_t r = 0; r < y->rows; ++r) std::copy_n(part->value + r * part->width, part->width, y->value + r * width + first);
    first += part->width;
  }
  tape.record([&tape, kept = keep(tape, parts), n = parts.size(), y] {
    if (y->grad == nullptr) return;
    std::size_t at = 0;
    for (std::size_t p = 0; p < n; at += kept[p].var->width, ++p)
      if (const Grad<T> d = tape.open(kept[p].var))
        for (std::size_t r = 0; r < y->rows; ++r) put(kept[p].var->width, y->grad + r * y->width + at, d.data + r * kept[p].var->width, d.accumulate);
    tape.close(y);
  });
  return y;
}

template <class T>
Var<T> concat_rows(Tape<T>& tape, std::span<const Var<T>> parts) {
  check(!parts.empty(), "concat_rows of nothing");
  std::size_t rows = 0;
  for (const Var<T> part : parts) {
    check(part->width == parts[0]->width, "concat_rows: parts of different width");
    rows += part->rows;
  }
  Var<T> y = tape.make(rows, parts[0]->width);
  y->wants_grad = any_wants_grad(parts);
  std::size_t first = 0;
  for (const Var<T> part : parts) {
    std::copy_n(part->value, part->size(), y->value + first);
    first += part->size();
  }
  tape.record([&tape, kept = keep(tape, parts), n = parts.size(), y] {
    if (y->grad == nullptr) return;
    std::size_t at = 0;
    for (std::size_t p = 0; p < n; at += kept[p].var->size(), ++p)
      if (const Grad<T> d = tape.open(kept[p].var)) put(kept[p].var->size(), y->grad + at, d.data, d.accumulate);
    tape.close(y);
  });
  return y;
}

template <class T>
Var<T> slice_columns(Tape<T>& tape, Var<T> x, std::size_t first, std::size_t width) {
  check(first <= x->width && width <= x->width - first, "slice_columns: more columns than there are");
  Var<T> y = tape.make(x->rows, width, {x});
  for (std::size_t r = 0; r < x->rows; ++r) std::copy_n(x->value + r * x->width + first, width, y->value + r * width);
  tape.record([&tape, x, first, y] {
    if (y->grad == nullptr) return;
    if (T* dx = tape.open_zeroed(x))
      for (std::size_t r = 0; r < x->rows; ++r) {
        T* to = dx + r * x->width + first;
        kernels<T>().add(y->width, to, y->grad + r * y->width, to);
      }
    tape.close(y);
  });
  return y;
}

#define BEAMLINE_INSTANTIATE(T)                                                                   \
  template Var<T> gather_rows(Tape<T>&, Var<T>, std::span<const std::int32_t>);                   \
  template Var<T> scatter_add_rows(Tape<T>&, Var<T>, std::span<const std::int32_t>, std::size_t); \
  template Var<T> segment_mean(Tape<T>&, Var<T>, std::span<const std::int32_t>);                  \
  template Var<T> segment_sum(Tape<T>&, Var<T>, std::span<const std::int32_t>);                   \
  template Var<T> segment_max(Tape<T>&, Var<T>, std::span<const std::int32_t>);                   \
  template Var<T> segment_softmax_sum(Tape<T>&, Var<T>, Var<T>, std::span<const std::int32_t>);   \
  template Var<T> broadcast_rows(Tape<T>&, Var<T>, std::span<const std::int32_t>);                \
  template Var<T> concat_columns(Tape<T>&, std::span<const Var<T>>);                              \
  template Var<T> concat_rows(Tape<T>&, std::span<const Var<T>>);                                 \
  template Var<T> slice_columns(Tape<T>&, Var<T>, std::size_t, std::size_t);
BEAMLINE_INSTANTIATE(float)
BEAMLINE_INSTANTIATE(double)
#undef BEAMLINE_INSTANTIATE

}  // namespace bl::nn
