#include <cmath>
#include <limits>

#include "schema/schema.hpp"

namespace bl::schema {
namespace {

std::string dims_text(const std::vector<std::string>& dims) {
  std::string out;
  for (const auto& d : dims) out += (out.empty() ? "" : ", ") + d;
  return "[" + out + "]";
}

// One branch-free pass over all values; only when it fails does a second one look for the entry to name.
template <class T>
bool in_range(std::span<const T> values, T low, T high) {
  unsigned bad = 0;
  for (const T v : values) bad |= static_cast<unsigned>(!(v >= low && v <= high));
  return bad == 0;
}

template <class T>
std::optional<std::string> range_violation(const ColumnRule& rule, const Column& c) {
  const auto values = c.as<T>();
  const bool bounded = rule.min || rule.max;
  if (!bounded && !(std::is_floating_point_v<T> && rule.finite)) return std::nullopt;
  using limits = std::numeric_limits<T>;
  const T low = rule.min ? static_cast<T>(*rule.min) : limits::lowest();
  const T high = rule.max ? static_cast<T>(*rule.max) : limits::max();
  if constexpr (std::is_floating_point_v<T>) {
    if (!rule.finite && !bounded) return std::nullopt;
    if (in_range(values, low, high)) return std::nullopt;  // NaN fails every comparison, infinities the limits
  } else if (in_range(values, low, high)) {
    return std::nullopt;
  }
  for (std::size_t i = 0; i < values.size(); ++i) {
    const T v = values[i];
    if (v >= low && v <= high) continue;
    const std::string unit = rule.unit.empty() ? "" : " " + rule.unit;
    if constexpr (std::is_floating_point_v<T>)
      if (!std::isfinite(v)) return fmt::format("column '{}', entry {}: {} is not a finite number", c.name, i, v);
    if (v < low) return fmt::format("column '{}', entry {}: {}{} is below {}", c.name, i, v, unit, low);
    return fmt::format("column '{}', entry {}: {}{} is above {}", c.name, i, v, unit, high);
  }
  return std::nullopt;
}

std::optional<std::string> value_violation(const ColumnRule& rule, const Column& c) {
  switch (c.dtype) {
    case Dtype::i8: return range_violation<std::int8_t>(rule, c);
    case Dtype::u8: return range_violation<std::uint8_t>(rule, c);
    case Dtype::i16: return range_violation<std::int16_t>(rule, c);
    case Dtype::u16: return range_violation<std::uint16_t>(rule, c);
    case Dtype::i32: return range_violation<std::int32_t>(rule, c);
    case Dtype::u32: return range_violation<std::uint32_t>(rule, c);
    case Dtype::i64: return range_violation<std::int64_t>(rule, c);
    case Dtype::u64: return range_violation<std::uint64_t>(rule, c);
    case Dtype::f32: return range_violation<float>(rule, c);
    case Dtype::f64: return range_violation<double>(rule, c);
  }
  return std::nullopt;
}

}  // namespace

std::optional<std::string> violation(const Schema& schema, const Batch& batch) {
  for (const auto& rule : schema.columns)
    if (!rule.optional && !rule.family() && !batch.has(rule.name)) return fmt::format("column '{}' of {} is missing", rule.name, schema.id());
  for (const auto& c : batch.columns) {
    const ColumnRule* rule = schema.rule(c.name);
    if (!rule) return fmt::format("column '{}' is not part of {}", c.name, schema.id());
    if (c.dtype != rule->dtype) return fmt::format("column '{}' holds {}, {} says {}", c.name, name_of(c.dtype), schema.id(), name_of(rule->dtype));
    if (c.dims != rule->dims) return fmt::format("column '{}' has dims {}, {} says {}", c.name, dims_text(c.dims), schema.id(), dims_text(rule->dims));
    if (auto bad = value_violation(*rule, c)) return bad;
  }
  return std::nullopt;
}

void check(const Schema& schema, const Batch& batch, std::string_view where) {
  try {
    check_structure(batch);
  } catch (const Error& e) {
    fail(Exit::input, "{}: batch {}: {}", where, batch.seq, e.what());
  }
  if (const auto bad = violation(schema, batch)) fail(Exit::input, "{}: batch {}: {}", where, batch.seq, *bad);
}

}  // namespace bl::schema
