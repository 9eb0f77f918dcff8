// Substructure of jets: N-subjettiness, energy correlation functions and the table of all jet observables.
//
// Definitions
//   tau_N   = sum_i pt_i min_k(dR_ik)^beta / sum_i pt_i R0^beta over the axes k = 1 … N
//             Thaler, Van Tilburg, arXiv:1011.2268; minimised axes: arXiv:1108.2701. tau21 = tau2 / tau1, tau32 = tau3 / tau2.
//   e2      = sum_{i<j} z_i z_j dR_ij^beta                                with z_i = pt_i / sum pt
//   e3      = sum_{i<j<k} z_i z_j z_k (dR_ij dR_ik dR_jk)^beta
//   C2, D2  = e3 / e2^2 (Larkoski, Salam, Thaler, arXiv:1305.0007), e3 / e2^3 (Larkoski, Moult, Neill, arXiv:1409.6298)
// All are without dimension and do not change under boosts along the beam, rotations about it, collinear splittings and
// soft additions (pt_dispersion and multiplicity do).
//
// Where a value is missing it is NaN: a ratio with nothing below the line, tau and e of a jet without transverse momentum.
#pragma once
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/pool.hpp"
#include "data/batch.hpp"
#include "physics/jets.hpp"

namespace bl::physics {

// Where the axes of tau_N come from: the N exclusive jets of the kt algorithm, recombined in the E scheme or with the
// winner's direction.
enum class Axes { kt, winner_take_all };

// What is called distance between a constituent and an axis. The papers and fjcontrib take the rapidity. OmniJet-alpha
// takes the pseudorapidity, which differs for an axis with mass (by m^2 / 2 pt^2 tanh eta) and is not invariant under boosts;
// on samples/jets.bl it moves tau1 by 1 % (median), tau21 and tau32 by 0.005.
enum class AxisDistance { rapidity, pseudorapidity };

struct NsubjettinessOptions {
  double beta = 1;           // > 0
  double r0 = 0.8;           // the jet's radius, > 0
  double axes_radius = 0.8;  // of the kt clustering: 0.8 is OmniJet-alpha's, kNoBeam fjcontrib's
  Axes axes = Axes::kt;
  AxisDistance distance = AxisDistance::rapidity;
  // Moves the axes downhill to the local minimum of tau_N, from where the clustering put them (what Delphes, hence JetClass,
  // stores). 1 <= beta <= 2.
  bool minimise = false;
};

// tau_1 … tau_n. Exactly 0 from as many axes as constituents with pt on. Throws Exit::usage for options out of range.
std::vector<double> nsubjettiness(const Jet& jet, std::size_t n, const NsubjettinessOptions& options = {});

// Distances of rapidity. OmniJet-alpha's D2 is that of the last jet of its kt clustering, from which the beam may have taken
// wide-angle constituents before (4 of 100 jets of samples/jets.bl); ours is that of the jet.
struct EnergyCorrelations {
  double e2 = 0, e3 = 0, c2 = 0, d2 = 0;
};
// O(n^3 / 6) multiplications and n^2 doubles of memory that grows as needed and is used again.
class EnergyCorrelator {
 public:
  explicit EnergyCorrelator(double beta = 1);  // > 0; throws Exit::usage
  EnergyCorrelations operator()(const Jet& jet);

 private:
  double beta_;
  std::vector<double> angle_, weighted_, y_, phi_, z_;
};

// a / b, NaN where b is 0.
double ratio(double a, double b);

struct ObservableOptions {
  NsubjettinessOptions tau = {};
  double ecf_beta = 1;
  double z_cut = 0.1, soft_drop_beta = 0;  // of soft drop, with tau.r0 as its radius
  // A jet with fewer constituents of pt > 0 has NaN for tau, e, C2 and D2: OmniJet-alpha's code refuses such jets, and what
  // calls it leaves them out. pt, eta, phi, mass, multiplicity, pt_dispersion and soft-drop mass are given for every jet
  // (all 0 without constituents).
  std::size_t min_constituents = 3;
  // Ignore the masses of the constituents, as OmniJet-alpha does. Wanted wherever jets with masses are compared with jets
  // that have none (decoded tokens): pions without mass take 4 GeV off the mean jet mass of samples/jets.bl.
  bool massless = false;
};

// Columns of one value a jet.
struct JetTable {
  std::vector<std::string> names;
  std::vector<std::vector<double>> columns;
  std::size_t rows = 0;

  std::span<const double> at(std::string_view name) const;  // throws Exit::usage with the names that there are
  void append(const JetTable& other);                       // of the same names
};

// jet_pt, jet_eta, jet_phi, jet_mass, multiplicity, pt_dispersion, tau1, tau2, tau3, tau21, tau32, e2, e3, c2, d2, soft_drop_mass
const std::vector<std::string>& observable_names();

// The observables `names` of every jet of a particles/1 batch, from its constituents. What no name asks for is not
// computed. Each jet by itself: the numbers do not depend on threads or batching. Throws Exit::usage for an unknown name or an option
// out of range, Exit::input for a bad constituent, naming its jet.
JetTable jet_observables(const Batch& particles, const std::vector<std::string>& names, const ObservableOptions& options, Pool& pool);

}  // namespace bl::physics
