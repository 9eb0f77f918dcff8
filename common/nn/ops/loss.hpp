// Losses. Each returns the sum over its rows, and adds scale · that sum to what tape.backward() differentiates: with
// several terms, or shards of one batch, the scale is 1 / (all rows) times the term's weight, known before the forward.
#pragma once
#include <cstdint>
#include <span>

#include "nn/tape.hpp"

namespace bl::nn {

// Σ_r -log softmax(logits[r])[targets[r]]. logits (rows, classes); targets in [0, classes).
template <class T>
double cross_entropy(Tape<T>& tape, Var<T> logits, std::span<const std::int32_t> targets, double scale);

// The same of logits = x Wᵀ + b, which are never held all at once: they are made, and in training differentiated, in
// chunks of rows. x (rows, width), W (classes, width), b (1, classes) or none. log_probability (rows) receives
// log softmax(logits[r])[targets[r]] when not empty.
template <class T>
double linear_cross_entropy(Tape<T>& tape, Var<T> x, Var<T> w, Var<T> b, std::span<const std::int32_t> targets, double scale,
                            std::span<T> log_probability = {});
// Rows of one chunk: at most about a MiB of float logits, at least 16 rows.
std::size_t cross_entropy_chunk(std::size_t classes);

// Σ (prediction - target)². prediction, target (rows, width); the target must outlive the tape.
template <class T>
double squared_error(Tape<T>& tape, Var<T> prediction, std::span<const T> target, double scale);

}  // namespace bl::nn
