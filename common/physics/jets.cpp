#include "physics/jets.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <mutex>

#include <fastjet/ClusterSequence.hh>
#include <fastjet/Error.hh>
#include <fastjet/LimitedWarning.hh>
#include <fastjet/PseudoJet.hh>

#include "base/error.hpp"

namespace bl::physics {
namespace {

void expect_length(std::span<const float> column, std::size_t n, std::string_view name) {
  if (column.size() != n) fail(Exit::input, "a jet has {} values of {} for {} of pt", column.size(), name, n);
}

// Rapidity, by the form that keeps its digits where e is close to |pz|.
double rapidity(const Momentum& p, double pt, double mass) {
  const double mt = std::hypot(pt, mass);
  if (mt == 0) return 0;
  const double y = std::log((p.e + std::abs(p.pz)) / mt);
  return p.pz < 0 ? -y : y;
}

// Pseudorapidity of what has rapidity y in the laboratory.
double pseudorapidity(double pt, double y, double mass) {
  if (mass == 0) return y;
  if (pt == 0) return y == 0 ? 0 : std::copysign(std::numeric_limits<double>::infinity(), y);
  return std::asinh(std::hypot(pt, mass) / pt * std::sinh(y));
}

struct Sum {
  Momentum p;
  double e_minus_px = 0, pt_sum = 0, squares = 0;
  std::size_t n = 0;

  void add(const Jet::Particle& particle) {
    p += particle.p;
    e_minus_px += particle.e_minus_px;
    pt_sum += particle.pt;
    squares += particle.pt * particle.pt;
    ++n;
  }
  Kinematics result(double frame_y, double frame_phi) const {
    Kinematics k;
    k.multiplicity = n;
    k.pt_sum = pt_sum;
    k.pt_dispersion = pt_sum > 0 ? std::sqrt(squares) / pt_sum : 0;
    k.pt = p.pt();
    k.phi = k.pt == 0 ? 0 : wrap_phi(p.phi() + frame_phi);
    // e^2 - px^2 - py^2 - pz^2 from the difference that was summed without cancellation
    const double mass2 = e_minus_px * (p.e + p.px) - p.py * p.py - p.pz * p.pz;
    k.mass = mass2 > 0 ? std::sqrt(mass2) : 0;
    k.y = rapidity(p, k.pt, k.mass) + frame_y;
    k.eta = pseudorapidity(k.pt, k.y, k.mass);
    return k;
  }
};

// FastJet prints a banner and warnings and keeps track of them in globals: silenced, and done with before a second
// thread can come.
void prepare_fastjet() {
  static std::once_flag once;
  std::call_once(once, [] {
    fastjet::ClusterSequence::set_fastjet_banner_stream(nullptr);
    fastjet::LimitedWarning::set_default_stream(nullptr);
    fastjet::Error::set_print_errors(false);
    fastjet::ClusterSequence::print_banner();  // to nowhere, and never again
  });
}

fastjet::JetDefinition definition(const Clustering& c) {
  fastjet::JetAlgorithm algorithm = fastjet::kt_algorithm;
  if (c.algorithm == Algorithm::cambridge_aachen) algorithm = fastjet::cambridge_algorithm;
  if (c.algorithm == Algorithm::antikt) algorithm = fastjet::antikt_algorithm;
  return {algorithm, c.radius, c.recombination == Recombination::e_scheme ? fastjet::E_scheme : fastjet::WTA_pt_scheme};
}

}  // namespace

void Jet::assign(const Constituents& constituents) {
  const std::size_t n = constituents.size();
  expect_length(constituents.eta, n, "eta");
  expect_length(constituents.phi, n, "phi");
  if (!constituents.mass.empty()) expect_length(constituents.mass, n, "mass");
  particles_.clear();
  particles_.reserve(n);
  with_pt_ = 0;
  frame_y_ = frame_phi_ = pt_sum_ = 0;
  double hardest = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const double pt = constituents.pt[i], eta = constituents.eta[i], phi = constituents.phi[i];
    const double mass = constituents.mass.empty() ? 0 : constituents.mass[i];
    if (!(std::isfinite(pt) && pt >= 0)) fail(Exit::input, "constituent {} has pt {}; a finite number from 0 on is expected", i, pt);
    if (!(std::abs(eta) <= 100)) fail(Exit::input, "constituent {} has eta {}; -100 to 100 is expected", i, eta);
    if (!std::isfinite(phi)) fail(Exit::input, "constituent {} has phi {}; a finite number is expected", i, phi);
    if (!(std::isfinite(mass) && mass >= 0)) fail(Exit::input, "constituent {} has mass {}; a finite number from 0 on is expected", i, mass);
    const double y = mass == 0 ? eta : std::asinh(pt / std::hypot(pt, mass) * std::sinh(eta));
    particles_.push_back({pt, y, phi, eta, {0, 0, 0, mass}, 0});  // the energy holds the mass until the frame is known
    if (pt > 0) ++with_pt_;
    pt_sum_ += pt;
    if (pt > hardest) {
      hardest = pt;
      frame_y_ = y;
      frame_phi_ = phi;
    }
  }
  for (Particle& particle : particles_) {
    const double mass = particle.p.e, mt = mass == 0 ? particle.pt : std::hypot(particle.pt, mass);
    particle.y -= frame_y_;
    particle.phi = delta_phi(particle.phi, frame_phi_);
    // Half angles: cosh y - 1 = 2 sinh^2(y/2) and 1 - cos phi = 2 sin^2(phi/2) have all their digits where they are small.
    const double t = std::exp(0.5 * particle.y), sinh_half = 0.5 * (t - 1 / t), cosh_half = 0.5 * (t + 1 / t);
    const double sin_half = std::sin(0.5 * particle.phi), cos_half = std::cos(0.5 * particle.phi);
    const double lift = 2 * mt * sinh_half * sinh_half, drop = 2 * particle.pt * sin_half * sin_half;
    particle.p = {particle.pt - drop, 2 * particle.pt * sin_half * cos_half, 2 * mt * sinh_half * cosh_half, mt + lift};
    particle.e_minus_px = lift + drop + (mass == 0 ? 0 : mass * mass / (mt + particle.pt));
  }
}

