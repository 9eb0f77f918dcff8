// The folder that an evaluation leaves: report.html, report.json and figures/. Several evaluations may share one: each has its
// section on the page, its object in the JSON file and figures that begin with its name.
#pragma once
#include <nlohmann/json.hpp>

#include <string>
#include <vector>

#include "report/page.hpp"

namespace bl::report {

// NaN as null, infinities as "inf" and "-inf": JSON has no numbers for them.
nlohmann::json number(double value);

// Throws Exit::write where write_report() could not write: `folder` is something else than a folder, its parent is not there,
// it has a report of this kind and `force` is false, or a report.html or report.json that is not ours and `force` is false.
void require_writable(const std::string& folder, const std::string& id, bool force);

// Everything is made in FOLDER.part and renamed when it is complete, the page last; after an error nothing is left but what
// was there. `numbers` is the JSON object of this evaluation. Returns warnings, as write_figure(). Throws Exit::write.
std::vector<std::string> write_report(const std::string& folder, const Section& section, const nlohmann::json& numbers, bool force);

}  // namespace bl::report
