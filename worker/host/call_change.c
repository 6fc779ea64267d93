/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/host/call_change.c - f(change_type, resource_type, resource_id)
 *
 * Elsewhere: the order of events (plugin/events.c), their repetition
 * (plugin/event_delivery.c).
 */
#include "arguments.h"

/* The other scripts get the event whatever this one does. */
static bool
judge(PyObject *result, struct opb_answer *answer)
{
    if (result == NULL) {
        opb_answer_raised(answer, "Error in the Python on-change callback, traceback:\n");
    }
    return true;
}

void
opb_call_change(struct opb_reader *params, struct opb_answer *answer)
{
    struct opb_arguments arguments = {.count = 0};
    if (!opb_arguments_add(&arguments, NULL, opb_argument_int32(params)) ||
        !opb_arguments_add(&arguments, NULL, opb_argument_int32(params)) ||
        !opb_arguments_add(&arguments, NULL, opb_argument_text(params))) {
        opb_arguments_failed(params, answer);
        goto clear_arguments;
    }
    if (!opb_arguments_complete(params, answer)) {
        goto clear_arguments;
    }
    opb_callback_run_all(&arguments, "Change", judge, answer);

clear_arguments:
    opb_arguments_clear(&arguments);
}
