#include "physics/vectors.hpp"

#include <cmath>
#include <limits>
#include <numbers>

namespace bl::physics {
namespace {

constexpr double kPi = std::numbers::pi;
// The float nearest to pi is above it: wrapped floats must not pass it.
constexpr float kPiFloat = std::numbers::pi_v<float>;

}  // namespace

double Momentum::pt() const { return std::hypot(px, py); }

double Momentum::eta() const {
  const double t = pt();
  if (t == 0) return pz == 0 ? 0 : std::copysign(std::numeric_limits<double>::infinity(), pz);
  return std::asinh(pz / t);
}

double Momentum::phi() const { return px == 0 && py == 0 ? 0 : std::atan2(py, px); }

double Momentum::mass2() const {
  const double p = std::sqrt(px * px + py * py + pz * pz);
  return (e - p) * (e + p);  // keeps digits where e is close to p
}

double Momentum::mass() const {
  const double m2 = mass2();
  return m2 > 0 ? std::sqrt(m2) : 0;
}

Momentum from_pt_eta_phi_m(double pt, double eta, double phi, double m) {
  // One exponential: what sinh would add is digits of a small pz, which are below the rounding of the energy.
  const double t = std::exp(eta);
  const double pz = 0.5 * pt * (t - 1 / t);
  return {pt * std::cos(phi), pt * std::sin(phi), pz, std::sqrt(pt * pt + pz * pz + m * m)};
}

Momentum from_pt_eta_phi_e(double pt, double eta, double phi, double e) { return {pt * std::cos(phi), pt * std::sin(phi), pt * std::sinh(eta), e}; }

MassFromEnergy mass_from_energy(double e, double pt, double eta, double relative_error) {
  const double t = std::exp(eta);
  const double p = 0.5 * pt * (t + 1 / t);
  const double m2 = (e - p) * (e + p);
  if (m2 >= 0) return {std::sqrt(m2), true};
  return {0, (p - e) <= relative_error * p};
}

double wrap_phi(double phi) {
  if (phi >= -kPi && phi <= kPi) return phi;
  return std::remainder(phi, 2 * kPi);
}

float wrap_phi(float phi) {
  if (phi >= -kPiFloat && phi <= kPiFloat) return phi;
  const auto wrapped = static_cast<float>(std::remainder(static_cast<double>(phi), 2 * kPi));
  return std::fmin(std::fmax(wrapped, -kPiFloat), kPiFloat);
}

double delta_phi(double a, double b) { return wrap_phi(a - b); }

double delta_r(double eta1, double phi1, double eta2, double phi2) { return std::hypot(eta1 - eta2, delta_phi(phi1, phi2)); }

Momentum sum(std::span<const float> pt, std::span<const float> eta, std::span<const float> phi, std::span<const float> mass) {
  Momentum total;
  for (std::size_t i = 0; i < pt.size(); ++i) total += from_pt_eta_phi_m(pt[i], eta[i], phi[i], mass.empty() ? 0 : mass[i]);
  return total;
}

double invariant_mass(std::span<const float> pt, std::span<const float> eta, std::span<const float> phi, std::span<const float> mass) {
  return sum(pt, eta, phi, mass).mass();
}

}  // namespace bl::physics
