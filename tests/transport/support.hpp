// Ends of streams for tests in one process, raw sockets that speak the protocol by hand, and a faulty network.
#pragma once
#include <gtest/gtest.h>
#include <poll.h>

#include <atomic>
#include <future>
#include <mutex>
#include <optional>
#include <zmq.hpp>

#include "base/error.hpp"
#include "made.hpp"
#include "processes.hpp"
#include "transport/transport.hpp"
#include "transport/zmq_link.hpp"

namespace bl::test {

namespace link = transport::link;
using transport::open_sink;
using transport::open_source;
using wire::Frame;
using wire::Kind;

inline constexpr std::uint64_t kStream = 42;

// The code and text of the error that f throws; Exit::done when it throws none.
struct Outcome {
  Exit code = Exit::done;
  std::string text;
};
template <class F>
Outcome outcome(const F& f) {
  try {
    f();
    return {};
  } catch (const Error& e) {
    return {e.code(), e.what()};
  }
}
inline ::testing::AssertionResult fails(const Outcome& o, Exit code, const std::string& part) {
  if (o.code != code)
    return ::testing::AssertionFailure() << "exit code " << static_cast<int>(o.code) << ", expected " << static_cast<int>(code) << ": " << o.text;
  if (o.text.find(part) == std::string::npos) return ::testing::AssertionFailure() << "'" << o.text << "' does not say '" << part << "'";
  return ::testing::AssertionSuccess();
}

inline void write_batches(transport::Sink& out, std::uint64_t first, std::uint64_t last, std::size_t bytes = 1000) {
  for (auto seq = first; seq < last; ++seq) out.write(made_batch(kStream, seq, bytes, true));
}
inline void write_all(transport::Sink& out, std::uint64_t n, std::size_t bytes = 1000) {
  out.write(made_hello(kStream));
  write_batches(out, 0, n, bytes);
  out.finish();
}

// What a consumer got: the numbers in order of arrival. `keep` is called for each batch before it is acknowledged.
struct Got {
  std::vector<std::uint64_t> seqs;
  std::uint64_t altered = 0;
};
inline Frame read_hello(transport::Source& in) {
  auto hello = in.read();
  check(hello && hello->kind == Kind::hello, "a stream starts with HELLO");
  return *hello;
}
inline void take(Got& got, transport::Source& in, const Frame& f) {
  got.seqs.push_back(f.seq);
  const auto wanted = made_batch(f.stream, f.seq, f.body.size(), true);
  if (std::memcmp(wanted.body.data(), f.body.data(), f.body.size()) != 0) ++got.altered;
  in.acknowledge(f.stream, f.seq);
}
inline Got read_rest(transport::Source& in) {
  Got got;
  while (const auto f = in.read()) take(got, in, *f);
  in.close();
  return got;
}
inline Got read_all(transport::Source& in) {
  read_hello(in);
  return read_rest(in);
}
inline Got read_some(transport::Source& in, std::size_t n) {
  Got got;
  while (got.seqs.size() < n) take(got, in, *in.read());
  return got;
}
inline std::vector<std::uint64_t> counted(std::uint64_t n, std::uint64_t first = 0) {
  std::vector<std::uint64_t> out;
  for (auto i = first; i < n; ++i) out.push_back(i);
  return out;
}

// Passes a stream on as a relay, until the end.
inline void relay(transport::Source& in, transport::Sink& out, std::chrono::milliseconds delay = 0ms) {
  out.relays(in);
  out.on_acknowledged([&in](std::uint64_t stream, std::uint64_t seq) { in.acknowledge(stream, seq); });
  auto hello = read_hello(in);
  out.write(hello);
  while (auto f = in.read()) {
    sleep_for(delay);
    out.write(*f);
  }
  if (out.stopped()) in.stop();
  out.finish();
  in.close();
}

// A consumer by hand.
class RawConsumer {
 public:
  explicit RawConsumer(const std::string& endpoint, const std::string& identity = "braw") : socket_(context_, zmq::socket_type::dealer) {
    socket_.set(zmq::sockopt::linger, 0);
    socket_.set(zmq::sockopt::routing_id, identity);
    socket_.connect(endpoint);
  }
  void send(const Frame& f) { link::send(socket_, nullptr, f); }
  void send_text(const std::string& text) { socket_.send(zmq::buffer(text), zmq::send_flags::none); }
  void open(std::uint64_t uid, std::uint64_t nonce) {
    uid_ = uid;
    nonce_ = nonce;
    send(link::control(Kind::credit, link::kOpen, uid, nonce, 0, 0));
  }
  void grant(std::uint32_t batches, std::uint64_t bytes, std::uint16_t flags = link::kFresh) {
    send(link::control(Kind::credit, static_cast<std::uint16_t>(link::kGrant | flags), uid_, nonce_, bytes, batches));
  }
  void ack(std::uint64_t seq, std::uint16_t flags = 0) { send(link::control(Kind::ack, flags, kStream, seq, nonce_, 0)); }
  // The next frame that is no HEARTBEAT (or any frame), or nothing within the time.
  std::optional<wire::Header> next(std::chrono::milliseconds limit = 1000ms, bool heartbeats = false) {
    const auto until = Clock::now() + limit;
    while (Clock::now() < until) {
      zmq::pollitem_t item{socket_.handle(), 0, ZMQ_POLLIN, 0};
      zmq::poll(&item, 1, 10ms);
      link::Message m;
      if (!link::receive(socket_, false, m, "raw")) continue;
      last_body_ = m.body.to_string();
      if (m.header && (heartbeats || m.header->kind != Kind::heartbeat)) return m.header;
    }
    return std::nullopt;
  }
  const std::string& body() const { return last_body_; }

