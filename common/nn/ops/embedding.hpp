// y[r] = Σ_t table_t[ids_t[r]]: token + position + type in one pass. table_t (entries_t, width), ids_t (rows), y (rows, width).
#pragma once
#include <cstdint>
#include <span>

#include "nn/tape.hpp"

namespace bl::nn {

template <class T>
struct Lookup {
  Var<T> table = nullptr;
  const std::int32_t* ids = nullptr;  // each in [0, table->rows): the caller has checked that; must outlive the tape
};

template <class T>
void embedding_forward(std::size_t rows, std::span<const Lookup<T>> lookups, T* y);
// Adds to the gradients of those tables that want one.
template <class T>
void embedding_backward(Tape<T>& tape, std::size_t rows, std::span<const Lookup<T>> lookups, const T* dy);
template <class T>
Var<T> embedding(Tape<T>& tape, std::size_t rows, std::span<const Lookup<T>> lookups);

}  // namespace bl::nn
