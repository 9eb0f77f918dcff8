#include "plan/plan.hpp"

#include <fnmatch.h>
#include <glob.h>

#include <algorithm>
#include <filesystem>
#include <numeric>
#include <set>

#include "base/error.hpp"
#include "base/hash.hpp"

namespace bl::plan {
namespace {

using Words = std::vector<std::string>;

bool contains(const Words& words, std::string_view word) { return std::find(words.begin(), words.end(), word) != words.end(); }

void add_once(Words& words, const std::string& word) {
  if (!contains(words, word)) words.push_back(word);
}

std::string list(const Words& words, std::string_view between = ", ") {
  std::string out;
  for (const auto& w : words) out += (out.empty() ? "" : std::string(between)) + w;
  return out;
}

std::string did_you_mean(std::string_view word, const Words& known) {
  const std::string near = nearest(word, known);
  return near.empty() ? "" : fmt::format("; did you mean '{}'?", near);
}

std::string normal(const std::string& path) { return std::filesystem::path(path).lexically_normal().string(); }

bool is_pattern(std::string_view path) { return path.find_first_of("*?[") != std::string_view::npos; }

// Names that make, a comma-separated --in and a TOML key all take literally.
bool plain(std::string_view path) {
  return !path.empty() && path.front() != '-' && std::all_of(path.begin(), path.end(), [](unsigned char c) {
    return std::isalnum(c) || (c < 128 && std::string_view("_./+@-").find(static_cast<char>(c)) != std::string_view::npos);
  });
}

std::string shown(const nlohmann::json& value) { return value.is_string() ? "\"" + value.get<std::string>() + "\"" : value.dump(); }

std::string text_of(const nlohmann::json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_number_float()) return fmt::format("{}", value.get<double>());
  return value.dump();
}

// The file that a text of an output option names: itself, or what stands before "=" (bl-split --parts FILE=FRACTION).
std::string file_of(const std::string& text, bool writes) {
  const auto eq = writes ? text.rfind('=') : std::string::npos;
  return text.substr(0, eq);
}

// Why `value` cannot be the option's, or "".
std::string misfit(const OptionInfo& option, const nlohmann::json& value) {
  if (option.type == "bool") return value.is_boolean() ? "" : "is a switch: true or false";
  if (value.is_boolean()) return fmt::format("must be {}, not true or false", option.type == "string" ? "text" : option.type == "list" ? "a list" : "a number");
  if (option.type == "int" || option.type == "uint") {
    if (!value.is_number_integer()) return "must be a whole number";
    if (option.type == "uint" && value.get<std::int64_t>() < 0) return "must not be negative";
  } else if (option.type == "float") {
    if (!value.is_number()) return "must be a number";
  } else if (option.type == "string") {
    if (!value.is_string()) return "must be text in quotes";
  } else if (!value.is_string() && !value.is_array()) {
    return "must be text or a list of texts";
  }
  if (value.is_number()) {
    const double x = value.get<double>();
    if ((option.min && x < *option.min) || (option.max && x > *option.max)) {
      if (!option.max) return fmt::format("is below {}", *option.min);
      if (!option.min) return fmt::format("is above {}", *option.max);
      return fmt::format("is not between {} and {}", *option.min, *option.max);
    }
  }
  if (!option.choices.empty()) {
    const auto items = value.is_array() ? value.get<Words>() : Words{text_of(value)};
    for (const auto& item : items)
      if (!contains(option.choices, item))
        return fmt::format("{}is not one of {}{}", value.is_array() ? "'" + item + "' " : "", list(option.choices), did_you_mean(item, option.choices));
  }
  return "";
}

// A stage while it is being checked: its files are resolved, its streams found.
struct Node {
  const Stage* stage = nullptr;
  ProgramInfo info;
  bool known = false;     // its program was found
  Words in, input_files;  // --in files; files named by options
  std::string out, stdout_file;
  Words output_files;  // named by options
  std::vector<const Edge*> streams_in;
  const Edge* stream_out = nullptr;
  Words writes;  // schemas that really leave

