/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/host/call_thread.c - the Python thread state of a thread that runs calls
 *
 * In-process each callback has a state of its own: what it leaves in threading.local, in
 * context variables, as asyncio's loop, decimal's precision or a profiler is gone when it
 * returns. A later call on the same thread may be somebody else's, and must not find it.
 *
 * Making a state costs more than a small callback (Python 3.11 maps memory for it). So a
 * state in which nothing was left, as by most callbacks, is kept for the next call.
 */
#include "host.h"

#include <stdbool.h>

/* Nothing, or what repr() of a list or a dictionary leaves: its list of what it is inside
 * of, empty. dict: NULL is fine. */
static bool
is_as_good_as_empty(PyObject *dict)
{
    Py_ssize_t size = dict != NULL ? PyDict_Size(dict) : 0;
    PyObject *list =
        size == 1 ? PyDict_GetItemString(dict, "Py_Repr") : NULL; /* borrowed */

    return size == 0 ||
           (list != NULL && PyList_CheckExact(list) && PyList_GET_SIZE(list) == 0);
}

static bool
nothing_was_left(void)
{
    const PyThreadState *state = PyThreadState_Get();
    PyObject *context;
    Py_ssize_t size = -1;

    if (state->c_profilefunc != NULL || state->c_tracefunc != NULL) {
        return false;
    }
#if PY_VERSION_HEX >= 0x030D0000
    /* threading.local is not in the dictionary any more. Who has only looked has it, too.
     */
    if (state->threading_local_key != NULL) {
        return false;
    }
#endif
    if (!is_as_good_as_empty(PyThreadState_GetDict())) { /* borrowed */
        return false;
    }
    context = PyContext_CopyCurrent();
    if (context != NULL) {
        size = PyObject_Size(context);
        Py_DECREF(context);
    }
    PyErr_Clear(); /* without memory: a new state */
    return size == 0;
}

/* Finalisers of what was left run here; they may call Orthanc, which may call back. */
static void
end_state(void)
{
#if PY_VERSION_HEX < 0x030D0000
    /* There a nested callback would end the state under PyGILState_Release(). */
    PyThreadState_Clear(PyThreadState_Get());
#endif
    PyGILState_Release(PyGILState_UNLOCKED);
}

void
opb_call_thread_enter(const struct opb_call_thread *thread)
{
    const PyThreadState *state = PyThreadState_Get();

    if (thread != NULL && thread->is_kept && state->async_exc != NULL) {
        (void)PyThreadState_SetAsyncExc(PyThread_get_thread_ident(), NULL);
    }
}

void
opb_call_thread_leave(struct opb_call_thread *thread, PyGILState_STATE gil)
{
    if (thread == NULL) {
        PyGILState_Release(gil);
    }
    else if (!nothing_was_left()) {
        if (thread->is_kept) {
            PyGILState_Release(PyGILState_LOCKED); /* this call's; not yet the last one */
            thread->is_kept = false;
        }
        end_state();
    }
    else if (thread->is_kept) {
        PyGILState_Release(gil);
    }
    else {
        thread->is_kept = true; /* PyGILState_Ensure() of the next call finds it */
        (void)PyEval_SaveThread();
    }
}

void
opb_call_thread_end(struct opb_call_thread *thread)
{
    if (thread->is_kept) {
        (void)PyGILState_Ensure();
        PyGILState_Release(PyGILState_LOCKED);
        thread->is_kept = false;
        end_state();
    }
}
