#include "data/batch.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <numeric>

namespace bl {
namespace {

constexpr std::array<std::string_view, 10> kNames{"i8", "u8", "i16", "u16", "i32", "u32", "i64", "u64", "f32", "f64"};
constexpr std::array<std::size_t, 10> kSizes{1, 1, 2, 2, 4, 4, 8, 8, 4, 8};

// "4" -> 4, a name -> nullopt
std::optional<std::size_t> fixed_length(std::string_view dim) {
  std::size_t n = 0;
  const auto [end, error] = std::from_chars(dim.data(), dim.data() + dim.size(), n);
  if (error == std::errc{} && end == dim.data() + dim.size()) return n;
  return std::nullopt;
}

bool is_offsets(const Column& c) { return c.dims.size() == 1 && c.dims[0] == "event+1"; }

}  // namespace

std::size_t size_of(Dtype dtype) { return kSizes[static_cast<std::size_t>(dtype)]; }
std::string_view name_of(Dtype dtype) { return kNames[static_cast<std::size_t>(dtype)]; }
std::optional<Dtype> dtype_named(std::string_view name) {
  const auto it = std::find(kNames.begin(), kNames.end(), name);
  if (it == kNames.end()) return std::nullopt;
  return static_cast<Dtype>(it - kNames.begin());
}

void Column::expect(Dtype wanted) const {
  if (dtype != wanted) fail(Exit::input, "column '{}' holds {}, expected {}", name, name_of(dtype), name_of(wanted));
}

double Column::value(std::size_t i) const {
  switch (dtype) {
    case Dtype::i8: return as<std::int8_t>()[i];
    case Dtype::u8: return as<std::uint8_t>()[i];
    case Dtype::i16: return as<std::int16_t>()[i];
    case Dtype::u16: return as<std::uint16_t>()[i];
    case Dtype::i32: return as<std::int32_t>()[i];
    case Dtype::u32: return as<std::uint32_t>()[i];
    case Dtype::i64: return static_cast<double>(as<std::int64_t>()[i]);
    case Dtype::u64: return static_cast<double>(as<std::uint64_t>()[i]);
    case Dtype::f32: return as<float>()[i];
    case Dtype::f64: return as<double>()[i];
  }
  return 0;
}

const Column* Batch::find(std::string_view name) const {
  for (const auto& c : columns)
    if (c.name == name) return &c;
  return nullptr;
}
Column* Batch::find(std::string_view name) {
  for (auto& c : columns)
    if (c.name == name) return &c;
  return nullptr;
}

const Column& Batch::at(std::string_view name) const {
  if (const Column* c = find(name)) return *c;
  std::string have;
  for (const auto& c : columns) have += (have.empty() ? "" : ", ") + c.name;
  fail(Exit::input, "column '{}' is missing; the batch has {}", name, have.empty() ? "none" : have);
}

void Batch::put(Column column) {
  if (Column* old = find(column.name)) *old = std::move(column);
  else columns.push_back(std::move(column));
}

void Batch::erase(std::string_view name) {
  std::erase_if(columns, [&](const Column& c) { return c.name == name; });
}

void Batch::set_text(const std::string& name, std::span<const std::string> texts) {
  std::vector<std::uint32_t> offsets{0};
  std::vector<std::uint8_t> chars;
  for (const auto& t : texts) {
    chars.insert(chars.end(), t.begin(), t.end());
    offsets.push_back(static_cast<std::uint32_t>(chars.size()));
  }
  set(name + "_char_offsets", {"event+1"}, offsets);
  set(name, {name + "_char"}, chars);
}

std::string Batch::text(std::string_view name, std::size_t event) const {
  const auto offsets = get<std::uint32_t>(std::string(name) + "_char_offsets");
  const auto chars = get<std::uint8_t>(name);
  return {reinterpret_cast<const char*>(chars.data()) + offsets[event], offsets[event + 1] - offsets[event]};
}

std::size_t Batch::bytes() const {
  return std::accumulate(columns.begin(), columns.end(), std::size_t{0}, [](std::size_t n, const Column& c) { return n + c.raw.size(); });
}

const Column* offsets_of(const Batch& batch, std::string_view dim) { return batch.find(std::string(dim) + "_offsets"); }

std::size_t expected_size(const Batch& batch, const std::vector<std::string>& dims) {
  std::size_t size = 1;
  for (const auto& dim : dims) {
    std::size_t n = 0;
    if (dim == "event") n = batch.events;
    else if (dim == "event+1") n = std::size_t{batch.events} + 1;
    else if (const auto fixed = fixed_length(dim)) n = *fixed;
    else if (const Column* offsets = offsets_of(batch, dim)) {
      const auto values = offsets->as<std::uint32_t>();
      n = values.empty() ? 0 : values.back();
    } else fail(Exit::input, "dimension '{}' has no column '{}_offsets'", dim, dim);
    if (n != 0 && size > (std::size_t{1} << 40) / n) fail(Exit::input, "dimension '{}' with {} entries makes the column larger than any memory", dim, n);
    size *= n;
  }
  return size;
}

void check_structure(const Batch& batch) {
  for (const auto& c : batch.columns) {
    if (!is_offsets(c)) continue;
    const auto v = c.as<std::uint32_t>();
    if (v.size() != std::size_t{batch.events} + 1)
      fail(Exit::input, "column '{}' has {} values, expected {} (one more than the {} events)", c.name, v.size(), std::size_t{batch.events} + 1, batch.events);
    if (v[0] != 0) fail(Exit::input, "column '{}', entry 0: {} is not 0, where offsets start", c.name, v[0]);
    for (std::size_t i = 1; i < v.size(); ++i)
      if (v[i] < v[i - 1]) fail(Exit::input, "column '{}', entry {}: {} is below {}, the one before", c.name, i, v[i], v[i - 1]);
  }
  for (const auto& c : batch.columns) {
    const std::size_t expected = expected_size(batch, c.dims);
    if (c.size() != expected || c.raw.size() % size_of(c.dtype) != 0) fail(Exit::input, "column '{}' has {} values, expected {}", c.name, c.size(), expected);
  }
}

Batch select(const Batch& batch, std::span<const std::uint32_t> keep) {
  Batch out;
  out.seq = batch.seq;
  out.events = static_cast<std::uint32_t>(keep.size());
  for (const auto& c : batch.columns) {
    Column n{c.name, c.dtype, c.dims, {}};
    if (is_offsets(c)) {
      const auto v = c.as<std::uint32_t>();
      std::vector<std::uint32_t> offsets(keep.size() + 1, 0);
      for (std::size_t i = 0; i < keep.size(); ++i) offsets[i + 1] = offsets[i] + (v[keep[i] + 1] - v[keep[i]]);
      n.raw = Buffer(offsets.data(), offsets.size() * sizeof(std::uint32_t));
    } else {
      std::size_t row = size_of(c.dtype);  // bytes of one entry along the first dimension
      for (std::size_t d = 1; d < c.dims.size(); ++d) row *= expected_size(batch, {c.dims[d]});
      if (!c.dims.empty() && c.dims[0] == "event") {
        n.raw = Buffer(keep.size() * row);
        std::byte* to = n.raw.edit();
        for (const auto e : keep) {
          std::memcpy(to, c.raw.data() + e * row, row);
          to += row;
        }
      } else if (!c.dims.empty() && offsets_of(batch, c.dims[0])) {
        const auto v = offsets_of(batch, c.dims[0])->as<std::uint32_t>();
        std::size_t total = 0;
        for (const auto e : keep) total += v[e + 1] - v[e];
        n.raw = Buffer(total * row);
        std::byte* to = n.raw.edit();
        for (const auto e : keep) {
          const std::size_t bytes = (v[e + 1] - v[e]) * row;
          if (bytes != 0) std::memcpy(to, c.raw.data() + v[e] * row, bytes);
          to += bytes;
        }
      } else {
        n.raw = c.raw;  // not per event: travels as it is
      }
    }
    out.columns.push_back(std::move(n));
  }
  return out;
}

Batch slice(const Batch& batch, std::uint32_t first, std::uint32_t count) {
  std::vector<std::uint32_t> keep(count);
  std::iota(keep.begin(), keep.end(), first);
  return select(batch, keep);
}

Batch concat(std::span<const Batch> batches) {
  if (batches.empty()) return {};
  Batch out;
  out.seq = batches[0].seq;
  for (const auto& b : batches) {
    out.events += b.events;
    if (b.columns.size() != batches[0].columns.size())
      fail(Exit::input, "cannot join batches of {} and {} columns", batches[0].columns.size(), b.columns.size());
  }
  for (const auto& c : batches[0].columns) {
    Column n{c.name, c.dtype, c.dims, {}};
    if (is_offsets(c)) {
      std::vector<std::uint32_t> offsets{0};
      for (const auto& b : batches) {
        const auto v = b.get<std::uint32_t>(c.name);
        const std::uint32_t base = offsets.back();
        for (std::size_t i = 1; i < v.size(); ++i) offsets.push_back(base + v[i]);
      }
      n.raw = Buffer(offsets.data(), offsets.size() * sizeof(std::uint32_t));
    } else {
      std::size_t total = 0;
      for (const auto& b : batches) {
        const Column& o = b.at(c.name);
        if (o.dtype != c.dtype || o.dims != c.dims) fail(Exit::input, "cannot join batches: column '{}' differs in type or shape", c.name);
        total += o.raw.size();
      }
      n.raw = Buffer(total);
      std::byte* to = n.raw.edit();
      for (const auto& b : batches) {
        const Buffer& raw = b.at(c.name).raw;
        if (raw.size() != 0) std::memcpy(to, raw.data(), raw.size());
        to += raw.size();
      }
    }
    out.columns.push_back(std::move(n));
  }
  return out;
}

}  // namespace bl