  Words made() const {
    Words all = output_files;
    if (!out.empty()) all.push_back(out);
    if (!stdout_file.empty()) all.push_back(stdout_file);
    return all;
  }
  Words needed() const {
    Words all = in;
    all.insert(all.end(), input_files.begin(), input_files.end());
    return all;
  }
};

class Planner {
 public:
  Planner(Pipeline pipeline, const Finder& find) : pipeline_(std::move(pipeline)) {
    for (const auto& stage : pipeline_.stages) {
      index_[stage.name] = nodes_.size();
      nodes_.emplace_back();
      nodes_.back().stage = &stage;
    }
    for (auto& node : nodes_) look_up(node, find);
    for (auto& node : nodes_) take_options(node);
    for (const auto& edge : pipeline_.edges) take_edge(edge);
    for (auto& node : nodes_) expand_inputs(node);
    note_makers();
    for (auto& node : nodes_) check_ends(node);
    for (auto& node : nodes_) check_files(node);
    check_ports();
    problems_.throw_if_any();  // the order below needs a graph that makes sense
    order();
    check_schemas();
    problems_.throw_if_any();
  }

  Plan plan() {
    Plan out;
    for (const auto& node : nodes_) out.programs[node.stage->name] = node.info;
    cut(out);
    problems_.throw_if_any();
    out.pipeline = std::move(pipeline_);
    return out;
  }

 private:
  void complain(const Node& node, int line, const std::string& sentence) {
    problems_.add(fmt::format("{}stage '{}': {}", at(pipeline_, line > 0 ? line : node.stage->line), node.stage->name, sentence));
  }
  void complain(const Edge& edge, const std::string& sentence) { problems_.add(fmt::format("{}edge '{}': {}", at(pipeline_, edge.line), edge.name, sentence)); }

  Node* node(const std::string& stage) {
    const auto found = index_.find(stage);
    return found == index_.end() ? nullptr : &nodes_[found->second];
  }

  void look_up(Node& node, const Finder& find) {
    if (auto info = find(node.stage->run)) {
      node.info = std::move(*info);
      node.known = true;
    } else {
      complain(node, 0, fmt::format("run = \"{}\": there is no such program beside bl-plan or on PATH: build it, or correct the name", node.stage->run));
    }
  }

  std::string checked_path(const Node& node, int line, const std::string& key, const std::string& path) {
    if (path.find("://") != std::string::npos || path == "-") {
      complain(node, line,
               fmt::format("{} = \"{}\": a pipeline names files here; a stream between two stages is an [edge.NAME] with via = \"pipe\", \"ipc\" or \"tcp\"",
                           key, path));
      return "";
    }
    if (!plain(path)) {
      complain(node, line, fmt::format("{} = \"{}\": a file's name here is made of letters, digits and _ . / + @ - and does not begin with -", key, path));
      return "";
    }
    return normal(path);
  }

  void take_options(Node& node) {
    const Stage& stage = *node.stage;
    if (!stage.out.empty()) node.out = checked_path(node, 0, "out", stage.out);
    if (!stage.stdout_file.empty()) node.stdout_file = checked_path(node, 0, "stdout", stage.stdout_file);
    if (!node.known) return;
    Words known = node.info.option_names();
    for (const char* key : {"in", "out", "stdout", "workers", "cores", "memory", "time", "host", "doc", "run"}) add_once(known, key);
    for (const auto& [key, value, line] : stage.options) {
      const OptionInfo* option = node.info.find(key);
      if (!option) {
        complain(node, line, fmt::format("{} has no option '{}'{}", node.info.name, key, [&, &name = key] {
                   const auto hint = did_you_mean(name, known);
                   return hint.empty() ? fmt::format("; see {} --help", node.info.name) : hint;
                 }()));
        continue;
      }
      if (key == "force") {
        complain(node, line, "force is not set in a pipeline: what has changed is replaced, what has not is kept");
        continue;
      }
      if (const auto why = misfit(*option, value); !why.empty()) {
        complain(node, line, fmt::format("{} = {} {}", key, shown(value), why));
        continue;
      }
      const bool reads_file = option->role == "input-file" || key == "config", writes_file = option->role == "output-file";
      if (!reads_file && !writes_file) continue;
      for (const auto& path : value.is_array() ? value.get<Words>() : Words{text_of(value)}) {
        const std::string clean = path.empty() ? "" : checked_path(node, line, key, file_of(path, writes_file));
        if (clean.empty()) continue;
        if (reads_file) add_once(node.input_files, clean);
        else node.output_files.push_back(clean);
      }
    }
    for (const auto& option : node.info.options)
      if (option.required && option.name != "in" && option.name != "out" &&
          std::none_of(stage.options.begin(), stage.options.end(), [&](const Setting& s) { return s.key == option.name; }))
        complain(node, 0, fmt::format("{} needs `{}`: set it", node.info.name, option.name));
    if (stage.cores > 0 && std::any_of(stage.options.begin(), stage.options.end(), [](const Setting& s) { return s.key == "threads"; }))
      complain(node, 0, "has both `cores` and `threads`, which say the same: keep one");
  }

