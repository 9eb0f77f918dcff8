#include <algorithm>

#include "base/error.hpp"
#include "transport/fd.hpp"
#include "transport/memory.hpp"
#include "transport/transport.hpp"
#include "transport/zmq.hpp"

namespace bl::transport {

std::unique_ptr<Source> open_source(std::string_view text) {
  const auto endpoints = parse_endpoints(text);
  const auto sockets = std::count_if(endpoints.begin(), endpoints.end(), [](const Endpoint& e) { return e.socket(); });
  if (sockets == static_cast<std::ptrdiff_t>(endpoints.size())) return open_zmq_source(endpoints);
  if (endpoints[0].scheme == Scheme::memory) return open_memory_source(endpoints[0]);
  if (endpoints.size() > 1) return open_concat_source(endpoints);
  return open_fd_source(endpoints[0]);
}

std::unique_ptr<Sink> open_sink(std::string_view text, const SinkOptions& options) {
  if (text.find(',') != std::string_view::npos && text.find("://") != std::string_view::npos)
    fail(Exit::usage, "'{}': a stage writes to one endpoint; several readers connect to the same one", text);
  const auto endpoint = parse_endpoint(text);
  if (endpoint.socket()) return open_zmq_sink(endpoint, options);
  if (endpoint.scheme == Scheme::memory) return open_memory_sink(endpoint, options);
  return open_fd_sink(endpoint, options);
}

}  // namespace bl::transport
