// bl-tokenize: particles to integers and back.
#include <fmt/core.h>

#include <charconv>
#include <optional>

#include "base/files.hpp"
#include "base/log.hpp"
#include "models/tokenizer_fit.hpp"
#include "stage/program.hpp"
#include "tokens/convert.hpp"
#include "tokens/file.hpp"
#include "tokenize/learn.hpp"
#include "tokenize/report.hpp"

namespace {

using bl::Exit;
namespace models = bl::models;

constexpr models::TokenizerKind kKinds[] = {models::TokenizerKind::formula, models::TokenizerKind::binning, models::TokenizerKind::quantile,
                                            models::TokenizerKind::kmeans,  models::TokenizerKind::vqvae,   models::TokenizerKind::vqvae_conditional};

struct Options {
  std::string fit, with, save, report;
  bool decode = false;
  std::vector<std::string> categories, extras, pt_edges, eta_edges, phi_edges, tails;
  std::string phi = "auto", weights = "none", unknown = "error";
  int max_objects = 0, pt_bins = 0, eta_bins = 0, phi_bins = 0, codes = 512, iterations = 50, extra_bins = 10;
  double btag = 0.5;
  std::int64_t fit_limit = 0;
  bl::tokenize::Learning learning;

  bool learns() const { return fit.starts_with("vqvae"); }
};

std::vector<double> numbers(const std::vector<std::string>& texts, std::string_view flag) {
  std::vector<double> out;
  for (const auto& text : texts) {
    double value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size()) bl::fail(Exit::usage, "{}: '{}' is not a number", flag, text);
    out.push_back(value);
  }
  return out;
}

models::Unknown unknown_of(const Options& o) {
  return o.unknown == "drop" ? models::Unknown::drop : o.unknown == "token" ? models::Unknown::token : models::Unknown::error;
}

void check_options(const Options& o) {
  if (o.fit.empty() == o.with.empty()) bl::fail(Exit::usage, "choose one: --fit KIND --save FILE makes a tokenizer, --with FILE applies one");
  if (!o.fit.empty()) {
    if (o.save.empty()) bl::fail(Exit::usage, "--fit needs --save FILE, the tokenizer file to write");
    if (o.decode) bl::fail(Exit::usage, "--decode belongs to --with FILE, not to --fit");
    if (!o.learns() && o.learning != bl::tokenize::Learning{})
      bl::fail(Exit::usage, "--fit {} trains no network; options of one (--latent, --epochs, --lr …) belong to --fit vqvae or vqvae-conditional", o.fit);
    return;
  }
  if (!o.save.empty()) bl::fail(Exit::usage, "--save belongs to --fit; with --with the tokens go to --out");
  const Options d;
  const bool fitting = o.categories != d.categories || o.extras != d.extras || o.pt_edges != d.pt_edges || o.eta_edges != d.eta_edges ||
                       o.phi_edges != d.phi_edges || o.phi != d.phi || o.weights != d.weights || o.max_objects != d.max_objects || o.pt_bins != d.pt_bins ||
                       o.eta_bins != d.eta_bins || o.phi_bins != d.phi_bins || o.codes != d.codes || o.iterations != d.iterations ||
                       o.extra_bins != d.extra_bins || o.tails != d.tails || o.btag != d.btag || o.fit_limit != d.fit_limit || o.learning != d.learning;
  if (fitting)
    bl::fail(Exit::usage, "--with takes its bins, codes and categories from the file; options of the fit have no meaning there, only --unknown and --report");
}