  void take_edge(const Edge& edge) {
    Node *from = node(edge.from), *to = node(edge.to);
    Words names;
    for (const auto& s : pipeline_.stages) names.push_back(s.name);
    if (!from) complain(edge, fmt::format("from = \"{}\" is not a stage{}", edge.from, did_you_mean(edge.from, names)));
    if (!to) complain(edge, fmt::format("to = \"{}\" is not a stage{}", edge.to, did_you_mean(edge.to, names)));
    if (!from || !to) return;
    if (from == to) {
      complain(edge, fmt::format("goes from stage '{}' to itself", edge.from));
      return;
    }
    if (edge.via == Via::file) {
      std::string path = edge.path.empty() ? "" : checked_path(*from, edge.line, "path", edge.path);
      if (path.empty()) path = from->out;
      if (path.empty()) {
        complain(edge, fmt::format("is a file without a name: give the edge a `path`, or stage '{}' an `out`", edge.from));
        return;
      }
      if (from->out.empty()) from->out = path;
      if (from->out != path) complain(edge, fmt::format("path = \"{}\", but stage '{}' has out = \"{}\": one of them is wrong", path, edge.from, from->out));
      extra_in_[to].push_back(path);
      return;
    }
    if (from->stream_out)
      complain(edge, fmt::format("stage '{}' already streams through edge '{}', and a stream goes to one stage: let both read a file (via = \"file\")",
                                 edge.from, from->stream_out->name));
    else from->stream_out = &edge;
    to->streams_in.push_back(&edge);
    if (edge.via != Via::tcp && from->stage->host != to->stage->host)
      complain(edge, fmt::format("joins stages on the hosts '{}' and '{}' via {}: only tcp and file reach another host", from->stage->host, to->stage->host,
                                 name_of(edge.via)));
    if (edge.via == Via::pipe && (from->stage->workers > 1 || to->stage->workers > 1))
      complain(edge, "a pipe joins one process to one: several workers share a stream by via = \"ipc\" or \"tcp\"");
  }

  void expand_inputs(Node& node) {
    Words made;
    for (const auto& n : nodes_)
      for (const auto& path : n.made()) add_once(made, path);
    for (const auto& given : node.stage->in) {
      if (!is_pattern(given)) {
        const auto path = checked_path(node, 0, "in", given);
        if (!path.empty()) add_once(node.in, path);
        continue;
      }
      Words matches;
      glob_t found{};
      if (::glob(given.c_str(), 0, nullptr, &found) == 0)
        for (std::size_t i = 0; i < found.gl_pathc; ++i) add_once(matches, found.gl_pathv[i]);
      ::globfree(&found);
      for (const auto& path : made)
        if (::fnmatch(normal(given).c_str(), path.c_str(), FNM_PATHNAME) == 0) add_once(matches, path);
      std::sort(matches.begin(), matches.end());
      if (matches.empty()) complain(node, 0, fmt::format("in = \"{}\": no file has such a name", given));
      for (const auto& match : matches) {
        const auto path = checked_path(node, 0, "in", match);
        if (!path.empty()) add_once(node.in, path);
      }
    }
    if (const auto extra = extra_in_.find(&node); extra != extra_in_.end())
      for (const auto& path : extra->second) add_once(node.in, path);
  }

