// Where a stream comes from or goes to, as a string: "-" (stdin, stdout), a path, "tcp://host:port", "ipc://path",
// "mem://name" (tests); options after "?": credit, bytes, timeout, peers, order, on-loss, insecure, key.
#pragma once
#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace bl::transport {

enum class Scheme { standard, file, tcp, ipc, memory };

struct Endpoint {
  std::string text;  // as given, for messages
  Scheme scheme = Scheme::standard;
  std::string address;                        // path, "host:port", or name
  std::uint32_t credit = 8;                   // batches in flight to one consumer
  std::uint64_t bytes = 64u << 20;            // bytes in flight to one consumer
  std::chrono::milliseconds timeout{30'000};  // how long to wait for the first peer, and for a lost one to come back
  std::uint32_t peers = 1;                    // consumers to wait for before the first batch leaves
  bool strict_order = true;                   // a consumer restores the order of seq inside a bounded window
  bool resend = true;                         // on-loss=resend: batches of a lost consumer go to another; on-loss=fail: stop
  bool insecure = false;                      // allow an unencrypted bind off loopback
  std::string key;                            // path of the CURVE key file

  bool socket() const { return scheme == Scheme::tcp || scheme == Scheme::ipc; }
};

// Throws Exit::usage and names the part that is wrong.
Endpoint parse_endpoint(std::string_view text);
// "a,b": several endpoints read as one stream.
std::vector<Endpoint> parse_endpoints(std::string_view text);

}  // namespace bl::transport
