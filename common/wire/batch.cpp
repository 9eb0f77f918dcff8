#include "wire/batch.hpp"

#include <cstring>
#include <msgpack.hpp>

namespace bl::wire {
namespace {

constexpr std::uint32_t kMaxColumns = 4096, kMaxDims = 8, kMaxName = 256;

// Appends to memory that the caller sized; msgpack-cxx packs into it.
struct Cursor {
  std::byte* out;
  std::size_t at = 0;
  void write(const char* data, std::size_t n) {
    std::memcpy(out + at, data, n);
    at += n;
  }
};

struct Counter {
  std::size_t at = 0;
  void write(const char*, std::size_t n) { at += n; }
};

template <class Stream>
void pack_text(msgpack::packer<Stream>& p, std::string_view text) {
  p.pack_str(static_cast<std::uint32_t>(text.size())).pack_str_body(text.data(), static_cast<std::uint32_t>(text.size()));
}

template <class Stream>
void pack_batch(Stream& stream, const Batch& batch) {
  static constexpr char zeros[Buffer::kAlign] = {};
  msgpack::packer<Stream> p(stream);
  p.pack_map(2);
  pack_text(p, "events");
  p.pack_uint32(batch.events);
  pack_text(p, "columns");
  p.pack_array(static_cast<std::uint32_t>(batch.columns.size()));
  for (const auto& c : batch.columns) {
    p.pack_array(5);
    pack_text(p, c.name);
    pack_text(p, name_of(c.dtype));
    p.pack_array(static_cast<std::uint32_t>(c.dims.size()));
    for (const auto& d : c.dims) pack_text(p, d);
    const auto size = static_cast<std::uint32_t>(c.raw.size());
    const std::size_t data_header = size < 256 ? 2 : size < 65536 ? 3 : 5;
    const std::size_t after = stream.at + 2 + data_header;  // a bin8 header of 2 bytes, then the pad, then the data's header
    const auto pad = static_cast<std::uint32_t>((Buffer::kAlign - after % Buffer::kAlign) % Buffer::kAlign);
    p.pack_bin(pad).pack_bin_body(zeros, pad);
    p.pack_bin(size).pack_bin_body(reinterpret_cast<const char*>(c.raw.data()), size);
  }
}

// Follows the one shape that a batch body may have; anything else is refused where it stands.
class BatchVisitor : public msgpack::null_visitor {
 public:
  BatchVisitor(const Buffer& body, Batch& batch) : body_(body), batch_(batch) {}
  std::string problem;
  bool complete() const { return have_events_ && have_columns_; }