  void note_makers() {
    for (auto& n : nodes_) {
      for (const auto& path : n.made()) {
        const auto [place, added] = maker_.emplace(path, &n);
        if (added) continue;
        if (place->second == &n) complain(n, 0, fmt::format("writes '{}' twice: give each output a file of its own", path));
        else complain(n, 0, fmt::format("writes '{}', which stage '{}' writes too: give each a file of its own", path, place->second->stage->name));
      }
    }
  }

  // What a stage writes that is this file, or a folder around it, and that stage; the end of maker_ if there is none.
  std::map<std::string, Node*>::const_iterator maker_of(const std::string& path) const {
    auto found = maker_.find(path);
    for (std::string folder = path; found == maker_.end();) {
      const auto slash = folder.rfind('/');
      if (slash == std::string::npos || slash == 0) break;
      folder.resize(slash);
      found = maker_.find(folder);
    }
    return found;
  }

  // Is there an input where one is read, and a place for what is written?
  void check_ends(Node& node) {
    if (!node.known) return;
    const Stage& s = *node.stage;
    const bool takes = node.info.reads_files || !node.info.reads.empty();
    // Files that an option names may take the place of --in; if not, the program says so.
    const bool by_option = node.info.reads.empty() && !node.input_files.empty();
    const bool has_in = !node.in.empty() || !node.streams_in.empty();
    if (takes && !has_in && !by_option && s.in.empty())
      complain(node, 0,
               fmt::format("{} reads {}, but nothing comes in: set `in`, or add an edge to it", node.info.name,
                           node.info.reads.empty() ? "files" : list(node.info.reads, " or ")));
    if (!takes && has_in) complain(node, 0, fmt::format("{} reads no stream or file: remove `in` and the edges to it", node.info.name));
    if (!node.in.empty() && !node.streams_in.empty())
      complain(node, 0, fmt::format("reads both files ('{}') and the stream of edge '{}': choose one", node.in[0], node.streams_in[0]->name));
    if (node.streams_in.size() > 1 && std::any_of(node.streams_in.begin(), node.streams_in.end(), [](const Edge* e) { return e->via == Via::pipe; }))
      complain(node, 0,
               fmt::format("edges '{}' and '{}' lead to it, but a pipe must be the only one: use via = \"ipc\"", node.streams_in[0]->name,
                           node.streams_in[1]->name));
    if (!node.out.empty() && node.stream_out)
      complain(node, 0,
               fmt::format("writes the file '{}' and the stream of edge '{}', but has one output: let the next stage read the file", node.out,
                           node.stream_out->name));
    const bool has_out = !node.out.empty() || node.stream_out;
    const OptionInfo* own_out = node.info.find("out");  // a program without a stream may call its file or folder so
    const bool writes_file = own_out && own_out->role == "output-file" && !node.stream_out;
    if (node.info.writes.empty() && has_out && !writes_file)
      complain(node, 0, fmt::format("{} writes no stream: remove `out` and the edges from it", node.info.name));
    if (!node.info.writes.empty() && !has_out && node.output_files.empty() && node.stdout_file.empty())
      complain(node, 0, fmt::format("its {} go nowhere: set `out`, or add an edge from it", list(node.info.writes, " or ")));
    if (!node.stdout_file.empty() && node.stream_out && node.stream_out->via == Via::pipe)
      complain(node, 0, fmt::format("stdout = \"{}\", but its standard output is the pipe of edge '{}'", node.stdout_file, node.stream_out->name));
    if (s.workers > 1) {
      if (!node.info.parallel)
        complain(
            node, 0,
            fmt::format("workers = {}, but {} must see the whole stream: its result would depend on the share each worker gets", s.workers, node.info.name));
      if (!node.in.empty())
        complain(node, 0,
                 fmt::format("workers = {}, but each would read all of '{}': let them share a stream (an edge via ipc or tcp)", s.workers, node.in[0]));
      if (!node.made().empty())
        complain(node, 0,
                 fmt::format("workers = {}, but they cannot write one file ('{}'): add an edge via ipc or tcp to a stage that writes it", s.workers,
                             node.made()[0]));
    }
  }

