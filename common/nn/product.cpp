#include "nn/product.hpp"

#include <type_traits>

#include "nn/gemm.hpp"

namespace bl::nn {
namespace {

// Of a matrix of bf16 in memory of T.
template <class T>
std::size_t size_in(std::size_t rows, std::size_t width) {
  return (bf16_rows(rows) * width * sizeof(Bf16) + sizeof(T) - 1) / sizeof(T);
}
template <class T>
Bf16* as_bf16(T* memory) {
  return reinterpret_cast<Bf16*>(memory);
}

}  // namespace

template <class T>
Product<T>::Product(Tape<T>& tape, Var<T> w) : tape_(&tape), w_(w->value), out_(w->rows), in_(w->width) {
  if (!std::is_same_v<T, float> || tape.packed() == nullptr) return;
  // Values that are no parameters lie outside the block: no offset of a matrix in it can come out for them.
  const auto address = [](const T* p) { return reinterpret_cast<std::uintptr_t>(p); };
  packed_ = tape.packed()->find((address(w->value) - address(tape.values())) / sizeof(T));
}

template <class T>
typename Product<T>::Kept Product<T>::forward(std::size_t rows, const T* x, T* y) const {
  Kept kept{x, nullptr, rows};
  if constexpr (std::is_same_v<T, float>)
    if (packed_ != nullptr) {
      if (packed_->precision() == Precision::f32) {
        packed_->forward(rows, x, y);
        return kept;
      }
      kept.rounded = tape_->scratch(size_in<T>(rows, in_));
      to_bf16_matrix(rows, in_, x, as_bf16(kept.rounded));
      packed_->forward(rows, as_bf16(kept.rounded), y);
      return kept;
    }
  if (tape_->training()) gemm(Trans::no, Trans::yes, rows, out_, in_, x, in_, w_, in_, y, out_, false);
  else gemm_rows(Trans::yes, rows, out_, in_, x, in_, w_, in_, y, out_, false);
  return kept;
}

template <class T>
void Product<T>::backward(const Kept& kept, const T* dy, T* dx, bool accumulate, T* dw) const {
  const std::size_t rows = kept.rows;
  if constexpr (std::is_same_v<T, float>) {
    if (kept.rounded != nullptr) {
      const std::size_t n = size_in<T>(rows, out_);
      T* rounded = tape_->scratch(n);
      to_bf16_matrix(rows, out_, dy, as_bf16(rounded));
      if (dw != nullptr) add_outer(out_, in_, rows, as_bf16(rounded), as_bf16(kept.rounded), dw);
      if (dx != nullptr) packed_->backward(rows, as_bf16(rounded), dx, accumulate);
      tape_->give_back(rounded, n);
      return;
    }
  }
  if (dw != nullptr) gemm(Trans::yes, Trans::no, out_, in_, rows, dy, out_, kept.x, in_, dw, in_, true);
  if (dx != nullptr) gemm(Trans::no, Trans::no, rows, in_, out_, dy, out_, w_, in_, dx, in_, accumulate);
}

template <class T>
void Product<T>::release(const Kept& kept) const {
  if (kept.rounded != nullptr) tape_->give_back(kept.rounded, size_in<T>(kept.rows, in_));
}

template class Product<float>;
template class Product<double>;

}  // namespace bl::nn
