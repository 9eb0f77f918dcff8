#include "stats/energy_mover.hpp"

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numbers>
#include <numeric>
#include <vector>

#include "base/error.hpp"

namespace bl::stats {
namespace {

constexpr std::uint32_t kNone = ~0u;

// Minimum cost of moving supplies to demands of the same sum. Nodes: sources 0 … n-1, sinks n … n+m-1, root n+m. The basis is
// a spanning tree; it starts with an expensive arc between the root and every node, which at the end carry rounding alone.
class Transport {
 public:
  std::vector<double> supply, demand;                                           // all > 0
  Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> cost;  // sources x sinks, >= 0

  double solve() {
    const std::size_t n = supply.size(), m = demand.size();
    start();
    const double tolerance = -1e-13 * expensive_;
    const std::size_t most = 100'000 + 100 * (n + m);
    std::size_t idle = 0, row = 0, pivots = 0;
    while (idle < n) {  // rows without an arc that gains, one after the other
      reduced_ = cost.row(static_cast<Eigen::Index>(row)).transpose().array() - potential_.tail(static_cast<Eigen::Index>(m));
      const double least = reduced_.minCoeff();
      const double gain = least + potential_[static_cast<Eigen::Index>(row)];
      if (gain < tolerance) {
        std::uint32_t column = 0;
        while (reduced_[column] != least) ++column;
        pivot(static_cast<std::uint32_t>(row), static_cast<std::uint32_t>(n) + column, gain);
        if (++pivots > most) fail(Exit::failed, "the energy mover's distance between jets of {} and {} particles did not converge in {} steps", n, m, most);
        idle = 0;
      } else {
        ++idle;
        row = row + 1 == n ? 0 : row + 1;
      }
    }
    double total = 0;
    for (std::uint32_t v = 0; v < root_; ++v)
      if (node_[v].parent != root_) total += node_[v].flow * arc_cost(v);
    return total;
  }

 private:
  struct Node {
    std::uint32_t parent = kNone, child = kNone, next = kNone, previous = kNone, depth = 0;
    bool up = false;  // the arc with the parent leads to the parent
    double flow = 0;  // of that arc
  };
  std::vector<Node> node_;
  std::vector<std::uint32_t> stack_;
  Eigen::ArrayXd potential_;  // a tree arc i -> j has cost + potential i - potential j = 0
  Eigen::ArrayXd reduced_;    // costs of one row less the sinks' potentials
  std::uint32_t root_ = 0;
  double expensive_ = 0;

  void start() {
    const std::size_t n = supply.size(), m = demand.size();
    root_ = static_cast<std::uint32_t>(n + m);
    // More than any path that a flow between sources and sinks could take instead.
    expensive_ = (cost.maxCoeff() + std::numeric_limits<double>::min()) * static_cast<double>(std::min(n, m) + 1);
    node_.assign(n + m + 1, {});
    potential_.resize(static_cast<Eigen::Index>(n + m));
    potential_.head(static_cast<Eigen::Index>(n)) = -expensive_;
    potential_.tail(static_cast<Eigen::Index>(m)) = expensive_;
    for (std::uint32_t v = 0; v < root_; ++v) {
      node_[v].depth = 1;
      node_[v].up = v < n;
      node_[v].flow = v < n ? supply[v] : demand[v - n];
      attach(v, root_);
    }
  }

  double arc_cost(std::uint32_t v) const {  // between v and its parent, neither of them the root
    const auto n = static_cast<std::uint32_t>(supply.size());
    const std::uint32_t u = node_[v].parent;
    return v < n ? cost(v, u - n) : cost(u, v - n);
  }

  void attach(std::uint32_t v, std::uint32_t parent) {
    Node& node = node_[v];
    node.parent = parent;
    node.previous = kNone;
    node.next = node_[parent].child;
    if (node.next != kNone) node_[node.next].previous = v;
    node_[parent].child = v;
  }
  void detach(std::uint32_t v) {
    const Node& node = node_[v];
    if (node.previous != kNone) node_[node.previous].next = node.next;
    else node_[node.parent].child = node.next;
    if (node.next != kNone) node_[node.next].previous = node.previous;
  }

