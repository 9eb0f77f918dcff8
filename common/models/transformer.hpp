// The block that all our transformers are made of, after GPT-2 (Radford et al. 2019): layer norm, attention and residual,
// then layer norm, feed-forward and residual. Sequences are packed: matrices (tokens, width) without padding, and offsets.
#pragma once
#include <cstdint>
#include <span>
#include <string>

#include "nn/kernels.hpp"
#include "nn/params.hpp"
#include "nn/tape.hpp"

namespace bl::models {

struct BlockConfig {
  std::uint32_t dim = 0, heads = 0, feed_forward = 0;  // feed_forward: inner width in units of dim
  nn::Activation activation = nn::Activation::gelu;
  double dropout = 0;  // of each branch before it is added
  bool causal = false;
};

// The parameters of one block.
struct Block {
  nn::Param norm1_weight, norm1_bias, qkv_weight, qkv_bias, out_weight, out_bias;
  nn::Param norm2_weight, norm2_bias, up_weight, up_bias, down_weight, down_bias;
};

// Adds a block's parameters by the names `prefix`norm1/weight, …qkv/weight (3 dim, dim), and so on.
template <class T>
Block add_block(nn::Params<T>& params, const std::string& prefix, const BlockConfig& config);

// All weights of normalisations are 1; everything else is left as it is. After allocate().
template <class T>
void init_norms(nn::Params<T>& params);

// x (tokens, dim) of the sequences that `offsets` divides -> (tokens, dim), or (rows, dim) where only some rows are asked
// for: keys and values come from all of them, the rest is worked out for those alone.
template <class T>
nn::Var<T> transform(nn::Tape<T>& tape, nn::Var<T> x, const Block& block, const BlockConfig& config, std::span<const std::int32_t> offsets,
                     std::span<const std::int32_t> rows = {});

}  // namespace bl::models
