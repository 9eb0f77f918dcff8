// bl-evaluate generation: jets that a model made beside true ones. Every metric stands beside its floor: the same metric
// between two halves of the truth with the same numbers of jets (stats/floor.hpp).
#include <algorithm>
#include <cmath>
#include <functional>

#include "base/error.hpp"
#include "evaluate/evaluation.hpp"
#include "evaluate/input.hpp"
#include "evaluate/two_sample.hpp"
#include "physics/energy_flow.hpp"
#include "physics/substructure.hpp"
#include "report/folder.hpp"
#include "stats/divergence.hpp"
#include "stats/energy_mover.hpp"
#include "stats/floor.hpp"
#include "stats/histogram.hpp"
#include "stats/physics_distance.hpp"
#include "stats/wasserstein.hpp"

namespace bl::evaluate {
namespace {

using nlohmann::json;
using report::amount;
using report::with_error;
using stats::AgainstFloor;
using stats::Estimate;
using Rows = std::span<const std::uint32_t>;

// One variable of one sample. Jet j owns values first[j] … first[j + 1] - 1: one, none where it is not defined, or those of
// its constituents.
struct Values {
  std::vector<double> value;
  std::vector<std::uint32_t> first{0};
  std::size_t missing = 0;  // jets without, where a jet has one value

  void of_jet(double v) {
    if (std::isfinite(v)) value.push_back(v);
    else ++missing;
    first.push_back(static_cast<std::uint32_t>(value.size()));
  }
  std::vector<double> gather(Rows rows) const {
    std::vector<double> out;
    for (const auto r : rows) out.insert(out.end(), value.begin() + first[r], value.begin() + first[r + 1]);
    return out;
  }
  std::pair<std::vector<double>, std::vector<std::uint32_t>> gather_jets(Rows rows) const {
    std::vector<std::uint32_t> offsets{0};
    for (const auto r : rows) offsets.push_back(offsets.back() + first[r + 1] - first[r]);
    return {gather(rows), std::move(offsets)};
  }
};

struct Variable {
  std::string key;       // in files
  std::string name;      // in tables, with markup
  std::string unit;      // empty for none
  bool whole = false;    // numbers: bins of width 1 (or more)
  bool falling = false;  // over decades: logarithmic axes
  Values reference, sample;

