// The K + 1 best slots of one row, their weights, and how a gradient comes back through them (section 3).
//
// n filled slots are ranked by their scores. If n ≥ R = K + 1 the last rank's score is the threshold; otherwise the
// lowest score minus 1 is, so that every filled slot takes part. With u_i the part of a score that is above it, the
// weights are u_i / (floor + Σu).

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

// Σ u, of a row with count > 0.
INLINE float total_above(const float* scores, int64_t count, float theta) {
    float total = 0.0f;
    for (int64_t i = 0; i < count; ++i) total += positive_part(scores[i] - theta);
    return total;
}

INLINE float at_least_epsilon(float x) { return x < EPSILON ? EPSILON : x; }

inline void weigh(const Ranking& best, float floor, float* weights) {
    for (int64_t i = best.count; i < best.ranks; ++i) weights[i] = 0.0f;
    if (best.count == 0) return;
    const float theta = threshold(best.scores, best.count, best.ranks);
    const float divisor = at_least_epsilon(floor + total_above(best.scores, best.count, theta));
    for (int64_t i = 0; i < best.count; ++i) weights[i] = positive_part(best.scores[i] - theta) / divisor;
}

// The gradients of the scores from value_grads, those of the weights: m_i · ∂loss/∂s, and summary_grad = s · ∂loss/∂s.
// The score that set the threshold gets minus the sum of all. Where ranks tie with it their gradient is 0.
inline void score_gradients(const float* scores, int64_t count, int64_t ranks, float floor, const float* value_grads,
                            float summary_grad, float* grads) {
    const float theta = threshold(scores, count, ranks);
    const float total = floor + total_above(scores, count, theta);
    const float scale = 1.0f / at_least_epsilon(total), normalised = total > EPSILON ? summary_grad : 0.0f;
    float all = 0.0f;
    for (int64_t i = 0; i < count; ++i) {
        grads[i] = scores[i] > theta ? (value_grads[i] - normalised) * scale : 0.0f;
        all += grads[i];
    }
    grads[count - 1] -= all;
}
