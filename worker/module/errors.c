/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/module/errors.c - what went wrong at the node, as Python exceptions
 *
 * Here:      faults of a response, exceptions that keep their cause.
 * Elsewhere: failures of the connection (opb_link_raise() in link.c).
 * Called by: sdk_call.c, register.c, sdk_custom_py.c and the host, with the GIL.
 */
#include "worker/module/surface.h"

#include <string.h>

PyObject *
opb_exception_take(void)
{
#if PY_VERSION_HEX >= 0x030c0000
    return PyErr_GetRaisedException();
#else
    PyObject *type, *value, *traceback;

    PyErr_Fetch(&type, &value, &traceback);
    if (type == NULL) {
        return NULL;
    }
    PyErr_NormalizeException(&type, &value, &traceback);
    if (value != NULL && traceback != NULL) {
        (void)PyException_SetTraceback(value, traceback); /* without one it still tells */
    }
    Py_XDECREF(type);
    Py_XDECREF(traceback);
    return value;
#endif
}

void
opb_exception_restore(PyObject **exception)
{
#if PY_VERSION_HEX >= 0x030c0000
    PyErr_SetRaisedException(*exception); /* steals */
    *exception = NULL;
#else
    if (*exception == NULL) {
        PyErr_Clear();
        return;
    }
    PyErr_Restore(Py_NewRef(Py_TYPE(*exception)), *exception,
                  PyException_GetTraceback(*exception)); /* steals all three */
    *exception = NULL;
#endif
}

void
opb_raise_from_current(PyObject *type, const char *text)
{
    PyObject *cause = opb_exception_take();
    PyObject *error = PyObject_CallFunction(type, "s", text);

    if (error == NULL) {
        Py_XDECREF(cause);
        return;
    }
    if (cause != NULL) {
        PyException_SetCause(error, cause); /* steals cause */
    }
    PyErr_SetObject(type, error);
    Py_DECREF(error);
}

static void
raise_text(PyObject *type, const char *text)
{
    PyObject *message = PyUnicode_DecodeUTF8(text, (Py_ssize_t)strlen(text), "replace");

    if (message != NULL) {
        PyErr_SetObject(type, message);
        Py_DECREF(message);
    }
}

static void
raise_orthanc(int32_t code, const char *text)
{
    const struct opb_module_state *state = opb_module_state();
    PyObject *message, *error;

    if (state == NULL) {
        raise_text(PyExc_RuntimeError, text);
        return;
    }
    message = PyUnicode_DecodeUTF8(text, (Py_ssize_t)strlen(text), "replace");
    if (message == NULL) {
        return;
    }
    error = PyObject_CallFunction(state->exception, "iN", (int)code, message);
    if (error == NULL) {
        return;
    }
    PyErr_SetObject(state->exception, error);
    Py_DECREF(error);
}

void
opb_raise_fault(enum opb_fault fault, int32_t code, const char *text)
{
    switch (fault) {
    case OPB_FAULT_ORTHANC:
        raise_orthanc(code, text);
        return;
    case OPB_FAULT_INVALID_OBJECT:
        PyErr_SetString(PyExc_ValueError, "Invalid object");
        return;
    case OPB_FAULT_TYPE:
        raise_text(PyExc_TypeError, text);
        return;
    case OPB_FAULT_VALUE:
        raise_text(PyExc_ValueError, text);
        return;
    case OPB_FAULT_UNAVAILABLE:
    case OPB_FAULT_RUNTIME:
        raise_text(PyExc_RuntimeError, text);
        return;
    case OPB_FAULT_PROTOCOL:
        PyErr_Format(
            PyExc_RuntimeError,
            "Orthanc could not read the request (%s): the plugin and the worker are "
            "probably of different releases, install the same release of both",
            text);
        return;
    case OPB_FAULT_RAISED:
    case OPB_FAULT_ENCODING:
        break;
    }
    PyErr_Format(PyExc_RuntimeError, "Orthanc answered with an unknown fault %d: %s",
                 (int)fault, text);
}
