// The ranks of an MPI job. A program takes part when a launcher started it as one of several (mpirun, or srun with PMIx or
// PMI-2), which its environment tells; started alone, it never initialises MPI, and starts as fast as without.
#pragma once
#include <memory>

#include "dist/communicator.hpp"

namespace bl::dist {

class Job : public Communicator {
 public:
  // The last word of a process: 0 waits for all ranks and lets go of MPI; anything else ends the whole job with that
  // exit code. Returns `code`.
  virtual int leave(int code) noexcept = 0;
};

// Throws Exit::usage when the launcher started several processes but this program was built without MPI, or with another
// MPI than the launcher's (each process would be alone, and all would write the same files).
std::unique_ptr<Job> join();

}  // namespace bl::dist
