// Counts calls of operator new of the whole test program.
#pragma once
#include <cstddef>

namespace bl::testing {
std::size_t allocations();
}
