// Learned tokens for the constituents of jets: a vector-quantised autoencoder (van den Oord et al., arXiv:1711.00937).
//
//   x (3) = log pt, Δeta, Δphi, shifted and scaled  ->  encoder  ->  z (latent)  ->  nearest of `codes` codes e  ->  decoder  ->  x'
//
// The number of the code is the token. Two forms, after OmniJet-α (Birk et al., arXiv:2403.05618):
//   plain         encoder and decoder are a perceptron on each constituent by itself: a token always means the same
//   conditional   both are transformers over the constituents of the jet: a token means something only beside the other
//                 tokens of its jet, so decoding needs all of them, in any order. There is no position: what a set of
//                 constituents becomes does not depend on how they are sorted
// The transformer is made of NormFormer blocks (Shleifer et al., arXiv:2110.09456): x += norm(attention(norm x));
// x += W_2 act(W_1 norm x). Each starts as the identity, as do the weights that are set to zero.
//
// Jets are packed: matrices (constituents, width) without padding, and offsets. Units: GeV and radians.
#pragma once
#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "nn/arena.hpp"
#include "nn/kernels.hpp"
#include "nn/ops/quantiser.hpp"
#include "nn/packed.hpp"
#include "nn/params.hpp"
#include "nn/tape.hpp"

namespace bl::models {

inline constexpr std::size_t kVqFeatures = 3;

struct VqVaeConfig {
  bool conditional = true;
  std::uint32_t codes = 512, latent = 4;
  std::uint32_t dim = 128;
  std::uint32_t layers = 4;        // blocks of the encoder, and again of the decoder; plain: hidden layers of each
  std::uint32_t heads = 8;         // conditional
  std::uint32_t feed_forward = 1;  // conditional: inner width in units of dim
  double dropout = 0;              // conditional: before the last matrix of each block
  // x = (log pt - log_pt_shift) log_pt_scale, angle_scale Δeta, angle_scale Δphi. The numbers are OmniJet-α's.
  double log_pt_shift = 1.8, log_pt_scale = 1, angle_scale = 3;
  double max_angle = 0.8;     // largest |Δeta| and |Δphi|
  bool clip = false;          // what is beyond is brought to the limit; otherwise such constituents get no token
  double lowest_pt = 1e-3;    // GeV; a softer constituent counts as one of this pt, so that the logarithm is finite
  double highest_pt = 1.4e4;  // GeV; nothing is decoded to more than the energy of the LHC

  nn::Activation activation() const { return conditional ? nn::Activation::silu : nn::Activation::relu; }
  void validate() const;  // throws Exit::usage naming the setting
  std::map<std::string, std::string> to_map() const;
  static VqVaeConfig from_map(const std::map<std::string, std::string>& map);  // throws Exit::input naming what is missing
  bool operator==(const VqVaeConfig&) const = default;

  // Constituent to features and back. `decode` keeps pt and angles within the limits above.
  std::array<float, kVqFeatures> features(double pt, double deta, double dphi) const;
  struct Constituent {
    float pt, deta, dphi;
  };
  Constituent constituent(const float* x) const;
};

// Factors of the three terms of the loss, each a mean over the constituents and the numbers of one:
//   mean (x - x')² + codebook_weight · mean (sg(z) - e)² + commitment_weight · mean (z - sg(e))²
// The first pulls codes to what chose them and the second the encoder to its codes, so neither can be taken for the
// other: vqtorch's beta is the share of the codebook term, the paper's that of the commitment. OmniJet-α's alpha 10 and
// beta 0.9 are a codebook weight of 9 and a commitment weight of 1.
struct VqVaeWeights {
  double codebook = 9, commitment = 1;
  double sync = 0;  // share of d loss / d e that codes get beside the encoder (vqtorch's nu); codebook by gradient only
  nn::Estimator estimator = nn::Estimator::straight_through;
};

template <class T>
class VqVae {
 public:
  explicit VqVae(const VqVaeConfig& config);
  VqVae(const VqVae&) = delete;
  VqVae& operator=(const VqVae&) = delete;

