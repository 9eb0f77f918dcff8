// bl-evaluate tokens: what tokens keep of jets, for one tokenizer or several beside each other.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <numeric>
#include <set>

#include "base/error.hpp"
#include "base/hash.hpp"
#include "evaluate/evaluation.hpp"
#include "evaluate/input.hpp"
#include "evaluate/token_quality.hpp"
#include "evaluate/two_sample.hpp"
#include "models/labels.hpp"
#include "report/folder.hpp"
#include "stats/correlation.hpp"
#include "stats/histogram.hpp"
#include "tokens/file.hpp"

namespace bl::evaluate {
namespace {

using models::SetKind;
using nlohmann::json;
using report::amount;
using report::number;
using report::shown;
using report::with_error;

// The processes of a stream, in the order of its metadata, else of the alphabet.
struct Processes {
  std::vector<std::string> names;
  std::vector<std::int32_t> number;  // of each jet
};
Processes processes_of(const Stream& stream) {
  std::vector<std::string> of_jet;
  std::set<std::string> there;
  for (std::uint32_t j = 0; j < stream.batch.events; ++j) {
    of_jet.push_back(stream.batch.text("process", j));
    there.insert(of_jet.back());
  }
  Processes processes;
  if (const auto labels = stream.hello.meta.find("labels"); labels != stream.hello.meta.end() && labels->is_object()) {
    std::map<long, std::string> by_number;
    for (const auto& [key, name] : labels->items()) {
      long n = 0;
      const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), n);
      if (error == std::errc() && end == key.data() + key.size() && name.is_string()) by_number[n] = name.get<std::string>();
    }
    for (const auto& [n, name] : by_number)
      if (there.erase(name) > 0) processes.names.push_back(name);
  }
  processes.names.insert(processes.names.end(), there.begin(), there.end());
  for (const auto& name : of_jet) processes.number.push_back(static_cast<std::int32_t>(std::ranges::find(processes.names, name) - processes.names.begin()));
  return processes;
}

// What classifiers tell apart, and the class of each jet, -1: none.
struct Classes {
  std::vector<std::string> names;
  std::vector<std::int32_t> label;
};
Classes classes_of(const Processes& processes, const std::vector<std::string>& asked, const std::string& where) {
  std::vector<models::LabelClass> classes = models::parse_classes(asked);
  if (asked.empty())
    for (const auto& name : processes.names) classes.push_back({name, {name}});
  Classes out;
  out.names = models::names_of(classes);
  std::vector<std::size_t> jets(classes.size());
  for (const std::int32_t process : processes.number) {
    out.label.push_back(models::class_of(classes, processes.names[static_cast<std::size_t>(process)]));
    if (out.label.back() >= 0) ++jets[static_cast<std::size_t>(out.label.back())];
  }
  for (std::size_t c = 0; c < classes.size(); ++c)
    if (jets[c] == 0)
      fail(Exit::input, "{} has no jet of the class '{}' of --classes; its processes are {}", where, out.names[c], fmt::join(processes.names, ", "));
  if (classes.size() < 2)
    fail(Exit::input, "{} has jets of one class only ('{}'): classifiers need two; leave --classifiers out, or see --classes", where, out.names[0]);
  return out;
}

// One tokenizer and all that was measured of it.
struct Measured {
  std::string name, path;
  models::Encoder encoder;
  Tokenized tokenized;
  models::Usage usage;
  std::vector<Residual> constituents, jets;
  std::vector<Observable> after;
  std::vector<CloudToken> cloud;
  std::vector<Tagging> tagging;  // one a classifier
};

Measured measure(const Input& input, const Batch& jets, const std::vector<Observable>& before, stage::Context& context) {
  models::Tokenizer tokenizer = tokens::load(input.path);
  if (tokenizer.input != "particles/1")
    fail(Exit::input, "'{}' tokenizes {}, and bl-evaluate tokens needs tokenizers of jets (particles/1)", input.path, tokenizer.input);
  models::Encoder encoder(std::move(tokenizer), models::Unknown::drop);
  Pool& pool = context.pool();
  Tokenized tokenized = encode_and_decode(jets, encoder, pool);
  if (tokenized.token.empty()) fail(Exit::input, "'{}' has no token for any constituent of the jets", input.path);
  const models::Usage use = usage(encoder.tokenizer(), tokenized.tally.used);
  auto after = jet_values(tokenized, pool);
  auto differences = jet_residuals(before, after);
  auto residuals = constituent_residuals(tokenized);
  auto cloud = token_cloud(encoder, tokenized.tally.used, {}, Rng(context.seed(), "token cloud"), pool);
  return {input.name,       input.path, std::move(encoder), std::move(tokenized), use, std::move(residuals), std::move(differences), std::move(after),
          std::move(cloud), {}};
}

