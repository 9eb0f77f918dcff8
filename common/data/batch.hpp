// A batch of events in memory: named columns of raw little-endian numbers.
//
// Dimensions have names. "event" is the number of events. A dimension X is ragged when the batch holds a column
// "X_offsets" (u32, dims {"event+1"}): the entries of event i are [X_offsets[i], X_offsets[i+1]). A dimension that is a
// number ("4") has that fixed length. So {"object"} is one value per object, {"event", "4"} four values per event.
// Text per event is a ragged u8 column: "process" with dims {"process_char"} and offsets "process_char_offsets".
#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "base/error.hpp"
#include "data/buffer.hpp"

namespace bl {

enum class Dtype : std::uint8_t { i8, u8, i16, u16, i32, u32, i64, u64, f32, f64 };

std::size_t size_of(Dtype dtype);
std::string_view name_of(Dtype dtype);  // "f32"
std::optional<Dtype> dtype_named(std::string_view name);

template <class T>
constexpr Dtype dtype_of() {
  if constexpr (std::is_same_v<T, float>) return Dtype::f32;
  else if constexpr (std::is_same_v<T, double>) return Dtype::f64;
  else {
    static_assert(std::is_integral_v<T> && !std::is_same_v<T, bool>);
    constexpr bool s = std::is_signed_v<T>;
    if constexpr (sizeof(T) == 1) return s ? Dtype::i8 : Dtype::u8;
    else if constexpr (sizeof(T) == 2) return s ? Dtype::i16 : Dtype::u16;
    else if constexpr (sizeof(T) == 4) return s ? Dtype::i32 : Dtype::u32;
    else return s ? Dtype::i64 : Dtype::u64;
  }
}

struct Column {
  std::string name;
  Dtype dtype = Dtype::f32;
  std::vector<std::string> dims;
  Buffer raw;

  std::size_t size() const { return raw.size() / size_of(dtype); }  // number of values
  // Values; throws Exit::input when T is not the column's dtype.
  template <class T>
  std::span<const T> as() const {
    expect(dtype_of<T>());
    return {reinterpret_cast<const T*>(raw.data()), size()};
  }
  template <class T>
  std::span<T> edit() {
    expect(dtype_of<T>());
    return {reinterpret_cast<T*>(raw.edit()), size()};
  }
  double value(std::size_t i) const;  // entry i as a double, for messages and tables

 private:
  void expect(Dtype wanted) const;
};

struct Batch {
  std::uint64_t seq = 0;
  std::uint32_t events = 0;
  std::vector<Column> columns;

  const Column* find(std::string_view name) const;
  Column* find(std::string_view name);
  const Column& at(std::string_view name) const;  // throws Exit::input "column 'x' is missing"
  bool has(std::string_view name) const { return find(name) != nullptr; }

  template <class T>
  std::span<const T> get(std::string_view name) const {
    return at(name).as<T>();
  }
  // Adds or replaces a column.
  template <class T>
  void set(std::string name, std::vector<std::string> dims, std::span<const T> values) {
    put(Column{std::move(name), dtype_of<T>(), std::move(dims), Buffer(values.data(), values.size_bytes())});
  }
  template <class T>
  void set(std::string name, std::vector<std::string> dims, const std::vector<T>& values) {
    set(std::move(name), std::move(dims), std::span<const T>(values));
  }
  void put(Column column);
  void erase(std::string_view name);

  // One text per event under `name` (see above), and back.
  void set_text(const std::string& name, std::span<const std::string> texts);
  std::string text(std::string_view name, std::size_t event) const;

  std::size_t bytes() const;  // sum over the columns
};

// The offsets column of a dimension ("object" -> "object_offsets"); nullptr when the dimension is not ragged.
const Column* offsets_of(const Batch& batch, std::string_view dim);
// Number of values a column must have, from its dims. Throws Exit::input for an unknown dimension.
std::size_t expected_size(const Batch& batch, const std::vector<std::string>& dims);
// Every column's size agrees with its dims, and offsets start at zero, never fall and end in range. Throws Exit::input
// naming column, entry and value. Anything decoded from outside is passed through this before it is used.
void check_structure(const Batch& batch);

// The events named by `keep`, in that order (an index may repeat): every column, ragged or not.
Batch select(const Batch& batch, std::span<const std::uint32_t> keep);
Batch slice(const Batch& batch, std::uint32_t first, std::uint32_t count);
// Joins batches of the same columns; seq is that of the first. Throws Exit::input when the columns differ.
Batch concat(std::span<const Batch> batches);

// Order-free digest of what the events hold: the same whatever the batching, the order of events or columns, and the
// transport. Sum over events of a hash of the event's values by column name.
struct Digest {
  std::uint64_t events = 0, sum = 0, mix = 0;
  void add(const Batch& batch);
  std::string text() const;  // 32 hex digits
  bool operator==(const Digest&) const = default;
};

}  // namespace bl
