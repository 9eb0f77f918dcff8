// bl-train: events in memory from batches of tokens/1 or masked/1, masks of later epochs, model files.
#pragma once
#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "data/batch.hpp"
#include "models/encoder.hpp"
#include "models/masking.hpp"
#include "models/trainer.hpp"
#include "wire/hello.hpp"

namespace bl::train {

// What the stream says about its tokens. Throws Exit::input when it does not say it.
struct TokenFacts {
  std::uint32_t vocabulary = 0, mask_id = 0, positions = 0;
  std::string hash;          // of the codebook
  nlohmann::json tokenizer;  // meta["tokenizer"], kept in the model file
};
TokenFacts token_facts(const wire::Hello& hello, const std::string& where);

// How tokens are hidden in epochs after the first (and in all of them when the stream has no mask).
struct Masking {
  models::MaskOptions options;
  std::uint64_t seed = 1;
  bool redraw = true;  // a new mask every epoch
};
// From meta["mask"] of masked/1, else `otherwise`. Modes that need directions, write copies or depend on the place in the
// stream keep the stream's mask: redraw is false then.
Masking masking_of(const wire::Hello& hello, const Masking& otherwise, bool redraw);

// Events of a stream as the trainer wants them.
class Events {
 public:
  explicit Events(bool with_types) : with_types_(with_types) {}
  // Adds a batch; throws Exit::input naming event and value when a token does not fit the model.
  void add(const Batch& batch, const models::EncoderConfig& config);
  void drop(std::size_t first);  // forgets the first events
  const models::Examples& examples() const { return examples_; }
  std::size_t size() const { return examples_.events(); }
  // The mask of the stream in epoch 0 (where there is one), else drawn; thread-safe.
  models::Masker masker(const Masking& masking) const;

 private:
  bool with_types_;
  models::Examples examples_;
  std::vector<std::uint64_t> event_index_;
  std::vector<std::uint8_t> category_;
};

struct ModelFacts {
  TokenFacts tokens;
  nlohmann::json mask;     // how the tokens were hidden
  nlohmann::json history;  // chain of the input, and this training
};
// Written whole or not at all; replaces `path` when force.
void save(const std::string& path, bool force, const models::State& state, const ModelFacts& facts);
// The state of a model file, and the hash of its codebook.
struct Loaded {
  models::State state;
  std::string tokenizer_hash;
};
Loaded load(const std::string& path);

}  // namespace bl::train
