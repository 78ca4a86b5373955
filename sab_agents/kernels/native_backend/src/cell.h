// The LSTM cell's elementwise part, forward and backward, for one row. Gates stand in PyTorch's order i, f, g, o.

// The gate through which a summary leaves, at feature j: 2σ(w ⊙ h + b).
inline Vec output_gate(const Recurrence& of, const float* h, int64_t j, int64_t left) {
    const Vec opened = load(of.output_gate_weight + j, left) * load(h + j, left) + load(of.output_gate_bias + j, left);
    return 2.0f * sigmoid(opened);
}

// gates (4H) = given + recurrent, activated; c and ĥ follow. `before` may be `cell` itself, `given` may be `gates`.
inline void cell_forward(int64_t H, const float* given, const float* recurrent, bool start, const float* before,
                         float* gates, float* cell, float* output) {
    for (int64_t j = 0; j < H; j += LANES) {
        const int64_t left = H - j;
        const auto raw = [&](int64_t gate) INLINE_LAMBDA {
            return load(given + gate * H + j, left) + load(recurrent + gate * H + j, left);
        };
        const Vec i = sigmoid(raw(0)), g = tanh(raw(2)), o = sigmoid(raw(3));
        // A forget gate of 0 empties c at an episode's start, and keeps its gradient 0 in the backward pass.
        const Vec f = start ? Vec{} : sigmoid(raw(1));
        const Vec c = f * load(before + j, left) + i * g;
        store(gates + j, i, left);
        store(gates + H + j, f, left);
        store(gates + 2 * H + j, g, left);
        store(gates + 3 * H + j, o, left);
        store(cell + j, c, left);
        store(output + j, o * tanh(c), left);
    }
}

// grad_gates (4H), and grad_cell from that of c after the step to that before it, 0 where the step is cut.
inline void cell_backward(int64_t H, const float* gates, const float* before, const float* cell,
                          const float* grad_output, bool cut, float* grad_gates, float* grad_cell) {
    for (int64_t j = 0; j < H; j += LANES) {
        const int64_t left = H - j;
        const Vec i = load(gates + j, left), f = load(gates + H + j, left);
        const Vec g = load(gates + 2 * H + j, left), o = load(gates + 3 * H + j, left);
        const Vec tanh_c = tanh(load(cell + j, left)), grad_h = load(grad_output + j, left);
        const Vec grad_c = load(grad_cell + j, left) + grad_h * o * (1.0f - tanh_c * tanh_c);
        store(grad_gates + j, grad_c * g * i * (1.0f - i), left);
        store(grad_gates + H + j, grad_c * load(before + j, left) * f * (1.0f - f), left);
        store(grad_gates + 2 * H + j, grad_c * i * (1.0f - g * g), left);
        store(grad_gates + 3 * H + j, grad_h * tanh_c * o * (1.0f - o), left);
        store(grad_cell + j, cut ? Vec{} : grad_c * f, left);
    }
}
