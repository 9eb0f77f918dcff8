// What a Trainer trains: a model, how examples become its packed input, and the loss on it. Schedules, optimisers, threads,
// ranks, checkpoints are the trainer's; a new objective is a class of this kind (and a line in make_objective, so that
// its files can be resumed).
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/pool.hpp"
#include "models/encoder.hpp"
#include "models/examples.hpp"
#include "models/gpt.hpp"
#include "models/state.hpp"
#include "nn/params.hpp"
#include "nn/tape.hpp"

namespace bl::models {

class Objective {
 public:
  virtual ~Objective() = default;

  // Of model files: "masked-token", "next-token", "classification".
  virtual std::string_view kind() const = 0;
  virtual nn::Params<float>& params() = 0;
  // What makes the model anew, in files under "model/". The setting "objective" is the kind; without it masked-token.
  virtual Texts settings() const = 0;
  virtual void init(std::uint64_t seed) = 0;
  // Ids or classes that a target may be: 0 … targets-1.
  virtual std::size_t target_classes() const = 0;

  // The input of each shard is kept until it is packed anew; memory is kept. Nothing of the examples is checked here.
  virtual void reserve(std::size_t shards) = 0;
  // Shard `s` from these events of `from`. Called for different shards by several threads at once.
  virtual void pack(std::size_t s, const Examples& from, std::span<const std::uint32_t> events, const Masker& mask, std::uint64_t epoch) = 0;
  virtual std::span<const std::int32_t> targets(std::size_t s) const = 0;
  virtual std::size_t tokens(std::size_t s) const = 0;  // rows that the model works on
  // Sum over the targets of -log p; scale · that is differentiated.
  virtual double loss(nn::Tape<float>& tape, std::size_t s, double scale) const = 0;

  // Puts a few inputs into the state, and the answers of the model with these weights to them: what loading verifies.
  virtual void put_fingerprint(State& state, std::span<const float> weights, Pool& pool) const = 0;
};

// Hidden tokens from all visible ones: MaskedTokenModel.
class MaskedTokens final : public Objective {
 public:
  explicit MaskedTokens(const EncoderConfig& config) : model_(config) {}
  MaskedTokenModel<float>& model() { return model_; }

  std::string_view kind() const override { return "masked-token"; }
  nn::Params<float>& params() override { return model_.params(); }
  Texts settings() const override { return model_.config().to_map(); }
  void init(std::uint64_t seed) override { model_.init(seed); }
  std::size_t target_classes() const override { return model_.config().vocabulary; }
  void reserve(std::size_t shards) override;
  void pack(std::size_t s, const Examples& from, std::span<const std::uint32_t> events, const Masker& mask, std::uint64_t epoch) override;
  std::span<const std::int32_t> targets(std::size_t s) const override { return inputs_[s].targets; }
  std::size_t tokens(std::size_t s) const override { return inputs_[s].tokens.size(); }
  double loss(nn::Tape<float>& tape, std::size_t s, double scale) const override { return model_.loss(tape, inputs_[s], scale); }
  void put_fingerprint(State& state, std::span<const float> weights, Pool& pool) const override;

 private:
  MaskedTokenModel<float> model_;
  std::vector<MaskedInput> inputs_;
  std::vector<std::vector<std::uint8_t>> masks_;
};

// Every token, and stop, from those before it: GptModel. Masks are not looked at.
class NextTokens final : public Objective {
 public:
  explicit NextTokens(const GptConfig& config) : model_(config) {}
  GptModel<float>& model() { return model_; }

  std::string_view kind() const override { return "next-token"; }
  nn::Params<float>& params() override { return model_.params(); }
  Texts settings() const override;
  void init(std::uint64_t seed) override { model_.init(seed); }
  std::size_t target_classes() const override { return model_.config().vocabulary; }
  void reserve(std::size_t shards) override;
  void pack(std::size_t s, const Examples& from, std::span<const std::uint32_t> events, const Masker& mask, std::uint64_t epoch) override;
  std::span<const std::int32_t> targets(std::size_t s) const override { return inputs_[s].targets; }
  std::size_t tokens(std::size_t s) const override { return inputs_[s].tokens.size(); }
  double loss(nn::Tape<float>& tape, std::size_t s, double scale) const override { return model_.loss(tape, inputs_[s], scale); }
  void put_fingerprint(State& state, std::span<const float> weights, Pool& pool) const override;

 private:
  GptModel<float> model_;
  std::vector<NextTokenInput> inputs_;
};

// From the settings of a model. Throws Exit::input when they are incomplete, or of an objective that is not known.
std::unique_ptr<Objective> make_objective(const Texts& settings);

// The weights to use, from a state of that objective. Throws Exit::input when arrays are missing or of the wrong shape, or
// when the model's answers to the fingerprint's inputs differ by more than 1e-3 from the stored ones.
std::unique_ptr<MaskedTokenModel<float>> load_model(const State& state);
std::unique_ptr<GptModel<float>> load_gpt(const State& state);

}  // namespace bl::models
