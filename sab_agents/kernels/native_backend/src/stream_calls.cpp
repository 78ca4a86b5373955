// What a stream does around its scans, for every processor: whole numbers and whole rows.

#include "stream_calls.h"

#include "credit.h"
#include "run_calls.h"
#include "stream.h"
#include "threads.h"

namespace sab {

// True, or False and nothing done where a slot is out of range.
PyObject* stream_take(PyObject*, PyObject* const* given, Py_ssize_t count) {
    Take of;
    if (!parse(given, count, of)) return nullptr;
    bool done = false;
    if (!without_lock([&] { done = take(of); })) return PyErr_NoMemory();
    return PyBool_FromLong(done);
}

// How many of the steps were taken: fewer than all where an observation is not finite or a slot is out of range.
PyObject* stream_take_steps(PyObject*, PyObject* const* given, Py_ssize_t count) {
    TakeSteps of;
    if (!parse(given, count, of)) return nullptr;
    int64_t taken = 0;
    const bool enough_memory = without_lock([&] {
        const Kernels& by = kernels_in_use();
        const int64_t rows = of.step.rows, numbers = rows * of.step.input;
        for (; taken < of.count; ++taken, ++of.take.time) {
            if (!by.all_finite(numbers, of.step.x)) return;
            run(by.step, of.step);
            if (!take(of.take)) return;
            of.step.x += numbers, of.take.observation += rows * of.take.bytes;
            if (of.step.start != nullptr) of.step.start += rows, of.take.start += rows;
        }
    });
    return enough_memory ? PyLong_FromLongLong(taken) : PyErr_NoMemory();
}

// True, or False and nothing done where an index is out of range.
PyObject* stream_advance(PyObject*, PyObject* const* given, Py_ssize_t count) {
    Advance of;
    if (!parse(given, count, of)) return nullptr;
    bool done = false;
    if (!without_lock([&] { done = advance(of); })) return PyErr_NoMemory();
    return PyBool_FromLong(done);
}

PyObject* stream_order(PyObject*, PyObject* const* given, Py_ssize_t count) {
    Order of;
    if (!parse(given, count, of)) return nullptr;
    if (!without_lock([&] { order_slots(of); })) return PyErr_NoMemory();
    Py_RETURN_NONE;
}

// How many pieces were found, or −1 where an index is out of range.
PyObject* stream_select(PyObject*, PyObject* const* given, Py_ssize_t count) {
    Select of;
    if (!parse(given, count, of)) return nullptr;
    int64_t found = 0;
    if (!without_lock([&] { found = select_pieces(of); })) return PyErr_NoMemory();
    return PyLong_FromLongLong(found);
}

PyObject* stream_gather(PyObject*, PyObject* const* given, Py_ssize_t count) {
    Gather of;
    if (!parse(given, count, of)) return nullptr;
    if (!without_lock([&] { gather_pieces(of); })) return PyErr_NoMemory();
    Py_RETURN_NONE;
}

}  // namespace sab
