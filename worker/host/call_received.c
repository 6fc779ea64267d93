/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/host/call_received.c - f(dicom, origin) -> (action, bytes), for each instance
 *
 * Here:      the rule which results mean something; what means nothing, and an exception,
 *            keeps the instance as it is (contract, section 3.6).
 * Elsewhere: refusing the instance when there is no answer (plugin/callback_received.c).
 */
#include "arguments.h"

#define ACTION_KEEP    1 /* OrthancPluginReceivedInstanceAction_KeepAsIs */
#define ACTION_DISCARD 3 /* OrthancPluginReceivedInstanceAction_Discard */
/* Whatever else the script says is an order to replace the instance. */
#define ACTION_UNKNOWN 0

static void
complain(const char *text)
{
    opb_script_complain(text);
}

static void
judge(PyObject *result, struct opb_answer *answer)
{
    PyObject *action;
    int overflow = 0;
    long number;

    answer->kind = OPB_ANSWER_PAIR;
    answer->number = ACTION_KEEP;
    if (!PyTuple_Check(result) || PyTuple_GET_SIZE(result) != 2) {
        complain("The Python received instance callback has not returned a tuple as "
                 "expected");
        return;
    }
    action = PyTuple_GET_ITEM(result, 0);
    if (!PyLong_Check(action)) {
        complain("The Python received instance callback has not returned an int as the "
                 "first element of the return tuple");
        return;
    }
    number = PyLong_AsLongAndOverflow(action, &overflow);
    answer->number = overflow == 0 ? number : ACTION_UNKNOWN;
    if (answer->number == ACTION_KEEP || answer->number == ACTION_DISCARD) {
        return;
    }
    if (!PyBytes_Check(PyTuple_GET_ITEM(result, 1))) {
        complain("Cannot access the byte buffer returned by the Python received instance "
                 "callback");
        return;
    }
    opb_answer_keep(answer, PyTuple_GET_ITEM(result, 1));
}

void
opb_call_received(struct opb_reader *params, struct opb_answer *answer)
{
    struct opb_arguments arguments = {.count = 0};
    PyObject *result = NULL;

    if (!opb_arguments_add(&arguments, NULL, opb_argument_bytes(params)) ||
        !opb_arguments_add(&arguments, NULL, opb_argument_int32(params))) {
        opb_arguments_failed(params, answer);
    }
    else {
        result = opb_callback_run(
            &arguments, params, "ReceivedInstance", 0,
            "Error in the Python received instance callback, traceback:\n", answer);
    }
    if (result != NULL) {
        judge(result, answer);
        Py_DECREF(result);
    }
    opb_arguments_clear(&arguments);
}
