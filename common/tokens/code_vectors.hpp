// The vectors of a codebook, from which an embedding of its tokens can begin (models/classifier.hpp, embed_codebook).
#pragma once
#include <cstddef>
#include <string>
#include <vector>

namespace bl::tokens {

struct CodeVectors {
  std::vector<float> values;  // (codes, width): of the tokens 1 … codes
  std::size_t width = 0;
};
// A learned tokenizer's codes, k-means' standardised centres, else log pT, eta and phi of what a token stands for; with
// several categories a column for each behind. Throws Exit::input, naming both codebooks, unless the file's is `codebook`.
CodeVectors code_vectors(const std::string& tokenizer_path, const std::string& codebook);

}  // namespace bl::tokens
