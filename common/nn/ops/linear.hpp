// y = act(x Wᵀ + b) + residual. x (rows, in), W (out, in), b (1, out) or none, y and residual (rows, out).
// Gated linear units: y = (x Vᵀ + b) · act(x Gᵀ + c), W = V above G (2 out, in), biases b | c (1, 2 out) or none.
#pragma once
#include "nn/kernels.hpp"
#include "nn/tape.hpp"

namespace bl::nn {

// A residual is only possible without activation: its gradient is that of y as it stands.
template <class T>
Var<T> linear(Tape<T>& tape, Var<T> x, Var<T> w, Var<T> b, Activation act = Activation::none, Var<T> residual = nullptr);

// Activation::sigmoid is the GLU of Dauphin et al. (arXiv:1612.08083), relu, gelu and silu are ReGLU, GEGLU and SwiGLU of
// Shazeer (arXiv:2002.05202), none is the bilinear layer. The halves are in the order of PyTorch's F.glu.
template <class T>
Var<T> gated_linear(Tape<T>& tape, Var<T> x, Var<T> w, Var<T> b, Activation act);

}  // namespace bl::nn
