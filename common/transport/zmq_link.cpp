#include "transport/zmq_link.hpp"

#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <random>
#include <sstream>

#include "base/error.hpp"
#include "base/files.hpp"

namespace bl::transport::link {

std::uint64_t random_id() {
  std::random_device device;
  const std::uint64_t id = static_cast<std::uint64_t>(device()) << 32 | device();
  return id != 0 ? id : 1;
}

Wake::Wake() : fd_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  if (fd_ < 0) fail(Exit::failed, "cannot make an eventfd: {}", errno_text(errno));
}
Wake::~Wake() { ::close(fd_); }
void Wake::set() {
  if (set_.exchange(true)) return;
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto n = ::write(fd_, &one, sizeof one);
}
void Wake::clear() {
  if (!set_.load()) return;
  std::uint64_t count = 0;
  [[maybe_unused]] const auto n = ::read(fd_, &count, sizeof count);
  set_.store(false);  // after the read: a set() in between leaves its work to the pass that follows
}

bool SeqSet::insert(std::uint64_t seq) {
  auto next = runs_.upper_bound(seq);
  auto previous = next == runs_.begin() ? runs_.end() : std::prev(next);
  if (previous != runs_.end() && seq < previous->second) return false;
  ++size_;
  const bool joins_previous = previous != runs_.end() && previous->second == seq;
  const bool joins_next = next != runs_.end() && next->first == seq + 1;
  if (joins_previous && joins_next) {
    previous->second = next->second;
    runs_.erase(next);
  } else if (joins_previous) {
    previous->second = seq + 1;
  } else if (joins_next) {
    const auto last = next->second;
    runs_.erase(next);
    runs_.emplace(seq, last);
  } else {
    runs_.emplace(seq, seq + 1);
  }
  return true;
}

bool SeqSet::contains(std::uint64_t seq) const {
  const auto next = runs_.upper_bound(seq);
  return next != runs_.begin() && seq < std::prev(next)->second;
}

HeaderBytes header_of(const wire::Frame& frame) {
  HeaderBytes bytes;
  wire::write_header(frame, bytes.data());
  return bytes;
}

bool send(zmq::socket_t& socket, const std::string* identity, const HeaderBytes& header, const Buffer& body) {
  using flags = zmq::send_flags;
  try {
    // ROUTER_MANDATORY: an identity that is not connected is EHOSTUNREACH here, not a frame lost without a word.
    if (identity && !socket.send(zmq::buffer(*identity), flags::sndmore | flags::dontwait)) return false;
    const auto more = body.size() != 0 ? flags::sndmore | flags::dontwait : flags::dontwait;
    if (!socket.send(zmq::buffer(header.data(), header.size()), more)) return false;
    if (body.size() != 0) {
      auto owner = std::make_unique<Buffer>(body);
      zmq::message_t message(
          const_cast<std::byte*>(owner->data()), owner->size(), [](void*, void* hint) { delete static_cast<Buffer*>(hint); }, owner.get());
      static_cast<void>(owner.release());  // the message frees it
      if (!socket.send(message, flags::dontwait)) return false;
    }
    return true;
  } catch (const zmq::error_t& e) {
    if (e.num() == EHOSTUNREACH || e.num() == EAGAIN || e.num() == EINTR) return false;
    throw;
  }
}

#ifdef __SANITIZE_THREAD__
extern "C" void AnnotateIgnoreReadsBegin(const char* file, int line);
extern "C" void AnnotateIgnoreReadsEnd(const char* file, int line);
// The sanitizer does not see how libzmq hands memory to us: each byte read would be a (suppressed, slow) report.
static void own(zmq::message_t& message) {
  zmq::message_t copy(message.size());
  AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
  std::memcpy(copy.data(), message.data(), message.size());
  AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
  message = std::move(copy);
}
#endif

bool receive(zmq::socket_t& socket, bool with_identity, Message& message, const std::string& where) {
  message.header.reset();
  message.identity.clear();
  zmq::message_t part, header;
  const auto next = [&](zmq::message_t& out) {
    for (;;) try {
        return socket.recv(out, zmq::recv_flags::dontwait).has_value();
      } catch (const zmq::error_t& e) {
        if (e.num() != EINTR) throw;
      }
  };
  if (with_identity) {
    if (!next(part)) return false;
    message.identity = part.to_string();
    if (!part.more()) return true;
  }
  if (!next(header)) return with_identity;
  bool well = header.size() == wire::kHeader, body = header.more();
  if (body && next(message.body)) {
    well = well && !message.body.more();
    part.rebuild();
    for (bool more = message.body.more(); more && next(part);) more = part.more();  // whatever else was sent with it
  } else {
    message.body.rebuild();
  }
  if (!well) return true;
#ifdef __SANITIZE_THREAD__
  own(header);
  own(message.body);
#endif
  try {
    const auto h = wire::read_header(header.data<std::byte>(), where);
    if (h.length == message.body.size()) message.header = h;
  } catch (const Error&) {
    // malformed: the caller decides
  }
  return true;
}

Buffer take(zmq::message_t&& body) {
  if (body.empty()) return {};
  auto owner = std::make_shared<zmq::message_t>(std::move(body));
  const auto* data = owner->data<std::byte>();
  const auto size = owner->size();
  if (reinterpret_cast<std::uintptr_t>(data) % 8 != 0) return Buffer(data, size);
  return Buffer::view(std::move(owner), data, size);
}

wire::Frame control(wire::Kind kind, std::uint16_t flags, std::uint64_t stream, std::uint64_t seq, std::uint64_t schema, std::uint32_t count) {
  wire::Frame f;
  f.kind = kind;
  f.flags = flags;
  f.stream = stream;
  f.seq = seq;
  f.schema = schema;
  f.count = count;
  return f;
}

