// Everything for one instruction set. The including file defines LANES and TARGET (a namespace) and has switched the
// compiler to that instruction set. Standard headers must come before that switch: an inline function of theirs that
// was compiled for it could otherwise be the copy that the linker keeps for all.

#define INLINE_LAMBDA __attribute__((always_inline))

namespace sab {
namespace TARGET {
namespace {  // no name of one instruction set is visible to another

#include "vector.h"

#include "shuffle.h"

#include "gemm.h"

#include "rows.h"

#include "cell.h"

#include "select.h"

#include "slots.h"

#include "scores.h"

#include "forward.h"

#include "backward.h"

#include "step.h"

#include "products.h"

#include "gru.h"

#include "agent.h"
#include "loss.h"

bool all_finite(int64_t count, const float* x) {
    Vec zeros[4] = {};  // not, once something times 0 is not 0
    int64_t i = 0;
    for (; i + 4 * LANES <= count; i += 4 * LANES)
        for (int part = 0; part < 4; ++part) zeros[part] += load(x + i + part * LANES) * 0.0f;
    for (; i < count; i += LANES) zeros[0] += load(x + i, count - i) * 0.0f;
    return sum(zeros[0] + zeros[1] + (zeros[2] + zeros[3])) == 0.0f;
}

void activate(const Activate& of) {
    for (int64_t i = 0; i < of.count; i += LANES) {
        const int64_t left = of.count - i;
        store(of.tanh + i, tanh(load(of.x + i, left)), left);
        store(of.sigmoid + i, sigmoid(load(of.x + i, left)), left);
    }
}

}  // namespace

extern const Kernels kernels;
const Kernels kernels = {
    Scores::names,
    {forward_shared_size, forward_prepare, forward_scratch_size, forward_run},
    forward_cells,
    forward_reads,
    {backward_shared_size, backward_prepare, backward_scratch_size, backward_run},
    {step_shared_size, step_prepare, step_scratch_size, step_run},
    {linear_shared_size, linear_prepare, linear_scratch_size, linear_run},
    {outer_shared_size, outer_prepare, outer_scratch_size, outer_run},
    {gru_shared_size, gru_prepare, gru_scratch_size, gru_run},
    {gru_backward_shared_size, gru_backward_prepare, gru_backward_scratch_size, gru_backward_run},
    readout,
    readout_backward,
    descend,
    loss_gradient,
    norm,
    all_finite,
    activate,
};

}  // namespace TARGET
}  // namespace sab
