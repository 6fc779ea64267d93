/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/module/segments.c - memory of bytes objects for what comes out of line
 *
 * Here:      a segment of a frame is read straight into a bytes object, which Python code
 *            gets without a copy.
 * Elsewhere: reading frames (protocol/receive.c), taking the object (sdk_call.c).
 * Called by: lanes of the module and of the host, without the GIL.
 */
#include <Python.h>

#include "protocol/pages.h"
#include "worker/module/link.h"

#include <stdbool.h>

/* False: Python has ended, and this thread with its state, or has none yet and could not
 * get one. The process is about to end. */
static bool
has_python(void)
{
    return Py_IsInitialized() || PyGILState_GetThisThreadState() != NULL;
}

/* The frames of a lane are read without the GIL. */
static void *
allocate_pybytes(void *Py_UNUSED(context), size_t bytes, void **owner)
{
    PyGILState_STATE gil;
    PyObject *object = NULL;

    *owner = NULL;
    if (bytes > PY_SSIZE_T_MAX || !has_python()) {
        return NULL;
    }
    gil = PyGILState_Ensure();
    object = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)bytes);
    if (object == NULL) {
        PyErr_Clear(); /* the lane says that there is no memory */
    }
    PyGILState_Release(gil);
    if (object == NULL) {
        return NULL;
    }
    *owner = object;
    opb_pages_prepare(PyBytes_AS_STRING(object), bytes);
    return PyBytes_AS_STRING(object);
}

static void
release_pybytes(void *Py_UNUSED(context), void *owner)
{
    PyGILState_STATE gil;

    if (has_python()) { /* else it is gone with the process */
        gil = PyGILState_Ensure();
        Py_DECREF((PyObject *)owner);
        PyGILState_Release(gil);
    }
}

const struct opb_segment_memory opb_segment_pybytes = {
    .allocate = allocate_pybytes,
    .release = release_pybytes,
};
