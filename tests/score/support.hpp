// Small trained models, and streams of tokens to score with them.
#pragma once
#include <algorithm>
#include <nlohmann/json.hpp>
#include <numeric>

#include "../threshold/support.hpp"
#include "models/state_file.hpp"
#include "models/trainer.hpp"
#include "store/h5.hpp"

namespace bl::test {

// Ids: 0 unknown, 1 … 20 particles, 21 … 25 event-level, 26, 27, 28 start, stop, mask. Positions 0 … 7, and 8 of the
// event-level token.
inline nlohmann::json tokenizer_meta(const std::string& hash = "bb00") {
  return {{"hash", hash}, {"vocabulary", 29}, {"particle_tokens", 20}, {"mask", 28}, {"positions", 9}};
}

struct TokenEvents {
  models::Examples examples;
  std::vector<std::uint8_t> category;
};

// Events of 1 to 8 particles and one event-level token that tells their number; every particle follows from the one before.
inline TokenEvents token_events(std::size_t n, std::uint64_t seed, std::size_t empty = SIZE_MAX) {
  const Rng rng(seed, "test tokens");
  TokenEvents events;
  auto& x = events.examples;
  for (std::size_t e = 0; e < n; ++e) {
    const std::size_t particles = 1 + rng.below(8, e, 0);
    std::int32_t id = 1 + static_cast<std::int32_t>(rng.below(20, e, 1));
    for (std::size_t i = 0; i < particles && e != empty; ++i) {
      x.tokens.push_back(id);
      x.positions.push_back(static_cast<std::int32_t>(i));
      events.category.push_back(static_cast<std::uint8_t>(1 + id % 6));
      id = rng.uniform(e, 10 + i) < 0.8 ? 1 + (id + 2) % 20 : 1 + static_cast<std::int32_t>(rng.below(20, e, 30 + i));
    }
    if (e != empty) {
      x.tokens.push_back(21 + static_cast<std::int32_t>(particles / 2));
      x.positions.push_back(8);
      events.category.push_back(0);
    }
    x.offsets.push_back(x.tokens.size());
  }
  x.types = events.category;
  return events;
}

// A state after a few steps; targets: event-level tokens are among them or not.
inline models::State trained_state(bool event_level, bool types = false) {
  TokenEvents events = token_events(400, 99);
  models::EncoderConfig model;
  model.vocabulary = 29;
  model.mask_id = 28;
  model.positions = 9;
  model.types = types ? 11 : 0;
  model.dim = 16;
  model.heads = 2;
  model.layers = 2;
  models::TrainerConfig config;
  config.batch = 100;
  config.warmup = 5;
  config.schedule = nn::Schedule::Kind::constant;
  config.rate = 5e-3;
  Pool pool(2);
  models::Trainer trainer(model, config, pool);
  std::vector<std::uint32_t> all(events.examples.events());
  std::iota(all.begin(), all.end(), 0u);
  const Rng rng(1, "test masks");
  for (std::uint64_t step = 0; step < 40; ++step)
    trainer.step(events.examples, all, [&](std::size_t e, std::uint64_t, std::span<std::uint8_t> mask) {
      std::fill(mask.begin(), mask.end(), std::uint8_t{0});
      mask[rng.below(mask.size() - (event_level ? 0 : 1), e, step)] = 1;  // the event-level token is the last
    });
  return trainer.state();
}

inline void write_model(const std::string& path, const models::State& state, const nlohmann::json& tokenizer) {
  store::Output file(path, true);
  models::write_state(file, "masked-token", state);
  if (!tokenizer.is_null()) file.attribute("", "tokenizer", tokenizer.dump());
  file.commit();
}

inline Batch token_batch(const TokenEvents& events, std::size_t first, std::size_t last, bool labelled = true) {
  Batch b;
  b.events = static_cast<std::uint32_t>(last - first);
  const std::size_t from = events.examples.offsets[first], to = events.examples.offsets[last];
  std::vector<std::uint32_t> offsets;
  std::vector<std::uint64_t> index, id;
  std::vector<float> n_objects;
  std::vector<std::int32_t> label;
  std::vector<std::string> process;
  for (std::size_t e = first; e < last; ++e) {
    offsets.push_back(static_cast<std::uint32_t>(events.examples.offsets[e] - from));
    index.push_back(e);
    id.push_back(5000 + 3 * e);
    n_objects.push_back(static_cast<float>(events.examples.offsets[e + 1] - events.examples.offsets[e]));
    label.push_back(e % 3 == 0);
    process.push_back(e % 3 == 0 ? "sig" : "bg");
  }
  offsets.push_back(static_cast<std::uint32_t>(to - from));
  const auto cut = [&](const auto& v) { return std::span(v).subspan(from, to - from); };
  const std::vector<std::uint16_t> positions(cut(events.examples.positions).begin(), cut(events.examples.positions).end());
  b.set("event_index", {"event"}, index);
  b.set("event_id", {"event"}, id);
  b.set("weight", {"event"}, std::vector<double>(b.events, 1.5));
  b.set_text("process", process);
  if (labelled) b.set("label", {"event"}, label);
  b.set("n_objects", {"event"}, n_objects);
  b.set("token_offsets", {"event+1"}, offsets);
  b.set("token", {"token"}, cut(events.examples.tokens));
  b.set("position", {"token"}, positions);
  b.set("category", {"token"}, cut(events.category));
  return b;
}

inline void write_tokens(const std::string& path, const TokenEvents& events, const nlohmann::json& tokenizer, std::size_t batch = 64) {
  const auto& schema = schema::get("tokens/1");
  const auto sink = transport::open_sink(path, {true});
  wire::Hello hello;
  hello.schema = schema.id();
  hello.schema_hash = schema.hash;
  if (!tokenizer.is_null()) hello.meta = {{"tokenizer", tokenizer}};
  sink->write(wire::hello_frame(1, hello));
  std::uint64_t seq = 0;
  for (std::size_t first = 0; first < events.examples.events(); first += batch) {
    const Batch part = token_batch(events, first, std::min(first + batch, events.examples.events()));
    wire::Frame frame;
    frame.kind = wire::Kind::batch;
    frame.stream = 1;
    frame.seq = seq++;
    frame.schema = schema.hash;
    frame.count = part.events;
    frame.body = wire::encode(part);
    sink->write(frame);
  }
  sink->finish();
}

}  // namespace bl::test
