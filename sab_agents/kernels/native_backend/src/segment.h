// A learner that runs the present segment of one row again at every step: everything that it needs in two calls, whose
// arguments lie in memory and change little. Pointers that stand in the parts and change are filled in from the heads.
#pragma once

#include "arguments.h"
#include "credit.h"
#include "stream.h"

namespace sab {

struct SegmentStep {
    // of each step
    int64_t mode;                  // 0: runs the segment; 1: takes the step x first; 2: computes the step x alone
    const float* x;                // (I)
    const uint8_t* start;          // (1), or null
    int64_t time;                  // T − 1, of the segment's last step
    float* result;                 // (2H) h and s
    // of each plan of writes, and of each window
    int64_t width;
    const int64_t* order;
    int64_t* taken;
    const float *h, *c, *memory;   // before the window
    const uint8_t* filled;
    Recorded window;
    // always
    Step step;
    Take take;
    BoundForward run;

    void fill_in() {
        step.x = x, step.start = start;
        if (mode == 2) step.output = result;
        take.observation = reinterpret_cast<const uint8_t*>(x), take.start = start, take.time = time;
        take.width = width, take.order = order, take.taken = taken, take.window = window;
        run.x = reinterpret_cast<const float*>(window.observation), run.last = result;
        Forward& scan = run.scan;
        scan.steps = time + 1, scan.start = window.start, scan.write_slot = window.write_slot;
        scan.h = h, scan.c = c, scan.memory = memory, scan.filled = filled;
    }
};

struct SegmentBackward {
    // of each step
    int64_t steps;                 // T
    const float* gradient;         // (2H) of the result
    int64_t pieces;                // M, where they were found already
    // of each window
    const float* h;                // before it
    const uint8_t* filled;
    const int64_t* written_at;
    Recorded window;
    float* reached;                // (S) norms of the gradient that reached each slot, added to
    // always
    int64_t credits;               // whether slots pass on what they receive
    int64_t capacity;              // pieces that there is room for
    float* whole;                  // (L, 2H) zeros but for the last row
    BoundBackward back;
    Select select;
    Gather gather;
    BoundForward again;
    BoundBackward again_back;

    void fill_in() {
        const int64_t H = select.size, L = select.steps;
        std::memcpy(whole + (L - 1) * 2 * H, gradient, floats(2 * H));
        Backward& scan = back.scan;
        scan.steps = steps, scan.write_slot = window.write_slot;
        scan.grad_hidden = whole + (L - steps) * 2 * H, scan.grad_summary = scan.grad_hidden + H;
        back.x = reinterpret_cast<const float*>(window.observation), back.start = window.start, back.h = h;
        select.filled = filled, select.written_at = written_at, select.norm = reached;
    }

    // For M pieces, of which the first `steps_reached` steps matter.
    void fill_in_pieces(int64_t count) {
        const int64_t reached_steps = *select.steps_reached;
        gather.count = count;
        again.scan.rows = again_back.scan.rows = count;
        again.scan.steps = again_back.scan.steps = reached_steps;
    }
};

}  // namespace sab
