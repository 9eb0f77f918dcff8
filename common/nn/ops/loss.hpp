// Losses. Each returns the sum over its rows, and adds scale · that sum to what tape.backward() differentiates: with
// several terms, or shards of one batch, the scale is 1 / (all rows) times the term's weight, known before the forward.
#pragma once
#include <cstdint>
#include <span>

#include "nn/tape.hpp"

namespace bl::nn {

// Label smoothing (Szegedy et al., arXiv:1512.00567) and class weights. With both, and C classes, a row of target t costs
//   -(1 - s) w_t log p_t - s / C Σ_c w_c log p_c,   as in PyTorch's cross_entropy; its mean divides by Σ_r w_(t_r).
template <class T>
struct ClassTargets {
  double smoothing = 0;          // s in [0, 1)
  std::span<const T> weights{};  // w (classes) >= 0; empty: 1. Must outlive the call only
};

// Σ_r -log softmax(logits[r])[targets[r]]. logits (rows, classes); targets in [0, classes).
template <class T>
double cross_entropy(Tape<T>& tape, Var<T> logits, std::span<const std::int32_t> targets, double scale, const ClassTargets<T>& options = {});

// The same of logits = x Wᵀ + b, which are never held all at once: they are made, and in training differentiated, in
// chunks of rows. x (rows, width), W (classes, width), b (1, classes) or none. log_probability (rows) receives
// log softmax(logits[r])[targets[r]] when not empty, whatever the options.
template <class T>
double linear_cross_entropy(Tape<T>& tape, Var<T> x, Var<T> w, Var<T> b, std::span<const std::int32_t> targets, double scale, std::span<T> log_probability = {},
                            const ClassTargets<T>& options = {});
// Rows of one chunk: about a MiB of float logits, but 384 to 512 rows: products of fewer are slower by more than a cache wins.
std::size_t cross_entropy_chunk(std::size_t classes);

// Regression: Σ_i w_i ρ(prediction_i - target_i) over all elements, ρ(d) = d², |d|, or the Huber loss (Huber 1964;
// PyTorch's huber_loss): d² / 2 for |d| <= delta, delta (|d| - delta / 2) beyond; delta > 0. prediction (rows, width), target
// and weights of the same size; weights empty: 1. Target and weights must outlive the tape. At d = 0 the slope of |d| is 0.
template <class T>
double squared_error(Tape<T>& tape, Var<T> prediction, std::span<const T> target, double scale, std::span<const T> weights = {});
template <class T>
double absolute_error(Tape<T>& tape, Var<T> prediction, std::span<const T> target, double scale, std::span<const T> weights = {});
template <class T>
double huber_loss(Tape<T>& tape, Var<T> prediction, std::span<const T> target, double delta, double scale, std::span<const T> weights = {});

}  // namespace bl::nn
