/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/host/call_move.c - C-MOVE: f(**request), or create, size, apply and free
 *
 * Here:      the order of keywords that scripts see, the driver's way from create to free,
 *            what counts as a size.
 * Elsewhere: what the peer gets when something fails (plugin/callback_move.c).
 */
#include "arguments.h"
#include "drivers.h"

/* Places of the callables in a registration of version 2 or 3. */
enum { CREATE, SIZE, APPLY, FREE };

struct move_kind {
    const char *call;
    bool has_connection; /* an object for the peer; else OriginatorAET and SourceAET */
    const char *headline;
};

/* What the request does not say is an empty string. */
static PyObject *
text_or_empty(struct opb_reader *params)
{
    if (params->status == OPB_OK && opb_read_is_nil(params)) {
        opb_read_skip(params);
        return PyUnicode_FromString("");
    }
    return opb_argument_text(params);
}

static bool
read_move(const struct move_kind *kind, struct opb_arguments *arguments,
          struct opb_reader *params)
{
    static const char *const names[] = {"Level",
                                        "PatientID",
                                        "AccessionNumber",
                                        "StudyInstanceUID",
                                        "SeriesInstanceUID",
                                        "SOPInstanceUID",
                                        "OriginatorAET",
                                        "SourceAET",
                                        "TargetAET"};
    const size_t first_aet = 6;
    const size_t target = 8;

    if (kind->has_connection &&
        !opb_arguments_add(arguments, NULL,
                           opb_argument_object(params, "DicomConnection"))) {
        return false;
    }
    for (size_t i = 0; i <= target; i++) {
        if (kind->has_connection && i >= first_aet && i < target) {
            continue;
        }
        if (!opb_arguments_add(arguments, names[i], text_or_empty(params))) {
            return false;
        }
    }
    return opb_arguments_add(arguments, "OriginatorID", opb_argument_int32(params));
}

/* New reference to what the function of the request returned; NULL with the answer set. */
static PyObject *
call_with_request(const struct move_kind *kind, struct opb_reader *params,
                  struct opb_answer *answer)
{
    struct opb_arguments arguments = {.count = 0};
    PyObject *function;
    PyObject *result = NULL;

    if (!read_move(kind, &arguments, params)) {
        opb_arguments_failed(params, answer);
        goto clear_arguments;
    }
    if (!opb_arguments_complete(params, answer)) {
        goto clear_arguments;
    }
    function = opb_callback_find(kind->call, CREATE, answer);
    if (function == NULL) {
        goto clear_arguments;
    }
    result = opb_arguments_call(&arguments, function);
    if (result == NULL) {
        opb_answer_raised(answer, kind->headline);
    }
    Py_DECREF(function);

clear_arguments:
    if (kind->has_connection && arguments.count > 0) {
        opb_object_invalidate(arguments.places[1]);
    }
    opb_arguments_clear(&arguments);
    return result;
}

void
opb_call_move(struct opb_reader *params, struct opb_answer *answer)
{
    static const struct move_kind kind = {
        "Move", false, "Error in the Python C-MOVE SCP callback (v1), traceback:\n"};

    Py_XDECREF(call_with_request(&kind, params, answer));
}

static void
create_driver(const struct move_kind *kind, struct opb_reader *params,
              struct opb_answer *answer)
{
    PyObject *driver = call_with_request(kind, params, answer);

    if (driver == NULL) {
        return;
    }
    answer->kind = OPB_ANSWER_INT;
    answer->number = (int64_t)opb_driver_add(driver);
    if (answer->number == 0) {
        opb_answer_raised(answer, kind->headline);
    }
    Py_DECREF(driver);
}

void
opb_call_move2(struct opb_reader *params, struct opb_answer *answer)
{
    static const struct move_kind kind = {
        "Move2", false,
        "Error in the Python C-MOVE SCP callback (Create v2), traceback:\n"};

    create_driver(&kind, params, answer);
}

void
opb_call_move3(struct opb_reader *params, struct opb_answer *answer)
{
    static const struct move_kind kind = {
        "Move3", true, "Error in the Python C-MOVE SCP callback (Create v3), traceback:\n"};

    create_driver(&kind, params, answer);
}

/* Runs f(driver); find says what becomes of the driver in the table. New reference to the
 * result; NULL with the answer set. */
static PyObject *
call_with_driver(uint32_t place, PyObject *(*find)(uint64_t number), const char *headline,
                 struct opb_reader *params, struct opb_answer *answer)
{
    /* a script has one of the two */
    const char *call = opb_registered("Move2", CREATE) != NULL ? "Move2" : "Move3";
    struct opb_arguments arguments = {.count = 0};
    uint64_t number = opb_read_uint(params, UINT64_MAX);
    PyObject *function;
    PyObject *driver;
    PyObject *result = NULL;

    if (!opb_arguments_complete(params, answer)) {
        return NULL;
    }
    driver = find(number);
    if (driver == NULL) {
        opb_answer_fault(answer, OPB_FAULT_UNAVAILABLE, 0,
                         "the host has no driver of this number");
        return NULL;
    }
    function = opb_callback_find(call, place, answer);
    if (function == NULL) {
        Py_DECREF(driver);
        return NULL;
    }
    if (opb_arguments_add(&arguments, NULL, driver)) {
        result = opb_arguments_call(&arguments, function);
    }
    if (result == NULL) {
        opb_answer_raised(answer, headline);
    }
    opb_arguments_clear(&arguments);
    Py_DECREF(function);
    return result;
}

/* A count of 32 bits, to which a negative number is converted as the SDK's callers do. */
static void
judge_size(PyObject *result, struct opb_answer *answer)
{
    long long size;
    int overflow = 0;

    if (!PyLong_Check(result)) {
        opb_script_complain("The Python C-MOVE SCP callback (GetMoveSize) has not "
                            "returned an int as expected");
        opb_answer_fault(answer, OPB_FAULT_RAISED, 1, "the size is no int");
        return;
    }
    size = PyLong_AsLongLongAndOverflow(result, &overflow);
    if (overflow != 0 || size < INT32_MIN || size > (long long)UINT32_MAX) {
        opb_script_complain("The Python C-MOVE SCP callback (GetMoveSize) has "
                            "returned a number that does not fit in 32 bits");
        opb_answer_fault(answer, OPB_FAULT_RAISED, 1, "the size is out of range");
        return;
    }
    answer->kind = OPB_ANSWER_INT;
    answer->number = (int64_t)(uint32_t)size;
}

void
opb_call_move_size(struct opb_reader *params, struct opb_answer *answer)
{
    PyObject *result = call_with_driver(
        SIZE, opb_driver_get,
        "Error in the Python C-MOVE SCP callback (GetMoveSize), traceback:\n", params,
        answer);

    if (result != NULL) {
        judge_size(result, answer);
        Py_DECREF(result);
    }
}

void
opb_call_move_apply(struct opb_reader *params, struct opb_answer *answer)
{
    Py_XDECREF(call_with_driver(
        APPLY, opb_driver_get,
        "Error in the Python C-MOVE SCP callback (Apply), traceback:\n", params, answer));
}

void
opb_call_move_free(struct opb_reader *params, struct opb_answer *answer)
{
    Py_XDECREF(call_with_driver(
        FREE, opb_driver_remove,
        "Error in the Python C-MOVE SCP callback (Free), traceback:\n", params, answer));
}
