// Where the time of a training step of the autoregressive model goes, op by op.
#pragma once
#include <string>

#include "models/gpt.hpp"

namespace bl::bench {

// A step on one thread, measured three times: JSON {"step": seconds, "ops": [{"name", "forward", "backward" (seconds of
// processor time), "flops"}, …]}, each the median. Throws when its forward pass does not give the loss of the model to
// the bit: it is that pass written again with a clock between the ops.
std::string breakdown(const models::GptModel<float>& model, const models::Examples& data);

}  // namespace bl::bench
