#include "models/classifier.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <numbers>
#include <numeric>

#include "base/error.hpp"
#include "base/rng.hpp"
#include "models/fingerprint.hpp"
#include "nn/arena.hpp"
#include "nn/ops/attention.hpp"
#include "nn/ops/elementwise.hpp"
#include "nn/ops/embedding.hpp"
#include "nn/ops/linear.hpp"
#include "nn/ops/loss.hpp"
#include "nn/ops/norm.hpp"
#include "nn/ops/rows.hpp"

namespace bl::models {
namespace {

using nn::Activation;
using nn::Group;

constexpr std::array<std::string_view, 3> kHeads{"class-attention", "sum", "mean"};
constexpr std::size_t class_feed_forward = 2;  // inner width of a block's feed-forward part, in units of dim
constexpr double init_deviation = 0.02;        // of embeddings, as in GPT-2

constexpr const char* settings_name = "the model's configuration";

// log softmax of each row of logits
std::vector<float> log_probabilities(std::vector<float> logits, std::size_t classes) {
  for (std::size_t start = 0; start < logits.size(); start += classes) {
    const auto row = std::span(logits).subspan(start, classes);
    const float largest = std::ranges::max(row);
    double sum = 0;
    for (const float x : row) sum += std::exp(static_cast<double>(x - largest));
    for (float& x : row) x = static_cast<float>(static_cast<double>(x - largest) - std::log(sum));
  }
  return logits;
}

}  // namespace

std::string_view name_of(Head head) { return kHeads.at(static_cast<std::size_t>(head)); }
std::vector<std::string> head_names() { return {kHeads.begin(), kHeads.end()}; }
Head head_named(std::string_view name) {
  const auto* const it = std::ranges::find(kHeads, name);
  if (it == kHeads.end()) fail(Exit::usage, "the head '{}' is not known; known are {}", name, fmt::join(kHeads, ", "));
  return static_cast<Head>(it - kHeads.begin());
}

void ClassifierConfig::validate() const {
  trunk.validate();
  if (trunk.classes != 0) fail(Exit::usage, "classifier: the trunk is told the class of a sequence, which is what it should find out");
  if (classes < 2 || classes > 65536) fail(Exit::usage, "classifier: classes is {}, allowed are 2 to 65536", classes);
  if (blocks < 1 || blocks > 100) fail(Exit::usage, "classifier: blocks is {}, allowed are 1 to 100", blocks);
  if (!(dropout >= 0 && dropout < 1)) fail(Exit::usage, "classifier: dropout is {}, allowed is 0 to below 1", dropout);
  for (const InputVariable& v : variables) {
    const bool good = !v.name.empty() && std::ranges::all_of(v.name, [](char c) {
      return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
    });
    if (!good) fail(Exit::usage, "classifier: the variable '{}' is not named by letters, digits and _", v.name);
    if (std::ranges::count(variables, v.name, &InputVariable::name) > 1) fail(Exit::usage, "classifier: the variable '{}' is there twice", v.name);
    if (!std::isfinite(v.mean) || !std::isfinite(v.scale) || v.scale <= 0)
      fail(Exit::usage, "classifier: the variable '{}' has mean {} and scale {}, allowed are finite numbers, the scale above 0", v.name, v.mean, v.scale);
  }
}

std::map<std::string, std::string> ClassifierConfig::to_map() const {
  auto map = prefixed("trunk/", trunk.to_map());
  map["head"] = name_of(head);
  map["classes"] = fmt::format("{}", classes);
  map["blocks"] = fmt::format("{}", blocks);
  map["dropout"] = fmt::format("{}", dropout);
  if (variables.empty()) return map;  // as files from before there were any
  std::vector<std::string_view> names;
  for (const InputVariable& v : variables) {
    names.push_back(v.name);
    map[fmt::format("variables/{}/mean", v.name)] = fmt::format("{}", v.mean);
    map[fmt::format("variables/{}/scale", v.name)] = fmt::format("{}", v.scale);
  }
  map["variables"] = fmt::format("{}", fmt::join(names, ","));
  return map;
}

ClassifierConfig ClassifierConfig::from_map(const std::map<std::string, std::string>& map) {
  ClassifierConfig c;
  c.trunk = GptConfig::from_map(texts_below("trunk/", map));
  c.classes = number<std::uint32_t>(map, "classes", settings_name);
  c.blocks = number<std::uint32_t>(map, "blocks", settings_name);
  c.dropout = number<double>(map, "dropout", settings_name);
  if (const auto names = map.find("variables"); names != map.end())
    for (std::size_t at = 0; at <= names->second.size();) {
      const std::size_t end = std::min(names->second.find(',', at), names->second.size());
      InputVariable v;
      v.name = names->second.substr(at, end - at);
      v.mean = number<double>(map, fmt::format("variables/{}/mean", v.name), settings_name);
      v.scale = number<double>(map, fmt::format("variables/{}/scale", v.name), settings_name);
      c.variables.push_back(std::move(v));
      at = end + 1;
    }
  const auto head = map.find("head");
  if (head == map.end()) fail(Exit::input, "{} lacks 'head'", settings_name);
  try {
    c.head = head_named(head->second);
    c.validate();
  } catch (const Error& e) {
    fail(Exit::input, "{} is not valid: {}", settings_name, e.what());
  }
  return c;
}

void Examples::check(const ClassifierConfig& config, std::uint64_t first) const {
  check(config.trunk, first);
  for (std::size_t e = 0; e < labels.size(); ++e)
    if (labels[e] < 0 || static_cast<std::uint32_t>(labels[e]) >= config.classes)
      fail(Exit::input, "event {}: class {} is out of the model's {} classes", first + e, labels[e], config.classes);
  const std::size_t width = config.variables.size();
  if (width == 0) return;
  if (variables.size() != events() * width)
    fail(Exit::input, "the model reads {} variables of each of the {} events from {} on, {} of them in all, and {} are given", width, events(), first,
         events() * width, variables.size());
  for (std::size_t i = 0; i < variables.size(); ++i)
    if (!std::isfinite(variables[i]))
      fail(Exit::input, "event {}: the variable '{}' is {}, not a finite number", first + i / width, config.variables[i % width].name, variables[i]);
}

void ClassifierInput::clear() {
  rows.clear();
  queries.assign(1, 0);
  last.clear();
  zeros.clear();
  labels.clear();
  variables.clear();
}

void ClassifierInput::add(const ClassifierConfig& config, const Examples& from, std::size_t event, std::int32_t label) {
  rows.add(config.trunk, from.tokens_of(event));
  queries.push_back(queries.back() + 1);
  last.push_back(rows.offsets.back() - 1);
  zeros.push_back(0);
  labels.push_back(label);
  for (std::size_t k = 0; k < config.variables.size(); ++k) {
    const InputVariable& v = config.variables[k];
    variables.push_back(static_cast<float>((static_cast<double>(from.variables_of(event)[k]) - v.mean) * v.scale));
  }
}

template <class T>
Classifier<T>::Classifier(const ClassifierConfig& config) : config_(config) {
  config_.validate();
  const std::size_t dim = config.trunk.dim;
  trunk_ = add_trunk(params_, config.trunk);
  const auto layer = [&](const std::string& name, std::size_t out, std::size_t in, nn::Param& weight, nn::Param& bias) {
    weight = params_.add(name + "/weight", out, in, Group::weight);
    bias = params_.add(name + "/bias", 1, out, Group::bias);
  };
  const auto norm = [&](const std::string& name, nn::Param& weight, nn::Param& bias) {
    weight = params_.add(name + "/weight", 1, dim, Group::norm);
    bias = params_.add(name + "/bias", 1, dim, Group::norm);
  };
  switch (config.head) {
    case Head::class_attention:
      class_token_ = params_.add("tagger/token", 1, dim, Group::embedding);
      for (std::uint32_t k = 0; k < config.blocks; ++k) {
        const std::string prefix = fmt::format("tagger/{}/", k);
        ClassBlock b;
        norm(prefix + "norm1", b.norm1_weight, b.norm1_bias);
        layer(prefix + "query", dim, dim, b.query_weight, b.query_bias);
        layer(prefix + "key_value", 2 * dim, dim, b.key_value_weight, b.key_value_bias);
        layer(prefix + "out", dim, dim, b.out_weight, b.out_bias);
        norm(prefix + "norm2", b.norm2_weight, b.norm2_bias);
        layer(prefix + "up", class_feed_forward * dim, dim, b.up_weight, b.up_bias);
        layer(prefix + "down", dim, class_feed_forward * dim, b.down_weight, b.down_bias);
        blocks_.push_back(b);
      }
      norm("tagger/norm", norm_weight_, norm_bias_);
      break;
    case Head::sum: layer("tagger/hidden", dim, dim, hidden_weight_, hidden_bias_); break;
    case Head::mean: layer("tagger/hidden", dim, 2 * dim, hidden_weight_, hidden_bias_); break;
  }
  layer("tagger/out", config.classes, dim, out_weight_, out_bias_);
  if (!config.variables.empty()) {
    const SetClassifierConfig network = variables_network(config.variables.size(), config.classes);
    const auto add = [&](const std::string& name, std::size_t out, std::size_t in) {
      Layer& l = variables_.emplace_back();
      layer("tagger/variables/" + name, out, in, l.weight, l.bias);
    };
    for (std::uint32_t l = 0; l < network.layers; ++l) add(fmt::format("{}", l), network.dim, l == 0 ? network.features : network.dim);
    add("out", config.classes, network.dim);
  }
  params_.allocate();
  init_norms(params_);
}

template <class T>
void Classifier<T>::init(std::uint64_t seed) {
  init_trunk(params_, trunk_, config_.trunk, seed);
  if (config_.head == Head::class_attention) params_.init_normal(class_token_, seed, init_deviation);
  else params_.init_normal(hidden_weight_, seed, 1 / std::sqrt(static_cast<double>(hidden_weight_.width)));
  for (const ClassBlock& b : blocks_) {
    for (const nn::Param& p : {b.query_weight, b.key_value_weight, b.out_weight, b.up_weight, b.down_weight})
      params_.init_normal(p, seed, 1 / std::sqrt(static_cast<double>(p.width)));
  }
  // As in a SetClassifier, but that the last layer starts at zero.
  for (std::size_t l = 0; l + 1 < variables_.size(); ++l)
    params_.init_normal(variables_[l].weight, seed, std::sqrt(2 / static_cast<double>(variables_[l].weight.width)));
}

template <class T>
void Classifier<T>::begin_variables(const SetClassifier<float>& network) {
  const SetClassifierConfig& theirs = network.config();
  const bool alike = theirs.kind == SetKind::dense && theirs.features == config_.variables.size() && theirs.classes == config_.classes;
  bl::check(alike && network.params().list().size() == 2 * variables_.size(), "classifier: the branch on variables is of another shape than the network");
  for (std::size_t k = 0; k < config_.variables.size(); ++k)
    bl::check(config_.variables[k].mean == network.means()[k] && config_.variables[k].scale == network.scales()[k],
              "classifier: the variables are standardised otherwise than those of the network");
  for (std::size_t l = 0; l < variables_.size(); ++l) {
    const std::string name = l + 1 < variables_.size() ? fmt::format("rows/{}", l) : std::string("out");
    for (const auto& [to, part] : {std::pair<nn::Param, const char*>{variables_[l].weight, "/weight"}, {variables_[l].bias, "/bias"}}) {
      const nn::ParamInfo* from = network.params().find(name + part);
      bl::check(from != nullptr && from->at.rows == to.rows && from->at.width == to.width,
                "classifier: a layer on variables is of another shape than the network's");
      std::ranges::transform(network.params().of(from->at), params_.of(to).begin(), [](float x) { return static_cast<T>(x); });
    }
  }
}

template <class T>
nn::Var<T> Classifier<T>::pooled(nn::Tape<T>& tape, nn::Var<T> h, const ClassifierInput& input) const {
  const auto layer = [&](nn::Var<T> x, const nn::Param& weight, const nn::Param& bias, Activation act = Activation::none, nn::Var<T> residual = nullptr) {
    return nn::linear(tape, x, tape.param(weight), tape.param(bias), act, residual);
  };
  const auto norm = [&](nn::Var<T> x, const nn::Param& weight, const nn::Param& bias) { return nn::layer_norm(tape, x, tape.param(weight), tape.param(bias)); };
  const std::span<const std::int32_t> offsets = input.rows.offsets;
  switch (config_.head) {
    case Head::sum: return nn::segment_sum(tape, layer(h, hidden_weight_, hidden_bias_, Activation::relu), offsets);
    case Head::mean: {
      const std::array<nn::Var<T>, 2> parts{nn::segment_mean(tape, h, offsets), nn::gather_rows<T>(tape, h, input.last)};
      return layer(nn::concat_columns<T>(tape, parts), hidden_weight_, hidden_bias_, Activation::gelu);
    }
    case Head::class_attention: break;
  }
  const std::array<nn::Lookup<T>, 1> token{{{tape.param(class_token_), input.zeros.data()}}};
  nn::Var<T> c = nn::embedding<T>(tape, input.zeros.size(), token);
  for (const ClassBlock& b : blocks_) {
    const nn::Var<T> q = layer(norm(c, b.norm1_weight, b.norm1_bias), b.query_weight, b.query_bias);
    const nn::Var<T> kv = layer(h, b.key_value_weight, b.key_value_bias);
    c = layer(nn::cross_attention<T>(tape, q, kv, input.queries, offsets, config_.trunk.heads), b.out_weight, b.out_bias, Activation::none, c);
    const nn::Var<T> up = layer(norm(c, b.norm2_weight, b.norm2_bias), b.up_weight, b.up_bias, Activation::gelu);
    c = layer(up, b.down_weight, b.down_bias, Activation::none, c);
  }
  return norm(c, norm_weight_, norm_bias_);
}

template <class T>
nn::Var<T> Classifier<T>::logits(nn::Tape<T>& tape, const ClassifierInput& input) const {
  const nn::Var<T> h = states(tape, trunk_, config_.trunk, input.rows);
  const nn::Var<T> x = nn::dropout(tape, pooled(tape, h, input), config_.dropout);
  const nn::Var<T> by_tokens = nn::linear(tape, x, tape.param(out_weight_), tape.param(out_bias_));
  if (variables_.empty()) return by_tokens;
  T* const values = tape.arena().template take<T>(input.variables.size());
  std::ranges::transform(input.variables, values, [](float v) { return static_cast<T>(v); });
  nn::Var<T> v = tape.input(values, input.labels.size(), config_.variables.size());
  for (std::size_t l = 0; l + 1 < variables_.size(); ++l)
    v = nn::linear(tape, v, tape.param(variables_[l].weight), tape.param(variables_[l].bias), Activation::relu);
  return nn::linear(tape, v, tape.param(variables_.back().weight), tape.param(variables_.back().bias), Activation::none, by_tokens);
}

template <class T>
double Classifier<T>::loss(nn::Tape<T>& tape, const ClassifierInput& input, double scale) const {
  if (input.labels.empty()) return 0;
  return nn::cross_entropy<T>(tape, logits(tape, input), input.labels, scale);
}

SetClassifierConfig variables_network(std::size_t variables, std::size_t classes) {
  SetClassifierConfig c;
  c.kind = SetKind::dense;
  c.features = static_cast<std::uint32_t>(variables);
  c.classes = static_cast<std::uint32_t>(classes);
  c.dim = 64;
  c.layers = 2;
  return c;
}

template class Classifier<float>;
template class Classifier<double>;

Texts Classification::settings() const {
  Texts settings = model_.config().to_map();
  settings["objective"] = kind();
  return settings;
}

void Classification::reserve(std::size_t shards) {
  if (inputs_.size() < shards) inputs_.resize(shards);
}

void Classification::pack(std::size_t s, const Examples& from, std::span<const std::uint32_t> events, const Masker&, std::uint64_t) {
  ClassifierInput& input = inputs_[s];
  input.clear();
  for (const std::uint32_t e : events) input.add(model_.config(), from, e, from.labels[e]);
}

void Classification::put_fingerprint(State& state, std::span<const float> weights, Pool& pool) const {
  Classifier<float> used(model_.config());
  std::ranges::copy(weights, used.params().values().begin());
  Examples examples = fingerprint_examples(model_.config().trunk);
  const std::vector<InputVariable>& variables = model_.config().variables;
  const Rng rng(7, "fingerprint of variables");
  for (std::uint64_t e = 0; e < examples.events(); ++e)
    for (std::uint64_t k = 0; k < variables.size(); ++k)
      examples.variables.push_back(static_cast<float>(variables[k].mean + rng.normal(e, k) / variables[k].scale));
  put_fingerprint_examples(state, examples);
  if (!variables.empty()) state.put("fingerprint/variables", examples.variables);
  state.put("fingerprint/log_probability", log_probabilities(ClassifierScorer(used, pool).logits(examples), model_.config().classes));
}

std::unique_ptr<Classifier<float>> load_classifier(const State& state) {
  auto model = std::make_unique<Classifier<float>>(ClassifierConfig::from_map(texts_below("model/", state.texts)));
  load_weights(state, model->params());
  Examples examples = stored_examples(state);
  if (const std::size_t n = model->config().variables.size(); n > 0)
    examples.variables = state.values_of<float>("fingerprint/variables", fingerprint_events * n);
  examples.check(model->config());
  Pool pool(1);
  compare_answers(state, log_probabilities(ClassifierScorer(*model, pool).logits(examples), model->config().classes));
  return model;
}

LoadReport load_pretrained(const State& state, nn::Params<float>& params) {
  constexpr std::string_view prefix = "weights/";
  LoadReport report;
  for (const nn::ParamInfo& p : params.list()) {
    const NamedArray* array = state.find(std::string(prefix) + p.name);
    const auto* values = array == nullptr ? nullptr : std::get_if<std::vector<float>>(&array->values);
    const bool fits = values != nullptr && values->size() == p.at.size() && !array->shape.empty() && array->shape.back() == p.at.width;
    if (fits) {
      std::ranges::copy(*values, params.of(p.at).begin());
      report.loaded.push_back(p.name);
      report.loaded_parameters += p.at.size();
    } else {
      report.fresh.push_back(p.name);
      report.fresh_parameters += p.at.size();
    }
  }
  for (const NamedArray& array : state.arrays) {
    if (!array.name.starts_with(prefix)) continue;
    const std::string name = array.name.substr(prefix.size());
    if (std::ranges::find(report.loaded, name) != report.loaded.end()) continue;
    report.skipped.push_back(name);
    report.skipped_parameters += std::visit([](const auto& v) { return v.size(); }, array.values);
  }
  if (report.loaded.empty())
    fail(Exit::input, "none of the {} arrays of the pre-trained model fits one of the {} of this model: they are {} … there and {} … here",
         report.skipped.size(), params.list().size(), report.skipped.empty() ? "none" : report.skipped.front(), params.list().front().name);
  const nn::ParamInfo* position = params.find("gpt/position");
  const NamedArray* classes = state.find("weights/gpt/class");
  const auto* rows = classes == nullptr ? nullptr : std::get_if<std::vector<float>>(&classes->values);
  if (rows != nullptr && position != nullptr && params.find("gpt/class") == nullptr && rows->size() % position->at.width == 0 && !rows->empty()) {
    const std::size_t width = position->at.width, n = rows->size() / width;
    for (std::size_t c = 0; c < width; ++c) {
      double sum = 0;
      for (std::size_t k = 0; k < n; ++k) sum += static_cast<double>((*rows)[k * width + c]);
      const auto mean = static_cast<float>(sum / static_cast<double>(n));
      for (std::size_t r = 0; r < position->at.rows; ++r) params.of(position->at)[r * width + c] += mean;
    }
  }
  return report;
}

void embed_codebook(nn::Params<float>& params, const GptTrunk& trunk, std::span<const float> vectors, std::size_t width, std::uint64_t seed) {
  const std::size_t codes = width == 0 ? 0 : vectors.size() / width, dim = trunk.token.width;
  if (codes == 0 || codes * width != vectors.size()) fail(Exit::input, "the codebook has no vectors to begin an embedding with");
  if (codes + 3 > trunk.token.rows)
    fail(Exit::input, "the codebook has {} codes, and the model {} ids with start and stop: they do not belong together", codes, trunk.token.rows);
  // Standardised: features of another unit, or latent directions that are hardly used, count alike.
  std::vector<double> mean(width, 0), scale(width, 0);
  for (std::size_t i = 0; i < vectors.size(); ++i) mean[i % width] += static_cast<double>(vectors[i]) / static_cast<double>(codes);
  for (std::size_t i = 0; i < vectors.size(); ++i) {
    const double d = static_cast<double>(vectors[i]) - mean[i % width];
    scale[i % width] += d * d / static_cast<double>(codes);
  }
  std::size_t used = 0;
  for (double& s : scale) {
    used += s > 0;
    s = s > 0 ? 1 / std::sqrt(s) : 0;
  }
  // Linear terms alone leave what is near alike in every direction; sines of three wavelengths tell it apart (random Fourier
  // features, Rahimi and Recht 2007). Elements of order 1, not of the 0.02 of init: Adam moves an element by about the learning
  // rate a step, and a hundred steps would wipe out a small embedding.
  const Rng rng(seed, "embedding from codebook");
  constexpr std::size_t waves = 96;
  const std::size_t terms = width + waves;
  const double frequency = 2 / std::sqrt(static_cast<double>(std::max<std::size_t>(used, 1)));
  const double deviation = 1 / std::sqrt(static_cast<double>(used) + waves / 2.0);  // features have variance 1, sines 1/2
  std::vector<double> directions(waves * width), phases(waves), projection(terms * dim), features(terms);
  for (std::size_t i = 0; i < directions.size(); ++i) directions[i] = frequency * static_cast<double>(1U << (i / width % 3)) * rng.normal(1, i);
  for (std::size_t i = 0; i < waves; ++i) phases[i] = 2 * std::numbers::pi * rng.uniform(2, i);
  for (std::size_t i = 0; i < projection.size(); ++i) projection[i] = deviation * rng.normal(0, i);
  const std::span<float> table = params.of(trunk.token);
  for (std::size_t k = 0; k < codes; ++k) {
    for (std::size_t w = 0; w < width; ++w) features[w] = (static_cast<double>(vectors[k * width + w]) - mean[w]) * scale[w];
    for (std::size_t i = 0; i < waves; ++i) {
      double angle = phases[i];
      for (std::size_t w = 0; w < width; ++w) angle += directions[i * width + w] * features[w];
      features[width + i] = std::sin(angle);
    }
    for (std::size_t d = 0; d < dim; ++d) {
      double sum = 0;
      for (std::size_t t = 0; t < terms; ++t) sum += features[t] * projection[t * dim + d];
      table[(k + 1) * dim + d] = static_cast<float>(sum);
    }
  }
}

ClassifierScorer::ClassifierScorer(const Classifier<float>& model, Pool& pool)
    : model_(model), pool_(pool), packed_(model.params(), nn::Precision::f32, nn::Use::inference), arenas_(pool.threads()), inputs_(pool.threads()) {
  packed_.update(pool, model.params().values().data());
}

std::vector<float> ClassifierScorer::logits(const Examples& data) {
  std::vector<std::uint32_t> all(data.events());
  std::iota(all.begin(), all.end(), 0u);
  return logits(data, all);
}

std::vector<float> ClassifierScorer::logits(const Examples& data, std::span<const std::uint32_t> events) {
  // Tasks of whole sequences with about so many rows: enough for a matrix product, small enough for a cache.
  constexpr std::size_t target = 1024;
  const std::size_t classes = model_.config().classes;
  std::vector<std::size_t> starts{0};
  std::size_t load = 0;
  for (std::size_t i = 0; i < events.size(); ++i) {
    const std::size_t n = data.length(events[i]) + 1;
    if (load > 0 && load + n > target) {
      starts.push_back(i);
      load = 0;
    }
    load += n;
  }
  starts.push_back(events.size());
  std::vector<float> result(events.size() * classes);
  const auto task = [&](std::size_t t, std::size_t worker) {
    ClassifierInput& input = inputs_[worker];
    input.clear();
    for (std::size_t i = starts[t]; i < starts[t + 1]; ++i) input.add(model_.config(), data, events[i], 0);
    if (input.labels.empty()) return;
    arenas_[worker].reset();
    nn::Tape<float> tape(arenas_[worker], model_.params());
    tape.use(&packed_);
    const nn::Var<float> y = model_.logits(tape, input);
    std::copy_n(y->value, y->size(), result.data() + starts[t] * classes);
  };
  pool_.run(starts.size() - 1, std::ref(task));
  return result;
}

}  // namespace bl::models
