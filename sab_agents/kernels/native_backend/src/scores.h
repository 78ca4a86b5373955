// How the slots of one row are scored against a query, and where a score's gradient goes: one structure for each kind, in
// `Scores`, and whatever is told apart by kind is in it. Python knows a kind by its `name`.
//
// A kind has
//   prepare(key)               what it keeps of each part of a key at the write, beside the key; if it PREPARES
//   TOGETHER                   slots from which on steps are better scored together: what the keys of a block cost again
//                              when it is written to is then less than what loading all keys once for several steps saves
//   ask(A, query, w3, room, rough)  the Query of a query; `room` holds ROOM · A floats for it; whether for rough scores, too
//   score<ROUGH>(slots, from, to, queries, count, scores, stride)  the scores of some blocks of a scan's slots by some
//                              queries; if ROUGH, to a few digits, off by the query's margin at most
//   step_floats(S, H, A)       the size of slots.keys that `score_states` needs
//   score_states(states, query, w3, slots, scores)  the scores of states that have no keys yet
//   backward(A, scored, query, w3, grad_query, grad_w3)  adds gradients of scores by one query to those of their parts

// What the loops below need of one query; arrays of A. A score is offset + scale · Σ.
struct Query {
    const float* values;
    const float* weights;  // w₃
    float scale, offset;
    bool direct = true;            // of a kind that PREPARES: by the keys, not by what was kept of them
    float margin = 0.0f;           // what a rough score may be off by; 0 where it is off by nothing
    const float* rough = nullptr;  // 2 · A values, in the place of `values` and `weights` for a rough score
};

// Slots that were scored by one query, each with the gradient of its score that is to be passed on.
struct Scored {
    int64_t count;
    const float* gradients;
    const float* const* keys;
    float* const* grad_keys;
};

constexpr int64_t STEPS = 4;                      // queries of one row that are scored at once, at most
constexpr int SCORED = LANES >= 16 ? 4 : 2;       // blocks of slots that several queries share: as registers allow

// The sum over a of TERM(key_a, query_a, w₃_a), for LANES slots of each block at once, of each query; a TERM that has
// `pair` takes two a together. Each query's scores are `stride` floats after those of the one before: −inf or NaN for
// empty slots, meaningless beyond. However many blocks and queries share a call, each score is the same operations.
template <class TERM, int BLOCKS, int QUERIES>
INLINE void score_blocks(const float* keys, const float* empty, int64_t attention, const Query* queries, float* scores,
                         int64_t stride) {
    const float* const weights = queries->weights;
    const float* values[QUERIES];
    Vec total[QUERIES][BLOCKS];
#pragma GCC unroll 8
    for (int q = 0; q < QUERIES; ++q) {
        values[q] = queries[q].values;
#pragma GCC unroll 8
        for (int b = 0; b < BLOCKS; ++b) total[q][b] = Vec{};
    }
    int64_t a = 0;
    if constexpr (TERM::PAIRS)
        for (; a + 2 <= attention; a += 2) {
#pragma GCC unroll 8
            for (int b = 0; b < BLOCKS; ++b) {
                const float* key = keys + (b * attention + a) * LANES;
                if constexpr (BLOCKS > 1) prefetch(key + BLOCKS * attention * LANES, 2 * LANES);  // the next blocks'
                const Vec first = load(key), second = load(key + LANES);
#pragma GCC unroll 8
                for (int q = 0; q < QUERIES; ++q)
                    total[q][b] +=
                        TERM::pair(first, broadcast(values[q][a]), second, broadcast(values[q][a + 1]), weights + a);
            }
        }
    for (; a < attention; ++a) {
#pragma GCC unroll 8
        for (int b = 0; b < BLOCKS; ++b) {
            const float* key = keys + (b * attention + a) * LANES;
            if constexpr (BLOCKS > 1) __builtin_prefetch(key + BLOCKS * attention * LANES);  // the next blocks'
            const Vec loaded = load(key);
#pragma GCC unroll 8
            for (int q = 0; q < QUERIES; ++q) total[q][b] += TERM::of(loaded, broadcast(values[q][a]), weights + a);
        }
    }
#pragma GCC unroll 8
    for (int q = 0; q < QUERIES; ++q)
#pragma GCC unroll 8
        for (int b = 0; b < BLOCKS; ++b)
            store(scores + q * stride + b * LANES,
                  total[q][b] * queries[q].scale + queries[q].offset + load(empty + b * LANES));
}

