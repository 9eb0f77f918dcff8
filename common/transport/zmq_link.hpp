// What both ends of a socket link share: timing, flags of frames, messages, keys. Internal to transport/.
//
// A message between peers is one frame: part 1 is the 64-byte header, part 2 the body when the header's length is not
// zero. PROTOCOL.md says what the fields mean on sockets.
#pragma once
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>
#include <zmq.hpp>

#include "transport/endpoint.hpp"
#include "wire/frame.hpp"

namespace bl::transport {

// What a relay's two ends tell each other: a sink whose batches are made one by one from a source, and whose
// acknowledgements are passed on to it (Sink::relays).
struct Relayed {
  std::atomic<std::int64_t> total{-1};     // batches of the whole input stream, once its END has come
  std::atomic<std::uint64_t> released{0};  // batches that were acknowledged upstream before this process joined
  std::atomic<bool> subset{false};         // other processes read batches of this stream that we never see
  std::function<bool()> drain;             // calling thread: handles acknowledgements; false when the sink was stopped
  // Wakes the source's read(). Set by the source, cleared when it goes.
  void set_poke(std::function<void()> poke) {
    const std::lock_guard lock(mutex_);
    poke_ = std::move(poke);
  }
  void poke() {
    const std::lock_guard lock(mutex_);
    if (poke_) poke_();
  }

 private:
  std::mutex mutex_;
  std::function<void()> poke_;
};

namespace link {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

inline constexpr milliseconds kHeartbeat{500};          // a peer that has nothing to say says so
inline constexpr milliseconds kSilence{1500};           // a peer that says nothing is lost
inline constexpr milliseconds kRetry{200};              // between two attempts to open a session
inline constexpr milliseconds kStall{1000};             // a thread that did not run for this long trusts no clock of its peers
inline constexpr milliseconds kGrace{1000};             // for peers that are away when everything is finished
inline constexpr milliseconds kLinger{1000};            // for bytes on their way when a socket is closed
inline constexpr std::uint64_t kMaxReason = 64u << 10;  // bytes of an ABORT's reason
inline constexpr int kMaxDamaged = 3;                   // damaged frames in a row from one producer before the run is given up
// What a producer holds beyond its consumers' credit: two batches, or more while they are small.
inline constexpr std::size_t kAhead = 2, kAheadBytes = std::size_t{1} << 20;

// Flags in the header.
inline constexpr std::uint16_t kOpen = 1, kGrant = 2, kExtra = 4, kRelay = 8, kFresh = 16;  // CREDIT
inline constexpr std::uint16_t kEndAck = 1;                                                 // ACK
inline constexpr std::uint16_t kFinal = 1, kPartial = 2;                                    // END
inline constexpr std::uint16_t kShared = 4, kSubset = 8;                                    // HELLO and HEARTBEAT of a producer
inline constexpr std::uint16_t kUnknown = 1, kAnswer = 2;                                   // HEARTBEAT of a producer

std::uint64_t random_id();  // of a process or session; not secret

// Wakes a thread that polls; cheap when it is awake already.
class Wake {
 public:
  Wake();
  ~Wake();
  Wake(const Wake&) = delete;
  Wake& operator=(const Wake&) = delete;
  int fd() const { return fd_; }
  void set();
  void clear();

 private:
  int fd_;
  std::atomic<bool> set_{false};
};

// A set of sequence numbers, as intervals: small while the numbers are dense.
class SeqSet {
 public:
  bool insert(std::uint64_t seq);  // false when it was there
  bool contains(std::uint64_t seq) const;
  std::uint64_t size() const { return size_; }
  std::uint64_t first_missing() const { return !runs_.empty() && runs_.begin()->first == 0 ? runs_.begin()->second : 0; }

 private:
  std::map<std::uint64_t, std::uint64_t> runs_;  // first -> one beyond the last
  std::uint64_t size_ = 0;
};

using HeaderBytes = std::array<std::byte, wire::kHeader>;
HeaderBytes header_of(const wire::Frame& frame);

// False when the peer (or, without identity, the connection) is not there.
bool send(zmq::socket_t& socket, const std::string* identity, const HeaderBytes& header, const Buffer& body);
inline bool send(zmq::socket_t& socket, const std::string* identity, const wire::Frame& frame) { return send(socket, identity, header_of(frame), frame.body); }

struct Message {
  std::string identity;                // of the peer, on a ROUTER
  std::optional<wire::Header> header;  // absent: the message is malformed
  zmq::message_t body;
};
// False when none is waiting. The header is checked, the body's length agrees with it; its checksum is not yet checked.
bool receive(zmq::socket_t& socket, bool with_identity, Message& message, const std::string& where);
// The message's memory as a buffer (copied only where it is not aligned for numbers).
Buffer take(zmq::message_t&& body);
wire::Frame control(wire::Kind kind, std::uint16_t flags, std::uint64_t stream, std::uint64_t seq, std::uint64_t schema, std::uint32_t count);

void common_options(zmq::socket_t& socket);

// CURVE keys, from a text file (PROTOCOL.md).
struct Keys {
  std::string public_key, secret_key;  // Z85
  std::string server;                  // consumer: the producer's public key
  std::vector<std::string> allowed;    // producer: public keys of the consumers that may connect
};
Keys read_keys(const Endpoint& endpoint, bool producer);  // throws Exit::usage

// Answers libzmq's question which keys may connect. Owned by the thread that polls socket().
class Gate {
 public:
  Gate(zmq::context_t& context, std::vector<std::string> allowed);
  zmq::socket_t& socket() { return socket_; }
  void answer();

 private:
  zmq::socket_t socket_;
  std::vector<std::string> allowed_;
};

// "tcp://127.0.0.1:5555" without options, as libzmq wants it. Throws Exit::usage.
std::string address_of(const Endpoint& endpoint, bool bind);
bool on_loopback(const Endpoint& endpoint);

}  // namespace link
}  // namespace bl::transport
