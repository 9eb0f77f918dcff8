// Batches of events as tokenizers see them, and back.
#pragma once
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>

#include "data/batch.hpp"
#include "models/tokenizer.hpp"

namespace bl::tokens {

// Category of a reconstructed object; 0 for an electron, muon or tau of no charge.
std::uint8_t category_of(std::uint8_t type, std::int8_t charge, float btag, double cut);

// Calls use(event) for every event of a batch of objects/1 or particles/1, in order; the event's particles are in
// falling pt. Event-level quantities are the batch's columns where it has them, else made from the objects; a jet's
// axis is (jet_eta, jet_phi), else the direction of the sum of its massless constituents.
// Throws Exit::input for a lepton without charge unless `unknown` is drop.
void for_each_event(const Batch& batch, double btag, models::Unknown unknown, const std::function<void(const models::Event&)>& use);

// objects/1 -> tokens/1, particles/1 -> tokens/2 with the axis of each jet. The tally is added to `total` under `lock`.
Batch encode(const Batch& batch, const models::Encoder& encoder, models::Unknown unknown, bool errors, models::Tally& total, std::mutex& lock);

// tokens/1 or /2 -> objects/1 or particles/1, whichever the tokenizer reads. Constituents are around the axis of their jet,
// or around (0, 0) where the tokens do not say it; jet_pt and jet_mass are those of the decoded constituents.
// Adds to `lost` the particle tokens that stand for no particle (unknown, start, stop, mask).
Batch decode(const Batch& batch, const models::Encoder& encoder, std::uint64_t& lost, std::mutex& lock);

}  // namespace bl::tokens
