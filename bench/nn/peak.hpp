// GFLOP/s of one thread that does nothing but fused multiply-adds in registers, on the widest vectors of the machine.
#pragma once

namespace bl::bench {

double fma_peak(double seconds);

}  // namespace bl::bench