models::FitOptions fit_options(const Options& o, const std::string& schema) {
  models::FitOptions f;
  for (const auto kind : kKinds)
    if (name_of(kind) == o.fit) f.kind = kind;
  f.input = schema;
  const bool jets = schema == "particles/1";
  if (o.categories.empty()) {
    if (jets) f.categories = {models::kCategories};
    else
      for (std::uint8_t c = 1; c < models::kCategories; ++c) f.categories.push_back(c);
  }
  for (const auto& name : o.categories) f.categories.push_back(models::category_named(name));
  for (const auto c : f.categories)
    if ((c == models::kCategories) != jets) bl::fail(Exit::usage, "category {} cannot occur in {}", models::category_name(c), schema);
  if (jets) {
    if (o.phi == "absolute") bl::fail(Exit::usage, "--phi absolute: constituents of jets are always taken relative to the jet's axis");
    f.frame = models::Frame::jet;
  } else {
    const bool relative = o.phi == "relative" || (o.phi == "auto" && f.kind != models::TokenizerKind::formula);
    f.frame = relative ? models::Frame::met : models::Frame::absolute;
  }
  f.max_particles = o.max_objects > 0 ? static_cast<std::uint32_t>(o.max_objects) : jets ? 128 : 18;
  f.btag = o.btag;
  // Bins that nobody asked for: five, and for a binning as many as there shall be codes.
  const bool grid = f.kind == models::TokenizerKind::binning && o.pt_bins == 0 && o.eta_bins == 0 && o.phi_bins == 0;
  const auto otherwise = grid ? models::even_grid(static_cast<std::uint32_t>(o.codes)) : std::array<std::uint32_t, 3>{5, 5, 5};
  f.pt_bins = o.pt_bins > 0 ? static_cast<std::uint32_t>(o.pt_bins) : otherwise[0];
  f.eta_bins = o.eta_bins > 0 ? static_cast<std::uint32_t>(o.eta_bins) : otherwise[1];
  f.phi_bins = o.phi_bins > 0 ? static_cast<std::uint32_t>(o.phi_bins) : otherwise[2];
  f.pt_edges = numbers(o.pt_edges, "--pt-edges");
  f.eta_edges = numbers(o.eta_edges, "--eta-edges");
  f.phi_edges = numbers(o.phi_edges, "--phi-edges");
  f.codes = static_cast<std::uint32_t>(o.codes);
  f.iterations = static_cast<std::uint32_t>(o.iterations);
  f.weight_by_sqrt_pt = o.weights == "sqrt-pt";
  for (const auto& name : o.extras) f.extras.push_back(models::extra_named(name));
  f.extra_bins = static_cast<std::uint32_t>(o.extra_bins);
  f.tails = numbers(o.tails, "--tails");
  f.limit = o.fit_limit > 0 ? static_cast<std::uint64_t>(o.fit_limit) : learned(f.kind) ? 20'000'000 : 2'000'000;
  validate(f);
  return f;
}

void write_report(const Options& o, const nlohmann::json& report, bool force) {
  if (!o.report.empty()) bl::write_file(o.report, report.dump(1) + "\n", force);
}

void fit(bl::stage::Context& context, const Options& o) {
  bl::store::Output file(o.save, context.force());  // refuses to overwrite before the work, not after it
  if (!o.report.empty()) bl::refuse_overwrite(o.report, context.force());
  const bl::Rng rng = context.rng();
  models::FitOptions options;
  std::optional<models::FitSample> sample;
  bl::Digest digest;
  nlohmann::json history;
  std::string where;
  context.consume(
      [&](const bl::Batch& batch) {
        context.stop_if_asked();
        digest.add(batch);
        bl::tokens::for_each_event(batch, options.btag, unknown_of(o), [&](const models::Event& event) { sample->add(event); });
        return true;
      },
      [&](const bl::stage::Reader& reader) {
        if (reader.schema().starts_with("tokens/")) bl::fail(Exit::usage, "{} holds tokens already; --fit needs objects/1 or particles/1", reader.where());
        where = reader.where();
        options = fit_options(o, reader.schema());
        sample.emplace(options, rng, unknown_of(o));
        history = reader.hello().history;
      });
  std::optional<models::Fitted> fitted;
  try {
    if (o.learns()) fitted = bl::tokenize::learn(context, options, o.learning, static_cast<std::uint32_t>(o.codes), *sample, o.save);
    else fitted = models::fit(options, *sample, rng, context.pool());
  } catch (const bl::Interrupted&) {
    throw;
  } catch (const bl::Error& e) {
    if (e.code() != Exit::input) throw;
    bl::fail(e.code(), "{}: {}", where, e.what());
  }
  history.push_back(context.history_entry());
  models::Tokenizer& t = fitted->tokenizer;
  t.fit.seed = context.seed();
  t.fit.digest = digest.text();
  t.fit.history = history.dump();
  const auto report = bl::tokenize::report(t, fitted->tally, fitted->notes);
  bl::tokens::save(file, t);
  file.commit();
  write_report(o, report, context.force());
  fmt::print("{}", bl::tokenize::table(report));  // nothing else goes to stdout while fitting
}

