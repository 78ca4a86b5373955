// The keys of one row's slots, stored so that LANES slots are scored at once: (blocks, A, LANES).

struct Slots {
    float* keys;
    float* prepared;    // what the kind of score keeps of them, in the same places; null for none
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

    template <class SCORE>
    void write(int64_t slot, int64_t version, const float* key) {
        float* to = keys + slot / LANES * attention * LANES + slot % LANES;
        for (int64_t a = 0; a < attention; ++a) to[a * LANES] = key[a];
        if (SCORE::PREPARES) SCORE::prepare(attention, key, prepared + (to - keys));
        for (; extent <= slot; ++extent) vacate(extent);
        versions[slot] = version;
        empty[slot] = 0.0f;
    }
};

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
