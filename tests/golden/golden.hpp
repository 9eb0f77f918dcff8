// Reader of the files that tests/golden/*.py write; their layout is described in golden.py.
#pragma once
#include <cstdint>
#include <cstring>
#include <fstream>
#include <iterator>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

namespace bl::testing {

class Golden {
 public:
  explicit Golden(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    const std::string bytes((std::istreambuf_iterator<char>(file)), {});
    if (bytes.substr(0, 8) != "BLGOLD1\n") throw std::runtime_error(path + " is no golden file");
    std::size_t at = 8;
    const auto take = [&]<class T>(T value) {
      std::memcpy(&value, bytes.data() + at, sizeof value);
      at += sizeof value;
      return value;
    };
    const auto count = take(std::uint32_t{});
    for (std::uint32_t i = 0; i < count; ++i) {
      const auto length = take(std::uint32_t{});
      const std::string name = bytes.substr(at, length);
      at += length;
      std::size_t size = 1;
      std::vector<std::size_t>& shape = shapes_[name];
      for (auto d = take(std::uint32_t{}); d > 0; --d) size *= shape.emplace_back(take(std::uint64_t{}));
      std::vector<float>& values = arrays_[name];
      values.resize(size);
      std::memcpy(values.data(), bytes.data() + at, size * 4);
      at += size * 4;
    }
  }
  bool has(const std::string& name) const { return arrays_.contains(name); }
  const std::vector<float>& at(const std::string& name) const { return arrays_.at(name); }
  const std::vector<std::size_t>& shape(const std::string& name) const { return shapes_.at(name); }
  // The numbers of an array as another type: ids, offsets, flags.
  template <class T>
  std::vector<T> as(const std::string& name) const {
    std::vector<T> values;
    for (const float x : at(name)) values.push_back(static_cast<T>(x));
    return values;
  }
  const std::map<std::string, std::vector<float>>& all() const { return arrays_; }

 private:
  std::map<std::string, std::vector<float>> arrays_;
  std::map<std::string, std::vector<std::size_t>> shapes_;
};

}  // namespace bl::testing
