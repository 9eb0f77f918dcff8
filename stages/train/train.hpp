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

enum class Objective : std::uint8_t { masked_token, next_token };
Objective objective_named(std::string_view name);  // "masked-token" or "next-token"
std::string_view name_of(Objective objective);

// What the stream says about its tokens. Throws Exit::input when it does not say what the objective needs.
struct TokenFacts {
  std::uint32_t vocabulary = 0, positions = 0;
  std::uint32_t mask_id = 0;   // of masked_token
  std::uint32_t start_id = 0;  // of next_token; stop is the id behind it, and all ids below are tokens
  std::string hash;            // of the codebook
  nlohmann::json tokenizer;    // meta["tokenizer"], kept in the model file
};
TokenFacts token_facts(const wire::Hello& hello, const std::string& where, Objective objective);

// How tokens are hidden in epochs after the first (and in all of them when the stream has no mask).
struct Masking {
  models::MaskOptions options;
  std::uint64_t seed = 1;
  bool redraw = true;  // a new mask every epoch
};
// From meta["mask"] of masked/1, else `otherwise`. Modes that need directions, write copies or depend on the place in the
// stream keep the stream's mask: redraw is false then.
Masking masking_of(const wire::Hello& hello, const Masking& otherwise, bool redraw);

// What the model can read, and of what an event is made for it.
struct Reads {
  Objective objective = Objective::masked_token;
  std::uint32_t vocabulary = 0;      // ids of tokens: 0 … vocabulary-1
  std::uint32_t positions = 0;       // masked_token: ranks; next_token: rows of an event, its tokens and start
  std::uint32_t types = 0;           // masked_token: categories that are embedded; 0: none
  std::vector<std::string> classes;  // next_token: processes by class; empty: none
};

// Events of a stream as the trainer wants them.
class Events {
 public:
  explicit Events(Reads reads) : reads_(std::move(reads)), categories_(reads_.vocabulary) {}
  // Adds a batch; throws Exit::input naming event and value when a token, a length or a process does not fit the model.
  void add(const Batch& batch);
  void drop(std::size_t first);  // forgets the first events
  const models::Examples& examples() const { return examples_; }
  std::size_t size() const { return examples_.events(); }
  // The mask of the stream in epoch 0 (where there is one), else drawn; thread-safe.
  models::Masker masker(const Masking& masking) const;
  // The category of each id among the events so far, dropped ones too; 0 where it did not occur.
  const std::vector<std::int64_t>& categories() const { return categories_; }

 private:
  Reads reads_;
  std::vector<std::int64_t> categories_;
  models::Examples examples_;
  std::vector<std::uint64_t> event_index_;
  std::vector<std::uint8_t> category_;
};

struct ModelFacts {
  Objective objective = Objective::masked_token;
  TokenFacts tokens;
  nlohmann::json mask;                   // masked_token: how the tokens were hidden
  std::vector<std::string> classes;      // next_token: processes by class
  std::vector<std::int64_t> categories;  // next_token: of each id in training, for those who write generated tokens
  nlohmann::json history;                // chain of the input, and this training
};
// Written whole or not at all; replaces `path` when force.
void save(const std::string& path, bool force, models::State state, const ModelFacts& facts);
// The state of a model file of this objective, the hash of its codebook, its classes and categories.
struct Loaded {
  models::State state;
  std::string tokenizer_hash;
  std::vector<std::string> classes;
  std::vector<std::int64_t> categories;
};
Loaded load(const std::string& path, Objective objective);

}  // namespace bl::train
