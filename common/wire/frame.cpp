#include "wire/frame.hpp"

#include <bit>
#include <cstring>

#include "base/error.hpp"
#include "base/hash.hpp"
#include "wire/value.hpp"

namespace bl::wire {
namespace {

static_assert(std::endian::native == std::endian::little, "frames are little-endian and are written as they lie in memory");

constexpr char kMagic[4] = {'B', 'L', 'F', '1'};
constexpr std::uint8_t kVersion = 1;

template <class T>
void store(std::byte* out, std::size_t offset, T value) {
  std::memcpy(out + offset, &value, sizeof value);
}
template <class T>
T load(const std::byte* in, std::size_t offset) {
  T value;
  std::memcpy(&value, in + offset, sizeof value);
  return value;
}

bool known(std::uint8_t kind) { return (kind >= 1 && kind <= 4) || (kind >= 16 && kind <= 19); }

std::string printable(const std::byte* bytes, std::size_t n) {
  std::string out;
  for (std::size_t i = 0; i < n; ++i) {
    const auto c = static_cast<unsigned char>(bytes[i]);
    out += c >= 32 && c < 127 ? std::string(1, static_cast<char>(c)) : fmt::format("\\x{:02x}", c);
  }
  return out;
}

}  // namespace

std::string_view name_of(Kind kind) {
  switch (kind) {
    case Kind::hello: return "HELLO";
    case Kind::batch: return "BATCH";
    case Kind::end: return "END";
    case Kind::abort: return "ABORT";
    case Kind::ack: return "ACK";
    case Kind::credit: return "CREDIT";
    case Kind::heartbeat: return "HEARTBEAT";
    case Kind::stop: return "STOP";
  }
  return "?";
}

void write_header(const Frame& frame, std::byte* out) {
  std::memset(out, 0, kHeader);
  std::memcpy(out, kMagic, sizeof kMagic);
  store(out, 4, kVersion);
  store(out, 5, static_cast<std::uint8_t>(frame.kind));
  store(out, 6, frame.flags);
  store(out, 8, frame.stream);
  store(out, 16, frame.seq);
  store(out, 24, static_cast<std::uint64_t>(frame.body.size()));
  store(out, 32, hash64(frame.body.data(), frame.body.size()));
  store(out, 40, frame.schema);
  store(out, 48, frame.count);
  store(out, 56, hash64(out, 56));
}

Header read_header(const std::byte* bytes, std::string_view where) {
  if (std::memcmp(bytes, kMagic, sizeof kMagic) != 0)
    fail(Exit::input, "{}: not a beamline stream (it starts with \"{}\"); bl-preprocess turns CSV and HDF5 files into one", where, printable(bytes, 8));
  if (load<std::uint64_t>(bytes, 56) != hash64(bytes, 56)) fail(Exit::input, "{}: the header of a frame is damaged (its checksum differs)", where);
  const auto version = load<std::uint8_t>(bytes, 4);
  if (version != kVersion)
    fail(Exit::input, "{}: frame version {} is newer than version {} of this program: update beamline to read it", where, version, kVersion);
  const auto kind = load<std::uint8_t>(bytes, 5);
  if (!known(kind)) fail(Exit::input, "{}: frame of unknown kind {}", where, kind);
  Header h;
  h.kind = static_cast<Kind>(kind);
  h.flags = load<std::uint16_t>(bytes, 6);
  h.stream = load<std::uint64_t>(bytes, 8);
  h.seq = load<std::uint64_t>(bytes, 16);
  h.length = load<std::uint64_t>(bytes, 24);
  h.body_hash = load<std::uint64_t>(bytes, 32);
  h.schema = load<std::uint64_t>(bytes, 40);
  h.count = load<std::uint32_t>(bytes, 48);
  if (h.length > kMaxBody) fail(Exit::input, "{}: frame of {} bytes is above the limit of {}", where, h.length, kMaxBody);
  return h;
}

void check_body(const Header& header, const Buffer& body, std::string_view where) {
  if (body.size() != header.length || hash64(body.data(), body.size()) != header.body_hash)
    fail(Exit::input, "{}: {} {} is damaged (its checksum differs)", where, name_of(header.kind), header.seq);
}

std::uint64_t end_term(std::uint64_t seq, std::uint64_t body_hash) { return hash64(&body_hash, sizeof body_hash, seq); }

Frame end_frame(std::uint64_t stream, const End& end) {
  Frame frame;
  frame.kind = Kind::end;
  frame.stream = stream;
  frame.seq = end.batches;
  frame.body = encode_value({{"batches", end.batches}, {"events", end.events}, {"digest", end.digest}});
  return frame;
}

End read_end(const Frame& frame, std::string_view where) {
  const auto v = decode_value(frame.body, where);
  const auto number = [&](const char* key) -> std::uint64_t {
    if (!v.is_object() || !v.contains(key) || !v[key].is_number_unsigned()) fail(Exit::input, "{}: END lacks '{}'", where, key);
    return v[key].get<std::uint64_t>();
  };
  return {number("batches"), number("events"), number("digest")};
}

Frame abort_frame(std::uint64_t stream, std::string_view why) {
  Frame frame;
  frame.kind = Kind::abort;
  frame.stream = stream;
  frame.body = Buffer(why.data(), why.size());
  return frame;
}

std::string read_abort(const Frame& frame) { return {reinterpret_cast<const char*>(frame.body.data()), frame.body.size()}; }

}  // namespace bl::wire
