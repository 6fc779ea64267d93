/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/host/traceback.c - an exception of the script as one entry of Orthanc's log
 *
 * Here:      headline, class, text, one blank line and format_tb() text for each frame.
 * Elsewhere: getting it there (opb_log_to_node()).
 * The chain (__cause__, __context__) is left out, and nothing of the exception is kept: no
 * frame of the script outlives its report.
 */
#include "host.h"

#include <stdio.h>
#include <string.h>

static const char headline_end[] = ", traceback:\n";

/* New reference; clears the exception that is set. */
static PyObject *
take_exception(void)
{
#if PY_VERSION_HEX >= 0x030C0000
    return PyErr_GetRaisedException();
#else
    PyObject *type = NULL;
    PyObject *value = NULL;
    PyObject *traceback = NULL;

    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    if (value != NULL) {
        /* Without one, the value still has the import machinery's frames, which Python has
         * taken off. Fails for non-tracebacks only. */
        (void)PyException_SetTraceback(value, traceback != NULL ? traceback : Py_None);
    }
    Py_XDECREF(type);
    Py_XDECREF(traceback);
    return value;
#endif
}

/* New reference to str(object), or to what stands for it; NULL without memory. */
static PyObject *
text_of(PyObject *object)
{
    PyObject *text = PyObject_Str(object);

    if (text == NULL) {
        PyErr_Clear();
        text = PyUnicode_FromString("<str() of the exception failed>");
    }
    return text;
}

/* New reference to a list of str, or NULL with an exception. */
static PyObject *
format_frames(PyObject *exception)
{
    PyObject *traceback = PyException_GetTraceback(exception);
    PyObject *module = NULL;
    PyObject *lines = NULL;

    if (traceback == NULL) {
        return PyList_New(0);
    }
    /* Imported when it is needed: a script may be called traceback.py or re.py. */
    module = PyImport_ImportModule("traceback");
    if (module != NULL) {
        lines = PyObject_CallMethod(module, "format_tb", "O", traceback);
    }
    if (lines != NULL && !PyList_Check(lines)) {
        PyErr_SetString(PyExc_TypeError, "traceback.format_tb() returned no list");
        Py_CLEAR(lines);
    }
    Py_XDECREF(module);
    Py_DECREF(traceback);
    return lines;
}

/* Takes part (NULL is a failure). */
static int
append(PyObject *parts, PyObject *part)
{
    int failed = part == NULL ? -1 : PyList_Append(parts, part);

    Py_XDECREF(part);
    return failed;
}

static int
append_frames(PyObject *parts, PyObject *exception)
{
    PyObject *lines = format_frames(exception);
    int failed = 0;

    if (lines == NULL) {
        PyErr_Clear();
        return append(parts, PyUnicode_FromString("\n  (the frames cannot be shown)\n"));
    }
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(lines) && failed == 0; i++) {
        failed = append(parts, PyUnicode_FromString("\n"));
        if (failed == 0) {
            failed = PyList_Append(parts, PyList_GET_ITEM(lines, i));
        }
    }
    Py_DECREF(lines);
    return failed;
}

/* New reference. Of several scripts the one that is at work is named: "Error in the REST
 * callback (/a/script.py), traceback:". */
static PyObject *
make_headline(const char *headline)
{
    const char *script = opb_owner_path();
    const char *at = script != NULL ? strstr(headline, headline_end) : NULL;
    PyObject *begin;
    PyObject *result = NULL;

    if (at == NULL) {
        return PyUnicode_FromString(headline);
    }
    begin = PyUnicode_FromStringAndSize(headline, at - headline);
    if (begin != NULL) {
        result = PyUnicode_FromFormat("%U (%s)%s", begin, script, at);
    }
    Py_XDECREF(begin);
    return result;
}