Kinematics Jet::kinematics() const {
  Sum sum;
  for (const Particle& particle : particles_) sum.add(particle);
  return sum.result(frame_y_, frame_phi_);
}

Kinematics Jet::kinematics(std::span<const std::uint32_t> members) const {
  Sum sum;
  for (const std::uint32_t i : members) sum.add(particles_.at(i));
  return sum.result(frame_y_, frame_phi_);
}

struct ClusterSequence::State {
  const Jet* jet = nullptr;
  Clustering clustering;
  std::size_t particles = 0;
  std::unique_ptr<fastjet::ClusterSequence> sequence;

  // By the history of the sequence: FastJet's constituents() copies every PseudoJet.
  std::vector<std::uint32_t> members_of(const fastjet::PseudoJet& from) const {
    const auto& history = sequence->history();
    std::vector<std::uint32_t> members;
    std::vector<int> open{from.cluster_hist_index()};
    while (!open.empty()) {
      const auto& element = history[static_cast<std::size_t>(open.back())];
      open.pop_back();
      if (element.parent1 == fastjet::ClusterSequence::InexistentParent) {
        members.push_back(static_cast<std::uint32_t>(sequence->jets()[static_cast<std::size_t>(element.jetp_index)].user_index()));
      } else {
        open.push_back(element.parent1);
        open.push_back(element.parent2);
      }
    }
    std::sort(members.begin(), members.end());
    return members;
  }
  Subjet subjet(const fastjet::PseudoJet& from) const {
    Subjet s;
    s.members = members_of(from);
    if (clustering.recombination == Recombination::e_scheme) {
      // What FastJet has, with more digits
      const Kinematics k = jet->kinematics(s.members);
      s.pt = k.pt, s.y = k.y, s.eta = k.eta, s.phi = k.phi, s.mass = k.mass;
    } else {
      s.pt = from.pt();
      s.mass = std::sqrt(std::max(from.m2(), 0.0));
      s.phi = wrap_phi(from.phi_std() + jet->frame_phi());
      s.y = from.rap() + jet->frame_y();
      s.eta = pseudorapidity(s.pt, s.y, s.mass);
    }
    return s;
  }
  // By falling pt; of equal ones the one with the earlier first member comes first, so that the order is defined.
  std::vector<Subjet> subjets(const std::vector<fastjet::PseudoJet>& from) const {
    std::vector<Subjet> all;
    all.reserve(from.size());
    for (const auto& one : from) all.push_back(subjet(one));
    std::sort(all.begin(), all.end(), [](const Subjet& a, const Subjet& b) { return a.pt != b.pt ? a.pt > b.pt : a.members < b.members; });
    return all;
  }
};