  // Weights drawn from normal distributions, a function of seed and parameter name. The codebook stays zero: it is for
  // k-means on encoder outputs.
  void init(std::uint64_t seed);
  const VqVaeConfig& config() const { return config_; }
  nn::Params<T>& params() { return params_; }
  const nn::Params<T>& params() const { return params_; }
  const nn::Param& codebook() const { return codebook_; }  // (codes, latent)

  // x (constituents, 3) -> z (constituents, latent); offsets of the jets, outliving the tape.
  nn::Var<T> encode(nn::Tape<T>& tape, nn::Var<T> x, std::span<const std::int32_t> offsets) const;
  // z -> x'
  nn::Var<T> decode(nn::Tape<T>& tape, nn::Var<T> z, std::span<const std::int32_t> offsets) const;

  struct Loss {
    double reconstruction = 0;  // Σ (x - x')² / 3
    double quantisation = 0;    // Σ (z - e)² / latent
    std::span<const std::int32_t> ids;
    nn::Var<T> latent = nullptr, reconstructed = nullptr;
  };
  // Sums over the constituents; scale · (reconstruction + (codebook + commitment) quantisation) is differentiated.
  // `nearest` was built from the codebook. train_codebook: it is a parameter, else it is only read (moving averages).
  Loss loss(nn::Tape<T>& tape, std::span<const T> x, std::span<const std::int32_t> offsets, const nn::NearestCodes<T>& nearest, const VqVaeWeights& weights,
            double scale, bool train_codebook) const;

 private:
  struct Block {
    nn::Param norm1_weight, norm1_bias, qkv_weight, qkv_bias, out_weight, out_bias, norm2_weight, norm2_bias;
    nn::Param norm3_weight, norm3_bias, up_weight, up_bias, down_weight, down_bias;
  };
  struct Half {  // encoder or decoder
    nn::Param in_weight, in_bias, out_weight, out_bias;
    std::vector<Block> blocks;                           // conditional
    std::vector<std::pair<nn::Param, nn::Param>> inner;  // plain: further hidden layers
  };
  Half add_half(const std::string& name, std::size_t from, std::size_t to);
  nn::Var<T> run(nn::Tape<T>& tape, const Half& half, nn::Var<T> x, std::span<const std::int32_t> offsets) const;

  VqVaeConfig config_;
  nn::Params<T> params_;
  Half encoder_, decoder_;
  nn::Param codebook_;
};

// A trained model made ready for use: weights laid out once, codes in a search tree. Const: one serves all threads. What
// a jet becomes does not depend on the other jets of a call, on their number, or on the thread.
class VqVaeCoder {
 public:
  explicit VqVaeCoder(std::shared_ptr<const VqVae<float>> model);
  const VqVae<float>& model() const { return *model_; }

  // x (constituents, 3) of the jets that `offsets` divides -> numbers of codes, 0 … codes - 1.
  std::vector<std::int32_t> encode(std::span<const float> x, std::span<const std::uint64_t> offsets) const;
  // Back: all tokens of each jet -> x' (constituents, 3).
  std::vector<float> decode(std::span<const std::int32_t> ids, std::span<const std::uint64_t> offsets) const;
  // Outputs of the encoder, (constituents, latent).
  std::vector<float> latent(std::span<const float> x, std::span<const std::uint64_t> offsets) const;

 private:
  // Calls use(first row, one past the last, local offsets, arena) for runs of whole jets.
  template <class Use>
  void in_pieces(std::span<const std::uint64_t> offsets, const Use& use) const;

  std::shared_ptr<const VqVae<float>> model_;
  nn::PackedWeights packed_;
  nn::NearestCodes<float> nearest_;
  mutable std::mutex lock_;
  mutable std::vector<std::unique_ptr<nn::Arena>> arenas_;  // those that nobody uses at the moment
};

extern template class VqVae<float>;
extern template class VqVae<double>;

}  // namespace bl::models