  void check_files(Node& node) {
    Words made;
    for (const auto& [path, maker] : maker_) made.push_back(path);
    for (const auto& path : node.needed()) {
      const auto maker = maker_of(path);
      if (maker != maker_.end()) {
        if (maker->second == &node) complain(node, 0, fmt::format("reads '{}', which it writes itself", path));
        continue;
      }
      std::error_code ignored;
      if (std::filesystem::is_regular_file(path, ignored)) continue;
      if (std::filesystem::is_directory(path, ignored)) complain(node, 0, fmt::format("reads '{}', which is a folder: name files, e.g. \"{}/*\"", path, path));
      else complain(node, 0, fmt::format("reads '{}', which does not exist and which no stage writes{}", path, did_you_mean(path, made)));
    }
  }

  void check_ports() {
    std::map<std::pair<std::string, int>, const Edge*> taken;
    for (const auto& edge : pipeline_.edges) {
      Node* from = node(edge.from);
      if (edge.via != Via::tcp || !from) continue;
      for (int w = 0; w < from->stage->workers; ++w) {
        const int port = edge.port + w;
        if (port > 65535) {
          complain(edge, fmt::format("port = {}: its {} workers need one port each, up to {}, and 65535 is the last", edge.port, from->stage->workers,
                                     edge.port + from->stage->workers - 1));
          break;
        }
        const auto [place, added] = taken.emplace(std::pair(from->stage->host, port), &edge);
        if (added) continue;
        complain(edge, fmt::format("port {} is used by edge '{}' too: choose another{}", port, place->second->name,
                                   from->stage->workers > 1 ? " (each worker of '" + edge.from + "' takes one)" : ""));
        break;
      }
    }
  }

  Words before(const Node& n) const {
    Words out;
    for (const auto* edge : n.streams_in) add_once(out, edge->from);
    for (const auto& path : n.needed())
      if (const auto maker = maker_of(path); maker != maker_.end()) add_once(out, maker->second->stage->name);
    return out;
  }

  // Stages so that each comes after what it depends on, otherwise in the file's order; names a cycle.
  void order() {
    std::vector<int> state(nodes_.size(), 0);  // 1: on the path, 2: done
    Words path;
    const std::function<bool(std::size_t)> visit = [&](std::size_t i) {
      if (state[i] == 2) return true;
      const auto& name = nodes_[i].stage->name;
      path.push_back(name);
      if (state[i] == 1) {
        const Words cycle(std::find(path.begin(), path.end(), name), path.end());
        problems_.add(fmt::format("{}stages depend on each other in a circle: {}: remove one of these edges or files", at(pipeline_, nodes_[i].stage->line),
                                  list({cycle.rbegin(), cycle.rend()}, " -> ")));
        return false;
      }
      state[i] = 1;
      for (const auto& name_before : before(nodes_[i]))
        if (!visit(index_.at(name_before))) return false;
      state[i] = 2;
      path.pop_back();
      order_.push_back(i);
      return true;
    };
    for (std::size_t i = 0; i < nodes_.size(); ++i)
      if (!visit(i)) break;
    problems_.throw_if_any();
  }

  void check_schemas() {
    for (const auto i : order_) {
      Node& n = nodes_[i];
      Words arriving;
      const auto meet = [&](const Node& from, const std::string& through) {
        if (from.writes.empty() || n.info.reads.empty()) return;
        Words common;
        for (const auto& schema : from.writes)
          if (contains(n.info.reads, schema)) common.push_back(schema);
        for (const auto& schema : common) add_once(arriving, schema);
        if (common.empty())
          complain(n, 0,
                   fmt::format("reads {}, but {} brings {} from stage '{}': put a stage between them that makes the one from the other",
                               list(n.info.reads, " or "), through, list(from.writes, " or "), from.stage->name));
      };
      for (const auto* edge : n.streams_in) meet(*node(edge->from), fmt::format("edge '{}'", edge->name));
      for (const auto& path : n.in)
        if (const auto maker = maker_.find(path); maker != maker_.end() && maker->second->out == path) meet(*maker->second, fmt::format("'{}'", path));
      n.writes = n.info.writes;
      // A program that reads and writes the same set of schemas (head, split, …) passes on what it gets.
      if (n.info.writes.size() > 1 && n.info.writes == n.info.reads && !arriving.empty()) n.writes = arriving;
    }
  }

  // --- cutting -------------------------------------------------------------------------------------------------------

