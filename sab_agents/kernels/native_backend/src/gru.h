// The steps of a gated recurrent unit, forward and backward. Gates stand in PyTorch's order r, z, n.

// gates (3H), first what the inputs give them, then activated; `follows` (3H) is what h gives them, but for its bias.
inline void gru_cell(int64_t H, const float* bias, const float* follows, const float* h, float* gates, float* recurrent,
                     float* before, float* output) {
    for (int64_t j = 0; j < H; j += LANES) {
        const int64_t left = H - j;
        const auto given = [&](int64_t gate) INLINE_LAMBDA {
            return load(follows + gate * H + j, left) + load(bias + gate * H + j, left);
        };
        const Vec r = sigmoid(load(gates + j, left) + given(0)), z = sigmoid(load(gates + H + j, left) + given(1));
        const Vec into = given(2), n = tanh(load(gates + 2 * H + j, left) + r * into), held = load(h + j, left);
        store(gates + j, r, left);
        store(gates + H + j, z, left);
        store(gates + 2 * H + j, n, left);
        store(recurrent + j, into, left);
        store(before + j, held, left);
        store(output + j, n + z * (held - n), left);
    }
}

// From the gradient of h after the step to what it sends to both parts of the gates, and directly to h before it, which
// takes the place of `grad_h`.
inline void gru_cell_backward(int64_t H, const float* gates, const float* recurrent, const float* before,
                              const float* gradient, float* grad_h, float* to_given, float* to_recurrent) {
    for (int64_t j = 0; j < H; j += LANES) {
        const int64_t left = H - j;
        const Vec r = load(gates + j, left), z = load(gates + H + j, left), n = load(gates + 2 * H + j, left);
        const Vec of_h = load(gradient + j, left) + load(grad_h + j, left);
        const Vec to_n = of_h * (1.0f - z) * (1.0f - n * n);
        const Vec to_r = to_n * load(recurrent + j, left) * r * (1.0f - r);
        const Vec to_z = of_h * (load(before + j, left) - n) * z * (1.0f - z);
        store(to_given + j, to_r, left);
        store(to_given + H + j, to_z, left);
        store(to_given + 2 * H + j, to_n, left);
        store(to_recurrent + j, to_r, left);
        store(to_recurrent + H + j, to_z, left);
        store(to_recurrent + 2 * H + j, to_n * r, left);
        store(grad_h + j, of_h * z, left);
    }
}

int64_t gru_shared_size(const Gru& of) { return packed_size(of.size, 3 * of.size); }

void gru_prepare(const Gru& of, float* shared) { pack(of.weight_hh, of.size, 3 * of.size, 1, of.size, shared); }

int64_t gru_scratch_size(const Gru& of) { return BLOCK * padded(3 * of.size); }

void gru_run(const Gru& of, const float* packed, float* scratch, int64_t first, int64_t last) {
    const int64_t H = of.size;
    const float* h = of.h;
    for (int64_t t = 0, begin = 0; t < of.steps; begin += of.sizes[t++]) {
        const int64_t end = last < of.sizes[t] ? last : of.sizes[t];
        for (int64_t row = first; row < end; row += BLOCK) {
            const int64_t count = end - row < BLOCK ? end - row : BLOCK;
            product(h + row * H, H, count, H, 3 * H, packed, scratch);
            for (int64_t r = 0; r < count; ++r) {
                const int64_t at = begin + row + r;
                gru_cell(H, of.bias_hh, scratch + r * padded(3 * H), h + (row + r) * H, of.gates + at * 3 * H,
                         of.recurrent + at * H, of.before + at * H, of.output + at * H);
            }
        }
        h = of.output + begin * H;
    }
}

int64_t gru_backward_shared_size(const GruBackward& of) { return packed_size(3 * of.size, of.size); }

void gru_backward_prepare(const GruBackward& of, float* shared) {
    pack(of.weight_hh, 3 * of.size, of.size, of.size, 1, shared);
}

int64_t gru_backward_scratch_size(const GruBackward& of) { return BLOCK * padded(of.size) + of.rows * of.size; }

void gru_backward_run(const GruBackward& of, const float* packed, float* scratch, int64_t first, int64_t last) {
    const int64_t H = of.size;
    float* const grad_h = scratch + BLOCK * padded(H);  // (rows, H) of h after a step, by the steps that follow it
    std::memset(grad_h, 0, static_cast<size_t>(of.rows * H) * sizeof(float));
    int64_t begin = of.all;
    for (int64_t t = of.steps - 1; t >= 0; --t) {
        begin -= of.sizes[t];
        const int64_t end = last < of.sizes[t] ? last : of.sizes[t];
        for (int64_t row = first; row < end; row += BLOCK) {
            const int64_t count = end - row < BLOCK ? end - row : BLOCK, place = begin + row;
            for (int64_t r = 0; r < count; ++r) {
                const int64_t at = place + r;
                gru_cell_backward(H, of.gates + at * 3 * H, of.recurrent + at * H, of.before + at * H,
                                  of.gradient + at * H, grad_h + (row + r) * H, of.to_given + at * 3 * H,
                                  of.to_recurrent + at * 3 * H);
            }
            product(of.to_recurrent + place * 3 * H, 3 * H, count, 3 * H, H, packed, scratch);
            for (int64_t r = 0; r < count; ++r) add_scaled(grad_h + (row + r) * H, 1.0f, scratch + r * padded(H), H);
        }
    }
}
