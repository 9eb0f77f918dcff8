// Raw memory of a column or a frame: 64-byte aligned, shared, copied only when somebody writes to it.
#pragma once
#include <cstddef>
#include <memory>
#include <span>

namespace bl {

class Buffer {
 public:
  static constexpr std::size_t kAlign = 64;

  Buffer() = default;
  explicit Buffer(std::size_t size);           // owned, uninitialised
  Buffer(const void* data, std::size_t size);  // owned copy
  // A view that keeps `owner` alive; the memory is never written through it.
  static Buffer view(std::shared_ptr<const void> owner, const std::byte* data, std::size_t size);
  Buffer slice(std::size_t offset, std::size_t size) const;  // view of a part

  std::size_t size() const noexcept { return size_; }
  const std::byte* data() const noexcept { return data_; }
  // For writing: copies first when the memory is a view or shared with another Buffer.
  std::byte* edit();
  std::span<const std::byte> bytes() const noexcept { return {data_, size_}; }
  std::shared_ptr<const void> owner() const noexcept { return owner_; }

 private:
  std::shared_ptr<const void> owner_;
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
  bool owned_ = false;
};

}  // namespace bl
