// bfloat16: a float without its last 16 bits (8 bits of exponent, 8 of precision), rounded to the nearest, ties to even.
#pragma once
#include <cstddef>
#include <cstdint>

namespace bl::nn {

enum class Bf16 : std::uint16_t {};  // bits only, no arithmetic

// NaN stays NaN; what rounds above the largest number becomes infinity. x and y must not overlap.
void to_bf16(std::size_t n, const float* x, Bf16* y);
void from_bf16(std::size_t n, const Bf16* x, float* y);

}  // namespace bl::nn
