#include "nn/packed.hpp"

#include <algorithm>
#include <array>
#include <functional>
#include <new>
#include <unordered_map>

#include "base/error.hpp"
#include "nn/arena.hpp"
#include "nn/gemm.hpp"
#include "nn/onednn.hpp"
#include "nn/panels.hpp"
#ifdef BEAMLINE_HAVE_DNNL
#include <dnnl.hpp>
#endif

namespace bl::nn {
namespace {

// Memory of a thread for odd rests, kept from call to call.
template <class T, int which>
T* workspace(std::size_t n) {
  thread_local std::vector<T> memory;
  if (memory.size() < n) memory.resize(n);
  return memory.data();
}

#ifdef BEAMLINE_HAVE_DNNL

// Products are made in blocks of rows, so that a few compiled kernels do for any number of rows: whole blocks, and a last
// one that is rounded up. It then begins earlier and makes some rows twice; where that cannot be (rows are few, or y is
// added to) its result goes to y by way of a copy. x has bf16_rows(rows) rows. run(rows, x, y).
constexpr std::size_t block_rows = 256, step_rows = 16;

template <class Run>
void in_blocks(std::size_t rows, std::size_t k, std::size_t n, const Bf16* x, float* y, bool accumulate, const Run& run) {
  std::size_t start = 0;
  for (; rows - start >= block_rows; start += block_rows) run(block_rows, x + start * k, y + start * n);
  const std::size_t rest = rows - start, m = (rest + step_rows - 1) / step_rows * step_rows;
  if (rest == 0) return;
  if (rest == m) return run(m, x + start * k, y + start * n);
  if (!accumulate && rows >= m) return run(m, x + (rows - m) * k, y + (rows - m) * n);
  float *result = workspace<float, 0>(m * n), *to = y + start * n;
  if (accumulate) {
    std::copy_n(to, rest * n, result);
    std::fill_n(result + rest * n, (m - rest) * n, 0.0f);
  }
  run(m, x + start * k, result);
  std::copy_n(result, rest * n, to);
}

using dnnl::memory;

// What is compiled is compiled for the number of threads that its thread has: one, from the first use on.
dnnl::engine& engine() {
  onednn::one_thread();
  static dnnl::engine cpu(dnnl::engine::kind::cpu, 0);
  return cpu;
}

bool has_isa(dnnl_cpu_isa_t isa) { return (dnnl_get_effective_cpu_isa() & isa) == isa; }
bool bf16_in_hardware() { return has_isa(dnnl_cpu_isa_avx512_core_bf16); }

// f(), with oneDNN's exceptions as ours.
template <class F>
auto translated(const F& f) {
  try {
    return f();
  } catch (const dnnl::error& e) {
    if (e.status == dnnl_out_of_memory) throw std::bad_alloc();
    fail(Exit::failed, "oneDNN refused a product of bf16 on this CPU ({}); train in f32", e.what());
  }
}

memory::dim dim(std::size_t x) { return static_cast<memory::dim>(x); }

// C (m, n) = A (m, k) · B (k, n); B packed, or (of `outer`) plain with A transposed in memory.
struct Shape {
  std::size_t m, n, k;
  bool outer, accumulate;
  bool operator==(const Shape&) const = default;
};
struct ShapeHash {
  std::size_t operator()(const Shape& s) const {
    std::size_t h = s.m * 4 + (s.outer ? 2u : 0u) + (s.accumulate ? 1u : 0u);
    h = h * 0x9E3779B97F4A7C15u + s.n;
    return h * 0x9E3779B97F4A7C15u + s.k;
  }
};

memory::desc left_desc(const Shape& s) {
  return {{dim(s.m), dim(s.k)}, memory::data_type::bf16, s.outer ? memory::dims{1, dim(s.m)} : memory::dims{dim(s.k), 1}};
}
memory::desc result_desc(const Shape& s) { return {{dim(s.m), dim(s.n)}, memory::data_type::f32, memory::dims{dim(s.n), 1}}; }

dnnl::matmul::primitive_desc describe(const Shape& s, const memory::desc& right) {
  dnnl::primitive_attr attr;
  if (s.accumulate) {
    dnnl::post_ops sum;
    sum.append_sum(1.0f);
    attr.set_post_ops(sum);
  }
  return {dnnl::matmul::desc(left_desc(s), right, result_desc(s)), attr, engine()};
}

// A compiled product with its arguments. Each thread has its own: arguments and oneDNN's scratch memory are of a thread,
// the compiled code is shared inside oneDNN.
struct Call {
  dnnl::matmul primitive;
  memory left, result, right;  // right: of outer products only
};

dnnl::stream& stream() {
  thread_local dnnl::stream s(engine());
  return s;
}

void run(const Shape& shape, const void* left, const memory::desc& right_desc, dnnl_memory_t right, const void* right_data, float* result) {
  onednn::one_thread();
  thread_local std::unordered_map<Shape, Call, ShapeHash> calls;
  auto it = calls.find(shape);
  if (it == calls.end()) {
    Call call = translated([&] {
      return Call{dnnl::matmul(describe(shape, right_desc)), memory(left_desc(shape), engine(), nullptr), memory(result_desc(shape), engine(), nullptr),
                  shape.outer ? memory(right_desc, engine(), nullptr) : memory()};
    });
    it = calls.emplace(shape, std::move(call)).first;
  }
  Call& call = it->second;
  call.left.set_data_handle(const_cast<void*>(left));
  call.result.set_data_handle(result);
  if (shape.outer) call.right.set_data_handle(const_cast<void*>(right_data));
  const std::array<dnnl_exec_arg_t, 3> arguments{
      {{DNNL_ARG_SRC, call.left.get()}, {DNNL_ARG_WEIGHTS, shape.outer ? call.right.get() : right}, {DNNL_ARG_DST, call.result.get()}}};
  const dnnl_status_t status = dnnl_primitive_execute(call.primitive.get(), stream().get(), static_cast<int>(arguments.size()), arguments.data());
  if (status == dnnl_out_of_memory) throw std::bad_alloc();
  check(status == dnnl_success, "oneDNN refused a product of bf16");
}

// One of the two factors that W is: Wᵀ (in, out) of the forward, W (out, in) of the backward.
struct Side {
  std::size_t k, n;
  memory::desc plain;  // as it lies among the parameters, in float
  memory packed;
  dnnl::reorder reorder;

