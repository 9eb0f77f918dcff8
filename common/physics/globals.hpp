// Event-level quantities derived from the objects of an event.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "data/batch.hpp"

namespace bl::physics {

struct Globals {
  double n_objects = 0;
  double n_jets = 0;  // b-tagged ones included
  double n_bjets = 0;
  double n_leptons = 0;  // electrons and muons
  double n_electrons = 0, n_muons = 0, n_photons = 0, n_taus = 0;
  double ht = 0;      // scalar pt sum of the jets, GeV
  double pt_sum = 0;  // scalar pt sum of all objects, GeV
  double st = 0;      // pt_sum + MET, GeV
  double m_vis = 0;   // invariant mass of all objects, GeV
  double met = 0, met_phi = 0;
};

// One entry an event of an objects/1 batch. A jet is b-tagged from btag >= btag_cut on.
std::vector<Globals> globals_of(const Batch& objects, float btag_cut = 0.5f);

// A member by its name; nullopt for an unknown one.
std::optional<double> global_named(const Globals& globals, std::string_view name);
const std::vector<std::string>& global_names();

}  // namespace bl::physics
