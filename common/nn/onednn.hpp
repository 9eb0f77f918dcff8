// What gemm.cpp and packed.cpp both need of oneDNN; empty without it.
#pragma once
#ifdef BEAMLINE_HAVE_DNNL
namespace bl::nn::onednn {

// oneDNN brings an OpenMP runtime whose threads would fight with the pool's. Its thread count is a setting of each
// calling thread: to be called before any product.
void one_thread();

}  // namespace bl::nn::onednn
#endif
