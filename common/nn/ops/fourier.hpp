// Fourier features of continuous inputs (Tancik et al., arXiv:2006.10739): y = sin(2π B x) | cos(2π B x).
// x (rows, in), B (features, in) in turns per unit of x, y (rows, 2 features). B is a constant (Tape::input), or a
// parameter when the frequencies are to be learned. Gradients go to both.
#pragma once
#include <vector>

#include "nn/tape.hpp"

namespace bl::nn {

template <class T>
void fourier_forward(std::size_t rows, std::size_t in, std::size_t features, const T* x, const T* b, T* y);
// dt (rows, features): working memory. dx and db may be null; db is added to.
template <class T>
void fourier_backward(std::size_t rows, std::size_t in, std::size_t features, const T* x, const T* b, const T* y, const T* dy, T* dt, T* dx, bool accumulate_dx,
                      T* db);
template <class T>
Var<T> fourier_features(Tape<T>& tape, Var<T> x, Var<T> frequencies);

// B of `each` frequencies for each of `in` inputs alone, from `lowest` to `highest` turns per unit at equal ratios (one
// frequency: the lowest): (in · each, in).
template <class T>
std::vector<T> axis_frequencies(std::size_t in, std::size_t each, double lowest, double highest);
// B (width / 2, 1) of the sinusoidal positions of Vaswani et al. (arXiv:1706.03762): of a rank p they give
// sin(p / base^(2i / width)) for all i, then the cosines, so `width` features, which is even.
template <class T>
std::vector<T> position_frequencies(std::size_t width, double base = 10000);

}  // namespace bl::nn
