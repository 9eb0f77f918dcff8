#include "tokens/code_vectors.hpp"

#include <algorithm>
#include <cmath>

#include "base/error.hpp"
#include "models/codebook.hpp"
#include "models/tokenizer.hpp"
#include "models/vqvae.hpp"
#include "tokens/file.hpp"

namespace bl::tokens {

CodeVectors code_vectors(const std::string& tokenizer_path, const std::string& codebook) {
  const models::Tokenizer tokenizer = load(tokenizer_path);
  const std::string theirs = models::codebook_of(metadata(tokenizer));
  if (theirs != codebook)
    fail(Exit::input, "'{}' is the codebook {}, and the tokens are of codebook {}: give the tokenizer that made them", tokenizer_path, theirs, codebook);
  CodeVectors v;
  if (tokenizer.network != nullptr) {
    const auto& codes = tokenizer.network->codebook();
    const auto values = tokenizer.network->params().of(codes);
    v.width = codes.width;
    v.values.assign(values.begin(), values.end());
    return v;
  }
  const std::size_t codes = tokenizer.particle_tokens(), categories = tokenizer.categories.size();
  const bool centres = tokenizer.kind == models::TokenizerKind::kmeans;
  const std::size_t features = centres ? tokenizer.features() : 3;
  v.width = features + (categories > 1 ? categories : 0);
  const models::Encoder encoder(tokenizer);
  for (std::size_t c = 0; c < codes; ++c) {
    const models::Decoded& d = encoder.decode(static_cast<std::int32_t>(c) + 1);
    if (centres)
      v.values.insert(v.values.end(), tokenizer.centres.begin() + static_cast<std::ptrdiff_t>(c * features),
                      tokenizer.centres.begin() + static_cast<std::ptrdiff_t>((c + 1) * features));
    else v.values.insert(v.values.end(), {std::log(std::max(d.pt, 1e-3f)), d.eta, d.phi});
    for (std::size_t k = 0; categories > 1 && k < categories; ++k) v.values.push_back(tokenizer.categories[k] == d.category ? 1.0f : 0.0f);
  }
  return v;
}

}  // namespace bl::tokens