/* New reference to UTF-8 bytes without NUL, or NULL with an exception. */
static PyObject *
describe(const char *headline, PyObject *exception)
{
    PyObject *parts = PyList_New(0);
    PyObject *empty = PyUnicode_FromString("");
    PyObject *text = NULL;
    PyObject *bytes = NULL;

    if (parts == NULL || empty == NULL) {
        goto release;
    }
    if (append(parts, make_headline(headline)) != 0 ||
        append(parts, text_of((PyObject *)Py_TYPE(exception))) != 0 ||
        append(parts, PyUnicode_FromString("\n")) != 0 ||
        append(parts, text_of(exception)) != 0 ||
        append(parts, PyUnicode_FromString("\n")) != 0 ||
        append_frames(parts, exception) != 0) {
        goto release;
    }
    text = PyUnicode_Join(empty, parts);
    if (text != NULL) {
        /* Surrogates have no UTF-8: they become question marks. */
        bytes = PyUnicode_AsEncodedString(text, "utf-8", "replace");
    }

release:
    Py_XDECREF(text);
    Py_XDECREF(empty);
    Py_XDECREF(parts);
    return bytes;
}

/* The SDK's log takes C strings of a bearable length. bytes is ours alone. */
static void
make_loggable(PyObject *bytes)
{
    static const char cut[] = "\n(cut here: too long for the log)";
    char *data = PyBytes_AS_STRING(bytes);
    size_t size = (size_t)PyBytes_GET_SIZE(bytes);
    char *zero;

    if (size > OPB_HOST_MAX_LOG_BYTES) {
        size = OPB_HOST_MAX_LOG_BYTES - sizeof(cut);
        while (size > 0 && ((unsigned char)data[size] & 0xC0u) == 0x80u) {
            size--; /* not inside a character */
        }
        memcpy(data + size, cut, sizeof(cut));
        size += sizeof(cut) - 1;
    }
    while ((zero = memchr(data, 0, size)) != NULL) {
        *zero = '?';
    }
}

void
opb_log_exception(const char *headline)
{
    char unused[1];

    opb_report_exception(headline, unused, sizeof(unused));
}

/* New reference, NULL without memory; clears the exception. */
static PyObject *
take_description(const char *headline)
{
    PyObject *exception = take_exception();
    PyObject *bytes = NULL;

    if (exception != NULL) {
        bytes = describe(headline, exception);
        if (bytes == NULL) {
            PyErr_Clear();
        }
        Py_DECREF(exception); /* with its frames, before anybody waits for anything */
    }
    if (bytes != NULL) {
        make_loggable(bytes);
    }
    return bytes;
}

void
opb_describe_exception(char *text, size_t capacity)
{
    PyObject *bytes = take_description("");

    (void)snprintf(text, capacity, "%s",
                   bytes != NULL ? PyBytes_AS_STRING(bytes) : ""); /* cut if longer */
    Py_XDECREF(bytes);
}

/* Not inside a character. */
static void
copy_cut(char *text, size_t capacity, const char *from)
{
    size_t bytes = strnlen(from, capacity);

    if (bytes == capacity) {
        bytes--;
        while (bytes > 0 && ((unsigned char)from[bytes] & 0xC0u) == 0x80u) {
            bytes--;
        }
    }
    memcpy(text, from, bytes);
    text[bytes] = '\0';
}

void
opb_report_exception(const char *headline, char *text, size_t capacity)
{
    PyObject *bytes = take_description(headline);
    const char *script = opb_owner_path();
    const char *end;

    text[0] = '\0';
    if (bytes == NULL) {
        opb_log_to_node("LogError", headline);
        return;
    }
    end = script != NULL ? strstr(PyBytes_AS_STRING(bytes), headline_end) : NULL;
    /* texts that do not fit are cut */
    if (end != NULL) {
        int length = snprintf(text, capacity, "%s: ", script);
        size_t used = length > 0 && (size_t)length < capacity ? (size_t)length : 0;

        copy_cut(text + used, capacity - used, end + strlen(headline_end));
    }
    else {
        copy_cut(text, capacity, PyBytes_AS_STRING(bytes) + strlen(headline));
    }
    opb_log_to_node("LogError", PyBytes_AS_STRING(bytes));
    Py_DECREF(bytes);
}
