// The one matrix product of the engine. float runs on oneDNN where it was found, else on Eigen; double on Eigen.
// Single-threaded: the pool above splits the work, so a result never depends on the number of threads.
#pragma once
#include <cstddef>

namespace bl::nn {

enum class Trans : bool { no, yes };

// C (m, n) = op(A) (m, k) · op(B) (k, n), or C += … when accumulate. All row-major; lda, ldb, ldc are the distances of
// rows in memory. op(A) is A, or its transpose when ta == Trans::yes (A is then (k, m) in memory).
void gemm(Trans ta, Trans tb, std::size_t m, std::size_t n, std::size_t k, const float* a, std::size_t lda, const float* b, std::size_t ldb, float* c,
          std::size_t ldc, bool accumulate);
void gemm(Trans ta, Trans tb, std::size_t m, std::size_t n, std::size_t k, const double* a, std::size_t lda, const double* b, std::size_t ldb, double* c,
          std::size_t ldc, bool accumulate);

// "oneDNN 2.6.3" or "Eigen 3.4.0": what the float product runs on, for logs and benchmarks.
const char* gemm_backend();

}  // namespace bl::nn
