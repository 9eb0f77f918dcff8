// Jets as sets of constituents: what they sum to, and how they are clustered (by FastJet, whose types stay inside).
//
// GeV; phi in [-pi, pi]; y is the rapidity, eta the pseudorapidity. Distances are those of the clustering algorithms:
// dR^2 = dy^2 + dphi^2. Everything is computed in a frame that moves along the beam with the hardest constituent and whose x
// axis points along it: a jet at |eta| = 15 has the digits of one at 0, small masses keep theirs, and nothing but eta, y and
// phi depends on a boost along the beam or a rotation about it.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "physics/vectors.hpp"

namespace bl::physics {

// One entry a constituent; an empty `mass` means massless ones.
struct Constituents {
  std::span<const float> pt, eta, phi, mass;
  std::size_t size() const { return pt.size(); }
};

struct Kinematics {
  double pt = 0, eta = 0, phi = 0, mass = 0;  // of the sum of the four-vectors
  double y = 0;
  double pt_sum = 0;         // scalar sum
  double pt_dispersion = 0;  // sqrt(sum pt^2) / sum pt: 1 for one constituent, 0 for none
  std::size_t multiplicity = 0;
};

// The constituents of one jet in double precision. assign() uses the memory of the jet before again.
class Jet {
 public:
  struct Particle {
    double pt, y, phi;  // in the jet's frame: add frame_y(), frame_phi()
    double eta;         // as it was given
    Momentum p;         // in the jet's frame
    double e_minus_px;  // without the cancellation
  };

  Jet() = default;
  explicit Jet(const Constituents& constituents) { assign(constituents); }
  // Throws Exit::input for a constituent whose numbers are not finite, whose pt or mass is negative, or whose |eta| is
  // above 100, with its place and value; and for columns of unequal length.
  void assign(const Constituents& constituents);

  // In the order given. A constituent without transverse momentum counts in the multiplicity and in the sum of the
  // four-vectors (a mass at rest along the beam), but has no direction: clustering leaves it out.
  const std::vector<Particle>& particles() const { return particles_; }
  std::size_t with_pt() const { return with_pt_; }  // how many have pt > 0
  double frame_y() const { return frame_y_; }       // those of the hardest constituent; 0 where none has pt
  double frame_phi() const { return frame_phi_; }
  double pt_sum() const { return pt_sum_; }
  // Of all, or of the constituents in these places. None: zeros. A sum along the beam: eta is ±infinity, phi 0.
  Kinematics kinematics() const;
  Kinematics kinematics(std::span<const std::uint32_t> members) const;

 private:
  std::vector<Particle> particles_;
  std::size_t with_pt_ = 0;
  double frame_y_ = 0, frame_phi_ = 0, pt_sum_ = 0;
};

enum class Algorithm { kt, cambridge_aachen, antikt };
// How two become one: the sum of the four-vectors, or the direction of the harder with the sum of the pt.
enum class Recombination { e_scheme, winner_take_all };

// As radius: no beam, everything ends in one jet (the largest that FastJet takes).
inline constexpr double kNoBeam = 1000;

struct Clustering {
  Algorithm algorithm = Algorithm::kt;
  double radius = 0.8;  // > 0, at most kNoBeam
  Recombination recombination = Recombination::e_scheme;
};

struct Subjet {
  double pt = 0, y = 0, eta = 0, phi = 0, mass = 0;  // y and eta in the laboratory
  std::vector<std::uint32_t> members;                // places among the constituents, rising
};

struct SoftDrop {
  Kinematics left;       // of what is left
  double z = 0, dr = 0;  // of the declustering that passed; 0 where none did and one constituent is left
};

// One run of a clustering algorithm, asked as often as needed. The jet must stay as it is meanwhile. Deterministic, and
// safe for one object a thread.
class ClusterSequence {
 public:
  // Throws Exit::usage for a radius out of range.
  ClusterSequence(const Jet& jet, const Clustering& clustering);
  ~ClusterSequence();
  ClusterSequence(ClusterSequence&&) noexcept;
  ClusterSequence& operator=(ClusterSequence&&) noexcept;

  // Jets of at least `pt_min`, by falling pt.
  std::vector<Subjet> inclusive(double pt_min = 0) const;
  // The state with n jets left, by falling pt; what was merged with the beam before belongs to none. min(n, constituents
  // with pt) of them.
  std::vector<Subjet> exclusive(std::size_t n) const;
  // Soft drop (Larkoski, Marzani, Soyez, Thaler, arXiv:1402.2657) of the hardest jet of a C/A sequence: the last merging
  // is undone and the softer part dropped until min(pt1, pt2) / (pt1 + pt2) > z_cut (dR / r0)^beta. beta 0 is the
  // modified mass drop. Zeros where there is no jet.
  SoftDrop soft_drop(double z_cut = 0.1, double beta = 0, double r0 = 0.8) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace bl::physics
