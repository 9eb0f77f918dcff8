// Several processes ("ranks") that compute one result together. What they exchange is bytes, from point to point: no sum
// is ever left to the message-passing library, whose order of additions depends on the number of ranks.
//
// Implementations: alone() here, one process; MPI in dist/launch.hpp. Every rank calls the same functions in the same
// order, or they wait for each other for ever.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace bl::dist {

// Numbers [first, last) of something that is shared out.
struct Share {
  std::size_t first = 0, last = 0;
  std::size_t size() const { return last - first; }
};
// The numbers below `total` that `part` of `parts` gets: contiguous, differing by one at most, in order of the parts.
Share share(std::size_t total, std::size_t parts, std::size_t part);

struct Send {
  std::size_t to = 0;
  const void* data = nullptr;
  std::size_t bytes = 0;
};
struct Receive {
  std::size_t from = 0;
  void* data = nullptr;
  std::size_t bytes = 0;
};

class Communicator {
 public:
  virtual ~Communicator() = default;
  Communicator() = default;
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;

  virtual std::size_t rank() const noexcept = 0;  // 0 … size() - 1
  virtual std::size_t size() const noexcept = 0;
  // Sends and receives all of these at once and returns when all are done. Messages between two ranks arrive in the order
  // of their lists; sizes must agree. Throws Exit::failed when a rank is lost, or when this process was asked to stop and
  // the others do not answer any more.
  virtual void exchange(std::span<const Send> sends, std::span<const Receive> receives) = 0;

  // Rank 0's bytes to all.
  void broadcast(void* data, std::size_t bytes);
  std::string broadcast(std::string text);  // the text given by rank 0
  template <class T>
  T broadcast(T value) {
    static_assert(std::is_trivially_copyable_v<T>);
    broadcast(&value, sizeof value);
    return value;
  }
  // Every rank's part of `all` to all: the parts lie one after another, of so many bytes each, and its own is there.
  void gather(void* all, std::span<const std::size_t> bytes);
  // One value of every rank, in order of the ranks.
  template <class T>
  std::vector<T> gather(const T& mine) {
    static_assert(std::is_trivially_copyable_v<T>);
    std::vector<T> all(size());
    all[rank()] = mine;
    const std::vector<std::size_t> bytes(size(), sizeof(T));
    gather(all.data(), bytes);
    return all;
  }
  void barrier();  // returns when every rank has called it
  // Throws Exit::failed in every rank when `text` is not the same in all: "<what> of rank 2 (…) is not that of rank 0 (…)".
  void must_agree(std::string_view what, const std::string& text);

 private:
  std::vector<Send> sends_;
  std::vector<Receive> receives_;
};

// This process and no other.
Communicator& alone();

}  // namespace bl::dist
