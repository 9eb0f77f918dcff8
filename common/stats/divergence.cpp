#include "stats/divergence.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <numeric>

#include "base/error.hpp"

namespace bl::stats {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

// numpy.quantile (linear) of sorted values at numpy.linspace(low, high, n), to the last bit: values may lie on an edge.
std::vector<double> quantiles(std::span<const double> sorted, double low, double high, std::size_t n) {
  std::vector<double> out(n);
  const double step = (high - low) / static_cast<double>(n - 1);
  for (std::size_t i = 0; i < n; ++i) {
    const double p = i + 1 == n ? high : static_cast<double>(i) * step + low;
    const double at = static_cast<double>(sorted.size() - 1) * p;
    const double below = std::floor(at);
    const auto k = static_cast<std::size_t>(below);
    const double a = sorted[k], b = sorted[std::min(k + 1, sorted.size() - 1)], t = at - below;
    out[i] = t < 0.5 ? a + (b - a) * t : b - (b - a) * (1 - t);
  }
  return out;
}

// Contents of the bins between edges: bin i holds edge i <= x < edge i+1, the last one its upper edge too (numpy.histogram).
// open: the first and the last bin reach to infinity, and edges are the inner ones.
std::vector<double> contents(const Sample& sample, std::span<const double> edges, bool open) {
  const std::size_t bins = open ? edges.size() + 1 : edges.size() - 1;
  std::vector<double> sums(bins);
  for (std::size_t i = 0; i < sample.value.size(); ++i) {
    const double x = sample.value[i], w = sample.weight.empty() ? 1 : sample.weight[i];
    auto k = static_cast<std::size_t>(std::upper_bound(edges.begin(), edges.end(), x) - edges.begin());
    if (!open) {
      if (x == edges.back()) k = bins;
      if (k == 0 || k > bins) continue;
      --k;
    }
    sums[k] += w;
  }
  return sums;
}

// sum p ln(p / q) after both are normalised, as scipy.stats.entropy: 0 where p = 0, infinite where only q = 0.
double relative_entropy(std::span<const double> p, std::span<const double> q) {
  const double sum_p = std::accumulate(p.begin(), p.end(), 0.0), sum_q = std::accumulate(q.begin(), q.end(), 0.0);
  double kl = 0;
  for (std::size_t i = 0; i < p.size(); ++i) {
    const double a = p[i] / sum_p, b = q[i] / sum_q;
    if (a > 0) kl += a * std::log(a / b);
  }
  return kl;
}

std::vector<double> sorted_values(const Sample& sample) {
  std::vector<double> sorted(sample.value.begin(), sample.value.end());
  std::sort(sorted.begin(), sorted.end());
  return sorted;
}

}  // namespace

std::string_view name_of(KlDefinition definition) { return definition == KlDefinition::omnijet_alpha ? "omnijet-alpha" : "ntp4jets"; }

std::vector<double> kl_edges(KlDefinition definition, const Sample& reference, std::size_t bins) {
  require(reference);
  std::vector<double> edges;
  if (definition == KlDefinition::omnijet_alpha) {
    if (bins < 2) fail(Exit::usage, "the KL divergence of OmniJet-alpha needs 2 quantile points or more, not {}", bins);
    edges = quantiles(sorted_values(reference), 0.001, 0.999, bins);
  } else {
    if (bins < 1) fail(Exit::usage, "the KL divergence needs 1 bin or more, not {}", bins);
    edges = quantiles(sorted_values(reference), 0.0, 1.0, bins + 1);
    edges.pop_back();
    edges.erase(edges.begin());
  }
  edges.erase(std::unique(edges.begin(), edges.end()), edges.end());
  return edges;
}

double kl_omnijet_alpha(const Sample& reference, const Sample& sample, std::size_t points) {
  require(sample);
  const std::vector<double> edges = kl_edges(KlDefinition::omnijet_alpha, reference, points);
  if (edges.size() < 2) return kNan;
  const auto densities = [&](const Sample& from) {
    std::vector<double> d = contents(from, edges, false);
    const double sum = std::accumulate(d.begin(), d.end(), 0.0);
    for (std::size_t i = 0; i < d.size(); ++i) d[i] = d[i] / (edges[i + 1] - edges[i]) / sum + 1e-8;
    return d;
  };
  const std::vector<double> p = densities(reference), q = densities(sample);
  return std::isfinite(p[0]) && std::isfinite(q[0]) ? relative_entropy(p, q) : kNan;  // 0 / 0: nothing is inside
}

double kl_ntp4jets(const Sample& reference, const Sample& sample, std::size_t bins) {
  require(sample);
  const std::vector<double> edges = kl_edges(KlDefinition::ntp4jets, reference, bins);
  return relative_entropy(contents(reference, edges, true), contents(sample, edges, true));
}

double kl_divergence(KlDefinition definition, const Sample& reference, const Sample& sample, std::size_t bins) {
  return definition == KlDefinition::omnijet_alpha ? kl_omnijet_alpha(reference, sample, bins) : kl_ntp4jets(reference, sample, bins);
}

double jensen_shannon_of_histograms(std::span<const double> p, std::span<const double> q, LogBase base) {
  if (p.size() != q.size()) fail(Exit::usage, "histograms of {} and {} bins cannot be compared", p.size(), q.size());
  for (const auto& h : {p, q}) {
    for (std::size_t i = 0; i < h.size(); ++i)
      if (!std::isfinite(h[i]) || h[i] < 0) fail(Exit::input, "content {} of a histogram is {}: it must be finite and not negative here", i, h[i]);
    if (!(std::accumulate(h.begin(), h.end(), 0.0) > 0)) fail(Exit::input, "an empty histogram has no distribution to compare");
  }
  const double sum_p = std::accumulate(p.begin(), p.end(), 0.0), sum_q = std::accumulate(q.begin(), q.end(), 0.0);
  double js = 0;
  for (std::size_t i = 0; i < p.size(); ++i) {
    const double a = p[i] / sum_p, b = q[i] / sum_q, m = 0.5 * (a + b);
    if (a > 0) js += 0.5 * a * std::log(a / m);
    if (b > 0) js += 0.5 * b * std::log(b / m);
  }
  js = std::max(js, 0.0);  // rounding
  return base == LogBase::two ? js / std::numbers::ln2 : js;
}

double jensen_shannon(const Sample& reference, const Sample& sample, std::size_t bins, LogBase base) {
  require(sample);
  const std::vector<double> edges = kl_edges(KlDefinition::ntp4jets, reference, bins);
  return jensen_shannon_of_histograms(contents(reference, edges, true), contents(sample, edges, true), base);
}

}  // namespace bl::stats
