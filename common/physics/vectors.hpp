// Four-vectors in (pt, eta, phi, m) and (px, py, pz, E). GeV; eta is the pseudorapidity, phi in [-pi, pi].
#pragma once
#include <span>

namespace bl::physics {

struct Momentum {
  double px = 0, py = 0, pz = 0, e = 0;

  Momentum& operator+=(const Momentum& other) {
    px += other.px;
    py += other.py;
    pz += other.pz;
    e += other.e;
    return *this;
  }
  friend Momentum operator+(Momentum a, const Momentum& b) { return a += b; }

  double pt() const;
  double eta() const;  // of a momentum along the beam: ±infinity; of none: 0
  double phi() const;
  double mass2() const;  // e^2 - p^2, also where it is negative
  double mass() const;   // 0 where mass2() is negative
};

Momentum from_pt_eta_phi_m(double pt, double eta, double phi, double m);
Momentum from_pt_eta_phi_e(double pt, double eta, double phi, double e);

// Mass of an object whose energy and direction are given with `digits` significant digits each (text files round).
struct MassFromEnergy {
  double mass = 0;       // GeV, >= 0
  bool physical = true;  // false when e is below the momentum by more than rounding explains
};
// relative_error: of e and of the momentum together. m^2 < 0 within it gives mass 0.
MassFromEnergy mass_from_energy(double e, double pt, double eta, double relative_error);

double wrap_phi(double phi);           // to [-pi, pi]
float wrap_phi(float phi);             // to [-pi, pi] as floats
double delta_phi(double a, double b);  // a - b, wrapped
double delta_r(double eta1, double phi1, double eta2, double phi2);

// Invariant mass of all of them; 0 for none.
double invariant_mass(std::span<const float> pt, std::span<const float> eta, std::span<const float> phi, std::span<const float> mass);
Momentum sum(std::span<const float> pt, std::span<const float> eta, std::span<const float> phi, std::span<const float> mass);

}  // namespace bl::physics
