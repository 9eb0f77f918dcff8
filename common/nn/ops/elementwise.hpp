// y = a + b; y = dropout(x). All (rows, width).
#pragma once
#include "nn/tape.hpp"

namespace bl::nn {

template <class T>
Var<T> add(Tape<T>& tape, Var<T> a, Var<T> b);

// y = x · keep / (1 - p), where keep is 0 with probability p (a multiple of 2^-16). Element i is decided by 16 bits of
// Philox4x32-10 with key `seed` and counter (i / 8, op, shard, step): no state, the backward draws the same bits again.
// accumulate: y += …
template <class T>
void dropout_apply(std::size_t n, const T* x, double p, const RandomState& random, T* y, bool accumulate);
// At inference, or with p == 0, x itself.
template <class T>
Var<T> dropout(Tape<T>& tape, Var<T> x, double p);

}  // namespace bl::nn