  static std::string with_options(const std::string& endpoint, const std::string& options) {
    return options.empty() ? endpoint : endpoint + (endpoint.find('?') == std::string::npos ? "?" : "&") + options;
  }

  // Where worker `w` of the edge's producer can be reached; binding or connecting.
  std::string socket(const Edge& edge, int w, bool binding) {
    const Stage& from = *pipeline_.find(edge.from);
    const int peers = pipeline_.find(edge.to)->workers;
    std::string options = edge.endpoint_options;
    if (binding && peers > 1) options = fmt::format("peers={}{}{}", peers, options.empty() ? "" : "&", options);
    if (edge.via == Via::ipc) return with_options(fmt::format("ipc:{}.{}", edge.name, w), options);
    std::string host = edge.bind;
    const bool everywhere = host == "*" || host == "0.0.0.0";
    if (!binding && everywhere) host = from.host == "localhost" ? "127.0.0.1" : from.host;
    return with_options(fmt::format("tcp://{}:{}", host, edge.port + w), options);
  }

  Process process(const Node& n, int worker) {
    const Stage& s = *n.stage;
    Process p;
    p.stage = s.name;
    p.program = n.info.name + " " + n.info.version;
    p.path = n.info.path;
    p.hash = n.info.hash;
    p.host = s.host;
    p.worker = worker;
    p.memory = s.memory;
    p.time = s.time;
    bool seeded = false;
    for (const auto& [key, value, line] : s.options) {
      const OptionInfo* option = n.info.find(key);
      if (key == "metrics") {
        p.metrics = text_of(value);
        continue;
      }
      seeded = seeded || key == "seed";
      const bool decides = !(option->common && (key == "threads" || key == "log-level" || key == "quiet"));
      auto& args = decides ? p.args : p.other_args;
      if (option->type == "bool") {
        if (value.get<bool>()) args.push_back("--" + key);
        continue;
      }
      for (const auto& item : value.is_array() ? value.get<Words>() : Words{text_of(value)}) args.push_back(fmt::format("--{}={}", key, item));
    }
    if (!seeded && pipeline_.seed && n.info.find("seed")) p.args.push_back(fmt::format("--seed={}", *pipeline_.seed));
    if (s.cores > 0 && n.info.find("threads")) p.other_args.push_back(fmt::format("--threads={}", s.cores));
    p.in = n.in;
    for (const auto* edge : n.streams_in) {
      if (edge->via == Via::pipe) p.in.push_back("pipe:" + edge->name);
      else
        for (int w = 0; w < pipeline_.find(edge->from)->workers; ++w) p.in.push_back(socket(*edge, w, false));
    }
    p.out = n.out;
    if (n.stream_out) p.out = n.stream_out->via == Via::pipe ? "pipe:" + n.stream_out->name : socket(*n.stream_out, worker, true);
    p.stdout_file = n.stdout_file;
    if (n.info.find("force")) p.other_args.emplace_back("--force");  // whether to run at all is decided before
    if (p.metrics.empty() && n.info.find("metrics")) p.metrics = "run:";
    p.prints = n.info.writes.empty() || (!p.out.empty() && p.out.substr(0, 5) != "pipe:");
    return p;
  }

  // Only a process that is alone may draw its progress.
  void quieten(Segment& segment) {
    if (segment.processes.size() < 2) return;
    for (auto& p : segment.processes)
      if (node(p.stage)->info.find("quiet") && !contains(p.other_args, "--quiet")) p.other_args.emplace_back("--quiet");
  }

