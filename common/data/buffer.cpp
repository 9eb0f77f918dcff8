#include "data/buffer.hpp"

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>

#include "base/error.hpp"

namespace bl {

Buffer::Buffer(std::size_t size) : size_(size), owned_(true) {
  // Aligned by hand: until glibc 2.38 what aligned_alloc() returned was often not reused after free() (bug 14581), and a
  // stage that streams would grow by the size of its whole stream.
  if (size > static_cast<std::size_t>(-1) - 2 * kAlign) throw std::bad_alloc();
  void* p = std::malloc((size + kAlign - 1) / kAlign * kAlign + kAlign);
  if (p == nullptr) throw std::bad_alloc();
  owner_ = std::shared_ptr<void>(p, &std::free);
  data_ = static_cast<const std::byte*>(p) + (kAlign - reinterpret_cast<std::uintptr_t>(p) % kAlign) % kAlign;
}

Buffer::Buffer(const void* data, std::size_t size) : Buffer(size) {
  if (size != 0) std::memcpy(const_cast<std::byte*>(data_), data, size);
}

Buffer Buffer::view(std::shared_ptr<const void> owner, const std::byte* data, std::size_t size) {
  Buffer b;
  b.owner_ = std::move(owner);
  b.data_ = data;
  b.size_ = size;
  return b;
}

Buffer Buffer::slice(std::size_t offset, std::size_t size) const {
  check(offset + size <= size_, "slice beyond the end of a buffer");
  return view(owner_, data_ + offset, size);
}

std::byte* Buffer::edit() {
  if (!owned_ || owner_.use_count() > 1) *this = Buffer(data_, size_);
  return const_cast<std::byte*>(data_);
}

}  // namespace bl
