#include "nn/groups.hpp"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>

#include "base/error.hpp"

namespace bl::nn {
namespace {

template <class N>
std::optional<N> number(std::string_view text) {
  N value{};
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || stop != text.data() + text.size()) return std::nullopt;
  return value;
}

void set(GroupRule& rule, std::string_view setting) {
  const std::size_t equals = setting.find('=');
  const std::string_view key = setting.substr(0, equals), value = equals == std::string_view::npos ? std::string_view() : setting.substr(equals + 1);
  const auto factor = [&] {
    const auto x = number<double>(value);
    if (!x || !(*x >= 0) || !std::isfinite(*x)) fail(Exit::usage, "group '{}': {} is '{}', allowed is a number of 0 or more", rule.pattern, key, value);
    return *x;
  };
  if (key == "rate") {
    rule.rate = factor();
  } else if (key == "decay") {
    rule.decay = factor();
  } else if (key == "warmup") {
    rule.warmup = number<std::uint64_t>(value);
    if (!rule.warmup) fail(Exit::usage, "group '{}': warmup is '{}', allowed is a whole number of steps", rule.pattern, value);
  } else if (key == "thaw") {
    rule.thaw = number<std::uint64_t>(value);
    if (!rule.thaw) fail(Exit::usage, "group '{}': thaw is '{}', allowed is a whole number of steps", rule.pattern, value);
  } else if (key == "freeze") {
    rule.freeze = setting == key || value == "full" ? 1.0 : value == "none" ? 0.0 : number<double>(value);
    if (!rule.freeze || !(*rule.freeze >= 0 && *rule.freeze <= 1))
      fail(Exit::usage, "group '{}': freeze is '{}', allowed are none, full and a fraction of the layers between 0 and 1", rule.pattern, value);
  } else {
    fail(Exit::usage, "group '{}': the setting '{}' is not known; known are rate=X, decay=X, warmup=N, freeze, freeze=FRACTION and thaw=N", rule.pattern,
         setting);
  }
}

void set_all(GroupRule& rule, std::string_view settings) {
  while (true) {
    const std::size_t comma = settings.find(',');
    set(rule, settings.substr(0, comma));
    if (comma == std::string_view::npos) return;
    settings.remove_prefix(comma + 1);
  }
}

// "encoder/0" of "encoder/0/qkv/weight"; empty when no part of the name is a number.
std::string_view layer_of(std::string_view name) {
  for (std::size_t start = 0; start < name.size();) {
    const std::size_t end = std::min(name.find('/', start), name.size());
    const std::string_view part = name.substr(start, end - start);
    if (!part.empty() && std::ranges::all_of(part, [](char c) { return c >= '0' && c <= '9'; })) return name.substr(0, end);
    start = end + 1;
  }
  return {};
}

// Freezes the first layers among list[i] for i in `members`; parameters are listed in the order in which a model uses them.
void freeze(const std::vector<ParamInfo>& list, const std::vector<std::size_t>& members, const GroupRule& rule, std::vector<ParamRule>& rules) {
  const double fraction = *rule.freeze;
  std::vector<std::string_view> layers;
  for (const std::size_t i : members)
    if (const auto layer = layer_of(list[i].name); !layer.empty() && std::ranges::find(layers, layer) == layers.end()) layers.push_back(layer);
  if (fraction > 0 && fraction < 1 && layers.empty())
    fail(Exit::usage, "group '{}': freeze={:g} asks for a part of its layers, but it has none; use freeze for all of it", rule.pattern, fraction);
  const auto frozen_layers = static_cast<std::size_t>(std::lround(fraction * static_cast<double>(layers.size())));
  std::size_t seen = 0;  // layers that have begun
  for (const std::size_t i : members) {
    const auto layer = layer_of(list[i].name);
    if (!layer.empty()) seen = std::max(seen, static_cast<std::size_t>(std::ranges::find(layers, layer) - layers.begin()) + 1);
    rules[i].frozen = fraction >= 1 || (fraction > 0 && frozen_layers > 0 && (layer.empty() ? seen == 0 : seen <= frozen_layers));
  }
}

}  // namespace

