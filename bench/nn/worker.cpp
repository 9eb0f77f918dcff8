// The engine's side of compare.py: does one piece of work for each line it reads, and says what that took. Between the
// lines it sleeps, so that this program and its peers can take turns on one machine.
//
//   bench_worker gpt|encoder --data FILE [--threads N] [--dim D] [--precision f32|bf16] [--weights FILE]
//
// --data: little-endian int32, written by compare.py: number of batches, then for each batch the number of sequences, the
// lengths, the places of the hidden tokens, and all tokens. --weights: the starting weights are written there, a line of
// JSON with names and sizes and then all values (f32), so that a peer computes the same.
// Lines read, and the JSON lines answered:
//   train B       one step on batch B; encoder: train B one|all (which tokens are targets: the hidden one, or all)
//   score B       log-probability of the hidden token of each event of batch B (encoder)
//   latency B     the same event by event; microseconds of each
//   breakdown B   where the time of a step goes (gpt, one thread)
//   generate N    N sequences of 128 tokens, all at once (gpt; start and stop are not drawn)
//   jets N        8 N sequences (at least 64) that stop, after 48 tokens or so, N at once (gpt)
//   greedy N      the most probable 128 tokens, N times one after the other; mean log p and the sum of the ids
//   peak          GFLOP/s of the FMA peak (f32)
//   product       GFLOP/s of one square product of 2048 (f32): what the library of matrix products makes of that peak
//   memory        bytes: largest resident set so far, and at the start
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/resource.h>
#include <time.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <iostream>
#include <map>
#include <memory>
#include <numeric>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "base/rng.hpp"
#include "breakdown.hpp"
#include "models/generator.hpp"
#include "models/trainer.hpp"
#include "nn/gemm.hpp"
#include "nn/kernels.hpp"
#include "nn/packed.hpp"
#include "peak.hpp"