  Side(std::size_t out, std::size_t in, bool transposed) : k(transposed ? in : out), n(transposed ? out : in) {
    plain = memory::desc({dim(k), dim(n)}, memory::data_type::f32, transposed ? memory::dims{1, dim(in)} : memory::dims{dim(in), 1});
    const memory::desc any({dim(k), dim(n)}, memory::data_type::bf16, memory::format_tag::any);
    packed = memory(describe({block_rows, n, k, false, false}, any).weights_desc(), engine());
    reorder = dnnl::reorder(memory(plain, engine(), nullptr), packed);
  }
  void update(const float* w) {
    onednn::one_thread();
    memory from(plain, engine(), const_cast<float*>(w));
    reorder.execute(stream(), from, packed);
  }
  void multiply(std::size_t rows, const Bf16* x, float* y, bool accumulate) const {
    const memory::desc desc = packed.get_desc();
    in_blocks(rows, k, n, x, y, accumulate, [&](std::size_t m, const Bf16* a, float* c) {
      run({m, n, k, false, accumulate}, a, desc, packed.get(), nullptr, c);
    });
  }
};

#else
bool bf16_in_hardware() { return false; }
#endif

}  // namespace

Precision precision_named(std::string_view name) {
  for (const Precision p : {Precision::f32, Precision::bf16})
    if (name == name_of(p)) return p;
  fail(Exit::usage, "the precision is '{}', allowed are f32 and bf16", name);
}

std::string_view name_of(Precision precision) { return precision == Precision::bf16 ? "bf16" : "f32"; }

std::string product_backend(Precision precision) {
  if (precision == Precision::f32) return gemm_backend();
  if (!bf16_in_hardware()) return fmt::format("{}, factors rounded to bf16 and multiplied as f32 (the CPU has no bf16 instructions)", gemm_backend());
#ifdef BEAMLINE_HAVE_DNNL
  if (has_isa(dnnl_cpu_isa_avx512_core_amx)) return fmt::format("{}, bf16 on AMX", gemm_backend());
#endif
  return fmt::format("{}, bf16 on AVX-512", gemm_backend());
}

void to_bf16_matrix(std::size_t rows, std::size_t width, const float* x, Bf16* y) {
  to_bf16(rows * width, x, y);
  std::fill_n(y + rows * width, (bf16_rows(rows) - rows) * width, Bf16{});
}

struct PackedMatrix::Impl {
  std::size_t out, in;
  Precision precision;
  Aligned<float> panels;       // f32: of Wᵀ
  std::vector<float> rounded;  // bf16: W rounded, where the CPU cannot do better
#ifdef BEAMLINE_HAVE_DNNL
  std::unique_ptr<Side> forward, backward;
#endif
};

PackedMatrix::PackedMatrix(std::size_t out, std::size_t in, Precision precision, Use use) : impl_(std::make_unique<Impl>()) {
  impl_->out = out;
  impl_->in = in;
  impl_->precision = precision;
  if (precision == Precision::f32) {
    impl_->panels = Aligned<float>(panel_floats(in, out));
    return;
  }
  if (!bf16_in_hardware()) {
    impl_->rounded.resize(out * in);
    return;
  }
#ifdef BEAMLINE_HAVE_DNNL
  impl_->forward = translated([&] { return std::make_unique<Side>(out, in, true); });
  if (use == Use::training) impl_->backward = translated([&] { return std::make_unique<Side>(out, in, false); });
#endif
}
PackedMatrix::~PackedMatrix() = default;
PackedMatrix::PackedMatrix(PackedMatrix&&) noexcept = default;

Precision PackedMatrix::precision() const { return impl_->precision; }

void PackedMatrix::update(const float* w) {
  if (impl_->precision == Precision::f32) return pack_panels(Trans::yes, impl_->in, impl_->out, w, impl_->in, impl_->panels.data());
  if (!impl_->rounded.empty()) {
    Bf16* half = workspace<Bf16, 0>(impl_->rounded.size());
    to_bf16(impl_->rounded.size(), w, half);
    from_bf16(impl_->rounded.size(), half, impl_->rounded.data());
    return;
  }
#ifdef BEAMLINE_HAVE_DNNL
  impl_->forward->update(w);
  if (impl_->backward) impl_->backward->update(w);
#endif
}

void PackedMatrix::forward(std::size_t rows, const float* x, float* y) const {
  multiply_panels(rows, impl_->in, impl_->out, x, impl_->in, impl_->panels.data(), y, impl_->out, false);
}

void PackedMatrix::forward(std::size_t rows, const Bf16* x, float* y) const {
  if (!impl_->rounded.empty()) {
    auto* wide = workspace<float, 0>(rows * impl_->in);
    from_bf16(rows * impl_->in, x, wide);
    return gemm(Trans::no, Trans::yes, rows, impl_->out, impl_->in, wide, impl_->in, impl_->rounded.data(), impl_->in, y, impl_->out, false);
  }
#ifdef BEAMLINE_HAVE_DNNL
  impl_->forward->multiply(rows, x, y, false);
#endif
}

void PackedMatrix::backward(std::size_t rows, const Bf16* dy, float* dx, bool accumulate) const {
  if (!impl_->rounded.empty()) {
    auto* wide = workspace<float, 0>(rows * impl_->out);
    from_bf16(rows * impl_->out, dy, wide);
    return gemm(Trans::no, Trans::no, rows, impl_->in, impl_->out, wide, impl_->out, impl_->rounded.data(), impl_->in, dx, impl_->in, accumulate);
  }
#ifdef BEAMLINE_HAVE_DNNL
  impl_->backward->multiply(rows, dy, dx, accumulate);
#endif
}

void add_outer(std::size_t out, std::size_t in, std::size_t rows, const Bf16* dy, const Bf16* x, float* dw) {
  if (rows == 0) return;
  if (!bf16_in_hardware()) {
    auto* wide_dy = workspace<float, 0>(rows * out);
    auto* wide_x = workspace<float, 1>(rows * in);
    from_bf16(rows * out, dy, wide_dy);
    from_bf16(rows * in, x, wide_x);
    return gemm(Trans::yes, Trans::no, out, in, rows, wide_dy, out, wide_x, in, dw, in, true);
  }
#ifdef BEAMLINE_HAVE_DNNL
  constexpr std::size_t most = 512;  // rows summed over at once: a few compiled kernels do for any number
  for (std::size_t start = 0, end = bf16_rows(rows); start < end; start += most) {
    const std::size_t k = std::min(most, end - start);
    run({out, in, k, true, true}, dy + start * out, {{dim(k), dim(in)}, memory::data_type::bf16, memory::dims{dim(in), 1}}, nullptr, x + start * in, dw);
  }
#endif
}

PackedWeights::PackedWeights(const Params<float>& params, Precision precision, Use use) : precision_(precision) {
  if (precision == Precision::f32 && use == Use::training) return;
  for (const ParamInfo& p : params.list())
    if (p.group == Group::weight && p.at.rows > 1) entries_.push_back({p.at.offset, PackedMatrix(p.at.rows, p.at.width, precision, use)});
}

void PackedWeights::update(Pool& pool, const float* values) {
  const auto task = [&](std::size_t i, std::size_t) { entries_[i].matrix.update(values + entries_[i].offset); };
  pool.run(entries_.size(), std::ref(task));
}

const PackedMatrix* PackedWeights::find(std::size_t offset) const {
  const auto it = std::ranges::lower_bound(entries_, offset, {}, &Entry::offset);
  return it != entries_.end() && it->offset == offset ? &it->matrix : nullptr;
}

}  // namespace bl::nn
