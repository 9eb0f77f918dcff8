// Tokenizers: from particles to integers and back. Definitions with formulas and examples: docs/tokens.md.
//
// Ids of a vocabulary, in this order:
//   0                     unknown: a particle without a token
//   1 … P                 particles
//   P+1 … P+E             event-level tokens, one range for each extra
//   P+E+1, +2, +3         start, stop and mask, which no tokenizer writes: models use them
// Positions: a particle has its rank in pt, 0 … max_particles−1; extra k has position max_particles + k.
//
// Units: GeV and radians. "Relative" eta and phi are those after Frame has been applied.
#pragma once
#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "models/kmeans.hpp"

namespace bl::models {

template <class T>
class VqVae;
class VqVaeCoder;

// Categories of particles, as in the column `category` of tokens/1.
inline constexpr std::uint8_t kCategories = 10;                        // 1 j, 2 b, 3 e-, 4 e+, 5 m-, 6 m+, 7 g, 8 tau-, 9 tau+, 10 constituent
std::string_view category_name(std::uint8_t category);                 // "j"; "?" outside 1…10
std::uint8_t category_named(std::string_view name);                    // throws Exit::usage and lists the names
std::string category_names(std::span<const std::uint8_t> categories);  // "j, b, e-"

enum class TokenizerKind { formula, quantile, kmeans, binning, vqvae, vqvae_conditional };
std::string_view name_of(TokenizerKind kind);  // "vqvae-conditional"
// Those that a network encodes, many jets at a time (JetEncoder).
inline bool learned(TokenizerKind kind) { return kind == TokenizerKind::vqvae || kind == TokenizerKind::vqvae_conditional; }

// What eta and phi are measured from.
enum class Frame {
  absolute,  // eta and phi as they are
  met,       // phi − phi of MET
  jet,       // eta − jet_eta, phi − jet_phi
};
std::string_view name_of(Frame frame);

// Event-level quantities that can be tokens.
enum class Extra : std::uint8_t { met, met_phi, n_jets, n_bjets, n_leptons, ht };
inline constexpr std::size_t kExtras = 6;
std::string_view name_of(Extra extra);
Extra extra_named(std::string_view name);  // throws Exit::usage and lists the names

// Bins of one quantity: edges[0] < … < edges[n]; bin i holds edges[i] <= x < edges[i+1]. A value below the first edge
// belongs to bin 0, a value at or above the last inner edge to the last bin; both are "outside" when beyond the range.
struct Binning {
  std::vector<double> edges;    // bins() + 1, not falling (equal edges make a bin that stays empty)
  std::vector<double> centres;  // bins(): what a bin is decoded to

  std::size_t bins() const { return centres.size(); }
  std::size_t bin(double value) const;
  int outside(double value) const { return value < edges.front() ? -1 : value > edges.back() ? 1 : 0; }
};
Binning uniform_bins(double low, double high, std::size_t bins);      // centres at the middle
Binning logarithmic_bins(double low, double high, std::size_t bins);  // centres at the geometric middle
Binning bins_of(std::vector<double> edges);                           // centres at the middle; throws Exit::usage unless rising

struct ExtraBinning {
  Extra what = Extra::met;
  Binning bins;
};

// What the tokenizer was fitted on; not part of its identity.
struct FitRecord {
  std::uint64_t events = 0, particles = 0;  // seen
  std::uint64_t sampled_events = 0;         // used: fewer than seen when the input exceeded the limit
  std::uint64_t seed = 0;
  std::string digest;                 // order-free digest of the input
  std::string history;                // JSON: the history chain of the input, and this fit
  std::vector<std::uint64_t> counts;  // [vocabulary] unigram counts over the sample
};

struct Tokenizer {
  TokenizerKind kind = TokenizerKind::formula;
  std::string input = "objects/1";       // schema of the events it reads
  std::vector<std::uint8_t> categories;  // the category of id 1, 2, …
  Frame frame = Frame::absolute;
  std::uint32_t max_particles = 18;  // the hardest so many of an event are kept
  double btag = 0.5;                 // a jet with at least this b-tag is a b

  // formula, binning, quantile: token = (id−1)·Npt·Neta·Nphi + (pt−1)·Neta·Nphi + (eta−1)·Nphi + phi, all 1-based.
  // kmeans: one bin each, the range of the entries it was fitted on; vqvae: the range of what it encodes.
  std::vector<Binning> pt;  // one for each category, of the same number of bins
  Binning eta, phi;

