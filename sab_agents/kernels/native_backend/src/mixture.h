// Linear classifiers at several rates, mixed with another classifier; what they are is in kernels/mixture.py.
//
// Dimensions: I features, F features that the other classifier's last layer takes, C labels,
// K linear classifiers of G views of a sample, R readouts.
#pragma once

#include <algorithm>
#include <cmath>

#include "arguments.h"

namespace sab {

template <class T>
inline double linear_output(double bias, const T* weight, const float* x, int64_t features) {
    double sum[4] = {bias, 0, 0, 0};  // four sums, so that an addition need not wait for the one before
    int64_t i = 0;
    for (; i + 4 <= features; i += 4)
        for (int64_t lane = 0; lane < 4; ++lane) sum[lane] += static_cast<double>(weight[i + lane]) * static_cast<double>(x[i + lane]);
    for (; i < features; ++i) sum[0] += static_cast<double>(weight[i]) * static_cast<double>(x[i]);
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

inline void mix_probabilities(const Mix& of) {
    const int64_t C = of.labels, K = of.linears, R = of.readouts, I = of.features, F = of.size, side = 1 + K + R;
    for (int64_t c = 0; c < C; ++c) {
        double* const each = of.each + c * side;
        each[0] = linear_output(static_cast<double>(of.bias[c]), of.head + c * F, of.output, F);
        for (int64_t k = 0; k < K; ++k) {
            const double* const row = of.linear + (c * K + k) * (1 + I);
            each[1 + k] = linear_output(row[0], row + 1, of.x + k * of.views / K * I, I);
        }
        for (int64_t r = 0; r < R; ++r) {
            const double* const row = of.readout + (c * R + r) * (1 + F);
            each[1 + K + r] = linear_output(row[0], row + 1, of.output, F);
        }
    }
    for (int64_t k = 0; k < side; ++k) {
        double most = of.each[k], whole = 0;
        for (int64_t c = 1; c < C; ++c) most = std::max(most, of.each[c * side + k]);
        for (int64_t c = 0; c < C; ++c) whole += of.each[c * side + k] = std::exp(of.each[c * side + k] - most);
        for (int64_t c = 0; c < C; ++c) of.each[c * side + k] /= whole;
    }
    for (int64_t c = 0; c < C; ++c) {
        double mixed = 0;
        for (int64_t k = 0; k < side; ++k) mixed += of.each[c * side + k] * of.weights[k];
        of.mixed[c] = mixed;
    }
}

inline double square_length(const float* x, int64_t features) {  // with the 1 of the bias
    double length = 1;
    for (int64_t i = 0; i < features; ++i) length += static_cast<double>(x[i]) * static_cast<double>(x[i]);
    return length;
}

inline void add_step(double* row, double step, const float* x, int64_t features) {
    row[0] += step;
    for (int64_t i = 0; i < features; ++i) row[1 + i] += step * static_cast<double>(x[i]);
}

inline void learn_mixture(const MixLearn& of) {
    const int64_t C = of.labels, K = of.linears, R = of.readouts, I = of.features, F = of.size, side = 1 + K + R;
    if (of.known) {
        double whole = 0;
        for (int64_t k = 0; k < side; ++k) whole += of.weights[k] *= std::max(of.each[of.label * side + k], of.least);
        for (int64_t k = 0; k < side; ++k)
            of.weights[k] = of.weights[k] * ((1 - of.share) / whole) + of.share / static_cast<double>(side);
    }
    const auto step = [&](int64_t c, int64_t k, double length) {
        return of.rates[k] / length * ((c == of.label ? 1.0 : 0.0) - of.each[c * side + 1 + k]);
    };
    double length = 0;
    for (int64_t k = 0; k < K; ++k) {
        const float* const x = of.x + k * of.views / K * I;
        if (k == 0 || x != of.x + (k - 1) * of.views / K * I) length = square_length(x, I);
        for (int64_t c = 0; c < C; ++c) add_step(of.linear + (c * K + k) * (1 + I), step(c, k, length), x, I);
    }
    length = square_length(of.output, F);
    for (int64_t c = 0; c < C; ++c)
        for (int64_t r = 0; r < R; ++r)
            add_step(of.readout + (c * R + r) * (1 + F), step(c, K + r, length), of.output, F);
}

}  // namespace sab
