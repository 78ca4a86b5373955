// The keys of one row's slots, stored so that LANES slots are scored at once: (blocks, A, LANES).
//
// "mlp" takes tanh(key + query) as (E − 1) / (E + 1), E = e^2key · e^2query, with e^2key computed once, at the write: a
// division in place of a tanh, with an absolute error below 4e-7. Where |query| ≤ QUERY_LIMIT a key beyond KEY_LIMIT
// has tanh = ±1, so that clamping it there changes nothing and E stays finite; for larger queries tanh is computed.

constexpr float QUERY_LIMIT = 16.0f;
constexpr float KEY_LIMIT = 25.0f;

struct Slots {
    float* keys;
    float* exponentials;  // e^2key, for "mlp" alone
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

    void write_exponentials(float* to, const float* key) {
        for (int64_t a = 0; a < attention; a += LANES) {
            Vec clamped = load(key + a, attention - a);
            clamped = clamped < -KEY_LIMIT ? broadcast(-KEY_LIMIT) : clamped;
            clamped = clamped > KEY_LIMIT ? broadcast(KEY_LIMIT) : clamped;
            const Vec exponential_key = exponential(clamped * 2.0f);
            for (int64_t i = 0; i < LANES && a + i < attention; ++i) to[(a + i) * LANES] = exponential_key[i];
        }
    }

    void write(int64_t slot, int64_t version, const float* key) {
        float* to = keys + slot / LANES * attention * LANES + slot % LANES;
        for (int64_t a = 0; a < attention; ++a) to[a * LANES] = key[a];
        if (exponentials != nullptr) write_exponentials(exponentials + (to - keys), key);
        for (; extent <= slot; ++extent) vacate(extent);
        versions[slot] = version;
        empty[slot] = 0.0f;
    }
};

enum class Score { dot, tanh, exponential };

// What `score_slots` needs of one query; arrays of A.
struct Query {
    const float* values;   // of "exponential": e^2query
    const float* weights;  // w₃; of "dot" none
    float scale;           // of the sum
};

// scores (round_up(extent, LANES)): −inf or NaN for empty slots, meaningless beyond.
template <Score KIND, int BLOCKS>
INLINE void score_blocks(const float* keys, const float* empty, int64_t attention, const Query& query,
                         float* scores) {
    Vec total[BLOCKS];
#pragma GCC unroll 8
    for (int b = 0; b < BLOCKS; ++b) total[b] = Vec{};
    for (int64_t a = 0; a < attention; ++a) {
        const Vec q = broadcast(query.values[a]);
#pragma GCC unroll 8
        for (int b = 0; b < BLOCKS; ++b) {
            const Vec key = load(keys + (b * attention + a) * LANES);
            if (KIND == Score::dot) total[b] += key * q;
            if (KIND == Score::tanh) total[b] += tanh(key + q) * query.weights[a];
            if (KIND == Score::exponential) total[b] += (key * q - 1.0f) / (key * q + 1.0f) * query.weights[a];
        }
    }
#pragma GCC unroll 8
    for (int b = 0; b < BLOCKS; ++b)
        store(scores + b * LANES, total[b] * query.scale + load(empty + b * LANES));
}

template <Score KIND>
inline void score_all(const Slots& slots, const float* keys, const Query& query, float* scores) {
    const int64_t A = slots.attention, blocks = round_up(slots.extent, LANES) / LANES;
    int64_t b = 0;
    for (; b + 4 <= blocks; b += 4)
        score_blocks<KIND, 4>(keys + b * A * LANES, slots.empty + b * LANES, A, query, scores + b * LANES);
    for (; b < blocks; ++b)
        score_blocks<KIND, 1>(keys + b * A * LANES, slots.empty + b * LANES, A, query, scores + b * LANES);
}

inline void score_dot(const Slots& slots, const float* query, float* scores) {
    const float scale = 1.0f / std::sqrt(static_cast<float>(slots.attention));
    score_all<Score::dot>(slots, slots.keys, {query, nullptr, scale}, scores);
}

// `workspace` holds A floats.
inline void score_mlp(const Slots& slots, const float* query, const float* weights, float* workspace,
                      float* scores) {
    const int64_t A = slots.attention;
    bool small = true;
    for (int64_t a = 0; a < A; ++a) small &= std::fabs(query[a]) <= QUERY_LIMIT;
    if (!small) return score_all<Score::tanh>(slots, slots.keys, {query, weights, 1.0f}, scores);
    for (int64_t a = 0; a < A; a += LANES)
        store(workspace + a, exponential(load(query + a, A - a) * 2.0f), A - a);
    score_all<Score::exponential>(slots, slots.exponentials, {workspace, weights, 1.0f}, scores);
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
