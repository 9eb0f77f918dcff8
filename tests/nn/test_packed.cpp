// Products of bf16 against those of double, on whatever the CPU has; which ops make them.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <thread>
#include <vector>

#include "base/error.hpp"
#include "base/rng.hpp"
#include "nn/gemm.hpp"
#include "nn/ops/linear.hpp"
#include "nn/ops/loss.hpp"
#include "nn/packed.hpp"

namespace bl::nn {
namespace {

std::vector<float> numbers(std::size_t n, std::uint64_t seed) {
  const Rng rng(seed, "packed");
  std::vector<float> v(n);
  for (std::size_t i = 0; i < n; ++i) v[i] = static_cast<float>(rng.normal(0, i));
  return v;
}

std::vector<float> rounded(const std::vector<float>& x) {
  std::vector<Bf16> half(x.size());
  std::vector<float> y(x.size());
  to_bf16(x.size(), x.data(), half.data());
  from_bf16(x.size(), half.data(), y.data());
  return y;
}

std::vector<double> wide(const std::vector<float>& x) { return {x.begin(), x.end()}; }

// Largest difference in units of k roundings of a number near 1.
double worst(const std::vector<float>& got, const std::vector<double>& want, std::size_t k) {
  double worst = 0;
  for (std::size_t i = 0; i < got.size(); ++i) worst = std::max(worst, std::abs(static_cast<double>(got[i]) - want[i]));
  return worst / (static_cast<double>(k + 8) * std::numeric_limits<float>::epsilon());
}

TEST(Bf16, rounds_to_nearest_even_and_keeps_what_is_not_a_number) {
  const float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  // 1 + 2^-8 lies half-way between 1 and 1 + 2^-7, 1 + 3·2^-8 half-way between 1 + 2^-7 and 1 + 2^-6
  std::vector<float> x{0.0f,
                       -0.0f,
                       1.0f,
                       1 + 0x1p-8f,
                       1 + 3 * 0x1p-8f,
                       1 + 0x1.02p-8f,
                       -3.14159274f,
                       std::numeric_limits<float>::max(),
                       inf,
                       -inf,
                       nan,
                       std::bit_cast<float>(0x7f800001u),
                       std::bit_cast<float>(0xffffffffu),
                       0x1p-130f};
  const std::vector<float> want{0.0f, -0.0f, 1.0f, 1.0f, 1 + 0x1p-6f, 1 + 0x1p-7f, -3.140625f, inf, inf, -inf, nan, nan, nan, 0x1p-130f};
  while (x.size() < 67) x.push_back(x[x.size() % 14]);  // whole vectors and a rest
  const std::vector<float> y = rounded(x);
  for (std::size_t i = 0; i < x.size(); ++i) {
    const float w = want[i % 14];
    if (std::isnan(w)) EXPECT_TRUE(std::isnan(y[i])) << i;
    else EXPECT_EQ(std::bit_cast<std::uint32_t>(y[i]), std::bit_cast<std::uint32_t>(w)) << x[i] << " became " << y[i];
  }
}

struct Size {
  std::size_t rows, out, in;
};

// Rows below, at and above every border of the blocks; widths that are no multiple of anything.
const std::vector<Size> sizes{{1, 32, 32},    {15, 48, 17},  {16, 64, 64},   {100, 967, 64}, {255, 33, 129},
                              {256, 64, 256}, {257, 64, 40}, {403, 192, 64}, {1100, 24, 56}};

TEST(Packed, three_products_equal_those_of_rounded_factors) {
  printf("bf16: %s\n", product_backend(Precision::bf16).c_str());
  Pool pool(2);
  for (const Size& s : sizes) {
    Params<float> params;
    params.add("before", 3, 5, Group::embedding);
    const Param at = params.add("w", s.out, s.in, Group::weight);
    params.allocate();
    const std::vector<float> w = numbers(s.out * s.in, 1), x = numbers(s.rows * s.in, 2), dy = numbers(s.rows * s.out, 3);
    std::copy(w.begin(), w.end(), params.of(at).begin());
    PackedWeights packed(params, Precision::bf16, Use::training);
    EXPECT_EQ(packed.find(0), nullptr) << "an embedding is no factor of a product";
    packed.update(pool, params.values().data());
    const PackedMatrix& matrix = *packed.find(at.offset);
    std::vector<float> y(s.rows * s.out), dx = numbers(s.rows * s.in, 4), sum = dx, dw = numbers(s.out * s.in, 5);
    std::vector<double> want_y(y.size()), want_dx(dx.size()), want_sum = wide(sum), want_dw = wide(dw);
    const auto a = wide(rounded(x)), b = wide(rounded(w)), g = wide(rounded(dy));
    gemm(Trans::no, Trans::yes, s.rows, s.out, s.in, a.data(), s.in, b.data(), s.in, want_y.data(), s.out, false);
    gemm(Trans::no, Trans::no, s.rows, s.in, s.out, g.data(), s.out, b.data(), s.in, want_dx.data(), s.in, false);
    gemm(Trans::no, Trans::no, s.rows, s.in, s.out, g.data(), s.out, b.data(), s.in, want_sum.data(), s.in, true);
    gemm(Trans::yes, Trans::no, s.out, s.in, s.rows, g.data(), s.out, a.data(), s.in, want_dw.data(), s.in, true);
    std::vector<Bf16> xh(bf16_rows(s.rows) * s.in), dyh(bf16_rows(s.rows) * s.out);
    to_bf16_matrix(s.rows, s.in, x.data(), xh.data());
    to_bf16_matrix(s.rows, s.out, dy.data(), dyh.data());
    matrix.forward(s.rows, xh.data(), y.data());
    matrix.backward(s.rows, dyh.data(), dx.data(), false);
    matrix.backward(s.rows, dyh.data(), sum.data(), true);
    add_outer(s.out, s.in, s.rows, dyh.data(), xh.data(), dw.data());
    const std::string where = std::to_string(s.rows) + " rows, " + std::to_string(s.out) + " x " + std::to_string(s.in);
    EXPECT_LT(worst(y, want_y, s.in), 4) << where;
    EXPECT_LT(worst(dx, want_dx, s.out), 4) << where;
    EXPECT_LT(worst(sum, want_sum, s.out), 4) << where;
    EXPECT_LT(worst(dw, want_dw, s.rows), 4) << where;
  }
}

// Laid out once or for each product: the same bits at inference. Training in f32 lays out nothing.
TEST(Packed, inference_in_f32_reads_panels) {
  Params<float> params;
  const Param w = params.add("w", 50, 40, Group::weight);
  params.allocate();
  params.init_normal(w, 1, 1.0);
  Pool pool(2);
  PackedWeights packed(params, Precision::f32, Use::inference);
  packed.update(pool, params.values().data());
  ASSERT_NE(packed.find(w.offset), nullptr);
  EXPECT_EQ(PackedWeights(params, Precision::f32, Use::training).find(w.offset), nullptr);
  const std::vector<float> x = numbers(9 * 40, 2);
  const auto run = [&](const PackedWeights* use) {
    Arena arena;
    Tape<float> tape(arena, params);
    tape.use(use);
    const Var<float> y = linear(tape, tape.input(x.data(), 9, 40), tape.param(w), Var<float>{});
    return std::vector<float>(y->value, y->value + y->size());
  };
  EXPECT_EQ(run(&packed), run(nullptr));
  params.of(w)[0] += 1;
  EXPECT_NE(run(&packed), run(nullptr)) << "the copy is what is read";
}

TEST(Packed, any_thread_gives_the_same_bits) {
  Params<float> params;
  const Param at = params.add("w", 96, 64, Group::weight);
  params.allocate();
  params.init_normal(at, 1, 1.0);
  Pool one(1), four(4);
  PackedWeights a(params, Precision::bf16, Use::training), b(params, Precision::bf16, Use::training);
  a.update(one, params.values().data());
  b.update(four, params.values().data());
  const std::vector<float> x = numbers(403 * 64, 2);
  std::vector<Bf16> xh(bf16_rows(403) * 64);
  to_bf16_matrix(403, 64, x.data(), xh.data());
  const auto product = [&](const PackedWeights& w) {
    std::vector<float> y(403 * 96);
    w.find(at.offset)->forward(403, xh.data(), y.data());
    return y;
  };
  const std::vector<float> here = product(a);
  std::vector<std::vector<float>> there(4);
  std::vector<std::thread> threads;
  for (auto& y : there) threads.emplace_back([&] { y = product(b); });
  for (auto& t : threads) t.join();
  for (const auto& y : there) EXPECT_EQ(y, here);
}

// The ops take the packed weights of the tape, and bf16 changes the result, by about as much as it should.
TEST(Packed, ops_use_what_the_tape_carries) {
  Pool pool(1);
  Params<float> params;
  const Param w = params.add("w", 48, 40, Group::weight), b = params.add("b", 1, 48, Group::bias), head = params.add("head", 30, 48, Group::weight);
  params.allocate();
  params.init_normal(w, 1, 0.2), params.init_normal(b, 2, 0.2), params.init_normal(head, 3, 0.2);
  const std::vector<float> x = numbers(77 * 40, 4);
  std::vector<std::int32_t> targets(77);
  for (std::size_t i = 0; i < targets.size(); ++i) targets[i] = static_cast<std::int32_t>(i % 30);
  const auto run = [&](const PackedWeights* packed, std::vector<float>& gradient) {
    Arena arena;
    gradient.assign(params.size(), 0.0f);
    Tape<float> tape(arena, params.values().data(), gradient.data());
    tape.use(packed);
    Var<float> y = linear(tape, tape.input(x.data(), 77, 40), tape.param(w), tape.param(b), Activation::gelu);
    const double loss = linear_cross_entropy<float>(tape, y, tape.param(head), nullptr, targets, 1.0 / 77);
    tape.backward();
    return loss / 77;
  };
  std::vector<float> plain, f32, bf16;
  PackedWeights packed32(params, Precision::f32, Use::training), packed16(params, Precision::bf16, Use::training);
  packed32.update(pool, params.values().data());
  packed16.update(pool, params.values().data());
  const double a = run(nullptr, plain), c = run(&packed32, f32), d = run(&packed16, bf16);
  EXPECT_EQ(a, c);
  EXPECT_NE(a, d);
  EXPECT_NEAR(a, d, 1e-2);
  double scale = 0, off32 = 0, off16 = 0;
  for (std::size_t i = 0; i < plain.size(); ++i) {
    scale = std::max(scale, std::abs(static_cast<double>(plain[i])));
    off32 = std::max(off32, std::abs(static_cast<double>(f32[i] - plain[i])));
    off16 = std::max(off16, std::abs(static_cast<double>(bf16[i] - plain[i])));
  }
  EXPECT_EQ(off32, 0);
  EXPECT_GT(off16, 1e-5 * scale);
  EXPECT_LT(off16, 3e-2 * scale);
}

TEST(Packed, precision_has_a_name) {
  EXPECT_EQ(precision_named("bf16"), Precision::bf16);
  EXPECT_EQ(precision_named("f32"), Precision::f32);
  try {
    precision_named("fp16");
    ADD_FAILURE() << "fp16 is no precision";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Exit::usage);
    EXPECT_NE(std::string(e.what()).find("fp16"), std::string::npos);
  }
}

}  // namespace
}  // namespace bl::nn
