#include "models/tokenizer.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numbers>
#include <numeric>

#include "base/error.hpp"
#include "base/hash.hpp"
#include "models/vqvae.hpp"

namespace bl::models {
namespace {

constexpr std::string_view kCategoryNames[kCategories] = {"j", "b", "e-", "e+", "m-", "m+", "g", "tau-", "tau+", "constituent"};
constexpr std::string_view kExtraNames[kExtras] = {"met", "met_phi", "n_jets", "n_bjets", "n_leptons", "ht"};
constexpr std::size_t kMaxVocabulary = std::size_t{1} << 24;
constexpr std::int32_t kSpecial = 3;  // start, stop, mask
constexpr double kLowestPt = 1e-3;    // GeV; keeps log pt finite

template <std::size_t N>
std::string joined(const std::string_view (&names)[N]) {
  std::string out;
  for (const auto name : names) out += (out.empty() ? "" : ", ") + std::string(name);
  return out;
}

double wrapped(double phi) { return std::remainder(phi, 2 * std::numbers::pi); }

// Bytes that identify a codebook, in a fixed order.
class Fingerprint {
 public:
  void text(std::string_view value) {
    number(value.size());
    bytes_.append(value);
  }
  template <class T>
  void number(T value) {
    char raw[sizeof value];
    std::memcpy(raw, &value, sizeof value);
    bytes_.append(raw, sizeof value);
  }
  template <class T>
  void numbers(const std::vector<T>& values) {
    number(values.size());
    for (const T& v : values) number(v);
  }
  void bins(const Binning& b) {
    numbers(b.edges);
    numbers(b.centres);
  }
  std::uint64_t hash() const { return hash64(bytes_); }

