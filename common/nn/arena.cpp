#include "nn/arena.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <new>

namespace bl::nn {
namespace {

constexpr std::align_val_t alignment{64};

std::size_t rounded(std::size_t bytes) { return (bytes + 63) / 64 * 64; }

// Asks for pages of 2 MiB for the part of a large block that fills such pages: memory that is read from end to end, as
// weights and caches are, costs fewer look-ups of addresses. No more than a wish.
void large_pages(void* memory, std::size_t bytes) {
#ifdef MADV_HUGEPAGE
  constexpr std::size_t page = std::size_t{2} << 20;
  const std::size_t skip = (page - reinterpret_cast<std::uintptr_t>(memory) % page) % page, whole = bytes > skip ? (bytes - skip) / page * page : 0;
  if (whole > 0) ::madvise(static_cast<std::byte*>(memory) + skip, whole, MADV_HUGEPAGE);
#else
  (void)memory, (void)bytes;
#endif
}

}  // namespace

void Arena::Free::operator()(void* p) const noexcept { ::operator delete(p, alignment); }

void Arena::grow(std::size_t bytes) {
  Block block;
  block.size = rounded(bytes);
  block.memory.reset(static_cast<std::byte*>(::operator new(block.size, alignment)));
  full_ += used_;
  used_ = 0;
  blocks_.push_back(std::move(block));
}

void* Arena::take_bytes(std::size_t bytes) {
  bytes = rounded(std::max<std::size_t>(bytes, 1));
  if (blocks_.empty() || used_ + bytes > blocks_.back().size) grow(std::max({bytes, capacity(), std::size_t{1} << 20}));
  void* p = blocks_.back().memory.get() + used_;
  used_ += bytes;
  return p;
}

void Arena::reset() {
  if (blocks_.size() > 1) {
    const std::size_t total = capacity();
    blocks_.clear();
    full_ = used_ = 0;
    grow(total);
  }
  full_ = used_ = 0;
}

std::size_t Arena::capacity() const noexcept {
  std::size_t total = 0;
  for (const Block& block : blocks_) total += block.size;
  return total;
}

template <class T>
Aligned<T>::Aligned(std::size_t n) : size_(n) {
  const std::size_t bytes = rounded(std::max<std::size_t>(n, 1) * sizeof(T));
  memory_.reset(static_cast<T*>(::operator new(bytes, alignment)));
  large_pages(memory_.get(), bytes);
  std::memset(static_cast<void*>(memory_.get()), 0, n * sizeof(T));
}

template <class T>
void Aligned<T>::Free::operator()(T* p) const noexcept {
  ::operator delete(static_cast<void*>(p), alignment);
}

template class Aligned<float>;
template class Aligned<double>;

}  // namespace bl::nn
