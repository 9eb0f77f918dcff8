#include "stage/program.hpp"

#include <CLI/CLI.hpp>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <ctime>

#include "base/log.hpp"
#include "base/signals.hpp"
#include "stage/impl.hpp"

namespace bl::stage {
namespace {

// A file that a path-valued option names may be absent; hashing it then is the stage's own error to report.
bool readable(const std::string& path) { return ::access(path.c_str(), R_OK) == 0; }

int finish_output() {
  // --help to a full disk must not look like success
  return std::fflush(stdout) == 0 && std::ferror(stdout) == 0 ? 0 : static_cast<int>(Exit::write);
}

}  // namespace

std::string Option::Impl::type() const {
  static constexpr const char* names[] = {"bool", "int", "int", "uint", "float", "string", "list"};
  return names[target.index()];
}

nlohmann::json Option::Impl::value() const {
  return std::visit([](const auto* v) { return nlohmann::json(*v); }, target);
}

Option& Option::required() {
  impl_->required = true;
  return *this;
}
Option& Option::range(double low, double high) {
  impl_->bounded = true;
  impl_->low = low;
  impl_->high = high;
  return *this;
}
Option& Option::one_of(std::vector<std::string> choices) {
  impl_->choices = std::move(choices);
  return *this;
}
Option& Option::input_file() {
  impl_->role = Role::input_file;
  impl_->effect = false;  // the file's content counts, not its path
  return *this;
}
Option& Option::output_file() {
  impl_->role = Role::output_file;
  impl_->effect = false;
  return *this;
}
Option& Option::first_word() {
  check(!impl_->choices.empty(), "the first word is one of an option's choices");
  impl_->first = true;
  return *this;
}
Option& Option::no_effect() {
  impl_->effect = false;
  return *this;
}

Option::Impl& Program::Impl::add(const std::string& flag, Target target, const std::string& doc) {
  check(flag.substr(0, 2) == "--", "an option starts with --");
  auto& o = options.emplace_back();
  o.flag = flag;
  o.doc = doc;
  o.target = target;
  o.initial = o.value();
  return o;
}

Program::Program(std::string name, std::string summary) : impl_(std::make_unique<Impl>()) {
  impl_->name = std::move(name);
  impl_->summary = std::move(summary);
}
Program::~Program() = default;

Program& Program::reads(std::vector<std::string> schemas) {
  impl_->reads = std::move(schemas);
  return *this;
}
Program& Program::reads_files(std::string doc) {
  impl_->takes_files = true;
  impl_->files_doc = std::move(doc);
  return *this;
}
Program& Program::writes(std::vector<std::string> schemas) {
  impl_->writes = std::move(schemas);
  return *this;
}
Program& Program::positional() {
  impl_->positional = true;
  return *this;
}
Program& Program::parallel() {
  impl_->parallel = true;
  return *this;
}
Program& Program::member(std::size_t rank) {
  impl_->rank = rank;
  return *this;
}
Program& Program::example(std::string command, std::string what) {
  impl_->examples.push_back({std::move(command), std::move(what)});
  return *this;
}
Program& Program::note(std::string title, std::string text) {
  impl_->notes.emplace_back(std::move(title), std::move(text));
  return *this;
}

Option Program::option(const std::string& f, bool& v, const std::string& d) { return Option(&impl_->add(f, &v, d)); }
Option Program::option(const std::string& f, int& v, const std::string& d) { return Option(&impl_->add(f, &v, d)); }
Option Program::option(const std::string& f, std::int64_t& v, const std::string& d) { return Option(&impl_->add(f, &v, d)); }
Option Program::option(const std::string& f, std::uint64_t& v, const std::string& d) { return Option(&impl_->add(f, &v, d)); }
Option Program::option(const std::string& f, double& v, const std::string& d) { return Option(&impl_->add(f, &v, d)); }
Option Program::option(const std::string& f, std::string& v, const std::string& d) { return Option(&impl_->add(f, &v, d)); }
Option Program::option(const std::string& f, std::vector<std::string>& v, const std::string& d) { return Option(&impl_->add(f, &v, d)); }

int Program::run(int argc, char** argv, const std::function<void(Context&)>& body) {
  auto& p = *impl_;
  const std::size_t own = p.options.size();
  if (p.takes_files) p.add("--in", &p.inputs, "File to read; repeat or separate by commas for several").effect = false;
  else if (!p.reads.empty()) p.add("--in", &p.in, "Endpoint to read from; a,b reads several as one stream").effect = false;
  if (!p.writes.empty()) p.add("--out", &p.out, "Endpoint to write to").effect = false;
  p.add("--seed", &p.seed, "Seed of every random number of this stage");
  auto& threads = p.add("--threads", &p.threads, "Threads to compute with; results do not depend on it");
  threads.effect = false;
  threads.bounded = true;
  threads.low = 1;
  threads.high = 1024;
  p.add("--force", &p.force, "Replace output files that exist").effect = false;
  p.add("--config", &p.config, "Read options from a TOML file; the command line wins").effect = false;
  auto& level = p.add("--log-level", &p.log_level, "Least serious message to print");
  level.effect = false;
  level.choices = {"debug", "info", "warn", "error", "off"};
  p.add("--metrics", &p.metrics, "Write progress as JSON lines to this file").effect = false;
  p.add("--quiet", &p.quiet, "Do not draw progress").effect = false;
  for (std::size_t i = own; i < p.options.size(); ++i) p.options[i].common = true;

  CLI::App app(p.summary, p.name);
  app.set_help_flag();
  bool help = false, version = false, describe = false;
  app.add_flag("-h,--help", help)->configurable(false);
  app.add_flag("--version", version)->configurable(false);
  app.add_flag("--describe", describe)->configurable(false);
  app.set_config("--config");
  app.allow_config_extras(CLI::config_extras_mode::error);
  std::vector<std::string> flags{"--help", "--version", "--describe", "--config"};
  for (auto& o : p.options) {
    flags.push_back(o.flag);
    if (o.flag == "--config") continue;  // CLI11's own
    std::string names = o.flag;
    if (o.flag == "--in") names.insert(0, p.positional ? "in,-i," : "-i,");
    if (o.flag == "--out") names.insert(0, "-o,");
    CLI::Option* added = std::visit(
        [&](auto* v) -> CLI::Option* {
          using T = std::remove_pointer_t<decltype(v)>;
          if constexpr (std::is_same_v<T, bool>) return app.add_flag(names, *v, o.doc);
          else if constexpr (std::is_same_v<T, std::vector<std::string>>) return app.add_option(names, *v, o.doc)->delimiter(',');
          else return app.add_option(names, *v, o.doc);
        },
        o.target);
    if (!o.choices.empty()) {
      added->check(CLI::Validator(
          [&o](const std::string& s) {
            for (const auto& c : o.choices)
              if (c == s) return std::string();
            std::string all;
            for (const auto& c : o.choices) all += (all.empty() ? "" : ", ") + c;
            return fmt::format("'{}' is not one of {}", s, all);
          },
          ""));
    }
    if (o.bounded) {
      added->check(CLI::Validator(
          [&o](const std::string& s) {
            try {
              const double v = std::stod(s);
              if (v >= o.low && v <= o.high) return std::string();
            } catch (const std::exception&) {
            }
            return fmt::format("{} is not between {} and {}", s, o.low, o.high);
          },
          ""));
    }
  }

  const auto complain = [&](const std::string& what) {
    if (p.rank == 0) {
      std::fprintf(stderr, "%s: error: %s\n", p.name.c_str(), what.c_str());
      return;
    }
    // Most errors meet all ranks: 0 says them and ends the job before this one would say the same. Only one that this rank
    // has alone is still waiting to be said after a while.
    const timespec seconds{3, 0};
    if (::nanosleep(&seconds, nullptr) == 0) std::fprintf(stderr, "%s: error: rank %zu: %s\n", p.name.c_str(), p.rank, what.c_str());
  };
  std::vector<std::string> words(argv + 1, argv + argc);
  for (const auto& o : p.options) {
    if (!o.first || words.empty() || words[0].empty() || words[0][0] == '-') continue;
    if (std::find(o.choices.begin(), o.choices.end(), words[0]) == o.choices.end()) {
      const std::string near = nearest(words[0], o.choices);
      complain(fmt::format("'{}' is not one of {}{}; see {} --help", words[0], fmt::join(o.choices, ", "), near.empty() ? "" : ", did you mean " + near + "?",
                           p.name));
      return static_cast<int>(Exit::usage);
    }
    words[0].insert(0, o.flag + "=");
  }
  std::reverse(words.begin(), words.end());  // as CLI11 takes them
  try {
    app.parse(std::move(words));
  } catch (const CLI::ExtrasError& e) {
    std::string word;
    for (int i = 1; i < argc && word.empty(); ++i) {
      const std::string arg = std::string(argv[i]).substr(0, std::string(argv[i]).find('='));
      if (arg.size() > 1 && arg[0] == '-' && std::find(flags.begin(), flags.end(), arg) == flags.end() && arg != "-h" && arg != "-i" && arg != "-o") word = arg;
    }
    const std::string near = nearest(word, flags);
    if (word.empty()) complain(fmt::format("{}; see {} --help", e.what(), p.name));
    else complain(fmt::format("unknown option '{}'{}; see {} --help", word, near.empty() ? "" : ", did you mean " + near + "?", p.name));
    return static_cast<int>(Exit::usage);
  } catch (const CLI::ConfigError& e) {
    const auto& given = app.get_config_ptr()->results();
    const std::string path = given.empty() ? std::string() : given[0], what = e.what();
    static constexpr std::string_view unknown = "INI was not able to parse ";  // CLI11's words for a key that is no option
    if (what.substr(0, unknown.size()) == unknown) {
      const std::string key = what.substr(unknown.size()), near = nearest("--" + key, flags);
      complain(
          fmt::format("config file '{}': unknown key '{}'{}; see {} --help", path, key, near.empty() ? "" : ", did you mean " + near.substr(2) + "?", p.name));
    } else {
      complain(fmt::format("config file '{}': {}", path, what));
    }
    return static_cast<int>(Exit::usage);
  } catch (const CLI::ParseError& e) {
    complain(fmt::format("{}; see {} --help", e.what(), p.name));
    return static_cast<int>(Exit::usage);
  }
  if (help) {
    std::fputs(p.help().c_str(), stdout);
    return finish_output();
  }
  if (version) {
    std::printf("%s (beamline) %s\n", p.name.c_str(), BEAMLINE_VERSION);
    return finish_output();
  }
  if (describe) {
    std::fputs(p.describe().c_str(), stdout);
    return finish_output();
  }
  for (const auto& o : p.options) {
    if (o.required && o.value() == o.initial) {
      complain(fmt::format("{} is required; see {} --help", o.flag, p.name));
      return static_cast<int>(Exit::usage);
    }
  }

  Context::Impl state(p);
  Context context(state);
  int code = 0;
  std::string reason;
  try {
    signals::install();
    log::setup(p.name, p.rank == 0 ? p.log_level : "error");
    state.progress = p.rank == 0 ? std::make_unique<Progress>(p.name, p.metrics, p.quiet) : std::make_unique<Progress>(p.name, std::string(), true);
    for (const auto& o : p.options)
      if (o.role == Role::input_file && !o.common)
        for (const auto& path :
             o.type() == "list" ? *std::get<std::vector<std::string>*>(o.target) : std::vector<std::string>{*std::get<std::string*>(o.target)})
          if (!path.empty() && readable(path)) context.depends_on(path);
    body(context);
    state.progress->finish();
  } catch (const Error& e) {
    code = static_cast<int>(e.code());
    reason = e.what();
  } catch (const std::bad_alloc&) {
    code = static_cast<int>(Exit::failed);
    reason = "out of memory: lower --threads or the batch size";
  } catch (const std::exception& e) {
    code = static_cast<int>(Exit::failed);
    reason = e.what();
  }
  if (code != 0) {
    const std::string why = p.name + ": " + reason;
    for (auto& sink : state.sinks) sink->abort(why);
    for (auto& source : state.sources) source->abort(why);
    state.progress.reset();  // clears the line before the message
    complain(reason);
  }
  return code;
}

}  // namespace bl::stage
