#include "report/folder.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <system_error>

#include "base/error.hpp"
#include "base/files.hpp"

namespace bl::report {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr std::string_view kFormat = "beamline.report/1";
// The order of the chain that they evaluate.
constexpr std::array<std::string_view, 5> kOrder{"tokens", "loss", "generation", "classification", "learning-curve"};

fs::path clean(const std::string& folder) {
  fs::path path = fs::path(folder).lexically_normal();
  return path.has_filename() ? path : path.parent_path();  // "report/" is "report"
}

// What is there already, of all kinds but `id`.
struct Existing {
  bool foreign = false, same = false;
  std::vector<SectionText> sections;
  json object = json::object();
};
Existing read_existing(const fs::path& folder, const std::string& id) {
  Existing e;
  const fs::path page = folder / "report.html", numbers = folder / "report.json";
  if (fs::exists(page)) {
    e.sections = sections_of(read_file(page.string()));
    e.foreign = e.sections.empty();
  }
  if (fs::exists(numbers)) {
    e.object = json::parse(read_file(numbers.string()), nullptr, false);
    if (!e.object.is_object() || e.object.value("format", json()) != kFormat) {
      e.foreign = true;
      e.object = json::object();
    }
  }
  e.same = e.object.contains(id) || std::any_of(e.sections.begin(), e.sections.end(), [&](const SectionText& s) { return s.id == id; });
  std::erase_if(e.sections, [&](const SectionText& s) { return s.id == id; });
  e.object.erase(id);
  return e;
}

// A folder that is removed unless it was renamed.
class Part {
 public:
  explicit Part(fs::path path) : path_(std::move(path)) {
    std::error_code error;
    fs::remove_all(path_, error);  // of a run that was killed
    fs::create_directories(path_ / "figures", error);
    if (error) fail(Exit::write, "cannot make the folder '{}': {}", path_.string(), error.message());
  }
  ~Part() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  Part(const Part&) = delete;
  Part& operator=(const Part&) = delete;
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

void move_to(const fs::path& from, const fs::path& to) {
  std::error_code error;
  fs::rename(from, to, error);
  if (error) fail(Exit::write, "cannot rename '{}' to '{}': {}", from.string(), to.string(), error.message());
}

}  // namespace

json number(double value) {
  if (std::isnan(value)) return nullptr;
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  return value;
}

void require_writable(const std::string& folder, const std::string& id, bool force) {
  const fs::path path = clean(folder);
  std::error_code ignored;
  const fs::path parent = path.has_parent_path() ? path.parent_path() : fs::path(".");
  if (!fs::is_directory(parent, ignored)) fail(Exit::write, "cannot make the folder '{}': there is no folder '{}'", path.string(), parent.string());
  if (!fs::exists(path, ignored)) return;
  if (!fs::is_directory(path, ignored)) fail(Exit::write, "'{}' exists and is no folder: --out names the folder of a report", path.string());
  const Existing e = read_existing(path, id);
  if (e.same && !force) fail(Exit::write, "'{}' has a report of '{}' already; use --force to replace it", path.string(), id);
  if (e.foreign && !force) fail(Exit::write, "'{}' has a report that is not of bl-evaluate; use --force to replace it, or another folder", path.string());
}

std::vector<std::string> write_report(const std::string& folder, const Section& section, const json& numbers, bool force) {
  require_writable(folder, section.id, force);
  const fs::path path = clean(folder);
  const bool exists = fs::exists(path);
  Existing there = exists ? read_existing(path, section.id) : Existing{};
  const std::string prefix = section.id + "_";

  Part part(path.string() + ".part");
  const fs::path figures = part.path() / "figures";
  std::vector<std::string> warnings;
  for (const auto& figure : section.figures) {
    check(figure.name.substr(0, prefix.size()) == prefix, "the figures of a report begin with the kind of evaluation");
    // One sentence is enough where gnuplot is missing.
    if (const auto warning = write_figure(figures.string(), figure); warning && (warnings.empty() || warnings.back() != *warning)) warnings.push_back(*warning);
  }
  there.sections.push_back({section.id, section_html(section, figures.string())});
  const auto place = [](const SectionText& s) { return std::find(kOrder.begin(), kOrder.end(), s.id) - kOrder.begin(); };
  std::stable_sort(there.sections.begin(), there.sections.end(), [&](const SectionText& a, const SectionText& b) { return place(a) < place(b); });
  there.object["format"] = kFormat;
  there.object[section.id] = numbers;
  write_file((part.path() / "report.json").string(), there.object.dump(1) + "\n", true);
  write_file((part.path() / "report.html").string(), page_html("beamline report", there.sections), true);

  if (!exists) {
    move_to(part.path(), path);
    return warnings;
  }
  std::error_code error;
  fs::create_directories(path / "figures", error);
  if (error) fail(Exit::write, "cannot make the folder '{}': {}", (path / "figures").string(), error.message());
  // Figures of an earlier report of this kind go; everything else in the folder stays.
  for (const auto& entry : fs::directory_iterator(path / "figures"))
    if (entry.path().filename().string().substr(0, prefix.size()) == prefix) fs::remove(entry.path(), error);
  for (const auto& entry : fs::directory_iterator(figures)) move_to(entry.path(), path / "figures" / entry.path().filename());
  move_to(part.path() / "report.json", path / "report.json");
  move_to(part.path() / "report.html", path / "report.html");
  return warnings;
}

}  // namespace bl::report
