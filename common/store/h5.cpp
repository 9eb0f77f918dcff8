#include "store/h5.hpp"

#include <fcntl.h>
#include <hdf5.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <map>
#include <mutex>
#include <utility>

#include "base/files.hpp"
#include "base/hash.hpp"

namespace bl::store {
namespace {

std::recursive_mutex& lock_of_library() {
  static std::recursive_mutex mutex;
  return mutex;
}

// Holds the lock and keeps HDF5 from printing its error stack (the setting is per thread in a thread-safe build).
class Session {
 public:
  Session() : lock_(lock_of_library()) { H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr); }

 private:
  std::lock_guard<std::recursive_mutex> lock_;
};

// The deepest message of HDF5's error stack: the cause, where the outer ones only say which call failed.
std::string innermost() {
  std::string text;
  H5Ewalk2(
      H5E_DEFAULT, H5E_WALK_DOWNWARD,
      [](unsigned, const H5E_error2_t* error, void* out) -> herr_t {
        if (error->desc && *error->desc) *static_cast<std::string*>(out) = error->desc;
        return 0;
      },
      &text);
  return text.empty() ? "no reason given" : text;
}

// An HDF5 id and how to close it.
class Id {
 public:
  Id() = default;
  Id(hid_t id, herr_t (*close)(hid_t)) : id_(id), close_(close) {}
  Id(Id&& other) noexcept : id_(std::exchange(other.id_, H5I_INVALID_HID)), close_(other.close_) {}
  Id& operator=(Id&& other) noexcept {
    std::swap(id_, other.id_);
    std::swap(close_, other.close_);
    return *this;
  }
  ~Id() {
    if (id_ >= 0) close_(id_);
  }
  operator hid_t() const { return id_; }
  bool valid() const { return id_ >= 0; }

