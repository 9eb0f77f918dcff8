// Energy mover's distance between two jets, and coverage and minimum matching distance of samples by it.
#pragma once
#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <string_view>

#include "base/pool.hpp"
#include "base/rng.hpp"
#include "stats/sample.hpp"

namespace bl::stats {

// The particles of one jet: transverse momentum >= 0 (GeV, or a fraction of the jet's), (pseudo)rapidity and azimuth.
struct Cloud {
  std::span<const double> pt, y, phi;
};

struct EmdOptions {
  double radius = 1;          // R: moving by R costs as much as creating or destroying; > 0
  bool normalise = false;     // both jets to a sum of 1 first
  bool periodic_phi = false;  // differences of phi by the shorter way; else plain, for coordinates relative to the jet
};

// EMD = min over flows f_ij >= 0 of sum_ij f_ij Delta_ij / R + |sum_i pt_i - sum_j pt_j|, with sum_j f_ij <= pt_i, sum_i f_ij
// <= pt_j, sum f = the smaller sum, Delta_ij the distance in (y, phi): Komiske, Metodiev & Thaler, arXiv:1902.02346 eq. 1,
// in the unit of pt. As the energyflow package solves it: the difference of the sums is one more particle at distance R from
// all. So where R is less than half of some Delta_ij, a detour over that particle would be cheaper in a true metric but is
// not taken here.
// Exact to rounding, by the primal network simplex with strongly feasible trees (Cunningham, Math. Prog. 11 (1976) 105;
// Ahuja, Magnanti & Orlin, "Network Flows", 1993, ch. 11). One object per thread: it keeps its memory.
class EnergyMover {
 public:
  explicit EnergyMover(const EmdOptions& options = {});
  ~EnergyMover();
  EnergyMover(EnergyMover&&) noexcept;
  EnergyMover& operator=(EnergyMover&&) noexcept;

  // Particles of pt 0 take no part; a jet without particles is at the other's sum of pt. Exit::input when a pt is negative,
  // a value is not finite, or (normalise) a jet has no pt.
  double distance(const Cloud& a, const Cloud& b);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Coverage and minimum matching distance (Achlioptas et al., arXiv:1707.02392) with jetnet's defaults. In each batch, `draws`
// jets are drawn with replacement from either sample by draw_rows(), and the matrix of distances is made:
//   MMD = mean over reference jets of the distance to the nearest generated one (in the distance's unit; small is good)
//   COV = the number of different reference jets that are nearest to some generated jet / draws (in (0, 1]; large is good)
// as jetnet.evaluation.cov_mmd does (the comments there say the reverse). Both depend on `draws`, and COV of two samples of
// one truth is far below 1: compare with a floor. Values are means over batches; errors are those of these means, from the
// spread over batches (n - 1), NaN for one batch.
struct CovMmdOptions {
  std::size_t draws = 100, batches = 10;
};
struct CovMmd {
  Estimate coverage, matching_distance;
};
// distance(worker, sample_row, reference_row), called by several workers at once, worker < pool.threads().
using RowDistance = std::function<double(std::size_t worker, std::size_t sample_row, std::size_t reference_row)>;
CovMmd cov_mmd(std::size_t reference_rows, std::size_t sample_rows, const RowDistance& distance, const CovMmdOptions& options, const Rng& rng, Pool& pool);

// Jets as flat particle columns with jets + 1 offsets.
struct Jets {
  std::span<const double> pt, y, phi;
  std::span<const std::uint32_t> offsets;
  std::string_view name = "sample";
  std::size_t size() const { return offsets.empty() ? 0 : offsets.size() - 1; }
  Cloud operator[](std::size_t jet) const {
    const std::size_t from = offsets[jet], n = offsets[jet + 1] - offsets[jet];
    return {pt.subspan(from, n), y.subspan(from, n), phi.subspan(from, n)};
  }
};
// The same by the energy mover's distance. Exit::input as in EnergyMover::distance().
CovMmd cov_mmd(const Jets& reference, const Jets& sample, const EmdOptions& emd, const CovMmdOptions& options, const Rng& rng, Pool& pool);

}  // namespace bl::stats
