// The stream of a training with several ranks. Rank 0 reads it and passes every batch on, so that a pipe, a socket and a
// file that only one machine has all serve. All ranks call the same functions in the same order.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "data/batch.hpp"
#include "dist/communicator.hpp"
#include "stage/context.hpp"
#include "wire/hello.hpp"

namespace bl::train {

class Input {
 public:
  Input(stage::Context& context, dist::Communicator& ranks);  // opens --in

  const wire::Hello& hello() const { return hello_; }
  const std::string& where() const { return where_; }
  bool replayable() const { return replayable_; }  // a file
  // As stage::Reader::next(); a rank 0 that is interrupted while it waits interrupts all.
  std::optional<Batch> next();
  void acknowledge(std::uint64_t seq);
  void close();
  void stop() noexcept;

 private:
  dist::Communicator& ranks_;
  std::unique_ptr<stage::Reader> reader_;  // of rank 0
  wire::Hello hello_;
  std::string where_;
  bool replayable_ = false;
};

}  // namespace bl::train
