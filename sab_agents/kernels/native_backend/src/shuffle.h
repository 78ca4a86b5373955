// LANES vectors of LANES floats as a square: its transpose, and the sums of its rows.

// Of every WIDTH lanes of the result, half come from `a` and half from `b`: the lower half of theirs, or the upper.
template <int WIDTH>
constexpr int halved_lane(int lane, bool upper) {
    return lane / WIDTH * WIDTH + lane % WIDTH % (WIDTH / 2) + (lane % WIDTH < WIDTH / 2 ? 0 : LANES) +
           (upper ? WIDTH / 2 : 0);
}

template <int WIDTH, bool UPPER, int... LANE>
INLINE Vec halves(Vec a, Vec b, std::integer_sequence<int, LANE...>) {
#if defined(__clang__)
    return __builtin_shufflevector(a, b, halved_lane<WIDTH>(LANE, UPPER)...);
#else
    return __builtin_shuffle(a, b, IntVec{halved_lane<WIDTH>(LANE, UPPER)...});
#endif
}

template <int WIDTH, bool UPPER>
INLINE Vec halves(Vec a, Vec b) {
    return halves<WIDTH, UPPER>(a, b, std::make_integer_sequence<int, LANES>());
}

// rows[0] becomes the vector whose lane i is the sum of all lanes of rows[i].
template <int WIDTH = LANES>
INLINE void sum_rows(Vec* rows) {
    if constexpr (WIDTH > 1) {
#pragma GCC unroll 16
        for (int i = 0; i < WIDTH / 2; ++i)
            rows[i] = halves<WIDTH, false>(rows[i], rows[i + WIDTH / 2]) +
                      halves<WIDTH, true>(rows[i], rows[i + WIDTH / 2]);
        sum_rows<WIDTH / 2>(rows);
    }
}

// Each stage exchanges one binary digit of the row with the same digit of the lane.
template <int WIDTH = LANES>
INLINE void transpose(Vec* rows) {
    if constexpr (WIDTH > 1) {
#pragma GCC unroll 16
        for (int i = 0; i < LANES; ++i) {
            if (i % WIDTH >= WIDTH / 2) continue;
            const Vec a = rows[i], b = rows[i + WIDTH / 2];
            rows[i] = halves<WIDTH, false>(a, b);
            rows[i + WIDTH / 2] = halves<WIDTH, true>(a, b);
        }
        transpose<WIDTH / 2>(rows);
    }
}
