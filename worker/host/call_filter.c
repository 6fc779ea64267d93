/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/host/call_filter.c - f(uri, **request) -> bool, the HTTP request filter
 *
 * Here:      parameters, and the rule that only True and False are answers.
 * Elsewhere: refusing the request when there is no answer (plugin/callback_filter.c).
 */
#include "arguments.h"

#define METHOD_GET 1 /* OrthancPluginHttpMethod_Get */

/* The query arguments exist for GET only, whatever the node sends. */
static bool
add_get(struct opb_arguments *arguments, struct opb_reader *params, int64_t method)
{
    if (params->status == OPB_OK && (method != METHOD_GET || opb_read_is_nil(params))) {
        opb_read_skip(params);
        return true;
    }
    return opb_arguments_add(arguments, "get", opb_argument_map(params));
}

static bool
read_request(struct opb_arguments *arguments, struct opb_reader *params)
{
    int64_t method;

    if (!opb_arguments_add(arguments, NULL, opb_argument_text(params))) {
        return false;
    }
    method = opb_read_int(params, INT32_MIN, INT32_MAX);
    return params->status == OPB_OK &&
           opb_arguments_add(arguments, "method", PyLong_FromLongLong(method)) &&
           opb_arguments_add(arguments, "ip", opb_argument_text(params)) &&
           opb_arguments_add(arguments, "headers", opb_argument_map(params)) &&
           add_get(arguments, params, method);
}

/* Of several scripts all must agree: the first that does not is the last one asked. */
static bool
judge(PyObject *result, struct opb_answer *answer)
{
    if (result == NULL) {
        opb_answer_raised(answer,
                          "Error in the Python incoming-http-request filter, traceback:\n");
    }
    else if (!PyBool_Check(result)) {
        opb_script_complain(
            "The Python incoming-http-request filter has not returned a Boolean");
        opb_answer_fault(answer, OPB_FAULT_RAISED, 1, "the filter returned no Boolean");
    }
    else {
        answer->kind = OPB_ANSWER_BOOL;
        answer->number = result == Py_True;
    }
    return result == Py_True;
}

void
opb_call_filter(struct opb_reader *params, struct opb_answer *answer)
{
    struct opb_arguments arguments = {.count = 0};

    if (!read_request(&arguments, params)) {
        opb_arguments_failed(params, answer);
        goto clear_arguments;
    }
    if (!opb_arguments_complete(params, answer)) {
        goto clear_arguments;
    }
    opb_callback_run_all(&arguments, "HttpFilter", judge, answer);

clear_arguments:
    opb_arguments_clear(&arguments);
}
