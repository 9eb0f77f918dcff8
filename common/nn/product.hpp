// The three products of a layer with weights W (out, in), for ops: y = x Wᵀ, dx = dy W, dW += dyᵀ x. In bf16 where
// the tape has such weights. At inference (laid out where the tape has them so) a row of y does not depend on the others.
#pragma once
#include "nn/packed.hpp"
#include "nn/tape.hpp"

namespace bl::nn {

template <class T>
class Product {
 public:
  Product(Tape<T>& tape, Var<T> w);

  // y (rows, out) = x (rows, in) Wᵀ. x, and in bf16 its rounded copy, is kept for the backward; release() gives the copy
  // back, in training as at inference.
  struct Kept {
    const T* x = nullptr;
    T* rounded = nullptr;  // memory of Bf16s
    std::size_t rows = 0;
  };
  Kept forward(std::size_t rows, const T* x, T* y) const;
  // dy (rows, out). dx and dw may be null; dw is added to, dx where accumulate says so.
  void backward(const Kept& kept, const T* dy, T* dx, bool accumulate, T* dw) const;
  void release(const Kept& kept) const;

 private:
  Tape<T>* tape_;
  const T* w_;
  std::size_t out_, in_;
  const PackedMatrix* packed_ = nullptr;
};

}  // namespace bl::nn