  std::string title() const { return unit.empty() ? name : name + " [" + unit + "]"; }
};

struct Measured {
  AgainstFloor kl_omnijet, kl_ntp4jets, js, w1, w1_jetnet;
  Estimate mean_reference, mean_sample;  // errors of the means
};

// Jets in one evaluation of a divergence or distance of constituents, of which there are some fifty a jet.
constexpr std::size_t kMostOfConstituents = 2'500;

Estimate mean_of(const std::vector<double>& values) {
  double sum = 0, squares = 0;
  for (const double v : values) sum += v;
  const double n = static_cast<double>(values.size()), mean = sum / n;
  for (const double v : values) squares += (v - mean) * (v - mean);
  return {mean, values.size() > 1 ? std::sqrt(squares / (n - 1) / n) : std::nan("")};
}

// Constituents of one jet share their jet: the error of the mean is that of jets, by the ratio of sums.
Estimate mean_of(const Values& v) {
  const std::size_t jets = v.first.size() - 1;
  if (v.value.size() <= jets) return mean_of(v.value);
  double sum = 0;
  for (const double x : v.value) sum += x;
  const double n = static_cast<double>(v.value.size()), mean = sum / n;
  double squares = 0;
  for (std::size_t j = 0; j < jets; ++j) {
    double of_jet = 0;
    for (std::size_t i = v.first[j]; i < v.first[j + 1]; ++i) of_jet += v.value[i] - mean;
    squares += of_jet * of_jet;
  }
  return {mean, std::sqrt(squares) / n};
}

// Where a sample has no axes, the jets' own η and φ are left out: 0 for the truth, as its axes are what it is relative to.
std::vector<Variable> variables_of(const JetSample& reference, const JetSample& sample, bool laboratory, Pool& pool) {
  std::vector<std::pair<const char*, Variable>> table{
      {"jet_pt", {"jet_pt", "jet p_{T}", "GeV", false, false, {}, {}}},
      {"jet_eta", {"jet_eta", "jet η", "", false, false, {}, {}}},
      {"jet_phi", {"jet_phi", "jet φ", "", false, false, {}, {}}},
      {"jet_mass", {"jet_mass", "jet mass", "GeV", false, false, {}, {}}},
      {"tau21", {"tau21", "τ_{21}", "", false, false, {}, {}}},
      {"tau32", {"tau32", "τ_{32}", "", false, false, {}, {}}},
      {"d2", {"d2", "D_{2}", "", false, false, {}, {}}},
      {"multiplicity", {"multiplicity", "constituents", "", true, false, {}, {}}},
  };
  if (!laboratory) std::erase_if(table, [](const auto& entry) { return entry.second.key == "jet_eta" || entry.second.key == "jet_phi"; });
  std::vector<std::string> names;
  std::vector<Variable> out;
  names.reserve(table.size());
  out.reserve(table.size() + 3);
  for (const auto& [name, variable] : table) {
    names.emplace_back(name);
    out.push_back(variable);
  }
  physics::ObservableOptions options;
  options.massless = true;  // decoded constituents have no mass
  out.push_back({"constituent_pt", "constituent p_{T}", "GeV", false, true, {}, {}});
  out.push_back({"constituent_eta", "constituent Δη", "", false, false, {}, {}});
  out.push_back({"constituent_phi", "constituent Δφ", "", false, false, {}, {}});
  for (const bool of_sample : {false, true}) {
    JetSample jets = of_sample ? sample : reference;
    const auto observables = physics::jet_observables(to_batch(jets), names, options, pool);
    for (std::size_t v = 0; v < names.size(); ++v) {
      Values& values = of_sample ? out[v].sample : out[v].reference;
      for (const double x : observables.at(names[v])) values.of_jet(x);
    }
    to_jet_frame(jets);
    const std::vector<float>* columns[] = {&jets.pt, &jets.eta, &jets.phi};
    for (std::size_t c = 0; c < 3; ++c) {
      Values& values = of_sample ? out[names.size() + c].sample : out[names.size() + c].reference;
      values.value.assign(columns[c]->begin(), columns[c]->end());
      values.first = jets.offsets;
    }
  }
  return out;
}

Measured measure(const Variable& v, const Settings& settings, const Rng& rng, Pool& pool) {
  const std::size_t reference_jets = v.reference.first.size() - 1, sample_jets = v.sample.first.size() - 1;
  const auto bins = static_cast<std::size_t>(settings.bins);
  const auto each = [&](const std::function<double(const stats::Sample&, const stats::Sample&)>& metric) {
    stats::FloorOptions options;
    options.replicas = static_cast<std::size_t>(settings.replicas);
    if (v.reference.value.size() > 2 * reference_jets) options.most = kMostOfConstituents;
    const auto of_rows = [&](std::size_t, Rows a, Rows b, bool b_is_reference) {
      const auto first = v.reference.gather(a), second = (b_is_reference ? v.reference : v.sample).gather(b);
      return metric({first, {}, "the reference"}, {second, {}, "the sample"});
    };
    return stats::against_floor(reference_jets, sample_jets, of_rows, options, rng, pool);
  };
  Measured m;
  m.kl_omnijet = each([&](const auto& a, const auto& b) { return stats::kl_omnijet_alpha(a, b, bins + 1); });
  m.kl_ntp4jets = each([&](const auto& a, const auto& b) { return stats::kl_ntp4jets(a, b, bins); });
  m.js = each([&](const auto& a, const auto& b) { return stats::jensen_shannon(a, b, bins); });
  m.w1 = each([](const auto& a, const auto& b) { return stats::wasserstein1(a, b); });
  m.w1_jetnet = stats::against_floor(
      reference_jets, sample_jets,
      [&](Rows a, Rows b, bool b_is_reference) {
        const auto [first, first_offsets] = v.reference.gather_jets(a);
        const auto [second, second_offsets] = (b_is_reference ? v.reference : v.sample).gather_jets(b);
        const stats::Sorted x({first, {}, "the reference"}, first_offsets), y({second, {}, "the sample"}, second_offsets);
        return stats::w1_jetnet(x, y, {.draws = static_cast<std::size_t>(settings.draws)}, rng, pool);
      },
      rng);
  m.mean_reference = mean_of(v.reference);
  m.mean_sample = mean_of(v.sample);
  return m;
}

// Whole jets: constituents relative to the jet, pT as a fraction of the jet's sum, which is what JetNet's metrics take.
struct Shapes {
  std::vector<double> pt, y, phi;
  std::vector<std::uint32_t> offsets;
  std::vector<double> energy_flow;  // 36 a jet
  stats::Jets jets(std::string_view name) const { return {pt, y, phi, offsets, name}; }
};
Shapes shapes_of(JetSample jets, Pool& pool) {
  to_jet_frame(jets);
  Shapes s;
  s.offsets = jets.offsets;
  s.y.assign(jets.eta.begin(), jets.eta.end());
  s.phi.assign(jets.phi.begin(), jets.phi.end());
  for (std::size_t j = 0; j < jets.size(); ++j) {
    double sum = 0;
    for (std::size_t i = jets.offsets[j]; i < jets.offsets[j + 1]; ++i) sum += static_cast<double>(jets.pt[i]);
    for (std::size_t i = jets.offsets[j]; i < jets.offsets[j + 1]; ++i) s.pt.push_back(sum > 0 ? static_cast<double>(jets.pt[i]) / sum : 0);
  }
  s.energy_flow.resize(jets.size() * physics::kEnergyFlowPolynomials);
  std::vector<std::vector<double>> scratch(pool.threads());
  pool.run(jets.size(), [&](std::size_t j, std::size_t worker) {
    const std::size_t from = s.offsets[j], n = s.offsets[j + 1] - from;
    const auto polynomials =
        physics::energy_flow(std::span(s.pt).subspan(from, n), std::span(s.y).subspan(from, n), std::span(s.phi).subspan(from, n), scratch[worker]);
    std::copy(polynomials.begin(), polynomials.end(), s.energy_flow.begin() + static_cast<std::ptrdiff_t>(j * physics::kEnergyFlowPolynomials));
  });
  return s;
}

struct WholeJets {
  AgainstFloor fpd, fpd_package, kpd, coverage, matching;
  bool few = false;
};
WholeJets measure(const Shapes& reference, const Shapes& sample, std::size_t draws, const Rng& rng, Pool& pool) {
  stats::FpdOptions fpd_options;  // the package's proportions: 20,000 … 50,000 rows, 5,000 and 100
  fpd_options.max_rows = draws;
  fpd_options.min_rows = 2 * draws / 5;
  stats::KpdOptions kpd_options;
  kpd_options.batch_rows = draws / 10;
  stats::CovMmdOptions cov_mmd_options;
  cov_mmd_options.draws = std::max<std::size_t>(draws / 500, 2);
  const std::size_t reference_jets = reference.offsets.size() - 1, sample_jets = sample.offsets.size() - 1;
  const auto features = [](const Shapes& s, std::string_view name) { return stats::Features{s.energy_flow, physics::kEnergyFlowPolynomials, name}; };
  WholeJets out;
  // Value and floor of one run give several metrics: the second of a pair is kept beside the first.
  struct Both {
    Estimate value, floor;
  };
  const auto pair_of = [&](Both& second, const std::function<std::pair<Estimate, Estimate>(Rows, Rows, bool)>& run) {
    const AgainstFloor first = stats::against_floor(
        reference_jets, sample_jets,
        [&](Rows a, Rows b, bool b_is_reference) {
          const auto [one, other] = run(a, b, b_is_reference);
          (b_is_reference ? second.floor : second.value) = other;
          return one;
        },
        rng);
    return first;
  };
  const auto with = [](AgainstFloor second, std::size_t events) {
    second.events = events;
    return second;
  };
  Both package;
  out.fpd = pair_of(package, [&](Rows a, Rows b, bool b_is_reference) {
    const auto x = stats::rows_of(features(reference, "reference"), a), y = stats::rows_of(features(b_is_reference ? reference : sample, "sample"), b);
    const auto fpd = stats::fpd({x, physics::kEnergyFlowPolynomials, "reference"}, {y, physics::kEnergyFlowPolynomials, "sample"}, fpd_options, rng, pool);
    out.few = out.few || fpd.few;
    return std::pair{fpd.distance, fpd.package};
  });
  out.fpd_package = with(stats::against_floor(package.value, package.floor), out.fpd.events);
  out.kpd = stats::against_floor(
      reference_jets, sample_jets,
      [&](Rows a, Rows b, bool b_is_reference) {
        const auto x = stats::rows_of(features(reference, "reference"), a), y = stats::rows_of(features(b_is_reference ? reference : sample, "sample"), b);
        const auto kpd = stats::kpd({x, physics::kEnergyFlowPolynomials, "reference"}, {y, physics::kEnergyFlowPolynomials, "sample"}, kpd_options, rng, pool);
        out.few = out.few || kpd.few;
        return kpd.distance;
      },
      rng);
  Both matching;
  out.coverage = pair_of(matching, [&](Rows a, Rows b, bool b_is_reference) {
    const stats::Jets x = reference.jets("reference"), y = b_is_reference ? reference.jets("reference") : sample.jets("sample");
    std::vector<stats::EnergyMover> movers(pool.threads());
    const auto distance = [&](std::size_t worker, std::size_t sample_row, std::size_t reference_row) {
      return movers[worker].distance(y[b[sample_row]], x[a[reference_row]]);
    };
    const auto both = stats::cov_mmd(a.size(), b.size(), distance, cov_mmd_options, rng, pool);
    return std::pair{both.coverage, both.matching_distance};
  });
  out.matching = with(stats::against_floor(matching.value, matching.floor), out.coverage.events);
  return out;
}

// Jets of either sample that a classifier is trained and tested on: more take minutes.
constexpr std::size_t kMostOfClassifiers = 10'000;

struct Told {
  models::SetKind kind;
  TwoSample result;
};
// Networks on constituents, and one on observables of whole jets: what it sees can be looked up in the other tables.
std::vector<Told> tell_apart(const JetSample& reference, const JetSample& sample, const Settings& settings, const stage::Context& context, Pool& pool) {
  std::vector<Told> out;
  auto kinds = classifiers_named(settings.classifiers == "auto" ? "deep-sets" : settings.classifiers);
  if (kinds.empty()) return out;
  kinds.insert(kinds.begin(), models::SetKind::dense);
  JetSample truth = some_of(reference, kMostOfClassifiers, context.rng()), generated = some_of(sample, kMostOfClassifiers, context.rng());
  to_jet_frame(truth);
  to_jet_frame(generated);
  const auto sets_of = [&](const JetSample& jets, models::SetKind kind) {
    if (kind != models::SetKind::dense) return constituent_sets(jets.offsets, jets.pt, jets.eta, jets.phi);
    physics::ObservableOptions options;
    options.massless = true;
    return observable_sets(
        physics::jet_observables(to_batch(jets), {"jet_pt", "jet_mass", "multiplicity", "pt_dispersion", "tau1", "tau21", "tau32", "d2"}, options, pool));
  };
  for (const auto kind : kinds) {
    TwoSampleOptions options;
    options.kind = kind;
    options.seeds = static_cast<std::size_t>(settings.seeds);
    options.poll = [&] { context.stop_if_asked(); };
    out.push_back({kind, classifier_auc(sets_of(truth, kind), truth.event_id, sets_of(generated, kind), generated.event_id, options, context.seed(), pool)});
  }
  return out;
}

json to_json(const AgainstFloor& a) {
  using report::number;
  return {{"value", number(a.value)},
          {"error", number(a.error)},
          {"floor", number(a.floor)},
          {"floor_error", number(a.floor_error)},
          {"ratio", number(a.ratio)},
          {"ratio_error", number(a.ratio_error)},
          {"significance", number(a.significance)},
          {"jets", a.events}};
}
json to_json(const Estimate& e) { return {{"value", report::number(e.value)}, {"error", report::number(e.error)}}; }

// Cells of one metric: value, floor, how many standard deviations lie between.
void add_cells(std::vector<std::string>& row, const AgainstFloor& a) {
  row.push_back(with_error(a.value, a.error));
  row.push_back(with_error(a.floor, a.floor_error));
  row.push_back(report::fixed(a.significance, 1));
}

std::vector<double> edges_of(const Variable& v) {
  // Where nearly all of the truth is: the rest of a long tail would leave the histogram one bin wide.
  std::vector<double> sorted = v.reference.value;
  std::sort(sorted.begin(), sorted.end());
  const auto at = [&](double q) { return sorted[static_cast<std::size_t>(q * static_cast<double>(sorted.size() - 1))]; };
  double low = at(0.002), high = at(0.99);
  const double span = high - low;
  constexpr std::size_t bins = 40;
  std::vector<double> edges;
  if (v.whole) {
    const double width = std::max(1.0, std::ceil((1.1 * span + 2) / 50));
    low = std::max(0.0, std::floor(low - 0.05 * span)) - 0.5;
    const auto number = static_cast<std::size_t>(std::ceil((high + 0.05 * span + width - low) / width));
    for (std::size_t i = 0; i < number; ++i) edges.push_back(low + width * static_cast<double>(i));
    if (edges.size() < 2) edges.push_back(edges[0] + width);
    return edges;
  }
  if (v.falling && low > 0 && high > low) {
    for (std::size_t i = 0; i <= bins; ++i) edges.push_back(low * std::pow(high / low, static_cast<double>(i) / bins));
    return edges;
  }
  const bool positive = sorted.front() >= 0;
  low -= 0.05 * span;
  high += 0.05 * span;
  if (positive) low = std::max(low, 0.0);
  if (!(high > low)) {  // all alike
    low -= 0.5;
    high = low + 1;
  }
  for (std::size_t i = 0; i <= bins; ++i) edges.push_back(low + (high - low) * static_cast<double>(i) / bins);
  return edges;
}

report::Series histogram_of(const Values& v, const std::vector<double>& edges, const std::string& name, report::Style style) {
  stats::Histogram h{stats::Axis(edges)};
  for (const double x : v.value) h.fill(x);
  std::vector<double> count, error;
  for (std::size_t i = 1; i <= h.axis().bins(); ++i) {
    count.push_back(h.content(i));
    error.push_back(h.error(i));
  }
  return report::density(name, style, edges, count, error, h.total());
}

report::Figure figure_of(const Variable& v, const Measured& m, const std::string& reference, const std::string& sample) {
  report::Figure f;
  f.name = "generation_" + v.key;
  f.caption = fmt::format("{}: W_{{1}} = {}{}; between halves of the truth {}.", v.name, with_error(m.w1.value, m.w1.error), v.unit.empty() ? "" : " " + v.unit,
                          with_error(m.w1.floor, m.w1.floor_error));
  f.caption[0] = static_cast<char>(std::toupper(static_cast<unsigned char>(f.caption[0])));
  f.x.title = v.title();
  f.y.title = v.unit.empty() ? "density" : "density [1/" + v.unit + "]";
  const auto edges = edges_of(v);
  if (v.falling && edges[0] > 0) {
    f.x.scale = report::Scale::log;
    f.y.scale = report::Scale::log;
  }
  f.x.low = edges.front();
  f.x.high = edges.back();
  f.series.push_back(histogram_of(v.reference, edges, reference, report::Style::reference));
  f.series.push_back(histogram_of(v.sample, edges, sample, report::Style::histogram));
  f.ratio = true;
  f.ratio_title = "ratio";
  return f;
}

}  // namespace

Evaluation generation(const Settings& settings, stage::Context& context) {
  if (settings.reference.empty()) fail(Exit::usage, "bl-evaluate generation needs --reference FILE: true jets to compare with");
  const Input in = only_input(context.inputs(), "generation");
  const std::vector<std::string> columns{"particle_offsets", "pt", "eta", "phi", "jet_eta", "jet_phi", "weight", "event_id"};
  const auto most = static_cast<std::size_t>(settings.max_jets);
  const Rng rng = context.rng();
  Pool& pool = context.pool();

  const Stream reference_stream = read_stream(context, settings.reference, "particles/1", columns);
  const Stream sample_stream = read_stream(context, in.path, "particles/1", columns);
  JetSample reference = jets_of(reference_stream, most, rng), sample = jets_of(sample_stream, most, rng);
  if (reference.size() < 4) fail(Exit::input, "{} holds {} jets: two halves with two each are needed, for the floor", reference.path, reference.size());
  if (sample.size() < 2) fail(Exit::input, "{} holds one jet: at least two are needed", sample.path);

  Evaluation out;
  report::Section& section = out.section;
  section.id = "generation";
  section.title = "Generated jets";
  const bool in_jet_frame = reference.has_axes() != sample.has_axes();
  if (in_jet_frame) {
    to_jet_frame(reference);
    to_jet_frame(sample);
    section.notes.emplace_back(
        "The generated jets have no axis, so both samples are compared in the jet's frame: η and φ are relative to the columns jet_eta and jet_phi, and those of the jets themselves are left out.");
  }
  for (const JetSample* jets : {&reference, &sample})
    if (jets->weighted) section.notes.push_back(fmt::format("{} has weights that differ; they are not used.", jets->path));

  const std::vector<Variable> variables = variables_of(reference, sample, reference.has_axes() && sample.has_axes(), pool);
  for (const auto& v : variables)
    if (v.reference.value.empty() || v.sample.value.empty())
      fail(Exit::input, "{} has no jet with a defined {}: three constituents or more are needed in some", (v.reference.value.empty() ? reference : sample).path,
           v.key);
  std::vector<Measured> measured;
  for (const auto& v : variables) {
    context.stop_if_asked();
    measured.push_back(measure(v, settings, rng, pool));
  }
  context.stop_if_asked();
  const WholeJets whole = measure(shapes_of(reference, pool), shapes_of(sample, pool), static_cast<std::size_t>(settings.draws), rng, pool);

  section.summary = fmt::format(
      "{} generated jets of {} beside {} true jets of {}. Every metric stands beside its floor, the same metric between two random halves of "
      "the truth with the same number of jets; σ is their difference in standard errors.",
      amount(static_cast<double>(sample.size())), in.path, amount(static_cast<double>(reference.size())), settings.reference);
  report::Table means{"Means", {"variable", "truth", "generated", "ratio", "jets without"}, {}, 1, ""};
  report::Table divergences{
      "Kullback-Leibler divergences (nats)",
      {"variable", "omnijet-alpha", "floor", "σ", "ntp4jets", "floor", "σ"},
      {},
      1,
      fmt::format("{} bins. The two have one name in the literature and two definitions (docs/metrics.md); ntp4jets is infinite where the "
                  "generated jets leave a bin empty.",
                  settings.bins)};
  report::Table distances{
      "Wasserstein-1 distance (unit of the variable) and Jensen-Shannon divergence (nats)",
      {"variable", "W_{1}", "floor", "σ", "W_{1}, JetNet's recipe", "floor", "JS", "floor", "σ"},
      {},
      1,
      fmt::format("W_{{1}}, JS: mean and standard deviation over {} random parts of {} jets ({} for constituents). JetNet's recipe: 5 times {} jets "
                  "drawn with replacement; its error does not know how far finite samples are from the truth.",
                  settings.replicas, amount(static_cast<double>(measured[0].w1.events)), amount(static_cast<double>(measured.back().w1.events)),
                  amount(settings.draws))};
  json by_variable = json::object();
  for (std::size_t i = 0; i < variables.size(); ++i) {
    const auto& v = variables[i];
    const auto& m = measured[i];
    std::vector<std::string> row{v.name};
    add_cells(row, m.kl_omnijet);
    add_cells(row, m.kl_ntp4jets);
    divergences.rows.push_back(row);
    row = {v.title()};
    add_cells(row, m.w1);
    row.push_back(with_error(m.w1_jetnet.value, m.w1_jetnet.error));
    row.push_back(with_error(m.w1_jetnet.floor, m.w1_jetnet.floor_error));
    add_cells(row, m.js);
    distances.rows.push_back(row);
    const std::size_t missing = v.reference.missing + v.sample.missing;
    const bool positive = std::ranges::all_of(v.reference.value, [](double x) { return x >= 0; });
    means.rows.push_back({v.title(), with_error(m.mean_reference.value, m.mean_reference.error), with_error(m.mean_sample.value, m.mean_sample.error),
                          positive ? report::shown(m.mean_sample.value / m.mean_reference.value) : "",
                          missing == 0 ? "" : fmt::format("{} / {}", v.reference.missing, v.sample.missing)});
    by_variable[v.key] = {{"unit", v.unit},
                          {"kl_omnijet_alpha", to_json(m.kl_omnijet)},
                          {"kl_ntp4jets", to_json(m.kl_ntp4jets)},
                          {"jensen_shannon", to_json(m.js)},
                          {"w1", to_json(m.w1)},
                          {"w1_jetnet", to_json(m.w1_jetnet)},
                          {"mean_reference", to_json(m.mean_reference)},
                          {"mean_generated", to_json(m.mean_sample)},
                          {"undefined_reference", v.reference.missing},
                          {"undefined_generated", v.sample.missing}};
    section.figures.push_back(figure_of(v, m, "truth", in.name));
  }
  report::Table jets{"Whole jets", {"metric", "generated", "floor", "ratio", "σ"}, {}, 1, ""};
  json by_metric = json::object();
  std::size_t auc_jets = 0;
  const auto add = [&](const char* key, const std::string& name, const AgainstFloor& a) {
    jets.rows.push_back(
        {name, with_error(a.value, a.error), with_error(a.floor, a.floor_error), with_error(a.ratio, a.ratio_error), report::fixed(a.significance, 1)});
    by_metric[key] = to_json(a);
  };
  add("fpd", "FPD (best line)", whole.fpd);
  add("fpd_package", "FPD (as jetnet fits it)", whole.fpd_package);
  add("kpd", "KPD", whole.kpd);
  add("coverage", "COV (large is good)", whole.coverage);
  add("mmd", "MMD", whole.matching);
  json by_classifier = json::object();
  for (const auto& [kind, told] : tell_apart(reference, sample, settings, context, pool)) {
    // The networks differ between seeds, the jets do not: both uncertainties count.
    const double error = std::hypot(told.error, std::isnan(told.auc.error) ? 0 : told.auc.error);
    const std::string name =
        kind == models::SetKind::dense ? std::string("AUC of a classifier (observables)") : fmt::format("AUC of a classifier ({})", models::name_of(kind));
    jets.rows.push_back({name, with_error(told.auc.mean, error), "0.5", "", report::fixed((told.auc.mean - 0.5) / error, 1)});
    section.headlines.push_back({name, with_error(told.auc.mean, error), "0.5: not to be told from true jets"});
    by_classifier[std::string(models::name_of(kind))] = {{"auc", report::number(told.auc.mean)},
                                                         {"error", report::number(error)},
                                                         {"deviation", report::number(told.auc.deviation)},
                                                         {"seeds", told.per_seed},
                                                         {"jets", told.jets}};
    auc_jets = told.jets;
  }
  by_metric["classifier"] = by_classifier;
  jets.note = "FPD and KPD of 36 energy flow polynomials, COV and MMD by the energy mover's distance; p_{T} as a fraction of the jet's.";
  if (auc_jets > 0)
    jets.note += fmt::format(
        " AUC: of networks that tell generated jets from true ones, by observables of the jet or by its constituents, {} of each; every jet is scored by "
        "one that was not trained on it. A larger network or more jets may see more.",
        amount(static_cast<double>(auc_jets)));
  if (whole.few)
    section.notes.push_back(
        fmt::format("FPD and KPD are from {} jets: they are meant for {} or more of each sample, and published values cannot be compared with these.",
                    amount(static_cast<double>(whole.fpd.events)), amount(static_cast<double>(stats::kRecommendedRows))));

  const auto headline = [&](const std::string& name, const AgainstFloor& a, const std::string& unit) {
    section.headlines.push_back({name, with_error(a.value, a.error) + (unit.empty() ? "" : " " + unit), "floor " + with_error(a.floor, a.floor_error)});
  };
  headline("FPD", whole.fpd, "");
  headline("KPD", whole.kpd, "");
  for (std::size_t i = 0; i < variables.size(); ++i) {
    if (variables[i].key == "jet_mass") headline("W_{1} of the jet mass", measured[i].w1, "GeV");
    if (variables[i].key == "tau32") headline("W_{1} of τ_{32}", measured[i].w1, "");
    if (variables[i].key == "multiplicity")
      section.headlines.push_back({"mean number of constituents", with_error(measured[i].mean_sample.value, measured[i].mean_sample.error),
                                   "truth " + with_error(measured[i].mean_reference.value, measured[i].mean_reference.error)});
  }
  section.tables = {jets, distances, divergences, means};
  section.origins = {origin_of("truth", reference_stream, context), origin_of("generated", sample_stream, context)};

  out.numbers = {{"reference", settings.reference},
                 {"in", in.path},
                 {"reference_jets", reference.size()},
                 {"generated_jets", sample.size()},
                 {"jet_frame", in_jet_frame},
                 {"few", whole.few},
                 {"bins", settings.bins},
                 {"replicas", settings.replicas},
                 {"draws", settings.draws},
                 {"variables", by_variable},
                 {"jets", by_metric},
                 {"notes", section.notes},
                 {"history", sample_stream.hello.history},
                 {"evaluation", context.history_entry()}};
  out.text = report::section_text(section);
  return out;
}

}  // namespace bl::evaluate
