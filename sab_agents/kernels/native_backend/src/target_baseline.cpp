// The kernels for any processor: 4 lanes, which compilers map to SSE2, NEON or plain code.

#include <cmath>
#include <cstdint>
#include <cstring>
#include <utility>

#include "kernels.h"
#include "memory.h"

#define LANES 4
#define TARGET baseline
#include "target.h"
