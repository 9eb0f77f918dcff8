#include "nn/ops/graph.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include "base/error.hpp"
#include "nn/gemm.hpp"
#include "nn/ops/rows.hpp"

namespace bl::nn {
namespace {

// Squared distances of n points to point i. points (dim, n): one coordinate after the other, so that loops over points
// become vectors while each distance is summed in the order of the coordinates.
template <class T>
void squared_distances(std::size_t n, std::size_t dim, const T* points, std::size_t i, Metric metric, T* distance) {
  std::fill_n(distance, n, T{0});
  for (std::size_t c = 0; c < dim; ++c, points += n) {
    const T at = points[i];
    if (metric == Metric::delta_r && c == 1) {
      constexpr T turn = 2 * std::numbers::pi_v<T>;
      for (std::size_t j = 0; j < n; ++j) {
        T d = points[j] - at;
        d -= turn * std::floor(d / turn + T{0.5});
        distance[j] += d * d;
      }
    } else {
      for (std::size_t j = 0; j < n; ++j) {
        const T d = points[j] - at;
        distance[j] += d * d;
      }
    }
  }
}

}  // namespace

template <class T>
Graph knn_graph(Arena& arena, std::span<const std::int32_t> sequences, std::size_t k, const T* coordinates, std::size_t dim, Metric metric) {
  check(!sequences.empty() && k > 0 && dim > 0, "knn_graph: without sequences, neighbours or coordinates");
  check(metric != Metric::delta_r || dim == 2, "knn_graph: delta R needs two coordinates, eta and phi");
  const auto tokens = static_cast<std::size_t>(sequences.back());
  std::size_t edges = 0, longest = 0;
  for (std::size_t s = 0; s + 1 < sequences.size(); ++s) {
    const auto n = static_cast<std::size_t>(sequences[s + 1] - sequences[s]);
    longest = std::max(longest, n);
    if (n > 0) edges += n * std::min(k, n - 1);
  }
  auto* const offsets = arena.take<std::int32_t>(tokens + 1);
  auto* const neighbours = arena.take<std::int32_t>(edges);
  T* const points = arena.take<T>(longest * dim);
  T* const distance = arena.take<T>(longest);
  T* const nearest = arena.take<T>(k);
  std::int32_t* edge = neighbours;
  offsets[0] = 0;
  for (std::size_t s = 0; s + 1 < sequences.size(); ++s) {
    const auto first = static_cast<std::size_t>(sequences[s]);
    const std::size_t n = static_cast<std::size_t>(sequences[s + 1]) - first;
    if (n == 0) continue;
    const std::size_t degree = std::min(k, n - 1);
    for (std::size_t j = 0; j < n; ++j)
      for (std::size_t c = 0; c < dim; ++c) points[c * n + j] = coordinates[(first + j) * dim + c];
    for (std::size_t i = 0; i < n; ++i, edge += degree) {
      squared_distances(n, dim, points, i, metric, distance);
      // Insertion into the sorted nearest so far; an equal distance goes behind, so lower rows stay first.
      std::size_t found = 0;
      for (std::size_t j = 0; j < n && degree > 0; ++j) {
        if (j == i) continue;
        const T d = distance[j] < std::numeric_limits<T>::infinity() ? distance[j] : std::numeric_limits<T>::infinity();
        if (found == degree && !(d < nearest[degree - 1])) continue;
        std::size_t at = found < degree ? found++ : degree - 1;
        for (; at > 0 && d < nearest[at - 1]; --at) {
          nearest[at] = nearest[at - 1];
          edge[at] = edge[at - 1];
        }
        nearest[at] = d;
        edge[at] = static_cast<std::int32_t>(first + j);
      }
      offsets[first + i + 1] = offsets[first + i] + static_cast<std::int32_t>(degree);
    }
  }
  return {{offsets, tokens + 1}, {neighbours, edges}};
}

template <class T>
Var<T> edge_features(Tape<T>& tape, Var<T> x, const Graph& graph) {
  check(graph.tokens() == x->rows, "edge_features: graph of another number of tokens");
  const std::size_t width = x->width;
  Var<T> y = tape.make(graph.edges(), 2 * width, {x});
  T* to = y->value;
  for (std::size_t i = 0; i < x->rows; ++i)
    for (std::int32_t e = graph.offsets[i]; e < graph.offsets[i + 1]; ++e, to += 2 * width) {
      const T* const xi = x->value + i * width;
      const T* const xj = x->value + static_cast<std::size_t>(graph.neighbours[static_cast<std::size_t>(e)]) * width;
      for (std::size_t c = 0; c < width; ++c) {
        to[c] = xi[c];
        to[width + c] = xj[c] - xi[c];
      }
    }
  tape.record([&tape, x, graph, y] {
    if (y->grad == nullptr) return;
    if (T* const dx = tape.open_zeroed(x)) {
      const std::size_t n = x->width;
      const T* dy = y->grad;
      for (std::size_t i = 0; i < x->rows; ++i)
        for (std::int32_t e = graph.offsets[i]; e < graph.offsets[i + 1]; ++e, dy += 2 * n) {
          T* const di = dx + i * n;
          T* const dj = dx + static_cast<std::size_t>(graph.neighbours[static_cast<std::size_t>(e)]) * n;
          for (std::size_t c = 0; c < n; ++c) {
            di[c] += dy[c] - dy[n + c];
            dj[c] += dy[n + c];
          }
        }
    }
    tape.close(y);
  });
  return y;
}

// With W = [W1, W2]: [x_i, x_j - x_i] Wᵀ = p_i + (q_j - q_i), where p = x W1ᵀ and q = x W2ᵀ have a row for each token.
template <class T>
Var<T> edge_linear(Tape<T>& tape, Var<T> x, const Graph& graph, Var<T> w, Var<T> b, Activation act) {
  check(graph.tokens() == x->rows, "edge_linear: graph of another number of tokens");
  check(w->width == 2 * x->width && (b == nullptr || b->size() == w->rows), "edge_linear: shapes do not fit");
  const std::size_t tokens = x->rows, in = x->width, out = w->rows, edges = graph.edges();
  Var<T> y = tape.make(edges, out, {x, w, b});
  T* const slope = act != Activation::none && y->wants_grad ? tape.arena().template take<T>(y->size()) : nullptr;
  T* const p = tape.scratch(tokens * out);
  T* const q = tape.scratch(tokens * out);
  gemm_rows(Trans::yes, tokens, out, in, x->value, in, w->value, 2 * in, p, out, false);
  gemm_rows(Trans::yes, tokens, out, in, x->value, in, w->value + in, 2 * in, q, out, false);
  T* to = y->value;
  for (std::size_t i = 0; i < tokens; ++i)
    for (std::int32_t e = graph.offsets[i]; e < graph.offsets[i + 1]; ++e, to += out) {
      const T* const qi = q + i * out;
      const T* const qj = q + static_cast<std::size_t>(graph.neighbours[static_cast<std::size_t>(e)]) * out;
      for (std::size_t c = 0; c < out; ++c) to[c] = p[i * out + c] + (qj[c] - qi[c]);
    }
  tape.give_back(p, tokens * out);
  tape.give_back(q, tokens * out);
  if (b != nullptr || act != Activation::none) kernels<T>().bias_activation(edges, out, y->value, b ? b->value : nullptr, act, nullptr, y->value, slope);
  tape.record([&tape, x, graph, w, b, slope, y] {
    if (y->grad == nullptr) return;
    const std::size_t n = x->rows, from = x->width, width = w->rows;
    kernels<T>().bias_activation_back(y->rows, width, slope, y->grad, y->grad, b ? tape.open_zeroed(b) : nullptr);
    T* const dp = tape.scratch(n * width);
    T* const dq = tape.scratch(n * width);
    std::fill_n(dp, n * width, T{0});
    std::fill_n(dq, n * width, T{0});
    const T* dy = y->grad;
    for (std::size_t i = 0; i < n; ++i) {
      for (std::int32_t e = graph.offsets[i]; e < graph.offsets[i + 1]; ++e, dy += width) {
        T* const dj = dq + static_cast<std::size_t>(graph.neighbours[static_cast<std::size_t>(e)]) * width;
        kernels<T>().add(width, dp + i * width, dy, dp + i * width);
        kernels<T>().add(width, dj, dy, dj);
      }
      kernels<T>().add_scaled(width, T{-1}, dp + i * width, dq + i * width);
    }
    if (T* const dw = tape.open_zeroed(w)) {
      gemm(Trans::yes, Trans::no, width, from, n, dp, width, x->value, from, dw, 2 * from, true);
      gemm(Trans::yes, Trans::no, width, from, n, dq, width, x->value, from, dw + from, 2 * from, true);
    }
    if (const Grad<T> dx = tape.open(x)) {
      gemm(Trans::no, Trans::no, n, from, width, dp, width, w->value, 2 * from, dx.data, from, dx.accumulate);
      gemm(Trans::no, Trans::no, n, from, width, dq, width, w->value + from, 2 * from, dx.data, from, true);
    }
    tape.give_back(dp, n * width);
    tape.give_back(dq, n * width);
    tape.close(y);
  });
  return y;
}

template <class T>
Var<T> edge_conv(Tape<T>& tape, Var<T> x, const Graph& graph, Var<T> w, Var<T> b, Activation act, Aggregate aggregate) {
  Var<T> edges = edge_linear(tape, x, graph, w, b, act);
  return aggregate == Aggregate::mean ? segment_mean(tape, edges, graph.offsets) : segment_max(tape, edges, graph.offsets);
}

#define BEAMLINE_INSTANTIATE(T)                                                                                \
  template Graph knn_graph(Arena&, std::span<const std::int32_t>, std::size_t, const T*, std::size_t, Metric); \
  template Var<T> edge_features(Tape<T>&, Var<T>, const Graph&);                                               \
  template Var<T> edge_linear(Tape<T>&, Var<T>, const Graph&, Var<T>, Var<T>, Activation);                     \
  template Var<T> edge_conv(Tape<T>&, Var<T>, const Graph&, Var<T>, Var<T>, Activation, Aggregate);
BEAMLINE_INSTANTIATE(float)
BEAMLINE_INSTANTIATE(double)
#undef BEAMLINE_INSTANTIATE

}  // namespace bl::nn
