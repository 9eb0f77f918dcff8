// Dark Machines and CMS text files: one event a line. Read in large blocks, cut at line ends into pieces whose size does
// not depend on the number of threads, and parsed in parallel.
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstring>
#include <deque>
#include <nlohmann/json.hpp>

#include "physics/objects.hpp"
#include "physics/vectors.hpp"
#include "preprocess/input.hpp"

namespace bl::preprocess {
namespace {

constexpr std::size_t kPiece = std::size_t{1} << 20;  // of text; about half of it as a batch
constexpr std::size_t kPieces = 8;                    // parsed at once
// Six significant digits of E, pt and eta leave up to 1e-5 between E and the momentum of a massless object (measured on
// the Dark Machines files: 8e-6); what is more than ten times that is wrong.
constexpr double kRounding = 1e-4;
constexpr double kGeV = 1e-3;  // GeV in an MeV

// What a line is made of. The Dark Machines file has fixed columns; a CMS file names its own.
struct Grammar {
  bool cms = false;
  double unit = 1;  // GeV per unit of the file
  // Column numbers (from 0) of the event's own fields; -1: not there.
  int id = 0, process = 1, weight = 2, met = 3, met_phi = 4;
  int fields = 5;                                  // before the first object
  std::vector<std::pair<int, std::size_t>> extra;  // column, index in Layout::extra
  std::vector<std::string> names{"event id", "process", "weight", "MET", "METphi"};
};

struct Line {
  const char* p;
  const char* end;
};

std::string quoted(const char* begin, const char* end) { return fmt::format("'{}'", shown(std::string_view(begin, static_cast<std::size_t>(end - begin)))); }

const char* find(const char* begin, const char* end, char c) {
  const void* found = std::memchr(begin, c, static_cast<std::size_t>(end - begin));
  return found ? static_cast<const char*>(found) : end;
}

void skip_blanks(const char*& p, const char* end) {
  while (p < end && (*p == ' ' || *p == '\t')) ++p;
}

// The number at p, blanks around it aside; p moves behind it. Decimal numbers of up to 15 digits are the quotient or product
// of two doubles that are exact, so the result is the nearest double (Clinger 1990); the others go to the library.
bool number_at(const char*& p, const char* end, double& value) {
  static constexpr double kPowers[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                       1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
  skip_blanks(p, end);
  if (p < end && *p == '+') ++p;
  const char* q = p;
  const bool negative = q < end && *q == '-';
  if (negative) ++q;
  const auto digit = [&] { return q < end && static_cast<unsigned char>(*q - '0') < 10; };
  std::uint64_t mantissa = 0;
  int scale = 0, digits = 0;
  for (; digit(); ++q, ++digits) mantissa = mantissa * 10 + static_cast<std::uint64_t>(*q - '0');
  if (q < end && *q == '.') {
    ++q;
    for (; digit(); ++q, ++digits, --scale) mantissa = mantissa * 10 + static_cast<std::uint64_t>(*q - '0');
  }
  bool simple = digits > 0 && digits <= 15;
  if (simple && q < end && (*q == 'e' || *q == 'E')) {
    ++q;
    const bool down = q < end && *q == '-';
    if (q < end && (*q == '-' || *q == '+')) ++q;
    int exponent = 0, count = 0;
    for (; digit() && count < 4; ++q, ++count) exponent = exponent * 10 + (*q - '0');
    simple = count > 0 && count < 4;
    scale += down ? -exponent : exponent;
  }
  if (simple && scale >= -22 && scale <= 22) {
    const auto m = static_cast<double>(mantissa);
    value = scale < 0 ? m / kPowers[-scale] : m * kPowers[scale];
    if (negative) value = -value;
    p = q;
  } else {
    const auto [stop, error] = std::from_chars(p, end, value);
    if (error != std::errc()) return false;
    p = stop;
  }
  skip_blanks(p, end);
  return true;
}

// The number that fills [begin, end), blanks aside.
bool parse(const char* begin, const char* end, double& value) { return number_at(begin, end, value) && begin == end; }

bool parse(const char* begin, const char* end, std::uint64_t& value) {
  skip_blanks(begin, end);
  const auto [stop, error] = std::from_chars(begin, end, value);
  const char* p = stop;
  skip_blanks(p, end);
  return error == std::errc() && p == end;
}

class Parser {
 public:
  Parser(const Grammar& grammar, const ReadOptions& options) : grammar_(grammar), options_(options) {}

  // Adds the event of one line. Throws BadValue; the caller drops the event then.
  void line(Line line, Events& out) const;

 private:
  void object(const char* begin, const char* end, std::size_t number, Events& out) const;

  const Grammar& grammar_;
  const ReadOptions& options_;
};

[[noreturn]] void bad_field(std::size_t column, std::string_view name, const std::string& why) {
  throw BadValue(fmt::format("column {} ({}): {}", column + 1, name, why));
}

void Parser::line(Line line, Events& out) const {
  struct Field {
    const char* begin;
    const char* end;
  };
  Field fields[16];
  const char* p = line.p;
  const int wanted = grammar_.fields;
  for (int i = 0; i < wanted; ++i) {
    if (p > line.end)
      bad_field(static_cast<std::size_t>(i), grammar_.names[static_cast<std::size_t>(i)], fmt::format("is missing, the line has {} columns", i));
    const char* end = find(p, line.end, ';');
    fields[i] = {p, end};
    p = end + 1;
  }
  const auto number = [&](int column, double missing) {
    if (column < 0) return missing;
    double value = 0;
    const Field f = fields[column];
    if (!parse(f.begin, f.end, value))
      bad_field(static_cast<std::size_t>(column), grammar_.names[static_cast<std::size_t>(column)], quoted(f.begin, f.end) + " is not a number");
    if (!std::isfinite(value))
      bad_field(static_cast<std::size_t>(column), grammar_.names[static_cast<std::size_t>(column)], fmt::format("{} is not finite", value));
    return value;
  };

  Event event;
  const Field id = fields[grammar_.id];
  if (!parse(id.begin, id.end, event.id))
    bad_field(static_cast<std::size_t>(grammar_.id), grammar_.names[static_cast<std::size_t>(grammar_.id)],
              quoted(id.begin, id.end) + " is not a whole number from 0 on");
  event.weight = number(grammar_.weight, 1);
  if (!options_.process.empty()) event.process = options_.process;
  else if (grammar_.process >= 0)
    event.process = {fields[grammar_.process].begin, static_cast<std::size_t>(fields[grammar_.process].end - fields[grammar_.process].begin)};
  if (options_.label) event.label = *options_.label;
  event.met = number(grammar_.met, 0) * grammar_.unit;
  event.met_phi = number(grammar_.met_phi, 0);
  out.begin(event);
  for (const auto& [column, index] : grammar_.extra) out.extra(index, number(column, 0));

  std::size_t count = 0;
  while (p < line.end) {
    const char* end = find(p, line.end, ';');
    if (end == p && end == line.end) break;
    object(p, end, ++count, out);
    p = end + 1;
  }
  out.end();
}

void Parser::object(const char* begin, const char* end, std::size_t number, Events& out) const {
  const char* comma = find(begin, end, ',');
  std::string_view name(begin, static_cast<std::size_t>(comma - begin));
  while (!name.empty() && name.front() == ' ') name.remove_prefix(1);
  const auto fault = [&](std::string_view what, const std::string& why) {
    throw BadValue(fmt::format("object {} ({}), {}: {}", number, shown(name, 20), what, why));
  };
  const auto known = physics::spelled(name);
  if (!known) {
    std::string all;
    for (const char* spelling : {"j", "b", "e-", "e+", "m-", "m+", "g", "tau-", "tau+"}) all += (all.empty() ? "" : ", ") + std::string(spelling);
    throw BadValue(fmt::format("object {}: '{}' is not known; known are {}", number, shown(name, 20), all));
  }
  const char* p = comma + 1;
  static constexpr std::string_view kNames[] = {"E", "pt", "eta", "phi"};
  double v[4] = {};
  for (int i = 0; i < 4; ++i) {
    if (p > end) fault(kNames[i], "is missing");
    const char* stop = p;
    if (!number_at(stop, end, v[i]) || (stop < end && *stop != ',')) fault(kNames[i], quoted(p, find(p, end, ',')) + " is not a number");
    if (!std::isfinite(v[i])) fault(kNames[i], fmt::format("{} is not finite", v[i]));
    p = stop + 1;
  }
  Object o;
  o.type = static_cast<std::uint8_t>(known->type);
  o.charge = known->charge;
  o.btag = known->btag ? 1 : 0;
  if (grammar_.cms) {
    // charge, btag (jets only), isolation, identification
    double charge = 0, btag = 0;
    if (p <= end) {
      const char* stop = find(p, end, ',');
      if (stop > p && !parse(p, stop, charge)) fault("charge", quoted(p, stop) + " is not a number");
      p = stop + 1;
    }
    if (p <= end) {
      const char* stop = find(p, end, ',');
      if (stop > p && !parse(p, stop, btag)) fault("btag", quoted(p, stop) + " is not a number");
    }
    if (!(std::abs(charge) <= 100) || charge != std::floor(charge)) fault("charge", fmt::format("{} is not a whole number", charge));
    o.charge = static_cast<int>(charge);
    if (known->type == physics::ObjectType::jet) o.btag = options_.btag_cut ? (btag >= *options_.btag_cut ? 1 : 0) : std::max(btag, 0.0);
  } else if (p <= end && find(p, end, ',') != p) {
    fault("phi", fmt::format("is followed by {}, an object has five values", quoted(p, end)));
  }
  if (v[0] < 0) fault("E", fmt::format("{} is negative", v[0]));
  if (v[1] < 0) fault("pt", fmt::format("{} is negative", v[1]));
  if (std::abs(v[2]) > 20) fault("eta", fmt::format("{} is outside -20 to 20", v[2]));
  const auto mass = physics::mass_from_energy(v[0], v[1], v[2], kRounding);
  if (!mass.physical) fault("E", fmt::format("{} is below the momentum {:.6g}", v[0], v[1] * std::cosh(v[2])));
  o.pt = v[1] * grammar_.unit;
  o.eta = v[2];
  o.phi = v[3];
  o.mass = mass.mass * grammar_.unit;
  try {
    out.object(o);
  } catch (const BadValue& e) {
    throw BadValue(fmt::format("object {} ({}), {}", number, name, e.what()));
  }
}

class TextReader : public Reader {
 public:
  TextReader(const std::string& path, Format format, const ReadOptions& options, Bad& bad, Pool& pool);
  ~TextReader() override {
    if (fd_ > 0) ::close(fd_);
  }
  Events::Layout layout() const override { return layout_; }
  std::optional<Batch> next() override;
  nlohmann::json facts() const override {
    nlohmann::json facts{{"format", name_of(format_)}};
    if (!grammar_.cms) facts["units"] = "MeV converted to GeV";
    facts["mass"] = "from E, pt and eta";
    if (options_.btag_cut) facts["btag_cut"] = *options_.btag_cut;
    return facts;
  }

 private:
  bool fill();  // reads and parses the next block; false at the end of the file
  void header(std::string_view line);

  struct Fault {
    std::size_t line;  // within the piece, from 0
    std::string why;
  };
  struct Piece {
    Events events;
    std::size_t lines = 0;
    std::vector<Fault> faults;
  };

  std::string name_;
  Format format_;
  ReadOptions options_;
  Bad& bad_;
  Pool& pool_;
  int fd_ = -1;
  Grammar grammar_;
  Events::Layout layout_;
  std::vector<char> block_ = std::vector<char>(kPiece * kPieces);
  std::size_t held_ = 0;  // bytes of block_ that are a line begun
  std::size_t lines_ = 0, events_ = 0;
  bool ended_ = false, begun_ = false;
  std::deque<Batch> ready_;
};

TextReader::TextReader(const std::string& path, Format format, const ReadOptions& options, Bad& bad, Pool& pool)
    : name_(path == "-" ? "stdin" : path), format_(format), options_(options), bad_(bad), pool_(pool) {
  fd_ = path == "-" ? 0 : ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd_ < 0) fail(Exit::input, "cannot open '{}': {}", path, errno_text(errno));
  grammar_.cms = format == Format::cms;
  grammar_.unit = grammar_.cms ? 1 : kGeV;
  layout_.label = options.label.has_value();
  fill();  // the header names the columns, which layout() tells
}

// The first line: "# event;process;…;type,E,pt,…" of a CMS file, which names the columns, or a title line.
void TextReader::header(std::string_view line) {
  if (!grammar_.cms) return;
  std::string_view text = line.substr(line.find_first_not_of("# \t"));
  grammar_.id = grammar_.process = grammar_.weight = grammar_.met = grammar_.met_phi = -1;
  grammar_.names.clear();
  int column = 0;
  while (!text.empty()) {
    const auto semicolon = text.find(';');
    const std::string field = shown(text.substr(0, semicolon));
    if (field.find(',') != std::string::npos) break;  // the pattern of an object
    if (field == "event") grammar_.id = column;
    else if (field == "process") grammar_.process = column;
    else if (field == "weight") grammar_.weight = column;
    else if (field == "MET_GeV" || field == "MET") grammar_.met = column;
    else if (field == "METphi") grammar_.met_phi = column;
    else if (!field.empty()) {
      grammar_.extra.emplace_back(column, layout_.extra.size());
      layout_.extra.push_back(field);
    }
    grammar_.names.push_back(field);
    ++column;
    if (semicolon == std::string_view::npos) break;
    text.remove_prefix(semicolon + 1);
  }
  grammar_.fields = column;
  if (grammar_.id < 0 || grammar_.met < 0 || grammar_.met_phi < 0 || column > 16)
    fail(Exit::input, "'{}', line 1: the header must name event, MET_GeV and METphi among at most 16 columns, it is '{}'", name_, shown(line, 100));
}

bool TextReader::fill() {
  if (ended_) return false;
  // A full block whatever read() hands out, so that pieces are the same from a file and from a pipe.
  std::size_t size = held_;
  while (size < block_.size()) {
    const ssize_t got = ::read(fd_, block_.data() + size, block_.size() - size);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail(Exit::input, "cannot read '{}': {}", name_, errno_text(errno));
    if (got == 0) {
      ended_ = true;
      break;
    }
    size += static_cast<std::size_t>(got);
  }
  const char* begin = block_.data();
  const char* end = begin + size;
  if (!begun_ && size == 0) fail(Exit::input, "'{}' is empty", name_);
  const char* stop = end;
  if (!ended_) {
    while (stop > begin && stop[-1] != '\n') --stop;
    if (stop == begin) fail(Exit::input, "'{}', line {}: the line is longer than {} MiB", name_, lines_ + 1, block_.size() >> 20);
  }
  const char* p = begin;
  if (!begun_) {
    begun_ = true;
    const char* eol = find(p, stop, '\n');
    const std::string_view first(p, static_cast<std::size_t>(eol - p));
    const bool titled = first.starts_with("#") || first.starts_with("event") || first.starts_with("Event");
    if (grammar_.cms && !first.starts_with("#"))
      fail(Exit::input, "'{}', line 1: a file of format cms begins with '# event;process;…', not '{}'", name_, shown(first));
    if (titled) {
      header(first);
      p = std::min(eol + 1, stop);
      ++lines_;
    }
  }

  std::vector<Line> cuts;
  while (p < stop) {
    const char* cut = p + std::min<std::size_t>(kPiece, static_cast<std::size_t>(stop - p));
    if (cut < stop) cut = std::min(find(cut, stop, '\n') + 1, stop);
    cuts.push_back({p, cut});
    p = cut;
  }
  std::vector<Piece> pieces;
  for (std::size_t i = 0; i < cuts.size(); ++i) pieces.push_back(Piece{Events(layout_), 0, {}});
  const Parser parser(grammar_, options_);
  pool_.run(cuts.size(), [&](std::size_t i, std::size_t) {
    Piece& piece = pieces[i];
    const char* q = cuts[i].p;
    while (q < cuts[i].end) {
      const char* eol = find(q, cuts[i].end, '\n');
      const char* last = eol;
      while (last > q && (last[-1] == '\r' || last[-1] == ' ' || last[-1] == '\t')) --last;
      if (last > q) {
        try {
          parser.line({q, last}, piece.events);
        } catch (const BadValue& e) {
          piece.events.drop();
          piece.faults.push_back({piece.lines, e.what()});
        }
      }
      ++piece.lines;
      q = eol + 1;
    }
  });
  for (auto& piece : pieces) {
    for (const auto& fault : piece.faults) bad_.add(fmt::format("'{}', line {}, {}", name_, lines_ + fault.line + 1, fault.why));
    lines_ += piece.lines;
    events_ += piece.events.size();
    if (piece.events.size() == 0) continue;
    Batch batch = piece.events.take();
    if (batch.events <= kBatchEvents) {
      ready_.push_back(std::move(batch));
      continue;
    }
    for (std::uint32_t first = 0; first < batch.events; first += kBatchEvents)
      ready_.push_back(slice(batch, first, std::min(kBatchEvents, batch.events - first)));
  }
  held_ = static_cast<std::size_t>(end - stop);
  std::memmove(block_.data(), stop, held_);
  if (ended_ && events_ == 0)
    fail(Exit::input, "'{}' holds no events in its {} lines{}", name_, lines_, bad_.count() ? fmt::format(" ({} bad ones were skipped)", bad_.count()) : "");
  return true;
}

std::optional<Batch> TextReader::next() {
  while (ready_.empty())
    if (!fill()) return std::nullopt;
  Batch batch = std::move(ready_.front());
  ready_.pop_front();
  return batch;
}

}  // namespace

std::unique_ptr<Reader> open_text(const std::string& path, Format format, const ReadOptions& options, Bad& bad, Pool& pool) {
  return std::make_unique<TextReader>(path, format, options, bad, pool);
}

}  // namespace bl::preprocess
