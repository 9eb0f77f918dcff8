#include "dist/communicator.hpp"

#include "base/error.hpp"
#include "base/hash.hpp"

namespace bl::dist {
namespace {

class Alone final : public Communicator {
 public:
  std::size_t rank() const noexcept override { return 0; }
  std::size_t size() const noexcept override { return 1; }
  void exchange(std::span<const Send> sends, std::span<const Receive> receives) override {
    bl::check(sends.empty() && receives.empty(), "a message to nobody");
  }
};

}  // namespace

Communicator& alone() {
  static Alone alone;
  return alone;
}

Share share(std::size_t total, std::size_t parts, std::size_t part) { return {total * part / parts, total * (part + 1) / parts}; }

// A binomial tree: in round `gap` the ranks below gap have the data and send them to the rank `gap` above.
void Communicator::broadcast(void* data, std::size_t bytes) {
  if (bytes == 0) return;
  for (std::size_t gap = 1; gap < size(); gap *= 2) {
    if (rank() < gap && rank() + gap < size()) {
      const Send send{rank() + gap, data, bytes};
      exchange({&send, 1}, {});
    } else if (rank() >= gap && rank() < 2 * gap) {
      const Receive receive{rank() - gap, data, bytes};
      exchange({}, {&receive, 1});
    }
  }
}

std::string Communicator::broadcast(std::string text) {
  text.resize(broadcast(std::uint64_t{text.size()}));
  broadcast(text.data(), text.size());
  return text;
}

void Communicator::gather(void* all, std::span<const std::size_t> bytes) {
  bl::check(bytes.size() == size(), "gather() needs a size of every rank");
  if (size() == 1) return;
  auto* const start = static_cast<std::byte*>(all);
  const std::byte* mine = start;
  for (std::size_t r = 0; r < rank(); ++r) mine += bytes[r];
  sends_.clear();
  receives_.clear();
  std::byte* at = start;
  for (std::size_t r = 0; r < size(); at += bytes[r++]) {
    if (r == rank()) continue;
    if (bytes[rank()] > 0) sends_.push_back({r, mine, bytes[rank()]});
    if (bytes[r] > 0) receives_.push_back({r, at, bytes[r]});
  }
  exchange(sends_, receives_);
}

void Communicator::barrier() { gather(std::uint8_t{0}); }

void Communicator::must_agree(std::string_view what, const std::string& text) {
  if (size() == 1) return;
  const std::vector<std::uint64_t> hashes = gather(hash64(text));
  for (std::size_t r = 1; r < size(); ++r) {
    if (hashes[r] == hashes[0]) continue;
    // Both texts are shown in every rank, so that whoever speaks can name them.
    std::vector<std::size_t> sizes = gather(text.size());
    std::string all;
    std::size_t before = 0, total = 0;
    for (std::size_t i = 0; i < size(); total += sizes[i++])
      if (i == rank()) before = total;
    all.resize(total);
    all.replace(before, text.size(), text);
    gather(all.data(), sizes);
    std::size_t at = 0;
    for (std::size_t i = 0; i < r; ++i) at += sizes[i];
    fail(Exit::failed, "{} of rank {} ({}) is not that of rank 0 ({}): all ranks must run the same program with the same options on machines of one kind", what,
         r, all.substr(at, sizes[r]), all.substr(0, sizes[0]));
  }
}

}  // namespace bl::dist
