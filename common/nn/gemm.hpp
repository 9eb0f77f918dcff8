// The matrix products of the engine. Single-threaded: the pool above splits the work, so that a result never depends on the
// number of threads.
#pragma once
#include <cstddef>

namespace bl::nn {

enum class Trans : bool { no, yes };

// For training: float on oneDNN where it was found, else on kernels of our own (A plain) and Eigen (A transposed); double on
// Eigen.
// C (m, n) = op(A) (m, k) · op(B) (k, n), or C += … when accumulate. All row-major; lda, ldb, ldc are the distances of
// rows in memory. op(A) is A, or its transpose when ta == Trans::yes (A is then (k, m) in memory).
void gemm(Trans ta, Trans tb, std::size_t m, std::size_t n, std::size_t k, const float* a, std::size_t lda, const float* b, std::size_t ldb, float* c,
          std::size_t ldc, bool accumulate);
void gemm(Trans ta, Trans tb, std::size_t m, std::size_t n, std::size_t k, const double* a, std::size_t lda, const double* b, std::size_t ldb, double* c,
          std::size_t ldc, bool accumulate);

// For inference: C (m, n) = A (m, k) · op(B), where a row of C is the same bits whatever other rows there are, so that a
// score does not depend on the batch. For weights that stay the same nn/panels.hpp saves the laying out of B.
void gemm_rows(Trans tb, std::size_t m, std::size_t n, std::size_t k, const float* a, std::size_t lda, const float* b, std::size_t ldb, float* c,
               std::size_t ldc, bool accumulate);
inline void gemm_rows(Trans tb, std::size_t m, std::size_t n, std::size_t k, const double* a, std::size_t lda, const double* b, std::size_t ldb, double* c,
                      std::size_t ldc, bool accumulate) {
  gemm(Trans::no, tb, m, n, k, a, lda, b, ldb, c, ldc, accumulate);
}

// "oneDNN 2.6.3" or "Eigen 3.4.0": what the float product of training runs on, for logs and benchmarks.
const char* gemm_backend();

}  // namespace bl::nn
