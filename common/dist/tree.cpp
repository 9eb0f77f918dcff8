#include "dist/tree.hpp"

#include <algorithm>
#include <functional>

#include "base/error.hpp"

namespace bl::dist {
namespace {

constexpr std::size_t kLine = 16;       // floats of 64 bytes: pieces do not share cache lines
constexpr std::size_t kPiece = 16'384;  // floats that a thread adds at once

void add(float* to, const float* from, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) to[i] += from[i];
}

// Width (in lanes) of the largest subtree that starts at `lane` and ends within `mine`.
std::size_t subtree(std::size_t lane, std::size_t lanes, Share mine) {
  std::size_t width = 1;
  while (width < lanes && lane % (2 * width) == 0 && std::min(lane + 2 * width, lanes) <= mine.last) width *= 2;
  return width;
}

// The piece of a block that `rank` adds up.
Share piece_of(std::size_t size, std::size_t ranks, std::size_t rank) {
  const Share lines = share((size + kLine - 1) / kLine, ranks, rank);
  return {std::min(size, lines.first * kLine), std::min(size, lines.last * kLine)};
}

// f(start, n) for all of [0, size), by all threads.
template <class F>
void in_pieces(Pool& pool, std::size_t size, const F& f) {
  const auto task = [&](std::size_t i, std::size_t) { f(i * kPiece, std::min(kPiece, size - i * kPiece)); };
  pool.run((size + kPiece - 1) / kPiece, std::ref(task));  // std::ref keeps std::function from allocating
}

}  // namespace

void TreeSum::run(Communicator& ranks, Pool& pool, std::size_t lanes, std::span<float* const> own, std::size_t size, float* sum) {
  const std::size_t n = ranks.size(), me = ranks.rank();
  const Share mine = share(lanes, n, me), piece = piece_of(size, n, me);
  bl::check(own.size() == mine.size() && lanes > 0, "a rank must bring the lanes that it owns");

  // 1. The subtrees that this rank owns whole.
  in_pieces(pool, size, [&](std::size_t start, std::size_t count) {
    for (std::size_t gap = 1; gap < lanes; gap *= 2)
      for (std::size_t l = (mine.first + 2 * gap - 1) / (2 * gap) * (2 * gap); l + gap < mine.last; l += 2 * gap)
        if (std::min(l + 2 * gap, lanes) <= mine.last) add(own[l - mine.first] + start, own[l + gap - mine.first] + start, count);
  });

  // 2. Every rank gets its piece of all of them.
  parts_.assign(lanes, nullptr);
  sends_.clear();
  receives_.clear();
  std::size_t foreign = 0;
  for (std::size_t r = 0; r < n; ++r) {
    const Share theirs = share(lanes, n, r), wanted = piece_of(size, n, r);
    for (std::size_t l = theirs.first; l < theirs.last; l += subtree(l, lanes, theirs)) foreign += r != me ? 1 : 0;
    if (r == me || wanted.size() == 0) continue;
    for (std::size_t l = mine.first; l < mine.last; l += subtree(l, lanes, mine))
      sends_.push_back({r, own[l - mine.first] + wanted.first, wanted.size() * sizeof(float)});
  }
  if (received_.size() < foreign * piece.size()) received_.resize(foreign * piece.size());
  float* free = received_.data();
  for (std::size_t r = 0; r < n; ++r) {
    const Share theirs = share(lanes, n, r);
    for (std::size_t l = theirs.first; l < theirs.last; l += subtree(l, lanes, theirs)) {
      if (r == me) {
        parts_[l] = own[l - mine.first] + piece.first;
      } else {
        parts_[l] = free;
        if (piece.size() > 0) receives_.push_back({r, free, piece.size() * sizeof(float)});
        free += piece.size();
      }
    }
  }
  ranks.exchange(sends_, receives_);

  // 3. The rest of the tree. A lane inside of a subtree was added by its owner: it has no part here.
  in_pieces(pool, piece.size(), [&](std::size_t start, std::size_t count) {
    for (std::size_t gap = 1; gap < lanes; gap *= 2)
      for (std::size_t l = 0; l + gap < lanes; l += 2 * gap)
        if (parts_[l + gap] != nullptr) add(parts_[l] + start, parts_[l + gap] + start, count);
    if (parts_[0] != sum + piece.first) std::copy_n(parts_[0] + start, count, sum + piece.first + start);
  });

  // 4. All pieces to all ranks.
  bytes_.clear();
  for (std::size_t r = 0; r < n; ++r) bytes_.push_back(piece_of(size, n, r).size() * sizeof(float));
  ranks.gather(sum, bytes_);
}

}  // namespace bl::dist
