#include "physics/substructure.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numbers>

#include "base/error.hpp"

namespace bl::physics {
namespace {

constexpr double kMissing = std::numeric_limits<double>::quiet_NaN();
// Below this a distance is the rounding of an axis that was summed from one direction.
constexpr double kRounding = 1e-12;

struct Point {
  double u, phi;  // rapidity or pseudorapidity
};

double wrapped_difference(double a, double b) {  // of angles in [-pi, pi]
  double d = a - b;
  if (d > std::numbers::pi) d -= 2 * std::numbers::pi;
  if (d < -std::numbers::pi) d += 2 * std::numbers::pi;
  return d;
}

double power_of_distance(double r2, double beta) {
  if (r2 < kRounding * kRounding) return 0;
  if (beta == 1) return std::sqrt(r2);
  if (beta == 2) return r2;
  return std::pow(r2, 0.5 * beta);
}

struct Weighted {
  Point at;
  double pt;
};

// For one set of axes: each constituent's nearest axis, the lower index where two are equally near.
struct Nearest {
  std::size_t axis = 0;
  double r2 = std::numeric_limits<double>::infinity();
};
Nearest nearest_axis(const Point& at, std::span<const Point> axes) {
  Nearest best;
  for (std::size_t k = 0; k < axes.size(); ++k) {
    const double du = at.u - axes[k].u, dphi = wrapped_difference(at.phi, axes[k].phi);
    const double r2 = du * du + dphi * dphi;
    if (r2 < best.r2) best = {k, r2};
  }
  return best;
}

// sum pt dR^beta
double spread(std::span<const Weighted> particles, std::span<const Point> axes, double beta) {
  double sum = 0;
  for (const Weighted& particle : particles) sum += particle.pt * power_of_distance(nearest_axis(particle.at, axes).r2, beta);
  return sum;
}

// Alternates assignment and minimisation for a fixed assignment: the minimum of sum pt (dR^2 + c^2)^(beta / 2) is the mean with
// weights pt (dR^2 + c^2)^(beta / 2 - 1), which lowers the sum in every step (Weiszfeld). With c = 0 an axis that comes to lie
// on a constituent would never leave it, so c falls in steps from the size of the jet's core.
double minimised_spread(std::span<const Weighted> particles, std::vector<Point> axes, double beta) {
  constexpr int kSteps = 200;     // for each c
  constexpr double kDone = 1e-8;  // relative gain of a step
  double best = spread(particles, axes, beta);
  struct Mean {
    double weight = 0, du = 0, dphi = 0;
  };
  std::vector<Mean> mean(axes.size());
  for (const double c : {1e-2, 1e-3, 1e-4, 1e-5, 1e-6}) {
    double last = std::numeric_limits<double>::infinity();
    for (int step = 0; step < kSteps; ++step) {
      std::fill(mean.begin(), mean.end(), Mean{});
      double sum = 0, smooth = 0;
      for (const Weighted& particle : particles) {
        const Nearest n = nearest_axis(particle.at, axes);
        const double r2 = n.r2 + c * c;
        const double power = beta == 1 ? std::sqrt(r2) : std::pow(r2, 0.5 * beta), w = particle.pt * power / r2;
        sum += particle.pt * power_of_distance(n.r2, beta);
        smooth += particle.pt * power;
        mean[n.axis].weight += w;
        mean[n.axis].du += w * (particle.at.u - axes[n.axis].u);
        mean[n.axis].dphi += w * wrapped_difference(particle.at.phi, axes[n.axis].phi);
      }
      best = std::min(best, sum);
      if (last - smooth <= kDone * smooth) break;
      last = smooth;
      for (std::size_t k = 0; k < axes.size(); ++k) {
        if (mean[k].weight == 0) continue;  // nobody's nearest: stays
        axes[k].u += mean[k].du / mean[k].weight;
        axes[k].phi = wrap_phi(axes[k].phi + mean[k].dphi / mean[k].weight);
      }
    }
  }
  return best;
}

void expect_positive(double value, std::string_view what) {
  if (!(value > 0 && std::isfinite(value))) fail(Exit::usage, "{} is {}; a finite number above 0 is expected", what, value);
}

void check_options(const NsubjettinessOptions& o) {
  expect_positive(o.beta, "beta of N-subjettiness");
  expect_positive(o.r0, "the jet radius of N-subjettiness");
  if (!(o.axes_radius > 0 && o.axes_radius <= kNoBeam))
    fail(Exit::usage, "the radius of the axes of N-subjettiness is {}; above 0 and at most {} is expected", o.axes_radius, kNoBeam);
  if (o.minimise && !(o.beta >= 1 && o.beta <= 2))
    fail(Exit::usage, "minimised axes are for beta from 1 to 2, not {}; leave them where the clustering puts them", o.beta);
}

// What the jet observables are computed from; one a worker.
struct Scratch {
  explicit Scratch(double ecf_beta) : correlator(ecf_beta) {}
  Jet jet;
  EnergyCorrelator correlator;
};

struct Values {
  Kinematics k;
  std::array<double, 3> tau{kMissing, kMissing, kMissing};
  EnergyCorrelations e{kMissing, kMissing, kMissing, kMissing};
  double soft_drop_mass = 0;
};

enum class Family { sums, tau, correlations, groomed };
struct Named {
  std::string_view name;
  Family family;
  double (*value)(const Values&);
};
constexpr Named kObservables[] = {
    {"jet_pt", Family::sums, [](const Values& v) { return v.k.pt; }},
    {"jet_eta", Family::sums, [](const Values& v) { return v.k.eta; }},
    {"jet_phi", Family::sums, [](const Values& v) { return v.k.phi; }},
    {"jet_mass", Family::sums, [](const Values& v) { return v.k.mass; }},
    {"multiplicity", Family::sums, [](const Values& v) { return static_cast<double>(v.k.multiplicity); }},
    {"pt_dispersion", Family::sums, [](const Values& v) { return v.k.pt_dispersion; }},
    {"tau1", Family::tau, [](const Values& v) { return v.tau[0]; }},
    {"tau2", Family::tau, [](const Values& v) { return v.tau[1]; }},
    {"tau3", Family::tau, [](const Values& v) { return v.tau[2]; }},
    {"tau21", Family::tau, [](const Values& v) { return ratio(v.tau[1], v.tau[0]); }},
    {"tau32", Family::tau, [](const Values& v) { return ratio(v.tau[2], v.tau[1]); }},
    {"e2", Family::correlations, [](const Values& v) { return v.e.e2; }},
    {"e3", Family::correlations, [](const Values& v) { return v.e.e3; }},
    {"c2", Family::correlations, [](const Values& v) { return v.e.c2; }},
    {"d2", Family::correlations, [](const Values& v) { return v.e.d2; }},
    {"soft_drop_mass", Family::groomed, [](const Values& v) { return v.soft_drop_mass; }},
};

const Named& observable(std::string_view name) {
  for (const Named& one : kObservables)
    if (one.name == name) return one;
  const std::string close = nearest(name, observable_names());
  fail(Exit::usage, "there is no jet observable '{}'{}; known are {}", name, close.empty() ? "" : fmt::format(" (did you mean '{}'?)", close),
       fmt::join(observable_names(), ", "));
}

}  // namespace

double ratio(double a, double b) { return b == 0 ? kMissing : a / b; }

std::vector<double> nsubjettiness(const Jet& jet, std::size_t n, const NsubjettinessOptions& options) {
  check_options(options);
  std::vector<double> tau(n, 0.0);
  const double norm = jet.pt_sum() * std::pow(options.r0, options.beta);
  if (!(norm > 0)) {
    std::fill(tau.begin(), tau.end(), kMissing);
    return tau;
  }
  if (n == 0 || jet.with_pt() == 1) return tau;
  const bool rapidity = options.distance == AxisDistance::rapidity;
  std::vector<Weighted> particles;
  particles.reserve(jet.with_pt());
  for (const auto& particle : jet.particles())
    if (particle.pt > 0) particles.push_back({{rapidity ? particle.y : particle.eta - jet.frame_y(), particle.phi}, particle.pt});
  const ClusterSequence sequence(jet,
                                 {Algorithm::kt, options.axes_radius, options.axes == Axes::kt ? Recombination::e_scheme : Recombination::winner_take_all});
  std::vector<Point> axes;
  for (std::size_t k = 1; k <= n && k < jet.with_pt(); ++k) {
    axes.clear();
    for (const Subjet& subjet : sequence.exclusive(k))
      axes.push_back({(rapidity ? subjet.y : subjet.eta) - jet.frame_y(), delta_phi(subjet.phi, jet.frame_phi())});
    const double sum = options.minimise ? minimised_spread(particles, axes, options.beta) : spread(particles, axes, options.beta);
    tau[k - 1] = sum / norm;
  }
  return tau;
}

EnergyCorrelator::EnergyCorrelator(double beta) : beta_(beta) { expect_positive(beta, "beta of the energy correlation functions"); }

EnergyCorrelations EnergyCorrelator::operator()(const Jet& jet) {
  EnergyCorrelations out;
  if (!(jet.pt_sum() > 0)) return {kMissing, kMissing, kMissing, kMissing};
  // Angles of all pairs as rows of whole lanes, zero on and below the diagonal and behind the end: then every sum may begin
  // at a whole lane, and what it takes too much is zero.
  constexpr std::size_t kLanes = 8;
  y_.clear(), phi_.clear(), z_.clear();
  for (const auto& particle : jet.particles()) {
    if (particle.pt == 0) continue;
    y_.push_back(particle.y);
    phi_.push_back(particle.phi);
    z_.push_back(particle.pt / jet.pt_sum());
  }
  const std::size_t n = z_.size(), stride = (n + kLanes - 1) / kLanes * kLanes;
  z_.resize(stride, 0.0);
  angle_.assign(n * stride, 0.0);
  weighted_.assign(stride, 0.0);
  for (std::size_t i = 0; i < n; ++i) {
    double* row = angle_.data() + i * stride;
    const double y = y_[i], phi = phi_[i];
    for (std::size_t j = i + 1; j < n; ++j) {
      const double dy = y - y_[j];
      double dphi = std::abs(phi - phi_[j]);
      dphi = std::min(dphi, 2 * std::numbers::pi - dphi);
      row[j] = dy * dy + dphi * dphi;
    }
    if (beta_ == 1) {
      for (std::size_t j = i + 1; j < n; ++j) row[j] = std::sqrt(row[j]);
    } else if (beta_ != 2) {
      for (std::size_t j = i + 1; j < n; ++j) row[j] = std::pow(row[j], 0.5 * beta_);
    }
  }
  std::array<double, kLanes> e2{}, e3{};
  double* weighted = weighted_.data();  // z_k R_ik for the row i
  for (std::size_t i = 0; i < n; ++i) {
    const double* row = angle_.data() + i * stride;
    for (std::size_t k = (i + 1) / kLanes * kLanes; k < stride; k += kLanes)
      for (std::size_t lane = 0; lane < kLanes; ++lane) {
        weighted[k + lane] = z_[k + lane] * row[k + lane];
        e2[lane] += z_[i] * weighted[k + lane];
      }
    for (std::size_t j = i + 1; j + 1 < n; ++j) {
      const double factor = z_[i] * weighted[j];  // z_i z_j R_ij
      const double* other = angle_.data() + j * stride;
      for (std::size_t k = (j + 1) / kLanes * kLanes; k < stride; k += kLanes)
        for (std::size_t lane = 0; lane < kLanes; ++lane) e3[lane] += factor * (weighted[k + lane] * other[k + lane]);
    }
  }
  const auto total = [](const std::array<double, kLanes>& x) { return ((x[0] + x[4]) + (x[1] + x[5])) + ((x[2] + x[6]) + (x[3] + x[7])); };
  out.e2 = total(e2);
  out.e3 = total(e3);
  out.c2 = ratio(out.e3, out.e2 * out.e2);
  out.d2 = ratio(out.e3, out.e2 * out.e2 * out.e2);
  return out;
}

std::span<const double> JetTable::at(std::string_view name) const {
  for (std::size_t i = 0; i < names.size(); ++i)
    if (names[i] == name) return columns[i];
  fail(Exit::usage, "the table of jets has no column '{}'; it has {}", name, fmt::join(names, ", "));
}

void JetTable::append(const JetTable& other) {
  if (names.empty()) {
    *this = other;
    return;
  }
  check(names == other.names, "tables of jets with different columns");
  for (std::size_t i = 0; i < columns.size(); ++i) columns[i].insert(columns[i].end(), other.columns[i].begin(), other.columns[i].end());
  rows += other.rows;
}

const std::vector<std::string>& observable_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> all;
    for (const Named& one : kObservables) all.emplace_back(one.name);
    return all;
  }();
  return names;
}

