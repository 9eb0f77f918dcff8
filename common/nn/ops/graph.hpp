// Nearest neighbours inside each sequence, and convolutions over them (ParticleNet's EdgeConv, arXiv:1902.08570 after
// Wang et al., arXiv:1801.07829; the local block of point-edge transformers).
//
// A graph names for each token i its neighbours j: an edge i ← j is one row of a matrix, the edges of token i are rows
// offsets[i] … offsets[i + 1] - 1. Nothing is padded: a token of a sequence of n tokens has min(k, n - 1) neighbours, and
// a lonely one has none. So what is a mean or a maximum over neighbours is segment_mean or segment_max with graph.offsets,
// zero for a lonely token.
#pragma once
#include <cstdint>
#include <span>

#include "nn/kernels.hpp"
#include "nn/tape.hpp"

namespace bl::nn {

struct Graph {
  std::span<const std::int32_t> offsets;     // (tokens + 1), rising from 0 to the number of edges
  std::span<const std::int32_t> neighbours;  // (edges), row numbers of the packed matrix
  std::size_t tokens() const { return offsets.size() - 1; }
  std::size_t edges() const { return neighbours.size(); }
};

// euclidean: Σ (a - b)² over all coordinates. delta_r: coordinates (eta or rapidity, phi), (Δη)² + (Δφ)² with Δφ taken
// into [-π, π], whatever branch phi is on.
enum class Metric : std::uint8_t { euclidean, delta_r };

// The k nearest other tokens of each token's own sequence, the nearest first; of equally distant ones the lower row
// first, so that the graph does not depend on anything but the data. A distance that is not a number counts as infinite.
// coordinates (tokens, dim): constants such as (eta, phi), or the values of a Var (a dynamic graph). sequences
// (sequences + 1): offsets of the packed batch. The result lives in the arena. No gradient flows through the choice.
template <class T>
Graph knn_graph(Arena& arena, std::span<const std::int32_t> sequences, std::size_t k, const T* coordinates, std::size_t dim, Metric metric);

// The row of edge i ← j is [x_i, x_j - x_i]. x (tokens, width), y (edges, 2 width).
template <class T>
Var<T> edge_features(Tape<T>& tape, Var<T> x, const Graph& graph);

// act([x_i, x_j - x_i] Wᵀ + b), the first layer of an edge's network. W (out, 2 width), b (1, out) or none, y (edges, out).
// The same as linear(edge_features(x)), but the product is taken once per token instead of once per edge.
template <class T>
Var<T> edge_linear(Tape<T>& tape, Var<T> x, const Graph& graph, Var<T> w, Var<T> b, Activation act = Activation::none);

enum class Aggregate : std::uint8_t { mean, max };
// Edge convolution of one layer: edge_linear, then mean or maximum over the neighbours. y (tokens, out). For more layers
// put linear() between edge_linear() and segment_mean() or segment_max().
template <class T>
Var<T> edge_conv(Tape<T>& tape, Var<T> x, const Graph& graph, Var<T> w, Var<T> b, Activation act, Aggregate aggregate);

}  // namespace bl::nn
