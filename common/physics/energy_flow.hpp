// Energy flow polynomials of a jet (Komiske, Metodiev & Thaler, arXiv:1712.07124): a complete set of jet observables. For a
// multigraph with N vertices,
//   EFP = sum over particles i_1 … i_N of pt_i1 … pt_iN · product over edges (k, l) of Delta(i_k, i_l),
// Delta the distance in (y, phi), phi by the shorter way: measure "hadr" with beta = 1 of the energyflow package, not
// normalised, so of unit GeV^N (or none, for pt as fractions of the jet's).
#pragma once
#include <array>
#include <cstddef>
#include <span>
#include <string_view>
#include <vector>

namespace bl::physics {

// All 36 with four edges or fewer: the features of the Frechet and kernel physics distances (Kansal et al., arXiv:2211.10295).
inline constexpr std::size_t kEnergyFlowPolynomials = 36;

// The graph of each, in the order of energy_flow(): edges by letters of vertices, "ab ab bc"; graphs that are not connected
// have " * " between their parts, and their polynomial is the product of the parts'. The first, without an edge, is "a": the sum
// of pt.
std::span<const std::string_view> energy_flow_graphs();

// For any number of particles (all 0 for none), in time n^3; `scratch` keeps memory between calls. Spans of one length.
std::array<double, kEnergyFlowPolynomials> energy_flow(std::span<const double> pt, std::span<const double> y, std::span<const double> phi,
                                                       std::vector<double>& scratch);

}  // namespace bl::physics
