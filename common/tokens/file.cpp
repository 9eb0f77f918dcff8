#include "tokens/file.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/hash.hpp"
#include "base/rng.hpp"
#include "models/vqvae.hpp"

namespace bl::tokens {
namespace {

using models::Binning;
using models::Tokenizer;
using models::TokenizerKind;

constexpr std::string_view kFormat = "beamline tokenizer";

void put_bins(store::Output& file, const std::string& group, const Binning& bins) {
  file.write(group + "/edges", bins.edges);
  file.write(group + "/centres", bins.centres);
}

Binning get_bins(const store::Input& file, const std::string& group) { return {file.read<double>(group + "/edges"), file.read<double>(group + "/centres")}; }

template <class Enum, std::size_t N>
Enum named(std::string_view text, const Enum (&values)[N], std::string_view what) {
  for (const Enum v : values)
    if (name_of(v) == text) return v;
  fail(Exit::input, "its {} is '{}', which this program does not know", what, text);
}

std::uint64_t unsigned_attribute(const store::Input& file, std::string_view name) {
  const auto value = file.integer_attribute("", name);
  if (value < 0) fail(Exit::input, "its attribute '{}' is {}, it cannot be negative", name, value);
  return static_cast<std::uint64_t>(value);
}

constexpr std::string_view kNetwork = "network:";  // prefix of the attributes with its configuration

// Jets that any network can read, and codes that it has: not physics, only something to answer.
struct Question {
  std::vector<std::uint64_t> offsets{0, 3, 4, 9};
  std::vector<float> x;
  std::vector<std::int32_t> ids;