 private:
  hid_t id_ = H5I_INVALID_HID;
  herr_t (*close_)(hid_t) = nullptr;
};

hid_t native(Dtype dtype) {
  switch (dtype) {
    case Dtype::i8: return H5T_NATIVE_INT8;
    case Dtype::u8: return H5T_NATIVE_UINT8;
    case Dtype::i16: return H5T_NATIVE_INT16;
    case Dtype::u16: return H5T_NATIVE_UINT16;
    case Dtype::i32: return H5T_NATIVE_INT32;
    case Dtype::u32: return H5T_NATIVE_UINT32;
    case Dtype::i64: return H5T_NATIVE_INT64;
    case Dtype::u64: return H5T_NATIVE_UINT64;
    case Dtype::f32: return H5T_NATIVE_FLOAT;
    case Dtype::f64: return H5T_NATIVE_DOUBLE;
  }
  throw std::logic_error("internal error: dtype without an HDF5 type");
}

hid_t standard(Dtype dtype) {  // as stored: little-endian on every machine
  switch (dtype) {
    case Dtype::i8: return H5T_STD_I8LE;
    case Dtype::u8: return H5T_STD_U8LE;
    case Dtype::i16: return H5T_STD_I16LE;
    case Dtype::u16: return H5T_STD_U16LE;
    case Dtype::i32: return H5T_STD_I32LE;
    case Dtype::u32: return H5T_STD_U32LE;
    case Dtype::i64: return H5T_STD_I64LE;
    case Dtype::u64: return H5T_STD_U64LE;
    case Dtype::f32: return H5T_IEEE_F32LE;
    case Dtype::f64: return H5T_IEEE_F64LE;
  }
  throw std::logic_error("internal error: dtype without an HDF5 type");
}

// Without this HDF5 clips what does not fit: 300 read as int8 would be 127.
H5T_conv_ret_t refuse_conversion(H5T_conv_except_t what, hid_t, hid_t, void*, void*, void* refused) {
  if (what == H5T_CONV_EXCEPT_PRECISION) return H5T_CONV_UNHANDLED;  // rounding, e.g. f64 to f32
  // NaN and infinity stay what they are between floats, and are refused for integers.
  const bool to_integer = *static_cast<bool*>(refused);
  if (!to_integer && (what == H5T_CONV_EXCEPT_NAN || what == H5T_CONV_EXCEPT_PINF || what == H5T_CONV_EXCEPT_NINF)) return H5T_CONV_UNHANDLED;
  return H5T_CONV_ABORT;
}

std::string known_filter(H5Z_filter_t id) {
  switch (id) {
    case 305: return "lzo (305)";
    case 307: return "bzip2 (307)";
    case 32000: return "lzf (32000)";
    case 32001: return "blosc (32001)";
    case 32004: return "lz4 (32004)";
    case 32008: return "bitshuffle (32008)";
    case 32013: return "zfp (32013)";
    case 32015: return "zstd (32015)";
    case 32026: return "blosc2 (32026)";
    case H5Z_FILTER_SZIP: return "szip (4)";
    default: return fmt::format("number {}", id);
  }
}

std::string missing_filter(hid_t dataset) {
  const Id list(H5Dget_create_plist(dataset), H5Pclose);
  if (!list.valid()) return {};
  const int count = H5Pget_nfilters(list);
  for (int i = 0; i < count; ++i) {
    unsigned flags = 0, config = 0;
    std::size_t values = 0;
    const H5Z_filter_t id = H5Pget_filter2(list, static_cast<unsigned>(i), &flags, &values, nullptr, 0, nullptr, &config);
    if (id >= 0 && H5Zfilter_avail(id) <= 0) return known_filter(id);
  }
  return {};
}

void describe_type(hid_t type, Info& info) {
  info.size = H5Tget_size(type);
  switch (H5Tget_class(type)) {
    case H5T_INTEGER:
      info.kind = Kind::integer;
      info.has_sign = H5Tget_sign(type) != H5T_SGN_NONE;
      info.type = fmt::format("{}{}", info.has_sign ? 'i' : 'u', info.size * 8);
      break;
    case H5T_FLOAT:
      info.kind = Kind::real;
      info.has_sign = true;
      info.type = fmt::format("f{}", info.size * 8);
      break;
    case H5T_ENUM:  // h5py writes a bool as the enumeration {FALSE, TRUE} over int8
      info.kind = Kind::boolean;
      info.type = info.size == 1 && H5Tget_nmembers(type) == 2 ? "bool" : "enumeration";
      break;
    case H5T_STRING:
      info.kind = Kind::text;
      info.type = "text";
      break;
    case H5T_COMPOUND: info.type = "compound"; break;
    case H5T_ARRAY: info.type = "array"; break;
    case H5T_VLEN: info.type = "variable-length list"; break;
    case H5T_REFERENCE: info.type = "reference"; break;
    default: info.type = "opaque"; break;
  }
}

// IEEE binary16, little-endian: what h5py and numpy write as float16.
bool is_half(hid_t type) {
  std::size_t sign = 0, exponent = 0, exponent_size = 0, mantissa = 0, mantissa_size = 0;
  return H5Tget_class(type) == H5T_FLOAT && H5Tget_size(type) == 2 && H5Tget_order(type) == H5T_ORDER_LE && H5Tget_ebias(type) == 15 &&
         H5Tget_fields(type, &sign, &exponent, &exponent_size, &mantissa, &mantissa_size) >= 0 && sign == 15 && exponent == 10 && exponent_size == 5 &&
         mantissa == 0 && mantissa_size == 10;
}

// Exact, also for subnormal numbers: the exponent is rebased by the product with 2^112.
float from_half(std::uint16_t half) {
  const float magnitude = std::bit_cast<float>(static_cast<std::uint32_t>(half & 0x7fffu) << 13) * 0x1p112f;
  std::uint32_t bits = std::bit_cast<std::uint32_t>(magnitude) | static_cast<std::uint32_t>(half & 0x8000u) << 16;
  if ((half & 0x7c00u) == 0x7c00u) bits |= 0x7f800000u;  // infinity, NaN
  return std::bit_cast<float>(bits);
}

Shape shape_of(hid_t space) {
  const int rank = H5Sget_simple_extent_ndims(space);
  std::vector<hsize_t> dims(static_cast<std::size_t>(std::max(rank, 0)));
  if (rank > 0) H5Sget_simple_extent_dims(space, dims.data(), nullptr);
  return {dims.begin(), dims.end()};
}

// Reads text of either kind from a dataset or an attribute through `read(memory type, buffer)`.
template <class Read>
std::vector<std::string> texts_of(hid_t type, hid_t space, std::uint64_t count, const Read& read) {
  std::vector<std::string> texts(count);
  if (count == 0) return texts;
  if (H5Tis_variable_str(type) > 0) {
    std::vector<char*> raw(count, nullptr);
    if (read(type, static_cast<void*>(raw.data())) < 0) return {};
    for (std::uint64_t i = 0; i < count; ++i)
      if (raw[i]) texts[i] = raw[i];
    H5Dvlen_reclaim(type, space, H5P_DEFAULT, raw.data());
    return texts;
  }
  const std::size_t size = H5Tget_size(type);
  std::vector<char> raw(size * count);
  if (read(type, static_cast<void*>(raw.data())) < 0) return {};
  for (std::uint64_t i = 0; i < count; ++i) {
    const char* begin = raw.data() + i * size;
    std::size_t length = ::strnlen(begin, size);
    if (H5Tget_strpad(type) == H5T_STR_SPACEPAD)
      while (length > 0 && begin[length - 1] == ' ') --length;
    texts[i].assign(begin, length);
  }
  return texts;
}

// The last 16 bytes of a file that we wrote, behind what HDF5 looks at: xxh3-64 (little-endian) of all before them.
// HDF5 1.10 has no checksum on its metadata, and a flipped bit there can make the library crash.
struct Seal {
  char magic[8] = {'B', 'L', 'H', '5', 'S', 'E', 'A', 'L'};
  std::uint64_t hash = 0;
};
static_assert(sizeof(Seal) == 16);

void verify_seal(const std::string& path, std::size_t size) {
  if (size < sizeof(Seal)) return;
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) fail(Exit::input, "cannot open '{}': {}", path, errno_text(errno));
  Seal seal;
  const bool sealed = ::pread(fd, &seal, sizeof seal, static_cast<off_t>(size - sizeof seal)) == static_cast<ssize_t>(sizeof seal) &&
                      std::memcmp(seal.magic, Seal().magic, sizeof seal.magic) == 0;
  void* map = sealed ? ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd, 0) : MAP_FAILED;
  ::close(fd);
  if (!sealed || map == MAP_FAILED) return;  // not one of ours
  const bool whole = hash64(map, size - sizeof seal) == seal.hash;
  ::munmap(map, size);
  if (!whole) fail(Exit::input, "'{}' is damaged: its content does not have the checksum at its end; copy or make it again", path);
}