// The scores of blocks `from` … `to` of a row's slots, by QUERIES queries.
//
// Not inlined: among all else that a step holds in registers, the loop would be left with too few.
template <class TERM, int QUERIES>
__attribute__((noinline)) void score_range(const Slots& slots, const float* keys, int64_t from, int64_t to,
                                           const Query* queries, float* scores, int64_t stride) {
    constexpr int BLOCKS = QUERIES == 1 ? 4 : SCORED;
    const int64_t A = slots.attention;
    const float* const empty = slots.empty;
    Query of[QUERIES];
    for (int q = 0; q < QUERIES; ++q) of[q] = queries[q];
    int64_t b = from;
    for (; b + BLOCKS <= to; b += BLOCKS)
        score_blocks<TERM, BLOCKS, QUERIES>(keys + b * A * LANES, empty + b * LANES, A, of, scores + b * LANES, stride);
    for (; b < to; ++b)
        score_blocks<TERM, 1, QUERIES>(keys + b * A * LANES, empty + b * LANES, A, of, scores + b * LANES, stride);
}

// The same by any number of queries.
template <class TERM>
void score_queries(const Slots& slots, const float* keys, int64_t from, int64_t to, const Query* queries, int64_t count,
                   float* scores, int64_t stride) {
    int64_t q = 0;
    const auto some = [&](auto number) {
        constexpr int QUERIES = decltype(number)::value;
        for (; q + QUERIES <= count; q += QUERIES)
            score_range<TERM, QUERIES>(slots, keys, from, to, queries + q, scores + q * stride, stride);
    };
    some(std::integral_constant<int, 4>());
    some(std::integral_constant<int, 2>());
    some(std::integral_constant<int, 1>());
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
    static constexpr int64_t TOGETHER = 256;
    static constexpr int64_t ROOM = 3;
    static constexpr float QUERY_LIMIT = 6.5f, KEY_LIMIT = 15.5f;
    static constexpr float LEAST_WEIGHT = 1e-6f;  // smaller ones have this size in rough scores

    struct Tanh {
        static constexpr bool PAIRS = false;
        INLINE static Vec of(Vec key, Vec query, const float* weights) { return tanh(key + query) * *weights; }
    };

    struct Exponential {  // w₃ / (E + 1)
        static constexpr bool PAIRS = true;
        INLINE static Vec of(Vec key, Vec query, const float* weights) {
            return quotient(broadcast(*weights), key * query + 1.0f);
        }
        INLINE static Vec pair(Vec key, Vec query, Vec other_key, Vec other_query, const float* weights) {
            const Vec d = key * query + 1.0f, other = other_key * other_query + 1.0f;
            return quotient(weights[0] * other + weights[1] * d, d * other);
        }
    };

    // The same as 1 / (E / w₃ + 1 / w₃), of which two need two operations less: 1 / d + 1 / d' is (d + d') / (d d'), and a
    // product that is too large for a float gives 0, as it should.
    struct Rough {
        static constexpr bool PAIRS = true;
        INLINE static Vec of(Vec key, Vec query, const float* inverse) {
            return rough_quotient(broadcast(1.0f), key * query + *inverse);
        }
        INLINE static Vec pair(Vec key, Vec query, Vec other_key, Vec other_query, const float* inverse) {
            const Vec d = key * query + inverse[0], other = other_key * other_query + inverse[1];
            return rough_quotient(d + other, d * other);
        }
    };

    INLINE static Vec prepare(Vec key) {
        key = key < -KEY_LIMIT ? broadcast(-KEY_LIMIT) : key;
        key = key > KEY_LIMIT ? broadcast(KEY_LIMIT) : key;
        return exponential(key * 2.0f);
    }

    static Query ask(int64_t A, const float* query, const float* weights, float* room, bool rough) {
        bool small = true;
        for (int64_t a = 0; a < A; ++a) small &= std::fabs(query[a]) <= QUERY_LIMIT;
        if (!small) return {query, weights, 1.0f, 0.0f};
        Vec total{};
        for (int64_t a = 0; a < A; a += LANES) {
            store(room + a, exponential(load(query + a, A - a) * 2.0f), A - a);
            total += load(weights + a, A - a);
        }
        Query asked{room, weights, -2.0f, sum(total), false};
        if (rough) ask_roughly(A, room + A, asked);
        return asked;
    }

    // Adds what rough scores need; `room` holds 2 · A floats.
    static void ask_roughly(int64_t A, float* room, Query& query) {
        Vec sizes{};
        for (int64_t a = 0; a < A; a += LANES) {
            const int64_t left = A - a;
            const Vec w = load(query.weights + a, left), least = broadcast(LEAST_WEIGHT);
            const Vec size = w < 0.0f ? -w : w, larger = size < least ? least : size;
            const Vec inverse = 1.0f / (w < 0.0f ? -larger : larger);
            store(room + a, load(query.values + a, left) * inverse, left);
            store(room + A + a, inverse, left);
            sizes += size;
        }
        const float size = sum(sizes), least = 4.0f * LEAST_WEIGHT * static_cast<float>(A);
        query.margin = size < 1e15f ? 2.0f * (ROUGH_QUOTIENT + 1e-5f) * size + least : INFINITY;
        query.rough = room;
    }

    template <bool ROUGH>
    static void score(const Slots& slots, int64_t from, int64_t to, const Query* queries, int64_t count, float* scores,
                      int64_t stride) {
        for (int64_t q = 0, end; q < count; q = end) {  // queries of one kind
            for (end = q + 1; end < count && queries[end].direct == queries[q].direct;) ++end;
            const Query* const some = queries + q;
            const int64_t n = end - q;
            float* const to_scores = scores + q * stride;
            if (some->direct) score_queries<Tanh>(slots, slots.keys, from, to, some, n, to_scores, stride);
            else if (!ROUGH) score_queries<Exponential>(slots, slots.prepared, from, to, some, n, to_scores, stride);
            else {
                Query rough[STEPS];
                for (int64_t i = 0; i < n; ++i) {
                    rough[i] = some[i];
                    rough[i].values = some[i].rough, rough[i].weights = some[i].rough + slots.attention;
                }
                score_queries<Rough>(slots, slots.prepared, from, to, rough, n, to_scores, stride);
            }
        }
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
        const Query of{query, weights, 1.0f, 0.0f};
        score_range<Tanh, 1>(slots, keys, 0, slots.blocks(), &of, scores, 0);
    }

    static void backward(int64_t A, const Scored& scored, const float* query, const float* weights, float* grad_query,
                         float* grad_weights) {
        for (int64_t a = 0; a < A; a += LANES) {
            const int64_t left = A - a;
            const Vec of_query = load(query + a, left), weight = load(weights + a, left);
            Vec to_query = load(grad_query + a, left), to_weight = load(grad_weights + a, left);
            for (int64_t i = 0; i < scored.count; ++i) {
                const float grad_score = scored.gradients[i];
                float* const grad_key = scored.grad_keys[i] + a;
                const Vec layer = tanh(load(scored.keys[i] + a, left) + of_query);
                const Vec grad = grad_score * weight * (1.0f - layer * layer);
                store(grad_key, load(grad_key, left) + grad, left);
                to_query += grad;
                to_weight += grad_score * layer;
            }
            store(grad_query + a, to_query, left);
            store(grad_weights + a, to_weight, left);
        }
    }
};

// a_i = key · query / √A.
struct Dot {
    static constexpr const char* name = "dot";
    static constexpr bool PREPARES = false;
    static constexpr int64_t TOGETHER = 0;
    static constexpr int64_t ROOM = 0;

    struct Product {
        static constexpr bool PAIRS = false;
        INLINE static Vec of(Vec key, Vec query, const float*) { return key * query; }
    };

    static float scale(int64_t A) { return 1.0f / std::sqrt(static_cast<float>(A)); }

    static Query ask(int64_t A, const float* query, const float*, float*, bool) {
        return {query, nullptr, scale(A), 0.0f};
    }

    template <bool>
    static void score(const Slots& slots, int64_t from, int64_t to, const Query* queries, int64_t count, float* scores,
                      int64_t stride) {
        score_queries<Product>(slots, slots.keys, from, to, queries, count, scores, stride);
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

    static void backward(int64_t A, const Scored& scored, const float* query, const float*, float* grad_query, float*) {
        for (int64_t i = 0; i < scored.count; ++i) {
            const float factor = scored.gradients[i] / std::sqrt(static_cast<float>(A));
            add_scaled(scored.grad_keys[i], factor, query, A);
            add_scaled(grad_query, factor, scored.keys[i], A);
        }
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
