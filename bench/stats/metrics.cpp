// Metrics of generated samples with their default settings on one thread, in seconds; energy mover's distances and energy
// flow polynomials in microseconds each. metrics.py does the same with jetnet, scipy and energyflow.
// usage: bench_stats
#include <chrono>
#include <cmath>
#include <cstdio>
#include <functional>
#include <numbers>
#include <vector>

#include "physics/energy_flow.hpp"
#include "stats/energy_mover.hpp"
#include "stats/physics_distance.hpp"
#include "stats/wasserstein.hpp"

namespace {

using namespace bl;
using namespace bl::stats;

double seconds(const std::function<void()>& work) {
  const auto begin = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

std::vector<double> uniform(std::size_t n, const char* purpose) {
  const Rng rng(1, purpose);
  std::vector<double> out(n);
  for (std::size_t i = 0; i < n; ++i) out[i] = rng.uniform(0, i);
  return out;
}

// 100 jets of n particles: falling pt, a Gaussian of width 0.3 in y and phi, sums of pt 1 … 1.2.
struct ToyJets {
  std::vector<double> pt, y, phi;
  std::vector<std::uint32_t> offsets{0};
  explicit ToyJets(std::size_t n) {
    const Rng rng(1, "jets");
    for (std::size_t j = 0; j < 100; ++j) {
      double sum = 0;
      for (std::size_t k = 0; k < n; ++k) {
        pt.push_back(std::exp(-6 * rng.uniform(j, 3 * k)));
        y.push_back(0.3 * rng.normal(j, 3 * k + 1));
        phi.push_back(0.3 * rng.normal(j, 3 * k + 2));
        sum += pt.back();
      }
      for (std::size_t k = pt.size() - n; k < pt.size(); ++k) pt[k] /= sum * (1 + 0.1 * static_cast<double>(j % 3));
      offsets.push_back(static_cast<std::uint32_t>(pt.size()));
    }
  }
  Jets view() const { return {pt, y, phi, offsets}; }
};

}  // namespace

int main() {
  Pool pool(1);
  const std::vector<double> a = uniform(50'000 * 36, "reference"), b = uniform(50'000 * 36, "generated");
  std::printf("FPD, 50,000 x 36, defaults          %8.3f s\n", seconds([&] { fpd({a, 36}, {b, 36}, {}, Rng(42, "fpd"), pool); }));
  std::printf("KPD, 50,000 x 36, defaults          %8.3f s\n", seconds([&] { kpd({a, 36}, {b, 36}, {}, Rng(42, "kpd"), pool); }));
  const Sample x{std::span(a).first(1'000'000)}, y{std::span(b).first(1'000'000)};
  std::printf("W1 of 1,000,000 values              %8.3f s\n", seconds([&] { wasserstein1(x, y); }));
  std::printf("W1, recipe of jetnet, 1,000,000     %8.3f s\n", seconds([&] { w1_jetnet(Sorted(x), Sorted(y), {}, Rng(42, "w1"), pool); }));
  for (const std::size_t n : {20, 50, 100}) {
    const ToyJets toy(n);
    const Jets jets = toy.view();
    EnergyMover mover;
    double sum = 0;  // printed, so that the work is done
    const double emd = seconds([&] {
      for (std::size_t i = 0; i < jets.size(); ++i)
        for (std::size_t j = 0; j < jets.size(); ++j) sum += mover.distance(jets[i], jets[j]);
    });
    std::vector<double> scratch;
    const double efp = seconds([&] {
      for (int round = 0; round < 10; ++round)
        for (std::size_t i = 0; i < jets.size(); ++i) sum += physics::energy_flow(jets[i].pt, jets[i].y, jets[i].phi, scratch)[20];
    });
    std::printf("%3zu particles: EMD %8.1f us, 36 energy flow polynomials %8.1f us (sum %.6g)\n", n, emd * 1e2, efp * 1e3, sum);
  }
  return 0;
}