std::string object_name(std::string_view object) { return object.empty() ? "/" : std::string(object); }

}  // namespace

std::uint64_t Info::values() const {
  std::uint64_t product = 1;
  for (const auto extent : shape)
    if (__builtin_mul_overflow(product, extent, &product)) return ~std::uint64_t{0};
  return product;
}

bool is_hdf5(const std::string& path) {
  // The signature stands at 0, 512, 1024, 2048 …: a user block may come first. Reading it here instead of asking the
  // library keeps pipes and folders out of it.
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0 || !S_ISREG(status.st_mode)) return false;
  std::ifstream file(path, std::ios::binary);
  for (std::streamoff at = 0; file && at < (1 << 20); at = at == 0 ? 512 : at * 2) {
    char bytes[8] = {};
    file.seekg(at);
    if (file.read(bytes, sizeof bytes) && std::memcmp(bytes, "\x89HDF\r\n\x1a\n", 8) == 0) return true;
  }
  return false;
}

// ---- Input ----

struct Input::State {
  std::string path;
  Id file;
  // Datasets stay open: each has its own cache of unpacked chunks, which reading by ranges needs.
  struct Open {
    Id id;
    Info info;
  };
  std::map<std::string, Open, std::less<>> open;

  ~State() {
    const Session session;
    open.clear();
    file = Id();
  }

  Open& dataset(std::string_view name);
  Id object(std::string_view name) const;
  bool is(std::string_view name, H5O_type_t type) const;
};

bool Input::State::is(std::string_view name, H5O_type_t type) const {
  if (name.empty()) return type == H5O_TYPE_GROUP;
  // H5Oexists_by_name wants every parent to exist.
  for (std::size_t slash = name.find('/', 1); slash != std::string_view::npos; slash = name.find('/', slash + 1))
    if (H5Lexists(file, std::string(name.substr(0, slash)).c_str(), H5P_DEFAULT) <= 0) return false;
  const std::string text(name);
  if (H5Lexists(file, text.c_str(), H5P_DEFAULT) <= 0 || H5Oexists_by_name(file, text.c_str(), H5P_DEFAULT) <= 0) return false;
  H5O_info_t info;
  return H5Oget_info_by_name2(file, text.c_str(), &info, H5O_INFO_BASIC, H5P_DEFAULT) >= 0 && info.type == type;
}

Id Input::State::object(std::string_view name) const {
  Id id(H5Oopen(file, object_name(name).c_str(), H5P_DEFAULT), H5Oclose);
  if (!id.valid()) fail(Exit::input, "'{}' has no group or array '{}'", path, object_name(name));
  return id;
}