  explicit Question(const models::VqVaeConfig& config) {
    const Rng rng(7, "fingerprint");
    for (std::uint64_t i = 0; i < offsets.back(); ++i) {
      for (std::uint64_t f = 0; f < models::kVqFeatures; ++f) x.push_back(static_cast<float>(2 * rng.uniform(i, f) - 1));
      ids.push_back(static_cast<std::int32_t>(rng.below(config.codes, i, models::kVqFeatures)));
    }
  }
};

void put_network(store::Output& file, const std::shared_ptr<const models::VqVae<float>>& network) {
  for (const auto& [key, value] : network->config().to_map()) file.attribute("", std::string(kNetwork) + key, std::string_view(value));
  for (const nn::ParamInfo& p : network->params().list()) {
    const store::Shape shape = p.at.rows == 1 ? store::Shape{p.at.width} : store::Shape{p.at.rows, p.at.width};
    file.write("network/" + p.name, shape, network->params().of(p.at));
  }
  const Question question(network->config());
  const models::VqVaeCoder coder(network);
  file.write("fingerprint/latent", coder.latent(question.x, question.offsets));
  file.write("fingerprint/decoded", coder.decode(question.ids, question.offsets));
}

std::shared_ptr<const models::VqVae<float>> get_network(const store::Input& file) {
  std::map<std::string, std::string> map;
  for (const auto& name : file.attributes(""))
    if (name.starts_with(kNetwork)) map[name.substr(kNetwork.size())] = file.text_attribute("", name);
  const auto config = models::VqVaeConfig::from_map(map);
  // The sizes that the file declares must be those of its arrays before memory is taken for them.
  if (const auto shape = file.info("network/codebook").shape; shape != store::Shape{config.codes, config.latent})
    fail(Exit::input, "its codebook does not have {} codes of {} numbers", config.codes, config.latent);
  if (file.info("network/encoder/in/weight").shape != store::Shape{config.dim, models::kVqFeatures})
    fail(Exit::input, "its network is not {} wide", config.dim);
  const auto last =
      config.conditional ? fmt::format("network/decoder/{}/up/weight", config.layers - 1) : fmt::format("network/decoder/{}/weight", config.layers - 1);
  const store::Shape inner{config.conditional ? std::uint64_t{config.dim} * config.feed_forward : config.dim, config.dim};
  if ((config.conditional || config.layers > 1) && file.info(last).shape != inner) fail(Exit::input, "its array '{}' does not have {} rows", last, inner[0]);
  auto network = std::make_shared<models::VqVae<float>>(config);
  for (const nn::ParamInfo& p : network->params().list()) {
    const auto name = "network/" + p.name;
    if (const auto n = file.info(name).values(); n != p.at.size()) fail(Exit::input, "its array '{}' has {} values, {} are expected", name, n, p.at.size());
    file.read_into(name, network->params().of(p.at));
  }
  return network;
}

// The network does what it did when it was saved, on this machine too.
void check_answers(const store::Input& file, const std::shared_ptr<const models::VqVae<float>>& network) {
  const Question question(network->config());
  const models::VqVaeCoder coder(network);
  const auto same = [&](const std::string& name, const std::vector<float>& now) {
    const auto before = file.read<float>(name);
    if (before.size() != now.size()) fail(Exit::input, "its array '{}' has {} values, {} are expected", name, before.size(), now.size());
    for (std::size_t i = 0; i < now.size(); ++i)
      if (!(std::abs(now[i] - before[i]) <= 1e-3f * std::max(1.0f, std::abs(before[i]))))
        fail(Exit::input, "its network does not answer as it did when it was saved: {} instead of {} in '{}'", now[i], before[i], name);
  };
  same("fingerprint/latent", coder.latent(question.x, question.offsets));
  same("fingerprint/decoded", coder.decode(question.ids, question.offsets));
}

Tokenizer read(const store::Input& file) {
  Tokenizer t;
  constexpr TokenizerKind kinds[] = {TokenizerKind::formula, TokenizerKind::quantile, TokenizerKind::kmeans,
                                     TokenizerKind::binning, TokenizerKind::vqvae,    TokenizerKind::vqvae_conditional};
  constexpr models::Frame frames[] = {models::Frame::absolute, models::Frame::met, models::Frame::jet};
  t.kind = named(file.text_attribute("", "kind"), kinds, "kind");
  t.input = file.text_attribute("", "input");
  if (t.input != "objects/1" && t.input != "particles/1") fail(Exit::input, "it reads '{}', which this program cannot tokenize", t.input);
  t.frame = named(file.text_attribute("", "frame"), frames, "frame");
  if ((t.input == "particles/1") != (t.frame == models::Frame::jet)) fail(Exit::input, "its frame '{}' does not fit {}", name_of(t.frame), t.input);
  const auto most = unsigned_attribute(file, "max_particles");
  if (most > 65536) fail(Exit::input, "it keeps {} particles of an event, the limit is 65536", most);
  t.max_particles = static_cast<std::uint32_t>(most);
  t.btag = file.real_attribute("", "btag");
  t.categories = file.read<std::uint8_t>("categories");

  const auto info = file.info("pt/edges");
  const auto edges = file.read<double>("pt/edges"), centres = file.read<double>("pt/centres");
  const std::size_t n = t.categories.size();
  if (info.shape.size() != 2 || info.shape[0] != n || info.shape[1] < 2 || centres.size() != n * (info.shape[1] - 1))
    fail(Exit::input, "its arrays pt/edges and pt/centres do not fit {} categories", n);
  const auto per = static_cast<std::ptrdiff_t>(info.shape[1]);
  for (std::size_t i = 0; i < n; ++i) {
    const auto e = edges.begin() + static_cast<std::ptrdiff_t>(i) * per, c = centres.begin() + static_cast<std::ptrdiff_t>(i) * (per - 1);
    t.pt.push_back({std::vector<double>(e, e + per), std::vector<double>(c, c + per - 1)});
  }
  t.eta = get_bins(file, "eta");
  t.phi = get_bins(file, "phi");
  if (t.kind == TokenizerKind::kmeans) {
    t.codes = file.read<std::uint32_t>("kmeans/codes");
    t.centres = file.read<float>("kmeans/centres");
    t.mean = file.read<float>("kmeans/mean");
    t.scale = file.read<float>("kmeans/scale");
  }
  if (learned(t.kind)) {
    t.network = get_network(file);
    t.codes = {t.network->config().codes};
  }
  if (file.has_dataset("extras/names"))
    for (const auto& name : file.read_text("extras/names")) t.extras.push_back({models::extra_named(name), get_bins(file, "extras/" + name)});
  t.fit.counts = file.read<std::uint64_t>("counts");
  t.fit.events = unsigned_attribute(file, "fit_events");
  t.fit.particles = unsigned_attribute(file, "fit_particles");
  t.fit.sampled_events = unsigned_attribute(file, "fit_sampled_events");
  t.fit.seed = std::stoull(file.text_attribute("", "fit_seed"));
  t.fit.digest = file.text_attribute("", "fit_digest");
  t.fit.history = file.text_attribute("", "history");
  validate(t);
  const std::string hash = file.text_attribute("", "hash");
  if (hash != hex(t.hash())) fail(Exit::input, "its content has hash {}, and it says {}; it was changed by hand or damaged", hex(t.hash()), hash);
  if (t.network) check_answers(file, t.network);
  return t;
}

}  // namespace

void save(store::Output& file, const Tokenizer& t) {
  file.attribute("", "format", kFormat);
  file.attribute("", "version", kFileVersion);
  file.attribute("", "kind", name_of(t.kind));
  file.attribute("", "input", t.input);
  file.attribute("", "frame", name_of(t.frame));
  file.attribute("", "max_particles", static_cast<std::int64_t>(t.max_particles));
  file.attribute("", "btag", t.btag);
  file.attribute("", "hash", hex(t.hash()));
  file.attribute("", "vocabulary", static_cast<std::int64_t>(t.vocabulary()));
  file.attribute("", "unknown_id", 0);
  file.attribute("", "start_id", t.start_id());
  file.attribute("", "stop_id", t.stop_id());
  file.attribute("", "mask_id", t.mask_id());
  file.attribute("", "fit_events", static_cast<std::int64_t>(t.fit.events));
  file.attribute("", "fit_particles", static_cast<std::int64_t>(t.fit.particles));
  file.attribute("", "fit_sampled_events", static_cast<std::int64_t>(t.fit.sampled_events));
  file.attribute("", "fit_seed", std::to_string(t.fit.seed));
  file.attribute("", "fit_digest", t.fit.digest);
  file.attribute("", "history", t.fit.history);

  file.write("categories", t.categories);
  std::vector<double> edges, centres;
  for (const auto& b : t.pt) {
    edges.insert(edges.end(), b.edges.begin(), b.edges.end());
    centres.insert(centres.end(), b.centres.begin(), b.centres.end());
  }
  file.write("pt/edges", {t.pt.size(), t.pt[0].edges.size()}, edges);
  file.write("pt/centres", {t.pt.size(), t.pt[0].bins()}, centres);
  put_bins(file, "eta", t.eta);
  put_bins(file, "phi", t.phi);
  if (t.kind == TokenizerKind::kmeans) {
    file.write("kmeans/codes", t.codes);
    file.write("kmeans/centres", {t.particle_tokens(), t.features()}, t.centres);
    file.write("kmeans/mean", t.mean);
    file.write("kmeans/scale", t.scale);
  }
  if (t.network) put_network(file, t.network);
  if (!t.extras.empty()) {
    std::vector<std::string> names;
    for (const auto& e : t.extras) {
      names.emplace_back(name_of(e.what));
      put_bins(file, "extras/" + names.back(), e.bins);
    }
    file.write_text("extras/names", names);
  }
  file.write("counts", t.fit.counts);

  // For readers that only decode: what each id stands for, where it stands for one thing.
  const models::Encoder encoder(t);
  if (encoder.conditional()) return;
  std::vector<std::uint8_t> category;
  std::vector<float> pt, eta, phi;
  for (std::size_t i = 0; i < t.vocabulary(); ++i) {
    const auto& d = encoder.decode(static_cast<std::int32_t>(i));
    category.push_back(d.category);
    pt.push_back(d.pt);
    eta.push_back(d.eta);
    phi.push_back(d.phi);
  }
  file.write("decoded/category", category);
  file.write("decoded/pt", pt);
  file.write("decoded/eta", eta);
  file.write("decoded/phi", phi);
}

Tokenizer load(const std::string& path) {
  const store::Input file(path);
  if (!file.has_attribute("", "format") || file.text_attribute("", "format") != kFormat)
    fail(Exit::input, "'{}' is an HDF5 file but not a tokenizer; make one with bl-tokenize --fit", path);
  const auto version = file.integer_attribute("", "version");
  if (version > kFileVersion)
    fail(Exit::input, "'{}' is a tokenizer of version {}, this program reads up to {}; use a newer bl-tokenize", path, version, kFileVersion);
  try {
    return read(file);
  } catch (const Error& e) {
    const std::string what = e.what();
    if (what.find(path) != std::string::npos) throw;
    fail(Exit::input, "'{}' cannot be used as a tokenizer: {}", path, what);
  } catch (const std::logic_error&) {  // of a number that is none
    fail(Exit::input, "'{}' cannot be used as a tokenizer: its seed is not a number", path);
  }
}

nlohmann::json metadata(const Tokenizer& t) {
  nlohmann::json extras = nlohmann::json::array(), categories = nlohmann::json::array();
  for (std::size_t k = 0; k < t.extras.size(); ++k)
    extras.push_back({{"name", name_of(t.extras[k].what)}, {"first", t.extra_first(k)}, {"count", t.extras[k].bins.bins()}, {"position", t.max_particles + k}});
  for (const auto c : t.categories) categories.push_back(models::category_name(c));
  nlohmann::json meta = {{"hash", hex(t.hash())},
                         {"kind", name_of(t.kind)},
                         {"input", t.input},
                         {"frame", name_of(t.frame)},
                         {"vocabulary", t.vocabulary()},
                         {"unknown", 0},
                         {"start", t.start_id()},
                         {"stop", t.stop_id()},
                         {"mask", t.mask_id()},
                         {"particle_tokens", t.particle_tokens()},
                         {"max_particles", t.max_particles},
                         {"positions", t.positions()},
                         {"max_position", t.positions() - 1},
                         {"categories", categories},
                         {"extras", extras},
                         {"conditional", t.kind == TokenizerKind::vqvae_conditional}};
  if (!t.fit.counts.empty()) meta["unigram_entropy"] = usage(t, t.fit.counts).entropy;
  return meta;
}

}  // namespace bl::tokens
