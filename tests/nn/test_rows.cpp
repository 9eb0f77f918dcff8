// Ops on rows and elements against PyTorch, and what training drops.
#include <gtest/gtest.h>

#include <functional>
#include <set>

#include "golden_op.hpp"

namespace bl::nn::testing {
namespace {

using Ids = std::vector<std::int32_t>;

// The cases of a file; each must be checked.
std::set<std::string> cases_of(const bl::testing::Golden& golden) {
  std::set<std::string> names;
  for (const auto& [name, values] : golden.all())
    if (name.ends_with("/value")) names.insert(name.substr(0, name.find('/')));
  return names;
}

TEST(GoldenRows, every_case) {
  const bl::testing::Golden golden(BEAMLINE_SOURCE_DIR "/tests/golden/ops_rows.golden");
  std::set<std::string> seen;
  const auto expect = [&](const std::string& name, const auto& forward) {
    seen.insert(name);
    expect_golden(golden, name, forward);
  };
  const Ids gathered = golden.as<std::int32_t>("gather/ids"), scattered = golden.as<std::int32_t>("scatter_add/ids"),
            offsets = golden.as<std::int32_t>("mean/offsets");
  expect("gather", [&]<class T>(Tape<T>& t, const std::vector<Var<T>>& v) { return Result<T>{gather_rows<T>(t, v[0], gathered)}; });
  expect("scatter_add", [&]<class T>(Tape<T>& t, const std::vector<Var<T>>& v) { return Result<T>{scatter_add_rows<T>(t, v[0], scattered, 6)}; });
  expect("mean", [&]<class T>(Tape<T>& t, const std::vector<Var<T>>& v) { return Result<T>{segment_mean<T>(t, v[0], offsets)}; });
  expect("sum", [&]<class T>(Tape<T>& t, const std::vector<Var<T>>& v) { return Result<T>{segment_sum<T>(t, v[0], offsets)}; });
  expect("max", [&]<class T>(Tape<T>& t, const std::vector<Var<T>>& v) { return Result<T>{segment_max<T>(t, v[0], offsets)}; });
  expect("softmax_sum", [&]<class T>(Tape<T>& t, const std::vector<Var<T>>& v) { return Result<T>{segment_softmax_sum<T>(t, v[0], v[1], offsets)}; });
  expect("broadcast", [&]<class T>(Tape<T>& t, const std::vector<Var<T>>& v) { return Result<T>{broadcast_rows<T>(t, v[0], offsets)}; });
  expect("concat_columns", [&]<class T>(Tape<T>& t, const std::vector<Var<T>>& v) {
    return Result<T>{concat_columns<T>(t, std::vector<Var<T>>{v[0], v[1], v[0]})};
  });
  expect("concat_rows", [&]<class T>(Tape<T>& t, const std::vector<Var<T>>& v) { return Result<T>{concat_rows<T>(t, std::vector<Var<T>>{v[0], v[1], v[0]})}; });
  expect("slice_columns", [&]<class T>(Tape<T>& t, const std::vector<Var<T>>& v) { return Result<T>{slice_columns(t, v[0], 2, 5)}; });
  EXPECT_EQ(seen, cases_of(golden));
}

TEST(GoldenElementwise, every_case) {
  const bl::testing::Golden golden(BEAMLINE_SOURCE_DIR "/tests/golden/ops_elementwise.golden");
  std::set<std::string> seen;
  const auto expect = [&](const std::string& name, const auto& forward) {
    seen.insert(name);
    expect_golden(golden, name, forward);
  };
  for (const auto& [name, act] : {std::pair{"relu", Activation::relu},
                                  {"gelu", Activation::gelu},
                                  {"silu", Activation::silu},
                                  {"sigmoid", Activation::sigmoid},
                                  {"tanh", Activation::tanh},
                                  {"softplus", Activation::softplus}})
    expect(name, [act = act]<class T>(Tape<T>& t, const std::vector<Var<T>>& v) { return Result<T>{activation(t, v[0], act)}; });
  for (const auto& [name, act] : {std::pair{"gate", Activation::none}, {"gate_sigmoid", Activation::sigmoid}, {"gate_silu", Activation::silu}})
    expect(name, [act = act]<class T>(Tape<T>& t, const std::vector<Var<T>>& v) { return Result<T>{gate(t, v[0], v[1], act)}; });
  const Ids offsets = golden.as<std::int32_t>("film_sequence/offsets");
  expect("add", []<class T>(Tape<T>& t, const std::vector<Var<T>>& v) { return Result<T>{add(t, v[0], v[1])}; });
  expect("layer_scale", []<class T>(Tape<T>& t, const std::vector<Var<T>>& v) { return Result<T>{layer_scale(t, v[0], v[1])}; });
  expect("film_token", []<class T>(Tape<T>& t, const std::vector<Var<T>>& v) { return Result<T>{film(t, v[0], v[1], v[2])}; });
  expect("film_sequence", [&]<class T>(Tape<T>& t, const std::vector<Var<T>>& v) { return Result<T>{film<T>(t, v[0], v[1], v[2], offsets)}; });
  EXPECT_EQ(seen, cases_of(golden));
}

TEST(Activations, far_out_they_are_finite_and_right) {
  Arena arena;
  Tape<float> tape(arena, nullptr, nullptr);
  const std::vector<float> x{-1e30f, -1000.f, -100.f, 100.f, 1000.f, 1e30f};
  const auto at = [&](Activation act, std::size_t i) { return activation(tape, tape.input(x.data(), 1, x.size()), act)->value[i]; };
  for (const std::size_t i : {0u, 1u, 2u}) {
    EXPECT_NEAR(at(Activation::sigmoid, i), 0.f, 1e-30f);
    EXPECT_EQ(at(Activation::tanh, i), -1.f);
    EXPECT_NEAR(at(Activation::softplus, i), 0.f, 1e-30f);
    EXPECT_EQ(at(Activation::sigmoid, i + 3), 1.f);
    EXPECT_EQ(at(Activation::tanh, i + 3), 1.f);
    EXPECT_EQ(at(Activation::softplus, i + 3), x[i + 3]);
  }
  EXPECT_EQ(activation(tape, tape.input(x.data(), 1, x.size()), Activation::none)->value, x.data());
}

// A sequence is dropped or kept as a whole, by the bits that dropout would give the element of its number.
TEST(StochasticDepth, drops_whole_sequences_and_keeps_the_mean) {
  const std::size_t sequences = 3000, width = 5;
  Ids offsets{0};
  for (std::size_t s = 0; s < sequences; ++s) offsets.push_back(offsets.back() + static_cast<std::int32_t>(s % 4));
  const auto rows = static_cast<std::size_t>(offsets.back());
  const std::vector<float> x(rows * width, 1.f), ones(sequences, 1.f);
  std::vector<float> expected(sequences);
  dropout_apply(sequences, ones.data(), 0.25, RandomState{77, 8, 9, 1}, expected.data(), false);
  Arena arena;
  float unused = 0;
  Tape<float> tape(arena, nullptr, &unused);
  tape.seed(77, 8, 9);
  const Var<float> y = stochastic_depth<float>(tape, tape.input(x.data(), rows, width), offsets, 0.25);
  double sum = 0;
  for (std::size_t s = 0; s < sequences; ++s) {
    sum += static_cast<double>(expected[s]);
    for (auto i = static_cast<std::size_t>(offsets[s]) * width; i < static_cast<std::size_t>(offsets[s + 1]) * width; ++i) ASSERT_EQ(y->value[i], expected[s]);
  }
  EXPECT_NEAR(sum / static_cast<double>(sequences), 1.0, 0.04);

  Tape<float> inference(arena, nullptr, nullptr);
  const Var<float> in = inference.input(x.data(), rows, width);
  EXPECT_EQ(stochastic_depth<float>(inference, in, offsets, 0.25), in);
}

// NaN must not vanish in a maximum: the trainer stops at it.
TEST(SegmentMax, a_nan_wins) {
  const float nan = std::nanf("");
  const std::vector<float> x{1, nan, 3, nan, 2, 5};
  const Ids offsets{0, 3, 6};
  Arena arena;
  Tape<float> tape(arena, nullptr, nullptr);
  const Var<float> y = segment_max<float>(tape, tape.input(x.data(), 6, 1), offsets);
  EXPECT_TRUE(std::isnan(y->value[0]));
  EXPECT_TRUE(std::isnan(y->value[1]));
}

// A shard may hold no sequence, sequences no tokens, and tokens no neighbours.
TEST(EmptyBatch, is_no_special_case) {
  Params<float> p;
  const Param weight = p.add("w", 4, 6, Group::weight), bias = p.add("b", 1, 4, Group::bias), table = p.add("t", 2, 3, Group::weight);
  p.allocate();
  for (const ParamInfo& info : p.list()) p.init_normal(info.at, 1, 1.0);
  for (const Ids& offsets : {Ids{0}, Ids{0, 0, 0}, Ids{0, 1, 1, 2}}) {  // nothing, empty sequences, lonely tokens
    Arena arena;
    Aligned<float> gradients(p.size());
    Tape<float> t(arena, p.values().data(), gradients.data());
    const auto rows = static_cast<std::size_t>(offsets.back()), sequences = offsets.size() - 1;
    const Ids first(rows, 1), zeros(2 * rows, 0);
    Var<float> x = gather_rows<float>(t, t.param(table), first);
    x = stochastic_depth<float>(t, x, offsets, 0.5);
    x = layer_scale(t, gate(t, activation(t, x, Activation::silu), x), slice_columns(t, t.param(bias), 0, 3));
    const Graph graph = knn_graph<float>(arena, offsets, 3, x->value, 3, Metric::euclidean);
    EXPECT_EQ(graph.edges(), 0u);
    Var<float> y = edge_conv(t, x, graph, t.param(weight), t.param(bias), Activation::gelu, Aggregate::max);
    EXPECT_EQ(segment_mean(t, edge_features(t, x, graph), graph.offsets)->rows, rows);
    y = concat_columns<float>(t, std::vector<Var<float>>{y, x});
    y = concat_rows<float>(t, std::vector<Var<float>>{y, y});
    EXPECT_EQ(y->rows, 2 * rows);
    y = scatter_add_rows<float>(t, slice_columns(t, y, 0, 3), zeros, 1);
    NearestCodes<float> nearest;
    nearest.build(2, 3, t.param(table)->value);
    const Quantised<float> q = quantise(t, x, t.param(table), nearest, {1, 1, 1});
    EXPECT_EQ(q.ids.size(), rows);
    Var<float> pooled = segment_softmax_sum(t, q.value, slice_columns(t, q.value, 0, 1), offsets);
    pooled = film<float>(t, broadcast_rows<float>(t, pooled, offsets), pooled, pooled, offsets);
    Var<float> sum = add(t, segment_max(t, pooled, offsets), segment_sum(t, pooled, offsets));
    EXPECT_EQ(sum->rows, sequences);
    for (const Var<float> v : {sum, y}) {
      v->grad = t.scratch(v->size());
      std::fill_n(v->grad, v->size(), 1.f);
    }
    t.backward();
    for (const float g : std::span(gradients.data(), gradients.size())) EXPECT_TRUE(std::isfinite(g));
  }
}

}  // namespace
}  // namespace bl::nn::testing
