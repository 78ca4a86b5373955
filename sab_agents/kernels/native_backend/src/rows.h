// Products of one vector with LANES rows of a matrix as it lies, without packing: for matrices that are used once.

struct RowProducts {
    Vec sums[LANES] = {};

    // Adds Σ_k weight(i, k)·x(k) to lane i, for the `rows` rows that are left; lanes beyond repeat the last.
    INLINE void add(const float* weight, int64_t rows, const float* x, int64_t k) {
        if (rows >= LANES) return add_rows(weight, x, k, [k](int i) INLINE_LAMBDA { return i * k; });
        add_rows(weight, x, k, [k, rows](int i) INLINE_LAMBDA { return (i < rows ? i : rows - 1) * k; });
    }

    // Adds Σ_k (weight(i, k) − x(k))² instead.
    INLINE void add_distances(const float* weight, int64_t rows, const float* x, int64_t k) {
        for (int64_t j = 0; j < k; j += LANES) {
            const Vec from = load(x + j, k - j);
#pragma GCC unroll 16
            for (int i = 0; i < LANES; ++i) {
                const Vec apart = load(weight + (i < rows ? i : rows - 1) * k + j, k - j) - from;
                sums[i] += apart * apart;
            }
        }
    }

    INLINE Vec total() {
        sum_rows(sums);
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
