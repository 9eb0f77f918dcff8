// The sum of the lanes' gradients over ranks, to the bits of one process.
//
// A batch is worked on in a fixed number of lanes, each with its own block of gradients; lanes are added by a fixed tree:
// for gap = 1, 2, 4, … lane l, a multiple of 2·gap, receives lane l + gap. Rank r owns share(lanes, ranks, r). It adds up
// the subtrees that it owns whole; of what is left every rank adds up one piece of the block, in the tree's order, from
// all ranks, and then the sums of the pieces go to all ranks. With a power of two of ranks each sends and receives
// 2 (ranks - 1) / ranks of a block, the least that is possible, and the result has the same bits for any number of ranks
// (MPI_Allreduce has not).
#pragma once
#include <cstddef>
#include <span>
#include <vector>

#include "base/pool.hpp"
#include "dist/communicator.hpp"

namespace bl::dist {

class TreeSum {
 public:
  // own: the blocks of `size` numbers of this rank's lanes, of `lanes` in all; they are overwritten. sum: a block of this
  // rank, which may be own[0]; it receives the sum on every rank.
  void run(Communicator& ranks, Pool& pool, std::size_t lanes, std::span<float* const> own, std::size_t size, float* sum);

 private:
  std::vector<float> received_;
  std::vector<float*> parts_;  // by lane: this rank's piece of the subtree that starts there; nullptr inside of subtrees
  std::vector<Send> sends_;
  std::vector<Receive> receives_;
  std::vector<std::size_t> bytes_;
};

}  // namespace bl::dist
