/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/host/call_cstore_filter.c - f(instance) -> DIMSE status, for each C-STORE
 *
 * Here:      which results are a status (contract, section 3.7).
 * Elsewhere: refusing the instance when there is none (plugin/callback_cstore_filter.c).
 * The DicomInstance belongs to the call: it is invalid as soon as the function returned.
 */
#include "arguments.h"

#include <stdio.h>

#define FILTER "The Python incoming-cstore-instance filter "

static void
refuse(struct opb_answer *answer, const char *text)
{
    opb_script_complain(text);
    opb_answer_fault(answer, OPB_FAULT_RAISED, 1, "the filter returned no DIMSE status");
}

static void
judge(PyObject *result, struct opb_answer *answer)
{
    char text[128];
    long status;

    if (!PyNumber_Check(result)) {
        refuse(answer, FILTER "has not returned an integer");
        return;
    }
    status = PyLong_AsLong(result);
    if (PyErr_Occurred() != NULL) {
        PyErr_Clear(); /* a number that is no integer is told so by the reference too */
        status = -1;
    }
    if (status < 0) {
        refuse(answer, FILTER "has returned a negative value");
    }
    else if (status > UINT16_MAX) {
        (void)snprintf(text, sizeof(text),
                       FILTER "has returned an out-of-range DIMSE status: %ld", status);
        refuse(answer, text);
    }
    else {
        answer->kind = OPB_ANSWER_INT;
        answer->number = status;
    }
}

void
opb_call_cstore_filter(struct opb_reader *params, struct opb_answer *answer)
{
    struct opb_arguments arguments = {.count = 0};
    PyObject *result = NULL;

    if (!opb_arguments_add(&arguments, NULL,
                           opb_argument_object(params, "DicomInstance"))) {
        opb_arguments_failed(params, answer);
    }
    else {
        result = opb_callback_run(
            &arguments, params, "CStoreFilter", 0,
            "Error in the Python incoming-cstore-instance callback, traceback:\n", answer);
    }
    if (result != NULL) {
        judge(result, answer);
        Py_DECREF(result);
    }
    if (arguments.count > 0) {
        opb_object_invalidate(arguments.places[1]);
    }
    opb_arguments_clear(&arguments);
}
