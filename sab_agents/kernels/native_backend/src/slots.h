// The keys of one row's slots, stored so that LANES slots are scored at once: (blocks, A, LANES).

struct Slots {
    float* keys;
    float* prepared;    // what the kind of score keeps of them, in the same places; null for none
    float* empty;       // −inf for an empty slot, 0 for a filled one
    int64_t* versions;  // of each slot, −1 where it is empty
    int32_t* born;      // the step at which each slot was written; negative before the first, see `born_before`
    int64_t attention;
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

    // A slot whose key is there.
    void fill(int64_t slot, int64_t version, int32_t at) {
        for (; extent <= slot; ++extent) vacate(extent);
        versions[slot] = version;
        born[slot] = at;
        empty[slot] = 0.0f;
    }

    // Subtracts rate · log(1 + age) from the scores of step t.
    INLINE void subtract_ages(int64_t t, float rate, float* scores) const {
        for (int64_t i = 0; i < extent; i += LANES) {
            IntVec at;
            std::memcpy(&at, born + i, sizeof at);
            const Vec elapsed = __builtin_convertvector(static_cast<int32_t>(t) - at, Vec);  // 1 + age
            store(scores + i, load(scores + i) - rate * logarithm(elapsed));
        }
    }
};

constexpr int64_t OLDEST_AGE = int64_t{1} << 30;  // older is counted as this

// The step, counted from the first, at which a slot was written that has this age there.
inline int32_t born_before(int64_t age) {
    return -1 - static_cast<int32_t>(age < 0 ? 0 : age > OLDEST_AGE ? OLDEST_AGE : age);
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
    const Vec bound = broadcast(lower_bound(slots, scores, best.ranks));
    for (int64_t i = 0; i < slots.extent; i += LANES)
        for (uint32_t left = not_below(load(scores + i), bound); left != 0; left &= left - 1) {
            const int64_t slot = i + __builtin_ctz(left);
            if (slot < slots.extent && best.beats_lowest(scores[slot]) && slots.versions[slot] >= 0)
                best.insert(scores[slot], slots.versions[slot]);
        }
}
