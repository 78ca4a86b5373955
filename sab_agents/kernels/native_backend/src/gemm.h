// Products of a few rows with a packed matrix that stays in cache: C (rows × N) = X (rows × K) · W (K × N).
//
// W is packed into panels of PANEL columns, each K × PANEL, the last one filled up with zeros, so that the inner loop
// reads it in order. Every element of C is one chain of multiply-adds over k from 0: no blocking changes a bit of it.

constexpr int64_t PANEL = 2 * LANES;
// Rows times panels of one block: two accumulators each must fit in the registers and hide the latency of an add.
constexpr int64_t BLOCK = LANES >= 16 ? 8 : 4;

INLINE int64_t padded(int64_t columns) { return round_up(columns, PANEL); }

INLINE int64_t packed_size(int64_t k, int64_t n) { return k * padded(n); }

// LANES columns from `column`, of which `lanes` are there, to every PANEL floats from `to`.
inline void pack_lanes(const float* from, int64_t lanes, int64_t k, int64_t along_k, int64_t along_n, float* to) {
    int64_t i = 0;
    if (along_k == 1 && lanes == LANES)
        for (; i + LANES <= k; i += LANES) {
            Vec square[LANES];
#pragma GCC unroll 16
            for (int j = 0; j < LANES; ++j) square[j] = load(from + j * along_n + i);
            transpose(square);
#pragma GCC unroll 16
            for (int j = 0; j < LANES; ++j) store(to + (i + j) * PANEL, square[j]);
        }
    for (; i < k; ++i) {
        Vec w{};
        if (along_n == 1) w = load(from + i * along_k, lanes);
        else
            for (int64_t j = 0; j < lanes; ++j) w[j] = from[i * along_k + j * along_n];
        store(to + i * PANEL, w);
    }
}

// From W (K, N) where element (k, n) is at from[k · along_k + n · along_n].
inline void pack(const float* from, int64_t k, int64_t n, int64_t along_k, int64_t along_n, float* packed) {
    for (int64_t column = 0; column < padded(n); column += LANES) {
        const int64_t left = column < n ? n - column : 0, lanes = left < LANES ? left : LANES;
        float* to = packed + column / PANEL * PANEL * k + column % PANEL;
        pack_lanes(from + (lanes > 0 ? column * along_n : 0), lanes, k, along_k, along_n, to);
    }
}

// ROWS rows, the element (r, k) at x[r · x_stride + k · along_k], by PANELS panels.
template <int ROWS, int PANELS>
INLINE void product_block(const float* x, int64_t x_stride, int64_t along_k, int64_t k, const float* packed, float* c,
                          int64_t c_stride) {
    Vec low[ROWS][PANELS], high[ROWS][PANELS];
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; ++r)
#pragma GCC unroll 8
        for (int p = 0; p < PANELS; ++p) low[r][p] = high[r][p] = Vec{};
    for (int64_t i = 0; i < k; ++i) {
#pragma GCC unroll 8
        for (int p = 0; p < PANELS; ++p) {
            const float* w = packed + (p * k + i) * PANEL;
            const Vec first = load(w), second = load(w + LANES);
#pragma GCC unroll 8
            for (int r = 0; r < ROWS; ++r) {
                const Vec factor = broadcast(x[r * x_stride + i * along_k]);
                low[r][p] += factor * first;
                high[r][p] += factor * second;
            }
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; ++r)
#pragma GCC unroll 8
        for (int p = 0; p < PANELS; ++p) {
            store(c + r * c_stride + p * PANEL, low[r][p]);
            store(c + r * c_stride + p * PANEL + LANES, high[r][p]);
        }
}

// All panels for ROWS rows, some at a time; from the last to the first if turned.
template <int ROWS>
INLINE void product_rows(const float* x, int64_t x_stride, int64_t k, int64_t n, const float* packed, float* c,
                         int64_t c_stride, bool turned) {
    // Of one row several blocks, to turn; of three as many accumulators as fit, for a row less to hide latencies.
    constexpr int PANELS = ROWS == 1 || ROWS == 3 ? BLOCK / 2 : BLOCK / ROWS;
    const int64_t panels = padded(n) / PANEL, whole = panels / PANELS * PANELS;
    for (int64_t i = 0; i < whole; i += PANELS) {
        const int64_t p = turned ? whole - PANELS - i : i;
        product_block<ROWS, PANELS>(x, x_stride, 1, k, packed + p * k * PANEL, c + p * PANEL, c_stride);
    }
    for (int64_t p = whole; p < panels; ++p)
        product_block<ROWS, 1>(x, x_stride, 1, k, packed + p * k * PANEL, c + p * PANEL, c_stride);
}

// C has rows of padded(n) floats. Of a matrix that is somewhat larger than a cache, nothing would be left there when it
// is read again in the same order: products that follow each other take turns with `turned`.
inline void product(const float* x, int64_t x_stride, int64_t rows, int64_t k, int64_t n, const float* packed,
                    float* c, bool turned = false) {
    const int64_t c_stride = padded(n);
    int64_t r = 0;
    for (; r + BLOCK <= rows; r += BLOCK)
        product_rows<BLOCK>(x + r * x_stride, x_stride, k, n, packed, c + r * c_stride, c_stride, turned);
    for (; r + 4 <= rows; r += 4)
        product_rows<4>(x + r * x_stride, x_stride, k, n, packed, c + r * c_stride, c_stride, turned);
    for (; r + 3 <= rows; r += 3)
        product_rows<3>(x + r * x_stride, x_stride, k, n, packed, c + r * c_stride, c_stride, turned);
    for (; r + 2 <= rows; r += 2)
        product_rows<2>(x + r * x_stride, x_stride, k, n, packed, c + r * c_stride, c_stride, turned);
    for (; r < rows; ++r) product_rows<1>(x + r * x_stride, x_stride, k, n, packed, c + r * c_stride, c_stride, turned);
}
