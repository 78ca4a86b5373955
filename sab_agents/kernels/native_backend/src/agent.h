// The parts of a streaming agent that are products and sums of a few thousand floats, one row at a time.

void readout(const Readout& of) {
    const int64_t F = of.inputs, W = of.width;
    const auto slope = static_cast<float>(of.slope);
    for (int64_t i = 0; i < W; i += LANES) {
        RowProducts found;
        found.add(of.first_weight + i * F, W - i, of.x, F);
        store(of.normal + i, found.total() + load(of.first_bias + i, W - i), W - i);
    }
    float mean = 0.0f, squares = 0.0f;
    for (int64_t i = 0; i < W; ++i) mean += of.normal[i];
    mean /= static_cast<float>(W);
    for (int64_t i = 0; i < W; ++i) squares += (of.normal[i] - mean) * (of.normal[i] - mean);
    const double variance = static_cast<double>(squares / static_cast<float>(W));
    const auto scale = static_cast<float>(1.0 / std::sqrt(variance + of.epsilon));
    *of.scale = scale;
    for (int64_t i = 0; i < W; ++i) {
        const float normal = (of.normal[i] - mean) * scale;
        of.normal[i] = normal;
        of.hidden[i] = normal > 0.0f ? normal : normal * slope;
    }
    for (int64_t d = 0; d < of.outputs; ++d)
        of.out[d] = dot(of.second_weight + d * W, of.hidden, W) + of.second_bias[d];
}

void readout_backward(const ReadoutBackward& of) {
    const int64_t F = of.inputs, W = of.width;
    const auto slope = static_cast<float>(of.slope);
    float* into = of.grad_raw;
    std::memset(into, 0, static_cast<size_t>(W) * sizeof(float));
    for (int64_t d = 0; d < of.outputs; ++d) {
        add_scaled(of.grad_second_weight + d * W, of.gradient[d], of.hidden, W);
        of.grad_second_bias[d] += of.gradient[d];
        add_scaled(into, of.gradient[d], of.second_weight + d * W, W);
    }
    for (int64_t i = 0; i < W; ++i) into[i] = of.normal[i] > 0.0f ? into[i] : into[i] * slope;
    float mean = 0.0f;
    for (int64_t i = 0; i < W; ++i) mean += into[i];
    mean /= static_cast<float>(W);
    const float along = dot(into, of.normal, W) / static_cast<float>(W);
    for (int64_t i = 0; i < W; ++i) into[i] = (into[i] - mean - along * of.normal[i]) * *of.scale;
    std::memset(of.grad_x, 0, static_cast<size_t>(F) * sizeof(float));
    for (int64_t i = 0; i < W; ++i) {
        add_scaled(of.grad_first_weight + i * F, into[i], of.x, F);
        of.grad_first_bias[i] += into[i];
        add_scaled(of.grad_x, into[i], of.first_weight + i * F, F);
    }
}

// z ← γλ z + g, g ← 0 and ‖z‖₁. The sums of LANES columns are added in double: P may be large.
double remember_gradient(const Descent& of) {
    constexpr int64_t part = 64 * LANES;
    const auto decay = static_cast<float>(of.decay);
    double norm = 0.0;
    for (int64_t first = 0; first < of.count; first += part) {
        const int64_t last = first + part < of.count ? first + part : of.count;
        Vec total{};
        for (int64_t i = first; i < last; i += LANES) {
            const Vec z = load(of.trace + i, last - i) * decay + load(of.gradient + i, last - i);
            store(of.trace + i, z, last - i);
            store(of.gradient + i, Vec{}, last - i);
            total += z < 0.0f ? -z : z;
        }
        norm += static_cast<double>(sum(total));
    }
    return norm;
}

// False, and only trace and gradient have changed, where δ or the trace is not finite.
bool descend(Descent& of) {
    const double norm = remember_gradient(of), error = of.delta < 0 ? -of.delta : of.delta;
    of.norm = norm;
    if (!(norm * error < static_cast<double>(INFINITY))) return false;
    const double bound = of.learning_rate * of.kappa * (error > 1.0 ? error : 1.0) * norm;
    of.step_size = of.learning_rate / (bound > 1.0 ? bound : 1.0);
    add_scaled(of.vector, static_cast<float>(of.step_size * of.delta), of.trace, of.count);
    if (of.reset) std::memset(of.trace, 0, static_cast<size_t>(of.count) * sizeof(float));
    return true;
}
