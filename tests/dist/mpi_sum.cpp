// Started by mpirun: the sum over MPI's ranks has the bits of one process, for small messages and for large ones. Says
// nothing and ends with 0, or names what differs.
//
// usage: mpirun -n RANKS mpi_sum RANKS [large]
#include <cstdio>
#include <cstring>

#include "base/error.hpp"
#include "dist/launch.hpp"
#include "dist/tree.hpp"
#include "lanes.hpp"

int main(int argc, char** argv) {
  using namespace bl;
  const auto job = dist::join();
  if (argc < 2 || job->size() != std::stoul(argv[1])) {
    std::fprintf(stderr, "mpi_sum: %zu ranks where %s were started\n", job->size(), argc >= 2 ? argv[1] : "?");
    return job->leave(1);
  }
  Pool pool(1);
  dist::TreeSum tree;
  for (const std::size_t lanes : {3u, 8u})
    for (const std::size_t size : {5u, 3000u, 300'003u}) {
      const dist::Share mine = dist::share(lanes, job->size(), job->rank());
      std::vector<std::vector<float>> blocks;
      std::vector<float*> own;
      for (std::size_t l = mine.first; l < mine.last; ++l) blocks.push_back(dist::testing::lane(l, size));
      for (auto& b : blocks) own.push_back(b.data());
      std::vector<float> sum(size);
      tree.run(*job, pool, lanes, own, size, sum.data());
      const std::vector<float> expected = dist::testing::sum_of_one_process(lanes, size);
      if (std::memcmp(sum.data(), expected.data(), size * sizeof(float)) != 0) {
        std::fprintf(stderr, "mpi_sum: rank %zu of %zu: another sum of %zu lanes of %zu numbers\n", job->rank(), job->size(), lanes, size);
        return job->leave(1);
      }
    }
  if (argc == 2) return job->leave(0);
  // A message that goes in several parts (of 2^28 bytes).
  std::string text(job->rank() == 0 ? (std::size_t{1} << 28) + 11 : 0, 'x');
  text = job->broadcast(std::move(text));
  if (text.size() != (std::size_t{1} << 28) + 11 || text.back() != 'x') return job->leave(1);
  return job->leave(0);
}
