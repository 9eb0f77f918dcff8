#include "models/tokenizer_fit.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <tuple>

#include "base/error.hpp"

namespace bl::models {
namespace {

constexpr std::uint64_t kSampleDraw = std::uint64_t{1} << 63;  // index of the draw that keeps or drops an event
constexpr std::uint32_t kMaxBins = 4096;
constexpr std::uint32_t kMaxCodes = 1u << 20;

// Ranges of the formula where the user gives no edges: GeV for pt.
struct Range {
  double pt_low, pt_high, eta, phi;
};
Range default_range(Frame frame) { return frame == Frame::jet ? Range{0.5, 500, 0.8, 0.8} : Range{15, 1000, 3, kPi}; }

// Bins between two rising ends; a range of no width is widened, so that a constant quantity still has its bin.
Binning spread(double low, double high) {
  Binning b;
  b.edges = {low, std::max(high, std::nextafter(low, std::numeric_limits<double>::infinity()))};
  b.centres = {low + 0.5 * (high - low)};
  return b;
}

// Centre of a bin = median of the entries in it, and the middle of the bin where there are none.
void centre_on(Binning& bins, std::span<const double> sorted) {
  const auto inner = [&](std::size_t i) { return std::lower_bound(sorted.begin(), sorted.end(), bins.edges[i]) - sorted.begin(); };
  for (std::size_t i = 0; i < bins.bins(); ++i) {
    const auto first = static_cast<std::size_t>(i == 0 ? 0 : inner(i));
    const auto last = i + 1 == bins.bins() ? sorted.size() : static_cast<std::size_t>(inner(i + 1));
    if (first < last) bins.centres[i] = quantile(sorted.subspan(first, last - first), 0.5);
  }
}

// `tails`: further edges, at these quantiles, inside the last bin.
Binning quantile_bins(std::span<const double> sorted, std::size_t bins, std::span<const double> tails = {}) {
  Binning b;
  for (std::size_t i = 0; i < bins; ++i) b.edges.push_back(quantile(sorted, static_cast<double>(i) / static_cast<double>(bins)));
  for (const double q : tails) b.edges.push_back(quantile(sorted, q));
  b.edges.push_back(quantile(sorted, 1));
  for (std::size_t i = 0; i + 1 < b.edges.size(); ++i) b.centres.push_back(0.5 * (b.edges[i] + b.edges[i + 1]));
  centre_on(b, sorted);
  return b;
}

// 0, 1, … and "last or more"
Binning count_bins(std::size_t bins) {
  Binning b;
  for (std::size_t i = 0; i < bins; ++i) {
    b.edges.push_back(static_cast<double>(i) - 0.5);
    b.centres.push_back(static_cast<double>(i));
  }
  b.edges.push_back(std::numeric_limits<double>::infinity());
  return b;
}

// Codes for each category: proportional to entries^(3/5), which minimises the mean squared error of a quantiser of
// three dimensions in the limit of many codes (Zador, IEEE Trans. Inf. Theory 28 (1982) 139: the error of n entries in
// k cells falls as n·k^(-2/d)); at least one each, at most one per entry.
std::vector<std::uint32_t> share_codes(std::uint32_t codes, std::span<const std::uint64_t> entries) {
  std::vector<std::uint32_t> shares(entries.size(), 1);
  for (auto left = codes - static_cast<std::uint32_t>(entries.size()); left > 0; --left) {
    std::size_t best = entries.size();
    double highest = 0;
    for (std::size_t i = 0; i < entries.size(); ++i) {
      if (shares[i] >= entries[i]) continue;
      const double claim = std::pow(static_cast<double>(entries[i]), 0.6) / (shares[i] + 0.5);  // Sainte-Laguë
      if (claim > highest) {
        highest = claim;
        best = i;
      }
    }
    ++shares[best];
  }
  return shares;
}

}  // namespace

double quantile(std::span<const double> sorted, double q) {
  check(!sorted.empty(), "a quantile of at least one value");
  const double place = q * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<std::size_t>(std::floor(place));
  if (below + 1 >= sorted.size()) return sorted.back();
  const double t = place - static_cast<double>(below), a = sorted[below], b = sorted[below + 1];
  return t < 0.5 ? a + (b - a) * t : b - (b - a) * (1 - t);
}

void validate(const FitOptions& o) {
  if (o.categories.empty()) fail(Exit::usage, "a tokenizer needs at least one category of particles");
  if (o.max_particles == 0 || o.max_particles > 65536 - kExtras)
    fail(Exit::usage, "the largest number of particles of an event is {}, it must be 1 to {}", o.max_particles, 65536 - kExtras);
  for (const auto bins : {o.pt_bins, o.eta_bins, o.phi_bins, o.extra_bins})
    if (bins == 0 || bins > kMaxBins) fail(Exit::usage, "{} bins are asked for, it must be 1 to {}", bins, kMaxBins);
  const bool edges = !o.pt_edges.empty() || !o.eta_edges.empty() || !o.phi_edges.empty();
  const bool fixed = o.kind == TokenizerKind::formula || o.kind == TokenizerKind::binning;
  if (edges && !fixed) fail(Exit::usage, "bin edges can be given to the formula only; {} fits its own", name_of(o.kind));
  if ((o.kind == TokenizerKind::binning || learned(o.kind)) && o.frame != Frame::jet)
    fail(Exit::usage, "{} is for the constituents of jets (particles/1), not for {}; whole events have formula, quantile and kmeans", name_of(o.kind), o.input);
  for (const auto* e : {&o.pt_edges, &o.eta_edges, &o.phi_edges})
    if (!e->empty()) bins_of(*e);
  double below = std::max(1.0 - 1.0 / o.pt_bins, o.extras.empty() ? 0.0 : 1.0 - 1.0 / o.extra_bins);
  for (const double q : o.tails) {
    if (fixed || learned(o.kind))
      fail(Exit::usage, "tails are fitted: they need quantile or kmeans, {} has none", o.kind == TokenizerKind::formula ? "the formula" : name_of(o.kind));
    if (!(q > below) || !(q < 1))
      fail(Exit::usage, "the tail quantile {} must lie above {}, where the last bin (or the tail before) begins, and below 1", q, below);
    below = q;
  }
  if (o.kind == TokenizerKind::kmeans) {
    if (o.codes < o.categories.size() || o.codes > kMaxCodes)
      fail(Exit::usage, "{} codes are asked for, it must be {} (one for each category) to {}", o.codes, o.categories.size(), kMaxCodes);
    if (o.iterations == 0) fail(Exit::usage, "k-means needs at least 1 iteration");
  }
  for (std::size_t i = 0; i < o.extras.size(); ++i)
    for (std::size_t j = 0; j < i; ++j)
      if (o.extras[i] == o.extras[j]) fail(Exit::usage, "the event-level token {} is asked for twice", name_of(o.extras[i]));
  if (!o.extras.empty() && o.frame == Frame::jet) fail(Exit::usage, "event-level tokens need whole events (objects/1), not jets");
  if (o.limit < 1000) fail(Exit::usage, "the fit may hold {} particles, give it at least 1000", o.limit);
}

FitSample::FitSample(const FitOptions& options, const Rng& rng, Unknown unknown) : options_(options), rng_(rng), unknown_(unknown) { validate(options); }

void FitSample::add(const Event& event) {
  ++events_seen_;
  particles_seen_ += event.category.size();
  const auto known = [&](std::uint8_t c) { return std::find(options_.categories.begin(), options_.categories.end(), c) != options_.categories.end(); };
  const double draw = rng_.uniform(event.index, kSampleDraw);
  const bool keep = draw < kept_;
  std::uint64_t rank = 0;
  for (std::size_t i = 0; i < event.category.size(); ++i) {
    const bool knows = known(event.category[i]);
    if (!knows) {
      if (unknown_ == Unknown::error)
        fail(Exit::input, "event {}, object {}: category {} is not one of those to tokenize ({}); name it too, or choose --unknown token or drop", event.index,
             i, category_name(event.category[i]), category_names(options_.categories));
      ++unknown_seen_;
      if (unknown_ == Unknown::drop) continue;
    }
    // A particle without a token still takes a place, as it does when the tokenizer is applied.
    if (rank++ >= options_.max_particles || !keep || !knows) continue;
    const Direction d = to_frame(options_.frame, event, static_cast<double>(event.eta[i]), static_cast<double>(event.phi[i]));
    category_.push_back(event.category[i]);
    pt_.push_back(event.pt[i]);
    eta_.push_back(d.eta);
    phi_.push_back(d.phi);
  }
  if (rank > options_.max_particles) {
    ++truncated_events_;
    truncated_particles_ += rank - options_.max_particles;
  }
  if (!keep) return;
  offsets_.push_back(pt_.size());
  draws_.push_back(draw);
  index_.push_back(event.index);
  extras_.insert(extras_.end(), event.extras.begin(), event.extras.end());
  while (pt_.size() > options_.limit && draws_.size() > 1) thin();
}

void FitSample::thin() {
  kept_ /= 2;
  std::size_t events = 0, particles = 0;
  for (std::size_t e = 0; e < draws_.size(); ++e) {
    if (draws_[e] >= kept_) continue;
    const auto first = static_cast<std::size_t>(offsets_[e]), last = static_cast<std::size_t>(offsets_[e + 1]);
    for (std::size_t i = first; i < last; ++i, ++particles) {
      category_[particles] = category_[i];
      pt_[particles] = pt_[i];
      eta_[particles] = eta_[i];
      phi_[particles] = phi_[i];
    }
    std::copy_n(extras_.begin() + static_cast<std::ptrdiff_t>(e * kExtras), kExtras, extras_.begin() + static_cast<std::ptrdiff_t>(events * kExtras));
    index_[events] = index_[e];
    draws_[events++] = draws_[e];
    offsets_[events] = particles;
  }
  draws_.resize(events);
  index_.resize(events);
  offsets_.resize(events + 1);
  extras_.resize(events * kExtras);
  category_.resize(particles);
  pt_.resize(particles);
  eta_.resize(particles);
  phi_.resize(particles);
}

class Fitter {
 public:
  Fitter(const FitOptions& options, const FitSample& sample, const Rng& rng, Pool& pool) : o_(options), s_(sample), rng_(rng), pool_(pool) {}