ClusterSequence::ClusterSequence(const Jet& jet, const Clustering& clustering) : state_(std::make_unique<State>()) {
  if (!(clustering.radius > 0 && clustering.radius <= kNoBeam))
    fail(Exit::usage, "the radius of a clustering is {}; above 0 and at most {} is expected", clustering.radius, kNoBeam);
  prepare_fastjet();
  State& s = *state_;
  s.jet = &jet;
  s.clustering = clustering;
  std::vector<fastjet::PseudoJet> input;
  input.reserve(jet.with_pt());
  for (std::size_t i = 0; i < jet.particles().size(); ++i) {
    const Jet::Particle& particle = jet.particles()[i];
    if (particle.pt == 0) continue;
    auto& pseudo = input.emplace_back(particle.p.px, particle.p.py, particle.p.pz, particle.p.e);
    pseudo.set_cached_rap_phi(particle.y, particle.phi);
    pseudo.set_user_index(static_cast<int>(i));
  }
  s.particles = input.size();
  try {
    s.sequence = std::make_unique<fastjet::ClusterSequence>(input, definition(clustering));
  } catch (const fastjet::Error& error) {
    fail(Exit::failed, "FastJet cannot cluster {} constituents: {}", s.particles, error.message());
  }
}

ClusterSequence::~ClusterSequence() = default;
ClusterSequence::ClusterSequence(ClusterSequence&&) noexcept = default;
ClusterSequence& ClusterSequence::operator=(ClusterSequence&&) noexcept = default;

std::vector<Subjet> ClusterSequence::inclusive(double pt_min) const { return state_->subjets(state_->sequence->inclusive_jets(pt_min)); }

std::vector<Subjet> ClusterSequence::exclusive(std::size_t n) const {
  const State& s = *state_;
  n = std::min(n, s.particles);
  if (n == 0) return {};
  return s.subjets(s.sequence->exclusive_jets(static_cast<int>(n)));
}

SoftDrop ClusterSequence::soft_drop(double z_cut, double beta, double r0) const {
  const State& s = *state_;
  check(s.clustering.algorithm == Algorithm::cambridge_aachen && s.clustering.recombination == Recombination::e_scheme,
        "soft drop needs a C/A sequence of the E scheme");
  SoftDrop groomed;
  if (s.particles == 0) return groomed;
  const auto jets = s.sequence->inclusive_jets();
  fastjet::PseudoJet now = *std::max_element(jets.begin(), jets.end(), [](const auto& a, const auto& b) { return a.pt2() < b.pt2(); });
  fastjet::PseudoJet hard, soft;
  while (s.sequence->has_parents(now, hard, soft)) {  // the harder comes first
    const double pt1 = hard.pt(), pt2 = soft.pt(), dr = hard.delta_R(soft);
    const double z = pt2 / (pt1 + pt2);
    if (z > z_cut * std::pow(dr / r0, beta)) {
      groomed.z = z;
      groomed.dr = dr;
      break;
    }
    now = hard;
  }
  groomed.left = s.jet->kinematics(s.members_of(now));
  return groomed;
}

}  // namespace bl::physics
