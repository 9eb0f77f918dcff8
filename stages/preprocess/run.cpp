#include "preprocess/run.hpp"

#include <algorithm>
#include <charconv>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "base/error.hpp"
#include "base/log.hpp"
#include "preprocess/input.hpp"
#include "preprocess/kernel.hpp"
#include "preprocess/recipe.hpp"

namespace bl::preprocess {
namespace {

using nlohmann::json;

bool is_socket(const std::string& text) { return text.starts_with("tcp://") || text.starts_with("ipc://"); }
bool is_endpoint(const std::string& text) { return text == "-" || text.find("://") != std::string::npos; }

template <class T>
T number(const char* option, const std::string& text, const char* what) {
  T value{};
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || stop != end) fail(Exit::usage, "{} must be {}, not '{}'", option, what, text);
  return value;
}

std::string joined(const std::vector<std::string>& endpoints) {
  std::string text;
  for (const auto& endpoint : endpoints) text += (text.empty() ? "" : ",") + endpoint;
  return text;
}

struct Source {
  std::string path;
  Format format = Format::stream;
};

// A stream of ours among several inputs: its event_index is counted anew with the others'.
class StreamReader : public Reader {
 public:
  StreamReader(stage::Context& context, const std::string& path) : reader_(context.open_reader(path, {"objects/1", "particles/1"})) {
    layout_.particles = reader_->schema().starts_with("particles");
    first_ = reader_->next();
    if (first_) layout_.label = first_->has("label");
  }
  Events::Layout layout() const override { return layout_; }
  std::optional<Batch> next() override {
    auto batch = first_ ? std::move(first_) : reader_->next();
    first_.reset();
    if (batch) {
      std::erase_if(batch->columns, [](const Column& c) { return c.name.starts_with("feature_") || c.name.starts_with("global_"); });
      reader_->acknowledge(batch->seq);
    }
    return batch;
  }
  json facts() const override { return {{"format", "stream"}, {"history", reader_->hello().history}}; }

 private:
  std::unique_ptr<stage::Reader> reader_;
  Events::Layout layout_;
  std::optional<Batch> first_;
};

class Job {
 public:
  Job(stage::Context& context, const Options& options);
  void run();

 private:
  std::vector<std::unique_ptr<Reader>> open_all(Bad& bad);
  // Every batch of every input, event_index set, in order; stops when `each` returns false.
  void for_each_batch(std::vector<std::unique_ptr<Reader>>& readers, const std::function<bool(Batch)>& each);
  void fit_on_files();
  void files_to_stream();
  void stream_to_stream();
  void invert_stream();
  json meta(const json& inputs) const;
  void fitted(Fitter& fitter, const std::string& source);
  static void need_selected(const Kernel& kernel);