  Fitted run() {
    if (s_.events_seen_ == 0) fail(Exit::input, "there is no event to fit a tokenizer on; is the selection before it too tight?");
    if (s_.particles() == 0) fail(Exit::input, "the {} events hold no particle to fit a tokenizer on", s_.events_seen_);
    if (s_.kept_ < 1)
      notes_.push_back(fmt::format("fitted on {} of {} events: their particles exceed the limit of {}", s_.events(), s_.events_seen_, o_.limit));
    t_.kind = o_.kind;
    t_.input = o_.input;
    t_.categories = o_.categories;
    t_.frame = o_.frame;
    t_.max_particles = o_.max_particles;
    t_.btag = o_.btag;
    switch (o_.kind) {
      case TokenizerKind::binning:
      case TokenizerKind::formula: formula(); break;
      case TokenizerKind::quantile: quantiles(); break;
      case TokenizerKind::kmeans: codebooks(); break;
      case TokenizerKind::vqvae:
      case TokenizerKind::vqvae_conditional: check(false, "networks are trained, see LearnedFit");
    }
    for (const Extra e : o_.extras) t_.extras.push_back({e, extra_bins(e)});
    t_.fit.events = s_.events_seen_;
    t_.fit.particles = s_.particles_seen_;
    t_.fit.sampled_events = s_.events();
    return tallied();
  }

