// What a program says of itself with --describe: its streams and its options.
#pragma once
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

namespace bl::plan {

struct OptionInfo {
  std::string name, type;  // type: bool, int, uint, float, string, list
  std::string role;        // value, input-file, output-file
  bool required = false, common = false;
  std::optional<double> min, max;
  std::vector<std::string> choices;
};

struct ProgramInfo {
  std::string name, version, path, hash;  // hash: xxh3-64 of the executable, in hex
  std::vector<std::string> reads, writes;
  bool reads_files = false, parallel = false;
  std::vector<OptionInfo> options;

  const OptionInfo* find(std::string_view option) const;
  std::vector<std::string> option_names() const;
};

// `where` names the program in errors. Throws Exit::failed when the text is not a description.
ProgramInfo parse_description(std::string_view text, const std::string& where);

// The executable that `run` names: a path when it holds a slash, else the file in `folder`, else the one on PATH; nullopt
// when there is none.
std::optional<std::string> find_program(const std::string& run, const std::string& folder);

// Runs PATH --describe. Throws Exit::failed.
ProgramInfo ask(const std::string& path);

}  // namespace bl::plan
