// The tape: ops append themselves while a model writes its forward pass, backward() runs them in reverse.
//
// A value is a row-major matrix (rows, width) without padding: a batch of sequences is the rows of all of them, one
// after the other, plus offsets. Values, gradients and the records of the tape live in one arena and die with it.
//
// Rules of gradients, which every op keeps and a test checks:
//   * open(v) gives where d loss / d v goes, and whether something is there already (then the op adds, else it writes);
//   * a parameter's gradient is always added to;
//   * what does not depend on a trained parameter wants no gradient: make() is told what its result is made from;
//   * when an op's backward has run nobody needs the gradient of its result any more: it gives the memory back
//     (close) or hands it on to an input (pass_on).
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <new>
#include <type_traits>
#include <utility>
#include <vector>

#include "nn/arena.hpp"
#include "nn/params.hpp"

namespace bl::nn {

class PackedWeights;

template <class T>
struct Node {
  T* value = nullptr;
  T* grad = nullptr;  // null until the first consumer's backward has run
  std::size_t rows = 0, width = 0;
  bool wants_grad = false;
  bool parameter = false;
  std::size_t size() const { return rows * width; }
};

template <class T>
using Var = Node<T>*;

template <class T>
struct Grad {
  T* data = nullptr;  // null: nobody wants it
  bool accumulate = false;
  explicit operator bool() const { return data != nullptr; }
};

// Counter of the random numbers of one pass: with the seed it names every number that dropout draws, whatever thread
// runs the shard.
struct RandomState {
  std::uint64_t seed = 0;
  std::uint32_t step = 0, shard = 0, op = 0;
};

template <class T>
class Tape {
 public:
  // grads: the gradient block of the parameters, added to; null for inference, which then records nothing.
  Tape(Arena& arena, T* values, T* grads) : arena_(arena), values_(values), grads_(grads) {}
  Tape(Arena& arena, const Params<T>& params) : arena_(arena), values_(const_cast<T*>(params.values().data())) {}
  Tape(const Tape&) = delete;
  Tape& operator=(const Tape&) = delete;

  bool training() const { return grads_ != nullptr; }
  void seed(std::uint64_t seed, std::uint32_t step, std::uint32_t shard) { random_ = {seed, step, shard, 0}; }
  // Parameters that get no gradient: a byte for every 64 bytes of the block, 1 where a frozen one starts; null: none. The
  // caller keeps it alive.
  void freeze(const std::uint8_t* frozen) { frozen_ = frozen; }
  // Products of this pass run in the precision of these copies of the parameters; null: in that of T. The caller keeps
  // them alive and up to date. Nothing changes for double.
  void use(const PackedWeights* packed) { packed_ = packed; }
  const PackedWeights* packed() const { return packed_; }
  const T* values() const { return values_; }
  RandomState next_random() {
    ++random_.op;
    return random_;
  }
  Arena& arena() { return arena_; }

  Var<T> param(const Param& p) {
    Var<T> v = node(p.rows, p.width);
    v->value = values_ + p.offset;
    v->parameter = training();
    v->wants_grad = training() && (frozen_ == nullptr || frozen_[p.offset * sizeof(T) / 64] == 0);
    v->grad = v->wants_grad ? grads_ + p.offset : nullptr;
    return v;
  }
  // A constant that the caller keeps alive.
  Var<T> input(const T* value, std::size_t rows, std::size_t width) {
    Var<T> v = node(rows, width);
    v->value = const_cast<T*>(value);
    return v;
  }
  // The result of an op: memory for the value, uninitialised.
  Var<T> make(std::size_t rows, std::size_t width) {
    Var<T> v = node(rows, width);
    v->value = arena_.take<T>(rows * width);
    v->wants_grad = training();
    return v;
  }
  // The same for a function of `from` (null ones do not count): where none of them wants a gradient the result wants none
  // either, so that below frozen parameters nothing is differentiated.
  Var<T> make(std::size_t rows, std::size_t width, std::initializer_list<Var<T>> from) {
    Var<T> v = make(rows, width);
    v->wants_grad = std::ranges::any_of(from, [](Var<T> x) { return x != nullptr && x->wants_grad; });
    return v;
  }

  // Appends an op's backward: a small trivially copyable callable without arguments. No-op at inference.
  template <class F>
  void record(F backward) {
    static_assert(std::is_trivially_copyable_v<F> && std::is_trivially_destructible_v<F>);
    if (!training()) return;
    struct Step : Record {
      F f;
    };
    Step* step = arena_.take<Step>(1);
    new (step) Step{{last_, [](Record* r) { static_cast<Step*>(r)->f(); }}, backward};
    last_ = step;
  }
  void backward() {
    for (; last_ != nullptr; last_ = last_->before) last_->run(last_);
  }

  Grad<T> open(Var<T> v) {
    if (v == nullptr || !v->wants_grad) return {};
    if (v->grad != nullptr) return {v->grad, true};
    v->grad = scratch(v->size());
    return {v->grad, false};
  }
  // open() for gradients that are only ever added to: zeroed first when nothing is there. Null when nobody wants it.
  T* open_zeroed(Var<T> v) {
    const Grad<T> g = open(v);
    if (g && !g.accumulate) std::fill_n(g.data, v->size(), T{0});
    return g.data;
  }
  void close(Var<T> v) {
    if (v->grad != nullptr && !v->parameter) give_back(v->grad, v->size());
    if (!v->parameter) v->grad = nullptr;
  }
  // d loss / d from becomes (or is added to) d loss / d to; both have one shape.
  void pass_on(Var<T> from, Var<T> to) {
    if (to->wants_grad && to->grad == nullptr) {
      to->grad = std::exchange(from->grad, nullptr);
      return;
    }
    if (to->wants_grad)
      for (std::size_t i = 0; i < to->size(); ++i) to->grad[i] += from->grad[i];
    close(from);
  }

  // Memory that returns to a free list, so that backward re-uses what is still in the cache.
  T* scratch(std::size_t n) {
    for (Spare** link = &spares_; *link != nullptr; link = &(*link)->next)
      if ((*link)->size == n) {
        Spare* spare = *link;
        *link = spare->next;
        spare->next = empty_;
        empty_ = spare;
        return spare->memory;
      }
    return arena_.take<T>(n);
  }
  void give_back(T* memory, std::size_t n) {
    Spare* spare = empty_;
    if (spare != nullptr) empty_ = spare->next;
    else spare = arena_.take<Spare>(1);
    *spare = {memory, n, spares_};
    spares_ = spare;
  }

 private:
  struct Record {
    Record* before;
    void (*run)(Record*);
  };
  struct Spare {
    T* memory;
    std::size_t size;
    Spare* next;
  };
  Var<T> node(std::size_t rows, std::size_t width) {
    auto* const v = new (arena_.take<Node<T>>(1)) Node<T>{};
    v->rows = rows;
    v->width = width;
    return v;
  }

  Arena& arena_;
  T* values_ = nullptr;
  T* grads_ = nullptr;
  const std::uint8_t* frozen_ = nullptr;
  const PackedWeights* packed_ = nullptr;
  Record* last_ = nullptr;
  Spare* spares_ = nullptr;
  Spare* empty_ = nullptr;
  RandomState random_;
};

}  // namespace bl::nn