// Bins that hold nearly all of every sample: from the 0.5 to the 99.5 % quantile, but of long tails no more than six times the
// distance from the median to the 16 and 84 % quantiles. Fewer bins for few entries.
std::vector<double> edges_of(const std::vector<const std::vector<double>*>& samples, bool around_zero) {
  double low = std::numeric_limits<double>::infinity(), high = -low;
  std::size_t entries = 0;
  for (const auto* sample : samples) {
    std::vector<double> sorted;
    for (const double v : *sample)
      if (std::isfinite(v)) sorted.push_back(v);
    if (sorted.empty()) continue;
    std::ranges::sort(sorted);
    const auto at = [&](double q) { return stats::quantile_of_sorted(sorted, q); };
    const double median = at(0.5);
    low = std::min(low, std::max(at(0.005), median - 6 * (median - at(0.16))));
    high = std::max(high, std::min(at(0.995), median + 6 * (at(0.84) - median)));
    entries = std::max(entries, sorted.size());
  }
  if (!(low <= high)) low = high = 0;
  if (around_zero) {
    high = std::max(std::abs(low), std::abs(high));
    low = -high;
  }
  if (!(high > low)) {
    low -= 0.5;
    high += 0.5;
  }
  const auto bins = static_cast<std::size_t>(std::clamp(std::sqrt(static_cast<double>(entries)), 10.0, 50.0));
  std::vector<double> edges;
  for (std::size_t i = 0; i <= bins; ++i) edges.push_back(low + (high - low) * static_cast<double>(i) / static_cast<double>(bins));
  return edges;
}

report::Series histogram_of(const std::vector<double>& values, const std::vector<double>& edges, const std::string& name, report::Style style) {
  stats::Histogram h{stats::Axis(edges)};
  for (const double v : values) h.fill(v);
  std::vector<double> count, error;
  for (std::size_t i = 1; i <= h.axis().bins(); ++i) {
    count.push_back(h.content(i));
    error.push_back(h.error(i));
  }
  return report::density(name, style, edges, count, error, h.total());
}

std::string with_unit(const std::string& title, const std::string& unit) { return unit.empty() ? title : title + " [" + unit + "]"; }

std::string density_title(const std::string& unit) { return unit.empty() ? "density" : "density [1/" + unit + "]"; }

report::Figure residual_figure(const std::string& key, const std::vector<Measured>& all, const std::function<const Residual&(const Measured&)>& of,
                               const std::string& caption) {
  const Residual& first = of(all[0]);
  report::Figure f;
  f.name = "tokens_" + key;
  f.caption = caption;
  f.x.title = with_unit(first.title, first.unit);
  f.y.title = density_title(first.unit);
  std::vector<const std::vector<double>*> samples;
  samples.reserve(all.size());
  for (const Measured& m : all) samples.push_back(&of(m).value);
  const auto edges = edges_of(samples, true);
  for (const Measured& m : all) f.series.push_back(histogram_of(of(m).value, edges, m.name, report::Style::histogram));
  return f;
}

report::Figure closure_figure(std::size_t k, const std::vector<Observable>& before, const std::vector<Measured>& all) {
  report::Figure f;
  f.name = "tokens_" + before[k].name;
  f.caption = "Jet " + before[k].title + " before tokenisation and of the decoded tokens.";
  f.x.title = with_unit("jet " + before[k].title, before[k].unit);
  f.y.title = density_title(before[k].unit);
  f.ratio = true;
  f.ratio_title = "decoded / true";
  const auto edges = edges_of({&before[k].value}, false);
  f.series.push_back(histogram_of(before[k].value, edges, "true", report::Style::reference));
  for (const Measured& m : all) f.series.push_back(histogram_of(m.after[k].value, edges, m.name, report::Style::histogram));
  return f;
}

