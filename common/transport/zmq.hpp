// Streams over ZeroMQ sockets (tcp://, ipc://). Internal to transport/: everybody else calls open_source and open_sink.
// The rules are in PROTOCOL.md; a background thread owns the sockets, so heartbeats go on while the caller computes.
#pragma once
#include <memory>
#include <vector>

#include "transport/transport.hpp"

namespace bl::transport {

// The endpoints are read as one stream. Connects in the background; the first read() waits for a producer.
// Throws Exit::usage for a bad address or key file.
std::unique_ptr<Source> open_zmq_source(const std::vector<Endpoint>& endpoints);

// Binds at once. Throws Exit::write when the address is taken or not allowed, Exit::usage for a bad address, a bad key
// file, or an unencrypted bind off loopback.
std::unique_ptr<Sink> open_zmq_sink(const Endpoint& endpoint, const SinkOptions& options);

}  // namespace bl::transport
