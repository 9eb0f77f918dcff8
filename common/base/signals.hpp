// SIGINT and SIGTERM set a flag that loops poll; SIGPIPE is ignored (a write then fails with EPIPE).
#pragma once

namespace bl::signals {

// Handlers run on a stack of their own, that of the calling thread: matrix libraries let the stack pointer point into their
// working memory while they compute, where the frame of a signal would overwrite what lies beside it. Other threads that
// compute must call block().
void install();
void block() noexcept;    // SIGINT and SIGTERM do not come to the calling thread
int pending() noexcept;   // the signal that arrived, or 0
void throw_if_pending();  // throws Interrupted
int fd() noexcept;        // readable once a signal has arrived: for poll() beside sockets and pipes

}  // namespace bl::signals
