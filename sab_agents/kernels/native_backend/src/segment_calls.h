// The calls of a learner that runs its segment again at every step, for the module's table of methods.
#pragma once

#include "calls.h"

namespace sab {

PyObject* segment_step(PyObject*, PyObject* const* given, Py_ssize_t count);
PyObject* segment_backward(PyObject*, PyObject* const* given, Py_ssize_t count);
PyObject* segment_credit(PyObject*, PyObject* const* given, Py_ssize_t count);

}  // namespace sab