  void cut(Plan& plan) {
    std::vector<std::size_t> group(nodes_.size());
    std::iota(group.begin(), group.end(), std::size_t{0});
    const std::function<std::size_t(std::size_t)> root = [&](std::size_t i) { return group[i] == i ? i : group[i] = root(group[i]); };
    for (const auto& edge : pipeline_.edges)
      if (edge.via != Via::file) group[root(index_.at(edge.from))] = root(index_.at(edge.to));

    std::map<std::size_t, std::size_t> segment_of;  // group -> index in segments
    std::vector<Segment> segments;
    for (const auto i : order_) {
      const auto [place, added] = segment_of.emplace(root(i), segments.size());
      if (added) {
        segments.emplace_back();
        segments.back().pipeline = pipeline_.name;
        segments.back().name = nodes_[i].stage->name;
      }
      Segment& segment = segments[place->second];
      segment.stages.push_back(nodes_[i].stage->name);
      for (int w = 0; w < nodes_[i].stage->workers; ++w) segment.processes.push_back(process(nodes_[i], w));
      for (const auto& path : nodes_[i].made()) segment.outputs.push_back(path);
      if (!nodes_[i].stdout_file.empty()) segment.reports.push_back(nodes_[i].stdout_file);
    }

    // Files between segments, and the order that they force
    std::vector<std::set<std::size_t>> after(segments.size());
    for (const auto i : order_) {
      const auto own = segment_of.at(root(i));
      for (const auto& path : nodes_[i].needed()) {
        const auto maker = maker_of(path);
        if (maker == maker_.end()) {
          segments[own].inputs[path] = "";
          continue;
        }
        const auto other = segment_of.at(root(index_.at(maker->second->stage->name)));
        if (other == own) {
          complain(nodes_[i], 0,
                   fmt::format(
                       "waits for '{}', which stage '{}' finishes only at its end, while both run in one segment of streams: make one edge between them a file",
                       path, maker->second->stage->name));
          continue;
        }
        add_once(segments[own].uses, maker->first);
        after[own].insert(other);
      }
    }
    std::vector<int> state(segments.size(), 0);
    const std::function<void(std::size_t)> visit = [&](std::size_t s) {
      if (state[s] == 2) return;
      if (state[s] == 1) {
        problems_.add(
            fmt::format("{}: the stages {}, joined by streams, wait for a file that is made from their own output: make one of the streams between them a file",
                        pipeline_.path, list(segments[s].stages)));
        state[s] = 2;
        return;
      }
      state[s] = 1;
      for (const auto other : after[s]) visit(other);
      if (state[s] == 2) return;
      state[s] = 2;
      quieten(segments[s]);
      plan.segments.push_back(segments[s]);
    };
    for (std::size_t s = 0; s < segments.size(); ++s) visit(s);
  }

  Pipeline pipeline_;
  Problems problems_;
  std::vector<Node> nodes_;
  std::map<std::string, std::size_t> index_;
  std::map<std::string, Node*> maker_;  // file or folder -> the stage that writes it
  std::map<const Node*, Words> extra_in_;
  std::vector<std::size_t> order_;
};

}  // namespace

Plan make_plan(Pipeline pipeline, const Finder& find) { return Planner(std::move(pipeline), find).plan(); }

Plan make_plan(Pipeline pipeline, const std::string& folder) {
  std::map<std::string, std::optional<ProgramInfo>> asked;
  return make_plan(std::move(pipeline), [&](const std::string& run) {
    const auto known = asked.find(run);
    if (known != asked.end()) return known->second;
    std::optional<ProgramInfo> info;
    if (const auto path = find_program(run, folder)) info = ask(*path);
    return asked[run] = info;
  });
}

nlohmann::json to_json(const Segment& segment) {
  auto processes = nlohmann::json::array();
  for (const auto& p : segment.processes)
    processes.push_back({{"stage", p.stage},
                         {"program", p.program},
                         {"path", p.path},
                         {"hash", p.hash},
                         {"host", p.host},
                         {"worker", p.worker},
                         {"args", p.args},
                         {"other_args", p.other_args},
                         {"in", p.in},
                         {"out", p.out},
                         {"stdout", p.stdout_file},
                         {"metrics", p.metrics},
                         {"prints", p.prints},
                         {"memory", p.memory},
                         {"time", p.time}});
  return {{"segment", segment.name},  {"pipeline", segment.pipeline}, {"stages", segment.stages},   {"processes", processes},
          {"inputs", segment.inputs}, {"uses", segment.uses},         {"outputs", segment.outputs}, {"reports", segment.reports}};
}