Input::Input(std::string path) : state_(std::make_unique<State>()) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) fail(Exit::input, "cannot open '{}': {}", path, errno_text(errno));
  if (S_ISDIR(status.st_mode)) fail(Exit::input, "cannot open '{}': it is a folder, an HDF5 file is expected", path);
  if (status.st_size == 0) fail(Exit::input, "'{}' is empty, an HDF5 file is expected", path);
  if (!is_hdf5(path)) fail(Exit::input, "'{}' is not an HDF5 file", path);
  verify_seal(path, static_cast<std::size_t>(status.st_size));
  const Session session;
  const Id access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose);
  H5Pset_file_locking(access, true, true);  // where the file system has no locks, read without
  state_->file = Id(H5Fopen(path.c_str(), H5F_ACC_RDONLY, access), H5Fclose);
  if (!state_->file.valid()) {
    const std::string why = innermost();
    if (why.find("truncated") != std::string::npos) fail(Exit::input, "'{}' is cut short ({}): copy or make it again", path, why);
    fail(Exit::input, "'{}' is a damaged HDF5 file or cannot be read: {}", path, why);
  }
  state_->path = std::move(path);
}

Input::~Input() = default;
Input::Input(Input&&) noexcept = default;
Input& Input::operator=(Input&&) noexcept = default;

const std::string& Input::path() const { return state_->path; }

namespace {

std::vector<std::string> names_below(hid_t file, const std::string& path, std::string_view group) {
  const Id id(H5Gopen2(file, object_name(group).c_str(), H5P_DEFAULT), H5Gclose);
  if (!id.valid()) fail(Exit::input, "'{}' has no group '{}'", path, object_name(group));
  std::vector<std::string> names;
  hsize_t index = 0;
  const herr_t walked = H5Literate(
      id, H5_INDEX_NAME, H5_ITER_NATIVE, &index,
      [](hid_t, const char* name, const H5L_info_t*, void* out) -> herr_t {
        static_cast<std::vector<std::string>*>(out)->emplace_back(name);
        return 0;
      },
      &names);
  if (walked < 0) fail(Exit::input, "'{}' is damaged at group '{}': {}", path, object_name(group), innermost());
  std::sort(names.begin(), names.end());
  return names;
}

std::string joined(std::string_view group, std::string_view name) { return group.empty() ? std::string(name) : fmt::format("{}/{}", group, name); }

}  // namespace

std::vector<std::string> Input::groups(std::string_view group) const {
  const Session session;
  auto names = names_below(state_->file, state_->path, group);
  std::erase_if(names, [&](const std::string& name) { return !state_->is(joined(group, name), H5O_TYPE_GROUP); });
  return names;
}

std::vector<std::string> Input::datasets(std::string_view group) const {
  const Session session;
  auto names = names_below(state_->file, state_->path, group);
  std::erase_if(names, [&](const std::string& name) { return !state_->is(joined(group, name), H5O_TYPE_DATASET); });
  return names;
}

std::vector<std::string> Input::all_datasets(std::string_view group) const {
  const Session session;
  // H5Ovisit meets every object once, so a group that links to itself ends too.
  struct Visit {
    std::string prefix;
    std::vector<std::string> names;
  } visit{std::string(group), {}};
  const Id id(H5Gopen2(state_->file, object_name(group).c_str(), H5P_DEFAULT), H5Gclose);
  if (!id.valid()) fail(Exit::input, "'{}' has no group '{}'", state_->path, object_name(group));
  const herr_t walked = H5Ovisit2(
      id, H5_INDEX_NAME, H5_ITER_NATIVE,
      [](hid_t, const char* name, const H5O_info_t* info, void* out) -> herr_t {
        auto& v = *static_cast<Visit*>(out);
        if (info->type == H5O_TYPE_DATASET) v.names.push_back(joined(v.prefix, name));
        return 0;
      },
      &visit, H5O_INFO_BASIC);
  if (walked < 0) fail(Exit::input, "'{}' is damaged: {}", state_->path, innermost());
  std::sort(visit.names.begin(), visit.names.end());
  return visit.names;
}

bool Input::has_dataset(std::string_view name) const {
  const Session session;
  return state_->is(name, H5O_TYPE_DATASET);
}

bool Input::has_group(std::string_view name) const {
  const Session session;
  return state_->is(name, H5O_TYPE_GROUP);
}