  // kmeans: the codes of category i are consecutive, in the order of `categories`. vqvae: of its one category.
  std::vector<std::uint32_t> codes;  // number of codes of each category
  std::vector<float> centres;        // [sum of codes, features()], standardised
  std::vector<float> mean, scale;    // [features()]: feature = (raw − mean) / scale

  std::shared_ptr<const VqVae<float>> network;  // vqvae; its code c is token c + 1

  std::vector<ExtraBinning> extras;
  FitRecord fit;

  std::size_t features() const { return frame == Frame::jet ? 3 : 4; }  // log pt, eta, phi; or log pt, eta, sin phi, cos phi
  std::size_t particle_tokens() const;                                  // P
  std::size_t vocabulary() const;                                       // P + E + 4
  std::int32_t extra_first(std::size_t extra) const;                    // first id of extra number `extra`
  std::int32_t start_id() const { return static_cast<std::int32_t>(vocabulary()) - 3; }
  std::int32_t stop_id() const { return static_cast<std::int32_t>(vocabulary()) - 2; }
  std::int32_t mask_id() const { return static_cast<std::int32_t>(vocabulary()) - 1; }
  std::size_t positions() const { return max_particles + extras.size(); }
  // Of everything that decides how events are encoded and decoded (not of `fit`): the identity of the codebook.
  std::uint64_t hash() const;
};
// The parts fit together: sizes, rising edges, finite numbers. Throws Exit::input, for a file that was damaged or forged.
void validate(const Tokenizer& tokenizer);

// One event or jet. Particles in falling pt.
struct Event {
  std::uint64_t index = 0;  // event_index, for messages and random numbers
  std::span<const std::uint8_t> category;
  std::span<const float> pt, eta, phi;
  double axis_eta = 0, axis_phi = 0;    // of the jet
  std::array<float, kExtras> extras{};  // by Extra
};

// eta and phi in the frame, phi in [−kPi, kPi].
inline constexpr double kPi = 3.1415927410125732;  // π rounded to f32, the limit of phi in every schema
struct Direction {
  float eta, phi;
};
Direction to_frame(Frame frame, const Event& event, double eta, double phi);
// Back: reference_eta, reference_phi are the jet's axis, or phi of MET; both unused in Frame::absolute.
Direction from_frame(Frame frame, double reference_eta, double reference_phi, double eta, double phi);

// The features of k-means: log pt, eta, phi in Frame::jet, else log pt, eta, sin phi, cos phi. eta and phi relative.
void raw_features(Frame frame, double pt, double eta, double phi, float* out);

// What a token stands for.
struct Decoded {
  std::uint8_t category = 0;       // 0 unless the token is a particle's
  float pt = 0, eta = 0, phi = 0;  // eta and phi in the frame
};

// What to do with a particle whose category the tokenizer does not know.
enum class Unknown { error, token, drop };

// Tokens of events, appended. Columns of tokens/1.
struct Tokens {
  std::vector<std::int32_t> token;
  std::vector<std::uint16_t> position;
  std::vector<std::uint8_t> category;
  std::vector<float> pt, eta, phi;
};

class Tally;

// A tokenizer made ready for use. Const: one serves all threads.
class Encoder {
 public:
  explicit Encoder(Tokenizer tokenizer, Unknown unknown = Unknown::error);  // throws as validate()
  const Tokenizer& tokenizer() const { return tokenizer_; }

  // Of every kind but the learned ones. eta and phi relative. Token in 1 … P, or 0 when the category is not one of the tokenizer's.
  std::int32_t particle(std::uint8_t category, double pt, double eta, double phi) const;
  std::int32_t extra(std::size_t extra, double value) const;
  // The same, counted.
  std::int32_t particle(std::uint8_t category, double pt, double eta, double phi, Tally& tally) const;
  std::int32_t extra(std::size_t extra, double value, Tally& tally) const;
  // Appends the event's tokens: its hardest max_particles particles, then the extras. Throws Exit::input for an unknown
  // category under Unknown::error.
  void encode(const Event& event, Tokens& out, Tally& tally) const;

