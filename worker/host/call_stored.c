/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/host/call_stored.c - f(instance, instance_id), after an instance was stored
 *
 * The DicomInstance belongs to the call: it is invalid as soon as the function returned.
 */
#include "arguments.h"

/* The other scripts get the instance whatever this one does. */
static bool
judge(PyObject *result, struct opb_answer *answer)
{
    if (result == NULL) {
        opb_answer_raised(answer,
                          "Error in the Python on-stored-instance callback, traceback:\n");
    }
    return true;
}

void
opb_call_stored(struct opb_reader *params, struct opb_answer *answer)
{
    struct opb_arguments arguments = {.count = 0};
    if (!opb_arguments_add(&arguments, NULL,
                           opb_argument_object(params, "DicomInstance")) ||
        !opb_arguments_add(&arguments, NULL, opb_argument_text(params))) {
        opb_arguments_failed(params, answer);
        goto clear_arguments;
    }
    if (!opb_arguments_complete(params, answer)) {
        goto clear_arguments;
    }
    opb_callback_run_all(&arguments, "StoredInstance", judge, answer);

clear_arguments:
    if (arguments.count > 0) {
        opb_object_invalidate(arguments.places[1]);
    }
    opb_arguments_clear(&arguments);
}
