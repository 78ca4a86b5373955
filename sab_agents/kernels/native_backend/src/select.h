// The K + 1 best slots of one row, their weights, and how a gradient comes back through them (section 3).
//
// n filled slots are ranked by their scores. If n ≥ R = K + 1 the last rank's score is the threshold; otherwise the
// lowest score minus 1 is, so that every filled slot takes part. With u_i the part of a score that is above it and
// g_i = (exp(κu_i) − 1)/κ, which is u_i where the sharpness κ is 0, the weights are g_i / (floor + Σg).

constexpr float EPSILON = 1e-8f;  // smallest divisor

struct Ranking {
    float* scores;      // (R) falling, −inf beyond the filled
    int64_t* versions;  // (R), −1 beyond the filled
    int64_t ranks;      // R
    int64_t count = 0;

    void clear() {
        count = 0;
        for (int64_t i = 0; i < ranks; ++i) scores[i] = -INFINITY, versions[i] = -1;
    }

    // NaN is the best of all, as in torch, so that it shows in the result.
    INLINE bool beats(float score, float other) const { return !(score <= other) && other == other; }
    INLINE bool beats_lowest(float score) const { return beats(score, scores[ranks - 1]); }

    void insert(float score, int64_t version) {
        int64_t i = count < ranks ? count++ : ranks - 1;
        for (; i > 0 && beats(score, scores[i - 1]); --i) scores[i] = scores[i - 1], versions[i] = versions[i - 1];
        scores[i] = score;
        versions[i] = version;
    }
};

INLINE int64_t filled_ranks(const int64_t* versions, int64_t ranks) {
    int64_t count = 0;
    while (count < ranks && versions[count] >= 0) ++count;
    return count;
}

INLINE float threshold(const float* scores, int64_t count, int64_t ranks) {
    return count == ranks ? scores[ranks - 1] : scores[count - 1] - 1.0f;
}

INLINE float positive_part(float x) { return x <= 0.0f ? 0.0f : x; }  // NaN stays

INLINE float at_least_epsilon(float x) { return x < EPSILON ? EPSILON : x; }

// How the scores above a threshold become weights. With κ all is multiplied by exp(κ(θ − best)), which changes no weight:
// so no exponential is above 1, and none overflows.
struct Weighing {
    float floor, sharpness;

    template <typename ARGUMENTS>
    explicit Weighing(const ARGUMENTS& of)
        : floor(static_cast<float>(of.floor)), sharpness(static_cast<float>(of.sharpness)) {}

    // g of a score.
    INLINE float mass(float score, float theta, float best) const {
        const float above = positive_part(score - theta);
        if (sharpness == 0.0f || !(above > 0.0f)) return above;
        return slope(score, best) * -std::expm1(-sharpness * above) / sharpness;
    }

    // ∂g/∂u of a score above the threshold.
    INLINE float slope(float score, float best) const {
        return sharpness == 0.0f ? 1.0f : std::exp(sharpness * (score - best));
    }

    // floor + Σg, of a row with count > 0.
    INLINE float total(const float* scores, int64_t count, float theta) const {
        float total = 0.0f;
        for (int64_t i = 0; i < count; ++i) total += mass(scores[i], theta, scores[0]);
        return total + floor * slope(theta, scores[0]);
    }
};

inline void weigh(const Ranking& best, const Weighing& by, float* weights) {
    for (int64_t i = best.count; i < best.ranks; ++i) weights[i] = 0.0f;
    if (best.count == 0) return;
    const float theta = threshold(best.scores, best.count, best.ranks);
    float total = 0.0f;
    for (int64_t i = 0; i < best.count; ++i) total += weights[i] = by.mass(best.scores[i], theta, best.scores[0]);
    const float divisor = at_least_epsilon(total + by.floor * by.slope(theta, best.scores[0]));
    for (int64_t i = 0; i < best.count; ++i) weights[i] /= divisor;
}

// The gradients of the scores from value_grads, those of the weights: m_i · ∂loss/∂s, and summary_grad = s · ∂loss/∂s.
// The score that set the threshold gets minus the sum of all. Where ranks tie with it their gradient is 0.
inline void score_gradients(const float* scores, int64_t count, int64_t ranks, const Weighing& by,
                            const float* value_grads, float summary_grad, float* grads) {
    const float theta = threshold(scores, count, ranks), total = by.total(scores, count, theta);
    const float scale = 1.0f / at_least_epsilon(total), normalised = total > EPSILON ? summary_grad : 0.0f;
    float all = 0.0f;
    for (int64_t i = 0; i < count; ++i) {
        const float each = scale * by.slope(scores[i], scores[0]);
        grads[i] = scores[i] > theta ? (value_grads[i] - normalised) * each : 0.0f;
        all += grads[i];
    }
    grads[count - 1] -= all;
}
