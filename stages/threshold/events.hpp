// The events of a scores/1 stream, as far as thresholds and reports need them, and who is signal among them.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "data/batch.hpp"
#include "stats/roc.hpp"

namespace bl::threshold {

struct ScoreColumn {
  std::string name;  // "mean_logp" for the column score_mean_logp; "n_objects", "ht", "met" for the plain columns
  std::string column;
  bool trivial = false;  // made without the model's network: n_objects, ht, met, unigram_*
};

// The scores that a batch offers: score_* in the order of the stream, then n_objects, ht and met where present.
std::vector<ScoreColumn> scores_of(const Batch& batch);
std::string names_of(const std::vector<ScoreColumn>& scores);  // "a, b, c"
// The score called `name`; throws Exit::input and lists what there is.
const ScoreColumn& find_score(const std::vector<ScoreColumn>& scores, std::string_view name, std::string_view where);

struct Events {
  std::vector<std::uint64_t> id, index;
  std::vector<double> weight;
  std::vector<std::uint32_t> process;  // index into `processes`
  std::vector<std::string> processes;  // in order of appearance; "" where the stream has no names
  std::vector<std::int32_t> label;     // empty unless every batch has labels
  std::vector<ScoreColumn> scores;
  std::vector<std::vector<double>> value;  // one per score, one per event

  std::size_t size() const { return id.size(); }
  // Appends; every batch must offer the same scores. Throws Exit::input.
  void add(const Batch& batch, std::string_view where);
  void add(const Events& other, std::string_view where);
  const std::vector<double>* find(std::string_view score) const;
  std::string process_list() const;  // "ttbar, 'ttH'" for messages

 private:
  bool any_ = false;
  void same_scores(const std::vector<ScoreColumn>& other, bool labelled, std::string_view where);
};

// Who is signal: processes by name, or label 1 against label 0.
struct Truth {
  bool by_label = false;
  std::vector<std::string> signal, background;  // names of processes; empty background at a fit: all the others
};

enum class Role : std::uint8_t { background, signal, other };
std::string_view name_of(Role role);

// Class of every event. Processes (or labels) that are neither are Class::none.
std::vector<stats::Class> classes(const Events& events, const Truth& truth);
// One signal process, with all of the background.
struct SignalClasses {
  std::string name;
  std::vector<stats::Class> cls;
};
std::vector<SignalClasses> signals(const Events& events, const std::vector<stats::Class>& cls);

// Checks the names against the stream and fills the background with the other processes when none is named. Without
// signal names, labels are used where the stream has them. nullopt: the stream says nothing about its events.
// Throws Exit::input for a name that the stream does not hold, and for one that is both.
std::optional<Truth> resolve_truth(const Events& events, const std::vector<std::string>& signal, const std::vector<std::string>& background,
                                   std::string_view where);

}  // namespace bl::threshold
