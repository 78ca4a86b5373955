// One step of a segment, and back; see segment.h.

#include "segment_calls.h"

#include "run_calls.h"
#include "segment.h"
#include "threads.h"

namespace sab {

namespace {

enum Outcome : long { DONE, NOT_FINITE, OUT_OF_RANGE };

Outcome step_segment(SegmentStep& of) {
    of.fill_in();
    if (of.mode != 0) {
        if (!kernels_in_use().all_finite(of.step.input, of.x)) return NOT_FINITE;
        run(kernels_in_use().step, of.step);
        if (of.mode == 2) return DONE;
        if (!take(of.take)) return OUT_OF_RANGE;
    }
    if (!in_range(of.run.scan)) return OUT_OF_RANGE;
    scan_forward(of.run);
    return DONE;
}

void credit_pieces(SegmentBackward& of, int64_t count) {
    of.fill_in_pieces(count);
    gather_pieces(of.gather);
    scan_forward(of.again);
    scan_backward(of.again_back);
}

}  // namespace

// 0; 1 and nothing done where x is not finite; 2 where a slot is out of range.
PyObject* segment_step(PyObject*, PyObject* const* given, Py_ssize_t count) {
    SegmentStep of;
    if (!parse(given, count, of)) return nullptr;
    Outcome found = DONE;
    if (!without_lock([&] { found = step_segment(of); })) return PyErr_NoMemory();
    return PyLong_FromLong(found);
}

// How many pieces received gradient; −1 where an index is out of range. They pass it on where there is room for them.
PyObject* segment_backward(PyObject*, PyObject* const* given, Py_ssize_t count) {
    SegmentBackward of;
    if (!parse(given, count, of)) return nullptr;
    int64_t found = 0;
    const bool done = without_lock([&] {
        of.fill_in();
        scan_backward(of.back);
        if (of.credits == 0) return;
        found = select_pieces(of.select);
        if (found > 0 && found <= of.capacity) credit_pieces(of, found);
    });
    return done ? PyLong_FromLongLong(found) : PyErr_NoMemory();
}

// Passes on what the pieces that were found received, for which room has been made.
PyObject* segment_credit(PyObject*, PyObject* const* given, Py_ssize_t count) {
    SegmentBackward of;
    if (!parse(given, count, of)) return nullptr;
    of.fill_in();
    if (!without_lock([&] { credit_pieces(of, of.pieces); })) return PyErr_NoMemory();
    Py_RETURN_NONE;
}

}  // namespace sab
