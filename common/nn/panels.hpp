// The float product of inference, whose right factor has been laid out beforehand: y (rows, n) = x (rows, k) B, B (k, n) in
// panels of 32 columns.
//
// Row r of y is the same bits whatever other rows there are: scores do not depend on the batch, and one row costs one row.
// The elements are summed in the order of k, in blocks of 256, on every instruction set.
//
// Why a kernel of our own: libraries lay B out anew for each product, and sum few rows in another order than many, so that
// few had to be filled up to 48. Training has many rows and new weights in every step: there oneDNN is as fast or faster
// (bench/nn/README.md has the numbers).
#pragma once
#include <cstddef>

#include "nn/gemm.hpp"

namespace bl::nn {

// Floats that a (k, n) factor takes in panels; the columns after n are zero.
constexpr std::size_t panel_floats(std::size_t k, std::size_t n) { return (n + 31) / 32 * 32 * k; }

// op(b) (k, n) into panels of panel_floats(k, n); b is (n, k) in memory when tb == Trans::yes, ldb the distance of its rows.
void pack_panels(Trans tb, std::size_t k, std::size_t n, const float* b, std::size_t ldb, float* panels);

// y (rows, n) = x (rows, k) B, or y += … when accumulate. ldx and ldy are the distances of rows; x and y do not overlap.
void multiply_panels(std::size_t rows, std::size_t k, std::size_t n, const float* x, std::size_t ldx, const float* panels, float* y, std::size_t ldy,
                     bool accumulate);

}  // namespace bl::nn
