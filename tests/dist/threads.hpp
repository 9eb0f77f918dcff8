// Ranks that are threads of one process: what is built on a Communicator is tested without MPI, for any number of ranks,
// and under the thread sanitizer.
#pragma once
#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <exception>
#include <functional>
#include <map>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

#include "dist/communicator.hpp"

namespace bl::dist::testing {

class Post {
 public:
  void put(std::size_t from, std::size_t to, const void* data, std::size_t bytes) {
    const auto* start = static_cast<const std::byte*>(data);
    {
      const std::lock_guard lock(mutex_);
      letters_[{from, to}].emplace_back(start, start + bytes);
    }
    arrived_.notify_all();
  }
  void take(std::size_t from, std::size_t to, void* data, std::size_t bytes) {
    std::unique_lock lock(mutex_);
    auto& box = letters_[{from, to}];
    if (!arrived_.wait_for(lock, std::chrono::seconds(20), [&] { return !box.empty(); })) throw std::runtime_error("a rank waits for ever");
    if (box.front().size() != bytes) throw std::runtime_error("sizes of a message differ");
    std::memcpy(data, box.front().data(), bytes);
    box.pop_front();
  }

 private:
  std::mutex mutex_;
  std::condition_variable arrived_;
  std::map<std::pair<std::size_t, std::size_t>, std::deque<std::vector<std::byte>>> letters_;
};

class ThreadRank final : public Communicator {
 public:
  ThreadRank(Post& post, std::size_t rank, std::size_t size) : post_(post), rank_(rank), size_(size) {}
  std::size_t rank() const noexcept override { return rank_; }
  std::size_t size() const noexcept override { return size_; }
  void exchange(std::span<const Send> sends, std::span<const Receive> receives) override {
    for (const Send& s : sends) {
      if (s.to >= size_ || s.to == rank_) throw std::runtime_error("a message to nobody");
      sent += s.bytes;
      post_.put(rank_, s.to, s.data, s.bytes);
    }
    for (const Receive& r : receives) post_.take(r.from, rank_, r.data, r.bytes);
  }
  std::size_t sent = 0;  // bytes

 private:
  Post& post_;
  std::size_t rank_, size_;
};

// f(rank) in `size` threads; the exception of the lowest rank is thrown again.
inline void run_ranks(std::size_t size, const std::function<void(ThreadRank&)>& f) {
  Post post;
  std::vector<std::exception_ptr> errors(size);
  std::vector<std::thread> threads;
  for (std::size_t r = 0; r < size; ++r)
    threads.emplace_back([&, r] {
      ThreadRank rank(post, r, size);
      try {
        f(rank);
      } catch (...) {
        errors[r] = std::current_exception();
      }
    });
  for (std::thread& t : threads) t.join();
  for (const std::exception_ptr& e : errors)
    if (e) std::rethrow_exception(e);
}

}  // namespace bl::dist::testing
