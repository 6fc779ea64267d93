/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/host/call_find.c - f(answers, query, ...) of C-FIND and of worklists
 *
 * Here:      the four kinds, which differ in classes, and in how they name the peer.
 * Elsewhere: the final status that the peer gets (plugin/callback_find.c).
 *
 * The objects belong to the call: they are invalid as soon as the function returned.
 */
#include "arguments.h"

struct find_kind {
    const char *call;
    const char *answers_class;
    const char *query_class;
    bool has_connection; /* an object for the peer; else two AETs */
    const char *headline;
};

static bool
read_find(const struct find_kind *kind, struct opb_arguments *arguments,
          struct opb_reader *params)
{
    if (!opb_arguments_add(arguments, NULL,
                           opb_argument_object(params, kind->answers_class)) ||
        !opb_arguments_add(arguments, NULL,
                           opb_argument_object(params, kind->query_class))) {
        return false;
    }
    if (kind->has_connection) {
        return opb_arguments_add(arguments, NULL,
                                 opb_argument_object(params, "DicomConnection"));
    }
    return opb_arguments_add(arguments, NULL, opb_argument_text(params)) &&
           opb_arguments_add(arguments, NULL, opb_argument_text(params));
}

static void
run_find(const struct find_kind *kind, struct opb_reader *params, struct opb_answer *answer)
{
    struct opb_arguments arguments = {.count = 0};
    const size_t object_count = kind->has_connection ? 3 : 2;
    PyObject *function;
    PyObject *result;

    if (!read_find(kind, &arguments, params)) {
        opb_arguments_failed(params, answer);
        goto clear_arguments;
    }
    if (!opb_arguments_complete(params, answer)) {
        goto clear_arguments;
    }
    function = opb_callback_find(kind->call, 0, answer);
    if (function == NULL) {
        goto clear_arguments;
    }
    result = opb_arguments_call(&arguments, function);
    if (result == NULL) {
        opb_answer_raised(answer, kind->headline);
    }
    Py_XDECREF(result);
    Py_DECREF(function);

clear_arguments:
    for (size_t i = 1; i <= object_count && i <= arguments.count; i++) {
        opb_object_invalidate(arguments.places[i]);
    }
    opb_arguments_clear(&arguments);
}

void
opb_call_find(struct opb_reader *params, struct opb_answer *answer)
{
    static const struct find_kind kind = {
        "Find", "FindAnswers", "FindQuery", false,
        "Error in the Python C-FIND SCP callback, traceback:\n"};

    run_find(&kind, params, answer);
}

void
opb_call_find2(struct opb_reader *params, struct opb_answer *answer)
{
    static const struct find_kind kind = {
        "Find2", "FindAnswers", "FindQuery", true,
        "Error in the Python C-FIND SCP callback (v2), traceback:\n"};

    run_find(&kind, params, answer);
}

void
opb_call_worklist(struct opb_reader *params, struct opb_answer *answer)
{
    static const struct find_kind kind = {
        "Worklist", "WorklistAnswers", "WorklistQuery", false,
        "Error in the Python C-FIND SCP for worklist callback, traceback:\n"};

    run_find(&kind, params, answer);
}

void
opb_call_worklist2(struct opb_reader *params, struct opb_answer *answer)
{
    static const struct find_kind kind = {
        "Worklist2", "WorklistAnswers", "WorklistQuery", true,
        "Error in the Python C-FIND SCP for worklist callback (v2), traceback:\n"};

    run_find(&kind, params, answer);
}
