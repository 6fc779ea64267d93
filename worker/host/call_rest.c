/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/host/call_rest.c - f(output, uri, **request) of a REST route
 *
 * Here:      the parameters of the call, and the order of keywords that scripts see.
 * Elsewhere: which route it is (the node says), answering (the script, by SDK calls).
 */
#include "arguments.h"

static bool
add_optional(struct opb_arguments *arguments, const char *name, struct opb_reader *params,
             PyObject *(*convert)(struct opb_reader *))
{
    if (params->status == OPB_OK && opb_read_is_nil(params)) {
        opb_read_skip(params);
        return true;
    }
    return opb_arguments_add(arguments, name, convert(params));
}

static bool
read_request(struct opb_arguments *arguments, struct opb_reader *params)
{
    return opb_arguments_add(arguments, NULL, opb_argument_object(params, "RestOutput")) &&
           opb_arguments_add(arguments, NULL, opb_argument_text(params)) &&
           opb_arguments_add(arguments, "method", opb_argument_text(params)) &&
           opb_arguments_add(arguments, "groups", opb_argument_texts(params)) &&
           add_optional(arguments, "get", params, opb_argument_map) &&
           opb_arguments_add(arguments, "headers", opb_argument_map(params)) &&
           add_optional(arguments, "body", params, opb_argument_bytes);
}

void
opb_call_rest(struct opb_reader *params, struct opb_answer *answer)
{
    struct opb_arguments arguments = {.count = 0};
    uint32_t route = (uint32_t)opb_read_uint(params, UINT32_MAX);
    PyObject *function = NULL;
    PyObject *result;

    if (!read_request(&arguments, params)) {
        opb_arguments_failed(params, answer);
        goto clear_arguments;
    }
    if (!opb_arguments_complete(params, answer)) {
        goto clear_arguments;
    }
    function = opb_callback_find("Rest", route, answer);
    if (function == NULL) {
        goto clear_arguments;
    }
    result = opb_arguments_call(&arguments, function);
    if (result == NULL) {
        opb_answer_raised(answer, "Error in the REST callback, traceback:\n");
    }
    Py_XDECREF(result); /* whatever it is, Orthanc does not ask for it */
    Py_DECREF(function);

clear_arguments:
    if (arguments.count > 0) {
        opb_object_invalidate(arguments.places[1]); /* output: its call is over */
    }
    opb_arguments_clear(&arguments);
}
