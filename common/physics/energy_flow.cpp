#include "physics/energy_flow.hpp"

#include <cmath>
#include <numeric>

#include "base/error.hpp"
#include "physics/vectors.hpp"

namespace bl::physics {
namespace {

// Connected graphs first, by their number of edges; then the products of them, as pairs of numbers of earlier graphs.
constexpr std::size_t kConnected = 21;
constexpr std::array<std::string_view, kEnergyFlowPolynomials> kGraphs{
    "a",
    "ab",
    "ab ab",
    "ab bc",
    "ab ab ab",
    "ab ab bc",
    "ab ac ad",
    "ab bc cd",
    "ab bc ca",
    "ab ab ab ab",
    "ab ab ab bc",
    "ab ab bc bc",
    "ab ab ac ad",
    "ab ac ad ae",
    "ab ab bc cd",
    "ab bc bc cd",
    "ab bc cd de",
    "ab ac ad de",
    "ab ab bc ca",
    "ab bc ca cd",
    "ab bc cd da",
    "ab * ab",
    "ab * ab ab",
    "ab * ab bc",
    "ab * ab * ab",
    "ab * ab ab ab",
    "ab * ab ab bc",
    "ab * ab ac ad",
    "ab * ab bc cd",
    "ab * ab bc ca",
    "ab ab * ab ab",
    "ab ab * ab bc",
    "ab bc * ab bc",
    "ab * ab * ab ab",
    "ab * ab * ab bc",
    "ab * ab * ab * ab",
};
constexpr std::array<std::array<std::size_t, 2>, kEnergyFlowPolynomials - kConnected> kProducts{
    {{1, 1}, {1, 2}, {1, 3}, {1, 21}, {1, 4}, {1, 5}, {1, 6}, {1, 7}, {1, 8}, {2, 2}, {2, 3}, {3, 3}, {21, 2}, {21, 3}, {21, 21}}};

}  // namespace

std::span<const std::string_view> energy_flow_graphs() { return kGraphs; }

std::array<double, kEnergyFlowPolynomials> energy_flow(std::span<const double> pt, std::span<const double> y, std::span<const double> phi,
                                                       std::vector<double>& scratch) {
  const std::size_t n = pt.size();
  check(y.size() == n && phi.size() == n, "energy_flow takes one pt, y and phi for each particle");
  std::array<double, kEnergyFlowPolynomials> efp{};
  efp[0] = std::accumulate(pt.begin(), pt.end(), 0.0);

  // Per particle i: v_k = sum_j pt_j Delta_ij^k, and u = sum_j Delta_ij pt_j v_1j. Matrices: Delta, and t = Delta pt Delta,
  // the paths of two edges.
  scratch.assign(2 * n * n + 5 * n, 0.0);
  double* const delta = scratch.data();
  double* const t = delta + n * n;
  double* const v1 = t + n * n;
  double *const v2 = v1 + n, *const v3 = v2 + n, *const v4 = v3 + n, *const u = v4 + n;
  for (std::size_t i = 0; i < n; ++i)
    for (std::size_t j = 0; j < n; ++j) {
      const double d = i == j ? 0 : delta_r(y[i], phi[i], y[j], phi[j]), square = d * d;
      delta[i * n + j] = d;
      v1[i] += pt[j] * d;
      v2[i] += pt[j] * square;
      v3[i] += pt[j] * square * d;
      v4[i] += pt[j] * square * square;
    }
  for (std::size_t i = 0; i < n; ++i)
    for (std::size_t j = 0; j < n; ++j) {
      const double step = delta[i * n + j] * pt[j];
      u[i] += step * v1[j];
      for (std::size_t k = 0; k < n; ++k) t[i * n + k] += step * delta[j * n + k];
    }
  for (std::size_t i = 0; i < n; ++i) {
    const double z = pt[i], a = v1[i], b = v2[i];
    efp[1] += z * a;
    efp[2] += z * b;
    efp[3] += z * a * a;
    efp[4] += z * v3[i];
    efp[5] += z * b * a;
    efp[6] += z * a * a * a;
    efp[7] += z * a * u[i];
    efp[9] += z * v4[i];
    efp[10] += z * v3[i] * a;
    efp[11] += z * b * b;
    efp[12] += z * b * a * a;
    efp[13] += z * a * a * a * a;
    efp[14] += z * b * u[i];
    efp[16] += z * u[i] * u[i];
    efp[17] += z * a * a * u[i];
    for (std::size_t j = 0; j < n; ++j) {
      const double d = delta[i * n + j], two = t[i * n + j], w = z * pt[j];
      efp[8] += w * d * two;
      efp[15] += w * a * v1[j] * d * d;
      efp[18] += w * d * d * two;
      efp[19] += w * a * d * two;
      efp[20] += w * two * two;
    }
  }
  for (std::size_t p = 0; p < kProducts.size(); ++p) efp[kConnected + p] = efp[kProducts[p][0]] * efp[kProducts[p][1]];
  return efp;
}

}  // namespace bl::physics
