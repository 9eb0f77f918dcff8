#include "finetune/jets.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <unordered_set>

#include "base/error.hpp"
#include "base/hash.hpp"
#include "base/rng.hpp"
#include "tokens/jet_variables.hpp"

namespace bl::finetune {
namespace {

// Indices of jets by class, in an order that (seed, event_id) decides: the jets of an event stand together.
std::vector<std::vector<std::uint32_t>> shuffled(const Jets& jets, std::size_t classes, std::uint64_t seed) {
  const Rng rng(seed, "draw of jets");
  std::vector<double> key(jets.size());
  for (std::size_t i = 0; i < jets.size(); ++i) key[i] = rng.uniform(jets.event_ids()[i], 0);
  std::vector<std::vector<std::uint32_t>> lists(classes);
  for (std::size_t i = 0; i < jets.size(); ++i) lists[static_cast<std::size_t>(jets.examples().labels[i])].push_back(static_cast<std::uint32_t>(i));
  for (auto& list : lists) std::ranges::stable_sort(list, {}, [&](std::uint32_t i) { return key[i]; });
  return lists;
}

// How many of `total` class c gets.
std::size_t share_of(std::size_t total, std::size_t classes, std::size_t c) { return total / classes + (c < total % classes ? 1 : 0); }

}  // namespace

void Jets::add(const Batch& batch) {
  const auto offsets = batch.get<std::uint32_t>("token_offsets");
  const auto token = batch.get<std::int32_t>("token");
  const auto index = batch.get<std::uint64_t>("event_index");
  const auto id = batch.get<std::uint64_t>("event_id");
  for (std::uint32_t e = 0; e < batch.events; ++e) {
    const std::uint32_t n = offsets[e + 1] - offsets[e];
    if (n + 1 > model_.positions)
      fail(Exit::input, "{}: event {} has {} tokens, the model reads at most {}: keep fewer with bl-tokenize --max-objects", where_, index[e], n,
           model_.positions - 1);
    for (std::uint32_t i = offsets[e]; i < offsets[e + 1]; ++i)
      if (token[i] < 0 || token[i] >= model_.start_id())
        fail(Exit::input, "{}: event {}: token {} is out of the vocabulary of 0 to {}", where_, index[e], token[i], model_.start_id() - 1);
    const auto [it, is_new] = number_.try_emplace(batch.text("process", e), static_cast<std::uint32_t>(names_.size()));
    if (is_new) names_.push_back(it->first);
    process_.push_back(it->second);
  }
  const std::uint64_t start = examples_.offsets.back();
  for (std::uint32_t e = 0; e < batch.events; ++e) examples_.offsets.push_back(start + offsets[e + 1]);
  examples_.tokens.insert(examples_.tokens.end(), token.begin(), token.end());
  event_id_.insert(event_id_.end(), id.begin(), id.end());
}

void Jets::add_with_variables(const Batch& batch, Pool& pool) {
  try {
    const std::vector<float> variables = tokens::jet_variables(batch, pool);
    examples_.variables.insert(examples_.variables.end(), variables.begin(), variables.end());
  } catch (const Error& e) {
    fail(e.code(), "{}: {}; or leave out --jet-variables, or of --modes those on jet variables", where_, e.what());
  }
  add(batch);
}

std::vector<models::LabelClass> Jets::classes(const nlohmann::json& meta) const {
  if (std::ranges::all_of(names_, &std::string::empty))
    fail(Exit::input, "{}: {}, so there are no labels to learn from", where_, names_.empty() ? "there is no event" : "no event names its process");
  std::vector<std::string> order;
  if (const auto labels = meta.find("labels"); labels != meta.end() && labels->is_object()) {
    std::map<int, std::string> by_number;
    for (const auto& [key, name] : labels->items())
      if (name.is_string() && !key.empty() && key.size() < 9 && std::ranges::all_of(key, [](char c) { return c >= '0' && c <= '9'; }))
        by_number[std::stoi(key)] = name;
    for (const auto& [number, name] : by_number) order.push_back(name);
  } else if (labels != meta.end() && labels->is_array()) {
    for (const auto& name : *labels)
      if (name.is_string()) order.push_back(name);
  }
  for (const auto& [name, number] : number_) order.push_back(name);  // a map: by name
  std::vector<models::LabelClass> classes;
  for (const std::string& name : order)
    if (!name.empty() && number_.contains(name) && std::ranges::find(classes, name, &models::LabelClass::name) == classes.end())
      classes.push_back({name, {name}});
  if (classes.size() < 2)
    fail(Exit::input, "{}: all jets are of the process '{}': a tagger needs two classes or more", where_, classes.empty() ? "" : classes[0].name);
  return classes;
}

void Jets::label(std::span<const models::LabelClass> classes) {
  std::vector<std::int32_t> class_by_name;
  for (const std::string& name : names_) class_by_name.push_back(models::class_of(classes, name));
  models::Examples kept;
  std::vector<std::uint64_t> ids;
  std::vector<std::uint32_t> processes;
  std::vector<std::size_t> counts(classes.size());
  for (std::size_t e = 0; e < size(); ++e) {
    const std::int32_t label = class_by_name[process_[e]];
    if (label < 0) continue;
    const auto tokens = examples_.tokens_of(e);
    kept.tokens.insert(kept.tokens.end(), tokens.begin(), tokens.end());
    kept.offsets.push_back(kept.tokens.size());
    kept.labels.push_back(label);
    ids.push_back(event_id_[e]);
    processes.push_back(process_[e]);
    const auto variables = examples_.variables_of(e);
    kept.variables.insert(kept.variables.end(), variables.begin(), variables.end());
    ++counts[static_cast<std::size_t>(label)];
  }
  dropped_ = size() - kept.events();
  examples_ = std::move(kept);
  event_id_ = std::move(ids);
  process_ = std::move(processes);
  for (std::size_t c = 0; c < classes.size(); ++c)
    if (counts[c] == 0)
      fail(Exit::input, "{}: no jet is of the class '{}' (process {}); the processes there are {}", where_, classes[c].name,
           fmt::join(classes[c].processes, " or "), names_.empty() ? "none" : fmt::format("{}", fmt::join(names_, ", ")));
}

std::vector<std::uint32_t> Jets::append(const Jets& other) {
  std::vector<std::uint32_t> indices(other.size());
  std::iota(indices.begin(), indices.end(), static_cast<std::uint32_t>(size()));
  const std::uint64_t start = examples_.offsets.back();
  for (std::size_t e = 0; e < other.size(); ++e) examples_.offsets.push_back(start + other.examples_.offsets[e + 1]);
  examples_.tokens.insert(examples_.tokens.end(), other.examples_.tokens.begin(), other.examples_.tokens.end());
  examples_.labels.insert(examples_.labels.end(), other.examples_.labels.begin(), other.examples_.labels.end());
  examples_.variables.insert(examples_.variables.end(), other.examples_.variables.begin(), other.examples_.variables.end());
  event_id_.insert(event_id_.end(), other.event_id_.begin(), other.event_id_.end());
  return indices;
}

std::string Jets::digest() const {
  std::uint64_t h = hash64(event_id_.data(), event_id_.size() * sizeof event_id_[0]);
  h = hash64(examples_.tokens.data(), examples_.tokens.size() * sizeof examples_.tokens[0], h);
  h = hash64(examples_.offsets.data(), examples_.offsets.size() * sizeof examples_.offsets[0], h);
  return hex(hash64(examples_.labels.data(), examples_.labels.size() * sizeof examples_.labels[0], h));
}

Split split_by_event(const Jets& jets, std::size_t classes, double fraction, std::size_t max_jets, std::uint64_t seed) {
  std::vector<std::uint32_t> used(jets.size());
  std::iota(used.begin(), used.end(), 0u);
  if (max_jets > 0 && max_jets < jets.size()) {
    used.clear();
    auto lists = shuffled(jets, classes, seed);
    for (std::size_t c = 0; c < classes; ++c) {
      lists[c].resize(std::min(lists[c].size(), share_of(max_jets, classes, c)));
      used.insert(used.end(), lists[c].begin(), lists[c].end());
    }
    std::ranges::sort(used);
  }
  const Rng rng(seed, "validation");
  Split split;
  for (const std::uint32_t i : used) (rng.uniform(jets.event_ids()[i], 0) < fraction ? split.stopping : split.training).push_back(i);
  return split;
}

Split draw(const Jets& jets, std::span<const models::LabelClass> classes, std::size_t training, std::size_t stopping, std::uint64_t seed) {
  const auto lists = shuffled(jets, classes.size(), seed);
  Split split;
  std::unordered_set<std::uint64_t> seen;
  for (std::size_t c = 0; c < classes.size(); ++c) {
    const std::size_t want = share_of(training, classes.size(), c);
    if (lists[c].size() < want)
      fail(Exit::input, "{}: {} jets are to be trained on, {} of them of the class '{}', which has {}", jets.where(), training, want, classes[c].name,
           lists[c].size());
    for (std::size_t k = 0; k < want; ++k) {
      split.training.push_back(lists[c][k]);
      seen.insert(jets.event_ids()[lists[c][k]]);
    }
  }
  for (std::size_t c = 0; c < classes.size(); ++c) {
    std::size_t want = share_of(stopping, classes.size(), c);
    const std::size_t used = share_of(training, classes.size(), c);
    for (std::size_t k = lists[c].size(); want > 0 && k-- > used;) {
      if (seen.contains(jets.event_ids()[lists[c][k]])) continue;
      split.stopping.push_back(lists[c][k]);
      --want;
    }
    if (want > 0)
      fail(Exit::input, "{}: beside the {} jets to train on {} more are needed to stop the training; the class '{}' has {} too few of other events",
           jets.where(), training, stopping, classes[c].name, want);
  }
  std::ranges::sort(split.training);
  std::ranges::sort(split.stopping);
  return split;
}

void refuse_common_events(const Jets& a, const Jets& b) {
  const std::unordered_set<std::uint64_t> ids(a.event_ids().begin(), a.event_ids().end());
  for (const std::uint64_t id : b.event_ids())
    if (ids.contains(id))
      fail(Exit::input, "the event {} is in {} and in {}: a tagger must not be judged by events that it was trained on", id, a.where(), b.where());
}

}  // namespace bl::finetune
