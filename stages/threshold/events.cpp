#include "threshold/events.hpp"

#include <algorithm>

#include "base/error.hpp"

namespace bl::threshold {
namespace {

template <class T>
void append(std::vector<T>& to, const std::vector<T>& from) {
  to.insert(to.end(), from.begin(), from.end());
}

std::uint32_t intern(std::vector<std::string>& names, const std::string& name) {
  const auto at = static_cast<std::uint32_t>(std::find(names.begin(), names.end(), name) - names.begin());
  if (at == names.size()) names.push_back(name);
  return at;
}

bool contains(const std::vector<std::string>& names, const std::string& name) { return std::find(names.begin(), names.end(), name) != names.end(); }

}  // namespace

std::vector<ScoreColumn> scores_of(const Batch& batch) {
  std::vector<ScoreColumn> scores;
  for (const Column& c : batch.columns)
    if (c.name.starts_with("score_")) {
      const std::string name = c.name.substr(6);
      scores.push_back({name, c.name, name.starts_with("unigram") || name == "n_objects" || name == "ht" || name == "met"});
    }
  for (const char* plain : {"n_objects", "ht", "met"}) {
    const bool known = std::any_of(scores.begin(), scores.end(), [&](const ScoreColumn& s) { return s.name == plain; });
    if (!known && batch.has(plain)) scores.push_back({plain, plain, true});
  }
  return scores;
}

std::string names_of(const std::vector<ScoreColumn>& scores) {
  std::string names;
  for (const ScoreColumn& s : scores) names += (names.empty() ? "" : ", ") + s.name;
  return names.empty() ? "none" : names;
}

const ScoreColumn& find_score(const std::vector<ScoreColumn>& scores, std::string_view name, std::string_view where) {
  std::vector<std::string> names;
  for (const ScoreColumn& s : scores) {
    if (s.name == name) return s;
    names.push_back(s.name);
  }
  const std::string near = nearest(name, names);
  fail(Exit::input, "{} has no score '{}'{}; it holds: {}", where, name, near.empty() ? "" : ", did you mean '" + near + "'?", names_of(scores));
}

void Events::same_scores(const std::vector<ScoreColumn>& other, bool labelled, std::string_view where) {
  if (!any_) {
    any_ = true;
    scores = other;
    value.resize(scores.size());
    return;
  }
  const bool same = std::equal(scores.begin(), scores.end(), other.begin(), other.end(), [](const auto& a, const auto& b) { return a.column == b.column; });
  if (!same) fail(Exit::input, "{}: batches hold different scores ({}; then {})", where, names_of(scores), names_of(other));
  if (size() > 0 && labelled != !label.empty()) fail(Exit::input, "{}: some batches have labels and some have none", where);
}

void Events::add(const Batch& batch, std::string_view where) {
  const bool labelled = batch.has("label");
  if (batch.events == 0 && any_) return;
  same_scores(scores_of(batch), labelled, where);
  const auto ids = batch.get<std::uint64_t>("event_id");
  const auto indices = batch.get<std::uint64_t>("event_index");
  const auto weights = batch.get<double>("weight");
  id.insert(id.end(), ids.begin(), ids.end());
  index.insert(index.end(), indices.begin(), indices.end());
  weight.insert(weight.end(), weights.begin(), weights.end());
  for (std::uint32_t e = 0; e < batch.events; ++e) process.push_back(intern(processes, batch.text("process", e)));
  if (labelled) {
    const auto labels = batch.get<std::int32_t>("label");
    label.insert(label.end(), labels.begin(), labels.end());
  }
  for (std::size_t s = 0; s < scores.size(); ++s) {
    const auto values = batch.get<float>(scores[s].column);
    value[s].insert(value[s].end(), values.begin(), values.end());
  }
}

void Events::add(const Events& other, std::string_view where) {
  if (other.size() == 0 && any_) return;
  same_scores(other.scores, !other.label.empty(), where);
  append(id, other.id);
  append(index, other.index);
  append(weight, other.weight);
  append(label, other.label);
  for (const std::uint32_t p : other.process) process.push_back(intern(processes, other.processes[p]));
  for (std::size_t s = 0; s < scores.size(); ++s) append(value[s], other.value[s]);
}

const std::vector<double>* Events::find(std::string_view score) const {
  for (std::size_t s = 0; s < scores.size(); ++s)
    if (scores[s].name == score) return &value[s];
  return nullptr;
}

std::string Events::process_list() const {
  std::string list;
  for (const auto& p : processes) list += (list.empty() ? "" : ", ") + (p.empty() ? std::string("events without a name") : "'" + p + "'");
  return list.empty() ? "no events" : list;
}

std::string_view name_of(Role role) { return role == Role::signal ? "signal" : role == Role::background ? "background" : "other"; }

std::vector<stats::Class> classes(const Events& events, const Truth& truth) {
  using stats::Class;
  std::vector<Class> cls(events.size(), Class::none);
  if (truth.by_label) {
    for (std::size_t i = 0; i < cls.size(); ++i) cls[i] = events.label[i] == 1 ? Class::signal : events.label[i] == 0 ? Class::background : Class::none;
    return cls;
  }
  std::vector<Class> of_process;
  for (const auto& p : events.processes)
    of_process.push_back(contains(truth.signal, p) ? Class::signal : contains(truth.background, p) ? Class::background : Class::none);
  for (std::size_t i = 0; i < cls.size(); ++i) cls[i] = of_process[events.process[i]];
  return cls;
}

std::vector<SignalClasses> signals(const Events& events, const std::vector<stats::Class>& cls) {
  using stats::Class;
  std::vector<SignalClasses> list;
  for (std::uint32_t p = 0; p < events.processes.size(); ++p) {
    SignalClasses one{events.processes[p].empty() ? "signal" : events.processes[p], cls};
    bool any = false;
    for (std::size_t i = 0; i < cls.size(); ++i)
      if (cls[i] == Class::signal) {
        if (events.process[i] == p) any = true;
        else one.cls[i] = Class::none;
      }
    if (any) list.push_back(std::move(one));
  }
  return list;
}

std::optional<Truth> resolve_truth(const Events& events, const std::vector<std::string>& signal, const std::vector<std::string>& background,
                                   std::string_view where) {
  for (const auto* names : {&signal, &background})
    for (const auto& name : *names)
      if (!contains(events.processes, name)) {
        const std::string near = nearest(name, events.processes);
        fail(Exit::input, "{} has no process '{}'{}; it holds: {}", where, name, near.empty() ? "" : ", did you mean '" + near + "'?", events.process_list());
      }
  for (const auto& name : signal)
    if (contains(background, name)) fail(Exit::usage, "process '{}' is named both as signal and as background", name);
  Truth truth{false, signal, background};
  if (signal.empty() && background.empty()) {
    if (events.label.empty()) return std::nullopt;
    truth.by_label = true;
    return truth;
  }
  if (background.empty()) {
    for (const auto& p : events.processes)
      if (!contains(signal, p)) truth.background.push_back(p);
    std::sort(truth.background.begin(), truth.background.end());
  }
  return truth;
}

}  // namespace bl::threshold