Input::State::Open& Input::State::dataset(std::string_view name) {
  if (const auto found = open.find(name); found != open.end()) return found->second;
  if (!is(name, H5O_TYPE_DATASET)) fail(Exit::input, "'{}' has no array '{}'", path, name);
  Open entry;
  entry.id = Id(H5Dopen2(file, std::string(name).c_str(), H5P_DEFAULT), H5Dclose);
  if (!entry.id.valid()) fail(Exit::input, "'{}', array '{}' cannot be opened: {}", path, name, innermost());
  const Id type(H5Dget_type(entry.id), H5Tclose);
  const Id space(H5Dget_space(entry.id), H5Sclose);
  if (!type.valid() || !space.valid()) fail(Exit::input, "'{}', array '{}' is damaged: {}", path, name, innermost());
  describe_type(type, entry.info);
  entry.info.shape = shape_of(space);
  if (H5Sget_simple_extent_type(space) == H5S_NULL) entry.info.shape = {0};
  entry.info.needs_filter = missing_filter(entry.id);
  return open.emplace(std::string(name), std::move(entry)).first->second;
}

Info Input::info(std::string_view name) const {
  const Session session;
  if (!state_->is(name, H5O_TYPE_DATASET)) {
    const std::string near = nearest(name, all_datasets());
    fail(Exit::input, "'{}' has no array '{}'{}", state_->path, name, near.empty() ? "" : fmt::format(": did you mean '{}'?", near));
  }
  return state_->dataset(name).info;
}

std::uint64_t Input::values_to_read(std::string_view name, std::uint64_t first, std::uint64_t count, std::size_t size) const {
  const Info what = info(name);
  if (first > what.rows() || count > what.rows() - first)
    fail(Exit::input, "'{}', array '{}': rows {} to {} asked for, it has {}", path(), name, first, first + count, what.rows());
  if (what.rows() == 0) return 0;
  const std::uint64_t row = what.values() == ~std::uint64_t{0} ? what.values() : what.values() / what.rows();
  std::uint64_t values = 0, bytes = 0;
  if (__builtin_mul_overflow(row, count, &values) || __builtin_mul_overflow(values, size, &bytes) || bytes > kMaxRead)
    fail(Exit::input, "'{}', array '{}': {} rows of {} values exceed the limit of {} GiB for one read", path(), name, count, row, kMaxRead >> 30);
  return values;
}

void Input::read_raw(std::string_view name, std::uint64_t first, std::uint64_t count, Dtype dtype, void* out, std::size_t size) const {
  const Session session;
  auto& [id, what] = state_->dataset(name);
  if (what.kind != Kind::integer && what.kind != Kind::real && what.kind != Kind::boolean)
    fail(Exit::input, "'{}', array '{}' holds {}, numbers are expected", path(), name, what.type);
  if (!what.needs_filter.empty())
    fail(Exit::input,
         "'{}', array '{}' is compressed with the filter {}, which this HDF5 library does not have: use a copy rewritten with gzip, "
         "or install the filter's plugin (Debian: hdf5-filter-plugin-blosc-serial, hdf5-filter-plugin), or set HDF5_PLUGIN_PATH to its folder",
         path(), name, what.needs_filter);
  if (values_to_read(name, first, count, size_of(dtype)) != size)
    fail(Exit::input, "'{}', array '{}' has {} values, {} are expected", path(), name, what.values(), size);
  if (size == 0) return;

  const Id file_space(H5Dget_space(id), H5Sclose);
  Id memory_space;
  if (what.shape.empty()) {
    memory_space = Id(H5Screate(H5S_SCALAR), H5Sclose);
  } else {
    std::vector<hsize_t> start(what.shape.size(), 0), extent(what.shape.begin(), what.shape.end());
    start[0] = first;
    extent[0] = count;
    H5Sselect_hyperslab(file_space, H5S_SELECT_SET, start.data(), nullptr, extent.data(), nullptr);
    memory_space = Id(H5Screate_simple(static_cast<int>(extent.size()), extent.data(), nullptr), H5Sclose);
  }
  const Id transfer(H5Pcreate(H5P_DATASET_XFER), H5Pclose);
  // HDF5 converts 16-bit floats bit by bit, twenty times slower than this.
  if (dtype == Dtype::f32 || dtype == Dtype::f64) {
    const Id type(H5Dget_type(id), H5Tclose);
    if (is_half(type)) {
      std::vector<std::uint16_t> halves(size);
      if (H5Dread(id, type, memory_space, file_space, transfer, halves.data()) < 0)
        fail(Exit::input, "'{}', array '{}' cannot be read, the file is damaged: {}", path(), name, innermost());
      if (dtype == Dtype::f32) std::transform(halves.begin(), halves.end(), static_cast<float*>(out), from_half);
      else std::transform(halves.begin(), halves.end(), static_cast<double*>(out), from_half);
      return;
    }
  }
  bool to_integer = dtype != Dtype::f32 && dtype != Dtype::f64;
  H5Pset_type_conv_cb(transfer, refuse_conversion, &to_integer);
  if (H5Dread(id, native(dtype), memory_space, file_space, transfer, out) < 0) {
    const std::string why = innermost();
    if (why.find("can't handle conversion exception") != std::string::npos || why.find("can't convert") != std::string::npos)
      fail(Exit::input, "'{}', array '{}': a value of type {} does not fit into {}", path(), name, what.type, name_of(dtype));
    fail(Exit::input, "'{}', array '{}' cannot be read, the file is damaged: {}", path(), name, why);
  }
}

