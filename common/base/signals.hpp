// SIGINT and SIGTERM set a flag that loops poll; SIGPIPE is ignored (a write then fails with EPIPE).
#pragma once

namespace bl::signals {

void install();
int pending() noexcept;   // the signal that arrived, or 0
void throw_if_pending();  // throws Interrupted
int fd() noexcept;        // readable once a signal has arrived: for poll() beside sockets and pipes

}  // namespace bl::signals
