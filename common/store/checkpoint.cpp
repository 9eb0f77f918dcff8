#include "store/checkpoint.hpp"

namespace bl::store {

void check_model(const Input& file) {
  if (!file.has_attribute("", "format") || !file.has_attribute("", "format_version") || !file.has_attribute("", "hash") ||
      file.text_attribute("", "format") != kModelFormat)
    fail(Exit::input, "'{}' is not a model: give a file that bl-train --save wrote", file.path());
  const std::int64_t version = file.integer_attribute("", "format_version");
  if (version < 1 || version > kModelVersion)
    fail(Exit::input, "'{}' is version {} of the model format, this program reads up to {}: update it", file.path(), version, kModelVersion);
}

}  // namespace bl::store
