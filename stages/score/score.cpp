#include "score/score.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "base/error.hpp"

namespace bl::score {
namespace {

struct Definition {
  const char* name;
  const char* text;
};
// In the order of the columns. l_i: log p of token i with it alone hidden, i over the n tokens that are scored.
constexpr Definition kDefinitions[] = {
    {"mean_logp", "(1/n) sum_i l_i"},
    {"mean_prob", "(1/n) sum_i exp(l_i)"},
    {"sum_logp", "sum_i l_i"},
    {"min_logp", "min_i l_i"},
    {"worst_k", "mean of the k smallest l_i"},
    {"random_mask", "l_i of one particle i drawn at random"},
    {"particles_mean_logp", "mean of l_i over the particles"},
    {"counts_mean_logp", "mean of l_i over the event-level tokens"},
    {"unigram_mean_logp", "(1/n) sum_i u_i, u: log frequency of the token among the targets of training, one added to each count"},
    {"unigram_sum_logp", "sum_i u_i"},
};

// Mean, sum, minimum and mean of the k worst of one event's log-probabilities, in double and in the order of the tokens.
struct Combined {
  double sum = 0, probability = 0, least = 0, worst = 0;
  std::size_t n = 0;
  double mean() const { return n > 0 ? sum / static_cast<double>(n) : 0; }
  double mean_probability() const { return n > 0 ? probability / static_cast<double>(n) : 1; }
};

Combined combine(std::vector<double>& logp, std::size_t k) {
  Combined c;
  c.n = logp.size();
  if (c.n == 0) return c;
  for (const double l : logp) {
    c.sum += l;
    c.probability += std::exp(l);
  }
  const std::size_t m = std::min(k, logp.size());
  std::partial_sort(logp.begin(), logp.begin() + static_cast<std::ptrdiff_t>(m), logp.end());
  c.least = logp[0];
  for (std::size_t i = 0; i < m; ++i) c.worst += logp[i];
  c.worst /= static_cast<double>(m);
  return c;
}

models::Examples examples_of(const Batch& batch, bool types) {
  models::Examples examples;
  const auto offsets = batch.get<std::uint32_t>("token_offsets");
  const auto token = batch.get<std::int32_t>("token");
  const auto position = batch.get<std::uint16_t>("position");
  examples.offsets.assign(offsets.begin(), offsets.end());
  examples.tokens.assign(token.begin(), token.end());
  examples.positions.assign(position.begin(), position.end());
  if (types) {
    const auto category = batch.get<std::uint8_t>("category");
    examples.types.assign(category.begin(), category.end());
  }
  return examples;
}

}  // namespace

std::vector<std::string> names(const Model& model) {
  std::vector<std::string> list;
  for (const Definition& d : kDefinitions)
    if (model.event_level || std::string_view(d.name) != "counts_mean_logp") list.emplace_back(d.name);
  return list;
}

nlohmann::json metadata(const Model& model, const Options& options) {
  nlohmann::json scoring = nlohmann::json::object();
  for (const Definition& d : kDefinitions) scoring[d.name] = {{"is", d.text}, {"tokens", model.event_level ? "all" : "particles"}};
  scoring["worst_k"]["k"] = options.worst;
  return {{"model", {{"hash", model.hash}, {"objective", "masked-token"}, {"codebook", model.tokenizer["hash"]}}}, {"scoring", scoring}};
}

Batch score(const Batch& tokens, const Model& model, const Options& options, const Rng& rng, models::Scorer& scorer, std::uint64_t& unscored) {
  const auto& config = model.network->config();
  const models::Examples examples = examples_of(tokens, config.types > 0);
  const auto index = tokens.get<std::uint64_t>("event_index");
  const auto category = tokens.get<std::uint8_t>("category");
  examples.check(config, tokens.events > 0 ? index[0] : 0);

  std::vector<std::uint8_t> wanted(category.size(), 1);
  if (!model.event_level) std::transform(category.begin(), category.end(), wanted.begin(), [](std::uint8_t c) { return c != 0; });
  const std::vector<float> logp = scorer.token_log_probabilities(examples, wanted);

  const std::vector<std::string> list = names(model);
  std::map<std::string, std::vector<float>> scores;
  for (const auto& name : list) scores[name].resize(tokens.events);
  std::vector<double> all, particles, counts, unigram;
  for (std::uint32_t e = 0; e < tokens.events; ++e) {
    for (auto* v : {&all, &particles, &counts, &unigram}) v->clear();
    for (std::uint64_t t = examples.offsets[e]; t < examples.offsets[e + 1]; ++t) {
      if (!wanted[t]) continue;
      const double l = logp[t];
      if (!std::isfinite(l)) fail(Exit::failed, "event {}: '{}' gives a log-probability of {}: the model is not usable", index[e], model.path, l);
      all.push_back(l);
      (category[t] != 0 ? particles : counts).push_back(l);
      unigram.push_back(model.unigram[static_cast<std::size_t>(examples.tokens[t])]);
    }
    unscored += all.empty();
    // The hidden particle is drawn before the values are sorted.
    const std::vector<double>& drawn = particles.empty() ? all : particles;
    const double random = drawn.empty() ? 0 : drawn[rng.below(drawn.size(), index[e], 0)];
    const Combined a = combine(all, options.worst), p = combine(particles, 1), c = combine(counts, 1), u = combine(unigram, 1);
    const auto put = [&](const char* name, double value) {
      // A float cannot hold a sum below -3.4e38; nothing else can overflow.
      scores[name][e] = static_cast<float>(std::max(value, static_cast<double>(std::numeric_limits<float>::lowest())));
    };
    put("mean_logp", a.mean());
    put("mean_prob", a.mean_probability());
    put("sum_logp", a.sum);
    put("min_logp", a.least);
    put("worst_k", a.worst);
    put("random_mask", random);
    put("particles_mean_logp", p.mean());
    if (model.event_level) put("counts_mean_logp", c.mean());
    put("unigram_mean_logp", u.mean());
    put("unigram_sum_logp", u.sum);
  }

  Batch out;
  out.seq = tokens.seq;
  out.events = tokens.events;
  for (const char* name : {"event_index", "event_id", "weight", "process_char_offsets", "process", "label", "n_objects", "ht", "met", "met_phi"})
    if (const Column* column = tokens.find(name)) out.put(*column);
  if (options.tokens) {
    for (const char* name : {"token_offsets", "token", "category"}) out.put(tokens.at(name));
    out.set("token_logp", {"token"}, logp);
  } else {
    out.set("token_offsets", {"event+1"}, std::vector<std::uint32_t>(tokens.events + 1u, 0));
  }
  for (const auto& name : list) out.set("score_" + name, {"event"}, scores[name]);
  return out;
}

}  // namespace bl::score
