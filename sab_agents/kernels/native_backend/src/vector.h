// Short vectors of floats and the functions of them, for the instruction set that the including file selects.
// LANES floats are one register. No include guard on purpose: each instruction set has its own namespace.

typedef float Vec __attribute__((vector_size(4 * LANES)));
typedef int32_t IntVec __attribute__((vector_size(4 * LANES)));
typedef float UnalignedVec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

#define INLINE inline __attribute__((always_inline))

INLINE Vec broadcast(float x) { return x - Vec{}; }  // x − 0 keeps the sign of a zero

INLINE Vec load(const float* from) { return *reinterpret_cast<const UnalignedVec*>(from); }

INLINE void store(float* to, Vec x) { *reinterpret_cast<UnalignedVec*>(to) = x; }

// The first `count` floats; zeros beyond. Full registers take the short way.
INLINE Vec load(const float* from, int64_t count) {
    if (count >= LANES) return load(from);
#if LANES == 16  // AVX-512 alone
    if (count <= 0) return Vec{};
    return _mm512_maskz_loadu_ps(static_cast<uint16_t>((1u << count) - 1), from);
#endif
    Vec x{};
    std::memcpy(&x, from, static_cast<size_t>(count) * sizeof(float));
    return x;
}

INLINE void store(float* to, Vec x, int64_t count) {
    if (count >= LANES) return store(to, x);
#if LANES == 16  // AVX-512 alone
    if (count > 0) _mm512_mask_storeu_ps(to, static_cast<uint16_t>((1u << count) - 1), x);
    return;
#endif
    std::memcpy(to, &x, static_cast<size_t>(count) * sizeof(float));
}

// One bit for each lane that is not below the bound, NaN among them.
INLINE uint32_t not_below(Vec x, Vec bound) {
#if LANES == 16  // AVX-512 alone
    return _mm512_cmp_ps_mask(x, bound, _CMP_NLT_UQ);
#endif
    // From an array: GCC's undefined-behaviour sanitizer breaks an element of a vector that is shifted by its index.
    const IntVec below = x < bound;
    int32_t lanes[LANES];
    std::memcpy(lanes, &below, sizeof lanes);
    uint32_t bits = 0;
    for (int lane = 0; lane < LANES; ++lane) bits |= (lanes[lane] == 0 ? 1u : 0u) << lane;
    return bits;
}

// a / b for finite b ≥ 1, relative error below 2e-7. A division takes as long as ten other operations; where there is an
// estimate of the reciprocal, to 14 bits, what is left of a after it says the rest.
INLINE Vec quotient(Vec a, Vec b) {
#if LANES == 16  // AVX-512 alone
    const Vec reciprocal = _mm512_maskz_rcp14_ps(0xffff, b), estimate = a * reciprocal;
    return estimate + (a - estimate * b) * reciprocal;
#endif
    return a / b;
}

// The same to a few digits, relative error below ROUGH_QUOTIENT: what the estimate alone says.
#if LANES == 16  // AVX-512 alone
constexpr float ROUGH_QUOTIENT = 6.2e-5f;
INLINE Vec rough_quotient(Vec a, Vec b) { return a * _mm512_maskz_rcp14_ps(0xffff, b); }
#elif LANES == 8  // AVX2 alone
constexpr float ROUGH_QUOTIENT = 3.7e-4f;
INLINE Vec rough_quotient(Vec a, Vec b) { return a * __builtin_ia32_rcpps256(b); }
#else
constexpr float ROUGH_QUOTIENT = 2e-7f;
INLINE Vec rough_quotient(Vec a, Vec b) { return quotient(a, b); }
#endif

INLINE float sum(Vec x) {
    float lanes[LANES];
    std::memcpy(lanes, &x, sizeof lanes);
    for (int width = LANES / 2; width > 0; width /= 2)
        for (int i = 0; i < width; ++i) lanes[i] += lanes[i + width];
    return lanes[0];
}

// exp(x) for −87 ≤ x ≤ 88, clamped to there: 2^n · e^r with |r| ≤ ln(2)/2. Relative error below 2e-7.
INLINE Vec exponential(Vec x) {
    x = x < -87.0f ? broadcast(-87.0f) : x;
    x = x > 88.0f ? broadcast(88.0f) : x;
    const Vec shift = broadcast(12582912.0f);  // 1.5 · 2^23: adding it rounds to an integer
    const Vec shifted = x * 1.44269504f + shift;
    const Vec n = shifted - shift;
    const Vec r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
    Vec p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    const Vec fraction = p * (r * r) + (r + 1.0f);
    const IntVec exponent = (__builtin_convertvector(n, IntVec) + 127) << 23;
    Vec power;
    std::memcpy(&power, &exponent, sizeof power);
    return fraction * power;
}

