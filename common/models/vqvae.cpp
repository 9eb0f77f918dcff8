#include "models/vqvae.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <numbers>

#include "base/error.hpp"
#include "base/pool.hpp"
#include "nn/ops/attention.hpp"
#include "nn/ops/elementwise.hpp"
#include "nn/ops/linear.hpp"
#include "nn/ops/loss.hpp"
#include "nn/ops/norm.hpp"

namespace bl::models {
namespace {

using nn::Group;

template <class N>
void read(const std::map<std::string, std::string>& map, const std::string& key, N& value) {
  const auto it = map.find(key);
  if (it == map.end()) fail(Exit::input, "the configuration of the VQ-VAE lacks '{}'", key);
  const char* end = it->second.data() + it->second.size();
  const auto [stop, error] = std::from_chars(it->second.data(), end, value);
  if (error != std::errc() || stop != end) fail(Exit::input, "the configuration of the VQ-VAE has {} = '{}', which is not a number", key, it->second);
}

}  // namespace

void VqVaeConfig::validate() const {
  const auto within = [](const char* name, std::uint64_t value, std::uint64_t low, std::uint64_t high) {
    if (value < low || value > high) fail(Exit::usage, "VQ-VAE: {} is {}, allowed are {} to {}", name, value, low, high);
  };
  within("codes", codes, 2, 1u << 20);
  within("latent", latent, 1, 64);
  within("dim", dim, 1, 1u << 14);
  within("layers", layers, 1, 100);
  within("heads", heads, 1, dim);
  within("feed_forward", feed_forward, 1, 64);
  if (conditional && dim % heads != 0) fail(Exit::usage, "VQ-VAE: dim {} is not a multiple of heads {}", dim, heads);
  const auto positive = [](const char* name, double value) {
    if (!(value > 0) || !std::isfinite(value)) fail(Exit::usage, "VQ-VAE: {} is {}, allowed is above 0", name, value);
  };
  if (!(dropout >= 0 && dropout < 1)) fail(Exit::usage, "VQ-VAE: dropout is {}, allowed is 0 to below 1", dropout);
  if (!std::isfinite(log_pt_shift)) fail(Exit::usage, "VQ-VAE: log_pt_shift is {}, not a finite number", log_pt_shift);
  positive("log_pt_scale", log_pt_scale);
  positive("angle_scale", angle_scale);
  positive("max_angle", max_angle);
  positive("lowest_pt", lowest_pt);
  if (!(highest_pt > lowest_pt) || !std::isfinite(highest_pt)) fail(Exit::usage, "VQ-VAE: highest_pt is {}, allowed is above {}", highest_pt, lowest_pt);
  if (max_angle > std::numbers::pi) fail(Exit::usage, "VQ-VAE: max_angle is {}, allowed is up to pi", max_angle);
}

std::map<std::string, std::string> VqVaeConfig::to_map() const {
  const auto text = [](const auto& x) { return fmt::format("{}", x); };
  return {{"conditional", text(conditional ? 1 : 0)},
          {"codes", text(codes)},
          {"latent", text(latent)},
          {"dim", text(dim)},
          {"layers", text(layers)},
          {"heads", text(heads)},
          {"feed_forward", text(feed_forward)},
          {"dropout", text(dropout)},
          {"log_pt_shift", text(log_pt_shift)},
          {"log_pt_scale", text(log_pt_scale)},
          {"angle_scale", text(angle_scale)},
          {"max_angle", text(max_angle)},
          {"clip", text(clip ? 1 : 0)},
          {"lowest_pt", text(lowest_pt)},
          {"highest_pt", text(highest_pt)}};
}

VqVaeConfig VqVaeConfig::from_map(const std::map<std::string, std::string>& map) {
  VqVaeConfig c;
  int yes = 0;
  read(map, "conditional", yes);
  c.conditional = yes != 0;
  read(map, "codes", c.codes);
  read(map, "latent", c.latent);
  read(map, "dim", c.dim);
  read(map, "layers", c.layers);
  read(map, "heads", c.heads);
  read(map, "feed_forward", c.feed_forward);
  read(map, "dropout", c.dropout);
  read(map, "log_pt_shift", c.log_pt_shift);
  read(map, "log_pt_scale", c.log_pt_scale);
  read(map, "angle_scale", c.angle_scale);
  read(map, "max_angle", c.max_angle);
  read(map, "clip", yes);
  c.clip = yes != 0;
  read(map, "lowest_pt", c.lowest_pt);
  read(map, "highest_pt", c.highest_pt);
  try {
    c.validate();
  } catch (const Error& e) {
    fail(Exit::input, "the configuration of the VQ-VAE is not valid: {}", e.what());
  }
  return c;
}

std::array<float, kVqFeatures> VqVaeConfig::features(double pt, double deta, double dphi) const {
  return {static_cast<float>((std::log(std::max(pt, lowest_pt)) - log_pt_shift) * log_pt_scale),
          static_cast<float>(std::clamp(deta, -max_angle, max_angle) * angle_scale), static_cast<float>(std::clamp(dphi, -max_angle, max_angle) * angle_scale)};
}

VqVaeConfig::Constituent VqVaeConfig::constituent(const float* x) const {
  const double log_pt = std::clamp(static_cast<double>(x[0]) / log_pt_scale + log_pt_shift, std::log(lowest_pt), std::log(highest_pt));
  const auto angle = [&](float scaled) { return static_cast<float>(std::clamp(static_cast<double>(scaled) / angle_scale, -max_angle, max_angle)); };
  return {static_cast<float>(std::exp(log_pt)), angle(x[1]), angle(x[2])};
}

template <class T>
VqVae<T>::VqVae(const VqVaeConfig& config) : config_(config) {
  config_.validate();
  encoder_ = add_half("encoder", kVqFeatures, config.latent);
  decoder_ = add_half("decoder", config.latent, kVqFeatures);
  codebook_ = params_.add("codebook", config.codes, config.latent, Group::embedding);
  params_.allocate();
  for (const nn::ParamInfo& p : params_.list())
    if (p.group == Group::norm && p.name.ends_with("/weight")) params_.fill(p.at, T{1});
}

template <class T>
typename VqVae<T>::Half VqVae<T>::add_half(const std::string& name, std::size_t from, std::size_t to) {
  const std::size_t dim = config_.dim, inner = dim * config_.feed_forward;
  Half half;
  half.in_weight = params_.add(name + "/in/weight", dim, from, Group::weight);
  half.in_bias = params_.add(name + "/in/bias", 1, dim, Group::bias);
  for (std::uint32_t l = 0; l < config_.layers && config_.conditional; ++l) {
    const std::string at = fmt::format("{}/{}/", name, l);
    Block b;
    b.norm1_weight = params_.add(at + "norm1/weight", 1, dim, Group::norm);
    b.norm1_bias = params_.add(at + "norm1/bias", 1, dim, Group::norm);
    b.qkv_weight = params_.add(at + "qkv/weight", 3 * dim, dim, Group::weight);
    b.qkv_bias = params_.add(at + "qkv/bias", 1, 3 * dim, Group::bias);
    b.out_weight = params_.add(at + "out/weight", dim, dim, Group::weight);
    b.out_bias = params_.add(at + "out/bias", 1, dim, Group::bias);
    b.norm2_weight = params_.add(at + "norm2/weight", 1, dim, Group::norm);
    b.norm2_bias = params_.add(at + "norm2/bias", 1, dim, Group::norm);
    b.norm3_weight = params_.add(at + "norm3/weight", 1, dim, Group::norm);
    b.norm3_bias = params_.add(at + "norm3/bias", 1, dim, Group::norm);
    b.up_weight = params_.add(at + "up/weight", inner, dim, Group::weight);
    b.up_bias = params_.add(at + "up/bias", 1, inner, Group::bias);
    b.down_weight = params_.add(at + "down/weight", dim, inner, Group::weight);
    b.down_bias = params_.add(at + "down/bias", 1, dim, Group::bias);
    half.blocks.push_back(b);
  }
  for (std::uint32_t l = 1; l < config_.layers && !config_.conditional; ++l)
    half.inner.emplace_back(params_.add(fmt::format("{}/{}/weight", name, l), dim, dim, Group::weight),
                            params_.add(fmt::format("{}/{}/bias", name, l), 1, dim, Group::bias));
  half.out_weight = params_.add(name + "/out/weight", to, dim, Group::weight);
  half.out_bias = params_.add(name + "/out/bias", 1, to, Group::bias);
  return half;
}

template <class T>
void VqVae<T>::init(std::uint64_t seed) {
  // Variances that keep the size of what passes (He et al., arXiv:1502.01852, for relu; LeCun's elsewhere).
  const auto draw = [&](const nn::Param& p, double gain) { params_.init_normal(p, seed, std::sqrt(gain / static_cast<double>(p.width))); };
  const double gain = config_.conditional ? 1 : 2;
  for (const Half* half : {&encoder_, &decoder_}) {
    draw(half->in_weight, gain);
    draw(half->out_weight, 1);
    for (const auto& [weight, bias] : half->inner) draw(weight, gain);
    for (const Block& b : half->blocks) {
      draw(b.qkv_weight, 1);
      draw(b.out_weight, 1);
      draw(b.up_weight, 1);
      params_.fill(b.norm2_weight, T{0});  // with down/weight, which stays zero, the block is the identity
    }
  }
}

template <class T>
nn::Var<T> VqVae<T>::run(nn::Tape<T>& tape, const Half& half, nn::Var<T> x, std::span<const std::int32_t> offsets) const {
  const nn::Activation act = config_.activation();
  x = nn::linear(tape, x, tape.param(half.in_weight), tape.param(half.in_bias), config_.conditional ? nn::Activation::none : act);
  for (const auto& [weight, bias] : half.inner) x = nn::linear(tape, x, tape.param(weight), tape.param(bias), act);
  for (const Block& b : half.blocks) {
    nn::Var<T> h = nn::layer_norm(tape, x, tape.param(b.norm1_weight), tape.param(b.norm1_bias));
    h = nn::linear(tape, h, tape.param(b.qkv_weight), tape.param(b.qkv_bias));
    h = nn::attention(tape, h, offsets, std::size_t{config_.heads}, false);
    h = nn::linear(tape, h, tape.param(b.out_weight), tape.param(b.out_bias));
    x = nn::add(tape, x, nn::layer_norm(tape, h, tape.param(b.norm2_weight), tape.param(b.norm2_bias)));
    h = nn::layer_norm(tape, x, tape.param(b.norm3_weight), tape.param(b.norm3_bias));
    h = nn::linear(tape, h, tape.param(b.up_weight), tape.param(b.up_bias), act);
    h = nn::dropout(tape, h, config_.dropout);
    x = nn::linear(tape, h, tape.param(b.down_weight), tape.param(b.down_bias), nn::Activation::none, x);
  }
  return nn::linear(tape, x, tape.param(half.out_weight), tape.param(half.out_bias));
}

template <class T>
nn::Var<T> VqVae<T>::encode(nn::Tape<T>& tape, nn::Var<T> x, std::span<const std::int32_t> offsets) const {
  return run(tape, encoder_, x, offsets);
}

template <class T>
nn::Var<T> VqVae<T>::decode(nn::Tape<T>& tape, nn::Var<T> z, std::span<const std::int32_t> offsets) const {
  return run(tape, decoder_, z, offsets);
}

template <class T>
typename VqVae<T>::Loss VqVae<T>::loss(nn::Tape<T>& tape, std::span<const T> x, std::span<const std::int32_t> offsets, const nn::NearestCodes<T>& nearest,
                                       const VqVaeWeights& weights, double scale, bool train_codebook) const {
  const std::size_t rows = x.size() / kVqFeatures;
  Loss result;
  if (rows == 0) return result;
  const double per_latent = 1.0 / config_.latent, per_feature = 1.0 / kVqFeatures;
  nn::Var<T> z = encode(tape, tape.input(x.data(), rows, kVqFeatures), offsets);
  nn::Var<T> codes = train_codebook ? tape.param(codebook_) : tape.input(tape.values() + codebook_.offset, codebook_.rows, codebook_.width);
  const nn::QuantiserScales scales{scale * weights.commitment * per_latent, train_codebook ? scale * weights.codebook * per_latent : 0,
                                   train_codebook ? weights.sync : 0};
  const nn::Quantised<T> quantised = nn::quantise(tape, z, codes, nearest, scales, weights.estimator);
  result.latent = z;
  result.ids = quantised.ids;
  result.quantisation = quantised.squared_error * per_latent;
  result.reconstructed = decode(tape, quantised.value, offsets);
  result.reconstruction = nn::squared_error(tape, result.reconstructed, x, scale * per_feature) * per_feature;
  return result;
}

template class VqVae<float>;
template class VqVae<double>;

VqVaeCoder::VqVaeCoder(std::shared_ptr<const VqVae<float>> model)
    : model_(std::move(model)), packed_(model_->params(), nn::Precision::f32, nn::Use::inference) {
  Pool pool(1);
  packed_.update(pool, model_->params().values().data());
  const nn::Param& codebook = model_->codebook();
  nearest_.build(codebook.rows, codebook.width, model_->params().of(codebook).data());
}

template <class Use>
void VqVaeCoder::in_pieces(std::span<const std::uint64_t> offsets, const Use& use) const {
  constexpr std::size_t target = 2048;  // rows: enough for a matrix product, small enough for a cache
  std::unique_ptr<nn::Arena> arena;
  {
    const std::lock_guard guard(lock_);
    if (!arenas_.empty()) {
      arena = std::move(arenas_.back());
      arenas_.pop_back();
    }
  }
  if (!arena) arena = std::make_unique<nn::Arena>();
  std::vector<std::int32_t> local;
  const std::size_t jets = offsets.size() - 1;
  for (std::size_t first = 0; first < jets;) {
    std::size_t last = first + 1;
    while (last < jets && offsets[last + 1] - offsets[first] <= target) ++last;
    local.clear();
    for (std::size_t j = first; j <= last; ++j) local.push_back(static_cast<std::int32_t>(offsets[j] - offsets[first]));
    if (offsets[last] > offsets[first]) {
      arena->reset();
      use(static_cast<std::size_t>(offsets[first]), static_cast<std::size_t>(offsets[last]), std::span<const std::int32_t>(local), *arena);
    }
    first = last;
  }
  const std::lock_guard guard(lock_);
  arenas_.push_back(std::move(arena));
}

std::vector<std::int32_t> VqVaeCoder::encode(std::span<const float> x, std::span<const std::uint64_t> offsets) const {
  std::vector<std::int32_t> ids(x.size() / kVqFeatures);
  in_pieces(offsets, [&](std::size_t first, std::size_t last, std::span<const std::int32_t> local, nn::Arena& arena) {
    nn::Tape<float> tape(arena, model_->params());
    tape.use(&packed_);
    const nn::Var<float> z = model_->encode(tape, tape.input(x.data() + first * kVqFeatures, last - first, kVqFeatures), local);
    nearest_.find(last - first, z->value, ids.data() + first);
  });
  return ids;
}

std::vector<float> VqVaeCoder::latent(std::span<const float> x, std::span<const std::uint64_t> offsets) const {
  const std::size_t width = model_->config().latent;
  std::vector<float> out(x.size() / kVqFeatures * width);
  in_pieces(offsets, [&](std::size_t first, std::size_t last, std::span<const std::int32_t> local, nn::Arena& arena) {
    nn::Tape<float> tape(arena, model_->params());
    tape.use(&packed_);
    const nn::Var<float> z = model_->encode(tape, tape.input(x.data() + first * kVqFeatures, last - first, kVqFeatures), local);
    std::copy_n(z->value, (last - first) * width, out.data() + first * width);
  });
  return out;
}

std::vector<float> VqVaeCoder::decode(std::span<const std::int32_t> ids, std::span<const std::uint64_t> offsets) const {
  const nn::Param& codebook = model_->codebook();
  const std::span<const float> codes = model_->params().of(codebook);
  const std::size_t width = codebook.width;
  std::vector<float> out(ids.size() * kVqFeatures);
  in_pieces(offsets, [&](std::size_t first, std::size_t last, std::span<const std::int32_t> local, nn::Arena& arena) {
    auto* const z = arena.take<float>((last - first) * width);
    for (std::size_t i = first; i < last; ++i) std::copy_n(codes.data() + static_cast<std::size_t>(ids[i]) * width, width, z + (i - first) * width);
    nn::Tape<float> tape(arena, model_->params());
    tape.use(&packed_);
    const nn::Var<float> x = model_->decode(tape, tape.input(z, last - first, width), local);
    std::copy_n(x->value, (last - first) * kVqFeatures, out.data() + first * kVqFeatures);
  });
  return out;
}

}  // namespace bl::models