 private:
  std::vector<double> sorted(const std::vector<float>& values, int category = 0) const {
    std::vector<double> out;
    for (std::size_t i = 0; i < values.size(); ++i)
      if (category == 0 || s_.category_[i] == category) out.push_back(static_cast<double>(values[i]));
    std::sort(out.begin(), out.end());
    return out;
  }
  std::vector<double> sorted_extra(Extra extra) const {
    std::vector<double> out;
    for (std::size_t e = 0; e < s_.events(); ++e) out.push_back(static_cast<double>(s_.extras_[e * kExtras + static_cast<std::size_t>(extra)]));
    std::sort(out.begin(), out.end());
    return out;
  }

  void formula() {
    const Range range = default_range(o_.frame);
    const Binning pt = o_.pt_edges.empty() ? logarithmic_bins(range.pt_low, range.pt_high, o_.pt_bins) : bins_of(o_.pt_edges);
    t_.pt.assign(o_.categories.size(), pt);
    t_.eta = o_.eta_edges.empty() ? uniform_bins(-range.eta, range.eta, o_.eta_bins) : bins_of(o_.eta_edges);
    t_.phi = o_.phi_edges.empty() ? uniform_bins(-range.phi, range.phi, o_.phi_bins) : bins_of(o_.phi_edges);
  }