  stage::Context& context_;
  const Options& options_;
  Recipe recipe_;
  ReadOptions read_;
  std::vector<Source> sources_;
  bool particles_ = false, label_ = false;
};

Job::Job(stage::Context& context, const Options& options) : context_(context), options_(options) {
  if (options.invert && !(options.recipe.empty() && options.select.empty() && options.save.empty() && options.with.empty()))
    fail(Exit::usage, "--invert takes the transforms from the stream: leave out --recipe, --select, --save and --with");
  if (!options.recipe.empty()) recipe_ = read_recipe(options.recipe);
  if (!options.select.empty()) recipe_.select.push_back(options.select);
  if (!options.with.empty()) load_transforms(recipe_, options.with);
  if (!options.save.empty() && !recipe_.needs_fit()) fail(Exit::usage, "--save has nothing to store: the recipe has no fitted transform");

  read_.process = options.process;
  read_.names = options.names;
  if (!options.label.empty()) read_.label = number<std::int32_t>("--label", options.label, "a whole number");
  if (!options.btag_cut.empty()) read_.btag_cut = number<double>("--btag-cut", options.btag_cut, "a number");

  std::vector<std::string> inputs = context.inputs();
  if (inputs.empty()) inputs.emplace_back("-");
  if (std::all_of(inputs.begin(), inputs.end(), is_socket)) inputs = {joined(inputs)};  // several writers of one stream
  for (const auto& path : inputs) {
    Source source{path, Format::stream};
    if (options.format != "auto") source.format = *format_named(options.format);
    else if (!is_endpoint(path)) source.format = detect(path);
    if (source.format == Format::stream) {
      if (inputs.size() > 1 && is_endpoint(path)) fail(Exit::usage, "'{}' must be the only input: several inputs are files", path);
    } else if (is_socket(path)) {
      fail(Exit::usage, "'{}' carries a stream: leave out --format {}", path, options.format);
    }
    sources_.push_back(std::move(source));
  }
}

std::vector<std::unique_ptr<Reader>> Job::open_all(Bad& bad) {
  std::vector<std::unique_ptr<Reader>> readers;
  for (const auto& [path, format] : sources_) {
    switch (format) {
      case Format::stream: readers.push_back(std::make_unique<StreamReader>(context_, path)); break;
      case Format::darkmachines:
      case Format::cms: readers.push_back(open_text(path, format, read_, bad, context_.pool())); break;
      default: readers.push_back(open_hdf5(path, format, read_, bad)); break;
    }
  }
  const auto first = readers[0]->layout();
  particles_ = first.particles;
  for (std::size_t i = 0; i < readers.size(); ++i) {
    auto layout = readers[i]->layout();
    label_ = label_ || layout.label;
    layout.label = first.label;
    layout.extra = first.extra;
    if (layout == first || sources_[i].format == Format::stream) {
      if (layout.particles == first.particles) continue;
    }
    if (layout.particles != first.particles)
      fail(Exit::usage, "'{}' holds {} and '{}' {}: preprocess them apart", sources_[0].path,
           first.particles ? "jets with constituents" : "events with objects", sources_[i].path,
           layout.particles ? "jets with constituents" : "events with objects");
    fail(Exit::usage, "'{}' and '{}' have different columns: preprocess them apart", sources_[0].path, sources_[i].path);
  }
  return readers;
}

void Job::for_each_batch(std::vector<std::unique_ptr<Reader>>& readers, const std::function<bool(Batch)>& each) {
  std::uint64_t index = 0;
  for (auto& reader : readers) {
    while (auto batch = reader->next()) {
      context_.stop_if_asked();
      std::vector<std::uint64_t> indices(batch->events);
      for (auto& entry : indices) entry = index++;
      batch->set("event_index", {"event"}, indices);
      if (label_ && !batch->has("label")) batch->set("label", {"event"}, std::vector<std::int32_t>(batch->events, -1));
      if (!each(std::move(*batch))) return;
    }
    reader.reset();  // closes the file
  }
}

// {"0": "QCD", …} of inputs that name their labels; nothing when they disagree.
json labels_of(const json& inputs) {
  json labels = json::object();
  for (const auto& input : inputs) {
    if (!input.contains("labels")) continue;
    for (std::size_t i = 0; i < input["labels"].size(); ++i) {
      const auto& name = labels.emplace(std::to_string(i), input["labels"][i]).first.value();
      if (name != input["labels"][i]) return json::object();
    }
  }
  return labels;
}

json Job::meta(const json& inputs) const {
  json facts{{"inputs", inputs}, {"btag_cut", recipe_.btag_cut}, {"sort", recipe_.sort}};
  if (!recipe_.select.empty()) facts["select"] = recipe_.select;
  if (!recipe_.doc.empty()) facts["recipe"] = recipe_.doc;
  if (recipe_.max_objects) facts["max_objects"] = recipe_.max_objects;
  json meta{{"preprocess", facts}, {"transforms", transforms_json(recipe_)}};
  if (const json labels = labels_of(inputs); !labels.empty()) meta["labels"] = labels;
  return meta;
}

void Job::fitted(Fitter& fitter, const std::string& source) {
  fitter.fit(recipe_);
  log::info("fitted the transforms on {} training events of {}", fitter.events(), source);
  if (!options_.save.empty()) save_transforms(recipe_, options_.save, fitter.events(), context_.force());
}

void Job::need_selected(const Kernel& kernel) {
  if (kernel.selected() == 0 && kernel.read() > 0) fail(Exit::input, "no event is left: {}; loosen the cuts or give other input", kernel.report());
}

void Job::fit_on_files() {
  for (const auto& source : sources_)
    if (is_endpoint(source.path))
      fail(Exit::usage, "fitting reads the input twice, which '{}' does not allow: give a file, or fitted transforms by --with", source.path);
  Bad bad(options_.skip_bad);
  auto readers = open_all(bad);
  Kernel kernel(recipe_, particles_);
  const Rng rng = context_.rng();
  Fitter fitter(recipe_, rng);
  for_each_batch(readers, [&](Batch batch) {
    fitter.add(kernel.prepare(std::move(batch)), kernel);
    return true;
  });
  need_selected(kernel);
  fitted(fitter, sources_.size() == 1 ? "'" + sources_[0].path + "'" : fmt::format("{} files", sources_.size()));
}

void Job::files_to_stream() {
  for (const auto& source : sources_)
    if (!is_endpoint(source.path)) context_.depends_on(source.path);
  if (recipe_.needs_fit()) fit_on_files();

  Bad bad(options_.skip_bad);
  auto readers = open_all(bad);
  json inputs = json::array();
  for (std::size_t i = 0; i < readers.size(); ++i) {
    inputs.push_back(readers[i]->facts());
    inputs.back()["path"] = sources_[i].path;
  }
  Kernel kernel(recipe_, particles_);
  const auto writer = context_.open_writer(particles_ ? "particles/1" : "objects/1", nullptr, meta(inputs));

  // A selection can leave little of a batch: what is left is joined to batches of the usual size.
  std::vector<Batch> held;
  std::size_t bytes = 0;
  std::uint32_t events = 0;
  std::uint64_t seq = 0;
  const auto flush = [&] {
    if (held.empty()) return;
    Batch batch = held.size() == 1 ? std::move(held[0]) : concat(held);
    held.clear();
    bytes = events = 0;
    batch.seq = seq++;
    writer->write(batch);
  };
  for_each_batch(readers, [&](Batch batch) {
    batch = kernel.prepare(std::move(batch));
    kernel.add_features(batch, sources_.size() == 1 ? "'" + sources_[0].path + "'" : "input");
    if (batch.events == 0) return writer->wanted();
    if (events + batch.events > kBatchEvents || bytes + batch.bytes() > kBatchBytes + kBatchBytes / 4) flush();
    events += batch.events;
    bytes += batch.bytes();
    held.push_back(std::move(batch));
    if (events >= kBatchEvents || bytes >= kBatchBytes) flush();
    return writer->wanted();
  });
  if (writer->wanted()) {
    flush();
    need_selected(kernel);
  }
  if (bad.count() > 0) log::warn("skipped {} bad lines or events, of the {} that --skip-bad tolerates", bad.count(), options_.skip_bad);
  log::info("{}", kernel.report());
  writer->finish();
}

void Job::stream_to_stream() {
  const std::string& path = sources_[0].path;
  if (!read_.process.empty() || read_.label || read_.btag_cut || !read_.names.empty())
    fail(Exit::usage, "--process, --label, --names and --btag-cut are for files of other formats, '{}' is a stream", path);
  const std::vector<std::string> schemas{"objects/1", "particles/1"};
  if (recipe_.needs_fit()) {
    if (is_endpoint(path)) fail(Exit::usage, "fitting reads the input twice, which '{}' does not allow: give a file, or fitted transforms by --with", path);
    const auto reader = context_.open_reader(path, schemas);
    Kernel kernel(recipe_, reader->schema().starts_with("particles"));
    const Rng rng = context_.rng();
    Fitter fitter(recipe_, rng);
    while (auto batch = reader->next()) {
      context_.stop_if_asked();
      fitter.add(kernel.prepare(std::move(*batch)), kernel);
    }
    need_selected(kernel);
    fitted(fitter, "'" + path + "'");
  }
  const auto reader = context_.open_reader(path, schemas);
  Kernel kernel(recipe_, reader->schema().starts_with("particles"));
  const auto writer = context_.open_writer(reader->schema(), reader.get(), meta(json::array({{{"format", "stream"}, {"path", path}}})));
  writer->on_acknowledged([&](std::uint64_t seq) { reader->acknowledge(seq); });
  writer->relays(*reader);
  bool ended = false;
  while (writer->wanted()) {
    context_.stop_if_asked();
    auto batch = reader->next();
    if (!batch) {
      ended = true;
      break;
    }
    const std::uint64_t seq = batch->seq;
    // Features of another recipe would no longer fit what this one makes of the events.
    std::erase_if(batch->columns, [](const Column& c) { return c.name.starts_with("feature_") || c.name.starts_with("global_"); });
    Batch out = kernel.prepare(std::move(*batch));
    kernel.add_features(out, reader->where());
    out.seq = seq;
    writer->write(out);
  }
  if (!ended) reader->stop();
  // One of several workers on a socket may see none of the events that pass.
  if (ended && !is_socket(path)) need_selected(kernel);
  log::info("{}", kernel.report());
  writer->finish();
  if (ended) reader->close();
}

void Job::invert_stream() {
  if (sources_.size() != 1 || sources_[0].format != Format::stream) fail(Exit::usage, "--invert takes one stream that bl-preprocess wrote");
  const auto reader = context_.open_reader(sources_[0].path, {"objects/1", "particles/1"});
  const auto& known = reader->hello().meta;
  const auto features = features_of(known.value("transforms", json::array()), reader->where());
  if (features.empty()) fail(Exit::input, "{} has no transforms to invert: it was written without [feature.…] in a recipe", reader->where());
  const auto writer = context_.open_writer(reader->schema(), reader.get(), {{"transforms", json::array()}});
  writer->on_acknowledged([&](std::uint64_t seq) { reader->acknowledge(seq); });
  writer->relays(*reader);
  bool ended = false;
  while (writer->wanted()) {
    context_.stop_if_asked();
    auto batch = reader->next();
    if (!batch) {
      ended = true;
      break;
    }
    Kernel::invert(*batch, features, reader->where());
    writer->write(*batch);
  }
  if (!ended) reader->stop();
  writer->finish();
  if (ended) reader->close();
}

void Job::run() {
  if (options_.invert) return invert_stream();
  if (sources_.size() == 1 && sources_[0].format == Format::stream) return stream_to_stream();
  files_to_stream();
}

}  // namespace

void run(stage::Context& context, const Options& options) { Job(context, options).run(); }

}  // namespace bl::preprocess
