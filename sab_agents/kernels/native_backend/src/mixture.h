// Linear classifiers at several rates, mixed with another classifier; what they are is in kernels/mixture.py.
//
// Dimensions: I features, C labels, K linear classifiers, G views of a sample.
#pragma once

#include <algorithm>
#include <cmath>

#include "arguments.h"

namespace sab {

inline double linear_output(const double* row, const float* x, int64_t features) {
    const double* const weight = row + 1;
    double sum[4] = {row[0], 0, 0, 0};  // four sums, so that an addition need not wait for the one before
    int64_t i = 0;
    for (; i + 4 <= features; i += 4)
        for (int64_t lane = 0; lane < 4; ++lane) sum[lane] += weight[i + lane] * static_cast<double>(x[i + lane]);
    for (; i < features; ++i) sum[0] += weight[i] * static_cast<double>(x[i]);
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

inline void mix_probabilities(const Mix& of) {
    const int64_t C = of.labels, K = of.linears, I = of.features, side = 1 + K;
    for (int64_t c = 0; c < C; ++c) {
        of.each[c * side] = static_cast<double>(of.other[c]);
        for (int64_t k = 0; k < K; ++k)
            of.each[c * side + 1 + k] = linear_output(of.linear + (c * K + k) * (1 + I), of.x + k * of.views / K * I, I);
    }
    for (int64_t k = 1; k <= K; ++k) {
        double most = of.each[k], whole = 0;
        for (int64_t c = 1; c < C; ++c) most = std::max(most, of.each[c * side + k]);
        for (int64_t c = 0; c < C; ++c) whole += of.each[c * side + k] = std::exp(of.each[c * side + k] - most);
        for (int64_t c = 0; c < C; ++c) of.each[c * side + k] /= whole;
    }
    for (int64_t c = 0; c < C; ++c) {
        double mixed = 0;
        for (int64_t k = 0; k <= K; ++k) mixed += of.each[c * side + k] * of.weights[k];
        of.mixed[c] = mixed;
    }
}

inline void learn_mixture(const MixLearn& of) {
    const int64_t C = of.labels, K = of.linears, I = of.features, side = 1 + K;
    if (of.known) {
        double whole = 0;
        for (int64_t k = 0; k <= K; ++k) whole += of.weights[k] *= std::max(of.each[of.label * side + k], of.least);
        for (int64_t k = 0; k <= K; ++k)
            of.weights[k] = of.weights[k] * ((1 - of.share) / whole) + of.share / static_cast<double>(side);
    }
    double length = 0;
    for (int64_t k = 0; k < K; ++k) {
        const float* const x = of.x + k * of.views / K * I;
        if (k == 0 || x != of.x + (k - 1) * of.views / K * I) {
            length = 1;
            for (int64_t i = 0; i < I; ++i) length += static_cast<double>(x[i]) * static_cast<double>(x[i]);
        }
        for (int64_t c = 0; c < C; ++c) {
            const double step = of.rates[k] / length * ((c == of.label ? 1.0 : 0.0) - of.each[c * side + 1 + k]);
            double* const row = of.linear + (c * K + k) * (1 + I);
            row[0] += step;
            for (int64_t i = 0; i < I; ++i) row[1 + i] += step * static_cast<double>(x[i]);
        }
    }
}

}  // namespace sab