report::Figure usage_figure(const std::vector<Measured>& all) {
  report::Figure f;
  f.name = "tokens_use";
  f.caption = "Share of all tokens that the most used code has, the second most used, and so on; a line ends where codes are dead.";
  f.x = {"rank of the code", report::Scale::log, {}, {}};
  f.y = {"share of tokens", report::Scale::log, {}, {}};
  for (const Measured& m : all) {
    std::vector<double> share;
    const auto& used = m.tokenized.tally.used;
    for (std::size_t id = 1; id <= m.usage.codes; ++id)
      if (used[id] > 0) share.push_back(static_cast<double>(used[id]) / static_cast<double>(m.tokenized.token.size()));
    std::ranges::sort(share, std::greater<>());
    report::Series s;
    s.name = m.name;
    s.style = report::Style::line;
    // all of the first ranks, then as many as a logarithmic axis shows
    for (std::size_t rank = 0; rank < share.size(); rank = std::max(rank + 1, static_cast<std::size_t>(static_cast<double>(rank) * 1.02))) {
      s.x.push_back(static_cast<double>(rank + 1));
      s.y.push_back(share[rank]);
    }
    f.series.push_back(std::move(s));
  }
  return f;
}

// Something against the size of the codebook, one line a kind of tokenizer.
report::Figure codebook_figure(const std::string& key, const std::string& title, const std::string& caption, const std::vector<Measured>& all,
                               const std::function<stats::Estimate(const Measured&)>& of) {
  report::Figure f;
  f.name = "tokens_codebook_" + key;
  f.caption = caption;
  f.x = {"codes", report::Scale::log, {}, {}};
  f.y.title = title;
  std::map<std::string, std::vector<const Measured*>> kinds;
  for (const Measured& m : all) kinds[std::string(name_of(m.encoder.tokenizer().kind))].push_back(&m);
  for (auto& [kind, members] : kinds) {
    std::ranges::stable_sort(members, {}, [](const Measured* m) { return m->usage.codes; });
    report::Series s;
    s.name = kind;
    s.style = report::Style::points;
    for (const Measured* m : members) {
      const stats::Estimate e = of(*m);
      const double error = std::isfinite(e.error) ? e.error : 0;
      s.x.push_back(static_cast<double>(m->usage.codes));
      s.y.push_back(e.value);
      s.y_low.push_back(e.value - error);
      s.y_high.push_back(e.value + error);
    }
    f.series.push_back(std::move(s));
  }
  return f;
}

// Names of figures hold letters, digits, _ and - only.
std::string file_word(const std::string& name) {
  std::string word;
  for (const char c : name) word += (std::isalnum(static_cast<unsigned char>(c)) != 0 && static_cast<unsigned char>(c) < 128) || c == '-' ? c : '_';
  return word;
}

std::vector<report::Figure> cloud_figures(const Measured& m) {
  const bool conditional = m.encoder.conditional();
  report::Figure where, how_hard;
  where.name = "tokens_cloud_" + file_word(m.name);
  how_hard.name = "tokens_cloud_pt_" + file_word(m.name);
  const CloudOptions options;
  const std::string what = conditional ? fmt::format("{} tokens of {}, each decoded {} times beside {} others that are drawn as often as the jets have them",
                                                     m.cloud.size(), m.name, options.repeats, options.companions)
                                       : fmt::format("{} tokens of {}, which mean the same in every jet", m.cloud.size(), m.name);
  where.caption = what + ": direction of the constituent from the axis of the jet.";
  how_hard.caption = what + ": p_{T} and Δη.";
  where.x.title = how_hard.x.title = "Δη";
  where.y.title = "Δφ";
  how_hard.y = {"p_{T} [GeV]", report::Scale::log, {}, {}};
  for (const CloudToken& token : m.cloud) {
    report::Series s;
    s.name = fmt::format("{}", token.token);
    s.style = conditional ? report::Style::cloud : report::Style::marks;
    s.x.assign(token.eta.begin(), token.eta.end());
    s.y.assign(token.phi.begin(), token.phi.end());
    where.series.push_back(s);
    s.y.assign(token.pt.begin(), token.pt.end());
    how_hard.series.push_back(std::move(s));
  }
  // Room for the legend above the highest point.
  double low = std::numeric_limits<double>::infinity(), high = -low, hardest = 0, softest = low;
  for (const CloudToken& token : m.cloud)
    for (std::size_t i = 0; i < token.pt.size(); ++i) {
      low = std::min(low, static_cast<double>(token.phi[i]));
      high = std::max(high, static_cast<double>(token.phi[i]));
      softest = std::min(softest, static_cast<double>(token.pt[i]));
      hardest = std::max(hardest, static_cast<double>(token.pt[i]));
    }
  where.y.high = high + 0.5 * std::max(high - low, 0.01);
  if (softest > 0) how_hard.y.high = hardest * std::pow(std::max(hardest / softest, 1.1), 0.5);
  return {std::move(where), std::move(how_hard)};
}

