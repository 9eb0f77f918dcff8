// Rows of a matrix: y[i] = x[ids[i]]; y[s] = mean of the rows offsets[s] … offsets[s + 1] - 1 (zero for an empty segment).
#pragma once
#include <cstdint>
#include <span>

#include "nn/tape.hpp"

namespace bl::nn {

// ids in [0, x->rows), repeats allowed; the memory must outlive the tape.
template <class T>
Var<T> gather_rows(Tape<T>& tape, Var<T> x, std::span<const std::int32_t> ids);

// offsets (segments + 1), rising from 0 to x->rows; the memory must outlive the tape.
template <class T>
Var<T> segment_mean(Tape<T>& tape, Var<T> x, std::span<const std::int32_t> offsets);

}  // namespace bl::nn
