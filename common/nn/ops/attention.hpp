// Packed multi-head attention: sequence after sequence in one matrix, no padding; head h of a sequence is
//   O = softmax(Q Kᵀ / sqrt(d) + B) V,   d = dim / heads,
// where a query may be kept from seeing a key: that pair has probability zero, and a query that sees no key gives zeros
// and no gradient. Self-attention takes queries, keys and values from the same tokens, cross-attention the queries of
// sequence s from its own tokens and the keys and values from those of sequence s of another packed matrix.
//
// bias (pairs, heads) or none: row of the pair (query i, key j) of a sequence with m keys is its first pair + i m + j;
// pairs = Σ queries · keys. Events have 5 to 25 tokens: a (sequence, head) is one tile in L1, its rows cut into registers.
// Longer sequences are worked on in blocks of queries, and what causal attention cannot see is skipped. The probabilities
// are not kept but made again from their log-sum-exp (Dao et al., arXiv:2205.14135).
#pragma once
#include <cstdint>
#include <span>

#include "nn/tape.hpp"

namespace bl::nn {

// Which keys can be seen; a null pointer hides nothing. 1 = visible, 0 = hidden. The numbers of hidden tokens must be
// finite all the same. Must outlive the tape.
struct AttentionMask {
  const std::uint8_t* keys = nullptr;   // one flag per key, for all queries of its sequence
  const std::uint8_t* pairs = nullptr;  // one flag per pair, in the order of the bias
};

struct AttentionShape {
  std::span<const std::int32_t> offsets;  // (sequences + 1), rising from 0 to the number of queries
  std::size_t heads = 1, dim = 1;
  bool causal = false;                          // token i sees tokens 0 … i only; self-attention only
  std::span<const std::int32_t> key_offsets{};  // of keys and values; empty: self-attention
  AttentionMask mask{};
  std::size_t pairs() const;
};

// Where the numbers are: rows of d numbers per head, `heads` of them side by side; a stride is the distance of rows.
template <class T>
struct AttentionInput {
  const T* q = nullptr;
  std::size_t q_stride = 0;
  const T *k = nullptr, *v = nullptr;
  std::size_t kv_stride = 0;
  const T* bias = nullptr;
};
// The same places for gradients. dbias may be null, else it is added to.
template <class T>
struct AttentionGradient {
  T *q = nullptr, *k = nullptr, *v = nullptr;
  bool accumulate_q = false, accumulate_kv = false;
  T* bias = nullptr;
};

// Numbers of working memory that forward or backward need.
template <class T>
std::size_t attention_scratch(const AttentionShape& shape);

// out (queries, dim). lse (queries, heads): log-sum-exp of each row of scores, for the backward.
template <class T>
void attention_forward(const AttentionShape& shape, const AttentionInput<T>& in, T* out, T* lse, T* scratch);
template <class T>
void attention_backward(const AttentionShape& shape, const AttentionInput<T>& in, const T* lse, const T* dout, const AttentionGradient<T>& grad, T* scratch);

// qkv (tokens, 3 dim), a row is query | key | value. Offsets must outlive the tape.
template <class T>
Var<T> attention(Tape<T>& tape, Var<T> qkv, std::span<const std::int32_t> offsets, std::size_t heads, bool causal, Var<T> bias = nullptr,
                 AttentionMask mask = {});
// q (queries, dim), kv (keys, 2 dim): a row is key | value. Both offsets have one entry per sequence and one more.
template <class T>
Var<T> cross_attention(Tape<T>& tape, Var<T> q, Var<T> kv, std::span<const std::int32_t> offsets, std::span<const std::int32_t> key_offsets, std::size_t heads,
                       Var<T> bias = nullptr, AttentionMask mask = {});

}  // namespace bl::nn
