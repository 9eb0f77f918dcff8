// Streams inside one process ("mem://name"), for tests of stages: one producer and one consumer thread, the same rules
// of credit, acknowledgement, END, STOP and ABORT as on sockets, no bytes copied. Internal to transport/.
#pragma once
#include <memory>

#include "transport/transport.hpp"

namespace bl::transport {

// The two ends of a name may be opened in either order; each waits `timeout` for the other.
std::unique_ptr<Source> open_memory_source(const Endpoint& endpoint);
std::unique_ptr<Sink> open_memory_sink(const Endpoint& endpoint, const SinkOptions& options);

}  // namespace bl::transport