  // Any id of the vocabulary; category 0 for those that are not a particle's. Tokens of vqvae-conditional have a category
  // alone: what else they mean depends on their jet.
  const Decoded& decode(std::int32_t token) const { return table_[static_cast<std::size_t>(token)]; }
  // Value of an event-level token; false when `token` is not one of extra number `extra`.
  bool decode_extra(std::int32_t token, std::size_t extra, double& value) const;

  // Conditional tokens: appends what all tokens of one or more jets stand for, pt in GeV, eta and phi relative to the axis.
  // Tokens are those of particles.
  void decode_jets(std::span<const std::int32_t> tokens, std::span<const std::uint64_t> offsets, std::vector<Decoded>& out) const;
  bool conditional() const { return tokenizer_.kind == TokenizerKind::vqvae_conditional; }

 private:
  friend class Tally;
  friend class JetEncoder;
  Tokenizer tokenizer_;
  Unknown unknown_;
  std::array<std::int16_t, kCategories + 1> slot_{};  // index in `categories`, or −1
  std::vector<NearestCentre> nearest_;                // kmeans: one for each category
  std::vector<std::int32_t> first_code_;              // kmeans: first id of each category
  std::vector<Decoded> table_;                        // [vocabulary]
  std::shared_ptr<const VqVaeCoder> coder_;           // vqvae
};

// Encodes jets by a network: events are added one by one, their tokens are there after finish(). One for each batch.
class JetEncoder {
 public:
  explicit JetEncoder(const Encoder& encoder);  // of a learned kind
  // Appends what Encoder::encode would, with tokens to come. Constituents beyond the largest angles are counted, and left
  // out or brought to the limit as the tokenizer says.
  void add(const Event& event, Tokens& out, Tally& tally);
  // Fills in the tokens of the events that were added since the last call.
  void finish(Tokens& out, Tally& tally);

 private:
  struct Relative {
    float pt, eta, phi;
  };
  const Encoder& encoder_;
  std::vector<std::uint64_t> offsets_{0};
  std::vector<float> features_;
  std::vector<Relative> true_;  // for the errors
};

// Order-free sums: merging in any order gives the same bits.
class ErrorTally {
 public:
  void add(double error);
  void merge(const ErrorTally& other);
  std::uint64_t entries() const { return entries_; }
  double mean() const;
  double std() const;         // around the mean
  double quantile68() const;  // of |error|, to 1 %

 private:
  static constexpr double kUnit = 0x1p40;
  static constexpr double kLowest = 1e-6;
  static constexpr int kPerDecade = 200, kDecades = 10;
  std::uint64_t entries_ = 0;
  __int128_t sum_ = 0, squares_ = 0;      // in units of 2^-40
  std::vector<std::uint64_t> histogram_;  // of |error|, logarithmic
};

// What happened while encoding; merged over threads and batches.
class Tally {
 public:
  explicit Tally(const Encoder& encoder, bool errors = true);  // errors: also compare each particle with its decoded self
  void merge(const Tally& other);

  std::uint64_t events = 0, particles = 0;                                  // before the cut on multiplicity
  std::uint64_t truncated_events = 0, truncated_particles = 0;              // beyond max_particles
  std::uint64_t unknown = 0;                                                // of a category without tokens
  std::uint64_t dropped = 0;                                                // vqvae: beyond the largest angles, without a token
  std::array<std::uint64_t, 2> pt_outside{}, eta_outside{}, phi_outside{};  // below, above the binned range
  std::array<std::array<std::uint64_t, 2>, kExtras> extra_outside{};        // by Extra
  std::vector<std::uint64_t> used;                                          // [vocabulary]
  ErrorTally pt_error, eta_error, phi_error;                                // (decoded − true)/true for pt; decoded − true, phi wrapped

 private:
  friend class Encoder;
  friend class JetEncoder;
  void compare(double pt, double eta, double phi, const Decoded& decoded);
  bool errors_;
};

// Figures of merit of a set of unigram counts. Entropies in nats.
struct Usage {
  std::uint64_t tokens = 0;                  // all, with event-level ones
  std::size_t codes = 0;                     // P
  std::size_t used = 0, dead = 0;            // of the particle codes
  double perplexity = 0;                     // exp(entropy of the particle codes)
  double particle_entropy = 0, entropy = 0;  // of particle codes alone; of all tokens
};
Usage usage(const Tokenizer& tokenizer, std::span<const std::uint64_t> counts);

}  // namespace bl::models
