#include "nn/ops/elementwise.hpp"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/error.hpp"
#include "nn/kernels.hpp"

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
  std::uint32_t k0 = static_cast<std::uint32_t>(random.seed), k1 = static_cast<std::uint32_t>(random.seed >> 32);
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
  Var<T> y = tape.make(x->rows, x->width);
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
Var<T> add(Tape<T>& tape, Var<T> a, Var<T> b) {
  check(a->rows == b->rows && a->width == b->width, "add: shapes do not fit");
  Var<T> y = tape.make(a->rows, a->width);
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

#define BEAMLINE_INSTANTIATE(T)                                                             \
  template void dropout_apply(std::size_t, const T*, double, const RandomState&, T*, bool); \
  template Var<T> dropout(Tape<T>&, Var<T>, double);                                        \
  template Var<T> add(Tape<T>&, Var<T>, Var<T>);
BEAMLINE_INSTANTIATE(float)
BEAMLINE_INSTANTIATE(double)
#undef BEAMLINE_INSTANTIATE

}  // namespace bl::nn
