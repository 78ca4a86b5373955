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

constexpr int64_t TILES = LANES / BLOCK;  // blocks of rows that are gathered together, a register of `left`

struct OuterScratch {
    float *right, *left, *tile;
    int64_t* kept;  // the terms of a pass that are not skipped
    int64_t used;

    OuterScratch(const Outer& of, float* base) {
        Carver carver{base};
        right = carver.floats(packed_size(TERMS, of.columns));
        left = carver.floats(TERMS * BLOCK * TILES);
        tile = carver.floats(BLOCK * PANEL);
        kept = carver.integers(TERMS);
        used = carver.used;
    }
};

// One pass over some terms of a sum of outer products: a term that is skipped adds nothing to any chain.
struct OuterPass {
    const Outer& of;
    const OuterScratch& scratch;
    const bool adds;  // to what is there
    int64_t terms = 0;

    void run(int64_t term, int64_t end, int64_t first, int64_t last) {
        for (int64_t i = term; i < end; ++i)
            if (of.skip == nullptr || of.skip[i] == 0) scratch.kept[terms++] = i;
        pack_right();
        for (int64_t row = first; row < last; row += TILES * BLOCK) {
            pack_left(row, last - row);
            for (int64_t i = 0; i < TILES && row + i * BLOCK < last; ++i) {
                const int64_t from = row + i * BLOCK;
                tile_row(from, last - from < BLOCK ? last - from : BLOCK, scratch.left + i * terms * BLOCK);
            }
        }
    }

    // As `pack` does, of the rows that are kept; the upper half of a panel that has none is never looked at.
    void pack_right() const {
        for (int64_t column = 0; column < of.columns; column += LANES) {
            float* to = scratch.right + column / PANEL * PANEL * terms + column % PANEL;
            for (int64_t i = 0; i < terms; ++i)
                store(to + i * PANEL, load(of.right + scratch.kept[i] * of.columns + column, of.columns - column));
        }
    }

    // The columns of `left` from `row` on, zeros beyond those that are there: one tile of BLOCK after the other. What is
    // gathered is summed up on the way.
    void pack_left(int64_t row, int64_t count) const {
        float* const sums = of.sums == nullptr ? nullptr : of.sums + row;
        Vec total = sums != nullptr && adds ? load(sums, count) : Vec{};
        for (int64_t i = 0; i < terms; ++i) {
            const Vec values = load(of.left + scratch.kept[i] * of.rows + row, count);
            total += values;
            for (int64_t tile = 0; tile < TILES; ++tile)
                std::memcpy(scratch.left + (tile * terms + i) * BLOCK,
                            reinterpret_cast<const char*>(&values) + tile * BLOCK * 4, BLOCK * sizeof(float));
        }
        if (sums != nullptr) store(sums, total, count);
    }

    // Adds the products to rows `row` … `row + count` of the result, count ≤ BLOCK.
    void tile_row(int64_t row, int64_t count, const float* packed) const {
        for (int64_t column = 0; column < of.columns; column += PANEL) {
            const int64_t left = of.columns - column;
            if (left > LANES)
                product_block<BLOCK, 1>(packed, 1, BLOCK, terms, scratch.right + column * terms, scratch.tile, PANEL);
            else half_block(packed, scratch.right + column * terms);
            for (int64_t r = 0; r < count; ++r) {
                float* to = of.out + (row + r) * of.columns + column;
                for (int64_t j = 0; j < PANEL && j < left; j += LANES) {
                    const Vec before = adds ? load(to + j, left - j) : Vec{};
                    store(to + j, before + load(scratch.tile + r * PANEL + j), left - j);
                }
            }
        }
    }

    // The lower half of a panel alone, of which there is no more: inputs are often few.
    void half_block(const float* packed, const float* right) const {
        Vec sums[BLOCK] = {};
        for (int64_t i = 0; i < terms; ++i) {
            const Vec factor = load(right + i * PANEL);
#pragma GCC unroll 8
            for (int64_t r = 0; r < BLOCK; ++r) sums[r] += broadcast(packed[i * BLOCK + r]) * factor;
        }
        for (int64_t r = 0; r < BLOCK; ++r) store(scratch.tile + r * PANEL, sums[r]);
    }
};

int64_t outer_shared_size(const Outer&) { return 0; }

void outer_prepare(const Outer&, float*) {}

int64_t outer_scratch_size(const Outer& of) { return OuterScratch(of, nullptr).used; }

void outer_run(const Outer& of, const float*, float* base, int64_t first, int64_t last) {
    const OuterScratch scratch(of, base);
    if (of.terms == 0 && !of.add) {
        const auto clear = [](float* from, int64_t count) {
            if (from != nullptr) std::memset(from, 0, static_cast<size_t>(count) * sizeof(float));
        };
        clear(of.out + first * of.columns, (last - first) * of.columns);
        clear(of.sums == nullptr ? nullptr : of.sums + first, last - first);
    }
    for (int64_t term = 0; term < of.terms; term += TERMS)
        OuterPass{of, scratch, term > 0 || of.add}.run(term, term + TERMS < of.terms ? term + TERMS : of.terms, first, last);
}