void common_options(zmq::socket_t& socket) {
  namespace opt = zmq::sockopt;
  socket.set(opt::sndhwm, 0);  // credit is the only limit: a high-water mark drops or blocks without telling
  socket.set(opt::rcvhwm, 0);
  socket.set(opt::linger, 0);  // set to kLinger where something must still leave
  socket.set(opt::reconnect_ivl, 20);
  socket.set(opt::reconnect_ivl_max, 200);
  // A connection that died without a word (a cut cable) is given up by libzmq too, so that a new one is made.
  socket.set(opt::heartbeat_ivl, 1000);
  socket.set(opt::heartbeat_timeout, 5000);
}

Keys read_keys(const Endpoint& endpoint, bool producer) {
  struct stat info {};
  if (::stat(endpoint.key.c_str(), &info) != 0)
    fail(Exit::usage, "endpoint '{}': cannot read the key file '{}': {}", endpoint.text, endpoint.key, errno_text(errno));
  if ((info.st_mode & 077) != 0)
    fail(Exit::usage, "endpoint '{}': the key file '{}' holds a secret and others can read it: chmod 600 {}", endpoint.text, endpoint.key, endpoint.key);
  Keys keys;
  std::istringstream lines(read_file(endpoint.key));
  std::string line;
  for (int number = 1; std::getline(lines, line); ++number) {
    std::istringstream words(line.substr(0, line.find('#') == 0 ? 0 : line.size()));  // '#' is also a Z85 digit: only whole lines are comments
    std::string what, value, rest;
    if (!(words >> what)) continue;
    words >> value >> rest;
    if (value.size() != 40 || !rest.empty())
      fail(Exit::usage, "key file '{}', line {}: expected 'public', 'secret', 'allow' or 'server' and a key of 40 characters (Z85)", endpoint.key, number);
    std::uint8_t raw[32];
    if (::zmq_z85_decode(raw, value.c_str()) == nullptr) fail(Exit::usage, "key file '{}', line {}: '{}' is not Z85", endpoint.key, number, value);
    if (what == "public") keys.public_key = value;
    else if (what == "secret") keys.secret_key = value;
    else if (what == "server") keys.server = value;
    else if (what == "allow") keys.allowed.push_back(value);
    else fail(Exit::usage, "key file '{}', line {}: unknown word '{}'; known: public, secret, allow, server", endpoint.key, number, what);
  }
  const char* missing = keys.public_key.empty() ? "public" : keys.secret_key.empty() ? "secret" : nullptr;
  if (!missing && producer && keys.allowed.empty()) missing = "allow";
  if (!missing && !producer && keys.server.empty()) missing = "server";
  if (missing)
    fail(Exit::usage, "key file '{}' has no '{}' line: a {} needs public, secret and {}", endpoint.key, missing, producer ? "producer" : "consumer",
         producer ? "an allow line for each consumer" : "server (the producer's public key)");
  return keys;
}

Gate::Gate(zmq::context_t& context, std::vector<std::string> allowed) : socket_(context, zmq::socket_type::rep), allowed_(std::move(allowed)) {
  socket_.set(zmq::sockopt::linger, 0);
  socket_.bind("inproc://zeromq.zap.01");
}

// RFC 27 (ZAP): version, request id, domain, address, identity, mechanism, credentials.
void Gate::answer() {
  std::vector<std::string> parts;
  zmq::message_t part;
  do {
    if (!socket_.recv(part, zmq::recv_flags::dontwait)) return;
    parts.push_back(part.to_string());
  } while (part.more());
  bool good = parts.size() == 7 && parts[5] == "CURVE" && parts[6].size() == 32;
  if (good) {
    char text[41] = {};
    ::zmq_z85_encode(text, reinterpret_cast<const std::uint8_t*>(parts[6].data()), 32);
    good = std::find(allowed_.begin(), allowed_.end(), text) != allowed_.end();
  }
  const std::string reply[6] = {"1.0", parts.size() > 1 ? parts[1] : "", good ? "200" : "400", good ? "OK" : "this key is not allowed", good ? "peer" : "", ""};
  for (std::size_t i = 0; i < 6; ++i) socket_.send(zmq::buffer(reply[i]), i < 5 ? zmq::send_flags::sndmore : zmq::send_flags::none);
}

bool on_loopback(const Endpoint& e) {
  if (e.scheme == Scheme::ipc) return true;
  const auto host = e.address.substr(0, e.address.rfind(':'));
  return host == "localhost" || host == "::1" || host == "[::1]" || host.rfind("127.", 0) == 0;
}

std::string address_of(const Endpoint& e, bool bind) {
  if (e.scheme == Scheme::ipc) {
    constexpr std::size_t limit = sizeof(sockaddr_un::sun_path) - 1;
    if (e.address.size() > limit)
      fail(Exit::usage, "endpoint '{}': the path has {} characters, a socket's may have {}: use a shorter folder", e.text, e.address.size(), limit);
    return "ipc://" + e.address;
  }
  std::string host = e.address.substr(0, e.address.rfind(':'));
  const std::string port = e.address.substr(e.address.rfind(':') + 1);
  if (bind && host == "localhost") host = "127.0.0.1";  // libzmq binds to addresses and interfaces, not to names
  if (bind && host == "0.0.0.0") host = "*";
  if (!bind && (port == "0" || port == "*")) fail(Exit::usage, "endpoint '{}': a reader needs the producer's port number", e.text);
  if (!bind && host == "*") fail(Exit::usage, "endpoint '{}': a reader needs the producer's host name or address, '*' is for the producer", e.text);
  return "tcp://" + host + ":" + port;
}

}  // namespace bl::transport::link
