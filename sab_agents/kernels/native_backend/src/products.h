// The large products around the scan: of all inputs with their weights, and the gradients of weights.

int64_t linear_shared_size(const Linear& of) { return packed_size(of.k, of.n); }

int64_t linear_scratch_size(const Linear& of) { return BLOCK * padded(of.n); }

void linear_prepare(const Linear& of, float* shared) {
    pack(of.weight, of.k, of.n, of.along_k, of.along_n, shared);
}

INLINE Vec activated(int64_t activation, Vec x) {
    if (activation == 1) return tanh(x);
    if (activation == 2) return (x > 0.0f) | (x != x) ? x : Vec{};  // NaN stays
    return x;
}

void linear_run(const Linear& of, const float* packed, float* scratch, int64_t first, int64_t last) {
    for (int64_t row = first; row < last; row += BLOCK) {
        const int64_t count = last - row < BLOCK ? last - row : BLOCK;
        product(of.x + row * of.k, of.k, count, of.k, of.n, packed, scratch);
        for (int64_t r = 0; r < count; ++r) {
            const float* from = scratch + r * padded(of.n);
            float* to = of.out + (row + r) * of.n;
            for (int64_t j = 0; j < of.n; j += LANES) {
                Vec bias = of.bias == nullptr ? Vec{} : load(of.bias + j, of.n - j);
                if (of.second_bias != nullptr) bias += load(of.second_bias + j, of.n - j);
                store(to + j, activated(of.activation, load(from + j) + bias), of.n - j);
            }
        }
    }
}

constexpr int64_t TERMS = 256;  // that one pass takes: their `right` stays in the second cache, their `left` in the first

struct OuterScratch {
    float *right, *left, *tile;
    int64_t used;

    OuterScratch(const Outer& of, float* base) {
        Carver carver{base};
        right = carver.floats(packed_size(TERMS, of.columns));
        left = carver.floats(TERMS * BLOCK);
        tile = carver.floats(BLOCK * PANEL);
        used = carver.used;
    }
};

// Adds the products of `terms` terms to rows `row` … `row + count` of the result, count ≤ BLOCK.
inline void outer_tile(const Outer& of, const OuterScratch& scratch, int64_t term, int64_t terms, int64_t row,
                       int64_t count) {
    for (int64_t i = 0; i < terms; ++i) {
        const bool skipped = of.skip != nullptr && of.skip[term + i] != 0;
        const float* from = of.left + (term + i) * of.rows + row;
        float* to = scratch.left + i * BLOCK;
        if (count == BLOCK && !skipped) std::memcpy(to, from, BLOCK * sizeof(float));
        else
            for (int64_t r = 0; r < BLOCK; ++r) to[r] = r < count && !skipped ? from[r] : 0.0f;
    }
    for (int64_t column = 0; column < of.columns; column += PANEL) {
        product_block<BLOCK, 1>(scratch.left, 1, BLOCK, terms, scratch.right + column * terms, scratch.tile, PANEL);
        for (int64_t r = 0; r < count; ++r) {
            float* to = of.out + (row + r) * of.columns + column;
            const int64_t left = of.columns - column;
            for (int64_t j = 0; j < PANEL && j < left; j += LANES) {
                const Vec before = term == 0 && !of.add ? Vec{} : load(to + j, left - j);
                store(to + j, before + load(scratch.tile + r * PANEL + j), left - j);
            }
        }
    }
}

int64_t outer_shared_size(const Outer&) { return 0; }

void outer_prepare(const Outer&, float*) {}

int64_t outer_scratch_size(const Outer& of) { return OuterScratch(of, nullptr).used; }

void outer_run(const Outer& of, const float*, float* base, int64_t first, int64_t last) {
    const OuterScratch scratch(of, base);
    if (of.terms == 0 && !of.add)
        std::memset(of.out + first * of.columns, 0, static_cast<size_t>((last - first) * of.columns) * sizeof(float));
    for (int64_t term = 0; term < of.terms; term += TERMS) {
        const int64_t terms = of.terms - term < TERMS ? of.terms - term : TERMS;
        pack(of.right + term * of.columns, terms, of.columns, of.columns, 1, scratch.right);
        for (int64_t row = first; row < last; row += BLOCK)
            outer_tile(of, scratch, term, terms, row, last - row < BLOCK ? last - row : BLOCK);
    }
}
