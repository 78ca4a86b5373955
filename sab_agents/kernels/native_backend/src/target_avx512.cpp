// The kernels for x86-64 processors with AVX-512.

#if defined(__x86_64__)

#include <immintrin.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <utility>

#include "kernels.h"
#include "memory.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512vl,avx512dq,avx512bw,avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")
#endif

#define LANES 16
#define TARGET avx512
#include "target.h"

#if defined(__clang__)
#pragma clang attribute pop
#endif

#endif
