// The keys of one row's slots, stored so that LANES slots are scored at once: (blocks, A, LANES).

struct Slots {
    float* keys;
    float* empty;       // −inf for an empty slot, 0 for a filled one
    int64_t* versions;  // of each slot, −1 where it is empty
    int64_t attention;
    int64_t extent = 0;  // slots beyond are empty

    static int64_t keys_size(int64_t slots, int64_t attention) { return round_up(slots, LANES) * attention; }

    void clear() {
        for (int64_t i = 0; i < extent; ++i) vacate(i);
        extent = 0;
    }

    void vacate(int64_t slot) {
        versions[slot] = -1;
        empty[slot] = -INFINITY;
    }

    void write(int64_t slot, int64_t version, const float* key) {
        float* to = keys + slot / LANES * attention * LANES + slot % LANES;
        for (int64_t a = 0; a < attention; ++a) to[a * LANES] = key[a];
        for (; extent <= slot; ++extent) vacate(extent);
        versions[slot] = version;
        empty[slot] = 0.0f;
    }
};

// scores (round_up(extent, LANES)): −inf or NaN for empty slots, meaningless beyond; score_weight is null for "dot".
template <int BLOCKS>
INLINE void score_blocks(const float* keys, const float* empty, int64_t attention, const float* query,
                         const float* score_weight, float scale, float* scores) {
    Vec total[BLOCKS];
#pragma GCC unroll 8
    for (int b = 0; b < BLOCKS; ++b) total[b] = Vec{};
    for (int64_t a = 0; a < attention; ++a) {
        const Vec q = broadcast(query[a]);
#pragma GCC unroll 8
        for (int b = 0; b < BLOCKS; ++b) {
            const Vec key = load(keys + (b * attention + a) * LANES);
            total[b] += score_weight == nullptr ? key * q : tanh(key + q) * broadcast(score_weight[a]);
        }
    }
#pragma GCC unroll 8
    for (int b = 0; b < BLOCKS; ++b) store(scores + b * LANES, total[b] * scale + load(empty + b * LANES));
}

inline void score_slots(const Slots& slots, const float* query, const float* score_weight, float* scores) {
    const int64_t A = slots.attention;
    const int64_t blocks = round_up(slots.extent, LANES) / LANES;
    const float scale = score_weight == nullptr ? 1.0f / std::sqrt(static_cast<float>(A)) : 1.0f;
    int64_t b = 0;
    for (; b + 4 <= blocks; b += 4) {
        const float *keys = slots.keys + b * A * LANES, *empty = slots.empty + b * LANES;
        if (score_weight == nullptr) score_blocks<4>(keys, empty, A, query, nullptr, scale, scores + b * LANES);
        else score_blocks<4>(keys, empty, A, query, score_weight, scale, scores + b * LANES);
    }
    for (; b < blocks; ++b)
        score_blocks<1>(slots.keys + b * A * LANES, slots.empty + b * LANES, A, query, score_weight, scale, scores + b * LANES);
}

// A score that at least `ranks` slots reach, so that few others need a look, whatever their order: of the best score in
// each lane of all blocks, the one of that rank. −inf where that says nothing.
inline float lower_bound(const Slots& slots, const float* scores, int64_t ranks) {
    if (ranks > LANES || slots.extent < 4 * LANES) return -INFINITY;
    Vec best = broadcast(-INFINITY);
    for (int64_t i = 0; i + LANES <= slots.extent; i += LANES) {
        const Vec score = load(scores + i);
        best = score > best ? score : best;
    }
    IntVec above{};  // how many lanes are better
    for (int lane = 0; lane < LANES; ++lane) above -= broadcast(best[lane]) > best;
    float bound = INFINITY;
    for (int lane = 0; lane < LANES; ++lane) bound = above[lane] < ranks && best[lane] < bound ? best[lane] : bound;
    return bound;
}

inline void rank_slots(const Slots& slots, const float* scores, Ranking& best) {
    best.clear();
    const float bound = lower_bound(slots, scores, best.ranks);
    for (int64_t i = 0; i < slots.extent; ++i)
        if (!(scores[i] < bound) && best.beats_lowest(scores[i]) && slots.versions[i] >= 0)
            best.insert(scores[i], slots.versions[i]);
}
