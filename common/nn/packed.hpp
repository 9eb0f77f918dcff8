// The weights of products, rounded and laid out once a step by all threads together, then only read. With them comes the
// precision of the products, so that nothing global decides on the bits of a result.
//
// f32: for inference in panels (nn/panels.hpp); for training nothing, as there oneDNN lays out weights in each product at no
// loss.
// bf16: both factors of a product are rounded to bfloat16, the sums are made in float, and the weights themselves (the "master
// weights" of Micikevicius et al., arXiv:1710.03740), gradients, optimiser and everything between two products stay
// float. On a CPU without bf16 instructions the rounded factors are multiplied as floats: as right, but slower than f32
// altogether.
//
// oneDNN makes a small list of arguments for each product, so that a step in bf16 is not free of allocations as in f32.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/pool.hpp"
#include "nn/bf16.hpp"
#include "nn/params.hpp"

namespace bl::nn {

enum class Precision : std::uint8_t { f32, bf16 };
Precision precision_named(std::string_view name);  // "f32" or "bf16"; Exit::usage otherwise
std::string_view name_of(Precision precision);

// What a product in this precision runs on, e.g. "oneDNN 2.6.3, bf16 on AMX", for logs and benchmarks.
std::string product_backend(Precision precision);

// A matrix of bf16 has this many rows in memory, those after `rows` zero: sums over rows then need no rest.
constexpr std::size_t bf16_rows(std::size_t rows) { return (rows + 63) / 64 * 64; }
// x (rows, width) rounded into y (bf16_rows(rows), width), the further rows zeroed.
void to_bf16_matrix(std::size_t rows, std::size_t width, const float* x, Bf16* y);

enum class Use : std::uint8_t { inference, training };

// W (out, in), laid out. Products may be made by several threads at once, not during update().
class PackedMatrix {
 public:
  PackedMatrix(std::size_t out, std::size_t in, Precision precision, Use use);
  ~PackedMatrix();
  PackedMatrix(PackedMatrix&&) noexcept;

  Precision precision() const;
  void update(const float* w);
  // y (rows, out) = x (rows, in) Wᵀ; of bf16 x has bf16_rows(rows) rows, as has dy.
  void forward(std::size_t rows, const float* x, float* y) const;
  void forward(std::size_t rows, const Bf16* x, float* y) const;
  // dx (rows, in) = dy (…, out) W, or dx += … when accumulate
  void backward(std::size_t rows, const Bf16* dy, float* dx, bool accumulate) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// dw (out, in) += dyᵀ x, dy (bf16_rows(rows), out), x (bf16_rows(rows), in).
void add_outer(std::size_t out, std::size_t in, std::size_t rows, const Bf16* dy, const Bf16* x, float* dw);

// All matrices among a model's parameters of group `weight`; for training in f32 none.
class PackedWeights {
 public:
  PackedWeights(const Params<float>& params, Precision precision, Use use);
  // From the values of a step; every matrix is one task.
  void update(Pool& pool, const float* values);
  Precision precision() const { return precision_; }
  // The matrix that starts at `offset` of the block; nullptr when there is none.
  const PackedMatrix* find(std::size_t offset) const;

 private:
  struct Entry {
    std::size_t offset;
    PackedMatrix matrix;
  };
  Precision precision_;
  std::vector<Entry> entries_;  // by offset
};

}  // namespace bl::nn
