// The calls of streams, for the module's table of methods.
#pragma once

#include "calls.h"

namespace sab {

PyObject* stream_take(PyObject*, PyObject* const* given, Py_ssize_t count);
PyObject* stream_take_steps(PyObject*, PyObject* const* given, Py_ssize_t count);
PyObject* stream_advance(PyObject*, PyObject* const* given, Py_ssize_t count);
PyObject* stream_order(PyObject*, PyObject* const* given, Py_ssize_t count);
PyObject* stream_select(PyObject*, PyObject* const* given, Py_ssize_t count);
PyObject* stream_gather(PyObject*, PyObject* const* given, Py_ssize_t count);

}  // namespace sab
