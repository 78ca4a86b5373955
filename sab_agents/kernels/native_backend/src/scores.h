// How the slots of one row are scored against a query, and where a score's gradient goes: one structure for each kind, in
// `Scores`, and whatever is told apart by kind is in it. Python knows a kind by its `name`.
//
// A kind has
//   prepare(A, key, to)        what it keeps of a key at the write, beside the key: (A), LANES apart; if it PREPARES
//   score(slots, query, w3, workspace, scores)  the scores of a scan's slots; `workspace` holds A floats
//   step_floats(S, H, A)       the size of slots.keys that `score_states` needs
//   score_states(states, query, w3, slots, scores)  the scores of states that have no keys yet
//   backward(A, grad, key, query, w3, grad_key, grad_query, grad_w3)    adds a score's gradient to those of its parts

// What `score_blocks` needs of one query; arrays of A. A score is offset + scale · Σ.
struct Query {
    const float* values;
    const float* weights;  // w₃
    float scale, offset;
};

// The sum over a of TERM(key_a, query_a, w₃_a), for LANES slots at once; a TERM that has `pair` takes two a together.
// scores (round_up(extent, LANES)): −inf or NaN for empty slots, meaningless beyond.
template <class TERM, int BLOCKS>
INLINE void score_blocks(const float* keys, const float* empty, int64_t attention, const Query& query, float* scores) {
    const float *const values = query.values, *const weights = query.weights;
    Vec total[BLOCKS];
#pragma GCC unroll 8
    for (int b = 0; b < BLOCKS; ++b) total[b] = Vec{};
    int64_t a = 0;
    if constexpr (TERM::PAIRS)
        for (; a + 2 <= attention; a += 2) {
            const Vec first = broadcast(values[a]), second = broadcast(values[a + 1]);
#pragma GCC unroll 8
            for (int b = 0; b < BLOCKS; ++b) {
                const float* key = keys + (b * attention + a) * LANES;
                total[b] += TERM::pair(load(key), first, load(key + LANES), second, weights + a);
            }
        }
    for (; a < attention; ++a) {
        const Vec q = broadcast(values[a]);
#pragma GCC unroll 8
        for (int b = 0; b < BLOCKS; ++b) {
            const float* key = keys + (b * attention + a) * LANES;
            if constexpr (BLOCKS > 1) __builtin_prefetch(key + BLOCKS * attention * LANES);  // the next blocks'
            total[b] += TERM::of(load(key), q, weights + a);
        }
    }
#pragma GCC unroll 8
    for (int b = 0; b < BLOCKS; ++b)
        store(scores + b * LANES, total[b] * query.scale + query.offset + load(empty + b * LANES));
}

// Not inlined: among all else that a step holds in registers, the loop would be left with too few.
template <class TERM>
__attribute__((noinline)) void score_all(const Slots& slots, const float* keys, const Query& query, float* scores) {
    const int64_t A = slots.attention, blocks = round_up(slots.extent, LANES) / LANES;
    const float* const empty = slots.empty;
    const Query of = query;
    int64_t b = 0;
    for (; b + 4 <= blocks; b += 4)
        score_blocks<TERM, 4>(keys + b * A * LANES, empty + b * LANES, A, of, scores + b * LANES);
    for (; b < blocks; ++b)
        score_blocks<TERM, 1>(keys + b * A * LANES, empty + b * LANES, A, of, scores + b * LANES);
}

// What a step knows of the states that its slots hold.
struct States {
    const float* memory;      // (S, H)
    const float* key_weight;  // (A, H)
    int64_t slots, size;      // S and H
};

// a_i = w₃ · tanh(key + query), the paper's.
//
// tanh(key + query) is 1 − 2 / (E + 1), E = e^2key · e^2query, with e^2key computed once, at the write, and two of these
// share a division: w / d + w' / d' is (w d' + w' d) / (d d'). Its absolute error is below 4e-7. Where |query| ≤
// QUERY_LIMIT a key beyond KEY_LIMIT has tanh = ±1, so that clamping it there changes nothing and d d' stays finite; for
// larger queries tanh is computed.
struct Mlp {
    static constexpr const char* name = "mlp";
    static constexpr bool PREPARES = true;
    static constexpr float QUERY_LIMIT = 6.5f, KEY_LIMIT = 15.5f;

    struct Tanh {
        static constexpr bool PAIRS = false;
        INLINE static Vec of(Vec key, Vec query, const float* weights) { return tanh(key + query) * *weights; }
    };

    struct Exponential {  // w₃ / (E + 1)
        static constexpr bool PAIRS = true;
        INLINE static Vec of(Vec key, Vec query, const float* weights) { return *weights / (key * query + 1.0f); }
        INLINE static Vec pair(Vec key, Vec query, Vec other_key, Vec other_query, const float* weights) {
            const Vec d = key * query + 1.0f, other = other_key * other_query + 1.0f;
            return (weights[0] * other + weights[1] * d) / (d * other);
        }
    };