std::vector<std::string> Input::read_text(std::string_view name) const {
  const Session session;
  auto& [id, what] = state_->dataset(name);
  if (what.kind != Kind::text) fail(Exit::input, "'{}', array '{}' holds {}, text is expected", path(), name, what.type);
  const std::uint64_t count = values_to_read(name, 0, what.rows(), std::max<std::size_t>(what.size, 64));
  const Id type(H5Dget_type(id), H5Tclose);
  const Id space(H5Dget_space(id), H5Sclose);
  auto texts = texts_of(type, space, count, [from = hid_t{id}](hid_t memory, void* out) { return H5Dread(from, memory, H5S_ALL, H5S_ALL, H5P_DEFAULT, out); });
  if (texts.size() != count) fail(Exit::input, "'{}', array '{}' cannot be read: {}", path(), name, innermost());
  return texts;
}

std::string Input::read_one_text(std::string_view name) const {
  auto texts = read_text(name);
  if (texts.size() != 1) fail(Exit::input, "'{}': '{}' has {} texts where one is expected", path(), name, texts.size());
  return std::move(texts[0]);
}

bool Input::has_attribute(std::string_view object, std::string_view name) const {
  const Session session;
  const Id id(H5Oopen(state_->file, object_name(object).c_str(), H5P_DEFAULT), H5Oclose);
  return id.valid() && H5Aexists(id, std::string(name).c_str()) > 0;
}

std::vector<std::string> Input::attributes(std::string_view object) const {
  const Session session;
  const Id id = state_->object(object);
  std::vector<std::string> names;
  hsize_t index = 0;
  H5Aiterate2(
      id, H5_INDEX_NAME, H5_ITER_NATIVE, &index,
      [](hid_t, const char* name, const H5A_info_t*, void* out) -> herr_t {
        static_cast<std::vector<std::string>*>(out)->emplace_back(name);
        return 0;
      },
      &names);
  std::sort(names.begin(), names.end());
  return names;
}

namespace {

struct Attribute {
  Id id, type, space;
  Info info;
};

Attribute open_attribute(const Id& object, const std::string& path, std::string_view object_text, std::string_view name) {
  Attribute a;
  if (H5Aexists(object, std::string(name).c_str()) <= 0) fail(Exit::input, "'{}': '{}' has no attribute '{}'", path, object_name(object_text), name);
  a.id = Id(H5Aopen(object, std::string(name).c_str(), H5P_DEFAULT), H5Aclose);
  if (!a.id.valid()) fail(Exit::input, "'{}': attribute '{}' of '{}' cannot be opened: {}", path, name, object_name(object_text), innermost());
  a.type = Id(H5Aget_type(a.id), H5Tclose);
  a.space = Id(H5Aget_space(a.id), H5Sclose);
  describe_type(a.type, a.info);
  a.info.shape = shape_of(a.space);
  if (H5Sget_simple_extent_type(a.space) == H5S_NULL) a.info.shape = {0};
  if (a.info.values() > (1u << 24)) fail(Exit::input, "'{}': attribute '{}' declares {} values", path, name, a.info.values());
  return a;
}

template <class T>
std::vector<T> numbers_of(const Attribute& a, hid_t memory, const std::string& path, std::string_view name) {
  if (a.info.kind != Kind::integer && a.info.kind != Kind::real && a.info.kind != Kind::boolean)
    fail(Exit::input, "'{}': attribute '{}' is {}, a number is expected", path, name, a.info.type);
  std::vector<T> values(a.info.values());
  if (!values.empty() && H5Aread(a.id, memory, values.data()) < 0) fail(Exit::input, "'{}': attribute '{}' cannot be read: {}", path, name, innermost());
  return values;
}

}  // namespace