bool matches(std::string_view pattern, std::string_view name) {
  // The last star so far, and how much of the name it stands for.
  std::size_t p = 0, n = 0, star = std::string_view::npos, taken = 0;
  while (n < name.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      taken = n;
    } else if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == name[n])) {
      ++p, ++n;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      n = ++taken;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

std::string GroupRule::text() const {
  std::string settings;
  const auto add = [&](const std::string& s) { settings += (settings.empty() ? "" : ",") + s; };
  if (rate) add(fmt::format("rate={}", *rate));
  if (decay) add(fmt::format("decay={}", *decay));
  if (warmup) add(fmt::format("warmup={}", *warmup));
  if (freeze) add(fmt::format("freeze={}", *freeze));
  if (thaw) add(fmt::format("thaw={}", *thaw));
  return pattern + ":" + settings;
}

std::vector<GroupRule> parse_groups(std::span<const std::string> texts) {
  std::vector<GroupRule> rules;
  for (const std::string& text : texts) {
    if (std::ranges::any_of(text, [](unsigned char c) { return std::isspace(c) != 0; }))
      fail(Exit::usage, "group '{}' holds a space: names of parameters and settings have none", text);
    const std::size_t colon = text.find(':');
    if (colon == std::string::npos) {
      if (rules.empty()) fail(Exit::usage, "group '{}' has no colon: write PATTERN:SETTING, e.g. 'encoder/*:rate=0.1'", text);
      set_all(rules.back(), text);
      continue;
    }
    if (colon == 0) fail(Exit::usage, "group '{}' has no pattern before the colon: write PATTERN:SETTING, e.g. 'encoder/*:rate=0.1'", text);
    rules.push_back({});
    rules.back().pattern = text.substr(0, colon);
    set_all(rules.back(), std::string_view(text).substr(colon + 1));
  }
  return rules;
}

std::vector<ParamRule> apply_groups(const std::vector<ParamInfo>& list, std::span<const GroupRule> groups, double decay) {
  std::vector<ParamRule> rules(list.size());
  for (std::size_t i = 0; i < list.size(); ++i) rules[i].decay = list[i].group == Group::weight ? decay : 0;
  for (const GroupRule& group : groups) {
    std::vector<std::size_t> members;
    for (std::size_t i = 0; i < list.size(); ++i)
      if (matches(group.pattern, list[i].name)) members.push_back(i);
    if (members.empty()) {
      std::vector<std::string> names;
      for (std::size_t i = 0; i < std::min<std::size_t>(list.size(), 8); ++i) names.push_back(list[i].name);
      fail(Exit::usage, "group '{}' matches no parameter; the names are {}{}", group.pattern, fmt::join(names, ", "),
           list.size() > names.size() ? fmt::format(" and {} more to {}", list.size() - names.size(), list.back().name) : "");
    }
    const auto matrix = [&](std::size_t i) { return list[i].group == Group::weight; };
    if (group.decay.value_or(0) > 0 && std::ranges::none_of(members, matrix))
      fail(Exit::usage, "group '{}': decay={:g} has no matrix to act on; biases, norms and embeddings do not decay", group.pattern, *group.decay);
    for (const std::size_t i : members) {
      if (group.rate) rules[i].rate = *group.rate;
      if (group.decay && matrix(i)) rules[i].decay = *group.decay;
      if (group.warmup) rules[i].warmup = group.warmup;
    }
    if (group.freeze) freeze(list, members, group, rules);
    if (!group.thaw) continue;
    if (std::ranges::none_of(members, [&](std::size_t i) { return rules[i].frozen; }))
      fail(Exit::usage, "group '{}': thaw={} has nothing frozen to act on; write freeze,thaw={}", group.pattern, *group.thaw, *group.thaw);
    for (const std::size_t i : members) rules[i].thaw = group.thaw;
  }
  if (!rules.empty() && std::ranges::all_of(rules, &ParamRule::frozen)) fail(Exit::usage, "the groups freeze every parameter: nothing is left to train");
  return rules;
}

}  // namespace bl::nn