  void quantiles() {
    const auto need = std::max({o_.pt_bins, o_.eta_bins, o_.phi_bins});
    if (s_.particles() < need) fail(Exit::input, "{} particles cannot fill {} quantile bins; give more events or ask for fewer bins", s_.particles(), need);
    const auto all = sorted(s_.pt_);
    const Binning shared = quantile_bins(all, o_.pt_bins, o_.tails);
    for (const auto c : o_.categories) {
      const auto values = sorted(s_.pt_, c);
      if (values.size() >= kEntriesPerBin * o_.pt_bins) {
        t_.pt.push_back(quantile_bins(values, o_.pt_bins, o_.tails));
        continue;
      }
      Binning bins = shared;
      centre_on(bins, values);
      t_.pt.push_back(bins);
      notes_.push_back(fmt::format("{} has {} entries, fewer than {}: it takes the pt edges of all categories together", category_name(c), values.size(),
                                   kEntriesPerBin * o_.pt_bins));
    }
    t_.eta = quantile_bins(sorted(s_.eta_), o_.eta_bins);
    const auto phi = sorted(s_.phi_);
    if (o_.frame == Frame::jet) {
      t_.phi = quantile_bins(phi, o_.phi_bins);
    } else {
      t_.phi = uniform_bins(-kPi, kPi, o_.phi_bins);
      centre_on(t_.phi, phi);
    }
  }

  void codebooks() {
    const std::size_t n = s_.particles();
    // A fixed order of the entries, so that the order in which events arrived does not matter.
    std::vector<std::size_t> order(n);
    std::iota(order.begin(), order.end(), std::size_t{0});
    const auto key = [&](std::size_t i) { return std::tuple(s_.category_[i], s_.pt_[i], s_.eta_[i], s_.phi_[i]); };
    std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return key(a) < key(b); });

    const std::size_t dims = t_.features();
    std::vector<float> features(n * dims);
    for (std::size_t i = 0; i < n; ++i)
      raw_features(o_.frame, static_cast<double>(s_.pt_[order[i]]), static_cast<double>(s_.eta_[order[i]]), static_cast<double>(s_.phi_[order[i]]),
                   features.data() + i * dims);
    for (std::size_t d = 0; d < dims; ++d) {
      double sum = 0, squares = 0;
      for (std::size_t i = 0; i < n; ++i) sum += static_cast<double>(features[i * dims + d]);
      const double mean = sum / static_cast<double>(n);
      for (std::size_t i = 0; i < n; ++i) squares += std::pow(static_cast<double>(features[i * dims + d]) - mean, 2);
      const double std = std::sqrt(squares / static_cast<double>(n));
      t_.mean.push_back(static_cast<float>(mean));
      t_.scale.push_back(std > 1e-6 ? static_cast<float>(std) : 1.0f);
      for (std::size_t i = 0; i < n; ++i) features[i * dims + d] = (features[i * dims + d] - t_.mean[d]) / t_.scale[d];
    }

    std::vector<std::uint64_t> entries(o_.categories.size());
    for (std::size_t c = 0; c < entries.size(); ++c)
      entries[c] = static_cast<std::uint64_t>(std::count(s_.category_.begin(), s_.category_.end(), o_.categories[c]));
    std::uint64_t room = 0;
    for (const auto e : entries) room += std::max<std::uint64_t>(e, 1);
    if (room < o_.codes) fail(Exit::input, "{} particles cannot fill {} k-means codes; give more events or ask for fewer codes", n, o_.codes);
    t_.codes = share_codes(o_.codes, entries);

