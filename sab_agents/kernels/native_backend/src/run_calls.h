// The calls that take a scan from its inputs to its outputs and back to every weight, for the module's table of methods.
#pragma once

#include "arguments.h"
#include "calls.h"

namespace sab {

bool in_range(const Forward& of);  // whether every slot that is written to is there
void scan_forward(const BoundForward& of);    // both may throw std::bad_alloc
void scan_backward(const BoundBackward& of);

PyObject* weight_gradients(PyObject*, PyObject* const* given, Py_ssize_t count);
PyObject* run_forward(PyObject*, PyObject* const* given, Py_ssize_t count);
PyObject* run_backward(PyObject*, PyObject* const* given, Py_ssize_t count);
PyObject* bound_forward(PyObject*, PyObject* const* given, Py_ssize_t count);
PyObject* bound_backward(PyObject*, PyObject* const* given, Py_ssize_t count);

}  // namespace sab
