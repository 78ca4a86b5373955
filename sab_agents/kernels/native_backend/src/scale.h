// Features of a stream, each brought to one scale by its running mean and standard deviation (Welford 1962).
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "arguments.h"

namespace sab {

inline void lay_out(const Standardise& of) {
    constexpr double largest = std::numeric_limits<float>::max();
    for (int64_t i = 0; i < of.count; ++i) {
        const double scaled = (of.values[i] - of.mean[i]) / of.deviation[i];
        of.out[of.columns[i]] = static_cast<float>(std::min(largest, std::max(-largest, scaled)));
    }
}

inline void measure_features(const Measure& of) {
    for (int64_t i = 0; i < of.count; ++i) {
        const double difference = of.values[i] - of.mean[i], seen = of.seen[i] += 1;
        of.mean[i] += difference / seen;
        of.squares[i] += difference * (of.values[i] - of.mean[i]);
        of.deviation[i] = of.squares[i] > 0 ? std::sqrt(of.squares[i] / seen) : 1;
    }
}

}  // namespace sab
