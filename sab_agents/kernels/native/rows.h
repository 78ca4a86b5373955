// Products of one vector with LANES rows of a matrix as it lies, without packing: for matrices that are used once.

// How two vectors are folded into one: of every WIDTH lanes, half come from `a` and half from `b`, lower or upper.
template <int WIDTH>
constexpr int folded_lane(int lane, bool upper) {
    return lane / WIDTH * WIDTH + lane % WIDTH % (WIDTH / 2) + (lane % WIDTH < WIDTH / 2 ? 0 : LANES) +
           (upper ? WIDTH / 2 : 0);
}

template <int WIDTH, int... LANE>
INLINE Vec fold(Vec a, Vec b, std::integer_sequence<int, LANE...>) {
#if defined(__clang__)
    return __builtin_shufflevector(a, b, folded_lane<WIDTH>(LANE, false)...) +
           __builtin_shufflevector(a, b, folded_lane<WIDTH>(LANE, true)...);
#else
    return __builtin_shuffle(a, b, IntVec{folded_lane<WIDTH>(LANE, false)...}) +
           __builtin_shuffle(a, b, IntVec{folded_lane<WIDTH>(LANE, true)...});
#endif
}

// sums[0] becomes the vector whose lane i is the sum of all lanes of sums[i].
template <int WIDTH>
INLINE void fold_all(Vec (&sums)[LANES]) {
    if constexpr (WIDTH > 1) {
#pragma GCC unroll 16
        for (int i = 0; i < WIDTH / 2; ++i)
            sums[i] = fold<WIDTH>(sums[i], sums[i + WIDTH / 2], std::make_integer_sequence<int, LANES>());
        fold_all<WIDTH / 2>(sums);
    }
}

struct RowProducts {
    Vec sums[LANES] = {};

    // Adds Σ_k weight(i, k)·x(k) to lane i, for the `rows` rows that are left; lanes beyond repeat the last.
    INLINE void add(const float* weight, int64_t rows, const float* x, int64_t k) {
        if (rows >= LANES) return add_rows(weight, x, k, [k](int i) INLINE_LAMBDA { return i * k; });
        add_rows(weight, x, k, [k, rows](int i) INLINE_LAMBDA { return (i < rows ? i : rows - 1) * k; });
    }

    INLINE Vec total() {
        fold_all<LANES>(sums);
        return sums[0];
    }

    template <class Place>
    INLINE void add_rows(const float* weight, const float* x, int64_t k, const Place& place) {
        int64_t j = 0;
        for (; j + LANES <= k; j += LANES) {
            const Vec factor = load(x + j);
#pragma GCC unroll 16
            for (int i = 0; i < LANES; ++i) sums[i] += load(weight + place(i) + j) * factor;
        }
        if (j == k) return;
        const Vec factor = load(x + j, k - j);
#pragma GCC unroll 16
        for (int i = 0; i < LANES; ++i) sums[i] += load(weight + place(i) + j, k - j) * factor;
    }
};
