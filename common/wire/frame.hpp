// What travels: a 64-byte header and a body, the same in files, pipes and sockets. docs/format.md shows a reader.
//
//   offset size
//   0      4    magic "BLF1"
//   4      1    version of the frame, 1
//   5      1    kind
//   6      2    flags, 0
//   8      8    stream: id of the stream the frame belongs to
//   16     8    seq: 0, 1, 2 … per stream for BATCH; END has the number of batches; 0 for the others
//   24     8    length of the body in bytes, at most kMaxBody
//   32     8    xxh3-64 of the body
//   40     8    hash of the schema file (HELLO, BATCH), else 0
//   48     4    events in the batch (BATCH), credit in batches (CREDIT), else 0
//   52     4    reserved, 0
//   56     8    xxh3-64 of bytes 0…55
//   64     …    body, then zeros up to a multiple of 64
//
// All numbers are little-endian. A stream is HELLO, BATCH…, END; an ABORT may stand in place of END and says why. A
// stream that stops without either is an error (Exit::upstream), never an end.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

#include "data/buffer.hpp"

namespace bl::wire {

enum class Kind : std::uint8_t { hello = 1, batch = 2, end = 3, abort = 4, ack = 16, credit = 17, heartbeat = 18, stop = 19 };
std::string_view name_of(Kind kind);

inline constexpr std::size_t kHeader = 64;
inline constexpr std::uint64_t kMaxBody = std::uint64_t{256} << 20;  // 256 MiB; a target batch is 1 MiB

struct Frame {
  Kind kind = Kind::hello;
  std::uint16_t flags = 0;
  std::uint64_t stream = 0, seq = 0, schema = 0;
  std::uint32_t count = 0;
  Buffer body;
};

struct Header {
  Kind kind = Kind::hello;
  std::uint16_t flags = 0;
  std::uint64_t stream = 0, seq = 0, length = 0, body_hash = 0, schema = 0;
  std::uint32_t count = 0;
};

inline std::size_t padded(std::uint64_t length) { return static_cast<std::size_t>((length + 63) / 64 * 64); }

// Header bytes of a frame, its body hash computed.
void write_header(const Frame& frame, std::byte* out /* kHeader bytes */);
// Checks magic, version, kind, length and header hash. Throws Exit::input, with `where` in front of the reason.
Header read_header(const std::byte* bytes, std::string_view where);
// Throws Exit::input when the body does not have the header's hash.
void check_body(const Header& header, const Buffer& body, std::string_view where);

// Body of END: {"batches": n, "events": n, "digest": u64}. digest = sum over BATCH frames of
// hash64(body hash, seed = seq), so it does not depend on the order of arrival.
struct End {
  std::uint64_t batches = 0, events = 0, digest = 0;
  bool operator==(const End&) const = default;
};
std::uint64_t end_term(std::uint64_t seq, std::uint64_t body_hash);
Frame end_frame(std::uint64_t stream, const End& end);
End read_end(const Frame& frame, std::string_view where);

Frame abort_frame(std::uint64_t stream, std::string_view why);
std::string read_abort(const Frame& frame);

}  // namespace bl::wire