    const auto first_of = [&](std::uint8_t c) {
      return static_cast<std::size_t>(std::partition_point(order.begin(), order.end(), [&](std::size_t i) { return s_.category_[i] < c; }) - order.begin());
    };
    for (std::size_t c = 0; c < entries.size(); ++c) {
      const auto category = o_.categories[c];
      if (entries[c] == 0) {
        notes_.push_back(fmt::format("{} has no entries: it gets one code at the mean of all", category_name(category)));
        t_.centres.insert(t_.centres.end(), dims, 0.0f);
        t_.pt.push_back(range_of(s_.pt_, 0));
        continue;
      }
      const std::size_t first = first_of(category);
      std::vector<float> weights;
      if (o_.weight_by_sqrt_pt)
        for (std::size_t i = 0; i < entries[c]; ++i) weights.push_back(std::sqrt(std::max(s_.pt_[order[first + i]], 1e-3f)));
      KmeansOptions options;
      options.codes = t_.codes[c];
      options.max_iterations = o_.iterations;
      options.stream = category;
      const auto result = kmeans(std::span<const float>(features).subspan(first * dims, entries[c] * dims), dims, weights, options, rng_, pool_);
      t_.centres.insert(t_.centres.end(), result.centres.begin(), result.centres.end());
      t_.pt.push_back(range_of(s_.pt_, category));
      const double total = weights.empty() ? static_cast<double>(entries[c]) : std::accumulate(weights.begin(), weights.end(), 0.0);
      inertia_.push_back(result.inertia.back() / total);
    }
    t_.eta = range_of(s_.eta_, 0);
    t_.phi = o_.frame == Frame::jet ? range_of(s_.phi_, 0) : spread(-kPi, kPi);
  }

  Binning range_of(const std::vector<float>& values, int category) const {
    double low = std::numeric_limits<double>::infinity(), high = -low;
    for (std::size_t i = 0; i < values.size(); ++i)
      if (category == 0 || s_.category_[i] == category) {
        low = std::min(low, static_cast<double>(values[i]));
        high = std::max(high, static_cast<double>(values[i]));
      }
    return spread(low, high);
  }

  Binning extra_bins(Extra extra) const {
    switch (extra) {
      case Extra::n_jets: return count_bins(16);
      case Extra::n_bjets: return count_bins(8);
      case Extra::n_leptons: return count_bins(6);
      case Extra::met_phi: return uniform_bins(-kPi, kPi, o_.extra_bins);
      case Extra::met:
      case Extra::ht: break;
    }
    if (o_.kind == TokenizerKind::formula) return uniform_bins(0, extra == Extra::met ? 500 : 2000, o_.extra_bins);
    return quantile_bins(sorted_extra(extra), o_.extra_bins, o_.tails);
  }

  Fitted tallied() {
    const Encoder encoder(t_);
    Tally tally(encoder);
    for (std::size_t i = 0; i < s_.particles(); ++i)
      encoder.particle(s_.category_[i], static_cast<double>(s_.pt_[i]), static_cast<double>(s_.eta_[i]), static_cast<double>(s_.phi_[i]), tally);
    for (std::size_t e = 0; e < s_.events(); ++e)
      for (std::size_t k = 0; k < t_.extras.size(); ++k)
        encoder.extra(k, static_cast<double>(s_.extras_[e * kExtras + static_cast<std::size_t>(t_.extras[k].what)]), tally);
    tally.events = s_.events_seen_;
    tally.particles = s_.particles_seen_;
    tally.truncated_events = s_.truncated_events_;
    tally.truncated_particles = s_.truncated_particles_;
    tally.unknown = s_.unknown_seen_;
    t_.fit.counts = tally.used;
    return {std::move(t_), std::move(tally), std::move(notes_), std::move(inertia_)};
  }

  const FitOptions& o_;
  const FitSample& s_;
  const Rng& rng_;
  Pool& pool_;
  Tokenizer t_;
  std::vector<std::string> notes_;
  std::vector<double> inertia_;
};

Fitted fit(const FitOptions& options, const FitSample& sample, const Rng& rng, Pool& pool) {
  validate(options);
  return Fitter(options, sample, rng, pool).run();
}

std::array<std::uint32_t, 3> even_grid(std::uint32_t codes) {
  std::array<std::uint32_t, 3> bins{1, 1, 1};
  const auto product = [&] { return std::uint64_t{bins[0]} * bins[1] * bins[2]; };
  for (bool grew = true; grew;) {
    grew = false;
    for (auto& n : bins) {
      ++n;
      if (product() > codes || n > kMaxBins) --n;
      else grew = true;
    }
  }
  return bins;
}

