// Rows and columns of matrices: gather and scatter, segments (the rows offsets[s] … offsets[s + 1] - 1 of segment s: the
// tokens of a sequence, the edges of a token), concatenation.
// ids and offsets must outlive the tape. offsets (segments + 1) rise from 0 to the number of rows; a segment may be empty.
#pragma once
#include <cstdint>
#include <span>

#include "nn/tape.hpp"

namespace bl::nn {

// y[i] = x[ids[i]]. ids in [0, x->rows), repeats allowed.
template <class T>
Var<T> gather_rows(Tape<T>& tape, Var<T> x, std::span<const std::int32_t> ids);

// y (rows, width): y[ids[i]] += x[i], in the order of i; a row that no id names is zero. One id in [0, rows) for each
// row of x.
template <class T>
Var<T> scatter_add_rows(Tape<T>& tape, Var<T> x, std::span<const std::int32_t> ids, std::size_t rows);

// y (segments, width) of x (rows, width): mean, sum, or the largest element of each column (the first of equal ones gets
// the gradient; a NaN wins). Zero for an empty segment.
template <class T>
Var<T> segment_mean(Tape<T>& tape, Var<T> x, std::span<const std::int32_t> offsets);
template <class T>
Var<T> segment_sum(Tape<T>& tape, Var<T> x, std::span<const std::int32_t> offsets);
template <class T>
Var<T> segment_max(Tape<T>& tape, Var<T> x, std::span<const std::int32_t> offsets);

// Attention pooling: y[s] = Σ_r softmax_r(logits[r]) x[r], r over the rows of segment s. logits (rows, heads); head h
// weighs columns h d … (h + 1) d - 1 with d = width / heads. y (segments, width), zero for an empty segment.
template <class T>
Var<T> segment_softmax_sum(Tape<T>& tape, Var<T> x, Var<T> logits, std::span<const std::int32_t> offsets);

// y (rows, width) of x (segments, width): every row of segment s is x[s].
template <class T>
Var<T> broadcast_rows(Tape<T>& tape, Var<T> x, std::span<const std::int32_t> offsets);

// Side by side: parts (rows, width_p), y (rows, Σ width_p). One below the other: parts (rows_p, width), y (Σ rows_p, width).
// A part may appear twice.
template <class T>
Var<T> concat_columns(Tape<T>& tape, std::span<const Var<T>> parts);
template <class T>
Var<T> concat_rows(Tape<T>& tape, std::span<const Var<T>> parts);

// Columns first … first + width - 1 of x.
template <class T>
Var<T> slice_columns(Tape<T>& tape, Var<T> x, std::size_t first, std::size_t width);

}  // namespace bl::nn
