// All parameters of a model in one flat 64-byte-aligned block. Optimiser, clipping, EMA, all-reduce and checkpoint see
// one span; a model holds Param handles. Gradients are blocks of the same layout.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "nn/arena.hpp"

namespace bl::nn {

// What an optimiser may treat differently.
enum class Group : std::uint8_t { weight, bias, norm, embedding };

// Where a parameter lies in the block; (rows, width), a vector has one row.
struct Param {
  std::size_t offset = 0, rows = 0, width = 0;
  std::size_t size() const { return rows * width; }
};

struct ParamInfo {
  std::string name;
  Param at;
  Group group = Group::weight;
};

template <class T>
class Params {
 public:
  // Registers a parameter; every one starts on a 64-byte border (the gap stays zero). Names are unique.
  Param add(std::string name, std::size_t rows, std::size_t width, Group group);
  // Allocates the block once all are registered; values are zero.
  void allocate();

  const std::vector<ParamInfo>& list() const { return list_; }
  const ParamInfo* find(std::string_view name) const;  // nullptr when there is none
  std::size_t size() const { return size_; }           // of the block, gaps included
  std::size_t count() const;                           // parameters, gaps not counted
  std::span<T> values() { return {block_.data(), size_}; }
  std::span<const T> values() const { return {block_.data(), size_}; }
  std::span<T> of(const Param& p) { return values().subspan(p.offset, p.size()); }
  std::span<const T> of(const Param& p) const { return values().subspan(p.offset, p.size()); }

  // Normal numbers of the given deviation for one parameter, a function of (seed, its name, index) alone.
  void init_normal(const Param& p, std::uint64_t seed, double deviation);
  void fill(const Param& p, T value);
  // Name of the first parameter with a value that is not finite in `block` (of this layout); empty when all are.
  std::string first_not_finite(std::span<const T> block) const;

 private:
  std::vector<ParamInfo> list_;
  std::size_t size_ = 0;
  Aligned<T> block_;
};

extern template class Params<float>;
extern template class Params<double>;

}  // namespace bl::nn
