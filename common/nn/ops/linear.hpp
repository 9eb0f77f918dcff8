// y = act(x Wᵀ + b) + residual. x (rows, in), W (out, in), b (1, out) or none, y and residual (rows, out).
// Gated linear units: y = (x Vᵀ + b) · act(x Gᵀ + c), W = V above G (2 out, in), biases b | c (1, 2 out) or none.
#pragma once
#include "nn/kernels.hpp"
#include "nn/tape.hpp"

namespace bl::nn {

// slope (rows, out): act'(x Wᵀ + b), kept for the backward; null at inference, or without activation.
template <class T>
void linear_forward(std::size_t rows, std::size_t in, std::size_t out, const T* x, const T* w, const T* b, Activation act, const T* residual, T* y, T* slope);
// dy is overwritten by d loss / d (x Wᵀ + b). dx, dw, db may be null; dw and db are added to.
template <class T>
void linear_backward(std::size_t rows, std::size_t in, std::size_t out, const T* x, const T* w, const T* slope, T* dy, T* dx, bool accumulate_dx, T* dw, T* db);

// A residual is only possible without activation: its gradient is that of y as it stands.
template <class T>
Var<T> linear(Tape<T>& tape, Var<T> x, Var<T> w, Var<T> b, Activation act = Activation::none, Var<T> residual = nullptr);

// slopes (rows, 2 out): working memory; afterwards, when `keep`, d y / d (x Wᵀ + b) of both halves for the backward.
template <class T>
void gated_linear_forward(std::size_t rows, std::size_t in, std::size_t out, const T* x, const T* w, const T* b, Activation act, T* y, T* slopes, bool keep);
// slopes are overwritten by d loss / d (x Wᵀ + b). dx, dw, db may be null; dw and db are added to.
template <class T>
void gated_linear_backward(std::size_t rows, std::size_t in, std::size_t out, const T* x, const T* w, T* slopes, const T* dy, T* dx, bool accumulate_dx, T* dw,
                           T* db);

// Activation::sigmoid is the GLU of Dauphin et al. (arXiv:1612.08083), relu, gelu and silu are ReGLU, GEGLU and SwiGLU of
// Shazeer (arXiv:2002.05202), none is the bilinear layer. The halves are in the order of PyTorch's F.glu.
template <class T>
Var<T> gated_linear(Tape<T>& tape, Var<T> x, Var<T> w, Var<T> b, Activation act);

}  // namespace bl::nn
