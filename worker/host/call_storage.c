/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/host/call_storage.c - create, read and remove of a storage area in Python
 *
 * Here:      both versions: without custom data, and with (contract, 3.11 and 3.12).
 * Elsewhere: error codes of Orthanc, repeating a call whose host died
 *            (plugin/callback_storage.c).
 */
#include "arguments.h"

#include <limits.h>
#include <stdio.h>

#define TEXT_BYTES  160u
#define CODE_PLUGIN 1 /* OrthancPluginErrorCode_Plugin */

/* The slots of both registrations. */
enum { SLOT_CREATE, SLOT_READ, SLOT_REMOVE };

static bool
add_file(struct opb_arguments *arguments, struct opb_reader *params)
{
    return opb_arguments_add(arguments, NULL, opb_argument_text(params)) &&
           opb_arguments_add(arguments, NULL, opb_argument_int32(params));
}

/* Logs what a callback has not returned; the call fails. */
static void
refuse(struct opb_answer *answer, const char *callback, const char *what)
{
    char text[TEXT_BYTES];

    (void)snprintf(text, sizeof(text), "The Python %s callback has not returned %s",
                   callback, what);
    opb_script_complain(text);
    opb_answer_fault(answer, OPB_FAULT_RAISED, CODE_PLUGIN,
                     "the storage area returned what it must not");
}

void
opb_call_storage_create(struct opb_reader *params, struct opb_answer *answer)
{
    struct opb_arguments arguments = {.count = 0};

    if (!add_file(&arguments, params) ||
        !opb_arguments_add(&arguments, NULL, opb_argument_bytes(params))) {
        opb_arguments_failed(params, answer);
    }
    else {
        Py_XDECREF(opb_callback_run(
            &arguments, params, "StorageArea", SLOT_CREATE,
            "Error in the Python StorageCreate callback, traceback:\n", answer));
    }
    opb_arguments_clear(&arguments);
}

void
opb_call_storage_read(struct opb_reader *params, struct opb_answer *answer)
{
    struct opb_arguments arguments = {.count = 0};
    PyObject *result = NULL;

    if (!add_file(&arguments, params)) {
        opb_arguments_failed(params, answer);
    }
    else {
        result = opb_callback_run(&arguments, params, "StorageArea", SLOT_READ,
                                  "Error in the Python StorageRead callback, traceback:\n",
                                  answer);
    }
    if (result != NULL && PyBytes_Check(result)) {
        answer->kind = OPB_ANSWER_BYTES;
        opb_answer_keep(answer, result);
    }
    else if (result != NULL) {
        refuse(answer, "StorageRead", "a byte array as expected");
    }
    Py_XDECREF(result);
    opb_arguments_clear(&arguments);
}

void
opb_call_storage_remove(struct opb_reader *params, struct opb_answer *answer)
{
    struct opb_arguments arguments = {.count = 0};

    if (!add_file(&arguments, params)) {
        opb_arguments_failed(params, answer);
    }
    else {
        Py_XDECREF(opb_callback_run(
            &arguments, params, "StorageArea", SLOT_REMOVE,
            "Error in the Python StorageRemove callback, traceback:\n", answer));
    }
    opb_arguments_clear(&arguments);
}

/* An error code as the script returned it. One that no int holds is as good as any. */
static int64_t
read_code(PyObject *number)
{
    int overflow = 0;
    long code = PyLong_AsLongAndOverflow(number, &overflow);

    return overflow != 0 || code < INT_MIN || code > INT_MAX ? CODE_PLUGIN : code;
}

static void
log_code(const char *callback, int64_t code)
{
    char text[TEXT_BYTES];

    if (code != 0) {
        (void)snprintf(text, sizeof(text), "The Python %s callback returned: %lld",
                       callback, (long long)code);
        opb_script_complain(text);
    }
}

/* (code, bytes): bytes may be None beside an error, and where it means "none". */
static void
judge_pair(PyObject *result, const char *callback, bool is_none_allowed,
           struct opb_answer *answer)
{
    PyObject *bytes;
    int64_t code;

