#include "nn/ops/quantiser.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/error.hpp"
#include "base/rng.hpp"
#include "nn/kernels.hpp"

namespace bl::nn {

template <class T>
void NearestCodes<T>::build(std::size_t codes, std::size_t dim, const T* codebook) {
  constexpr std::size_t tree_codes = 4 * kLeaf;  // measured: beyond, looking at every code is faster
  check(codes > 0 && dim > 0, "NearestCodes: an empty codebook");
  codes_ = codes;
  dim_ = dim;
  nodes_.clear();
  leaves_.clear();
  ids_.clear();
  order_.resize(codes);
  std::iota(order_.begin(), order_.end(), 0);
  if (dim <= kTreeDims && codes >= tree_codes) build_node(0, codes, codebook);
  else
    for (std::size_t first = 0; first < codes; first += kLeaf) add_leaf(first, std::min(first + kLeaf, codes), codebook);
}

template <class T>
void NearestCodes<T>::add_leaf(std::size_t first, std::size_t last, const T* codebook) {
  std::sort(order_.begin() + static_cast<std::ptrdiff_t>(first), order_.begin() + static_cast<std::ptrdiff_t>(last));
  const std::size_t at = leaves_.size();
  leaves_.resize(at + kLeaf * dim_, std::numeric_limits<T>::infinity());
  ids_.resize(ids_.size() + kLeaf, 0);
  std::int32_t* const ids = ids_.data() + ids_.size() - kLeaf;
  for (std::size_t i = first; i < last; ++i) {
    ids[i - first] = order_[i];
    for (std::size_t c = 0; c < dim_; ++c) leaves_[at + c * kLeaf + (i - first)] = codebook[static_cast<std::size_t>(order_[i]) * dim_ + c];
  }
}

// Halves the codes at the median of the coordinate in which they are spread widest.
template <class T>
void NearestCodes<T>::build_node(std::size_t first, std::size_t last, const T* codebook) {
  const std::size_t node = nodes_.size();
  nodes_.emplace_back();
  if (last - first <= kLeaf) {
    nodes_[node].leaf = static_cast<std::uint32_t>(ids_.size() / kLeaf);
    add_leaf(first, last, codebook);
    return;
  }
  const auto coordinate = [&](std::int32_t id, std::size_t c) { return codebook[static_cast<std::size_t>(id) * dim_ + c]; };
  std::size_t widest = 0;
  T spread = -1;
  for (std::size_t c = 0; c < dim_; ++c) {
    T low = std::numeric_limits<T>::infinity(), high = -low;
    for (std::size_t i = first; i < last; ++i) {
      const T v = coordinate(order_[i], c);
      low = std::min(low, v);
      high = std::max(high, v);
    }
    if (high - low > spread) {
      widest = c;
      spread = high - low;
    }
  }
  const std::size_t middle = first + (last - first) / 2;
  const auto at = [&](std::size_t i) { return order_.begin() + static_cast<std::ptrdiff_t>(i); };
  // an order even with NaN, which nth_element must have
  const auto value = [&](std::int32_t id) {
    const T v = coordinate(id, widest);
    return v == v ? v : std::numeric_limits<T>::infinity();
  };
  std::nth_element(at(first), at(middle), at(last), [&](std::int32_t a, std::int32_t b) {
    const T x = value(a), y = value(b);
    return x < y || (x == y && a < b);
  });
  nodes_[node].coordinate = static_cast<std::uint32_t>(widest);
  nodes_[node].split = value(order_[middle]);
  build_node(first, middle, codebook);
  nodes_[node].right = static_cast<std::uint32_t>(nodes_.size());
  build_node(middle, last, codebook);
}

template <class T>
void NearestCodes<T>::scan(std::size_t leaf, const T* z, Best& best) const {
  std::array<T, kLeaf> distance;
  const T nearest = kernels<T>().squared_distances(dim_, leaves_.data() + leaf * kLeaf * dim_, z, distance.data());
  if (!(nearest <= best.distance)) return;
  const auto l = static_cast<std::size_t>(std::find(distance.begin(), distance.end(), nearest) - distance.begin());
  if (l == kLeaf) return;  // nothing but NaN
  const std::int32_t id = ids_[leaf * kLeaf + l];
  if (nearest < best.distance || id < best.id) best = {nearest, id};
}

// away: the distance of z to the node's box in each coordinate, squared; bound: their sum.
template <class T>
void NearestCodes<T>::descend(std::size_t node, const T* z, std::array<T, kTreeDims>& away, T bound, Best& best) const {
  const Node& n = nodes_[node];
  if (n.right == 0) return scan(n.leaf, z, best);
  const T d = z[n.coordinate] - n.split;
  descend(d < 0 ? node + 1 : n.right, z, away, bound, best);
  // The bound gathers rounding errors on its way down, so it is taken a little lower; an equally near code with a lower
  // number may be behind an equal bound.
  constexpr T slack = 1 - 128 * std::numeric_limits<T>::epsilon();
  const T before = away[n.coordinate], beyond = bound - before + d * d;
  if (!(beyond * slack <= best.distance)) return;
  away[n.coordinate] = d * d;
  descend(d < 0 ? n.right : node + 1, z, away, beyond, best);
  away[n.coordinate] = before;
}

template <class T>
void NearestCodes<T>::find(std::size_t rows, const T* z, std::int32_t* ids) const {
  check(codes_ > 0, "NearestCodes: find before build");
  constexpr std::size_t together = 16;  // rows that share a leaf in the cache
  std::array<Best, together> best;
  for (std::size_t start = 0; start < rows; start += together) {
    const std::size_t n = std::min(together, rows - start);
    best.fill({std::numeric_limits<T>::infinity(), 0});
    if (nodes_.empty())
      for (std::size_t leaf = 0; leaf * kLeaf < ids_.size(); ++leaf)
        for (std::size_t r = 0; r < n; ++r) scan(leaf, z + (start + r) * dim_, best[r]);
    else
      for (std::size_t r = 0; r < n; ++r) {
        std::array<T, kTreeDims> away{};
        descend(0, z + (start + r) * dim_, away, 0, best[r]);
      }
    for (std::size_t r = 0; r < n; ++r) ids[start + r] = best[r].id;
  }
}

namespace {

// dz += Rᵀ dy · |e| / |z|, R the rotation from z to e in their plane; dy itself where one of them is zero or they are
// opposite, so that R is not defined.
template <class T>
void rotate_back(std::size_t dim, const T* z, const T* e, const T* dy, T* dz) {
  T zz = 0, ee = 0, ze = 0, z_dy = 0, e_dy = 0;
  for (std::size_t c = 0; c < dim; ++c) {
    zz += z[c] * z[c];
    ee += e[c] * e[c];
    ze += z[c] * e[c];
    z_dy += z[c] * dy[c];
    e_dy += e[c] * dy[c];
  }
  const T z_norm = std::sqrt(zz), e_norm = std::sqrt(ee);
  const T sum = 2 + 2 * ze / (z_norm * e_norm);  // |z/|z| + e/|e||²
  if (!(sum > 64 * std::numeric_limits<T>::epsilon())) {
    for (std::size_t c = 0; c < dim; ++c) dz[c] += dy[c];
    return;
  }
  // R = 1 - 2 r rᵀ + 2 ê ẑᵀ, r = (ẑ + ê) / |ẑ + ê|
  const T scale = e_norm / z_norm, along_r = 2 * (z_dy / z_norm + e_dy / e_norm) / sum, along_e = 2 * e_dy / e_norm;
  for (std::size_t c = 0; c < dim; ++c) dz[c] += scale * (dy[c] - along_r * (z[c] / z_norm + e[c] / e_norm) + along_e * z[c] / z_norm);
}

}  // namespace

template <class T>
Quantised<T> quantise(Tape<T>& tape, Var<T> z, Var<T> codebook, const NearestCodes<T>& nearest, const QuantiserScales& scales, Estimator estimator) {
  check(z->width == codebook->width && nearest.dim() == z->width && nearest.codes() == codebook->rows, "quantise: shapes do not fit");
  const std::size_t dim = z->width;
  auto* const ids = tape.arena().template take<std::int32_t>(z->rows);
  nearest.find(z->rows, z->value, ids);
  Var<T> y = tape.make(z->rows, dim, {z, codebook});
  double squared_error = 0;
  for (std::size_t r = 0; r < z->rows; ++r) {
    std::copy_n(codebook->value + static_cast<std::size_t>(ids[r]) * dim, dim, y->value + r * dim);
    for (std::size_t i = r * dim; i < (r + 1) * dim; ++i) {
      const double d = static_cast<double>(z->value[i]) - static_cast<double>(y->value[i]);
      squared_error += d * d;
    }
  }
  tape.record([&tape, z, codebook, ids, scales, estimator, y] {
    const std::size_t n = z->size(), width = z->width;
    if (y->grad != nullptr || scales.commitment != 0)
      if (T* const dz = tape.open_zeroed(z)) {
        const T pull = static_cast<T>(2 * scales.commitment);
        for (std::size_t i = 0; i < n; ++i) dz[i] += pull * (z->value[i] - y->value[i]);
        if (y->grad != nullptr && estimator == Estimator::straight_through) kernels<T>().add(n, dz, y->grad, dz);
        if (y->grad != nullptr && estimator == Estimator::rotation)
          for (std::size_t i = 0; i < n; i += width) rotate_back(width, z->value + i, y->value + i, y->grad + i, dz + i);
      }
    if (scales.codebook != 0 || (y->grad != nullptr && scales.sync != 0))
      if (T* const dcode = tape.open_zeroed(codebook)) {
        const T pull = static_cast<T>(2 * scales.codebook), share = static_cast<T>(scales.sync);
        for (std::size_t r = 0; r < z->rows; ++r) {
          T* const to = dcode + static_cast<std::size_t>(ids[r]) * width;
          for (std::size_t c = 0; c < width; ++c) {
            const std::size_t i = r * width + c;
            to[c] += pull * (y->value[i] - z->value[i]);
            if (y->grad != nullptr) to[c] += share * y->grad[i];
          }
        }
      }
    tape.close(y);
  });
  return {y, {ids, z->rows}, squared_error};
}

template <class T>
CodebookKeeper<T>::CodebookKeeper(std::size_t codes, std::size_t dim, const CodebookConfig& config)
    : codes_(codes), dim_(dim), config_(config), unused_(codes) {
  check(codes > 0 && dim > 0 && config.decay >= 0 && config.decay < 1 && config.epsilon > 0,
        "CodebookKeeper: empty codebook, decay out of [0, 1), or epsilon not above 0");
  if (config.decay == 0) return;
  counts_.resize(codes);
  sums_.resize(codes * dim);
}

template <class T>
void CodebookKeeper<T>::start(std::span<const T> codebook) {
  check(codebook.size() == codes_ * dim_, "CodebookKeeper: codebook of another size");
  std::fill(counts_.begin(), counts_.end(), T{1});
  if (config_.decay != 0) std::copy(codebook.begin(), codebook.end(), sums_.begin());
  std::fill(unused_.begin(), unused_.end(), 0u);
}

template <class T>
void CodebookKeeper<T>::add_use(std::size_t rows, const T* z, const std::int32_t* ids, T* block) const {
  T* const sums = block + codes_;
  for (std::size_t r = 0; r < rows; ++r) {
    const auto id = static_cast<std::size_t>(ids[r]);
    block[id] += 1;
    for (std::size_t c = 0; c < dim_; ++c) sums[id * dim_ + c] += z[r * dim_ + c];
  }
}

template <class T>
std::size_t CodebookKeeper<T>::update(std::uint64_t step, const T* block, std::span<const T> candidates, std::span<T> codebook) {
  const std::size_t rows = candidates.size() / dim_;
  check(codebook.size() == codes_ * dim_ && candidates.size() == rows * dim_, "CodebookKeeper: codebook or candidates of another size");
  if (config_.decay != 0) {
    const T keep = static_cast<T>(config_.decay);
    kernels<T>().blend(codes_, keep, block, counts_.data());
    kernels<T>().blend(codes_ * dim_, keep, block + codes_, sums_.data());
    double total = 0;
    for (const T count : counts_) total += static_cast<double>(count);
    const double smooth = total / (total + static_cast<double>(codes_) * config_.epsilon);
    for (std::size_t k = 0; k < codes_; ++k) {
      const double count = (static_cast<double>(counts_[k]) + config_.epsilon) * smooth;
      for (std::size_t c = 0; c < dim_; ++c) codebook[k * dim_ + c] = static_cast<T>(static_cast<double>(sums_[k * dim_ + c]) / count);
    }
  }
  const Rng rng(config_.seed, "codebook replacement");
  std::size_t replaced = 0;
  for (std::size_t k = 0; k < codes_; ++k) {
    unused_[k] = block[k] > 0 ? 0 : unused_[k] + 1;
    if (config_.replace_after == 0 || unused_[k] < config_.replace_after || rows == 0) continue;
    const std::size_t row = rng.below(rows, step, k);
    for (std::size_t c = 0; c < dim_; ++c)
      codebook[k * dim_ + c] = candidates[row * dim_ + c] + static_cast<T>(config_.noise * rng.normal(step, codes_ + k * dim_ + c));
    if (config_.decay != 0) {
      counts_[k] = 1;
      std::copy_n(codebook.begin() + static_cast<std::ptrdiff_t>(k * dim_), dim_, sums_.begin() + static_cast<std::ptrdiff_t>(k * dim_));
    }
    unused_[k] = 0;
    ++replaced;
  }
  return replaced;
}

void CodeUsage::add(std::span<const std::int32_t> ids) {
  for (const std::int32_t id : ids) ++counts[static_cast<std::size_t>(id)];
}
std::uint64_t CodeUsage::total() const { return std::accumulate(counts.begin(), counts.end(), std::uint64_t{0}); }
std::size_t CodeUsage::used() const { return counts.size() - static_cast<std::size_t>(std::count(counts.begin(), counts.end(), 0u)); }
double CodeUsage::perplexity() const {
  const auto all = static_cast<double>(total());
  if (all == 0) return 0;
  double entropy = 0;
  for (const std::uint64_t n : counts) {
    const double p = static_cast<double>(n) / all;
    if (n > 0) entropy -= p * std::log(p);
  }
  return std::exp(entropy);
}

#define BEAMLINE_INSTANTIATE(T)     \
  template class NearestCodes<T>;   \
  template class CodebookKeeper<T>; \
  template Quantised<T> quantise(Tape<T>&, Var<T>, Var<T>, const NearestCodes<T>&, const QuantiserScales&, Estimator);
BEAMLINE_INSTANTIATE(float)
BEAMLINE_INSTANTIATE(double)
#undef BEAMLINE_INSTANTIATE

}  // namespace bl::nn
