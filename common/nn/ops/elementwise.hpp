// Element by element: sum, activations, gates, scales, and what training drops. x, y (rows, width).
#pragma once
#include <cstdint>
#include <span>

#include "nn/kernels.hpp"
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

// Stochastic depth (Huang et al., arXiv:1603.09382), for a residual branch: all rows of a sequence become zero with
// probability p (a multiple of 2^-16), else they are divided by 1 - p. The fate of sequence s is that of element s of a
// dropout. offsets (sequences + 1) rise from 0 to x->rows and must outlive the tape. At inference, or with p == 0, x itself.
template <class T>
Var<T> stochastic_depth(Tape<T>& tape, Var<T> x, std::span<const std::int32_t> offsets, double p);

// y = act(x); x itself for Activation::none. An activation after a matrix product is cheaper inside linear().
template <class T>
Var<T> activation(Tape<T>& tape, Var<T> x, Activation act);

// y = x · act(g), x and g (rows, width): a product (none), a gate (sigmoid), SwiGLU (silu).
template <class T>
Var<T> gate(Tape<T>& tape, Var<T> x, Var<T> g, Activation act = Activation::none);

// Layer scale (Touvron et al., arXiv:2103.17239): y = x · gamma. gamma (1, width).
template <class T>
Var<T> layer_scale(Tape<T>& tape, Var<T> x, Var<T> gamma);

// FiLM (Perez et al., arXiv:1709.07871): y = x · (1 + scale) + shift. scale and shift have one row for each row of x, or
// with offsets (sequences + 1, rising from 0 to x->rows, outliving the tape) one row for each sequence.
template <class T>
Var<T> film(Tape<T>& tape, Var<T> x, Var<T> scale, Var<T> shift, std::span<const std::int32_t> offsets = {});

}  // namespace bl::nn
