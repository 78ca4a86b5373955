// What a stream does around its scans, for every processor: whole numbers and whole rows.

#include "stream_calls.h"

#include "credit.h"
#include "stream.h"

namespace sab {

// True, or False and nothing done where a slot is out of range.
PyObject* stream_take(PyObject*, PyObject* const* given, Py_ssize_t count) {
    Take of;
    if (!parse(given, count, of)) return nullptr;
    bool done = false;
    if (!without_lock([&] { done = take(of); })) return PyErr_NoMemory();
    return PyBool_FromLong(done);
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