// Relative error below 4e-7 for x ≥ −87; below e^−87 beyond.
INLINE Vec sigmoid(Vec x) { return quotient(broadcast(1.0f), exponential(-x) + 1.0f); }

// A rational minimax fit of tanh(x)/x in x² on |x| ≤ 8.5, whose own error is 4e-9; relative error below 6e-7.
INLINE Vec tanh(Vec x) {
    x = x < -8.5f ? broadcast(-8.5f) : x;
    x = x > 8.5f ? broadcast(8.5f) : x;
    const Vec y = x * x;
    Vec p = y * -9.913446783e-14f + 5.802472342e-11f;
    p = p * y + -2.126482747e-08f;
    p = p * y + 1.140221168e-05f;
    p = p * y + 3.127249711e-03f;
    p = p * y + 1.310476032e-01f;
    p = p * y + 9.999999965e-01f;
    Vec q = y * 2.580295634e-04f + 2.458760735e-02f;
    q = q * y + 4.643809017e-01f;
    q = q * y + 1.0f;
    return quotient(x * p, q);
}

// x = m · 2^exponent: m, in [½, 1) for a bias of 126, in [1, 2) for 127.
INLINE Vec split(Vec x, int32_t bias, IntVec& exponent) {
    IntVec bits;
    std::memcpy(&bits, &x, sizeof bits);
    exponent = (bits >> 23) - bias;
    const IntVec fraction = (bits & 0x7fffff) | (bias << 23);
    Vec m;
    std::memcpy(&m, &fraction, sizeof m);
    return m;
}

// log(x) for 1 ≤ x < ∞: x = m · 2^e with √½ ≤ m < √2. Relative error below 2e-7.
INLINE Vec logarithm(Vec x) {
    IntVec exponent;
    const Vec m = split(x, 126, exponent);
    const IntVec low = m < 0.707106781f;  // −1 where it is
    const Vec e = __builtin_convertvector(exponent + low, Vec);
    const Vec r = (m < 0.707106781f ? m + m : m) - 1.0f;
    Vec p = r * 7.0376836292e-2f - 1.1514610310e-1f;
    p = p * r + 1.1676998740e-1f;
    p = p * r - 1.2420140846e-1f;
    p = p * r + 1.4249322787e-1f;
    p = p * r - 1.6668057665e-1f;
    p = p * r + 2.0000714765e-1f;
    p = p * r - 2.4999993993e-1f;
    p = p * r + 3.3333331174e-1f;
    const Vec z = r * r;
    return r + (p * r * z + e * -2.12194440e-4f - 0.5f * z) + e * 0.693359375f;
}

// The same, absolute error below ROUGH_LOGARITHM.
constexpr float ROUGH_LOGARITHM = 1e-3f;
INLINE Vec rough_logarithm(Vec x) {
    IntVec exponent;
    const Vec m = split(x, 127, exponent);
    const Vec e = __builtin_convertvector(exponent, Vec);
    Vec p = m * 0.107746856f + -0.720358865f;
    p = p * m + 2.099874281f;
    p = p * m + -1.486759551f;
    return e * 0.693147181f + p;
}

// Σ a_j b_j
INLINE float dot(const float* a, const float* b, int64_t count) {
    Vec total{};
    for (int64_t j = 0; j < count; j += LANES) total += load(a + j, count - j) * load(b + j, count - j);
    return sum(total);
}

// to += factor · from
INLINE void add_scaled(float* to, float factor, const float* from, int64_t count) {
    for (int64_t j = 0; j < count; j += LANES)
        store(to + j, load(to + j, count - j) + broadcast(factor) * load(from + j, count - j), count - j);
}

// Asks for floats that will be needed soon, while something else is computed.
INLINE void prefetch(const float* from, int64_t count) {
    for (int64_t j = 0; j < count; j += 16) __builtin_prefetch(from + j);
}

INLINE int64_t round_up(int64_t count, int64_t multiple) { return (count + multiple - 1) / multiple * multiple; }

// Hands out parts of a buffer, each at a cache line's start; over no buffer it only counts.
struct Carver {
    float* base;
    int64_t used = 0;

    float* floats(int64_t count) {
        float* part = base == nullptr ? nullptr : base + used;
        used += round_up(count, 16);
        return part;
    }
    int64_t* integers(int64_t count) { return reinterpret_cast<int64_t*>(floats(2 * count)); }
    int32_t* short_integers(int64_t count) { return reinterpret_cast<int32_t*>(floats(count)); }
};
