// Packed multi-head self-attention: sequence after sequence in one matrix, no padding; head h of a sequence is
//   O = softmax(Q Kᵀ / sqrt(d) + B) V,   d = dim / heads.
// qkv (tokens, 3 dim): a row is query | key | value, each of `heads` blocks of d numbers; output (tokens, dim).
// bias (pairs, heads) or none: row of the pair (i, j) of a sequence of n tokens is its first pair + i n + j, and
// pairs = Σ n². Events have 5 to 25 tokens: a (sequence, head) is one tile in L1, its rows cut into registers; the
// probabilities are not kept but made again from their log-sum-exp (Dao et al., arXiv:2205.14135).
#pragma once
#include <cstdint>
#include <span>

#include "nn/tape.hpp"

namespace bl::nn {

struct AttentionShape {
  std::span<const std::int32_t> offsets;  // (sequences + 1), rising from 0 to the number of tokens
  std::size_t heads = 1, dim = 1;
  bool causal = false;  // token i sees tokens 0 … i only
  std::size_t longest() const;
  std::size_t pairs() const;
};

// Numbers of working memory that forward or backward need.
template <class T>
std::size_t attention_scratch(const AttentionShape& shape);

// lse (tokens, heads): log-sum-exp of each row of scores, for the backward.
template <class T>
void attention_forward(const AttentionShape& shape, const T* qkv, const T* bias, T* out, T* lse, T* scratch);
// dbias may be null, else it is added to.
template <class T>
void attention_backward(const AttentionShape& shape, const T* qkv, const T* bias, const T* lse, const T* dout, T* dqkv, bool accumulate, T* dbias, T* scratch);

// offsets must outlive the tape.
template <class T>
Var<T> attention(Tape<T>& tape, Var<T> qkv, std::span<const std::int32_t> offsets, std::size_t heads, bool causal, Var<T> bias = nullptr);

}  // namespace bl::nn
