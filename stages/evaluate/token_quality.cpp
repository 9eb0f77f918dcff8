#include "evaluate/token_quality.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <optional>

#include "base/error.hpp"
#include "evaluate/two_sample.hpp"
#include "physics/substructure.hpp"
#include "physics/vectors.hpp"
#include "stats/classification.hpp"
#include "stats/correlation.hpp"
#include "tokens/convert.hpp"

namespace bl::evaluate {
namespace {

constexpr std::uint32_t kJets = 256;  // of a task
constexpr double nan = std::numeric_limits<double>::quiet_NaN();

// Jets [first, first + n) for each task, in order.
template <class Use>
void in_pieces(std::uint32_t jets, Pool& pool, const Use& use) {
  pool.run((jets + kJets - 1) / kJets, [&](std::size_t task, std::size_t) {
    const auto first = static_cast<std::uint32_t>(task) * kJets;
    use(task, first, std::min(kJets, jets - first));
  });
}

std::vector<Observable> observables(const Batch& jets, Pool& pool) {
  physics::ObservableOptions options;
  options.massless = true;
  static const std::vector<std::string> names{"jet_pt", "jet_mass", "tau21", "tau32", "d2"}, titles{"p_{T}", "mass", "τ_{21}", "τ_{32}", "D_{2}"},
      units{"GeV", "GeV", "", "", ""};
  physics::JetTable table = jet_observables(jets, names, options, pool);
  std::vector<Observable> result;
  for (std::size_t i = 0; i < names.size(); ++i) result.push_back({names[i], titles[i], units[i], std::move(table.columns[i])});
  return result;
}

}  // namespace

Batch in_jet_frame(const Batch& particles) {
  Batch out;
  out.seq = particles.seq;
  out.events = particles.events;
  std::vector<std::uint32_t> offsets{0};
  std::vector<float> pt, eta, phi;
  pt.reserve(particles.at("pt").size());
  eta.reserve(pt.capacity());
  phi.reserve(pt.capacity());
  tokens::for_each_event(particles, 0.5, models::Unknown::error, [&](const models::Event& jet) {
    for (std::size_t i = 0; i < jet.pt.size(); ++i) {
      const auto d = to_frame(models::Frame::jet, jet, static_cast<double>(jet.eta[i]), static_cast<double>(jet.phi[i]));
      pt.push_back(jet.pt[i]);
      eta.push_back(d.eta);
      phi.push_back(d.phi);
    }
    offsets.push_back(static_cast<std::uint32_t>(pt.size()));
  });
  out.put(particles.at("event_index"));
  const std::vector<float> zero(particles.events);
  out.set("jet_eta", {"event"}, zero);
  out.set("jet_phi", {"event"}, zero);
  out.set("particle_offsets", {"event+1"}, offsets);
  out.set("pt", {"particle"}, pt);
  out.set("eta", {"particle"}, eta);
  out.set("phi", {"particle"}, phi);
  return out;
}

Tokenized encode_and_decode(const Batch& jets, const models::Encoder& encoder, Pool& pool) {
  bl::check(encoder.tokenizer().input == "particles/1", "encode_and_decode: not a tokenizer of jets");
  const std::size_t pieces = (jets.events + kJets - 1) / kJets;
  std::vector<Tokenized> parts(pieces, Tokenized(encoder));
  in_pieces(jets.events, pool, [&](std::size_t task, std::uint32_t first, std::uint32_t n) {
    Tokenized& part = parts[task];
    models::Tokens coded;
    std::vector<std::uint64_t> ends{0};
    std::optional<models::JetEncoder> network;
    if (learned(encoder.tokenizer().kind)) network.emplace(encoder);
    tokens::for_each_event(slice(jets, first, n), 0.5, models::Unknown::drop, [&](const models::Event& jet) {
      if (network) network->add(jet, coded, part.tally);
      else encoder.encode(jet, coded, part.tally);
      ends.push_back(coded.token.size());
    });
    if (network) network->finish(coded, part.tally);
    std::vector<models::Decoded> decoded;
    if (encoder.conditional()) encoder.decode_jets(coded.token, ends, decoded);
    part.offsets.assign(ends.begin(), ends.end());
    for (std::size_t i = 0; i < coded.token.size(); ++i) {
      const models::Decoded& d = encoder.conditional() ? decoded[i] : encoder.decode(coded.token[i]);
      part.decoded_pt.push_back(d.pt);
      part.decoded_eta.push_back(d.eta);
      part.decoded_phi.push_back(d.phi);
    }
    part.token = std::move(coded.token);
    part.pt = std::move(coded.pt);
    part.eta = std::move(coded.eta);
    part.phi = std::move(coded.phi);
  });
  Tokenized all(encoder);
  for (const Tokenized& part : parts) {
    const auto shift = static_cast<std::uint32_t>(all.token.size());
    for (std::size_t j = 1; j < part.offsets.size(); ++j) all.offsets.push_back(shift + part.offsets[j]);
    const auto append = [](auto& to, const auto& from) { to.insert(to.end(), from.begin(), from.end()); };
    append(all.token, part.token);
    append(all.pt, part.pt);
    append(all.eta, part.eta);
    append(all.phi, part.phi);
    append(all.decoded_pt, part.decoded_pt);
    append(all.decoded_eta, part.decoded_eta);
    append(all.decoded_phi, part.decoded_phi);
    all.tally.merge(part.tally);
  }
  return all;
}

Spread spread(std::span<const double> values) {
  std::vector<double> sorted;
  sorted.reserve(values.size());
  for (const double v : values)
    if (std::isfinite(v)) sorted.push_back(v);
  Spread s;
  s.entries = sorted.size();
  s.missing = values.size() - sorted.size();
  const auto n = static_cast<double>(sorted.size());
  double sum = 0, absolute = 0, squares = 0;
  for (const double v : sorted) {
    sum += v;
    absolute += std::abs(v);
  }
  s.mean = sorted.empty() ? nan : sum / n;
  s.mean_absolute = sorted.empty() ? nan : absolute / n;
  for (const double v : sorted) squares += (v - s.mean) * (v - s.mean);
  s.deviation = sorted.empty() ? nan : std::sqrt(squares / n);
  std::ranges::sort(sorted);
  s.q01 = stats::quantile_of_sorted(sorted, 0.01);
  s.q16 = stats::quantile_of_sorted(sorted, 0.16);
  s.median = stats::quantile_of_sorted(sorted, 0.5);
  s.q84 = stats::quantile_of_sorted(sorted, 0.84);
  s.q99 = stats::quantile_of_sorted(sorted, 0.99);
  return s;
}

std::vector<Residual> constituent_residuals(const Tokenized& t) {
  const std::size_t n = t.token.size();
  std::vector<Residual> result{{"pt_relative", "Δp_{T} / p_{T}", "", std::vector<double>(n), {}},
                               {"pt", "Δp_{T}", "GeV", std::vector<double>(n), {}},
                               {"eta", "Δη", "", std::vector<double>(n), {}},
                               {"phi", "Δφ", "", std::vector<double>(n), {}}};
  for (std::size_t i = 0; i < n; ++i) {
    const double pt = static_cast<double>(t.pt[i]), change = static_cast<double>(t.decoded_pt[i]) - pt;
    result[0].value[i] = pt > 0 ? change / pt : nan;
    result[1].value[i] = change;
    result[2].value[i] = static_cast<double>(t.decoded_eta[i]) - static_cast<double>(t.eta[i]);
    result[3].value[i] = physics::delta_phi(static_cast<double>(t.decoded_phi[i]), static_cast<double>(t.phi[i]));
  }
  for (Residual& r : result) r.spread = spread(r.value);
  return result;
}

std::vector<Observable> jet_values(const Batch& jets, Pool& pool) { return observables(jets, pool); }

std::vector<Observable> jet_values(const Tokenized& t, Pool& pool) {
  Batch jets;
  jets.events = static_cast<std::uint32_t>(t.jets());
  jets.set("particle_offsets", {"event+1"}, t.offsets);
  jets.set("pt", {"particle"}, t.decoded_pt);
  jets.set("eta", {"particle"}, t.decoded_eta);
  jets.set("phi", {"particle"}, t.decoded_phi);
  return observables(jets, pool);
}

std::vector<Residual> jet_residuals(const std::vector<Observable>& before, const std::vector<Observable>& after) {
  std::vector<Residual> result;
  for (std::size_t k = 0; k < before.size(); ++k) {
    bl::check(before[k].name == after[k].name && before[k].value.size() == after[k].value.size(), "jet_residuals: other observables or jets");
    Residual r{before[k].name, "Δ" + before[k].title, before[k].unit, std::vector<double>(before[k].value.size()), {}};
    for (std::size_t j = 0; j < r.value.size(); ++j) r.value[j] = after[k].value[j] - before[k].value[j];
    r.spread = spread(r.value);
    result.push_back(std::move(r));
  }
  return result;
}

std::vector<CloudToken> token_cloud(const models::Encoder& encoder, std::span<const std::uint64_t> used, const CloudOptions& options, const Rng& rng,
                                    Pool& pool) {
  const std::size_t codes = encoder.tokenizer().particle_tokens();
  bl::check(used.size() == encoder.tokenizer().vocabulary(), "token_cloud: one count for each token of the vocabulary");
  std::vector<std::int32_t> order;
  for (std::size_t id = 1; id <= codes; ++id)
    if (used[id] > 0) order.push_back(static_cast<std::int32_t>(id));
  std::ranges::stable_sort(order, [&](std::int32_t a, std::int32_t b) { return used[static_cast<std::size_t>(a)] > used[static_cast<std::size_t>(b)]; });
  std::vector<std::uint64_t> cumulated;  // by rank
  cumulated.reserve(order.size());
  std::uint64_t all = 0;
  for (const auto id : order) cumulated.push_back(all += used[static_cast<std::size_t>(id)]);
  const auto rank_at = [&](std::uint64_t draw) { return static_cast<std::size_t>(std::ranges::upper_bound(cumulated, draw) - cumulated.begin()); };

  std::vector<CloudToken> cloud;
  const std::size_t wanted = std::min(options.tokens, order.size());
  for (std::size_t k = 0, rank = 0; k < wanted; ++k, ++rank) {
    // the rank in the middle of the k-th part of all use, unless it was taken or would leave too few for the rest
    const auto middle = static_cast<std::uint64_t>((static_cast<double>(k) + 0.5) / static_cast<double>(wanted) * static_cast<double>(all));
    rank = std::min(std::max(rank, rank_at(std::min(middle, all - 1))), order.size() - (wanted - k));
    CloudToken token;
    token.token = order[rank];
    token.count = used[static_cast<std::size_t>(token.token)];
    cloud.push_back(std::move(token));
  }
  pool.run(cloud.size(), [&](std::size_t k, std::size_t) {
    CloudToken& token = cloud[k];
    const auto put = [&](const models::Decoded& d) {
      token.pt.push_back(d.pt);
      token.eta.push_back(d.eta);
      token.phi.push_back(d.phi);
    };
    if (!encoder.conditional()) return put(encoder.decode(token.token));
    std::vector<std::int32_t> jets;
    std::vector<std::uint64_t> offsets{0};
    for (std::size_t r = 0; r < options.repeats; ++r) {
      jets.push_back(token.token);
      const std::uint64_t event = static_cast<std::uint64_t>(token.token) * options.repeats + r;
      for (std::size_t c = 0; c < options.companions; ++c) jets.push_back(order[rank_at(rng.below(all, event, c))]);
      offsets.push_back(jets.size());
    }
    std::vector<models::Decoded> decoded;
    encoder.decode_jets(jets, offsets, decoded);
    for (std::size_t r = 0; r < options.repeats; ++r) put(decoded[offsets[r]]);
  });
  return cloud;
}

Parts split_by_event(std::span<const std::uint64_t> event_id, const Rng& rng) {
  Parts parts;
  for (std::uint32_t j = 0; j < event_id.size(); ++j) {
    const double u = rng.uniform(event_id[j], 0);
    (u < 0.6 ? parts.training : u < 0.7 ? parts.validation : parts.testing).push_back(j);
  }
  return parts;
}

Tagging train_and_test(const models::SetData& data, const Parts& parts, models::SetKind kind, std::size_t classes, std::size_t seeds, std::uint64_t seed,
                       Pool& pool, const std::function<void()>& poll) {
  std::vector<std::int32_t> labels;
  for (const std::uint32_t j : parts.testing) labels.push_back(data.labels[j]);
  stats::ClassificationOptions options;
  options.replicas = 0;
  options.signal_efficiencies.clear();
  const Rng rng(seed, "taggers");
  Tagging result;
  for (std::size_t s = 0; s < seeds; ++s) {
    const auto classifier = train_set_classifier(data, parts.training, parts.validation, classifier_config(kind, data.features, classes),
                                                 classifier_training(kind), rng.bits(s, 0), pool, [&](const models::SetRound&) {
                                                   if (poll) poll();
                                                 });
    const auto probability = classifier.scores(data, parts.testing, pool);
    const auto report = classification({probability, labels, {}, classes}, options, rng, pool);
    result.accuracies.push_back(report.accuracy.value);
    result.aucs.push_back(classes == 2 ? report.per_class[1].auc.value : report.mean_auc.value);
    result.accuracy_error = report.accuracy.error;
  }
  result.accuracy = stats::over_seeds(result.accuracies);
  result.auc = stats::over_seeds(result.aucs);
  return result;
}

}  // namespace bl::evaluate