std::vector<std::string> Input::texts_attribute(std::string_view object, std::string_view name) const {
  const Session session;
  const Id id = state_->object(object);
  const Attribute a = open_attribute(id, path(), object, name);
  if (a.info.kind != Kind::text) fail(Exit::input, "'{}': attribute '{}' is {}, text is expected", path(), name, a.info.type);
  const std::uint64_t count = a.info.values();
  auto texts = texts_of(a.type, a.space, count, [&](hid_t memory, void* out) { return H5Aread(a.id, memory, out); });
  if (texts.size() != count) fail(Exit::input, "'{}': attribute '{}' cannot be read: {}", path(), name, innermost());
  return texts;
}

std::string Input::text_attribute(std::string_view object, std::string_view name) const {
  auto texts = texts_attribute(object, name);
  if (texts.size() != 1) fail(Exit::input, "'{}': attribute '{}' has {} texts where one is expected", path(), name, texts.size());
  return std::move(texts[0]);
}

std::int64_t Input::integer_attribute(std::string_view object, std::string_view name) const {
  const Session session;
  const Id id = state_->object(object);
  const Attribute a = open_attribute(id, path(), object, name);
  if (a.info.kind == Kind::real) fail(Exit::input, "'{}': attribute '{}' is {}, an integer is expected", path(), name, a.info.type);
  const auto values = numbers_of<std::int64_t>(a, H5T_NATIVE_INT64, path(), name);
  if (values.size() != 1) fail(Exit::input, "'{}': attribute '{}' has {} values where one is expected", path(), name, values.size());
  return values[0];
}

std::vector<double> Input::reals_attribute(std::string_view object, std::string_view name) const {
  const Session session;
  const Id id = state_->object(object);
  return numbers_of<double>(open_attribute(id, path(), object, name), H5T_NATIVE_DOUBLE, path(), name);
}

double Input::real_attribute(std::string_view object, std::string_view name) const {
  const auto values = reals_attribute(object, name);
  if (values.size() != 1) fail(Exit::input, "'{}': attribute '{}' has {} values where one is expected", path(), name, values.size());
  return values[0];
}

// ---- Output ----

// The file is built by HDF5's in-memory driver and its image written by us: the library's own writer reports a full
// disk as late as at exit, and leaves an unreadable file when it is killed.
struct Output::State {
  State(std::string path, bool force) : target(std::move(path), force) {}
  ~State() {
    const Session session;
    link = Id();
    file = Id();
  }
  AtomicFile target;
  Id file, link;

  [[noreturn]] void failed(std::string_view name) const { fail(Exit::write, "cannot write '{}' into '{}': {}", name, target.path(), innermost()); }
};

Output::Output(std::string path, bool force) : state_(std::make_unique<State>(std::move(path), force)) {
  const Session session;
  const Id access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose);
  H5Pset_fapl_core(access, std::size_t{1} << 20, false);
  H5Pset_fclose_degree(access, H5F_CLOSE_STRONG);
  state_->file = Id(H5Fcreate(this->path().c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, access), H5Fclose);
  if (!state_->file.valid()) fail(Exit::write, "cannot begin '{}': {}", this->path(), innermost());
  state_->link = Id(H5Pcreate(H5P_LINK_CREATE), H5Pclose);
  H5Pset_create_intermediate_group(state_->link, 1);
}

Output::~Output() = default;
Output::Output(Output&&) noexcept = default;
Output& Output::operator=(Output&&) noexcept = default;

const std::string& Output::path() const { return state_->target.path(); }

void Output::write_raw(std::string_view name, const Shape& shape, Dtype dtype, const void* values, std::size_t count, Storage storage) {
  std::uint64_t product = 1;
  for (const auto extent : shape) product *= extent;
  check(product == count, fmt::format("array '{}' of shape product {} is given {} values", name, product, count));
  const Session session;
  const std::vector<hsize_t> dims(shape.begin(), shape.end());
  const Id space(dims.empty() ? H5Screate(H5S_SCALAR) : H5Screate_simple(static_cast<int>(dims.size()), dims.data(), nullptr), H5Sclose);
  const Id create(H5Pcreate(H5P_DATASET_CREATE), H5Pclose);
  H5Pset_obj_track_times(create, false);
  if (!dims.empty() && count > 0 && (storage.gzip || storage.checksum)) {
    // Chunks of whole rows, about 1 MiB each.
    std::vector<hsize_t> chunk = dims;
    std::uint64_t below = count * size_of(dtype);
    for (auto& extent : chunk) {
      below /= extent;
      extent = std::clamp<hsize_t>((std::uint64_t{1} << 20) / std::max<std::uint64_t>(below, 1), 1, extent);
    }
    H5Pset_chunk(create, static_cast<int>(chunk.size()), chunk.data());
    if (storage.gzip) {
      H5Pset_shuffle(create);
      H5Pset_deflate(create, 1);
    }
    if (storage.checksum) H5Pset_fletcher32(create);
  }
  const Id dataset(H5Dcreate2(state_->file, std::string(name).c_str(), standard(dtype), space, state_->link, create, H5P_DEFAULT), H5Dclose);
  if (!dataset.valid()) state_->failed(name);
  if (count > 0 && H5Dwrite(dataset, native(dtype), H5S_ALL, H5S_ALL, H5P_DEFAULT, values) < 0) state_->failed(name);
}

