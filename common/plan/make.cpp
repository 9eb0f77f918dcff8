#include "plan/make.hpp"

#include <sys/stat.h>

#include <filesystem>
#include <set>

#include "base/error.hpp"
#include "base/files.hpp"
#include "base/hash.hpp"

namespace bl::plan {
namespace {

// Hashes of large input files, remembered by size, time and inode so that planning again costs nothing.
class HashCache {
 public:
  explicit HashCache(std::string path) : path_(std::move(path)) {
    try {
      if (std::filesystem::exists(path_)) known_ = nlohmann::json::parse(read_file(path_));
    } catch (const std::exception&) {
      known_ = nlohmann::json::object();  // a damaged cache is only slow
    }
    if (!known_.is_object()) known_ = nlohmann::json::object();
  }

  std::string operator()(const std::string& file) {
    struct stat info {};
    if (::stat(file.c_str(), &info) != 0) return hex(hash_file(file));  // reports why
    const auto mark =
        fmt::format("{} {}.{:09} {}.{:09} {}", info.st_size, info.st_mtim.tv_sec, info.st_mtim.tv_nsec, info.st_ctim.tv_sec, info.st_ctim.tv_nsec, info.st_ino);
    if (const auto entry = known_.find(file); entry != known_.end() && entry->is_object() && entry->value("mark", "") == mark) {
      used_[file] = *entry;
      return entry->value("hash", "");
    }
    auto hash = hex(hash_file(file));
    used_[file] = {{"mark", mark}, {"hash", hash}};
    return hash;
  }

  void save() { write_if_changed(path_, used_.dump(1) + "\n"); }

 private:
  std::string path_;
  nlohmann::json known_ = nlohmann::json::object(), used_ = nlohmann::json::object();
};

}  // namespace

bool write_if_changed(const std::string& path, const std::string& content) {
  std::error_code ignored;
  if (std::filesystem::is_regular_file(path, ignored) && read_file(path) == content) return false;
  make_folder_of(path);
  write_file(path, content, true);
  return true;
}

void write_segments(Plan& plan, const std::string& folder) {
  HashCache hash(folder + "/hashes.cache");
  std::set<std::string> kept;
  for (auto& segment : plan.segments) {
    for (auto& [path, value] : segment.inputs) value = hash(path);
    write_if_changed(folder + "/" + segment.name + ".json", to_json(segment).dump(1) + "\n");
    kept.insert(segment.name);
  }
  hash.save();
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    const auto extension = entry.path().extension();
    if ((extension == ".json" || extension == ".done") && !kept.contains(entry.path().stem().string())) std::filesystem::remove(entry.path());
  }
}

std::string make_rules(const Plan& plan, const std::string& folder, const std::string& bl_run) {
  std::string targets, reports, rules;
  for (const auto& segment : plan.segments) {
    const std::string base = folder + "/" + segment.name;
    targets += " \\\n  " + base + ".done";
    for (const auto& path : segment.reports) reports += " \\\n  " + path;
    std::string made = base + ".done", needed = base + ".json";
    for (const auto& path : segment.outputs) made += " " + path;
    for (const auto& path : segment.uses) needed += " " + path;
    rules += fmt::format("\n{} &: {}\n\t@$(RUN) {} --in {}.json\n", made, needed, bl_run, base);
  }
  return fmt::format("# Written by bl-plan from {}: change that file, not this one.\nplan.targets :={}\nplan.reports :={}\n{}", plan.pipeline.path, targets,
                     reports, rules);
}

}  // namespace bl::plan