Segment segment_from_json(const nlohmann::json& json, const std::string& where) {
  try {
    Segment segment;
    json.at("segment").get_to(segment.name);
    json.at("pipeline").get_to(segment.pipeline);
    json.at("stages").get_to(segment.stages);
    json.at("inputs").get_to(segment.inputs);
    json.at("uses").get_to(segment.uses);
    json.at("outputs").get_to(segment.outputs);
    json.at("reports").get_to(segment.reports);
    for (const auto& item : json.at("processes")) {
      auto& p = segment.processes.emplace_back();
      item.at("stage").get_to(p.stage);
      item.at("program").get_to(p.program);
      item.at("path").get_to(p.path);
      item.at("hash").get_to(p.hash);
      item.at("host").get_to(p.host);
      item.at("worker").get_to(p.worker);
      item.at("args").get_to(p.args);
      item.at("other_args").get_to(p.other_args);
      item.at("in").get_to(p.in);
      item.at("out").get_to(p.out);
      item.at("stdout").get_to(p.stdout_file);
      item.at("metrics").get_to(p.metrics);
      item.at("prints").get_to(p.prints);
      item.at("memory").get_to(p.memory);
      item.at("time").get_to(p.time);
    }
    return segment;
  } catch (const nlohmann::json::exception& e) {
    fail(Exit::input, "{}: is not a segment written by bl-plan ({}): write it again with bl-plan --make", where, e.what());
  }
}

std::string graph(const Plan& plan) {
  std::string out = "flowchart LR\n";
  std::map<std::string, std::string> file_id;
  const auto file = [&](const std::string& path) {
    const auto [place, added] = file_id.emplace(path, fmt::format("file{}", file_id.size() + 1));
    if (added) out += fmt::format("  {}[(\"{}\")]\n", place->second, path);
    return place->second;
  };
  const auto id = [](std::string stage) {
    std::replace(stage.begin(), stage.end(), '-', '_');  // mermaid reads a hyphen as part of an arrow
    return "stage_" + stage;
  };
  for (const auto& segment : plan.segments) {
    const bool frame = segment.stages.size() > 1;
    if (frame) out += fmt::format("  subgraph segment_{} [\"segment {}\"]\n", segment.name, segment.name);
    for (const auto& stage : segment.stages) {
      const Stage& s = *plan.pipeline.find(stage);
      out += fmt::format("{}  {}[\"{}<br/>{}{}\"]\n", frame ? "  " : "", id(stage), stage, s.run, s.workers > 1 ? fmt::format(" x {}", s.workers) : "");
    }
    if (frame) out += "  end\n";
  }
  std::set<std::string> made;
  for (const auto& segment : plan.segments) made.insert(segment.outputs.begin(), segment.outputs.end());
  const auto around = [&](const std::string& path) {  // the folder that a stage makes, of a file in it
    for (std::string folder = path; !folder.empty(); folder.resize(folder.find('/') == std::string::npos ? 0 : folder.rfind('/')))
      if (made.count(folder) > 0) return folder;
    return path;
  };
  for (const auto& segment : plan.segments) {
    for (const auto& p : segment.processes) {
      if (p.worker > 0) continue;
      Words read;
      for (const auto& path : p.in)
        if (path.find(':') == std::string::npos) read.push_back(path);
      const ProgramInfo& info = plan.programs.at(p.stage);
      Words written;
      if (!p.out.empty() && p.out.find(':') == std::string::npos) written.push_back(p.out);
      if (!p.stdout_file.empty()) written.push_back(p.stdout_file);
      for (const auto& setting : plan.pipeline.find(p.stage)->options) {
        const OptionInfo* option = info.find(setting.key);
        if (option->role != "input-file" && option->role != "output-file" && setting.key != "config") continue;
        for (const auto& path : setting.value.is_array() ? setting.value.get<Words>() : Words{text_of(setting.value)})
          if (!path.empty()) (option->role == "output-file" ? written : read).push_back(normal(file_of(path, option->role == "output-file")));
      }
      for (const auto& path : read) {
        const auto from = file(around(path));
        out += fmt::format("  {} --> {}\n", from, id(p.stage));
      }
      for (const auto& path : written) {
        const auto to = file(path);
        out += fmt::format("  {} --> {}\n", id(p.stage), to);
      }
    }
  }
  for (const auto& edge : plan.pipeline.edges)
    if (edge.via != Via::file) out += fmt::format("  {} -- \"{}\" --> {}\n", id(edge.from), name_of(edge.via), id(edge.to));
  return out;
}

}  // namespace bl::plan
