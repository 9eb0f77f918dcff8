// Every op of the case list: gradient, float against double, and the rules of the tape.
#include <gtest/gtest.h>

#include <Random123/philox.h>

#include <cmath>
#include <filesystem>
#include <set>

#include "cases.hpp"
#include "nn/gemm.hpp"

namespace bl::nn::testing {
namespace {

Size random_size(std::uint64_t seed) {
  const Rng rng(seed, "size");
  const auto pick = [&](std::uint64_t i, std::size_t low, std::size_t high) { return low + rng.below(high - low + 1, i, 0); };
  Size s;
  s.sequences = pick(0, 2, 5);
  s.tokens = pick(1, 2, 21);
  s.heads = pick(2, 1, 3);
  s.width = s.heads * pick(3, 1, 22);  // head dims 1 … 22, most of them no multiple of a vector
  s.classes = pick(4, 2, 40);
  s.seed = seed;
  return s;
}

// relu has a kink, and a five-point rule that steps over it is wrong by itself: large biases keep it away.
void avoid_kinks(const std::string& name, Params<double>& params) {
  if (name != "linear_relu" && name != "reglu") return;
  const std::span<double> bias = params.of(params.find("input2")->at);
  for (std::size_t i = 0; i < bias.size(); ++i) bias[i] = i % 2 ? 50 : -50;
}

TEST(Ops, cases_cover_every_op) {
  std::set<std::string> files, covered;
  for (const auto& entry : std::filesystem::directory_iterator(BEAMLINE_SOURCE_DIR "/common/nn/ops"))
    if (entry.path().extension() == ".hpp") files.insert(entry.path().stem().string());
  for (const auto& c : op_cases<double>()) covered.insert(c.file);
  EXPECT_EQ(files, covered);
}

TEST(Ops, gradients_by_directional_derivative) {
  double worst = 0;
  for (const auto& c : op_cases<double>())
    for (std::uint64_t seed = 1; seed <= 12; ++seed) {
      Function<double> f(c.make(random_size(seed)), seed);
      avoid_kinks(c.name, f.params());
      const double error = gradient_error(f, seed);
      EXPECT_LE(error, 1e-6) << c.name << " seed " << seed;
      worst = std::max(worst, error);
    }
  printf("worst relative error of a directional derivative: %.2g\n", worst);
}

// The check itself can fail: the backward below forgets the contribution of the norm's mean.
TEST(Ops, a_broken_backward_is_found) {
  const auto broken = [](Tape<double>& tape, const std::vector<Var<double>>& v) {
    Var<double> x = v[0], y = tape.make(x->rows, x->width);
    double* mean = tape.arena().take<double>(x->rows);
    double* rstd = tape.arena().take<double>(x->rows);
    layer_norm_forward(x->rows, x->width, x->value, v[1]->value, v[2]->value, y->value, mean, rstd);
    tape.record([&tape, x, w = v[1], b = v[2], y, mean, rstd] {
      const Grad<double> dx = tape.open(x);
      // rms_norm's backward in place of layer_norm's
      rms_norm_backward(x->rows, x->width, x->value, w->value, rstd, y->grad, dx.data, dx.accumulate, w->grad);
      for (std::size_t i = 0; i < y->size(); ++i) b->grad[i % x->width] += y->grad[i];
      tape.close(y);
    });
    return Result<double>{y};
  };
  Function<double> f({{{0, 6, 9}, {0, 1, 9}, {0, 1, 9}}, broken}, 3);
  EXPECT_GT(gradient_error(f, 3), 1e-3);
}

TEST(Ops, float_agrees_with_double) {
  const auto singles = op_cases<float>();
  const auto doubles = op_cases<double>();
  for (std::size_t c = 0; c < singles.size(); ++c)
    for (std::uint64_t seed = 20; seed <= 24; ++seed) {
      Function<float> f(singles[c].make(random_size(seed)), seed);
      Function<double> d(doubles[c].make(random_size(seed)), seed);
      // the same inputs, rounded to float
      for (std::size_t p = 0; p < f.params().list().size(); ++p) {
        const auto to = d.params().of(d.params().list()[p].at);
        const auto from = f.params().of(f.params().list()[p].at);
        std::copy(from.begin(), from.end(), to.begin());
      }
      Aligned<float> gf(f.params().size());
      Aligned<double> gd(d.params().size());
      const double vf = f.evaluate(gf.data()), vd = d.evaluate(gd.data());
      double norm = 0;
      for (std::size_t i = 0; i < gd.size(); ++i) norm = std::max(norm, std::abs(gd[i]));
      EXPECT_NEAR(vf, vd, 2e-4 * std::max(1.0, std::abs(vd))) << singles[c].name;
      for (std::size_t p = 0; p < f.params().list().size(); ++p) {
        const Param a = f.params().list()[p].at, b = d.params().list()[p].at;
        for (std::size_t i = 0; i < a.size(); ++i)
          ASSERT_NEAR(static_cast<double>(gf[a.offset + i]), gd[b.offset + i], 2e-4 * std::max(norm, 1e-3)) << singles[c].name << " seed " << seed;
      }
    }
}

// A parameter's gradient is added to what is there: twice backward is twice the gradient.
TEST(Ops, gradients_accumulate) {
  for (const auto& c : op_cases<double>()) {
    Function<double> f(c.make(random_size(7)), 7);
    Aligned<double> once(f.params().size()), twice(f.params().size());
    f.evaluate(once.data());
    f.evaluate(twice.data());
    f.evaluate(twice.data());
    double largest = 0;
    for (std::size_t i = 0; i < once.size(); ++i) largest = std::max(largest, std::abs(once[i]));
    EXPECT_GT(largest, 0) << c.name;
    for (std::size_t i = 0; i < once.size(); ++i) ASSERT_NEAR(twice[i], 2 * once[i], 1e-12 * largest + 1e-14) << c.name;
  }
}

// The same inside a graph: x is used by three consumers, whose order of writing must not matter.
TEST(Tape, gradient_of_a_value_with_several_consumers) {
  const auto graph = [](Tape<double>& t, const std::vector<Var<double>>& v) {
    Var<double> x = linear(t, v[0], v[1], v[2], Activation::silu);
    Var<double> a = linear<double>(t, x, v[3], nullptr, Activation::gelu);
    Var<double> b = linear<double>(t, a, v[3], nullptr, Activation::none, x);
    Var<double> c = add(t, b, rms_norm(t, x, v[2]));
    return Result<double>{add(t, c, x)};
  };
  for (std::uint64_t seed = 1; seed <= 6; ++seed) {
    Function<double> f({{{0, 4, 6}, {0, 6, 6}, {0, 1, 6}, {0, 6, 6}}, graph}, seed);
    EXPECT_LE(gradient_error(f, seed), 1e-7);
  }
}

TEST(Tape, records_nothing_at_inference) {
  Params<float> p;
  const Param w = p.add("w", 3, 4, Group::weight);
  p.allocate();
  Arena arena;
  Tape<float> tape(arena, p);
  const std::vector<float> x(8, 1.f);
  Var<float> y = linear<float>(tape, tape.input(x.data(), 2, 4), tape.param(w), nullptr);
  EXPECT_FALSE(y->wants_grad);
  tape.backward();
  EXPECT_EQ(y->grad, nullptr);
  EXPECT_EQ(dropout(tape, y, 0.5), y);
}

TEST(Gemm, against_the_definition) {
  const Rng rng(5, "gemm");
  const auto run = [&]<class T>(T, double tolerance) {
    for (std::uint64_t trial = 0; trial < 24; ++trial) {
      const std::size_t m = 1 + rng.below(40, trial, 0), n = 1 + rng.below(40, trial, 1), k = 1 + rng.below(70, trial, 2);
      const bool ta = trial & 1, tb = trial & 2, accumulate = trial & 4;
      const std::size_t lda = (ta ? m : k) + 3, ldb = (tb ? k : n) + 1, ldc = n + 2;
      std::vector<T> a((ta ? k : m) * lda), b((tb ? n : k) * ldb), c(m * ldc), expected;
      const auto fill = [&](std::vector<T>& v, std::uint64_t which) {
        for (std::size_t i = 0; i < v.size(); ++i) v[i] = static_cast<T>(rng.normal(100 + which, i));
      };
      fill(a, 0), fill(b, 1), fill(c, 2);
      expected = c;
      for (std::size_t i = 0; i < m; ++i)
        for (std::size_t j = 0; j < n; ++j) {
          double s = accumulate ? static_cast<double>(c[i * ldc + j]) : 0;
          for (std::size_t l = 0; l < k; ++l)
            s += static_cast<double>(ta ? a[l * lda + i] : a[i * lda + l]) * static_cast<double>(tb ? b[j * ldb + l] : b[l * ldb + j]);
          expected[i * ldc + j] = static_cast<T>(s);
        }
      gemm(ta ? Trans::yes : Trans::no, tb ? Trans::yes : Trans::no, m, n, k, a.data(), lda, b.data(), ldb, c.data(), ldc, accumulate);
      for (std::size_t i = 0; i < c.size(); ++i) ASSERT_NEAR(c[i], expected[i], tolerance);
    }
  };
  run(0.f, 2e-4);
  run(0.0, 1e-12);
}

// Sizes around every border of the panels, tiles and blocks; rows that lie apart; part of a panel left untouched.
TEST(GemmRows, equals_the_product_in_double) {
  const Rng rng(8, "panels");
  std::uint64_t trial = 0;
  for (const std::size_t m : {1u, 2u, 3u, 5u, 6u, 7u, 9u, 14u, 15u, 29u})
    for (const std::size_t n : {1u, 16u, 31u, 32u, 33u, 100u, 520u})
      for (const std::size_t k : {1u, 17u, 256u, 257u, 600u}) {
        const bool tb = ++trial & 1, accumulate = trial & 2;
        const std::size_t lda = k + 3, ldb = (tb ? k : n) + 1, ldc = n + 2;
        std::vector<float> a(m * lda), b((tb ? n : k) * ldb), c(m * ldc);
        for (std::size_t i = 0; i < a.size(); ++i) a[i] = static_cast<float>(rng.normal(3 * trial, i));
        for (std::size_t i = 0; i < b.size(); ++i) b[i] = static_cast<float>(rng.normal(3 * trial + 1, i));
        for (std::size_t i = 0; i < c.size(); ++i) c[i] = static_cast<float>(rng.normal(3 * trial + 2, i));
        std::vector<float> got = c;
        gemm_rows(tb ? Trans::yes : Trans::no, m, n, k, a.data(), lda, b.data(), ldb, got.data(), ldc, accumulate);
        double worst = 0;
        for (std::size_t i = 0; i < m; ++i)
          for (std::size_t j = 0; j < ldc; ++j) {
            double s = accumulate || j >= n ? static_cast<double>(c[i * ldc + j]) : 0, size = 1;
            for (std::size_t l = 0; j < n && l < k; ++l) {
              const double product = static_cast<double>(a[i * lda + l]) * static_cast<double>(tb ? b[j * ldb + l] : b[l * ldb + j]);
              s += product;
              size += std::abs(product);
            }
            worst = std::max(worst, std::abs(static_cast<double>(got[i * ldc + j]) - s) / size);
          }
        EXPECT_LT(worst, 2e-6) << m << " x " << n << " x " << k;
      }
}

// A row's result must not depend on how many other rows there are: scores do not depend on the batch.
TEST(GemmRows, a_row_does_not_depend_on_the_others) {
  const Rng rng(6, "gemm");
  for (const auto& [n, k] : {std::pair<std::size_t, std::size_t>{192, 64}, {64, 256}, {967, 64}, {384, 128}, {40, 700}}) {
    const std::size_t rows = 700;
    std::vector<float> a(rows * k), b(n * k), all(rows * n), some(rows * n);
    for (std::size_t i = 0; i < a.size(); ++i) a[i] = static_cast<float>(rng.normal(0, i));
    for (std::size_t i = 0; i < b.size(); ++i) b[i] = static_cast<float>(rng.normal(1, i));
    gemm_rows(Trans::yes, rows, n, k, a.data(), k, b.data(), k, all.data(), n, false);
    for (const std::size_t m : {1u, 2u, 7u, 13u, 48u, 100u, 333u, 699u})
      for (const std::size_t first : {0u, 1u, 5u}) {
        if (first + m > rows) continue;
        gemm_rows(Trans::yes, m, n, k, a.data() + first * k, k, b.data(), k, some.data(), n, false);
        std::size_t differ = 0;
        for (std::size_t i = 0; i < m * n; ++i) differ += some[i] != all[first * n + i];
        EXPECT_EQ(differ, 0u) << "n " << n << " k " << k << " rows " << m << " from " << first;
      }
  }
}

TEST(Dropout, draws_philox_and_keeps_the_mean) {
  const std::size_t n = 4000;
  std::vector<double> x(n, 1.0), y(n), again(n);
  const RandomState random{0x123456789abcdef0u, 7, 5, 3};
  dropout_apply(n, x.data(), 0.25, random, y.data(), false);
  double sum = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const r123::Philox4x32::ctr_type counter{{static_cast<std::uint32_t>(i / 8), 3, 5, 7}};
    const auto words = r123::Philox4x32{}(counter, {{0x9abcdef0u, 0x12345678u}});
    const std::uint32_t bits = words[i % 8 / 2] >> (i % 2 * 16) & 0xffffu;
    ASSERT_EQ(y[i] != 0, bits >= 16384) << i;
    sum += y[i];
  }
  EXPECT_NEAR(sum / n, 1.0, 0.04);
  dropout_apply(n - 3, x.data(), 0.25, random, again.data(), false);
  for (std::size_t i = 0; i < n - 3; ++i) ASSERT_EQ(again[i], y[i]);
}

TEST(Arena, one_block_after_the_first_pass) {
  Arena arena;
  for (int i = 0; i < 100; ++i) arena.take<double>(10000);
  EXPECT_GT(arena.blocks(), 1u);
  const std::size_t used = arena.used();
  arena.reset();
  EXPECT_EQ(arena.blocks(), 1u);
  EXPECT_GE(arena.capacity(), used);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(reinterpret_cast<std::uintptr_t>(arena.take<double>(10000)) % 64, 0u);
  EXPECT_EQ(arena.blocks(), 1u);
}

}  // namespace
}  // namespace bl::nn::testing
