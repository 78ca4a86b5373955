// What a streaming agent does beside its scans. Each call takes microseconds, and keeps the interpreter's lock.

#include "agent_calls.h"

#include "arguments.h"
#include "units.h"

namespace sab {

PyObject* agent_readout(PyObject*, PyObject* const* given, Py_ssize_t count) {
    Readout of;
    if (!parse(given, count, of)) return nullptr;
    kernels_in_use().readout(of);
    Py_RETURN_NONE;
}

PyObject* agent_readout_backward(PyObject*, PyObject* const* given, Py_ssize_t count) {
    ReadoutBackward of;
    if (!parse(given, count, of)) return nullptr;
    kernels_in_use().readout_backward(of);
    Py_RETURN_NONE;
}

// True, or False and only the trace changed where the error or the trace is not finite.
PyObject* agent_descend(PyObject*, PyObject* const* given, Py_ssize_t count) {
    Descent of;
    if (!parse(given, count, of)) return nullptr;
    return PyBool_FromLong(kernels_in_use().descend(of));
}

PyObject* agent_step_units(PyObject*, PyObject* const* given, Py_ssize_t count) {
    Units of;
    if (!parse(given, count, of)) return nullptr;
    step_units(of);
    Py_RETURN_NONE;
}

PyObject* agent_credit_units(PyObject*, PyObject* const* given, Py_ssize_t count) {
    UnitsBackward of;
    if (!parse(given, count, of)) return nullptr;
    credit_units(of);
    Py_RETURN_NONE;
}

}  // namespace sab
