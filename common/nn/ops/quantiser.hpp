// Vector quantiser (van den Oord et al., arXiv:1711.00937): each row of z becomes the nearest of `codes` vectors of a
// codebook (codes, dim), dim 4 to 16 as a rule, and its number is the token.
//
// A codebook is learned in one of two ways:
//   by gradient   the codebook loss pulls codes to the rows that chose them (OmniJet-alpha, vqtorch);
//   by EMA        codes are moving averages of those rows (appendix A.1 of the paper); the codebook loss is off.
// Either way CodebookKeeper counts use and gives codes that nobody chooses a new place.
#pragma once
#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "nn/tape.hpp"

namespace bl::nn {

// Nearest codes of one state of a codebook, in the squared Euclidean distance summed in the order of the dimensions; of
// equally near codes the one with the lowest number. Up to 8 dimensions a k-d tree with leaves of 64 codes, above every
// code (8192 codes of 4, 8, 16 numbers: 3.9, 0.6, 0.2 million rows/s on a core); both give the same numbers, whatever the
// number of rows, and on every machine. build() anew when the codebook has changed (8192 codes: about 2 ms, once per step,
// for all shards); find() may run in several threads at once.
template <class T>
class NearestCodes {
 public:
  // codes in 1 … 2^31 - 1.
  void build(std::size_t codes, std::size_t dim, const T* codebook);
  // ids (rows): the nearest code of each row of z (rows, dim); code 0 for a row that is not finite.
  void find(std::size_t rows, const T* z, std::int32_t* ids) const;
  std::size_t codes() const { return codes_; }
  std::size_t dim() const { return dim_; }

 private:
  static constexpr std::size_t kLeaf = 64;  // as many as Kernels::squared_distances takes
  static constexpr std::size_t kTreeDims = 8;
  struct Best {
    T distance;
    std::int32_t id;
  };
  // Nodes lie in the order of building: the left child follows its parent. right == 0: a leaf.
  struct Node {
    std::uint32_t right = 0, leaf = 0, coordinate = 0;
    T split = 0;  // codes of the left child are not above, those of the right not below
  };
  void build_node(std::size_t first, std::size_t last, const T* codebook);
  void add_leaf(std::size_t first, std::size_t last, const T* codebook);
  void scan(std::size_t leaf, const T* z, Best& best) const;
  void descend(std::size_t node, const T* z, std::array<T, kTreeDims>& away, T bound, Best& best) const;

  std::size_t codes_ = 0, dim_ = 0;
  std::vector<Node> nodes_;          // empty: no tree, every leaf is scanned
  std::vector<T> leaves_;            // of each leaf: coordinate after coordinate of its 64 codes, infinity for none
  std::vector<std::int32_t> ids_;    // of each leaf: 64 numbers of codes, rising
  std::vector<std::int32_t> order_;  // working memory of build
};

// Factors of the terms that the quantiser adds to the loss. `commitment` pulls z to its code and `codebook` pulls the code
// to z, so neither can be mistaken for the other: vqtorch's beta is the weight of the codebook, the paper's that of the
// commitment.
struct QuantiserScales {
  double commitment = 0;  // of Σ_r ‖z_r - sg(e_r)‖²
  double codebook = 0;    // of Σ_r ‖sg(z_r) - e_r‖²
  double sync = 0;        // share of d loss / d value that codes get as well (Huh et al., arXiv:2305.08842; vqtorch's nu)
};

// How d loss / d value reaches z: straight_through hands it on as it is; rotation turns and scales it as z is turned and
// scaled into its code (Fifty et al., arXiv:2410.06424).
enum class Estimator : std::uint8_t { straight_through, rotation };

template <class T>
struct Quantised {
  Var<T> value = nullptr;             // (rows, dim): e_r, the code of each row
  std::span<const std::int32_t> ids;  // (rows), in the arena
  double squared_error = 0;           // Σ_r ‖z_r - e_r‖²; the loss grew by (commitment + codebook) times it
};

// z (rows, dim). codebook (codes, dim): a parameter, an input (no gradient, EMA), or the result of other ops; `nearest`
// was built from its values.
template <class T>
Quantised<T> quantise(Tape<T>& tape, Var<T> z, Var<T> codebook, const NearestCodes<T>& nearest, const QuantiserScales& scales,
                      Estimator estimator = Estimator::straight_through);

struct CodebookConfig {
  double decay = 0.99;              // of the EMA, in [0, 1); 0: the codebook is learned by gradient and only replaced here
  double epsilon = 1e-5;            // Laplace smoothing of the EMA's counts, > 0
  std::uint32_t replace_after = 0;  // a code that so many updates in a row did not use is replaced; 0: never
  double noise = 0.01;              // deviation of the normal numbers that are added to a replaced code
  std::uint64_t seed = 0;
};

// What outlives a step of training beside the codebook itself. All of it belongs in a checkpoint.
template <class T>
class CodebookKeeper {
 public:
  CodebookKeeper(std::size_t codes, std::size_t dim, const CodebookConfig& config);
  // Starts the averages at the codebook as it is.
  void start(std::span<const T> codebook);

  // Use of the codes by some rows, added to a block of block_size() numbers: counts (codes), then sums of rows (codes,
  // dim). Blocks of shards and ranks are summed as gradients are.
  std::size_t block_size() const { return codes_ * (dim_ + 1); }
  void add_use(std::size_t rows, const T* z, const std::int32_t* ids, T* block) const;
  // One update after step `step`, from the use of the whole batch. candidates (rows, dim): encoder outputs that replace
  // unused codes (which one, and the noise, is a function of seed, step and code); the same on every rank. Returns how
  // many codes were replaced.
  std::size_t update(std::uint64_t step, const T* block, std::span<const T> candidates, std::span<T> codebook);

  std::span<T> average_counts() { return counts_; }              // (codes), EMA only
  std::span<T> average_sums() { return sums_; }                  // (codes, dim), EMA only
  std::span<std::uint32_t> updates_unused() { return unused_; }  // (codes)

 private:
  std::size_t codes_, dim_;
  CodebookConfig config_;
  std::vector<T> counts_, sums_;
  std::vector<std::uint32_t> unused_;
};

// How evenly codes are used.
struct CodeUsage {
  explicit CodeUsage(std::size_t codes) : counts(codes) {}
  void add(std::span<const std::int32_t> ids);
  std::uint64_t total() const;
  std::size_t used() const;   // codes chosen at least once
  double perplexity() const;  // exp of the entropy in nats: codes() when all are used evenly, 1 for one code, 0 for no row
  std::vector<std::uint64_t> counts;
};

extern template class NearestCodes<float>;
extern template class NearestCodes<double>;
extern template class CodebookKeeper<float>;
extern template class CodebookKeeper<double>;

}  // namespace bl::nn