namespace bl::bench {
namespace {

constexpr std::uint32_t encoder_vocabulary = 967;  // ids of events/tokens, the last one hides

struct Options {
  std::string model, data, weights;
  nn::Precision precision = nn::Precision::f32;
  std::size_t threads = 1;
  std::uint32_t dim = 256;
};

struct Batch {
  std::vector<std::int32_t> lengths, hidden, tokens;
};

std::vector<Batch> read_data(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error(path + " cannot be read");
  const auto take = [&](std::size_t n) {
    std::vector<std::int32_t> values(n);
    if (!file.read(reinterpret_cast<char*>(values.data()), static_cast<std::streamsize>(n * sizeof(std::int32_t)))) throw std::runtime_error(path + " is cut");
    return values;
  };
  std::vector<Batch> batches(static_cast<std::size_t>(take(1)[0]));
  for (Batch& b : batches) {
    const auto n = static_cast<std::size_t>(take(1)[0]);
    b.lengths = take(n);
    b.hidden = take(n);
    b.tokens = take(static_cast<std::size_t>(std::accumulate(b.lengths.begin(), b.lengths.end(), 0)));
  }
  return batches;
}

void write_weights(const std::string& path, const nn::Params<float>& params) {
  std::vector<std::string> entries;
  for (const nn::ParamInfo& p : params.list()) entries.push_back(fmt::format("[\"{}\",{},{}]", p.name, p.at.rows, p.at.width));
  std::ofstream file(path, std::ios::binary);
  file << fmt::format("[{}]\n", fmt::join(entries, ","));
  for (const nn::ParamInfo& p : params.list())
    file.write(reinterpret_cast<const char*>(params.of(p.at).data()), static_cast<std::streamsize>(p.at.size() * sizeof(float)));
  if (!file) throw std::runtime_error(path + " cannot be written");
}

double seconds(clockid_t clock) {
  timespec t{};
  clock_gettime(clock, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

// The largest resident set of this process so far.
double peak_memory() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return 1024.0 * static_cast<double>(usage.ru_maxrss);
}

// Processor and wall seconds of f as the start of a JSON object.
template <class F>
std::string timed(const F& f) {
  const double cpu = seconds(CLOCK_PROCESS_CPUTIME_ID), wall = seconds(CLOCK_MONOTONIC);
  f();
  return fmt::format("\"cpu\":{:.6f},\"wall\":{:.6f}", seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu, seconds(CLOCK_MONOTONIC) - wall);
}

double product_speed() {
  constexpr std::size_t n = 2048;
  nn::Aligned<float> a(n * n), c(n * n);
  std::ranges::fill(std::span(a.data(), a.size()), 0.5f);
  double best = 0;
  for (int i = 0; i < 4; ++i) {
    const double start = seconds(CLOCK_PROCESS_CPUTIME_ID);
    nn::gemm(nn::Trans::no, nn::Trans::yes, n, n, n, a.data(), n, a.data(), n, c.data(), n, false);
    best = std::max(best, 2e-9 * n * n * n / (seconds(CLOCK_PROCESS_CPUTIME_ID) - start));
  }
  return best;
}

class GptWork {
 public:
  GptWork(const Options& options, const std::vector<Batch>& batches) : pool_(options.threads), trainer_(config(options), training(options, batches), pool_) {
    if (!options.weights.empty()) write_weights(options.weights, trainer_.params());
    for (const Batch& b : batches) {
      models::Examples& data = batches_.emplace_back();
      data.tokens = b.tokens;
      for (const std::int32_t n : b.lengths) data.offsets.push_back(data.offsets.back() + static_cast<std::uint64_t>(n));
      data.check(trainer_.gpt().config());
    }
  }
  std::string answer(const std::string& verb, std::size_t batch, const std::string&) {
    if (verb == "generate" || verb == "greedy" || verb == "jets") return generate(verb, batch);
    const models::Examples& data = batches_.at(batch);
    if (verb == "breakdown") return breakdown(trainer_.gpt(), data);
    if (verb != "train") throw std::runtime_error("gpt: no verb " + verb);
    std::vector<std::uint32_t> all(data.events());
    std::iota(all.begin(), all.end(), 0u);
    models::StepResult result;
    const std::string times = timed([&] { result = trainer_.step(data, all); });
    double pairs = 0;
    for (std::size_t i = 0; i < data.events(); ++i) pairs += static_cast<double>((data.length(i) + 1) * (data.length(i) + 1));
    return fmt::format("{{{},\"tokens\":{},\"flops\":{:.6g},\"loss\":{:.7f}}}", times, result.tokens,
                       trainer_.gpt().training_flops(static_cast<double>(result.tokens), pairs), result.loss);
  }

 private:
  static models::GptConfig config(const Options& options) {
    models::GptConfig c;
    c.dim = options.dim;
    return c;
  }
  static models::TrainerConfig training(const Options& options, const std::vector<Batch>& batches) {
    models::TrainerConfig c;
    c.precision = options.precision;
    c.beta2 = 0.95;
    c.clip = 0;
    c.schedule = nn::Schedule::Kind::constant;
    c.warmup = 0;
    c.lanes = 4;
    // Shards of about a thousand rows: enough for a product, few enough for a cache.
    const double rows = batches.empty() ? 0 : 1 + static_cast<double>(batches[0].tokens.size()) / static_cast<double>(batches[0].lengths.size());
    c.shard = static_cast<std::uint32_t>(std::max(1.0, std::round(1024 / std::max(1.0, rows))));
    return c;
  }
  std::string generate(const std::string& verb, std::size_t at_once) {
    const bool greedy = verb == "greedy", jets = verb == "jets";
    const std::size_t sequences = jets ? std::max<std::size_t>(64, 8 * at_once) : at_once;
    models::GeneratorConfig c;
    c.batch = greedy ? 1 : static_cast<std::uint32_t>(at_once);
    if (!jets) c.never = {trainer_.gpt().config().stop_id()};
    c.sampling.top_k = greedy ? 1 : 0;
    c.keep_log_probability = greedy;
    if (jets && !stopping_) {
      stopping_ = std::make_unique<models::GptModel<float>>(trainer_.gpt().config());
      std::ranges::copy(trainer_.params().values(), stopping_->params().values().begin());
      const nn::Param& bias = stopping_->parts().head_bias;
      stopping_->params().of(bias)[bias.width - 1] = std::log(static_cast<float>(bias.width) / 48);  // all others are about as probable
    }
    auto& generator = generators_[verb + std::to_string(at_once)];
    if (!generator) {
      generator = std::make_unique<models::Generator>(jets ? *stopping_ : trainer_.gpt(), c, Rng(1, "bl-generate"), pool_);
      generator->generate(0, at_once);  // takes its memory
    }
    std::vector<models::Sequence> made;
    const std::string times = timed([&] { made = generator->generate(0, sequences); });
    double tokens = 0, sum = 0, logp = 0;
    for (const models::Sequence& s : made) {
      tokens += static_cast<double>(s.tokens.size());
      for (const std::int32_t t : s.tokens) sum += t;
      for (const float l : s.log_probability) logp += static_cast<double>(l);
    }
    return fmt::format("{{{},\"sequences\":{},\"tokens\":{},\"ids\":{},\"logp\":{:.7f}}}", times, made.size(), tokens, sum, logp / tokens);
  }

  Pool pool_;
  models::Trainer trainer_;
  std::vector<models::Examples> batches_;
  std::unique_ptr<models::GptModel<float>> stopping_;  // the same, and it stops
  std::map<std::string, std::unique_ptr<models::Generator>> generators_;
};

class EncoderWork {
 public:
  EncoderWork(const Options& options, const std::vector<Batch>& batches)
      : pool_(options.threads), trainer_(config(options), training(options, batches), pool_) {
    if (!options.weights.empty()) write_weights(options.weights, trainer_.model().params());
    for (const Batch& b : batches) {
      models::Examples& data = batches_.emplace_back();
      data.tokens = b.tokens;
      for (std::size_t e = 0; e < b.lengths.size(); ++e) {
        for (std::int32_t i = 0; i < b.lengths[e]; ++i) {
          data.positions.push_back(i);
          data.mask.push_back(i == b.hidden[e]);
        }
        data.offsets.push_back(data.positions.size());
      }
      data.check(trainer_.model().config());
    }
  }
  std::string answer(const std::string& verb, std::size_t batch, const std::string& targets) {
    models::Examples& data = batches_.at(batch);
    if (verb == "train") {
      scorer_.reset();  // of other weights
      return train(data, targets == "all");
    }
    if (!scorer_) scorer_.emplace(trainer_.model(), pool_);
    std::vector<float> scores;
    std::string result;
    if (verb == "score") {
      result = timed([&] { scores = scorer_->token_log_probabilities(data, data.mask); });
    } else if (verb == "latency") {
      std::vector<double> each;
      models::Examples one;
      for (std::size_t e = 0; e < data.events(); ++e) {
        const auto from = static_cast<std::ptrdiff_t>(data.offsets[e]), to = static_cast<std::ptrdiff_t>(data.offsets[e + 1]);
        one.tokens.assign(data.tokens.begin() + from, data.tokens.begin() + to);
        one.positions.assign(data.positions.begin() + from, data.positions.begin() + to);
        one.mask.assign(data.mask.begin() + from, data.mask.begin() + to);
        one.offsets = {0, one.tokens.size()};
        const double start = seconds(CLOCK_MONOTONIC);
        const std::vector<float> score = scorer_->token_log_probabilities(one, one.mask);
        each.push_back(1e6 * (seconds(CLOCK_MONOTONIC) - start));
        scores.insert(scores.end(), score.begin(), score.end());
      }
      result = fmt::format("\"microseconds\":[{:.1f}]", fmt::join(each, ","));
    } else {
      throw std::runtime_error("encoder: no verb " + verb);
    }
    double sum = 0;
    for (const float s : scores) sum += static_cast<double>(s);
    return fmt::format("{{{},\"events\":{},\"tokens\":{},\"score\":{:.7f}}}", result, data.events(), data.tokens.size(),
                       sum / static_cast<double>(data.events()));
  }

 private:
  static models::EncoderConfig config(const Options& options) {
    models::EncoderConfig c;
    c.vocabulary = encoder_vocabulary;
    c.mask_id = encoder_vocabulary - 1;
    c.dim = options.dim;
    c.heads = options.dim == 64 ? 4 : 8;
    c.layers = 6;
    return c;
  }
  static models::TrainerConfig training(const Options& options, const std::vector<Batch>& batches) {
    models::TrainerConfig c;
    c.precision = options.precision;
    for (const Batch& b : batches) c.batch = std::max(c.batch, static_cast<std::uint32_t>(b.lengths.size()));
    return c;
  }
  std::string train(models::Examples& data, bool all) {
    std::vector<std::uint32_t> events(data.events());
    std::iota(events.begin(), events.end(), 0u);
    const auto mask = [all, &data](std::size_t event, std::uint64_t, std::span<std::uint8_t> to) {
      if (all) std::ranges::fill(to, std::uint8_t{1});
      else std::copy_n(data.mask.begin() + static_cast<std::ptrdiff_t>(data.offsets[event]), to.size(), to.begin());
    };
    models::StepResult result;
    const std::string times = timed([&] { result = trainer_.step(data, events, mask); });
    double pairs = 0;
    for (std::size_t e = 0; e < data.events(); ++e) {
      const auto n = static_cast<double>(data.offsets[e + 1] - data.offsets[e]);
      pairs += n * n;
    }
    const double flops = trainer_.model().training_flops(static_cast<double>(result.tokens), pairs, static_cast<double>(result.targets));
    return fmt::format("{{{},\"tokens\":{},\"flops\":{:.6g},\"loss\":{:.7f}}}", times, result.tokens, flops, result.loss);
  }

  Pool pool_;
  models::Trainer trainer_;
  std::optional<models::Scorer> scorer_;
  std::vector<models::Examples> batches_;
};

template <class Work>
void serve(const Options& options) {
  const double memory_at_start = peak_memory();
  Work work(options, read_data(options.data));
  std::cout << fmt::format("{{\"engine\":\"beamline\",\"products\":\"{}\",\"kernels\":\"{}\"}}", nn::product_backend(options.precision), nn::kernel_target())
            << std::endl;
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream words(line);
    std::string verb, targets;
    std::size_t batch = 0;
    words >> verb;
    if (verb == "peak") {
      std::cout << fmt::format("{{\"gflops\":{:.2f}}}", fma_peak(0.2)) << std::endl;
    } else if (verb == "product") {
      std::cout << fmt::format("{{\"gflops\":{:.2f}}}", product_speed()) << std::endl;
    } else if (verb == "memory") {
      std::cout << fmt::format("{{\"peak\":{:.0f},\"start\":{:.0f}}}", peak_memory(), memory_at_start) << std::endl;
    } else {
      if (!(words >> batch)) throw std::runtime_error("a line without a batch: " + line);
      words >> targets;
      std::cout << work.answer(verb, batch, targets) << std::endl;
    }
  }
}

Options parse(int argc, char** argv) {
  Options o;
  if (argc > 1) o.model = argv[1];
  for (int i = 2; i + 1 < argc; i += 2) {
    const std::string name = argv[i], value = argv[i + 1];
    if (name == "--data") o.data = value;
    else if (name == "--weights") o.weights = value;
    else if (name == "--precision") o.precision = nn::precision_named(value);
    else if (name == "--threads") o.threads = std::stoul(value);
    else if (name == "--dim") o.dim = static_cast<std::uint32_t>(std::stoul(value));
    else throw std::invalid_argument("no option " + name);
  }
  if ((o.model != "gpt" && o.model != "encoder") || argc % 2 != 0 || o.data.empty()) throw std::invalid_argument("wrong arguments");
  return o;
}

}  // namespace
}  // namespace bl::bench

int main(int argc, char** argv) {
  try {
    const bl::bench::Options options = bl::bench::parse(argc, argv);
    if (options.model == "gpt") bl::bench::serve<bl::bench::GptWork>(options);
    else bl::bench::serve<bl::bench::EncoderWork>(options);
  } catch (const std::invalid_argument& e) {
    fmt::print(stderr, "bench_worker: {}\nusage: bench_worker gpt|encoder --data FILE [--threads N] [--dim D] [--precision f32|bf16] [--weights FILE]\n",
               e.what());
    return 2;
  } catch (const std::exception& e) {
    fmt::print(stderr, "bench_worker: {}\n", e.what());
    return 1;
  }
}