json to_json(const Spread& s) {
  return {{"entries", s.entries}, {"missing", s.missing}, {"mean", number(s.mean)},  {"std", number(s.deviation)}, {"mean_absolute", number(s.mean_absolute)},
          {"q01", number(s.q01)}, {"q16", number(s.q16)}, {"q50", number(s.median)}, {"q84", number(s.q84)},       {"q99", number(s.q99)}};
}
json to_json(const stats::OverSeeds& s, const std::vector<double>& each) {
  json values = json::array();
  for (const double v : each) values.push_back(number(v));
  return {{"mean", number(s.mean)}, {"std", number(s.deviation)}, {"error", number(s.error)}, {"seeds", values}};
}
json to_json(const Tagging& t) {
  return {{"accuracy", to_json(t.accuracy, t.accuracies)}, {"accuracy_binomial_error", number(t.accuracy_error)}, {"auc", to_json(t.auc, t.aucs)}};
}

std::vector<std::string> spread_cells(const Spread& s) {
  return {shown(s.mean, 3), shown(s.deviation, 3), shown(s.mean_absolute, 3), shown(s.q01, 3),
          shown(s.q16, 3),  shown(s.median, 3),    shown(s.q84, 3),           shown(s.q99, 3)};
}
const std::vector<std::string> kSpreadHead{"mean", "std", "mean |Δ|", "1 %", "16 %", "median", "84 %", "99 %"};

std::vector<std::string> joined(std::vector<std::string> a, const std::vector<std::string>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

std::vector<double> differences(const std::vector<double>& a, const std::vector<double>& b) {
  std::vector<double> d;
  for (std::size_t i = 0; i < a.size(); ++i) d.push_back(a[i] - b[i]);
  return d;
}

double percent(std::uint64_t part, std::uint64_t whole) { return whole == 0 ? std::nan("") : 100 * static_cast<double>(part) / static_cast<double>(whole); }

}  // namespace

