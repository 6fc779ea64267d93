/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/host/call_commitment.c - a storage commitment request, and what became of files
 *
 * Here:      the SCP function, whose result is kept as driver, and the Lookup function,
 *            which is asked about each instance (contract, section 3.13).
 * Elsewhere: what the peer is told after a failure (plugin/callback_commitment.c).
 */
#include "arguments.h"
#include "drivers.h"

enum { SLOT_SCP, SLOT_LOOKUP };

static bool
add_request(struct opb_arguments *arguments, struct opb_reader *params)
{
    return opb_arguments_add(arguments, NULL, opb_argument_text(params)) &&
           opb_arguments_add(arguments, NULL, opb_argument_text(params)) &&
           opb_arguments_add(arguments, NULL, opb_argument_text_list(params)) &&
           opb_arguments_add(arguments, NULL, opb_argument_text_list(params));
}

static void
keep_driver(PyObject *driver, struct opb_answer *answer)
{
    uint64_t number = opb_driver_add(driver);

    if (number == 0) {
        PyErr_Clear();
        opb_answer_fault(answer, OPB_FAULT_RUNTIME, 0,
                         "the host has no memory to keep what the callback returned");
        return;
    }
    answer->kind = OPB_ANSWER_INT;
    answer->number = (int64_t)number;
}

/* The arguments of the request have been added, or that has failed. */
static void
run_scp(struct opb_arguments *arguments, bool is_complete, const struct opb_reader *params,
        const char *call_name, struct opb_answer *answer)
{
    PyObject *driver;

    if (!is_complete) {
        opb_arguments_failed(params, answer);
        return;
    }
    driver = opb_callback_run(
        arguments, params, call_name, SLOT_SCP,
        "Error in the Python storage commitment SCP callback, traceback:\n", answer);
    if (driver != NULL) {
        keep_driver(driver, answer);
        Py_DECREF(driver);
    }
}

void
opb_call_commitment(struct opb_reader *params, struct opb_answer *answer)
{
    struct opb_arguments arguments = {.count = 0};
    bool is_complete = add_request(&arguments, params) &&
                       opb_arguments_add(&arguments, NULL, opb_argument_text(params)) &&
                       opb_arguments_add(&arguments, NULL, opb_argument_text(params));

    run_scp(&arguments, is_complete, params, "StorageCommitment", answer);
    opb_arguments_clear(&arguments);
}

void
opb_call_commitment2(struct opb_reader *params, struct opb_answer *answer)
{
    struct opb_arguments arguments = {.count = 0};
    bool is_complete =
        add_request(&arguments, params) &&
        opb_arguments_add(&arguments, NULL, opb_argument_object(params, "DicomConnection"));

    run_scp(&arguments, is_complete, params, "StorageCommitment2", answer);
    if (is_complete) {
        opb_object_invalidate(arguments.places[arguments.count]);
    }
    opb_arguments_clear(&arguments);
}

/* Both versions of the registration have the same Lookup function; a script has one. */
static const char *
registered_version(void)
{
    return opb_registered("StorageCommitment2", SLOT_LOOKUP) != NULL ? "StorageCommitment2"
                                                                     : "StorageCommitment";
}

/* Nil for what is no int: that is no reason to report anything to the peer. */
static void
judge(PyObject *result, struct opb_answer *answer)
{
    int overflow = 0;
    long reason;

    if (!PyLong_Check(result)) {
        opb_script_complain("The Python storage commitment Lookup callback has not "
                            "returned an int as the return value");
        return;
    }
    reason = PyLong_AsLongAndOverflow(result, &overflow);
    answer->kind = OPB_ANSWER_INT;
    answer->number =
        overflow != 0 || reason < INT32_MIN || reason > INT32_MAX ? INT32_MAX : reason;
}

void
opb_call_commitment_lookup(struct opb_reader *params, struct opb_answer *answer)
{
    struct opb_arguments arguments = {.count = 0};
    PyObject *result = NULL;
    uint64_t number;

    if (!opb_arguments_add(&arguments, NULL, opb_argument_text(params)) ||
        !opb_arguments_add(&arguments, NULL, opb_argument_text(params))) {
        opb_arguments_failed(params, answer);
        goto clear_arguments;
    }
    number = opb_read_uint(params, UINT64_MAX);
    if (params->status == OPB_OK &&
        !opb_arguments_add(&arguments, NULL, opb_driver_get(number))) {
        opb_answer_fault(answer, OPB_FAULT_INVALID_OBJECT, 0,
                         "this host has no such storage commitment request");
        goto clear_arguments;
    }
    result = opb_callback_run(
        &arguments, params, registered_version(), SLOT_LOOKUP,
        "Error in the Python storage commitment Lookup callback, traceback:\n", answer);
    if (result != NULL) {
        judge(result, answer);
        Py_DECREF(result);
    }

clear_arguments:
    opb_arguments_clear(&arguments);
}

void
opb_call_commitment_free(struct opb_reader *params, struct opb_answer *answer)
{
    uint64_t number = opb_read_uint(params, UINT64_MAX);

    if (opb_arguments_complete(params, answer)) {
        Py_XDECREF(opb_driver_remove(number)); /* may run Python code */
    }
}