  bool start_map(std::uint32_t n) { return depth_ == 0 && n == 2 && !in_map_ ? (in_map_ = true) : refuse("a map"); }
  bool start_map_key() {
    in_key_ = true;
    return true;
  }
  bool end_map_key() {
    in_key_ = false;
    return true;
  }
  bool visit_str(const char* v, std::uint32_t size) {
    const std::string_view text(v, size);
    if (in_key_) {
      key_ = text;
      return key_ == "events" || key_ == "columns" ? true : refuse("an unknown key");
    }
    if (size > kMaxName) return refuse("a name that is too long");
    if (depth_ == 2 && item_ == 0) {
      batch_.columns.back().name = text;
      return true;
    }
    if (depth_ == 2 && item_ == 1) {
      const auto dtype = dtype_named(text);
      if (!dtype) return refuse("an unknown dtype");
      batch_.columns.back().dtype = *dtype;
      return true;
    }
    if (depth_ == 3) {
      batch_.columns.back().dims.emplace_back(text);
      return true;
    }
    return refuse("text");
  }
  bool visit_positive_integer(std::uint64_t v) {
    if (depth_ != 0 || key_ != "events" || in_key_ || v > 0xffffffffu) return refuse("a number");
    batch_.events = static_cast<std::uint32_t>(v);
    return have_events_ = true;
  }
  bool visit_bin(const char* v, std::uint32_t size) {
    if (depth_ != 2) return refuse("binary data");
    if (item_ == 3) return size < Buffer::kAlign ? true : refuse("padding that is too long");
    if (item_ != 4) return refuse("binary data");
    const auto offset = static_cast<std::size_t>(v - reinterpret_cast<const char*>(body_.data()));
    Column& c = batch_.columns.back();
    if (size % size_of(c.dtype) != 0) return refuse("a column whose size is no multiple of its type's");
    // Views need aligned memory; a writer that did not pad (it is allowed to) costs a copy.
    const bool aligned = reinterpret_cast<std::uintptr_t>(v) % 8 == 0;
    c.raw = aligned ? body_.slice(offset, size) : Buffer(v, size);
    return true;
  }
  bool start_array(std::uint32_t n) {
    ++depth_;
    if (depth_ == 1) return key_ == "columns" && n <= kMaxColumns ? (have_columns_ = true) : refuse("an array");
    if (depth_ == 2) {
      if (n != 5) return refuse("a column that is not [name, dtype, dims, pad, data]");
      batch_.columns.emplace_back();
      item_ = 0;
      return true;
    }
    return depth_ == 3 && item_ == 2 && n <= kMaxDims ? true : refuse("an array");
  }
  bool end_array_item() {
    if (depth_ == 2) ++item_;
    return true;
  }
  bool end_array() {
    --depth_;
    return true;
  }
  bool visit_nil() { return refuse("nil"); }
  bool visit_boolean(bool) { return refuse("a boolean"); }
  bool visit_negative_integer(std::int64_t) { return refuse("a negative number"); }
  bool visit_float32(float) { return refuse("a float"); }
  bool visit_float64(double) { return refuse("a float"); }
  bool visit_ext(const char*, std::uint32_t) { return refuse("an extension type"); }
  void parse_error(std::size_t, std::size_t) { problem = problem.empty() ? "not msgpack" : problem; }
  void insufficient_bytes(std::size_t, std::size_t) { problem = problem.empty() ? "cut short" : problem; }

 private:
  bool refuse(const char* what) {
    problem = std::string(what) + " where none belongs";
    return false;
  }
  const Buffer& body_;
  Batch& batch_;
  std::string key_;
  bool in_map_ = false, in_key_ = false, have_events_ = false, have_columns_ = false;
  int depth_ = 0, item_ = 0;
};

}  // namespace

Buffer encode(const Batch& batch) {
  for (const auto& c : batch.columns)
    if (c.raw.size() > kMaxBody)
      fail(Exit::failed, "column '{}' of batch {} has {} bytes, above the limit of {}: write smaller batches", c.name, batch.seq, c.raw.size(), kMaxBody);
  Counter count;
  pack_batch(count, batch);
  if (count.at > kMaxBody) fail(Exit::failed, "batch {} has {} bytes, above the limit of {}: write smaller batches", batch.seq, count.at, kMaxBody);
  Buffer body(count.at);
  Cursor cursor{body.edit()};
  pack_batch(cursor, batch);
  return body;
}

Batch decode(const Buffer& body, std::uint64_t seq, std::string_view where) {
  Batch batch;
  batch.seq = seq;
  BatchVisitor visitor(body, batch);
  std::size_t offset = 0;
  const bool ok = msgpack::parse(reinterpret_cast<const char*>(body.data()), body.size(), offset, visitor);
  if (!ok || !visitor.problem.empty() || offset != body.size() || !visitor.complete())
    fail(Exit::input, "{}: batch {} cannot be read: {}", where, seq, visitor.problem.empty() ? "it is incomplete" : visitor.problem);
  // Whoever loops over events must not be made to by a number alone: a column per event has at least a byte each.
  if (batch.events > body.size()) fail(Exit::input, "{}: batch {} says {} events in {} bytes", where, seq, batch.events, body.size());
  for (std::size_t i = 0; i < batch.columns.size(); ++i)
    for (std::size_t j = 0; j < i; ++j)
      if (batch.columns[i].name == batch.columns[j].name) fail(Exit::input, "{}: batch {} has column '{}' twice", where, seq, batch.columns[i].name);
  try {
    check_structure(batch);
  } catch (const Error& e) {
    fail(Exit::input, "{}: batch {}: {}", where, seq, e.what());
  }
  return batch;
}

}  // namespace bl::wire
