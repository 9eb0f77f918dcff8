#include "models/transformer.hpp"

#include "nn/ops/attention.hpp"
#include "nn/ops/elementwise.hpp"
#include "nn/ops/linear.hpp"
#include "nn/ops/norm.hpp"
#include "nn/ops/rows.hpp"

namespace bl::models {

using nn::Group;

template <class T>
Block add_block(nn::Params<T>& params, const std::string& prefix, const BlockConfig& config) {
  const std::size_t dim = config.dim, inner = dim * config.feed_forward;
  Block b;
  b.norm1_weight = params.add(prefix + "norm1/weight", 1, dim, Group::norm);
  b.norm1_bias = params.add(prefix + "norm1/bias", 1, dim, Group::norm);
  b.qkv_weight = params.add(prefix + "qkv/weight", 3 * dim, dim, Group::weight);
  b.qkv_bias = params.add(prefix + "qkv/bias", 1, 3 * dim, Group::bias);
  b.out_weight = params.add(prefix + "out/weight", dim, dim, Group::weight);
  b.out_bias = params.add(prefix + "out/bias", 1, dim, Group::bias);
  b.norm2_weight = params.add(prefix + "norm2/weight", 1, dim, Group::norm);
  b.norm2_bias = params.add(prefix + "norm2/bias", 1, dim, Group::norm);
  b.up_weight = params.add(prefix + "up/weight", inner, dim, Group::weight);
  b.up_bias = params.add(prefix + "up/bias", 1, inner, Group::bias);
  b.down_weight = params.add(prefix + "down/weight", dim, inner, Group::weight);
  b.down_bias = params.add(prefix + "down/bias", 1, dim, Group::bias);
  return b;
}

template <class T>
void init_norms(nn::Params<T>& params) {
  for (const nn::ParamInfo& p : params.list())
    if (p.group == Group::norm && p.name.ends_with("/weight")) params.fill(p.at, T{1});
}

template <class T>
nn::Var<T> transform(nn::Tape<T>& tape, nn::Var<T> x, const Block& block, const BlockConfig& config, std::span<const std::int32_t> offsets,
                     std::span<const std::int32_t> rows) {
  // x + dropout(W h + b); without dropout in one op.
  const auto branch = [&](nn::Var<T> h, const nn::Param& weight, const nn::Param& bias) {
    if (config.dropout == 0 || !tape.training()) return nn::linear(tape, h, tape.param(weight), tape.param(bias), nn::Activation::none, x);
    return nn::add(tape, x, nn::dropout(tape, nn::linear(tape, h, tape.param(weight), tape.param(bias)), config.dropout));
  };
  nn::Var<T> h = nn::layer_norm(tape, x, tape.param(block.norm1_weight), tape.param(block.norm1_bias));
  h = nn::linear(tape, h, tape.param(block.qkv_weight), tape.param(block.qkv_bias));
  h = nn::attention(tape, h, offsets, std::size_t{config.heads}, config.causal);
  if (!rows.empty()) {
    h = nn::gather_rows(tape, h, rows);
    x = nn::gather_rows(tape, x, rows);
  }
  x = branch(h, block.out_weight, block.out_bias);
  h = nn::layer_norm(tape, x, tape.param(block.norm2_weight), tape.param(block.norm2_bias));
  h = nn::linear(tape, h, tape.param(block.up_weight), tape.param(block.up_bias), config.activation);
  return branch(h, block.down_weight, block.down_bias);
}

#define BEAMLINE_INSTANTIATE(T)                                                     \
  template Block add_block(nn::Params<T>&, const std::string&, const BlockConfig&); \
  template void init_norms(nn::Params<T>&);                                         \
  template nn::Var<T> transform(nn::Tape<T>&, nn::Var<T>, const Block&, const BlockConfig&, std::span<const std::int32_t>, std::span<const std::int32_t>);
BEAMLINE_INSTANTIATE(float)
BEAMLINE_INSTANTIATE(double)
#undef BEAMLINE_INSTANTIATE

}  // namespace bl::models
