// The losses of PPO and their gradients; what they are is in kernels/torch_backend/losses.py. Means are summed in double.
//
// Dimensions: N steps, k actions.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "arguments.h"

namespace sab {

struct PolicyTerms {
    const PolicyLoss& of;
    const int64_t N = of.count, k = of.choices;
    const float low = static_cast<float>(1 - of.clip_range), high = static_cast<float>(1 + of.clip_range);
    const float least = -std::numeric_limits<float>::max();  // the logarithm that is taken of no probability
    double surrogate = 0, negative_entropy = 0, divergence = 0, clipped = 0;

    void run() {
        for (int64_t i = 0; i < N; ++i) add(i);
        const double means[] = {-surrogate, negative_entropy, divergence, clipped};
        for (int64_t f = 0; f < 4; ++f) of.figures[f] = static_cast<float>(means[f] / static_cast<double>(N));
    }

    // One step: the row of gradients has the logarithms of probabilities until their own gradients take their place.
    void add(int64_t i) {
        float* const row = of.gradient + i * k;
        const int64_t chosen = of.actions[i] - of.first;
        log_softmax(of.logits + i * k, row);
        const float log_ratio = row[chosen] - of.log_prob[i], ratio = std::exp(log_ratio);
        const float advantage = of.advantages[i], whole = advantage * ratio;
        const float bounded = advantage * (ratio < low ? low : ratio > high ? high : ratio);
        surrogate += static_cast<double>(bounded < whole ? bounded : whole);
        divergence += static_cast<double>(ratio - 1 - log_ratio);
        clipped += std::fabs(static_cast<double>(ratio) - 1) > of.clip_range;
        // A clipped term that is the smaller one has no gradient; within the limits both are the same.
        const float of_log_prob = (whole <= bounded ? whole : 0.0f) / -static_cast<float>(N);
        gradient(row, chosen, of_log_prob, static_cast<float>(of.entropy_weight / static_cast<double>(N)));
    }

    void log_softmax(const float* logits, float* row) const {
        float most = logits[0], whole = 0;
        for (int64_t j = 1; j < k; ++j) most = std::max(most, logits[j]);
        for (int64_t j = 0; j < k; ++j) whole += std::exp(logits[j] - most);
        const float shift = most + std::log(whole);
        for (int64_t j = 0; j < k; ++j) row[j] = logits[j] - shift;
    }

    // From logarithms p_j of probabilities to the gradient of logits: g_j − e^p_j Σ g with g that of p_j.
    void gradient(float* row, int64_t chosen, float of_log_prob, float of_entropy) {
        float whole = of_log_prob;
        for (int64_t j = 0; j < k; ++j) {
            const float share = std::exp(row[j]), bounded = std::max(row[j], least);
            negative_entropy += static_cast<double>(share * bounded);
            whole += of_entropy * share * ((row[j] >= least ? 1.0f : 0.0f) + bounded);
        }
        for (int64_t j = 0; j < k; ++j) {
            const float share = std::exp(row[j]), bounded = std::max(row[j], least);
            const float own = of_entropy * share * ((row[j] >= least ? 1.0f : 0.0f) + bounded);
            row[j] = own + (j == chosen ? of_log_prob : 0.0f) - share * whole;
        }
    }
};

inline bool surrogate_of(const PolicyLoss& of) {
    for (int64_t i = 0; i < of.count; ++i)
        if (of.actions[i] < of.first || of.actions[i] >= of.first + of.choices) return false;
    PolicyTerms{of}.run();
    return true;
}

inline void squared_error_of(const ValueLoss& of) {
    const auto limit = static_cast<float>(of.limit), factor = static_cast<float>(2 * of.weight / static_cast<double>(of.count));
    double sum = 0;
    for (int64_t i = 0; i < of.count; ++i) {
        const float change = of.values[i] - of.before[i];
        const bool beyond = std::fabs(change) > limit;
        const float value = beyond ? of.before[i] + std::copysign(limit, change) : of.values[i];
        const float error = value - of.returns[i];
        sum += static_cast<double>(error) * static_cast<double>(error);
        of.gradient[i] = beyond ? 0.0f : error * factor;
    }
    *of.figures = static_cast<float>(sum / static_cast<double>(of.count));
}

}  // namespace sab
