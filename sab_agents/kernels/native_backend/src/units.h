// Trace units, for every processor: a few operations for each weight.
#pragma once

#include <cmath>

#include "arguments.h"

namespace sab {

struct Complex {
    float re, im;
};

inline Complex operator*(Complex a, Complex b) { return {a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re}; }
inline Complex operator*(float a, Complex b) { return {a * b.re, a * b.im}; }
inline Complex operator+(Complex a, Complex b) { return {a.re + b.re, a.im + b.im}; }

inline Complex pair_at(const float* from, int64_t place) { return {from[2 * place], from[2 * place + 1]}; }
inline void put(float* to, int64_t place, Complex value) { to[2 * place] = value.re, to[2 * place + 1] = value.im; }
inline float positive(float x) { return x > 0.0f ? x : 0.0f; }

// c ← λ c + γ (w₁ + i w₂)·x, and how c depends on ν, ω and w₁. With p = exp(ν), r = exp(−p) and θ = exp(ω):
// ∂λ/∂ν = −p λ, ∂γ/∂ν = p r² / γ = p (1 − γ²) / γ, ∂λ/∂ω = i θ λ.
inline void step_units(const Units& of) {
    const int64_t n = of.units, O = of.inputs, width = 2 + O;
    for (int64_t j = 0; j < n; ++j) {
        const float rate = std::exp(of.nu[j]), radius = std::exp(-rate), angle = std::exp(of.omega[j]);
        const float scale = std::sqrt(-std::expm1(-2.0f * rate));  // by expm1: above 0 where r rounds to 1
        const Complex turn{radius * std::cos(angle), radius * std::sin(angle)};
        Complex driven{0.0f, 0.0f};
        for (int64_t o = 0; o < O; ++o)
            driven = driven + of.x[o] * Complex{of.weight[j * O + o], of.weight[(n + j) * O + o]};
        const Complex turned = turn * pair_at(of.before, j), after = turned + scale * driven;
        put(of.after, j, after);
        of.output[j] = positive(after.re);
        of.output[n + j] = positive(after.im);
        if (of.sensitivity == nullptr) continue;
        float* own = of.sensitivity + 2 * width * j;
        const Complex along_nu = rate * (1.0f / scale - scale) * driven + -rate * turned;
        put(own, 0, along_nu + turn * pair_at(own, 0));
        put(own, 1, Complex{0.0f, angle} * turned + turn * pair_at(own, 1));
        for (int64_t o = 0; o < O; ++o)
            put(own, 2 + o, Complex{scale * of.x[o], 0.0f} + turn * pair_at(own, 2 + o));
    }
}

// For real f, df = Re(conj(g) dc) with g = ∂f/∂Re c + i ∂f/∂Im c.
inline void credit_units(const UnitsBackward& of) {
    const int64_t n = of.units, O = of.inputs, width = 2 + O;
    for (int64_t j = 0; j < n; ++j) {
        const Complex state = pair_at(of.state, j);
        const Complex into{state.re > 0.0f ? of.gradient[j] : 0.0f, state.im > 0.0f ? -of.gradient[n + j] : 0.0f};
        const float* own = of.sensitivity + 2 * width * j;
        of.grad_nu[j] += (into * pair_at(own, 0)).re;
        of.grad_omega[j] += (into * pair_at(own, 1)).re;
        for (int64_t o = 0; o < O; ++o) {
            const Complex along = into * pair_at(own, 2 + o);
            of.grad_weight[j * O + o] += along.re;
            of.grad_weight[(n + j) * O + o] -= along.im;
        }
    }
}

}  // namespace sab