    static void prepare(int64_t A, const float* key, float* to) {
        for (int64_t a = 0; a < A; a += LANES) {
            Vec clamped = load(key + a, A - a);
            clamped = clamped < -KEY_LIMIT ? broadcast(-KEY_LIMIT) : clamped;
            clamped = clamped > KEY_LIMIT ? broadcast(KEY_LIMIT) : clamped;
            const Vec exponential_key = exponential(clamped * 2.0f);
            for (int64_t i = 0; i < LANES && a + i < A; ++i) to[(a + i) * LANES] = exponential_key[i];
        }
    }

    static void score(const Slots& slots, const float* query, const float* weights, float* workspace, float* scores) {
        const int64_t A = slots.attention;
        bool small = true;
        for (int64_t a = 0; a < A; ++a) small &= std::fabs(query[a]) <= QUERY_LIMIT;
        if (!small) return score_all<Tanh>(slots, slots.keys, {query, weights, 1.0f, 0.0f}, scores);
        Vec total{};
        for (int64_t a = 0; a < A; a += LANES) {
            store(workspace + a, exponential(load(query + a, A - a) * 2.0f), A - a);
            total += load(weights + a, A - a);
        }
        score_all<Exponential>(slots, slots.prepared, {workspace, weights, -2.0f, sum(total)}, scores);
    }

    static int64_t step_floats(int64_t S, int64_t, int64_t A) { return Slots::keys_size(S, A); }

    static void score_states(const States& states, const float* query, const float* weights, const Slots& slots,
                             float* scores) {
        const int64_t A = slots.attention, H = states.size, S = states.slots, extent = slots.extent;
        const float *const memory = states.memory, *const key_weight = states.key_weight;
        float* const keys = slots.keys;
        for (int64_t i = 0; i < extent; i += LANES)
            for (int64_t a = 0; a < A; ++a) {
                RowProducts found;
                found.add(memory + i * H, S - i, key_weight + a * H, H);
                store(keys + i * A + a * LANES, found.total());
            }
        score_all<Tanh>(slots, keys, {query, weights, 1.0f, 0.0f}, scores);
    }

    static void backward(int64_t A, float grad_score, const float* key, const float* query, const float* weights,
                         float* grad_key, float* grad_query, float* grad_weights) {
        for (int64_t a = 0; a < A; a += LANES) {
            const int64_t left = A - a;
            const Vec layer = tanh(load(key + a, left) + load(query + a, left));
            const Vec grad = grad_score * load(weights + a, left) * (1.0f - layer * layer);
            store(grad_key + a, load(grad_key + a, left) + grad, left);
            store(grad_query + a, load(grad_query + a, left) + grad, left);
            store(grad_weights + a, load(grad_weights + a, left) + grad_score * layer, left);
        }
    }
};

// a_i = key · query / √A.
struct Dot {
    static constexpr const char* name = "dot";
    static constexpr bool PREPARES = false;

    struct Product {
        static constexpr bool PAIRS = false;
        INLINE static Vec of(Vec key, Vec query, const float*) { return key * query; }
    };

    static float scale(int64_t A) { return 1.0f / std::sqrt(static_cast<float>(A)); }

    static void prepare(int64_t, const float*, float*) {}

    static void score(const Slots& slots, const float* query, const float*, float*, float* scores) {
        score_all<Product>(slots, slots.keys, {query, nullptr, scale(slots.attention), 0.0f}, scores);
    }

    static int64_t step_floats(int64_t, int64_t H, int64_t) { return H; }

    // (W₁m)·q = m·(W₁ᵀq): no key is needed.
    static void score_states(const States& states, const float* query, const float*, const Slots& slots,
                             float* scores) {
        const int64_t A = slots.attention, H = states.size, S = states.slots, extent = slots.extent;
        const float *const memory = states.memory, *const key_weight = states.key_weight;
        float* const pulled = slots.keys;
        for (int64_t j = 0; j < H; j += LANES) {
            Vec sum{};
            for (int64_t a = 0; a < A; ++a) sum += load(key_weight + a * H + j, H - j) * query[a];
            store(pulled + j, sum, H - j);
        }
        for (int64_t i = 0; i < extent; i += LANES) {
            RowProducts found;
            found.add(memory + i * H, S - i, pulled, H);
            store(scores + i, found.total() * scale(A) + load(slots.empty + i));
        }
    }

    static void backward(int64_t A, float grad_score, const float* key, const float* query, const float*,
                         float* grad_key, float* grad_query, float*) {
        const float factor = grad_score / std::sqrt(static_cast<float>(A));
        add_scaled(grad_key, factor, query, A);
        add_scaled(grad_query, factor, key, A);
    }
};

template <class... KINDS>
struct Kinds {
    static constexpr const char* names[] = {KINDS::name..., nullptr};

    // Calls a function with an object of the kind of this number.
    template <class FUNCTION>
    static void with(int64_t number, FUNCTION function) {
        int64_t i = 0;
        ((i++ == number ? function(KINDS{}) : void()), ...);
    }
};

using Scores = Kinds<Mlp, Dot>;
