// Gradients of lanes whose sum depends on the order of addition, and their sum in one process.
#pragma once
#include <span>
#include <vector>

#include "base/pool.hpp"
#include "base/rng.hpp"
#include "nn/optimizer.hpp"

namespace bl::dist::testing {

inline std::vector<float> lane(std::size_t number, std::size_t size) {
  const Rng rng(5, "lane");
  std::vector<float> block(size);
  for (std::size_t i = 0; i < size; ++i) block[i] = static_cast<float>((rng.uniform(number, i) - 0.5) * (i % 3 == 0 ? 1e4 : 1.0));
  return block;
}

inline std::vector<float> sum_of_one_process(std::size_t lanes, std::size_t size) {
  std::vector<std::vector<float>> blocks;
  std::vector<float*> pointers;
  for (std::size_t l = 0; l < lanes; ++l) blocks.push_back(lane(l, size));
  for (auto& b : blocks) pointers.push_back(b.data());
  Pool pool(1);
  nn::reduce_gradients<float>(pool, std::span<float* const>(pointers), size);
  return blocks[0];
}

}  // namespace bl::dist::testing