void apply(bl::stage::Context& context, const Options& o) {
  const models::Encoder encoder(bl::tokens::load(o.with), unknown_of(o));
  const models::Tokenizer& t = encoder.tokenizer();
  if (!o.report.empty()) bl::refuse_overwrite(o.report, context.force());
  models::Tally total(encoder);
  std::mutex lock;
  context.transform(
      t.input == "particles/1" ? "tokens/2" : "tokens/1",
      [&](const bl::Batch& batch) { return bl::tokens::encode(batch, encoder, unknown_of(o), !o.report.empty(), total, lock); },
      [&](const bl::wire::Hello& hello) {
        if (hello.schema.starts_with("tokens/")) bl::fail(Exit::usage, "{} holds tokens already; add --decode to turn them back", context.in());
        if (hello.schema != t.input)
          bl::fail(Exit::input, "'{}' tokenizes {}, and {} holds {}; fit a tokenizer on such events", o.with, t.input, context.in(), hello.schema);
        return nlohmann::json{{"tokenizer", bl::tokens::metadata(t)}};
      });
  if (total.truncated_particles > 0)
    bl::log::info("{} particles in {} events lie beyond the hardest {} and were left out", total.truncated_particles, total.truncated_events, t.max_particles);
  if (total.unknown > 0) bl::log::info("{} particles of categories without tokens", total.unknown);
  if (!o.report.empty()) write_report(o, bl::tokenize::report(t, total, {}), context.force());
}

void decode(bl::stage::Context& context, const Options& o) {
  const models::Encoder encoder(bl::tokens::load(o.with));
  const models::Tokenizer& t = encoder.tokenizer();
  std::uint64_t lost = 0;
  std::mutex lock;
  context.transform(
      t.input, [&](const bl::Batch& batch) { return bl::tokens::decode(batch, encoder, lost, lock); },
      [&](const bl::wire::Hello& hello) {
        if (!hello.schema.starts_with("tokens/")) bl::fail(Exit::usage, "{} holds {}, and --decode reads tokens/1 or tokens/2", context.in(), hello.schema);
        const auto known = hello.meta.find("tokenizer");
        const std::string mine = bl::hex(t.hash());
        const std::string theirs = known != hello.meta.end() && known->is_object() ? known->value("hash", std::string()) : std::string();
        if (theirs.empty()) bl::fail(Exit::input, "{} does not say which codebook its tokens come from, so '{}' cannot decode them", context.in(), o.with);
        if (theirs != mine)
          bl::fail(Exit::input, "{} holds tokens of codebook {}, and '{}' is codebook {}; decode with the tokenizer that made them", context.in(), theirs,
                   o.with, mine);
        return nlohmann::json::object();
      });
  if (lost > 0) bl::log::warn("{} tokens stand for no particle (unknown, start, stop or mask) and were left out", lost);
}

}  // namespace

