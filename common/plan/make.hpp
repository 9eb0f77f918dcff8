// A plan on disk: one JSON file a segment, which changes only when the segment's programs, options or outer input files
// do, and a makefile with one rule a segment.
#pragma once
#include <string>

#include "plan/plan.hpp"

namespace bl::plan {

// Writes FOLDER/SEGMENT.json for every segment, leaving a file alone when its content would not change, and removes the
// files of segments that are gone. Fills in the hashes of Segment::inputs. Throws Exit::write, Exit::input.
void write_segments(Plan& plan, const std::string& folder);

// The make rules: `plan.targets`, `plan.reports`, and one rule a segment that runs `bl_run` on its JSON file.
std::string make_rules(const Plan& plan, const std::string& folder, const std::string& bl_run);

// Replaces the file only when the content differs; returns whether it did. Makes missing folders.
bool write_if_changed(const std::string& path, const std::string& content);

}  // namespace bl::plan