JetTable jet_observables(const Batch& particles, const std::vector<std::string>& names, const ObservableOptions& options, Pool& pool) {
  check_options(options.tau);
  expect_positive(options.z_cut, "z_cut of soft drop");
  if (!std::isfinite(options.soft_drop_beta)) fail(Exit::usage, "beta of soft drop is {}; a finite number is expected", options.soft_drop_beta);
  std::vector<const Named*> wanted;
  std::array<bool, 4> needed{};
  for (const auto& name : names) {
    wanted.push_back(&observable(name));
    needed[static_cast<std::size_t>(wanted.back()->family)] = true;
  }
  const auto needs = [&](Family family) { return needed[static_cast<std::size_t>(family)]; };

  const auto offsets = particles.get<std::uint32_t>("particle_offsets");
  const auto pt = particles.get<float>("pt"), eta = particles.get<float>("eta"), phi = particles.get<float>("phi");
  const bool massive = !options.massless && particles.has("mass");
  const auto mass = massive ? particles.get<float>("mass") : std::span<const float>{};

  JetTable table;
  table.names = names;
  table.rows = particles.events;
  table.columns.assign(names.size(), std::vector<double>(table.rows));

  constexpr std::size_t kJets = 32;  // a task
  std::vector<Scratch> scratch(pool.threads(), Scratch(options.ecf_beta));
  pool.run((table.rows + kJets - 1) / kJets, [&](std::size_t task, std::size_t worker) {
    Scratch& s = scratch[worker];
    for (std::size_t j = task * kJets; j < std::min(table.rows, (task + 1) * kJets); ++j) {
      const std::size_t first = offsets[j], n = offsets[j + 1] - first;
      try {
        s.jet.assign({pt.subspan(first, n), eta.subspan(first, n), phi.subspan(first, n), massive ? mass.subspan(first, n) : mass});
      } catch (const Error& error) {
        const Column* index = particles.find("event_index");
        fail(error.code(), "jet {}: {}", index ? index->as<std::uint64_t>()[j] : j, error.what());
      }
      Values v;
      v.k = s.jet.kinematics();
      const bool enough = s.jet.with_pt() >= std::max<std::size_t>(options.min_constituents, 1);
      if (enough && needs(Family::tau)) std::ranges::copy(nsubjettiness(s.jet, v.tau.size(), options.tau), v.tau.begin());
      if (enough && needs(Family::correlations)) v.e = s.correlator(s.jet);
      if (needs(Family::groomed)) {
        const ClusterSequence sequence(s.jet, {Algorithm::cambridge_aachen, kNoBeam, Recombination::e_scheme});
        v.soft_drop_mass = sequence.soft_drop(options.z_cut, options.soft_drop_beta, options.tau.r0).left.mass;
      }
      for (std::size_t c = 0; c < wanted.size(); ++c) table.columns[c][j] = wanted[c]->value(v);
    }
  });
  return table;
}

}  // namespace bl::physics