int main(int argc, char** argv) {
  bl::stage::Program program("bl-tokenize", "Turn particles into integer tokens, and back");
  Options o;
  program.reads({"objects/1", "particles/1", "tokens/1", "tokens/2"}).writes({"tokens/1", "tokens/2", "objects/1", "particles/1"}).parallel();
  std::vector<std::string> kinds;
  for (const auto kind : kKinds) kinds.emplace_back(name_of(kind));
  program.option("--fit", o.fit, "Make a tokenizer from the input; binning and the two VQ-VAEs are for jets").one_of(kinds);
  program.option("--save", o.save, "Tokenizer file that --fit writes").output_file();
  program.option("--with", o.with, "Tokenizer file to apply").input_file();
  program.option("--decode", o.decode, "Turn tokens back into particles");
  program.option("--report", o.report, "Write what happened as JSON: codes, entropy, errors after decoding, entries out of range").output_file();
  program.option("--unknown", o.unknown, "Objects whose category has no tokens: stop, give them token 0, or leave them out").one_of({"error", "token", "drop"});
  program.option("--categories", o.categories, "Categories with tokens, in the order of their ids: j,b,e-,e+,m-,m+,g,tau-,tau+ (default: all)");
  program.option("--max-objects", o.max_objects, "Keep the hardest so many particles of an event (0: 18 objects, 128 constituents)").range(0, 65530);
  program.option("--phi", o.phi, "phi of objects relative to that of MET, or absolute (auto: absolute for the formula)")
      .one_of({"auto", "relative", "absolute"});
  program.option("--pt-bins", o.pt_bins, "Bins in pt (0: 5; for binning, with the next two, an even grid of --codes)").range(0, 4096);
  program.option("--eta-bins", o.eta_bins, "Bins in eta").range(0, 4096);
  program.option("--phi-bins", o.phi_bins, "Bins in phi").range(0, 4096);
  program.option("--pt-edges", o.pt_edges, "formula, binning: edges of the pt bins in GeV instead of 15…1000 in equal steps of log pt");
  program.option("--eta-edges", o.eta_edges, "formula, binning: edges of the eta bins instead of -3…3");
  program.option("--phi-edges", o.phi_edges, "formula, binning: edges of the phi bins instead of -pi…pi");
  program.option("--codes", o.codes, "kmeans, vqvae: number of codes; binning: at most so many").range(1, 1 << 20);
  program.option("--iterations", o.iterations, "kmeans: at most so many iterations").range(1, 100000);
  program.option("--weights", o.weights, "kmeans: weight of a particle in the fit").one_of({"none", "sqrt-pt"});
  program.option("--extra", o.extras, "Event-level tokens: met,met_phi,n_jets,n_bjets,n_leptons,ht");
  program.option("--extra-bins", o.extra_bins, "Bins of met, met_phi and ht").range(1, 4096);
  program.option("--tails", o.tails, "Cut the last bin of pt, met and ht at these quantiles too, e.g. 0.99,0.999, so that rare hard values are rare tokens");
  program.option("--btag", o.btag, "A jet with at least this b-tag is a b").range(0, 1);
  program
      .option("--fit-limit", o.fit_limit, "Particles held for a fit; beyond it a random half, quarter … of the events is used (0: 2 million, vqvae 20 million)")
      .range(0, 1e9);
  bl::tokenize::declare(program, o.learning);
  program.example("bl-tokenize --fit formula --in events.bl --save tok.h5", "the formula of 5 bins a property, with a report");
  program.example("bl-tokenize --fit quantile --extra n_jets,n_bjets,n_leptons,ht --in events.bl --save tok.h5",
                  "bins of equal population, phi relative to MET, counts as tokens");
  program.example("bl-tokenize --with tok.h5 --in events.bl --out tokens.bl", "apply it");
  program.example("bl-tokenize --with tok.h5 --decode --in tokens.bl --out decoded.bl", "and back");
  program.note("Fitting", "A tokenizer learns from every event of its input: give it training events only. --fit writes no stream; its report goes to stdout.");
  return program.run(argc, argv, [&](bl::stage::Context& context) {
    check_options(o);
    if (!o.fit.empty()) fit(context, o);
    else if (o.decode) decode(context, o);
    else apply(context, o);
  });
}