 private:
  std::string bytes_;
};

void validate(const Binning& b, std::string_view what, bool may_be_open) {
  if (b.centres.empty() || b.edges.size() != b.centres.size() + 1)
    fail(Exit::input, "the tokenizer has {} edges and {} centres for {}, which do not fit together", b.edges.size(), b.centres.size(), what);
  for (std::size_t i = 0; i < b.edges.size(); ++i) {
    const bool open = may_be_open && i + 1 == b.edges.size() && b.edges[i] > 0;
    if (!std::isfinite(b.edges[i]) && !open) fail(Exit::input, "the tokenizer's edge {} of {} is {}, not a finite number", i, what, b.edges[i]);
    if (i > 0 && b.edges[i] < b.edges[i - 1])
      fail(Exit::input, "the tokenizer's edges of {} fall from {} to {} at edge {}", what, b.edges[i - 1], b.edges[i], i);
  }
  for (std::size_t i = 0; i < b.centres.size(); ++i)
    if (!std::isfinite(b.centres[i])) fail(Exit::input, "the tokenizer's centre {} of {} is {}, not a finite number", i, what, b.centres[i]);
}

Decoded decode_features(Frame frame, std::uint8_t category, const float* raw) {
  const double phi = frame == Frame::jet ? static_cast<double>(raw[2]) : std::atan2(static_cast<double>(raw[2]), static_cast<double>(raw[3]));
  return {category, static_cast<float>(std::exp(static_cast<double>(raw[0]))), raw[1], static_cast<float>(wrapped(phi))};
}

double entropy(std::span<const std::uint64_t> counts) {
  const auto total = static_cast<double>(std::accumulate(counts.begin(), counts.end(), std::uint64_t{0}));
  double sum = 0;
  for (const auto c : counts)
    if (c > 0) sum -= static_cast<double>(c) / total * std::log(static_cast<double>(c) / total);
  return sum;
}

void count_outside(int side, std::array<std::uint64_t, 2>& counts) {
  if (side != 0) ++counts[side > 0];
}

}  // namespace

std::string_view category_name(std::uint8_t category) { return category >= 1 && category <= kCategories ? kCategoryNames[category - 1] : "?"; }

std::uint8_t category_named(std::string_view name) {
  for (std::uint8_t c = 1; c <= kCategories; ++c)
    if (kCategoryNames[c - 1] == name) return c;
  fail(Exit::usage, "no category of particles is called '{}'; the names are {}", name, joined(kCategoryNames));
}

std::string category_names(std::span<const std::uint8_t> categories) {
  std::string out;
  for (const auto c : categories) out += (out.empty() ? "" : ", ") + std::string(category_name(c));
  return out;
}

std::string_view name_of(TokenizerKind kind) {
  switch (kind) {
    case TokenizerKind::formula: return "formula";
    case TokenizerKind::quantile: return "quantile";
    case TokenizerKind::kmeans: return "kmeans";
    case TokenizerKind::binning: return "binning";
    case TokenizerKind::vqvae: return "vqvae";
    case TokenizerKind::vqvae_conditional: return "vqvae-conditional";
  }
  return "unknown";
}

std::string_view name_of(Frame frame) {
  switch (frame) {
    case Frame::absolute: return "absolute";
    case Frame::met: return "met";
    case Frame::jet: return "jet";
  }
  return "unknown";
}

std::string_view name_of(Extra extra) { return kExtraNames[static_cast<std::size_t>(extra)]; }

Extra extra_named(std::string_view name) {
  for (std::size_t i = 0; i < kExtras; ++i)
    if (kExtraNames[i] == name) return static_cast<Extra>(i);
  fail(Exit::usage, "no event-level token is called '{}'; the names are {}", name, joined(kExtraNames));
}

std::size_t Binning::bin(double value) const {
  // number of inner edges at or below the value
  return static_cast<std::size_t>(std::upper_bound(edges.begin() + 1, edges.end() - 1, value) - (edges.begin() + 1));
}

Binning uniform_bins(double low, double high, std::size_t bins) {
  Binning b;
  const auto n = static_cast<double>(bins);
  for (std::size_t i = 0; i <= bins; ++i) b.edges.push_back(i == bins ? high : low + (high - low) * static_cast<double>(i) / n);
  for (std::size_t i = 0; i < bins; ++i) b.centres.push_back(0.5 * (b.edges[i] + b.edges[i + 1]));
  return b;
}

Binning logarithmic_bins(double low, double high, std::size_t bins) {
  Binning b;
  const auto n = static_cast<double>(bins);
  for (std::size_t i = 0; i <= bins; ++i) b.edges.push_back(i == 0 ? low : i == bins ? high : low * std::pow(high / low, static_cast<double>(i) / n));
  for (std::size_t i = 0; i < bins; ++i) b.centres.push_back(std::sqrt(b.edges[i] * b.edges[i + 1]));
  return b;
}

Binning bins_of(std::vector<double> edges) {
  if (edges.size() < 2) fail(Exit::usage, "{} bin edges make no bin; give at least 2", edges.size());
  for (std::size_t i = 0; i < edges.size(); ++i) {
    if (!std::isfinite(edges[i])) fail(Exit::usage, "bin edge {} is {}, not a finite number", i, edges[i]);
    if (i > 0 && edges[i] <= edges[i - 1]) fail(Exit::usage, "bin edges must rise, and {} does not lie above {}", edges[i], edges[i - 1]);
  }
  Binning b;
  b.edges = std::move(edges);
  for (std::size_t i = 0; i + 1 < b.edges.size(); ++i) b.centres.push_back(0.5 * (b.edges[i] + b.edges[i + 1]));
  return b;
}

std::size_t Tokenizer::particle_tokens() const {
  if (kind == TokenizerKind::kmeans || learned(kind)) return std::accumulate(codes.begin(), codes.end(), std::size_t{0});
  return categories.size() * pt.front().bins() * eta.bins() * phi.bins();
}

std::size_t Tokenizer::vocabulary() const {
  std::size_t n = 1 + particle_tokens() + kSpecial;
  for (const auto& e : extras) n += e.bins.bins();
  return n;
}

std::int32_t Tokenizer::extra_first(std::size_t extra) const {
  std::size_t first = 1 + particle_tokens();
  for (std::size_t i = 0; i < extra; ++i) first += extras[i].bins.bins();
  return static_cast<std::int32_t>(first);
}

std::uint64_t Tokenizer::hash() const {
  Fingerprint f;
  f.text("beamline tokenizer 1");
  f.text(name_of(kind));
  f.text(input);
  f.numbers(categories);
  f.text(name_of(frame));
  f.number(max_particles);
  f.number(btag);
  f.number(pt.size());
  for (const auto& b : pt) f.bins(b);
  f.bins(eta);
  f.bins(phi);
  f.numbers(codes);
  f.numbers(centres);
  f.numbers(mean);
  f.numbers(scale);
  f.number(extras.size());
  for (const auto& e : extras) {
    f.text(name_of(e.what));
    f.bins(e.bins);
  }
  if (network) {
    for (const auto& [key, value] : network->config().to_map()) {
      f.text(key);
      f.text(value);
    }
    for (const nn::ParamInfo& p : network->params().list()) {
      const auto values = network->params().of(p.at);
      f.text(p.name);
      f.number(hash64(values.data(), values.size_bytes()));
    }
  }
  return f.hash();
}

void validate(const Tokenizer& t) {
  if (t.categories.empty()) fail(Exit::input, "the tokenizer knows no category of particles");
  for (std::size_t i = 0; i < t.categories.size(); ++i) {
    const auto c = t.categories[i];
    if (c < 1 || c > kCategories) fail(Exit::input, "the tokenizer's category {} is {}, the known ones are 1 to {}", i, c, kCategories);
    if (std::find(t.categories.begin(), t.categories.begin() + static_cast<std::ptrdiff_t>(i), c) != t.categories.begin() + static_cast<std::ptrdiff_t>(i))
      fail(Exit::input, "the tokenizer names category {} twice", category_name(c));
  }
  const auto n = t.categories.size();
  if (t.pt.size() != n) fail(Exit::input, "the tokenizer has pt bins for {} categories and knows {}", t.pt.size(), n);
  for (std::size_t i = 0; i < n; ++i) {
    validate(t.pt[i], "pt", false);
    if (t.pt[i].bins() != t.pt[0].bins())
      fail(Exit::input, "the tokenizer has {} pt bins for category {} and {} for the first", t.pt[i].bins(), i, t.pt[0].bins());
  }
  validate(t.eta, "eta", false);
  validate(t.phi, "phi", false);
  const auto bounded = [](double size) {
    if (size > static_cast<double>(kMaxVocabulary)) fail(Exit::input, "the tokenizer has {:.0f} tokens, the limit is {}", size, kMaxVocabulary);
  };
  if (t.kind == TokenizerKind::kmeans) {
    if (t.pt[0].bins() != 1 || t.eta.bins() != 1 || t.phi.bins() != 1) fail(Exit::input, "a k-means tokenizer holds one range for each of pt, eta and phi");
    if (t.codes.size() != n) fail(Exit::input, "the tokenizer has codes for {} categories and knows {}", t.codes.size(), n);
    double total = 0;
    for (const auto c : t.codes) {
      if (c == 0) fail(Exit::input, "the tokenizer has a category without codes");
      total += c;
    }
    bounded(total);
    if (t.centres.size() != t.particle_tokens() * t.features() || t.mean.size() != t.features() || t.scale.size() != t.features())
      fail(Exit::input, "the tokenizer has {} numbers in its centres, {} codes of {} features need {}", t.centres.size(), t.particle_tokens(), t.features(),
           t.particle_tokens() * t.features());
    for (const float v : t.centres)
      if (!std::isfinite(v)) fail(Exit::input, "the tokenizer holds a centre that is not a finite number");
    for (std::size_t i = 0; i < t.features(); ++i)
      if (!std::isfinite(t.mean[i]) || !(t.scale[i] > 0) || !std::isfinite(t.scale[i]))
        fail(Exit::input, "the tokenizer's feature {} has mean {} and scale {}", i, t.mean[i], t.scale[i]);
  } else if (learned(t.kind)) {
    const auto* const net = t.network.get();
    if (net == nullptr || t.codes.size() != 1 || net->config().codes != t.codes[0] || n != 1 || t.categories[0] != kCategories || t.frame != Frame::jet)
      fail(Exit::input, "a {} tokenizer holds one network for the constituents of jets, and its number of codes", name_of(t.kind));
    if (net->config().conditional != (t.kind == TokenizerKind::vqvae_conditional))
      fail(Exit::input, "the tokenizer's kind is {}, and its network is the other one", name_of(t.kind));
    if (t.pt[0].bins() != 1 || t.eta.bins() != 1 || t.phi.bins() != 1)
      fail(Exit::input, "a {} tokenizer holds one range for each of pt, eta and phi", name_of(t.kind));
    if (const std::string name = net->params().first_not_finite(net->params().values()); !name.empty())
      fail(Exit::input, "the tokenizer's network holds a number in '{}' that is not finite", name);
    bounded(t.codes[0]);
  } else {
    if (!t.codes.empty() || !t.centres.empty()) fail(Exit::input, "a {} tokenizer holds no k-means centres", name_of(t.kind));
    bounded(static_cast<double>(n) * static_cast<double>(t.pt[0].bins()) * static_cast<double>(t.eta.bins()) * static_cast<double>(t.phi.bins()));
  }
  if (!std::isfinite(t.btag)) fail(Exit::input, "the tokenizer's b-tag cut is {}, not a finite number", t.btag);
  if (t.extras.size() > kExtras) fail(Exit::input, "the tokenizer has {} event-level tokens, there are {}", t.extras.size(), kExtras);
  for (const auto& e : t.extras) validate(e.bins, name_of(e.what), true);
  bounded(static_cast<double>(t.vocabulary()));
  if (t.max_particles == 0 || t.positions() > 65536)
    fail(Exit::input, "the tokenizer keeps {} particles of an event, it must be 1 to {}", t.max_particles, 65536 - t.extras.size());
  if (!t.fit.counts.empty() && t.fit.counts.size() != t.vocabulary())
    fail(Exit::input, "the tokenizer counts {} tokens and has a vocabulary of {}", t.fit.counts.size(), t.vocabulary());
}

Direction to_frame(Frame frame, const Event& event, double eta, double phi) {
  switch (frame) {
    case Frame::absolute: break;
    case Frame::met: phi -= static_cast<double>(event.extras[static_cast<std::size_t>(Extra::met_phi)]); break;
    case Frame::jet:
      eta -= event.axis_eta;
      phi -= event.axis_phi;
      break;
  }
  return {static_cast<float>(eta), static_cast<float>(wrapped(phi))};
}

Direction from_frame(Frame frame, double reference_eta, double reference_phi, double eta, double phi) {
  if (frame != Frame::absolute) phi += reference_phi;
  if (frame == Frame::jet) eta += reference_eta;
  return {static_cast<float>(eta), static_cast<float>(wrapped(phi))};
}

void raw_features(Frame frame, double pt, double eta, double phi, float* out) {
  out[0] = static_cast<float>(std::log(std::max(pt, kLowestPt)));
  out[1] = static_cast<float>(eta);
  if (frame == Frame::jet) {
    out[2] = static_cast<float>(phi);
  } else {
    out[2] = static_cast<float>(std::sin(phi));
    out[3] = static_cast<float>(std::cos(phi));
  }
}

Encoder::Encoder(Tokenizer tokenizer, Unknown unknown) : tokenizer_(std::move(tokenizer)), unknown_(unknown) {
  const Tokenizer& t = tokenizer_;
  validate(t);
  slot_.fill(-1);
  for (std::size_t i = 0; i < t.categories.size(); ++i) slot_[t.categories[i]] = static_cast<std::int16_t>(i);
  table_.resize(t.vocabulary());
  if (t.kind == TokenizerKind::kmeans) {
    const std::size_t d = t.features();
    std::size_t first = 0;
    for (std::size_t i = 0; i < t.codes.size(); ++i) {
      const std::span<const float> centres(t.centres.data() + first * d, t.codes[i] * d);
      nearest_.emplace_back(centres, d);
      first_code_.push_back(static_cast<std::int32_t>(first) + 1);
      for (std::size_t c = 0; c < t.codes[i]; ++c) {
        float raw[4] = {};
        for (std::size_t k = 0; k < d; ++k) raw[k] = centres[c * d + k] * t.scale[k] + t.mean[k];
        table_[first + c + 1] = decode_features(t.frame, t.categories[i], raw);
      }
      first += t.codes[i];
    }
    return;
  }
  if (learned(t.kind)) {
    coder_ = std::make_shared<VqVaeCoder>(t.network);
    for (std::size_t c = 1; c <= t.particle_tokens(); ++c) table_[c].category = kCategories;
    if (conditional()) return;
    std::vector<std::int32_t> ids(t.particle_tokens());
    std::iota(ids.begin(), ids.end(), 1);
    std::vector<Decoded> decoded;
    decode_jets(ids, std::vector<std::uint64_t>{0, ids.size()}, decoded);
    std::copy(decoded.begin(), decoded.end(), table_.begin() + 1);
    return;
  }
  std::size_t token = 1;
  for (std::size_t i = 0; i < t.categories.size(); ++i)
    for (const double pt : t.pt[i].centres)
      for (const double eta : t.eta.centres)
        for (const double phi : t.phi.centres) table_[token++] = {t.categories[i], static_cast<float>(pt), static_cast<float>(eta), static_cast<float>(phi)};
}

std::int32_t Encoder::particle(std::uint8_t category, double pt, double eta, double phi) const {
  const Tokenizer& t = tokenizer_;
  check(!learned(t.kind), "one particle for a network, which encodes jets");
  const int slot = category <= kCategories ? slot_[category] : -1;
  if (slot < 0) return 0;
  const auto s = static_cast<std::size_t>(slot);
  if (t.kind == TokenizerKind::kmeans) {
    float features[4] = {};
    raw_features(t.frame, pt, eta, phi, features);
    for (std::size_t k = 0; k < t.features(); ++k) features[k] = (features[k] - t.mean[k]) / t.scale[k];
    return first_code_[s] + static_cast<std::int32_t>(nearest_[s].find(features));
  }
  const std::size_t bins = ((s * t.pt[s].bins() + t.pt[s].bin(pt)) * t.eta.bins() + t.eta.bin(eta)) * t.phi.bins() + t.phi.bin(phi);
  return static_cast<std::int32_t>(bins) + 1;
}

std::int32_t Encoder::extra(std::size_t extra, double value) const {
  return tokenizer_.extra_first(extra) + static_cast<std::int32_t>(tokenizer_.extras[extra].bins.bin(value));
}

std::int32_t Encoder::particle(std::uint8_t category, double pt, double eta, double phi, Tally& tally) const {
  const std::int32_t token = particle(category, pt, eta, phi);
  ++tally.used[static_cast<std::size_t>(token)];
  if (token == 0) return token;
  const auto slot = static_cast<std::size_t>(slot_[category]);
  count_outside(tokenizer_.pt[slot].outside(pt), tally.pt_outside);
  count_outside(tokenizer_.eta.outside(eta), tally.eta_outside);
  count_outside(tokenizer_.phi.outside(phi), tally.phi_outside);
  if (tally.errors_) tally.compare(pt, eta, phi, decode(token));
  return token;
}

std::int32_t Encoder::extra(std::size_t extra, double value, Tally& tally) const {
  const auto& e = tokenizer_.extras[extra];
  const std::int32_t token = this->extra(extra, value);
  ++tally.used[static_cast<std::size_t>(token)];
  count_outside(e.bins.outside(value), tally.extra_outside[static_cast<std::size_t>(e.what)]);
  return token;
}

void Encoder::encode(const Event& event, Tokens& out, Tally& tally) const {
  const Tokenizer& t = tokenizer_;
  const auto put = [&](std::int32_t token, std::size_t position, std::uint8_t category, float pt, float eta, float phi) {
    out.token.push_back(token);
    out.position.push_back(static_cast<std::uint16_t>(position));
    out.category.push_back(category);
    out.pt.push_back(pt);
    out.eta.push_back(eta);
    out.phi.push_back(phi);
  };
  std::size_t rank = 0, known = 0;
  for (std::size_t i = 0; i < event.category.size(); ++i) {
    const std::uint8_t category = event.category[i];
    if (category > kCategories || slot_[category] < 0) {
      if (unknown_ == Unknown::error)
        fail(Exit::input, "event {}, object {}: category {} is not one of the tokenizer's ({}); fit one with it, or choose --unknown token or drop",
             event.index, i, category_name(category), category_names(t.categories));
      ++tally.unknown;
      if (unknown_ == Unknown::drop) continue;
    }
    ++known;
    if (rank == t.max_particles) continue;
    const Direction d = to_frame(t.frame, event, static_cast<double>(event.eta[i]), static_cast<double>(event.phi[i]));
    const std::int32_t token = particle(category, static_cast<double>(event.pt[i]), static_cast<double>(d.eta), static_cast<double>(d.phi), tally);
    put(token, rank++, category, event.pt[i], event.eta[i], event.phi[i]);
  }
  ++tally.events;
  tally.particles += event.category.size();
  tally.truncated_particles += known - rank;
  tally.truncated_events += known > rank;
  for (std::size_t k = 0; k < t.extras.size(); ++k)
    put(extra(k, static_cast<double>(event.extras[static_cast<std::size_t>(t.extras[k].what)]), tally), t.max_particles + k, 0, 0, 0, 0);
}

bool Encoder::decode_extra(std::int32_t token, std::size_t extra, double& value) const {
  const std::int32_t first = tokenizer_.extra_first(extra);
  const auto& centres = tokenizer_.extras[extra].bins.centres;
  if (token < first || token >= first + static_cast<std::int32_t>(centres.size())) return false;
  value = centres[static_cast<std::size_t>(token - first)];
  return true;
}

void Encoder::decode_jets(std::span<const std::int32_t> tokens, std::span<const std::uint64_t> offsets, std::vector<Decoded>& out) const {
  check(coder_ != nullptr, "decode_jets of a tokenizer without a network");
  std::vector<std::int32_t> ids(tokens.begin(), tokens.end());
  for (auto& id : ids) --id;
  const std::vector<float> x = coder_->decode(ids, offsets);
  const VqVaeConfig& config = coder_->model().config();
  for (std::size_t i = 0; i < ids.size(); ++i) {
    const auto c = config.constituent(x.data() + i * kVqFeatures);
    out.push_back({kCategories, c.pt, c.deta, c.dphi});
  }
}

JetEncoder::JetEncoder(const Encoder& encoder) : encoder_(encoder) { check(encoder.coder_ != nullptr, "JetEncoder of a tokenizer without a network"); }

void JetEncoder::add(const Event& event, Tokens& out, Tally& tally) {
  const Tokenizer& t = encoder_.tokenizer_;
  const VqVaeConfig& config = encoder_.coder_->model().config();
  const std::size_t n = event.category.size(), kept = std::min<std::size_t>(n, t.max_particles);
  std::uint16_t position = 0;
  for (std::size_t i = 0; i < kept; ++i) {
    const Direction d = to_frame(Frame::jet, event, static_cast<double>(event.eta[i]), static_cast<double>(event.phi[i]));
    const double pt = static_cast<double>(event.pt[i]), eta = static_cast<double>(d.eta), phi = static_cast<double>(d.phi);
    const int beyond_eta = t.eta.outside(eta), beyond_phi = t.phi.outside(phi);
    count_outside(t.pt[0].outside(pt), tally.pt_outside);
    count_outside(beyond_eta, tally.eta_outside);
    count_outside(beyond_phi, tally.phi_outside);
    if (!config.clip && (beyond_eta != 0 || beyond_phi != 0)) {
      ++tally.dropped;
      continue;
    }
    const auto x = config.features(pt, eta, phi);
    features_.insert(features_.end(), x.begin(), x.end());
    if (tally.errors_) true_.push_back({event.pt[i], d.eta, d.phi});
    out.token.push_back(0);
    out.position.push_back(position++);
    out.category.push_back(kCategories);
    out.pt.push_back(event.pt[i]);
    out.eta.push_back(event.eta[i]);
    out.phi.push_back(event.phi[i]);
  }
  offsets_.push_back(features_.size() / kVqFeatures);
  ++tally.events;
  tally.particles += n;
  tally.truncated_particles += n - kept;
  tally.truncated_events += n > kept;
}

void JetEncoder::finish(Tokens& out, Tally& tally) {
  std::vector<std::int32_t> tokens = encoder_.coder_->encode(features_, offsets_);
  for (auto& token : tokens) ++tally.used[static_cast<std::size_t>(++token)];
  std::copy(tokens.begin(), tokens.end(), out.token.end() - static_cast<std::ptrdiff_t>(tokens.size()));
  if (tally.errors_) {
    std::vector<Decoded> decoded;
    encoder_.decode_jets(tokens, offsets_, decoded);
    for (std::size_t i = 0; i < decoded.size(); ++i)
      tally.compare(static_cast<double>(true_[i].pt), static_cast<double>(true_[i].eta), static_cast<double>(true_[i].phi), decoded[i]);
  }
  features_.clear();
  true_.clear();
  offsets_.assign(1, 0);
}

void ErrorTally::add(double error) {
  if (histogram_.empty()) histogram_.resize(kDecades * kPerDecade + 1);
  ++entries_;
  sum_ += static_cast<__int128_t>(error * kUnit);
  squares_ += static_cast<__int128_t>(error * error * kUnit);
  const double size = std::abs(error);
  // bin i > 0 holds sizes in kLowest · 10^([i−1, i]/kPerDecade); what is beyond goes to the ends
  const double place = size > kLowest ? 1 + std::floor(std::log10(size / kLowest) * kPerDecade) : 0;
  ++histogram_[static_cast<std::size_t>(std::clamp(place, 0.0, static_cast<double>(kDecades * kPerDecade)))];
}

void ErrorTally::merge(const ErrorTally& other) {
  if (other.histogram_.empty()) return;
  if (histogram_.empty()) histogram_.resize(other.histogram_.size());
  entries_ += other.entries_;
  sum_ += other.sum_;
  squares_ += other.squares_;
  for (std::size_t i = 0; i < histogram_.size(); ++i) histogram_[i] += other.histogram_[i];
}

double ErrorTally::mean() const { return entries_ ? static_cast<double>(sum_) / kUnit / static_cast<double>(entries_) : 0; }

double ErrorTally::std() const {
  if (entries_ == 0) return 0;
  const double m = mean();
  return std::sqrt(std::max(0.0, static_cast<double>(squares_) / kUnit / static_cast<double>(entries_) - m * m));
}

double ErrorTally::quantile68() const {
  const double wanted = 0.68 * static_cast<double>(entries_);
  double below = 0;
  for (std::size_t i = 0; i < histogram_.size(); ++i) {
    below += static_cast<double>(histogram_[i]);
    if (below >= wanted && below > 0) return i == 0 ? kLowest : kLowest * std::pow(10.0, (static_cast<double>(i) - 0.5) / kPerDecade);
  }
  return 0;
}

Tally::Tally(const Encoder& encoder, bool errors) : used(encoder.tokenizer().vocabulary()), errors_(errors) {}

void Tally::compare(double pt, double eta, double phi, const Decoded& decoded) {
  if (pt > 0) pt_error.add((static_cast<double>(decoded.pt) - pt) / pt);
  eta_error.add(static_cast<double>(decoded.eta) - eta);
  phi_error.add(wrapped(static_cast<double>(decoded.phi) - phi));
}

void Tally::merge(const Tally& other) {
  events += other.events;
  particles += other.particles;
  truncated_events += other.truncated_events;
  truncated_particles += other.truncated_particles;
  unknown += other.unknown;
  dropped += other.dropped;
  for (std::size_t i = 0; i < 2; ++i) {
    pt_outside[i] += other.pt_outside[i];
    eta_outside[i] += other.eta_outside[i];
    phi_outside[i] += other.phi_outside[i];
    for (std::size_t e = 0; e < kExtras; ++e) extra_outside[e][i] += other.extra_outside[e][i];
  }
  for (std::size_t i = 0; i < used.size(); ++i) used[i] += other.used[i];
  pt_error.merge(other.pt_error);
  eta_error.merge(other.eta_error);
  phi_error.merge(other.phi_error);
}

Usage usage(const Tokenizer& tokenizer, std::span<const std::uint64_t> counts) {
  check(counts.size() == tokenizer.vocabulary(), "one count for each token of the vocabulary");
  Usage u;
  u.codes = tokenizer.particle_tokens();
  const auto codes = counts.subspan(1, u.codes);
  u.tokens = std::accumulate(counts.begin(), counts.end(), std::uint64_t{0});
  u.used = static_cast<std::size_t>(std::count_if(codes.begin(), codes.end(), [](std::uint64_t c) { return c > 0; }));
  u.dead = u.codes - u.used;
  u.particle_entropy = entropy(codes);
  u.perplexity = u.used ? std::exp(u.particle_entropy) : 0;
  u.entropy = entropy(counts);
  return u;
}

}  // namespace bl::models
