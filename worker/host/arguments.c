/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/host/arguments.c - Python objects out of a call's parameters
 *
 * Here:      strict conversions, the call itself, the words for what went wrong.
 * Elsewhere: the order of parameters (call_*.c).
 * May use:   CPython, protocol/. Everything here runs with the GIL.
 */
#include "arguments.h"

#include <stdio.h>
#include <stdlib.h>

#define DETAILS_BYTES 8192u /* of an exception, for the node */

bool
opb_arguments_add(struct opb_arguments *arguments, const char *name, PyObject *value)
{
    if (value == NULL) {
        return false;
    }
    if (arguments->count == OPB_MAX_ARGUMENTS) {
        Py_DECREF(value);
        PyErr_SetString(PyExc_SystemError, "a callback has too many arguments");
        return false;
    }
    arguments->places[arguments->count + 1] = value;
    arguments->names[arguments->count] = name;
    arguments->count++;
    return true;
}

void
opb_arguments_clear(struct opb_arguments *arguments)
{
    while (arguments->count > 0) {
        Py_CLEAR(arguments->places[arguments->count]);
        arguments->count--;
    }
}

void
opb_arguments_failed(const struct opb_reader *params, struct opb_answer *answer)
{
    if (params->status != OPB_OK || PyErr_Occurred() == NULL) {
        opb_answer_fault(answer, OPB_FAULT_PROTOCOL, 0,
                         "the parameters of the call are not those of the protocol");
    }
    else if (PyErr_ExceptionMatches(PyExc_UnicodeDecodeError)) {
        opb_answer_fault(answer, OPB_FAULT_ENCODING, 0,
                         "a string in the parameters of the call is not UTF-8");
    }
    else {
        opb_answer_fault(answer, OPB_FAULT_RUNTIME, 0,
                         "the host cannot make the arguments of the callback: "
                         "it may be out of memory");
    }
    PyErr_Clear();
}

bool
opb_arguments_complete(const struct opb_reader *params, struct opb_answer *answer)
{
    if (opb_reader_finish(params) != OPB_OK) {
        opb_answer_fault(answer, OPB_FAULT_PROTOCOL, 0,
                         "the parameters of the call are not those of the protocol");
        return false;
    }
    return true;
}

PyObject *
opb_arguments_call(struct opb_arguments *arguments, PyObject *function)
{
    size_t positional = 0;
    PyObject *names = NULL;
    PyObject *result;

    while (positional < arguments->count && arguments->names[positional] == NULL) {
        positional++;
    }
    if (positional < arguments->count) {
        names = PyTuple_New((Py_ssize_t)(arguments->count - positional));
        if (names == NULL) {
            return NULL;
        }
    }
    for (size_t i = positional; i < arguments->count; i++) {
        PyObject *name = PyUnicode_InternFromString(arguments->names[i]);

        if (name == NULL) {
            Py_DECREF(names);
            return NULL;
        }
        PyTuple_SET_ITEM(names, (Py_ssize_t)(i - positional), name);
    }
    result = PyObject_Vectorcall(function, arguments->places + 1,
                                 positional | PY_VECTORCALL_ARGUMENTS_OFFSET, names);
    Py_XDECREF(names);
    return result;
}

PyObject *
opb_argument_text(struct opb_reader *params)
{
    size_t bytes = 0;
    const char *text = opb_read_str(params, &bytes);

    if (params->status != OPB_OK) {
        return NULL;
    }
    return PyUnicode_DecodeUTF8(text, (Py_ssize_t)bytes, "strict");
}

PyObject *
opb_argument_int32(struct opb_reader *params)
{
    int64_t value = opb_read_int(params, INT32_MIN, INT32_MAX);

    if (params->status != OPB_OK) {
        return NULL;
    }
    return PyLong_FromLongLong(value);
}

PyObject *
opb_argument_texts(struct opb_reader *params)
{
    struct opb_reader items;
    uint32_t count = opb_read_array(params, &items);
    PyObject *tuple;

    if (params->status != OPB_OK) {
        return NULL;
    }
    tuple = PyTuple_New((Py_ssize_t)count);
    if (tuple == NULL) {
        return NULL;
    }
    for (uint32_t i = 0; i < count; i++) {
        PyObject *item = opb_argument_text(&items);

        if (item == NULL) {
            params->status = items.status;
            Py_DECREF(tuple);
            return NULL;
        }
        PyTuple_SET_ITEM(tuple, (Py_ssize_t)i, item);
    }
    return tuple;
}

PyObject *
opb_argument_text_list(struct opb_reader *params)
{
    PyObject *tuple = opb_argument_texts(params);
    PyObject *list = tuple != NULL ? PySequence_List(tuple) : NULL;

    Py_XDECREF(tuple);
    return list;
}

PyObject *
opb_argument_map(struct opb_reader *params)
{
    struct opb_reader items;
    uint32_t count = opb_read_map(params, &items);
    PyObject *dict;

    if (params->status != OPB_OK) {
        return NULL;
    }
    dict = PyDict_New();
    if (dict == NULL) {
        return NULL;
    }
    for (uint32_t i = 0; i < count; i++) {
        PyObject *key = opb_argument_text(&items);
        PyObject *value = key == NULL ? NULL : opb_argument_text(&items);
        int failed = value == NULL ? -1 : PyDict_SetItem(dict, key, value);

        Py_XDECREF(key);
        Py_XDECREF(value);
        if (failed != 0) {
            params->status = items.status;
            Py_DECREF(dict);
            return NULL;
        }
    }
    return dict;
}

