// Nearest-neighbour graphs and edge convolutions.
#include <gtest/gtest.h>

#include <numbers>
#include <set>

#include "golden_op.hpp"

namespace bl::nn::testing {
namespace {

using Ids = std::vector<std::int32_t>;

Ids list(std::span<const std::int32_t> ids) { return {ids.begin(), ids.end()}; }

class GoldenGraph : public ::testing::Test {
 protected:
  const bl::testing::Golden golden{BEAMLINE_SOURCE_DIR "/tests/golden/ops_graph.golden"};
  const Ids sequences = golden.as<std::int32_t>("sequences");
  template <class T>
  Graph graph(Arena& arena, const std::string& name) const {
    const std::vector<float>& from = golden.at(name + "/coordinates");
    T* const coordinates = arena.take<T>(from.size());
    std::copy(from.begin(), from.end(), coordinates);
    return knn_graph<T>(arena, sequences, 4, coordinates, golden.shape(name + "/coordinates")[1], name == "delta_r" ? Metric::delta_r : Metric::euclidean);
  }
};

TEST_F(GoldenGraph, neighbours) {
  Arena arena;
  for (const std::string name : {"delta_r", "feature_space"}) {
    const Ids degrees = golden.as<std::int32_t>(name + "/degrees");
    for (const Graph& g : {graph<float>(arena, name), graph<double>(arena, name)}) {
      EXPECT_EQ(list(g.neighbours), golden.as<std::int32_t>(name + "/neighbours")) << name;
      ASSERT_EQ(g.tokens(), degrees.size());
      for (std::size_t i = 0; i < degrees.size(); ++i) EXPECT_EQ(g.offsets[i + 1] - g.offsets[i], degrees[i]);
    }
  }
}

TEST_F(GoldenGraph, edge_convolutions) {
  const auto g = [this]<class T>(Tape<T>& t) { return graph<T>(t.arena(), "delta_r"); };
  std::set<std::string> seen;
  const auto expect = [&](const std::string& name, const auto& forward) {
    seen.insert(name);
    expect_golden(golden, name, forward);
  };
  expect("features", [&]<class T>(Tape<T>& t, const std::vector<Var<T>>& v) { return Result<T>{edge_features(t, v[0], g(t))}; });
  expect("linear_silu", [&]<class T>(Tape<T>& t, const std::vector<Var<T>>& v) { return Result<T>{edge_linear(t, v[0], g(t), v[1], v[2], Activation::silu)}; });
  expect("conv_mean",
         [&]<class T>(Tape<T>& t, const std::vector<Var<T>>& v) { return Result<T>{edge_conv(t, v[0], g(t), v[1], v[2], Activation::gelu, Aggregate::mean)}; });
  expect("conv_max",
         [&]<class T>(Tape<T>& t, const std::vector<Var<T>>& v) { return Result<T>{edge_conv(t, v[0], g(t), v[1], v[2], Activation::relu, Aggregate::max)}; });
  expect("conv_two_layers", [&]<class T>(Tape<T>& t, const std::vector<Var<T>>& v) {
    const Graph edges = g(t);
    Var<T> h = linear(t, edge_linear(t, v[0], edges, v[1], v[2], Activation::relu), v[3], v[4], Activation::relu);
    return Result<T>{segment_mean(t, h, edges.offsets)};
  });
  std::set<std::string> all;
  for (const auto& [name, values] : golden.all())
    if (name.ends_with("/value")) all.insert(name.substr(0, name.find('/')));
  EXPECT_EQ(seen, all);
}

TEST(Knn, wraps_phi_on_any_branch) {
  const double pi = std::numbers::pi;
  // token 0 at phi = 3.1: 1 is across the border, 2 the same direction one turn further, 3 plainly away
  const std::vector<double> points{0, 3.1, 0, -3.1, 0.01, 3.1 + 2 * pi, 0, 2.5};
  const Ids sequences{0, 4};
  Arena arena;
  const Graph g = knn_graph<double>(arena, sequences, 3, points.data(), 2, Metric::delta_r);
  EXPECT_EQ(list(g.neighbours.first(3)), (Ids{2, 1, 3}));
  const Graph flat = knn_graph<double>(arena, sequences, 3, points.data(), 2, Metric::euclidean);
  EXPECT_EQ(list(flat.neighbours.first(3)), (Ids{3, 1, 2}));
}

TEST(Knn, equal_distances_go_by_row_and_nan_goes_last) {
  const float nan = std::nanf("");
  const std::vector<float> points{0, 1, -1, 1, 0, nan, 5};
  const Ids sequences{0, 7};
  Arena arena;
  const Graph g = knn_graph<float>(arena, sequences, 4, points.data(), 1, Metric::euclidean);
  EXPECT_EQ(list(g.neighbours.first(4)), (Ids{4, 1, 2, 3}));
  EXPECT_EQ(list(g.neighbours.subspan(20, 4)), (Ids{0, 1, 2, 3}));  // all infinitely far
  EXPECT_EQ(list(g.neighbours.subspan(24, 4)), (Ids{1, 3, 0, 4}));
}

TEST(Knn, short_sequences_have_fewer_neighbours) {
  const std::vector<float> points{3, 1, 2, 9, 8, 7};
  const Ids sequences{0, 1, 1, 3, 6};
  Arena arena;
  const Graph g = knn_graph<float>(arena, sequences, 5, points.data(), 1, Metric::euclidean);
  EXPECT_EQ(list(g.offsets), (Ids{0, 0, 1, 2, 4, 6, 8}));
  EXPECT_EQ(list(g.neighbours), (Ids{2, 1, 4, 5, 3, 5, 4, 3}));

  // a lonely token's convolution is zero, whatever the bias
  const std::vector<float> w{1, 1}, b{5};
  Tape<float> tape(arena, nullptr, nullptr);
  for (const Aggregate a : {Aggregate::mean, Aggregate::max}) {
    const Var<float> y = edge_conv(tape, tape.input(points.data(), 6, 1), g, tape.input(w.data(), 1, 2), tape.input(b.data(), 1, 1), Activation::none, a);
    EXPECT_EQ(y->value[0], 0.f);
    EXPECT_EQ(y->value[1], 7.f);  // x_i + (x_j - x_i) + 5
  }
}

// edge_linear takes its product once per token; the plain way takes it once per edge.
TEST(EdgeConv, equals_the_plain_way) {
  Params<double> p;
  const Param x = p.add("x", 23, 6, Group::weight), w = p.add("w", 9, 12, Group::weight), b = p.add("b", 1, 9, Group::bias);
  p.allocate();
  for (const ParamInfo& info : p.list()) p.init_normal(info.at, 3, 1.0);
  const Ids sequences{0, 4, 16, 16, 22, 23};
  Arena arena;
  Aligned<double> fast(p.size()), plain(p.size());
  for (Aligned<double>* gradient : {&fast, &plain}) {
    Tape<double> tape(arena, p.values().data(), gradient->data());
    const Var<double> vx = tape.param(x), vw = tape.param(w), vb = tape.param(b);
    const Graph g = knn_graph(arena, sequences, 3, vx->value, 6, Metric::euclidean);
    Var<double> y = gradient == &fast ? edge_linear(tape, vx, g, vw, vb, Activation::tanh) : linear(tape, edge_features(tape, vx, g), vw, vb, Activation::tanh);
    y = segment_max(tape, y, g.offsets);
    y->grad = tape.scratch(y->size());
    for (std::size_t i = 0; i < y->size(); ++i) y->grad[i] = static_cast<double>(i % 7) - 3;
    tape.backward();
  }
  for (std::size_t i = 0; i < p.size(); ++i) ASSERT_NEAR(fast[i], plain[i], 1e-11);
}

}  // namespace
}  // namespace bl::nn::testing