 private:
  zmq::context_t context_{1};
  zmq::socket_t socket_;
  std::uint64_t uid_ = 0, nonce_ = 0;
  std::string last_body_;
};

// A producer by hand, for one consumer.
class RawProducer {
 public:
  explicit RawProducer(const std::string& endpoint) : socket_(context_, zmq::socket_type::router) {
    socket_.set(zmq::sockopt::linger, 0);
    socket_.bind(endpoint);
  }
  void send(const Frame& f) { link::send(socket_, &peer_, f); }
  void send(const link::HeaderBytes& header, const Buffer& body) { link::send(socket_, &peer_, header, body); }
  std::optional<wire::Header> next(Kind kind, std::chrono::milliseconds limit = 2000ms) {
    const auto until = Clock::now() + limit;
    while (Clock::now() < until) {
      zmq::pollitem_t item{socket_.handle(), 0, ZMQ_POLLIN, 0};
      zmq::poll(&item, 1, 10ms);
      link::Message m;
      if (!link::receive(socket_, true, m, "raw")) continue;
      peer_ = m.identity;
      if (m.header && m.header->kind == kind) return m.header;
    }
    return std::nullopt;
  }
  // Answers OPEN.
  void greet() {
    const auto open = next(Kind::credit);
    check(open && (open->flags & link::kOpen) != 0, "a consumer opens a session");
    session_ = open->seq;
    auto hello = made_hello(kStream);
    hello.seq = session_;
    send(hello);
  }
  // Waits for GRANT and answers it.
  bool granted(std::uint32_t released = 0) {
    for (;;) {
      const auto credit = next(Kind::credit);
      if (!credit) return false;
      if ((credit->flags & link::kGrant) != 0) break;
    }
    send(link::control(Kind::heartbeat, link::kAnswer, kStream, session_, 1, released));
    return true;
  }

 private:
  zmq::context_t context_{1};
  zmq::socket_t socket_;
  std::string peer_;
  std::uint64_t session_ = 0;
};

// A TCP proxy between 127.0.0.1:port() and a target port that can break connections and alter bytes on their way to the
// consumer.
class Network {
 public:
  explicit Network(int target) : target_(target), thread_([this] { run(); }) {
    while (port_ == 0) sleep_for(1ms);
  }
  ~Network() {
    quit_ = true;
    thread_.join();
  }
  int port() const { return port_; }
  void cut() { cut_ = true; }               // all connections, once
  void block(bool on) { blocked_ = on; }    // bytes wait, connections stay
  void flip(int times) { flips_ = times; }  // a byte in each of the next `times` large pieces
  int cuts() const { return cuts_; }
  int flipped() const { return flipped_; }

 private:
  static sockaddr_in local(int port) {
    sockaddr_in a{};
    a.sin_family = AF_INET;
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    a.sin_port = htons(static_cast<std::uint16_t>(port));
    return a;
  }
  static bool write_all(int fd, const char* p, ssize_t n) {
    while (n > 0) {
      const ssize_t k = ::send(fd, p, static_cast<std::size_t>(n), MSG_NOSIGNAL);
      if (k <= 0) return false;
      p += k;
      n -= k;
    }
    return true;
  }
  void run() {
    const int listener = ::socket(AF_INET, SOCK_STREAM, 0);
    auto address = local(0);
    ::bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof address);
    ::listen(listener, 16);
    socklen_t size = sizeof address;
    ::getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size);
    port_ = ntohs(address.sin_port);
    std::vector<std::pair<int, int>> pairs;  // consumer, producer
    std::vector<char> block(1 << 18);
    while (!quit_) {
      if (cut_.exchange(false)) {
        for (auto [a, b] : pairs) {
          ::close(a);
          ::close(b);
          ++cuts_;
        }
        pairs.clear();
      }
      std::vector<pollfd> fds{{listener, POLLIN, 0}};
      if (!blocked_)
        for (auto [a, b] : pairs) {
          fds.push_back({a, POLLIN, 0});
          fds.push_back({b, POLLIN, 0});
        }
      ::poll(fds.data(), fds.size(), 10);
      for (std::size_t i = 1; i < fds.size(); ++i) {
        if (fds[i].revents == 0) continue;
        const auto pair = pairs[(i - 1) / 2];
        const bool to_consumer = (i - 1) % 2 == 1;
        const ssize_t n = ::recv(fds[i].fd, block.data(), block.size(), 0);
        if (n > 20000 && to_consumer && flips_ > 0) {
          --flips_;
          ++flipped_;
          block[static_cast<std::size_t>(n) / 2] = static_cast<char>(block[static_cast<std::size_t>(n) / 2] ^ 1);
        }
        if (n <= 0 || !write_all(to_consumer ? pair.first : pair.second, block.data(), n)) {
          ::close(pair.first);
          ::close(pair.second);
          pairs.erase(pairs.begin() + static_cast<std::ptrdiff_t>((i - 1) / 2));
          break;
        }
      }
      if ((fds[0].revents & POLLIN) != 0) {
        const int a = ::accept(listener, nullptr, nullptr), b = ::socket(AF_INET, SOCK_STREAM, 0);
        const auto to = local(target_);
        if (::connect(b, reinterpret_cast<const sockaddr*>(&to), sizeof to) == 0) pairs.emplace_back(a, b);
        else {
          ::close(a);
          ::close(b);
        }
      }
    }
    for (auto [a, b] : pairs) {
      ::close(a);
      ::close(b);
    }
    ::close(listener);
  }

  int target_;
  std::atomic<int> port_{0}, cuts_{0}, flips_{0}, flipped_{0};
  std::atomic<bool> quit_{false}, cut_{false}, blocked_{false};
  std::thread thread_;
};

template <class F>
auto in_background(F f) {
  return std::async(std::launch::async, std::move(f));
}

}  // namespace bl::test
