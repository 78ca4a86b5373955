// The keys of one row's slots, stored so that LANES slots are scored at once: (blocks, A, LANES).

struct Slots {
    float* keys;
    float* prepared;    // what the kind of score keeps of them, in the same places; null for none
    float* empty;       // −inf for an empty slot, 0 for a filled one
    int64_t* versions;  // of each slot, −1 where it is empty
    int32_t* born;      // the step at which each slot was written; negative before the first, see `born_before`
    int64_t attention;
    int64_t age_scale;   // τ
    int64_t extent = 0;  // slots beyond are empty

    static int64_t keys_size(int64_t slots, int64_t attention) { return round_up(slots, LANES) * attention; }

    int64_t blocks() const { return round_up(extent, LANES) / LANES; }

    // Gives slots that nothing is written to some time, which is subtracted as all others.
    void begin_times(int64_t slots) { std::memset(born, 0, static_cast<size_t>(round_up(slots, LANES)) * sizeof(int32_t)); }

    void clear() {
        for (int64_t i = 0; i < extent; ++i) vacate(i);
        extent = 0;
    }

    void vacate(int64_t slot) {
        versions[slot] = -1;
        empty[slot] = -INFINITY;
    }

    template <class SCORE>
    void write(int64_t slot, int64_t version, int32_t at, const float* key) {
        float* to = keys + slot / LANES * attention * LANES + slot % LANES;
        for (int64_t a = 0; a < attention; ++a) to[a * LANES] = key[a];
        if constexpr (SCORE::PREPARES) {
            float* kept = prepared + (to - keys);
            for (int64_t a = 0; a < attention; a += LANES) {
                const Vec of_key = SCORE::prepare(load(key + a, attention - a));
                for (int64_t i = 0; i < LANES && a + i < attention; ++i) kept[(a + i) * LANES] = of_key[i];
            }
        }
        fill(slot, version, at);
    }

    // The keys of `count` ≤ LANES slots from the first of a block on, `stride` ≥ round_up(attention, LANES) floats apart;
    // those of the rest of the block are zeros.
    template <class SCORE>
    void write_block(int64_t slot, int64_t count, const float* from, int64_t stride) {
        float* to = keys + slot * attention;
        for (int64_t a = 0; a < attention; a += LANES) {
            Vec square[LANES];
            for (int64_t i = 0; i < LANES; ++i) square[i] = i < count ? load(from + i * stride + a) : Vec{};
            transpose(square);
            for (int64_t i = 0; i < LANES && a + i < attention; ++i) {
                store(to + (a + i) * LANES, square[i]);
                if constexpr (SCORE::PREPARES)
                    store(prepared + (to - keys) + (a + i) * LANES, SCORE::prepare(square[i]));
            }
        }
    }

    void read_key(int64_t slot, float* to) const {
        const float* from = keys + slot / LANES * attention * LANES + slot % LANES;
        for (int64_t a = 0; a < attention; ++a) to[a] = from[a * LANES];
    }

    // A slot whose key is there.
    void fill(int64_t slot, int64_t version, int32_t at) {
        for (; extent <= slot; ++extent) vacate(extent);
        versions[slot] = version;
        born[slot] = at;
        empty[slot] = 0.0f;
    }

    // Subtracts rate · log(1 + age/τ) from the scores of step t.
    INLINE void subtract_ages(int64_t t, float rate, float* scores) const { subtract_ages(t, rate, scores, 0, extent); }

    INLINE void subtract_ages(int64_t t, float rate, float* scores, int64_t from, int64_t to) const {
        for (int64_t i = from; i < to; i += LANES)
            store(scores + i, load(scores + i) - rate * logarithm(elapsed(t, i)));
    }

    // 1 + age/τ of a block's slots at step t.
    INLINE Vec elapsed(int64_t t, int64_t slot) const {
        IntVec at;
        std::memcpy(&at, born + slot, sizeof at);
        const Vec ages = __builtin_convertvector(static_cast<int32_t>(t + age_scale - 1) - at, Vec);
        return ages * (1.0f / static_cast<float>(age_scale));
    }
};

