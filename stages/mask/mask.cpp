#include "mask/mask.hpp"

#include <nlohmann/json.hpp>

#include "base/error.hpp"
#include "models/tokenizer.hpp"

namespace bl::mask {
namespace {

constexpr std::uint64_t kMaxBytes = std::uint64_t{200} << 20;  // of a batch; a frame holds at most 256 MiB

// How often each event is written, as indices into the batch and copy numbers.
struct Copies {
  std::vector<std::uint32_t> event, replica;
};

Copies copies_of(const Batch& batch, std::span<const std::uint32_t> offsets, std::span<const std::uint8_t> category, const models::MaskOptions& options) {
  Copies c;
  std::uint64_t tokens = 0;
  for (std::uint32_t e = 0; e < batch.events; ++e) {
    const auto n = offsets[e + 1] - offsets[e];
    const auto times = models::replicas(options, category.subspan(offsets[e], n));
    for (std::size_t r = 0; r < times; ++r) {
      c.event.push_back(e);
      c.replica.push_back(static_cast<std::uint32_t>(r));
    }
    tokens += std::uint64_t{n} * times;
  }
  const std::uint64_t before = offsets[batch.events];
  if (before > 0 && static_cast<double>(batch.bytes()) * static_cast<double>(tokens) / static_cast<double>(before) > static_cast<double>(kMaxBytes))
    fail(Exit::input,
         "batch {}: every token of {} events in turn makes {} tokens, more than a batch can hold; write the tokens in smaller batches (bl-shuffle --batch)",
         batch.seq, batch.events, tokens);
  return c;
}

}  // namespace

Batch apply(const Batch& batch, const Settings& settings, const Rng& rng, Counts& counts) {
  const models::MaskOptions& options = settings.options;
  const auto category_in = batch.get<std::uint8_t>("category");
  if (needs_directions(options.mode) && !(batch.has("eta") && batch.has("phi")))
    fail(Exit::input, "mode {} needs the columns eta and phi of the particles, and these tokens do not carry them", name_of(options.mode));

  Batch out;
  std::vector<std::uint32_t> replica(batch.events);
  if (options.mode == models::MaskMode::each) {
    Copies copies = copies_of(batch, batch.get<std::uint32_t>("token_offsets"), category_in, options);
    out = select(batch, copies.event);
    replica = std::move(copies.replica);
  } else {
    out = batch;
  }
  const auto index = out.get<std::uint64_t>("event_index");
  const auto offsets = out.get<std::uint32_t>("token_offsets");
  const auto category = out.get<std::uint8_t>("category");
  const bool directions = needs_directions(options.mode);
  const auto eta = directions ? out.get<float>("eta") : std::span<const float>();
  const auto phi = directions ? out.get<float>("phi") : std::span<const float>();

  std::vector<std::uint8_t> mask(category.size());
  std::uint64_t masked = 0, without = 0;
  for (std::uint32_t e = 0; e < out.events; ++e) {
    const std::size_t first = offsets[e], n = offsets[e + 1] - first;
    models::MaskInput event{category.subspan(first, n), {}, {}};
    if (directions) {
      event.eta = eta.subspan(first, n);
      event.phi = phi.subspan(first, n);
    }
    models::MaskKey key;
    key.event_index = index[e];
    key.progress = std::min(1.0, static_cast<double>(index[e]) / static_cast<double>(settings.ramp_events));
    const auto hidden = draw_mask(options, event, key, replica[e], rng, std::span(mask).subspan(first, n));
    masked += hidden;
    without += hidden == 0;
  }
  std::array<std::uint64_t, 256> of{};
  for (std::size_t i = 0; i < mask.size(); ++i) of[category[i]] += mask[i];

  counts.events_in += batch.events;
  counts.events_out += out.events;
  counts.tokens += mask.size();
  counts.masked += masked;
  counts.without_target += without;
  for (std::size_t c = 0; c < of.size(); ++c)
    if (of[c] > 0) counts.masked_of[c] += of[c];

  out.set("mask", {"token"}, mask);
  for (const auto* name : {"jet_pt", "jet_eta", "jet_phi", "jet_mass"})  // of tokens/2; masked/1 has no use for them
    if (out.has(name)) out.erase(name);
  if (options.mode == models::MaskMode::each) out.set("replica", {"event"}, replica);
  return out;
}

nlohmann::json metadata(const Settings& settings, std::uint64_t seed) {
  const models::MaskOptions& o = settings.options;
  nlohmann::json meta = {{"mode", name_of(o.mode)}, {"seed", seed}, {"extras", o.extras}};
  switch (o.mode) {
    case models::MaskMode::fraction: meta["fraction"] = o.fraction; break;
    case models::MaskMode::ramp:
      meta["from"] = o.ramp_from;
      meta["to"] = o.ramp_to;
      meta["events"] = settings.ramp_events;
      break;
    case models::MaskMode::hardest:
    case models::MaskMode::softest:
    case models::MaskMode::rank:
    case models::MaskMode::knn: meta["k"] = o.k; break;
    case models::MaskMode::radius: meta["radius"] = o.radius; break;
    case models::MaskMode::type: {
      auto names = nlohmann::json::array();
      for (const auto c : o.types) names.push_back(models::category_name(c));
      meta["types"] = names;
      break;
    }
    case models::MaskMode::one:
    case models::MaskMode::each: break;
  }
  return meta;
}

nlohmann::json report(const Counts& counts) {
  nlohmann::json by_category = nlohmann::json::object();
  for (std::size_t c = 0; c < counts.masked_of.size(); ++c)
    if (const auto n = counts.masked_of[c].load(); n > 0) by_category[c == 0 ? "event" : std::string(models::category_name(static_cast<std::uint8_t>(c)))] = n;
  return {{"events_in", counts.events_in.load()}, {"events_out", counts.events_out.load()},         {"tokens", counts.tokens.load()},
          {"masked", counts.masked.load()},       {"without_target", counts.without_target.load()}, {"masked_by_category", by_category}};
}

}  // namespace bl::mask
