#include "nn/ops/elementwise.hpp"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/error.hpp"

namespace bl::nn {
namespace {

constexpr std::size_t lanes = 16;         // counters at a time: plain loops that the compiler turns into vectors
constexpr std::size_t block = lanes * 8;  // a counter gives four words of 32 bits, each decides two elements

// Philox4x32-10 (Salmon et al., SC11) for `lanes` consecutive first counter words; equal to Random123's, which a test shows.
void philox(std::uint32_t first, const RandomState& random, std::array<std::array<std::uint32_t, lanes>, 4>& c) {
  for (std::size_t l = 0; l < lanes; ++l) {
    c[0][l] = first + static_cast<std::uint32_t>(l);
    c[1][l] = random.op;
    c[2][l] = random.shard;
    c[3][l] = random.step;
  }
  auto k0 = static_cast<std::uint32_t>(random.seed), k1 = static_cast<std::uint32_t>(random.seed >> 32);
  for (int round = 0; round < 10; ++round, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u)
    for (std::size_t l = 0; l < lanes; ++l) {
      const std::uint64_t a = std::uint64_t{0xD2511F53u} * c[0][l], b = std::uint64_t{0xCD9E8D57u} * c[2][l];
      const std::uint32_t c1 = c[1][l], c3 = c[3][l];
      c[0][l] = static_cast<std::uint32_t>(b >> 32) ^ c1 ^ k0;
      c[1][l] = static_cast<std::uint32_t>(b);
      c[2][l] = static_cast<std::uint32_t>(a >> 32) ^ c3 ^ k1;
      c[3][l] = static_cast<std::uint32_t>(a);
    }
}

// to = a · b, or to += a · b
template <class T>
void multiply(std::size_t n, const T* a, const T* b, T* to, bool accumulate) {
  if (accumulate)
    for (std::size_t i = 0; i < n; ++i) to[i] += a[i] * b[i];
  else
    for (std::size_t i = 0; i < n; ++i) to[i] = a[i] * b[i];
}

// f(s, r): s is the sequence of row r, or r itself without offsets.
template <class F>
void each_row(std::size_t rows, std::span<const std::int32_t> offsets, const F& f) {
  if (offsets.empty())
    for (std::size_t r = 0; r < rows; ++r) f(r, r);
  else
    for (std::size_t s = 0; s + 1 < offsets.size(); ++s)
      for (auto r = static_cast<std::size_t>(offsets[s]); r < static_cast<std::size_t>(offsets[s + 1]); ++r) f(s, r);
}

}  // namespace

template <class T>
void dropout_apply(std::size_t n, const T* x, double p, const RandomState& random, T* y, bool accumulate) {
  const auto threshold = static_cast<std::uint32_t>(std::lround(p * 65536));
  const T scale = static_cast<T>(65536.0 / (65536.0 - threshold));
  std::array<std::array<std::uint32_t, lanes>, 4> words;
  std::array<T, block> factor;
  for (std::size_t start = 0; start < n; start += block) {
    philox(static_cast<std::uint32_t>(start / 8), random, words);
    for (std::size_t w = 0; w < 4; ++w)
      for (std::size_t l = 0; l < lanes; ++l) {
        factor[l * 8 + w * 2] = (words[w][l] & 0xffffu) < threshold ? T{0} : scale;
        factor[l * 8 + w * 2 + 1] = (words[w][l] >> 16) < threshold ? T{0} : scale;
      }
    const std::size_t m = n - start < block ? n - start : block;
    if (accumulate)
      for (std::size_t i = 0; i < m; ++i) y[start + i] += x[start + i] * factor[i];
    else
      for (std::size_t i = 0; i < m; ++i) y[start + i] = x[start + i] * factor[i];
  }
}

template <class T>
Var<T> dropout(Tape<T>& tape, Var<T> x, double p) {
  check(p >= 0 && p < 1, "dropout: probability out of [0, 1)");
  if (!tape.training() || p == 0) return x;
  Var<T> y = tape.make(x->rows, x->width, {x});
  const RandomState random = tape.next_random();
  dropout_apply(x->size(), x->value, p, random, y->value, false);
  tape.record([&tape, x, p, random, y] {
    if (y->grad == nullptr) return;
    if (const Grad<T> dx = tape.open(x)) dropout_apply(x->size(), y->grad, p, random, dx.data, dx.accumulate);
    tape.close(y);
  });
  return y;
}

template <class T>
Var<T> stochastic_depth(Tape<T>& tape, Var<T> x, std::span<const std::int32_t> offsets, double p) {
  check(p >= 0 && p < 1, "stochastic_depth: probability out of [0, 1)");
  check(!offsets.empty() && static_cast<std::size_t>(offsets.back()) == x->rows, "stochastic_depth: offsets do not cover the rows");
  if (!tape.training() || p == 0) return x;
  const std::size_t sequences = offsets.size() - 1;
  T* const factor = tape.arena().template take<T>(sequences);
  std::fill_n(factor, sequences, T{1});
  dropout_apply(sequences, factor, p, tape.next_random(), factor, false);
  Var<T> y = tape.make(x->rows, x->width, {x});
  const std::size_t width = x->width;
  each_row(x->rows, offsets, [&](std::size_t s, std::size_t r) {
    for (std::size_t c = r * width; c < (r + 1) * width; ++c) y->value[c] = factor[s] == 0 ? T{0} : x->value[c] * factor[s];
  });
  tape.record([&tape, x, offsets, factor, y] {
    if (y->grad == nullptr) return;
    if (T* dx = tape.open_zeroed(x))
      each_row(x->rows, offsets, [&](std::size_t s, std::size_t r) {
        if (factor[s] != 0) kernels<T>().add_scaled(x->width, factor[s], y->grad + r * x->width, dx + r * x->width);
      });
    tape.close(y);
  });
  return y;
}

template <class T>
Var<T> activation(Tape<T>& tape, Var<T> x, Activation act) {
  if (act == Activation::none) return x;
  Var<T> y = tape.make(x->rows, x->width, {x});
  T* const slope = y->wants_grad ? tape.arena().template take<T>(x->size()) : nullptr;
  kernels<T>().bias_activation(1, x->size(), x->value, nullptr, act, nullptr, y->value, slope);
  tape.record([&tape, x, slope, y] {
    if (y->grad == nullptr) return;
    if (const Grad<T> dx = tape.open(x)) multiply(x->size(), y->grad, slope, dx.data, dx.accumulate);
    tape.close(y);
  });
  return y;
}

template <class T>
Var<T> gate(Tape<T>& tape, Var<T> x, Var<T> g, Activation act) {
  check(x->rows == g->rows && x->width == g->width, "gate: shapes do not fit");
  const std::size_t n = x->size();
  Var<T> y = tape.make(x->rows, x->width, {x, g});
  const T* factor = g->value;
  const T* slope = nullptr;
  if (act != Activation::none) {
    T* const activated = tape.arena().template take<T>(n);
    T* const derivative = y->wants_grad ? tape.arena().template take<T>(n) : nullptr;
    kernels<T>().bias_activation(1, n, g->value, nullptr, act, nullptr, activated, derivative);
    factor = activated;
    slope = derivative;
  }
  multiply(n, x->value, factor, y->value, false);
  tape.record([&tape, x, g, factor, slope, y] {
    if (y->grad == nullptr) return;
    const std::size_t size = x->size();
    if (const Grad<T> dx = tape.open(x)) multiply(size, y->grad, factor, dx.data, dx.accumulate);
    if (const Grad<T> dg = tape.open(g)) {
      if (slope != nullptr) multiply(size, y->grad, slope, y->grad, false);
      multiply(size, y->grad, x->value, dg.data, dg.accumulate);
    }
    tape.close(y);
  });
  return y;
}

template <class T>
Var<T> layer_scale(Tape<T>& tape, Var<T> x, Var<T> gamma) {
  check(gamma->rows == 1 && gamma->width == x->width, "layer_scale: gamma is not one row of the same width");
  const std::size_t width = x->width;
  Var<T> y = tape.make(x->rows, width, {x, gamma});
  for (std::size_t r = 0; r < x->rows; ++r) multiply(width, x->value + r * width, gamma->value, y->value + r * width, false);
  tape.record([&tape, x, gamma, y] {
    if (y->grad == nullptr) return;
    if (T* dgamma = tape.open_zeroed(gamma))
      for (std::size_t r = 0; r < x->rows; ++r) multiply(x->width, y->grad + r * x->width, x->value + r * x->width, dgamma, true);
    if (const Grad<T> dx = tape.open(x))
      for (std::size_t r = 0; r < x->rows; ++r) multiply(x->width, y->grad + r * x->width, gamma->value, dx.data + r * x->width, dx.accumulate);
    tape.close(y);
  });
  return y;
}

template <class T>
Var<T> film(Tape<T>& tape, Var<T> x, Var<T> scale, Var<T> shift, std::span<const std::int32_t> offsets) {
  const std::size_t rows = offsets.empty() ? x->rows : offsets.size() - 1, width = x->width;
  check(offsets.empty() || static_cast<std::size_t>(offsets.back()) == x->rows, "film: offsets do not cover the rows");
  check(scale->rows == rows && shift->rows == rows && scale->width == width && shift->width == width, "film: shapes do not fit");
  Var<T> y = tape.make(x->rows, width, {x, scale, shift});
  each_row(x->rows, offsets, [&](std::size_t s, std::size_t r) {
    for (std::size_t c = 0; c < width; ++c)
      y->value[r * width + c] = x->value[r * width + c] * (T{1} + scale->value[s * width + c]) + shift->value[s * width + c];
  });
  tape.record([&tape, x, scale, shift, offsets, y] {
    if (y->grad == nullptr) return;
    const std::size_t n = x->width;
    if (T* dscale = tape.open_zeroed(scale))
      each_row(x->rows, offsets, [&](std::size_t s, std::size_t r) { multiply(n, y->grad + r * n, x->value + r * n, dscale + s * n, true); });
    if (T* dshift = tape.open_zeroed(shift))
      each_row(x->rows, offsets, [&](std::size_t s, std::size_t r) { kernels<T>().add(n, dshift + s * n, y->grad + r * n, dshift + s * n); });
    if (const Grad<T> dx = tape.open(x))
      each_row(x->rows, offsets, [&](std::size_t s, std::size_t r) {
        for (std::size_t c = 0; c < n; ++c) {
          const T g = y->grad[r * n + c] * (T{1} + scale->value[s * n + c]);
          dx.data[r * n + c] = dx.accumulate ? dx.data[r * n + c] + g : g;
        }
      });
    tape.close(y);
  });
  return y;
}

template <class T>
Var<T> add(Tape<T>& tape, Var<T> a, Var<T> b) {
  check(a->rows == b->rows && a->width == b->width, "add: shapes do not fit");
  Var<T> y = tape.make(a->rows, a->width, {a, b});
  kernels<T>().add(a->size(), a->value, b->value, y->value);
  tape.record([&tape, a, b, y] {
    if (y->grad == nullptr) return;
    if (const Grad<T> db = tape.open(b)) {
      if (db.accumulate) kernels<T>().add(b->size(), db.data, y->grad, db.data);
      else std::copy_n(y->grad, b->size(), db.data);
    }
    tape.pass_on(y, a);
  });
  return y;
}

#define BEAMLINE_INSTANTIATE(T)                                                              \
  template void dropout_apply(std::size_t, const T*, double, const RandomState&, T*, bool);  \
  template Var<T> dropout(Tape<T>&, Var<T>, double);                                         \
  template Var<T> stochastic_depth(Tape<T>&, Var<T>, std::span<const std::int32_t>, double); \
  template Var<T> activation(Tape<T>&, Var<T>, Activation);                                  \
  template Var<T> gate(Tape<T>&, Var<T>, Var<T>, Activation);                                \
  template Var<T> layer_scale(Tape<T>&, Var<T>, Var<T>);                                     \
  template Var<T> film(Tape<T>&, Var<T>, Var<T>, Var<T>, std::span<const std::int32_t>);     \
  template Var<T> add(Tape<T>&, Var<T>, Var<T>);
BEAMLINE_INSTANTIATE(float)
BEAMLINE_INSTANTIATE(double)
#undef BEAMLINE_INSTANTIATE

}  // namespace bl::nn