PyObject *
opb_argument_bytes(struct opb_reader *params)
{
    size_t bytes = 0;
    void *owner = NULL;
    const void *data = opb_read_bytes_take(params, &bytes, &owner);

    if (params->status != OPB_OK) {
        return NULL;
    }
    if (owner != NULL) {
        return owner; /* a segment was read straight into a bytes object, and is ours now */
    }
    return PyBytes_FromStringAndSize(data, (Py_ssize_t)bytes);
}

PyObject *
opb_argument_object(struct opb_reader *params, const char *class_name)
{
    struct opb_reader pair; /* a handle and facts, or a handle alone */
    bool has_facts = opb_read_is_array(params);
    uint32_t count = has_facts ? opb_read_array(params, &pair) : 0;
    uint64_t handle = opb_read_uint(has_facts ? &pair : params, UINT64_MAX);
    PyObject *object;

    if (has_facts && (count != 2 || pair.status != OPB_OK)) {
        params->status = OPB_BAD_FRAME;
    }
    if (params->status != OPB_OK) {
        return NULL;
    }
    object = opb_object_new(class_name, handle, false);
    if (object != NULL && has_facts && opb_object_tell(object, &pair) < 0) {
        params->status = pair.status;
        Py_CLEAR(object);
    }
    return object;
}

void
opb_answer_fault(struct opb_answer *answer, enum opb_fault fault, int32_t code,
                 const char *text)
{
    answer->is_fault = true;
    answer->fault = fault;
    answer->code = code;
    answer->text = text;
}

void
opb_answer_keep(struct opb_answer *answer, PyObject *bytes)
{
    /* One of a class of the script's is dropped here, while a call of its can be served. */
    answer->bytes =
        PyBytes_CheckExact(bytes)
            ? Py_NewRef(bytes)
            : PyBytes_FromStringAndSize(PyBytes_AS_STRING(bytes), PyBytes_GET_SIZE(bytes));
    if (answer->bytes == NULL) {
        PyErr_Clear();
        opb_answer_fault(answer, OPB_FAULT_UNAVAILABLE, 0,
                         "the host has no memory for a copy of what was returned");
    }
}

void
opb_answer_raised(struct opb_answer *answer, const char *headline)
{
    char *details = malloc(DETAILS_BYTES);

    opb_answer_fault(answer, OPB_FAULT_RAISED, 1, "the script raised an exception");
    if (details == NULL) {
        opb_log_exception(headline);
        return;
    }
    opb_report_exception(headline, details, DETAILS_BYTES);
    free(answer->details); /* of an exception before, of the same call */
    answer->details = details;
}

PyObject *
opb_callback_find(const char *call_name, uint32_t index, struct opb_answer *answer)
{
    uint32_t script;
    PyObject *function = opb_registered_by(call_name, index, &script); /* borrowed */

    if (function == NULL) {
        opb_answer_fault(answer, OPB_FAULT_UNAVAILABLE, 0,
                         "the script has registered no function for this call");
        return NULL;
    }
    (void)opb_owner_set(script); /* until the call has ended: calls.c */
    return Py_NewRef(function);  /* the script may replace it while it runs */
}

/* Of several scripts, each gets dicts of its own: one may change them. */
static bool
copy_arguments(struct opb_arguments *out, const struct opb_arguments *arguments)
{
    for (size_t i = 0; i < arguments->count; i++) {
        PyObject *value = arguments->places[i + 1];

        value = PyDict_Check(value) ? PyDict_Copy(value) : Py_NewRef(value);
        if (!opb_arguments_add(out, arguments->names[i], value)) {
            return false;
        }
    }
    return true;
}

/* New reference to the result of one script's function, or NULL with an exception. */
static PyObject *
call_own(struct opb_arguments *arguments, PyObject *function)
{
    struct opb_arguments own = {.count = 0};
    PyObject *result = NULL;

    if (opb_script_count() == 1) {
        return opb_arguments_call(arguments, function);
    }
    if (copy_arguments(&own, arguments)) {
        result = opb_arguments_call(&own, function);
    }
    opb_arguments_clear(&own);
    return result;
}

void
opb_callback_run_all(struct opb_arguments *arguments, const char *call_name,
                     opb_judge_fn judge, struct opb_answer *answer)
{
    bool is_found = false;
    bool goes_on = true;

    for (uint32_t script = 0; goes_on && script < opb_script_count(); script++) {
        PyObject *function = opb_registered_of(script, call_name); /* borrowed */
        PyObject *result;

        if (function == NULL) {
            continue;
        }
        is_found = true;
        (void)opb_owner_set(script);
        Py_INCREF(function); /* the script may replace it while it runs */
        result = call_own(arguments, function);
        goes_on = judge(result, answer);
        Py_XDECREF(result);
        Py_DECREF(function);
    }
    if (!is_found) {
        opb_answer_fault(answer, OPB_FAULT_UNAVAILABLE, 0,
                         "the script has registered no function for this call");
    }
}

void
opb_script_complain(const char *text)
{
    const char *script = opb_owner_path();
    char line[OPB_HOST_TEXT_BYTES];

    if (script == NULL) {
        opb_log_to_node("LogError", text);
        return;
    }
    (void)snprintf(line, sizeof(line), "%s (%s)", text, script); /* fits */
    opb_log_to_node("LogError", line);
}

PyObject *
opb_callback_run(struct opb_arguments *arguments, const struct opb_reader *params,
                 const char *call_name, uint32_t index, const char *headline,
                 struct opb_answer *answer)
{
    PyObject *function;
    PyObject *result;

    if (!opb_arguments_complete(params, answer)) {
        return NULL;
    }
    function = opb_callback_find(call_name, index, answer);
    if (function == NULL) {
        return NULL;
    }
    result = opb_arguments_call(arguments, function);
    if (result == NULL) {
        opb_answer_raised(answer, headline);
    }
    Py_DECREF(function);
    return result;
}
