// Bump allocator of one worker: everything that a forward and backward pass needs, given back at once by reset().
// After the first passes the arena holds one block of the largest size seen, and no pass allocates any more.
#pragma once
#include <cstddef>
#include <memory>
#include <type_traits>
#include <vector>

namespace bl::nn {

class Arena {
 public:
  Arena() = default;
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  // `bytes` of memory, 64-byte aligned, uninitialised, valid until reset().
  void* take_bytes(std::size_t bytes);
  template <class T>
  T* take(std::size_t n) {
    static_assert(std::is_trivially_destructible_v<T>, "the arena runs no destructors");
    return static_cast<T*>(take_bytes(n * sizeof(T)));
  }
  void reset();

  std::size_t used() const noexcept { return full_ + used_; }  // bytes handed out since the last reset
  std::size_t capacity() const noexcept;                       // bytes held
  std::size_t blocks() const noexcept { return blocks_.size(); }

 private:
  struct Free {
    void operator()(void* p) const noexcept;
  };
  struct Block {
    std::unique_ptr<std::byte, Free> memory;
    std::size_t size = 0;
  };
  void grow(std::size_t bytes);

  std::vector<Block> blocks_;
  std::size_t used_ = 0;  // of the last block
  std::size_t full_ = 0;  // of the blocks before it
};

// A fixed array of T, 64-byte aligned and zeroed: parameters, gradients, moments.
template <class T>
class Aligned {
 public:
  Aligned() = default;
  explicit Aligned(std::size_t n);
  T* data() noexcept { return memory_.get(); }
  const T* data() const noexcept { return memory_.get(); }
  std::size_t size() const noexcept { return size_; }
  T& operator[](std::size_t i) { return memory_.get()[i]; }
  const T& operator[](std::size_t i) const { return memory_.get()[i]; }

 private:
  struct Free {
    void operator()(T* p) const noexcept;
  };
  std::unique_ptr<T[], Free> memory_;
  std::size_t size_ = 0;
};

}  // namespace bl::nn
