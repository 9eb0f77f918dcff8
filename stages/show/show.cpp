#include "show/show.hpp"

#include <algorithm>
#include <cmath>
#include <map>

namespace bl::show {
namespace {

bool is_offsets(const Column& c) { return c.dims.size() == 1 && c.dims[0] == "event+1"; }
bool is_text(const Column& c) { return c.dtype == Dtype::u8 && c.dims.size() == 1 && c.dims[0] == c.name + "_char"; }

std::string dims_text(const Column& c) {
  std::string out;
  for (const auto& d : c.dims) out += (out.empty() ? "" : " x ") + d;
  return out;
}

// The values of one event in a column: [first, last) along the flat column.
std::pair<std::size_t, std::size_t> range_of(const Batch& batch, const Column& c, std::uint32_t event) {
  std::size_t row = 1;
  for (std::size_t d = 1; d < c.dims.size(); ++d) row *= expected_size(batch, {c.dims[d]});
  if (c.dims.empty()) return {0, c.size()};
  if (c.dims[0] == "event") return {event * row, (event + 1) * row};
  const auto offsets = offsets_of(batch, c.dims[0])->as<std::uint32_t>();
  return {offsets[event] * row, offsets[event + 1] * row};
}

nlohmann::json number(const Column& c, std::size_t i) {
  switch (c.dtype) {
    case Dtype::f32: return c.as<float>()[i];
    case Dtype::f64: return c.as<double>()[i];
    case Dtype::u64: return c.as<std::uint64_t>()[i];
    case Dtype::i64: return c.as<std::int64_t>()[i];
    default: return static_cast<std::int64_t>(c.value(i));
  }
}

std::string number_text(const Column& c, std::size_t i) {
  if (c.dtype == Dtype::f32) return fmt::format("{}", c.as<float>()[i]);
  if (c.dtype == Dtype::f64) return fmt::format("{}", c.as<double>()[i]);
  return number(c, i).dump();
}

std::string quoted(const std::string& text) {
  if (text.find_first_of(",\"\n") == std::string::npos) return text;
  std::string out = "\"";
  for (const char ch : text) out += ch == '"' ? "\"\"" : std::string(1, ch);
  return out + "\"";
}

}  // namespace

void StreamSummary::add(const Batch& batch, std::uint32_t keep) {
  events += batch.events;
  ++batches;
  bytes += batch.bytes();
  digest.add(batch);
  for (const auto& c : batch.columns) {
    if (is_offsets(c)) continue;
    auto it = std::find_if(columns.begin(), columns.end(), [&](const ColumnSummary& s) { return s.name == c.name; });
    if (it == columns.end()) {
      columns.push_back({c.name, dims_text(c), c.dtype, is_text(c), 0, 0, INFINITY, -INFINITY, 0});
      it = columns.end() - 1;
    }
    it->values += c.size();
    if (it->text) continue;
    for (std::size_t i = 0; i < c.size(); ++i) {
      const double v = c.value(i);
      if (!std::isfinite(v)) {
        ++it->not_finite;
        continue;
      }
      it->min = std::min(it->min, v);
      it->max = std::max(it->max, v);
      it->sum += v;
    }
  }
  if (batch.has("process") && batch.has("process_char_offsets")) {
    std::map<std::string, std::uint64_t> seen;
    std::vector<std::string> order;
    for (std::uint32_t e = 0; e < batch.events; ++e) {
      const auto name = batch.text("process", e);
      if (seen[name]++ == 0) order.push_back(name);
    }
    for (const auto& name : order) {
      auto it = std::find_if(processes.begin(), processes.end(), [&](const auto& p) { return p.first == name; });
      if (it == processes.end()) processes.emplace_back(name, seen[name]);
      else it->second += seen[name];
    }
  }
  std::uint32_t have = 0;
  for (const auto& b : first) have += b.events;
  if (have < keep) first.push_back(slice(batch, 0, std::min(keep - have, batch.events)));
}

nlohmann::json event_json(const Batch& batch, std::uint32_t event) {
  nlohmann::json out = nlohmann::json::object();
  for (const auto& c : batch.columns) {
    if (is_offsets(c)) continue;
    if (is_text(c)) {
      out[c.name] = batch.text(c.name, event);
      continue;
    }
    const auto [first, last] = range_of(batch, c, event);
    if (c.dims.size() == 1 && c.dims[0] == "event") {
      out[c.name] = number(c, first);
      continue;
    }
    auto values = nlohmann::json::array();
    for (std::size_t i = first; i < last; ++i) values.push_back(number(c, i));
    out[c.name] = std::move(values);
  }
  return out;
}

nlohmann::json to_json(const StreamSummary& s, std::uint32_t events) {
  auto columns = nlohmann::json::array();
  for (const auto& c : s.columns) {
    nlohmann::json j = {{"name", c.name}, {"dtype", name_of(c.dtype)}, {"dims", c.dims}, {"values", c.values}};
    if (!c.text && c.values > c.not_finite) j.update({{"min", c.min}, {"max", c.max}, {"mean", c.sum / static_cast<double>(c.values - c.not_finite)}});
    columns.push_back(std::move(j));
  }
  auto processes = nlohmann::json::object();
  for (const auto& [name, n] : s.processes) processes[name] = n;
  auto first = nlohmann::json::array();
  for (const auto& b : s.first)
    for (std::uint32_t e = 0; e < b.events && first.size() < events; ++e) first.push_back(event_json(b, e));
  return {{"path", s.path},   {"schema", s.hello.schema},  {"events", s.events},        {"batches", s.batches},
          {"bytes", s.bytes}, {"digest", s.digest.text()}, {"processes", processes},    {"columns", columns},
          {"first", first},   {"meta", s.hello.meta},      {"history", s.hello.history}};
}

std::string to_text(const StreamSummary& s, std::uint32_t events) {
  std::string out = fmt::format("{}: {}, {} events in {} batches, {:.1f} MB, digest {}\n", s.path, s.hello.schema, s.events, s.batches,
                                static_cast<double>(s.bytes) / 1e6, s.digest.text());
  if (!s.processes.empty()) {
    out += "processes:";
    for (const auto& [name, n] : s.processes) out += fmt::format(" {} {}", name.empty() ? "(unnamed)" : name, n);
    out += "\n";
  }
  out += "history:\n";
  for (const auto& h : s.hello.history) {
    out += fmt::format("  {} {} seed {}", h.value("stage", "?"), h.value("version", "?"), h.contains("seed") ? h["seed"].dump() : "-");
    if (h.contains("options"))
      for (const auto& [key, value] : h["options"].items())
        if (!value.is_boolean() || value.get<bool>())
          if (!(value.is_string() && value.get<std::string>().empty()) && !(value.is_array() && value.empty()))
            out += fmt::format(" --{}{}", key, value.is_boolean() ? "" : " " + (value.is_string() ? value.get<std::string>() : value.dump()));
    out += "\n";
  }
  for (const auto& [key, value] : s.hello.meta.items()) {
    std::string text = value.dump();
    if (text.size() > 160) text = text.substr(0, 157) + "...";
    out += fmt::format("meta {}: {}\n", key, text);
  }
  out += fmt::format("\n{:<14} {:<5} {:<14} {:>12} {:>14} {:>14} {:>14}\n", "column", "dtype", "dims", "values", "min", "mean", "max");
  for (const auto& c : s.columns) {
    out += fmt::format("{:<14} {:<5} {:<14} {:>12}", c.name, name_of(c.dtype), c.dims, c.values);
    if (!c.text && c.values > c.not_finite)
      out += fmt::format(" {:>14.6g} {:>14.6g} {:>14.6g}", c.min, c.sum / static_cast<double>(c.values - c.not_finite), c.max);
    out += "\n";
  }
  std::uint32_t shown = 0;
  for (const auto& b : s.first) {
    for (std::uint32_t e = 0; e < b.events && shown < events; ++e, ++shown) {
      out += fmt::format("\nevent {}:", shown);
      for (const auto& c : b.columns) {
        if (is_text(c)) out += fmt::format(" {}={}", c.name, b.text(c.name, e));
        else if (c.dims.size() == 1 && c.dims[0] == "event") out += fmt::format(" {}={}", c.name, number_text(c, e));
      }
      out += "\n";
      // ragged columns side by side, one line an entry
      std::map<std::string, std::vector<const Column*>> ragged;
      for (const auto& c : b.columns)
        if (!is_offsets(c) && !is_text(c) && c.dims.size() == 1 && c.dims[0] != "event") ragged[c.dims[0]].push_back(&c);
      for (const auto& [dim, columns_of] : ragged) {
        const auto [first, last] = range_of(b, *columns_of[0], e);
        out += fmt::format("  {:<10}", dim);
        for (const Column* c : columns_of) out += fmt::format("{:>13}", c->name);
        out += "\n";
        for (std::size_t i = first; i < last; ++i) {
          out += fmt::format("  {:<10}", i - first);
          for (const Column* c : columns_of) out += fmt::format("{:>13}", number_text(*c, i));
          out += "\n";
        }
      }
    }
  }
  return out;
}

std::string csv_header(const Batch& batch) {
  std::string out;
  for (const auto& c : batch.columns)
    if (!is_offsets(c)) out += (out.empty() ? "" : ",") + c.name;
  return out + "\n";
}

std::string csv_lines(const Batch& batch, std::uint32_t events) {
  std::string out;
  for (std::uint32_t e = 0; e < std::min(batch.events, events); ++e) {
    bool first_column = true;
    for (const auto& c : batch.columns) {
      if (is_offsets(c)) continue;
      if (!first_column) out += ",";
      first_column = false;
      if (is_text(c)) {
        out += quoted(batch.text(c.name, e));
        continue;
      }
      const auto [first, last] = range_of(batch, c, e);
      for (std::size_t i = first; i < last; ++i) out += (i == first ? "" : " ") + number_text(c, i);
    }
    out += "\n";
  }
  return out;
}

}  // namespace bl::show