namespace {

Id text_type() {
  Id type(H5Tcopy(H5T_C_S1), H5Tclose);
  H5Tset_size(type, H5T_VARIABLE);
  H5Tset_cset(type, H5T_CSET_UTF8);
  return type;
}

}  // namespace

void Output::write_text(std::string_view name, const std::vector<std::string>& texts) {
  const Session session;
  const hsize_t count = texts.size();
  const Id space(H5Screate_simple(1, &count, nullptr), H5Sclose);
  const Id create(H5Pcreate(H5P_DATASET_CREATE), H5Pclose);
  H5Pset_obj_track_times(create, false);
  const Id type = text_type();
  const Id dataset(H5Dcreate2(state_->file, std::string(name).c_str(), type, space, state_->link, create, H5P_DEFAULT), H5Dclose);
  if (!dataset.valid()) state_->failed(name);
  std::vector<const char*> raw;
  raw.reserve(texts.size());
  for (const auto& text : texts) raw.push_back(text.c_str());
  if (count > 0 && H5Dwrite(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, raw.data()) < 0) state_->failed(name);
}

void Output::write_one_text(std::string_view name, std::string_view text) { write_text(name, {std::string(text)}); }

void Output::group(std::string_view name) {
  const Session session;
  const Id group(H5Gcreate2(state_->file, std::string(name).c_str(), state_->link, H5P_DEFAULT, H5P_DEFAULT), H5Gclose);
  if (!group.valid()) state_->failed(name);
}

namespace {

bool put_attribute(hid_t file, std::string_view object, std::string_view name, hid_t stored, hid_t memory, const void* value) {
  const Id id(H5Oopen(file, object_name(object).c_str(), H5P_DEFAULT), H5Oclose);
  if (!id.valid()) return false;
  const std::string text(name);
  if (H5Aexists(id, text.c_str()) > 0 && H5Adelete(id, text.c_str()) < 0) return false;
  const Id space(H5Screate(H5S_SCALAR), H5Sclose);
  const Id attribute(H5Acreate2(id, text.c_str(), stored, space, H5P_DEFAULT, H5P_DEFAULT), H5Aclose);
  return attribute.valid() && H5Awrite(attribute, memory, value) >= 0;
}

}  // namespace

void Output::attribute(std::string_view object, std::string_view name, std::string_view text) {
  const Session session;
  const Id type = text_type();  // variable length: a fixed one may not exceed 64 KiB
  const std::string copy(text);
  const char* raw = copy.c_str();
  if (!put_attribute(state_->file, object, name, type, type, &raw)) state_->failed(name);
}

void Output::attribute(std::string_view object, std::string_view name, std::int64_t value) {
  const Session session;
  if (!put_attribute(state_->file, object, name, H5T_STD_I64LE, H5T_NATIVE_INT64, &value)) state_->failed(name);
}

void Output::attribute(std::string_view object, std::string_view name, double value) {
  const Session session;
  if (!put_attribute(state_->file, object, name, H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, &value)) state_->failed(name);
}

void Output::commit() {
  const Session session;
  if (H5Fflush(state_->file, H5F_SCOPE_GLOBAL) < 0) state_->failed("the file");
  // The driver's own memory is written as it is: a copy of the image would double what a large checkpoint takes.
  void* handle = nullptr;
  const ssize_t size = H5Fget_file_image(state_->file, nullptr, 0);
  if (size < 0 || H5Fget_vfd_handle(state_->file, H5P_DEFAULT, &handle) < 0) state_->failed("the file");
  const void* image = *static_cast<void**>(handle);
  Seal seal;
  seal.hash = hash64(image, static_cast<std::size_t>(size));
  state_->target.write(image, static_cast<std::size_t>(size));
  state_->target.write(&seal, sizeof seal);
  state_->target.commit();
  state_->file = Id();
}

}  // namespace bl::store
