#include "nn/gemm.hpp"

#include <Eigen/Core>

#include <algorithm>
#include <new>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "nn/onednn.hpp"
#include "nn/panels.hpp"
#ifdef BEAMLINE_HAVE_DNNL
#include <dlfcn.h>
#include <dnnl.h>
#include <sys/mman.h>
#endif

namespace bl::nn {
namespace {

template <class T>
using Matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
template <class T>
using In = Eigen::Map<const Matrix<T>, 0, Eigen::OuterStride<>>;
template <class T>
using Out = Eigen::Map<Matrix<T>, 0, Eigen::OuterStride<>>;

using Index = Eigen::Index;

// noalias: without it Eigen makes a temporary of every product.
template <class T>
void gemm_eigen(Trans ta, Trans tb, std::size_t m, std::size_t n, std::size_t k, const T* a, std::size_t lda, const T* b, std::size_t ldb, T* c,
                std::size_t ldc, bool accumulate) {
  const bool at = ta == Trans::yes, bt = tb == Trans::yes;
  const In<T> A(a, static_cast<Index>(at ? k : m), static_cast<Index>(at ? m : k), Eigen::OuterStride<>(static_cast<Index>(lda)));
  const In<T> B(b, static_cast<Index>(bt ? n : k), static_cast<Index>(bt ? k : n), Eigen::OuterStride<>(static_cast<Index>(ldb)));
  Out<T> C(c, static_cast<Index>(m), static_cast<Index>(n), Eigen::OuterStride<>(static_cast<Index>(ldc)));
  if (!accumulate) C.setZero();
  if (at && bt) C.noalias() += A.transpose() * B.transpose();
  else if (at) C.noalias() += A.transpose() * B;
  else if (bt) C.noalias() += A * B.transpose();
  else C.noalias() += A * B;
}

}  // namespace

#ifdef BEAMLINE_HAVE_DNNL
// Which OpenMP runtime it is (GNU, LLVM, none) depends on the package, so the symbol is looked up.
void onednn::one_thread() {
  thread_local const bool done = [] {
    if (void* symbol = dlsym(RTLD_DEFAULT, "omp_set_num_threads")) reinterpret_cast<void (*)(int)>(symbol)(1);
    return true;
  }();
  static_cast<void>(done);
}

namespace {

dnnl_dim_t dim(std::size_t x) { return static_cast<dnnl_dim_t>(x); }

void sgemm(Trans ta, Trans tb, std::size_t m, std::size_t n, std::size_t k, const float* a, std::size_t lda, const float* b, std::size_t ldb, float* c,
           std::size_t ldc, bool accumulate) {
  const dnnl_status_t status = dnnl_sgemm(ta == Trans::yes ? 'T' : 'N', tb == Trans::yes ? 'T' : 'N', dim(m), dim(n), dim(k), 1.0f, a, dim(lda), b, dim(ldb),
                                          accumulate ? 1.0f : 0.0f, c, dim(ldc));
  if (status == dnnl_out_of_memory) throw std::bad_alloc();
  check(status == dnnl_success, "dnnl_sgemm refused a product");
}

// oneDNN compiles its kernels at the first product, and crashes where it gets no memory for them: so it is known to be
// there (bad_alloc otherwise), and all are compiled, before any product is made.
void compile() {
  static const bool done = [] {
    constexpr std::size_t needed = std::size_t{64} << 20, n = 48;
    void* const room = ::mmap(nullptr, needed, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (room == MAP_FAILED) throw std::bad_alloc();
    ::munmap(room, needed);
    std::vector<float> c(n * n, 0.0f);
    const std::vector<float> a(n * n, 0.0f);
    for (const Trans ta : {Trans::no, Trans::yes})
      for (const Trans tb : {Trans::no, Trans::yes})
        for (const bool accumulate : {false, true}) sgemm(ta, tb, n, n, n, a.data(), n, a.data(), n, c.data(), n, accumulate);
    return true;
  }();
  static_cast<void>(done);
}

}  // namespace
#endif

void gemm(Trans ta, Trans tb, std::size_t m, std::size_t n, std::size_t k, const float* a, std::size_t lda, const float* b, std::size_t ldb, float* c,
          std::size_t ldc, bool accumulate) {
  if (m == 0 || n == 0) return;
#ifdef BEAMLINE_HAVE_DNNL
  onednn::one_thread();
  compile();
  sgemm(ta, tb, m, n, k, a, lda, b, ldb, c, ldc, accumulate);
#else
  if (ta == Trans::no) gemm_rows(tb, m, n, k, a, lda, b, ldb, c, ldc, accumulate);
  else gemm_eigen(ta, tb, m, n, k, a, lda, b, ldb, c, ldc, accumulate);
#endif
}

void gemm_rows(Trans tb, std::size_t m, std::size_t n, std::size_t k, const float* a, std::size_t lda, const float* b, std::size_t ldb, float* c,
               std::size_t ldc, bool accumulate) {
  if (m == 0 || n == 0) return;
  thread_local std::vector<float> panels;
  if (panels.size() < panel_floats(k, n)) panels.resize(panel_floats(k, n));
  pack_panels(tb, k, n, b, ldb, panels.data());
  multiply_panels(m, k, n, a, lda, panels.data(), c, ldc, accumulate);
}

void gemm(Trans ta, Trans tb, std::size_t m, std::size_t n, std::size_t k, const double* a, std::size_t lda, const double* b, std::size_t ldb, double* c,
          std::size_t ldc, bool accumulate) {
  if (m == 0 || n == 0) return;
  gemm_eigen(ta, tb, m, n, k, a, lda, b, ldb, c, ldc, accumulate);
}

const char* gemm_backend() {
#ifdef BEAMLINE_HAVE_DNNL
  static const std::string name = [] {
    const dnnl_version_t* v = dnnl_version();
    return fmt::format("oneDNN {}.{}.{}", v->major, v->minor, v->patch);
  }();
#else
  static const std::string name = fmt::format("Eigen {}.{}.{}", EIGEN_WORLD_VERSION, EIGEN_MAJOR_VERSION, EIGEN_MINOR_VERSION);
#endif
  return name.c_str();
}

}  // namespace bl::nn