    if (!PyTuple_Check(result) || PyTuple_GET_SIZE(result) != 2) {
        refuse(answer, callback, "a tuple as expected");
        return;
    }
    if (!PyLong_Check(PyTuple_GET_ITEM(result, 0))) {
        refuse(answer, callback, "an int as the first element of the return tuple");
        return;
    }
    code = read_code(PyTuple_GET_ITEM(result, 0));
    bytes = PyTuple_GET_ITEM(result, 1);
    if (!PyBytes_Check(bytes) && !(bytes == Py_None && (is_none_allowed || code != 0))) {
        refuse(answer, callback, "a byte array as the second element of the return tuple");
        return;
    }
    log_code(callback, code);
    answer->kind = OPB_ANSWER_PAIR;
    answer->number = code;
    if (code == 0 && bytes != Py_None) {
        opb_answer_keep(answer, bytes);
    }
}

void
opb_call_storage_create3(struct opb_reader *params, struct opb_answer *answer)
{
    struct opb_arguments arguments = {.count = 0};
    PyObject *result = NULL;

    if (!add_file(&arguments, params) ||
        !opb_arguments_add(&arguments, NULL, opb_argument_int32(params)) ||
        !opb_arguments_add(&arguments, NULL, opb_argument_bytes(params)) ||
        !opb_arguments_add(&arguments, NULL,
                           opb_argument_object(params, "DicomInstance"))) {
        opb_arguments_failed(params, answer);
    }
    else {
        result = opb_callback_run(
            &arguments, params, "StorageArea3", SLOT_CREATE,
            "Error in the Python StorageCreate2 callback, traceback:\n", answer);
    }
    if (result != NULL) {
        judge_pair(result, "StorageCreate2", true, answer);
        Py_DECREF(result);
    }
    if (arguments.count == 5) { /* a handle of 0 is invalid already */
        opb_object_invalidate(arguments.places[5]);
    }
    opb_arguments_clear(&arguments);
}

static PyObject *
natural(struct opb_reader *params)
{
    uint64_t value = opb_read_uint(params, UINT64_MAX);

    return params->status == OPB_OK ? PyLong_FromUnsignedLongLong(value) : NULL;
}

void
opb_call_storage_read3(struct opb_reader *params, struct opb_answer *answer)
{
    struct opb_arguments arguments = {.count = 0};
    PyObject *result = NULL;

    if (!add_file(&arguments, params) ||
        !opb_arguments_add(&arguments, NULL, natural(params)) ||
        !opb_arguments_add(&arguments, NULL, natural(params)) ||
        !opb_arguments_add(&arguments, NULL, opb_argument_bytes(params))) {
        opb_arguments_failed(params, answer);
    }
    else {
        result = opb_callback_run(
            &arguments, params, "StorageArea3", SLOT_READ,
            "Error in the Python StorageReadRange2 callback, traceback:\n", answer);
    }
    if (result != NULL) {
        judge_pair(result, "StorageReadRange2", false, answer);
        Py_DECREF(result);
    }
    opb_arguments_clear(&arguments);
}

void
opb_call_storage_remove3(struct opb_reader *params, struct opb_answer *answer)
{
    struct opb_arguments arguments = {.count = 0};
    PyObject *result = NULL;

    if (!add_file(&arguments, params) ||
        !opb_arguments_add(&arguments, NULL, opb_argument_bytes(params))) {
        opb_arguments_failed(params, answer);
    }
    else {
        result = opb_callback_run(
            &arguments, params, "StorageArea3", SLOT_REMOVE,
            "Error in the Python StorageRemove2 callback, traceback:\n", answer);
    }
    if (result != NULL && PyLong_Check(result)) {
        answer->kind = OPB_ANSWER_INT;
        answer->number = read_code(result);
        log_code("StorageRemove2", answer->number);
    }
    else if (result != NULL) {
        refuse(answer, "StorageRemove2", "an int as expected");
    }
    Py_XDECREF(result);
    opb_arguments_clear(&arguments);
}
