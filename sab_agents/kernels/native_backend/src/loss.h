// The gradient of a mean loss of n outputs with C features each, in place of the outputs; see
// sab_agents/online/targets.py.

constexpr int64_t CROSS_ENTROPY = 0, BINARY_CROSS_ENTROPY = 1;  // 2: squared error

inline void cross_entropy_row(int64_t classes, int64_t target, float scale, float* row) {
    float greatest = row[0];
    for (int64_t i = 1; i < classes; ++i) greatest = row[i] > greatest ? row[i] : greatest;
    Vec total{};
    for (int64_t i = 0; i < classes; i += LANES) {
        const int64_t left = classes - i;
        store(row + i, exponential(load(row + i, left) - greatest), left);
        total += load(row + i, left);
    }
    const float all = sum(total);
    for (int64_t i = 0; i < classes; i += LANES) store(row + i, load(row + i, classes - i) / all, classes - i);
    row[target] -= 1.0f;
    for (int64_t i = 0; i < classes; i += LANES) store(row + i, load(row + i, classes - i) * scale, classes - i);
}

void loss_gradient(const Head& of) {
    const int64_t numbers = of.count * of.classes;
    if (of.loss == CROSS_ENTROPY) {
        const float scale = 1.0f / static_cast<float>(of.count);
        for (int64_t i = 0; i < of.count; ++i)
            cross_entropy_row(of.classes, static_cast<const int64_t*>(of.target)[i], scale, of.gradient + i * of.classes);
        return;
    }
    const auto* target = static_cast<const float*>(of.target);
    const bool binary = of.loss == BINARY_CROSS_ENTROPY;
    const float scale = (binary ? 1.0f : 2.0f) / static_cast<float>(numbers);
    for (int64_t i = 0; i < numbers; i += LANES) {
        const int64_t left = numbers - i;
        const Vec output = load(of.gradient + i, left);
        store(of.gradient + i, ((binary ? sigmoid(output) : output) - load(target + i, left)) * scale, left);
    }
}

float norm(int64_t count, const float* x) { return std::sqrt(dot(x, x, count)); }
