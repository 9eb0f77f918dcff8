// HDF5 files as named arrays: what tokenizers, checkpoints and the readers of published data sets stand on.
//
// Files of our own are verified as a whole when they are opened. Files of others are as safe to read as the HDF5 library
// is: it may crash on a file that was damaged on purpose.
//
// Names are paths inside the file without a leading slash ("encoder/0/weight"). Arrays are row-major. Every read may
// convert between number types (HDF5 does it), also from 16-bit floats and from booleans; a value that the wanted type
// cannot hold is an error, not a clipped value. A file that is written appears under its name whole or not at all.
//
// Calls are serialised by one lock inside, since the C library may be built without thread safety.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"
#include "data/batch.hpp"

namespace bl::store {

using Shape = std::vector<std::uint64_t>;  // {} is a single value

enum class Kind { integer, real, boolean, text, other };  // other: compound, reference … (listed, not read)

struct Info {
  Shape shape;
  Kind kind = Kind::other;
  std::size_t size = 0;      // bytes of one value in the file
  bool has_sign = false;     // of integers
  std::string type;          // for messages: "f16", "i64", "bool", "text", "compound"
  std::string needs_filter;  // name of a compression filter that the data need and this HDF5 lacks; empty when readable

  std::uint64_t rows() const { return shape.empty() ? 1 : shape[0]; }
  std::uint64_t values() const;  // product of the shape
};

// One read may not exceed this many bytes in memory: a damaged or hostile header can declare any shape.
inline constexpr std::uint64_t kMaxRead = std::uint64_t{8} << 30;

// An HDF5 file to read. Errors are Exit::input and begin with the file's name and, where there is one, the array's.
class Input {
 public:
  // Throws when the file is missing, a folder, not HDF5, or cut short.
  explicit Input(std::string path);
  ~Input();
  Input(Input&&) noexcept;
  Input& operator=(Input&&) noexcept;

  const std::string& path() const;

  // Names directly below `group` ("" is the root), sorted; with_groups / datasets only.
  std::vector<std::string> groups(std::string_view group = "") const;
  std::vector<std::string> datasets(std::string_view group = "") const;
  // Every dataset of the file below `group`, as full names, sorted.
  std::vector<std::string> all_datasets(std::string_view group = "") const;
  bool has_dataset(std::string_view name) const;
  bool has_group(std::string_view name) const;
  Info info(std::string_view name) const;  // throws when there is no such dataset, and names the nearest one

  // The whole array, or rows [first, first + count) of its first dimension. T: float, double, (u)int8…64_t.
  template <class T>
  std::vector<T> read(std::string_view name) const {
    const Info what = info(name);
    return read_rows<T>(name, 0, what.rows());
  }
  template <class T>
  std::vector<T> read_rows(std::string_view name, std::uint64_t first, std::uint64_t count) const {
    std::vector<T> values(values_to_read(name, first, count, sizeof(T)));
    read_raw(name, first, count, dtype_of<T>(), values.data(), values.size());
    return values;
  }
  // Into memory that is there: `values` must have exactly the size of those rows.
  template <class T>
  void read_into(std::string_view name, std::span<T> values) const {
    read_raw(name, 0, info(name).rows(), dtype_of<T>(), values.data(), values.size());
  }
  // An array of one value.
  template <class T>
  T read_one(std::string_view name) const {
    const auto values = read<T>(name);
    if (values.size() != 1) fail(Exit::input, "'{}': '{}' has {} values where one is expected", path(), name, values.size());
    return values[0];
  }
  std::vector<std::string> read_text(std::string_view name) const;  // fixed or variable length
  std::string read_one_text(std::string_view name) const;

  // Attributes of a group or dataset; `object` "" is the file itself.
  bool has_attribute(std::string_view object, std::string_view name) const;
  std::vector<std::string> attributes(std::string_view object) const;
  std::string text_attribute(std::string_view object, std::string_view name) const;
  std::vector<std::string> texts_attribute(std::string_view object, std::string_view name) const;
  std::int64_t integer_attribute(std::string_view object, std::string_view name) const;
  double real_attribute(std::string_view object, std::string_view name) const;
  std::vector<double> reals_attribute(std::string_view object, std::string_view name) const;

 private:
  std::uint64_t values_to_read(std::string_view name, std::uint64_t first, std::uint64_t count, std::size_t size) const;
  void read_raw(std::string_view name, std::uint64_t first, std::uint64_t count, Dtype dtype, void* out, std::size_t size) const;

  struct State;
  std::unique_ptr<State> state_;
};

// How an array is stored. Checksummed arrays are cut into chunks with a fletcher32 each, verified when they are read.
struct Storage {
  bool gzip = false;  // shuffle + gzip level 1
  bool checksum = true;
};

// An HDF5 file to write. It is built in memory and written by commit(): to NAME.part, fsynced, renamed. Without
// commit() the destructor leaves nothing behind. Two files of the same content have the same bytes (no time stamps).
// Behind the HDF5 image stand 16 bytes with a checksum of it, which Input verifies; other programs ignore them.
// Errors are Exit::write.
class Output {
 public:
  Output(std::string path, bool force);
  ~Output();
  Output(Output&&) noexcept;
  Output& operator=(Output&&) noexcept;

  const std::string& path() const;

  // Groups in the name are made. The number of values must be the product of the shape. A name can be written once.
  template <class T>
  void write(std::string_view name, const Shape& shape, std::span<const T> values, Storage storage = {}) {
    write_raw(name, shape, dtype_of<T>(), values.data(), values.size(), storage);
  }
  template <class T>
  void write(std::string_view name, const Shape& shape, const std::vector<T>& values, Storage storage = {}) {
    write(name, shape, std::span<const T>(values), storage);
  }
  template <class T>
  void write(std::string_view name, const std::vector<T>& values, Storage storage = {}) {
    write(name, Shape{values.size()}, std::span<const T>(values), storage);
  }
  template <class T>
  void write_one(std::string_view name, T value) {
    write(name, Shape{}, std::span<const T>(&value, 1));
  }
  void write_text(std::string_view name, const std::vector<std::string>& texts);
  void write_one_text(std::string_view name, std::string_view text);
  void group(std::string_view name);  // an empty group, e.g. to carry attributes

  // On a group or dataset that exists; "" is the file itself. Replaces an attribute of that name. No limit on length.
  void attribute(std::string_view object, std::string_view name, std::string_view text);
  void attribute(std::string_view object, std::string_view name, const char* text) { attribute(object, name, std::string_view(text)); }
  void attribute(std::string_view object, std::string_view name, std::int64_t value);
  void attribute(std::string_view object, std::string_view name, int value) { attribute(object, name, std::int64_t{value}); }
  void attribute(std::string_view object, std::string_view name, double value);

  void commit();

 private:
  void write_raw(std::string_view name, const Shape& shape, Dtype dtype, const void* values, std::size_t count, Storage storage);

  struct State;
  std::unique_ptr<State> state_;
};

// Does the file begin like an HDF5 file? False when it cannot be read.
bool is_hdf5(const std::string& path);

}  // namespace bl::store