LearnedFit::LearnedFit(const FitOptions& options, const VqVaeConfig& network, const FitSample& sample) : options_(options), sample_(sample) {
  validate(options);
  const FitSample& s = sample_;
  if (s.events_seen_ == 0) fail(Exit::input, "there is no jet to fit a tokenizer on; is the selection before it too tight?");
  std::vector<std::size_t> order(s.events());
  std::iota(order.begin(), order.end(), std::size_t{0});
  const auto values = [&](const std::vector<float>& of, std::size_t e) {
    return std::span<const float>(of).subspan(s.offsets_[e], s.offsets_[e + 1] - s.offsets_[e]);
  };
  // event_index does it, unless several files were joined.
  const auto less = [](std::span<const float> a, std::span<const float> b) { return std::lexicographical_compare(a.begin(), a.end(), b.begin(), b.end()); };
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    if (s.index_[a] != s.index_[b]) return s.index_[a] < s.index_[b];
    for (const auto* of : {&s.pt_, &s.eta_, &s.phi_}) {
      if (less(values(*of, a), values(*of, b))) return true;
      if (less(values(*of, b), values(*of, a))) return false;
    }
    return false;
  });
  for (const std::size_t e : order) {
    for (auto i = static_cast<std::size_t>(s.offsets_[e]); i < s.offsets_[e + 1]; ++i) {
      const double eta = static_cast<double>(s.eta_[i]), phi = static_cast<double>(s.phi_[i]);
      if (!network.clip && (std::abs(eta) > network.max_angle || std::abs(phi) > network.max_angle)) continue;
      const auto x = network.features(static_cast<double>(s.pt_[i]), eta, phi);
      jets_.x.insert(jets_.x.end(), x.begin(), x.end());
    }
    jets_.offsets.push_back(jets_.constituents());
  }
  if (jets_.constituents() == 0)
    fail(Exit::input, "the {} jets hold no constituent within {} of their axis in eta and phi to fit a tokenizer on", s.events_seen_, network.max_angle);
}

Fitted LearnedFit::finish(std::shared_ptr<const VqVae<float>> network, Pool& pool) const {
  const FitSample& s = sample_;
  const VqVaeConfig& config = network->config();
  Tokenizer t;
  t.kind = options_.kind;
  t.input = options_.input;
  t.categories = options_.categories;
  t.frame = options_.frame;
  t.max_particles = options_.max_particles;
  t.btag = options_.btag;
  t.pt = {spread(config.lowest_pt, config.highest_pt)};
  t.eta = t.phi = spread(-config.max_angle, config.max_angle);
  t.codes = {config.codes};
  t.network = std::move(network);
  t.fit.events = s.events_seen_;
  t.fit.particles = s.particles_seen_;
  t.fit.sampled_events = s.events();

  // What the fit makes of its own jets, in pieces so that all threads have a part.
  const Encoder encoder(t);
  constexpr std::size_t piece = 256;
  const std::size_t pieces = (s.events() + piece - 1) / piece;
  std::vector<Tally> tallies(pool.threads(), Tally(encoder));
  const auto task = [&](std::size_t p, std::size_t worker) {
    JetEncoder jets(encoder);
    Tokens tokens;
    for (std::size_t e = p * piece; e < std::min(s.events(), (p + 1) * piece); ++e) {
      const std::size_t first = s.offsets_[e], n = s.offsets_[e + 1] - first;
      Event event;
      event.category = std::span(s.category_).subspan(first, n);
      event.pt = std::span(s.pt_).subspan(first, n);
      event.eta = std::span(s.eta_).subspan(first, n);
      event.phi = std::span(s.phi_).subspan(first, n);
      jets.add(event, tokens, tallies[worker]);
    }
    jets.finish(tokens, tallies[worker]);
  };
  pool.run(pieces, task);
  Tally tally(encoder);
  for (const Tally& part : tallies) tally.merge(part);
  tally.events = s.events_seen_;
  tally.particles = s.particles_seen_;
  tally.truncated_events = s.truncated_events_;
  tally.truncated_particles = s.truncated_particles_;
  t.fit.counts = tally.used;
  std::vector<std::string> notes;
  if (s.kept_ < 1)
    notes.push_back(fmt::format("fitted on {} of {} jets: their constituents exceed the limit of {}", s.events(), s.events_seen_, options_.limit));
  return {std::move(t), std::move(tally), std::move(notes), {}};
}

}  // namespace bl::models