  // The arc from source u to sink v, of negative reduced cost, enters the basis.
  void pivot(std::uint32_t u, std::uint32_t v, double reduced) {
    std::uint32_t a = u, b = v;
    while (a != b) {
      if (node_[a].depth >= node_[b].depth) a = node_[a].parent;
      else b = node_[b].parent;
    }
    const std::uint32_t join = a;
    // Flow runs join … u -> v … join. Of the arcs that it empties, the last one on this way leaves: so the tree stays
    // strongly feasible and degenerate steps cannot go in a circle.
    double change = std::numeric_limits<double>::infinity();
    std::uint32_t leaving = kNone;
    bool on_source_side = true;
    for (std::uint32_t w = u; w != join; w = node_[w].parent)
      if (node_[w].up && node_[w].flow < change) {
        change = node_[w].flow;
        leaving = w;
      }
    for (std::uint32_t w = v; w != join; w = node_[w].parent)
      if (!node_[w].up && node_[w].flow <= change) {
        change = node_[w].flow;
        leaving = w;
        on_source_side = false;
      }
    check(leaving != kNone, "a transport problem with costs >= 0 is bounded");
    for (std::uint32_t w = u; w != join; w = node_[w].parent) node_[w].flow += node_[w].up ? -change : change;
    for (std::uint32_t w = v; w != join; w = node_[w].parent) node_[w].flow += node_[w].up ? change : -change;

    // The part cut off hangs on the entering arc: parents from its end up to the cut are turned round.
    std::uint32_t below = on_source_side ? u : v, parent = on_source_side ? v : u;
    const std::uint32_t top = below;
    bool up = on_source_side;
    double flow = change;
    while (true) {
      const std::uint32_t old_parent = node_[below].parent;
      const bool old_up = node_[below].up;
      const double old_flow = node_[below].flow;
      detach(below);
      attach(below, parent);
      node_[below].up = up;
      node_[below].flow = flow;
      if (below == leaving) break;
      parent = below;
      below = old_parent;
      up = !old_up;
      flow = old_flow;
    }
    const double shift = on_source_side ? -reduced : reduced;
    stack_.assign(1, top);
    while (!stack_.empty()) {
      const std::uint32_t w = stack_.back();
      stack_.pop_back();
      potential_[static_cast<Eigen::Index>(w)] += shift;
      node_[w].depth = node_[node_[w].parent].depth + 1;
      for (std::uint32_t c = node_[w].child; c != kNone; c = node_[c].next) stack_.push_back(c);
    }
  }
};

}  // namespace

struct EnergyMover::State {
  EmdOptions options;
  Transport transport;
  std::vector<double> y[2], phi[2];
};

EnergyMover::EnergyMover(const EmdOptions& options) : state_(std::make_unique<State>()) {
  if (!(options.radius > 0) || !std::isfinite(options.radius))
    fail(Exit::usage, "the radius of the energy mover's distance is {}: it must be above 0", options.radius);
  state_->options = options;
}
EnergyMover::~EnergyMover() = default;
EnergyMover::EnergyMover(EnergyMover&&) noexcept = default;
EnergyMover& EnergyMover::operator=(EnergyMover&&) noexcept = default;

double EnergyMover::distance(const Cloud& a, const Cloud& b) {
  Transport& t = state_->transport;
  const EmdOptions& options = state_->options;
  double sums[2] = {0, 0};
  for (int side = 0; side < 2; ++side) {
    const Cloud& jet = side == 0 ? a : b;
    check(jet.y.size() == jet.pt.size() && jet.phi.size() == jet.pt.size(), "a jet has one pt, y and phi for each particle");
    std::vector<double>& pt = side == 0 ? t.supply : t.demand;
    pt.clear();
    state_->y[side].clear();
    state_->phi[side].clear();
    for (std::size_t i = 0; i < jet.pt.size(); ++i) {
      if (!std::isfinite(jet.pt[i]) || jet.pt[i] < 0 || !std::isfinite(jet.y[i]) || !std::isfinite(jet.phi[i]))
        fail(Exit::input, "particle {} of a jet has pt {}, y {}, phi {}: the energy mover's distance needs finite values and pt >= 0", i, jet.pt[i], jet.y[i],
             jet.phi[i]);
      if (jet.pt[i] == 0) continue;
      pt.push_back(jet.pt[i]);
      state_->y[side].push_back(jet.y[i]);
      state_->phi[side].push_back(jet.phi[i]);
      sums[side] += jet.pt[i];
    }
    if (!options.normalise) continue;
    if (pt.empty()) fail(Exit::input, "a jet without particles cannot be normalised for the energy mover's distance");
    for (double& x : pt) x /= sums[side];
  }
  if (t.supply.empty() || t.demand.empty()) return std::abs(sums[0] - sums[1]);
  const std::size_t n = t.supply.size(), m = t.demand.size();
  const double missing = options.normalise ? 0 : sums[1] - sums[0];
  if (missing > 0) t.supply.push_back(missing);
  if (missing < 0) t.demand.push_back(-missing);
  t.cost.resize(static_cast<Eigen::Index>(t.supply.size()), static_cast<Eigen::Index>(t.demand.size()));
  t.cost.setOnes();
  for (std::size_t i = 0; i < n; ++i)
    for (std::size_t j = 0; j < m; ++j) {
      const double dy = state_->y[0][i] - state_->y[1][j];
      double dphi = state_->phi[0][i] - state_->phi[1][j];
      if (options.periodic_phi) dphi = std::remainder(dphi, 2 * std::numbers::pi);
      t.cost(static_cast<Eigen::Index>(i), static_cast<Eigen::Index>(j)) = std::sqrt(dy * dy + dphi * dphi) / options.radius;
    }
  return t.solve();
}

CovMmd cov_mmd(std::size_t reference_rows, std::size_t sample_rows, const RowDistance& distance, const CovMmdOptions& options, const Rng& rng, Pool& pool) {
  if (options.draws == 0 || options.batches == 0)
    fail(Exit::usage, "COV and MMD need 1 batch or more of 1 jet or more, not {} of {}", options.batches, options.draws);
  if (reference_rows == 0 || sample_rows == 0) fail(Exit::input, "COV and MMD need jets of both samples, not {} and {}", reference_rows, sample_rows);
  const std::size_t n = options.draws;
  std::vector<double> coverage, matching;
  std::vector<std::uint32_t> reference(n), sample(n);
  std::vector<double> matrix(n * n);  // [sample][reference]
  for (std::size_t batch = 0; batch < options.batches; ++batch) {
    draw_rows(rng, batch, Drawn::reference, reference_rows, reference);
    draw_rows(rng, batch, Drawn::sample, sample_rows, sample);
    pool.run(n, [&](std::size_t i, std::size_t worker) {
      for (std::size_t j = 0; j < n; ++j) matrix[i * n + j] = distance(worker, sample[i], reference[j]);
    });
    std::vector<double> nearest(n, std::numeric_limits<double>::infinity());
    std::vector<bool> covered(n);
    for (std::size_t i = 0; i < n; ++i) {
      const auto row = matrix.begin() + static_cast<std::ptrdiff_t>(i * n);
      covered[static_cast<std::size_t>(std::min_element(row, row + static_cast<std::ptrdiff_t>(n)) - row)] = true;
      for (std::size_t j = 0; j < n; ++j) nearest[j] = std::min(nearest[j], matrix[i * n + j]);
    }
    coverage.push_back(static_cast<double>(std::count(covered.begin(), covered.end(), true)) / static_cast<double>(n));
    matching.push_back(std::accumulate(nearest.begin(), nearest.end(), 0.0) / static_cast<double>(n));
  }
  const OverSeeds c = over_seeds(coverage), m = over_seeds(matching);
  return {{c.mean, c.error}, {m.mean, m.error}};
}

CovMmd cov_mmd(const Jets& reference, const Jets& sample, const EmdOptions& emd, const CovMmdOptions& options, const Rng& rng, Pool& pool) {
  std::vector<EnergyMover> movers;
  for (std::size_t w = 0; w < pool.threads(); ++w) movers.emplace_back(emd);
  return cov_mmd(
      reference.size(), sample.size(), [&](std::size_t worker, std::size_t i, std::size_t j) { return movers[worker].distance(sample[i], reference[j]); },
      options, rng, pool);
}

}  // namespace bl::stats
