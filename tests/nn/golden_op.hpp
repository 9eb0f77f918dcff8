// Compares an op with a case of tests/golden/ops_<file>.golden: its result and the gradients of all inputs.
#pragma once
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>

#include "../golden/golden.hpp"
#include "cases.hpp"

namespace bl::nn::testing {

// forward(tape, inputs) gives a Result; it is run in float and in double. Errors are relative to the largest number of
// the array; the file itself is rounded to float.
template <class T, class Forward>
void expect_golden_as(const bl::testing::Golden& golden, const std::string& name, const Forward& forward, double tolerance) {
  ASSERT_TRUE(golden.has(name + "/value")) << "no golden case " << name;
  Params<T> params;
  std::vector<Param> handles;
  const auto input = [&](std::size_t i) { return name + "/input" + std::to_string(i); };
  for (std::size_t i = 0; golden.has(input(i)); ++i) {
    const auto& shape = golden.shape(input(i));
    ASSERT_LE(shape.size(), 2u) << input(i);
    handles.push_back(params.add("input" + std::to_string(i), shape.size() == 2 ? shape[0] : 1, shape.empty() ? 1 : shape.back(), Group::weight));
  }
  params.allocate();
  for (std::size_t i = 0; i < handles.size(); ++i) std::ranges::copy(golden.at(input(i)), params.of(handles[i]).begin());
  Arena arena;
  Aligned<T> gradients(params.size());
  Tape<T> tape(arena, params.values().data(), gradients.data());
  std::vector<Var<T>> inputs;
  for (const Param& p : handles) inputs.push_back(tape.param(p));
  const Result<T> result = forward(tape, inputs);
  const auto compare = [&](const std::string& array, const auto& at, std::size_t size) {
    const std::vector<float>& expected = golden.at(array);
    ASSERT_EQ(size, expected.size()) << array;
    double largest = 1e-30;
    for (const float x : expected) largest = std::max(largest, std::abs(static_cast<double>(x)));
    for (std::size_t i = 0; i < size; ++i) ASSERT_NEAR(static_cast<double>(at(i)), static_cast<double>(expected[i]), tolerance * largest) << array << " " << i;
  };
  if (result.value != nullptr) {
    compare(
        name + "/value", [&](std::size_t i) { return result.value->value[i]; }, result.value->size());
    ASSERT_EQ(golden.at(name + "/cotangent").size(), result.value->size());
    result.value->grad = tape.scratch(result.value->size());
    std::ranges::copy(golden.at(name + "/cotangent"), result.value->grad);
  } else {
    compare(
        name + "/value", [&](std::size_t) { return result.loss; }, 1);
  }
  tape.backward();
  for (std::size_t i = 0; i < handles.size(); ++i)
    compare(
        name + "/gradient" + std::to_string(i), [&](std::size_t k) { return gradients[handles[i].offset + k]; }, handles[i].size());
}

template <class Forward>
void expect_golden(const bl::testing::Golden& golden, const std::string& name, const Forward& forward) {
  expect_golden_as<float>(golden, name, forward, 1e-5);
  expect_golden_as<double>(golden, name, forward, 1e-6);
}

}  // namespace bl::nn::testing
