// Files and pipes. Internal to transport/: open_source() and open_sink() choose.
#pragma once
#include <memory>
#include <vector>

#include "transport/transport.hpp"

namespace bl::transport {

std::unique_ptr<Source> open_fd_source(const Endpoint& endpoint);
std::unique_ptr<Sink> open_fd_sink(const Endpoint& endpoint, const SinkOptions& options);
// Several files read as one stream: frames are renumbered, the schema and metadata of all must agree.
std::unique_ptr<Source> open_concat_source(const std::vector<Endpoint>& endpoints);

}  // namespace bl::transport
