#include "nn/params.hpp"

#include <algorithm>
#include <cmath>

#include "base/error.hpp"
#include "base/rng.hpp"

namespace bl::nn {

template <class T>
Param Params<T>::add(std::string name, std::size_t rows, std::size_t width, Group group) {
  check(block_.size() == 0, "parameter " + name + " registered after allocate()");
  check(find(name) == nullptr, "two parameters named " + name);
  constexpr std::size_t border = 64 / sizeof(T);
  const Param p{size_, rows, width};
  size_ += (p.size() + border - 1) / border * border;
  list_.push_back({std::move(name), p, group});
  return p;
}

template <class T>
void Params<T>::allocate() {
  block_ = Aligned<T>(size_);
}

template <class T>
const ParamInfo* Params<T>::find(std::string_view name) const {
  const auto it = std::find_if(list_.begin(), list_.end(), [&](const ParamInfo& p) { return p.name == name; });
  return it == list_.end() ? nullptr : &*it;
}

template <class T>
std::size_t Params<T>::count() const {
  std::size_t n = 0;
  for (const ParamInfo& p : list_) n += p.at.size();
  return n;
}

template <class T>
void Params<T>::init_normal(const Param& p, std::uint64_t seed, double deviation) {
  const auto it = std::find_if(list_.begin(), list_.end(), [&](const ParamInfo& i) { return i.at.offset == p.offset; });
  check(it != list_.end(), "init of an unknown parameter");
  const Rng rng(seed, it->name);
  const std::span<T> v = of(p);
  for (std::size_t i = 0; i < v.size(); ++i) v[i] = static_cast<T>(deviation * rng.normal(0, i));
}

template <class T>
void Params<T>::fill(const Param& p, T value) {
  std::ranges::fill(of(p), value);
}

template <class T>
std::string Params<T>::first_not_finite(std::span<const T> block) const {
  for (const ParamInfo& p : list_) {
    const auto part = block.subspan(p.at.offset, p.at.size());
    if (!std::ranges::all_of(part, [](T x) { return std::isfinite(x); })) return p.name;
  }
  return {};
}

template class Params<float>;
template class Params<double>;

}  // namespace bl::nn