Evaluation tokens(const Settings& settings, stage::Context& context) {
  if (settings.reference.empty() == context.inputs().empty()) fail(Exit::usage, "the jets to tokenize are needed once: --reference FILE, or --in");
  const std::string path = settings.reference.empty() ? only_input(context.inputs(), "tokens").path : settings.reference;
  const std::vector<Input> inputs = named_inputs(settings.tokenizers, "--tokenizer");
  std::set<std::string> words;
  for (const Input& input : inputs)
    if (!words.insert(file_word(input.name)).second)
      fail(Exit::usage, "two tokenizers are called '{}'; give them names: --tokenizer a=FILE,b=FILE", input.name);
  Stream stream =
      read_stream(context, path, "particles/1",
                  {"event_index", "event_id", "weight", "process", "process_char_offsets", "jet_eta", "jet_phi", "particle_offsets", "pt", "eta", "phi"});
  if (stream.batch.events == 0) fail(Exit::input, "{} holds no jets", stream.path);
  if (const auto most = static_cast<std::uint32_t>(settings.max_jets); most > 0 && stream.batch.events > most) {
    auto drawn = stats::shuffled(Rng(context.seed(), "jets"), 0, stream.batch.events);
    drawn.resize(most);
    std::ranges::sort(drawn);
    stream.batch = select(stream.batch, drawn);
  }
  const std::uint32_t n = stream.batch.events;
  Pool& pool = context.pool();
  const Processes processes = processes_of(stream);
  const Batch jets = in_jet_frame(stream.batch);
  const std::vector<Observable> before = jet_values(jets, pool);

  std::vector<Measured> all;
  for (const Input& input : inputs) {
    context.stop_if_asked();
    context.depends_on(input.path);
    all.push_back(measure(input, jets, before, context));
  }

  // Classifiers on constituents before and after
  const std::vector<SetKind> kinds = classifiers_named(settings.classifiers);
  if (kinds.empty() && !settings.classes.empty()) fail(Exit::usage, "--classes is for classifiers: choose --classifiers deep-sets, transformer or both");
  std::vector<Tagging> original;
  Classes classes;
  Parts parts;
  if (!kinds.empty()) {
    classes = classes_of(processes, settings.classes, stream.path);
    parts = split_by_event(stream.batch.get<std::uint64_t>("event_id"), Rng(context.seed(), "parts"));
    for (auto* part : {&parts.training, &parts.validation, &parts.testing}) std::erase_if(*part, [&](std::uint32_t j) { return classes.label[j] < 0; });
    const auto tag = [&](models::SetData data, SetKind kind) {
      data.labels = classes.label;
      return train_and_test(data, parts, kind, classes.names.size(), static_cast<std::size_t>(settings.seeds), context.seed(), pool,
                            [&] { context.stop_if_asked(); });
    };
    for (const SetKind kind : kinds) {
      original.push_back(
          tag(constituent_sets(jets.get<std::uint32_t>("particle_offsets"), jets.get<float>("pt"), jets.get<float>("eta"), jets.get<float>("phi")), kind));
      for (Measured& m : all)
        m.tagging.push_back(tag(constituent_sets(m.tokenized.offsets, m.tokenized.decoded_pt, m.tokenized.decoded_eta, m.tokenized.decoded_phi), kind));
    }
  }

  Evaluation out;
  report::Section& section = out.section;
  section.id = "tokens";
  section.title = "Token quality";
  const std::uint64_t constituents = jets.at("pt").size();
  section.summary = fmt::format("What tokens keep of {} jets with {} constituents of {}.", amount(n), amount(static_cast<double>(constituents)), stream.path);
  const auto weight = stream.batch.get<double>("weight");
  if (std::ranges::any_of(weight, [&](double w) { return w != weight[0]; }))
    section.notes.emplace_back("The jets have different weights, which are not used: each counts once.");

  report::Table codes{"Codes", {"tokenizer", "kind", "codes", "used", "dead", "perplexity", "no token", "cut"}, {}, 2, {}};
  codes.note =
      "Perplexity: exp of the entropy of the codes' frequencies. No token: share of the constituents beyond the largest angle; cut: beyond the largest multiplicity.";
  report::Table of_constituents{"Constituents", joined({"tokenizer", "decoded - true"}, kSpreadHead), {}, 2, {}};
  of_constituents.note = "Constituents that have a token. Quantiles are those of the difference.";
  report::Table of_jets{"Jets", joined(joined({"tokenizer", "decoded - true"}, kSpreadHead), {"missing"}), {}, 2, {}};
  of_jets.note =
      "Whole jets before, constituents without a token too, against their decoded tokens; constituents have no mass on either side. Missing: fewer than three constituents.";
  report::Table masses{"Jet mass by process",
                       {"tokenizer", "process", "jets", "median true [GeV]", "median decoded [GeV]", "ratio", "mean Δm [GeV]", "std Δm [GeV]"},
                       {},
                       2,
                       {}};
  report::Table taggers{"Classifiers on constituents", {"classifier", "jets", "accuracy", "± std", "loss", "AUC", "± std", "loss"}, {}, 2, {}};
  report::Table clouds{"Single tokens", {"tokenizer", "token", "used", "p_{T} [GeV]", "± std", "Δη", "± std", "Δφ", "± std"}, {}, 2, {}};

  json by_tokenizer = json::array();
  for (const Measured& m : all) {
    const models::Tokenizer& t = m.encoder.tokenizer();
    const models::Tally& tally = m.tokenized.tally;
    codes.rows.push_back({m.name, std::string(name_of(t.kind)), amount(static_cast<double>(m.usage.codes)), amount(static_cast<double>(m.usage.used)),
                          amount(static_cast<double>(m.usage.dead)), shown(m.usage.perplexity),
                          fmt::format("{} %", shown(percent(tally.dropped, tally.particles), 3)),
                          fmt::format("{} %", shown(percent(tally.truncated_particles, tally.particles), 3))});
    json entry = {{"name", m.name},
                  {"file", m.path},
                  {"hash", hex(t.hash())},
                  {"kind", name_of(t.kind)},
                  {"codes",
                   {{"all", m.usage.codes},
                    {"used", m.usage.used},
                    {"dead", m.usage.dead},
                    {"perplexity", number(m.usage.perplexity)},
                    {"entropy", number(m.usage.particle_entropy)}}},
                  {"particles", tally.particles},
                  {"dropped", tally.dropped},
                  {"truncated", tally.truncated_particles}};
    for (const Residual& r : m.constituents) {
      of_constituents.rows.push_back(joined({m.name, with_unit(r.title, r.unit)}, spread_cells(r.spread)));
      entry["constituents"][r.name] = to_json(r.spread);
    }
    for (const Residual& r : m.jets) {
      of_jets.rows.push_back(joined(joined({m.name, with_unit(r.title, r.unit)}, spread_cells(r.spread)), {amount(static_cast<double>(r.spread.missing))}));
      entry["jets"][r.name] = to_json(r.spread);
    }
    for (std::size_t c = 0; c < processes.names.size(); ++c) {
      std::vector<double> mass, decoded, change;
      for (std::size_t j = 0; j < n; ++j) {
        if (processes.number[j] != static_cast<std::int32_t>(c)) continue;
        mass.push_back(before[1].value[j]);
        decoded.push_back(m.after[1].value[j]);
        change.push_back(m.jets[1].value[j]);
      }
      const Spread a = spread(mass), b = spread(decoded), d = spread(change);
      masses.rows.push_back({m.name, processes.names[c], amount(static_cast<double>(mass.size())), shown(a.median), shown(b.median), shown(b.median / a.median),
                             shown(d.mean, 3), shown(d.deviation, 3)});
      entry["jet_mass_by_process"][processes.names[c]] = {{"true", to_json(a)}, {"decoded", to_json(b)}, {"difference", to_json(d)}};
    }
    entry["cloud"] = json::array();
    for (const CloudToken& token : m.cloud) {
      const auto of = [](const std::vector<float>& values) { return spread(std::vector<double>(values.begin(), values.end())); };
      const Spread pt = of(token.pt), eta = of(token.eta), phi = of(token.phi);
      clouds.rows.push_back({m.name, fmt::format("{}", token.token), amount(static_cast<double>(token.count)), shown(pt.mean, 3), shown(pt.deviation, 2),
                             shown(eta.mean, 3), shown(eta.deviation, 2), shown(phi.mean, 3), shown(phi.deviation, 2)});
      entry["cloud"].push_back(
          {{"token", token.token}, {"used", token.count}, {"repeats", token.pt.size()}, {"pt", to_json(pt)}, {"eta", to_json(eta)}, {"phi", to_json(phi)}});
    }
    for (std::size_t k = 0; k < kinds.size(); ++k) {
      const auto lost_accuracy = differences(original[k].accuracies, m.tagging[k].accuracies), lost_auc = differences(original[k].aucs, m.tagging[k].aucs);
      json& result = entry["classifiers"][std::string(name_of(kinds[k]))];
      result = to_json(m.tagging[k]);
      result["accuracy_loss"] = to_json(stats::over_seeds(lost_accuracy), lost_accuracy);
      result["auc_loss"] = to_json(stats::over_seeds(lost_auc), lost_auc);
    }
    by_tokenizer.push_back(std::move(entry));
  }
  json by_classifier = json::object();
  for (std::size_t k = 0; k < kinds.size(); ++k) {
    const std::string classifier(name_of(kinds[k]));
    const auto row = [&](const std::string& name, const Tagging& t) {
      const bool decoded = &t != &original[k];
      const auto loss = [&](const std::vector<double>& a, const std::vector<double>& b) {
        const auto d = stats::over_seeds(differences(a, b));
        return decoded ? with_error(d.mean, d.error) : std::string();
      };
      taggers.rows.push_back({classifier, name, shown(t.accuracy.mean), shown(t.accuracy.deviation, 2), loss(original[k].accuracies, t.accuracies),
                              shown(t.auc.mean), shown(t.auc.deviation, 2), loss(original[k].aucs, t.aucs)});
    };
    row("true", original[k]);
    for (const Measured& m : all) row(m.name, m.tagging[k]);
    by_classifier[classifier] = to_json(original[k]);
  }

  for (std::size_t i = 0; i < all.size() && i < 4; ++i) {
    const Measured& m = all[i];
    section.headlines.push_back({m.name + ": mean |Δm|", shown(m.jets[1].spread.mean_absolute, 3) + " GeV",
                                 fmt::format("{} of {} codes used, perplexity {}", amount(static_cast<double>(m.usage.used)),
                                             amount(static_cast<double>(m.usage.codes)), shown(m.usage.perplexity, 3))});
  }
  section.tables = {codes, of_jets, of_constituents, masses};
  if (!kinds.empty()) {
    taggers.note = fmt::format(
        "Networks trained on {} jets, stopped by {} and tested on {}, of other events; {} classes, {} {}. Loss: of the same seed, with the error of the mean.",
        amount(static_cast<double>(parts.training.size())), amount(static_cast<double>(parts.validation.size())),
        amount(static_cast<double>(parts.testing.size())), classes.names.size(), settings.seeds, settings.seeds == 1 ? "seed" : "seeds");
    section.tables.insert(section.tables.begin() + 1, taggers);
  }
  section.tables.push_back(clouds);

  for (std::size_t k = 0; k < before.size(); ++k) section.figures.push_back(closure_figure(k, before, all));
  for (std::size_t k = 0; k < before.size(); ++k)
    section.figures.push_back(residual_figure(
        "delta_" + before[k].name, all, [k](const Measured& m) -> const Residual& { return m.jets[k]; },
        "Jet by jet: " + before[k].title + " of the decoded tokens less the true one."));
  for (std::size_t k = 0; k < all[0].constituents.size(); ++k)
    if (const std::string key = all[0].constituents[k].name; key != "pt")
      section.figures.push_back(residual_figure(
          "constituent_" + key, all, [k](const Measured& m) -> const Residual& { return m.constituents[k]; },
          "Constituent by constituent: decoded less true."));
  section.figures.push_back(usage_figure(all));
  if (all.size() > 1) {
    section.figures.push_back(codebook_figure("mass", "mean |Δm| [GeV]", "Error of the jet mass against the size of the codebook.", all, [](const Measured& m) {
      return stats::Estimate{m.jets[1].spread.mean_absolute, 0};
    }));
    for (std::size_t k = 0; k < kinds.size(); ++k) {
      const std::string classifier(name_of(kinds[k]));
      report::Figure f =
          codebook_figure(file_word(classifier), "accuracy",
                          "Accuracy of " + classifier + " on decoded constituents against the size of the codebook, ± standard deviation of seeds.", all,
                          [k](const Measured& m) {
                            return stats::Estimate{m.tagging[k].accuracy.mean, m.tagging[k].accuracy.deviation};
                          });
      const double mean = original[k].accuracy.mean;
      double low = std::numeric_limits<double>::infinity(), high = 0, worst = mean, best = mean;
      for (const Measured& m : all) {
        low = std::min(low, static_cast<double>(m.usage.codes));
        high = std::max(high, static_cast<double>(m.usage.codes));
        worst = std::min(worst, m.tagging[k].accuracy.mean);
        best = std::max(best, m.tagging[k].accuracy.mean);
      }
      const double deviation = std::isfinite(original[k].accuracy.deviation) ? original[k].accuracy.deviation : 0;
      f.legend = report::Corner::bottom_right;
      f.y.low = worst - 0.8 * (best - worst) - 2 * deviation;  // room for the legend
      f.series.push_back({"true constituents",
                          report::Style::line,
                          {low / 1.2, high * 1.2},
                          {mean, mean},
                          {mean - deviation, mean - deviation},
                          {mean + deviation, mean + deviation}});
      section.figures.push_back(std::move(f));
    }
  }
  for (const Measured& m : all)
    for (auto& figure : cloud_figures(m)) section.figures.push_back(std::move(figure));

  section.origins.push_back(origin_of("jets", stream, context));
  for (const Measured& m : all) {
    const std::string& history = m.encoder.tokenizer().fit.history;
    report::Origin origin{m.name, m.path, json::parse(history, nullptr, false)};
    if (!origin.history.is_array()) origin.history = json::array();
    section.origins.push_back(std::move(origin));
  }
  out.numbers = {{"reference", settings.reference}, {"jets", n},
                 {"constituents", constituents},    {"processes", processes.names},
                 {"tokenizers", by_tokenizer},      {"notes", section.notes},
                 {"history", stream.hello.history}, {"evaluation", context.history_entry()}};
  if (!kinds.empty()) {
    out.numbers["classes"] = classes.names;
    out.numbers["classifiers"] = by_classifier;
    out.numbers["classifier_jets"] = {{"training", parts.training.size()}, {"validation", parts.validation.size()}, {"testing", parts.testing.size()}};
  }
  out.text = report::section_text(section);
  return out;
}

}  // namespace bl::evaluate
