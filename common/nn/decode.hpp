// What generation needs beside products: attention of one new token over the keys and values of those before it, which
// are kept (the "KV cache"), and the weights from which the next token is drawn.
#pragma once
#include <cstddef>

namespace bl::nn {

// The cache of one sequence in one layer: keys and values of up to `positions` tokens, in blocks of 16 tokens with all
// heads side by side, so that what is there is read in one sweep. Of a block, the keys of a head are stored across, so that
// the scores of 16 tokens are one vector.
struct CacheShape {
  std::size_t heads = 1, head_dim = 1, positions = 1;
  std::size_t padded() const { return (positions + 15) / 16 * 16; }
  // Floats of the keys, and of the values. Both start as zeros; what an earlier sequence left behind does no harm.
  std::size_t floats() const { return heads * head_dim * padded(); }
  std::size_t scratch() const { return heads * padded(); }
};

// qkv: query | key | value (heads · head_dim each) of token number n - 1. Appends its key and value, and writes
//   out = softmax(q K^T / sqrt(head_dim)) V over all n <= positions tokens, heads side by side.
// scratch: shape.scratch() floats. The same bits whatever else is worked on.
void attend_cached(const CacheShape& shape, std::size_t n, const float* qkv, float* keys, float* values, float* out, float* scratch);

// weights[i] = exp((logits[i] - m) · inverse_temperature), m the largest logit; sums[b] their sum in block b of 64.
void sampling_weights(std::size_t n, const float* logits, float inverse_temperature, float* weights, float* sums);
constexpr std::size_t sampling_block = 64;

}  // namespace bl::nn
