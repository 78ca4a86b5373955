// What the parts of a streaming agent are given: the layers behind its core, its steps along traces, its trace units.
//
// Dimensions: F numbers from a core, W width, D numbers that come out; P parameters; n trace units, O inputs.
#pragma once

#include <cstdint>

namespace sab {

// A linear layer, layer normalisation, leaky ReLU and a linear layer, for one row.
struct Readout {
    int64_t inputs, width, outputs;  // F, W, D
    const double* settings;        // slope of the leaky ReLU, and what normalisation adds to the variance
    const float *first_weight, *first_bias;    // (W, F), (W)
    const float *second_weight, *second_bias;  // (D, W), (D)
    const float* x;                // (F)
    // out
    float *normal, *hidden;        // (W) after normalisation, and after the leaky ReLU
    float* scale;                  // one number: 1 / standard deviation
    float* out;                    // (D)
};

struct ReadoutBackward {
    int64_t inputs, width, outputs;
    const double* settings;
    const float *first_weight, *second_weight;
    const float *x, *normal, *hidden, *scale;  // as the forward pass left them
    const float* gradient;         // (D)
    // out: added to
    float *into_first_weight, *into_first_bias, *into_second_weight, *into_second_bias;
    // out
    float* into_raw;               // (W) of the first layer's results
    float* into_x;                 // (F)
};

// One step of ObGD; see sab_agents/optim/obgd.py.
struct Descent {
    int64_t count;                 // P
    int64_t reset;                 // 1: the trace is cleared afterwards
    const double* settings;        // γ λ, α, κ, δ
    float *vector, *gradient, *trace;  // (P): moved; cleared; z
    double* found;                 // the step's size, and ‖z‖₁
};

// One step of trace units; see sab_agents/online/rtu.py.
struct Units {
    int64_t units, inputs;         // n, O
    const float *nu, *omega, *weight;  // (n), (n), (2, n, O)
    const float* x;                // (O)
    const float* before;           // (n, 2) state
    // out
    float* after;                  // (n, 2); may be `before`
    float* output;                 // (2 n)
    float* sensitivity;            // (n, 2 + O, 2), changed; or null
};

struct UnitsBackward {
    int64_t units, inputs;
    const float *state, *sensitivity;
    const float* gradient;         // (2 n) of the output
    // out: added to
    float *into_nu, *into_omega, *into_weight;
};

}  // namespace sab