constexpr int64_t OLDEST_AGE = int64_t{1} << 30;  // older is counted as this

// The step, counted from the first, at which a slot was written that has this age there.
inline int32_t born_before(int64_t age) {
    return -1 - static_cast<int32_t>(age < 0 ? 0 : age > OLDEST_AGE ? OLDEST_AGE : age);
}

// A score that at least `ranks` slots reach, so that few others need a look, whatever their order: of the best score in
// each lane of all blocks, the one of that rank.
inline float lower_bound(Vec best, int64_t ranks) {
    IntVec above{};  // how many lanes are better
    for (int lane = 0; lane < LANES; ++lane) above -= broadcast(best[lane]) > best;
    float bound = INFINITY;
    for (int lane = 0; lane < LANES; ++lane) bound = above[lane] < ranks && best[lane] < bound ? best[lane] : bound;
    return bound;
}

// −inf where that says nothing.
inline float lower_bound(const Slots& slots, const float* scores, int64_t ranks) {
    if (ranks > LANES || slots.extent < 4 * LANES) return -INFINITY;
    Vec best = broadcast(-INFINITY);
    for (int64_t i = 0; i + LANES <= slots.extent; i += LANES) {
        const Vec score = load(scores + i);
        best = score > best ? score : best;
    }
    return lower_bound(best, ranks);
}

// Ranks the slots of the block that begins with slot i, as far as they reach a bound.
INLINE void rank_block(const Slots& slots, const float* scores, int64_t i, Vec bound, Ranking& best) {
    for (uint32_t left = not_below(load(scores + i), bound); left != 0; left &= left - 1) {
        const int64_t slot = i + __builtin_ctz(left);
        if (slot < slots.extent && best.beats_lowest(scores[slot]) && slots.versions[slot] >= 0)
            best.insert(scores[slot], slots.versions[slot]);
    }
}

inline void rank_slots(const Slots& slots, const float* scores, Ranking& best) {
    best.clear();
    const Vec bound = broadcast(lower_bound(slots, scores, best.ranks));
    for (int64_t i = 0; i < slots.extent; i += LANES) rank_block(slots, scores, i, bound, best);
}

constexpr int64_t MANY = 128;  // slots from which on a first look pays

INLINE bool many(const Slots& slots, int64_t ranks) { return slots.extent >= MANY && ranks <= LANES; }

// The same of many slots at step t: a first look, at scores that may be off by `margin` and logarithms of ages to a few
// digits, leaves few blocks that could hold one of the best, and exact(i) then gives the scores, ages subtracted, of the
// one that begins with slot i. No bit of what is ranked depends on the first look. `rough`: room for all slots' scores.
template <class Exact>
INLINE void rank_many(const Slots& slots, int64_t t, float rate, const float* scores, float margin, float* rough,
                      const Exact& exact, Ranking& best) {
    best.clear();
    Vec highest = broadcast(-INFINITY);
    for (int64_t i = 0; i < slots.extent; i += LANES) {
        Vec score = load(scores + i);
        if (rate != 0.0f) score -= rate * rough_logarithm(slots.elapsed(t, i));
        store(rough + i, score);
        if (i + LANES <= slots.extent) highest = score > highest ? score : highest;
    }
    const float bound = lower_bound(highest, best.ranks);
    const float off = 2.0f * (margin + std::fabs(rate) * ROUGH_LOGARITHM) + 1e-6f * std::fabs(bound);
    const Vec least = broadcast(bound - off);  // not a number if nothing is known: then every block is looked at
    for (int64_t i = 0; i < slots.extent; i += LANES)
        if (not_below(load(rough + i), least) != 0) {
            exact(i);
            rank_block(slots, scores, i, least, best);
        }
}
