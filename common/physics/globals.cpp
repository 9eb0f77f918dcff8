#include "physics/globals.hpp"

#include "physics/objects.hpp"
#include "physics/vectors.hpp"

namespace bl::physics {
namespace {

struct Named {
  std::string_view name;
  double Globals::*member;
};
constexpr Named kMembers[] = {
    {"n_objects", &Globals::n_objects},
    {"n_jets", &Globals::n_jets},
    {"n_bjets", &Globals::n_bjets},
    {"n_leptons", &Globals::n_leptons},
    {"n_electrons", &Globals::n_electrons},
    {"n_muons", &Globals::n_muons},
    {"n_photons", &Globals::n_photons},
    {"n_taus", &Globals::n_taus},
    {"ht", &Globals::ht},
    {"pt_sum", &Globals::pt_sum},
    {"st", &Globals::st},
    {"m_vis", &Globals::m_vis},
    {"met", &Globals::met},
    {"met_phi", &Globals::met_phi},
};

}  // namespace

std::vector<Globals> globals_of(const Batch& objects, float btag_cut) {
  const auto offsets = objects.get<std::uint32_t>("object_offsets");
  const auto type = objects.get<std::uint8_t>("type");
  const auto pt = objects.get<float>("pt"), eta = objects.get<float>("eta"), phi = objects.get<float>("phi");
  const auto mass = objects.get<float>("mass"), btag = objects.get<float>("btag");
  const auto met = objects.get<float>("met"), met_phi = objects.get<float>("met_phi");
  std::vector<Globals> all(objects.events);
  for (std::uint32_t e = 0; e < objects.events; ++e) {
    Globals& g = all[e];
    for (std::uint32_t i = offsets[e]; i < offsets[e + 1]; ++i) {
      switch (static_cast<ObjectType>(type[i])) {
        case ObjectType::jet:
          ++g.n_jets;
          if (btag[i] >= btag_cut) ++g.n_bjets;
          g.ht += pt[i];
          break;
        case ObjectType::electron: ++g.n_electrons; break;
        case ObjectType::muon: ++g.n_muons; break;
        case ObjectType::photon: ++g.n_photons; break;
        case ObjectType::tau: ++g.n_taus; break;
      }
      g.pt_sum += pt[i];
    }
    const std::size_t n = offsets[e + 1] - offsets[e];
    g.n_objects = static_cast<double>(n);
    g.n_leptons = g.n_electrons + g.n_muons;
    g.met = met[e];
    g.met_phi = met_phi[e];
    g.st = g.pt_sum + g.met;
    g.m_vis = invariant_mass(pt.subspan(offsets[e], n), eta.subspan(offsets[e], n), phi.subspan(offsets[e], n), mass.subspan(offsets[e], n));
  }
  return all;
}

std::optional<double> global_named(const Globals& globals, std::string_view name) {
  for (const auto& member : kMembers)
    if (member.name == name) return globals.*member.member;
  return std::nullopt;
}

const std::vector<std::string>& global_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> all;
    for (const auto& member : kMembers) all.emplace_back(member.name);
    return all;
  }();
  return names;
}

}  // namespace bl::physics
