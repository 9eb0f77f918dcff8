#include "show/artefact.hpp"

#include <algorithm>

#include "base/hash.hpp"
#include "store/h5.hpp"

namespace bl::show {
namespace {

nlohmann::json attribute(const store::Input& file, const std::string& object, const std::string& name) {
  try {
    const std::string text = file.text_attribute(object, name);
    if (!text.empty() && (text.front() == '{' || text.front() == '[')) {
      auto parsed = nlohmann::json::parse(text, nullptr, false);
      if (!parsed.is_discarded()) return parsed;
    }
    return text;
  } catch (const Error&) {
  }
  try {
    return file.integer_attribute(object, name);
  } catch (const Error&) {
  }
  return file.real_attribute(object, name);
}

std::string shape_text(const store::Shape& shape) {
  std::string out;
  for (const auto n : shape) out += (out.empty() ? "" : " x ") + std::to_string(n);
  return out.empty() ? "1" : out;
}

}  // namespace

bool is_artefact(const std::string& path) { return store::is_hdf5(path); }

Artefact read_artefact(const std::string& path) {
  const store::Input file(path);
  Artefact a;
  std::uint64_t sum = 0, mix = 0, values = 0;
  auto arrays = nlohmann::json::array();
  std::string table;
  for (const auto& name : file.all_datasets()) {
    const auto info = file.info(name);
    std::uint64_t h = hash64(name);
    nlohmann::json entry = {{"name", name}, {"type", info.type}, {"shape", info.shape}};
    std::string range;
    if (info.kind == store::Kind::text) {
      const auto texts = file.read_text(name);
      for (const auto& t : texts) h = hash64(t, h);
      if (texts.size() == 1) {
        entry["value"] = texts[0];
        range = texts[0].size() > 60 ? texts[0].substr(0, 57) + "..." : texts[0];
      }
    } else if (info.kind == store::Kind::integer || info.kind == store::Kind::boolean) {
      if (info.has_sign || info.kind == store::Kind::boolean) {
        const auto v = file.read<std::int64_t>(name);
        h = hash64(v.data(), v.size() * sizeof v[0], h);
        if (!v.empty()) {
          const auto [lo, hi] = std::minmax_element(v.begin(), v.end());
          range = fmt::format("{} … {}", *lo, *hi);
          entry.update({{"min", *lo}, {"max", *hi}});
        }
      } else {
        const auto v = file.read<std::uint64_t>(name);
        h = hash64(v.data(), v.size() * sizeof v[0], h);
        if (!v.empty()) {
          const auto [lo, hi] = std::minmax_element(v.begin(), v.end());
          range = fmt::format("{} … {}", *lo, *hi);
          entry.update({{"min", *lo}, {"max", *hi}});
        }
      }
    } else if (info.kind == store::Kind::real) {
      const auto v = file.read<double>(name);
      h = hash64(v.data(), v.size() * sizeof v[0], h);
      if (!v.empty()) {
        const auto [lo, hi] = std::minmax_element(v.begin(), v.end());
        range = fmt::format("{:.5g} … {:.5g}", *lo, *hi);
        entry.update({{"min", *lo}, {"max", *hi}});
      }
    }
    for (const auto n : info.shape) h = hash64(&n, sizeof n, h);
    sum += h;
    mix += hash64(&h, sizeof h);
    values += info.values();
    table += fmt::format("{:<44} {:<6} {:>14}  {}\n", name, info.type, shape_text(info.shape), range);
    arrays.push_back(std::move(entry));
  }
  a.digest = hex(sum) + hex(mix);
  auto attributes = nlohmann::json::object();
  std::string heads;
  for (const auto& name : file.attributes("")) {
    attributes[name] = attribute(file, "", name);
    std::string text = attributes[name].is_string() ? attributes[name].get<std::string>() : attributes[name].dump();
    if (text.size() > 200) text = text.substr(0, 197) + "...";
    heads += fmt::format("{}: {}\n", name, text);
  }
  a.json = {{"path", path}, {"digest", a.digest}, {"values", values}, {"attributes", attributes}, {"arrays", arrays}};
  a.text = fmt::format("{}: {} arrays, {} values, digest {}\n{}\n{:<44} {:<6} {:>14}  range\n{}", path, arrays.size(), values, a.digest, heads, "array", "type",
                       "shape", table);
  return a;
}

}  // namespace bl::show
