// Layer norm (Ba et al., arXiv:1607.06450): y = (x - mean) / sqrt(var + epsilon) · weight + bias, over the width of a row.
// RMS norm (Zhang & Sennrich, arXiv:1910.07467): y = x / sqrt(mean(x²) + epsilon) · weight.
// x, y (rows, width); weight, bias (1, width).
#pragma once
#include "nn/tape.hpp"

namespace bl::nn {

inline constexpr double norm_epsilon = 1e-5;

// mean, rstd (rows): kept for the backward.
template <class T>
void layer_norm_forward(std::size_t rows, std::size_t width, const T* x, const T* weight, const T* bias, T* y, T* mean, T* rstd);
// dx may be null; dweight and dbias are added to.
template <class T>
void layer_norm_backward(std::size_t rows, std::size_t width, const T* x, const T* weight, const T* mean, const T* rstd, const T* dy, T* dx, bool accumulate_dx,
                         T* dweight, T* dbias);
template <class T>
Var<T> layer_norm(Tape<T>& tape, Var<T> x, Var<T> weight, Var<T> bias);

template <class T>
void rms_norm_forward(std::size_t rows, std::size_t width, const T* x, const T* weight, T* y, T* rstd);
template <class T>
void rms_norm_backward(std::size_t rows, std::size_t width, const T* x, const T* weight, const T* rstd, const T* dy, T* dx, bool accumulate_dx, T* dweight);
template <class T>
Var<T> rms_norm(Tape<T>& tape, Var<T> x, Var<T> weight);

}  // namespace bl::nn
