/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/module/arguments.c - Python arguments to the values of a request
 *
 * Here:      the conversions of the contract (section 2.2), code by code, and packing.
 * Elsewhere: the exception that a caller sees when one fails (sdk_call.c).
 * Called by: sdk_call.c and sdk_custom_py.c, with the GIL.
 *
 * Converted arguments lend the memory of the Python objects, which the caller of the SDK
 * function holds until it returns.
 */
#include "worker/module/surface.h"

#include <string.h>

/* Longer text travels as a segment: an envelope has a limit, memory has not. */
#define LONG_TEXT_BYTES 65536u

/* Code s: str and nothing else, without NUL. */
static int
convert_text(struct opb_argument *out, PyObject *arg)
{
    Py_ssize_t bytes;

    if (!PyUnicode_Check(arg)) {
        PyErr_Format(PyExc_TypeError, "expected str, not %.200s", Py_TYPE(arg)->tp_name);
        return -1;
    }
    out->value.text.data = PyUnicode_AsUTF8AndSize(arg, &bytes);
    if (out->value.text.data == NULL) {
        return -1;
    }
    out->value.text.bytes = (size_t)bytes;
    if (memchr(out->value.text.data, '\0', out->value.text.bytes) != NULL) {
        PyErr_SetString(PyExc_ValueError, "embedded null character");
        return -1;
    }
    return 0;
}

/* Codes b and p: text, anything with contiguous bytes, or None for no bytes. */
static int
convert_buffer(struct opb_argument *out, PyObject *arg)
{
    Py_ssize_t bytes;

    if (arg == Py_None) {
        out->value.text.data = "";
        out->value.text.bytes = 0;
        return 0;
    }
    if (PyUnicode_Check(arg)) {
        out->value.text.data = PyUnicode_AsUTF8AndSize(arg, &bytes);
        out->value.text.bytes = (size_t)bytes;
        return out->value.text.data == NULL ? -1 : 0;
    }
    if (PyObject_GetBuffer(arg, &out->value.view, PyBUF_SIMPLE) < 0) {
        return -1;
    }
    out->has_view = true;
    if (!PyBuffer_IsContiguous(&out->value.view, 'C')) {
        PyErr_SetString(PyExc_TypeError, "expected a contiguous buffer");
        return -1;
    }
    return 0;
}

/* Codes e, i, l: 64 bits; enumerations and i32 are then cut to 32. */
static int
convert_signed(struct opb_argument *out, PyObject *arg)
{
    PyObject *index = PyNumber_Index(arg);
    long long value;

    if (index == NULL) {
        return -1;
    }
    value = PyLong_AsLongLong(index);
    Py_DECREF(index);
    if (value == -1 && PyErr_Occurred() != NULL) {
        return -1;
    }
    out->value.integer =
        out->code == 'l' ? (int64_t)value : (int64_t)(int32_t)(uint32_t)value;
    return 0;
}

/* Codes h, u, U: any integer, modulo the width. */
static int
convert_masked(struct opb_argument *out, PyObject *arg)
{
    PyObject *index = PyNumber_Index(arg);
    unsigned long long value;

    if (index == NULL) {
        return -1;
    }
    value = PyLong_AsUnsignedLongLongMask(index);
    Py_DECREF(index);
    if (value == (unsigned long long)-1 && PyErr_Occurred() != NULL) {
        return -1;
    }
    out->value.natural = out->code == 'h'   ? value & 0xffffu
                         : out->code == 'u' ? value & 0xffffffffu
                                            : value;
    return 0;
}

/* Code c: 0 to 255. */
static int
convert_octet(struct opb_argument *out, PyObject *arg)
{
    PyObject *index = PyNumber_Index(arg);
    long value;

    if (index == NULL) {
        return -1;
    }
    value = PyLong_AsLong(index);
    Py_DECREF(index);
    if (value == -1 && PyErr_Occurred() != NULL) {
        return -1;
    }
    if (value < 0 || value > 255) {
        PyErr_SetString(PyExc_OverflowError, "expected an integer from 0 to 255");
        return -1;
    }
    out->value.natural = (uint64_t)value;
    return 0;
}

static int
convert_one(struct opb_argument *out, PyObject *arg)
{
    double real;

    switch (out->code) {
    case 's':
        return convert_text(out, arg);
    case 'b':
    case 'p':
        return convert_buffer(out, arg);
    case 'e':
    case 'i':
    case 'l':
        return convert_signed(out, arg);
    case 'h':
    case 'u':
    case 'U':
        return convert_masked(out, arg);
    case 'c':
        return convert_octet(out, arg);
    case 'f':
        real = PyFloat_AsDouble(arg);
        if (real == -1.0 && PyErr_Occurred() != NULL) {
            return -1;
        }
        out->value.real = (double)(float)real;
        return 0;
    default:
        return 0; /* O and N: opb_arguments_check_objects() */
    }
}

int
opb_arguments_convert(struct opb_argument *arguments, const struct opb_plan *plan,
                      PyObject *const *args)
{
    for (uint32_t i = 0; i < plan->item_count; i++) {
        arguments[i].code = plan->items[i].code;
        arguments[i].has_view = false;
    }
    for (uint32_t i = 0; i < plan->item_count; i++) {
        if (convert_one(&arguments[i], args[i]) < 0) {
            return -1;
        }
    }
    return 0;
}

int
opb_arguments_check_objects(struct opb_argument *arguments, const struct opb_plan *plan,
                            PyObject *const *args, const struct opb_module_state *state)
{
    for (uint32_t i = 0; i < plan->item_count; i++) {
        const struct opb_plan_item *item = &plan->items[i];
        const NodeObject *object;
        uint64_t handle;

        if (item->code != 'O' && item->code != 'N') {
            continue;
        }
        arguments[i].value.natural = 0;
        if (item->code == 'N' && args[i] == Py_None) {
            continue;
        }
        if (Py_TYPE(args[i]) != state->classes[item->class_index]) {
            PyErr_Format(PyExc_TypeError, "Invalid orthanc.%s object",
                         opb_py_classes[item->class_index].sdk_name);
            return -1;
        }
        object = (const NodeObject *)args[i];
        handle = opb_object_handle(object);
        /* What the script made itself around nothing is a NULL pointer of the SDK. */
        if (handle == 0 && (object->is_stale || object->handle != 0 || item->code == 'O')) {
            PyErr_SetString(PyExc_ValueError, "Invalid object");
            return -1;
        }
        arguments[i].value.natural = handle;
    }
    return 0;
}

void
opb_arguments_pack(const struct opb_argument *arguments, uint32_t count,
                   struct opb_message *message)
{
    for (uint32_t i = 0; i < count; i++) {
        const struct opb_argument *argument = &arguments[i];

        switch (argument->code) {
        case 's':
            if (argument->value.text.bytes <= LONG_TEXT_BYTES) {
                opb_pack_str(message, argument->value.text.data,
                             argument->value.text.bytes);
                break;
            }
            opb_pack_bytes(message, argument->value.text.data, argument->value.text.bytes);
            break;
        case 'b':
        case 'p':
            if (argument->has_view) {
                opb_pack_bytes(message,
                               argument->value.view.len > 0 ? argument->value.view.buf : "",
                               (size_t)argument->value.view.len);
            }
            else {
                opb_pack_bytes(message, argument->value.text.data,
                               argument->value.text.bytes);
            }
            break;
        case 'e':
        case 'i':
        case 'l':
            opb_pack_int(message, argument->value.integer);
            break;
        case 'f':
            opb_pack_double(message, argument->value.real);
            break;
        case 'N':
            if (argument->value.natural == 0) {
                opb_pack_nil(message);
                break;
            }
            opb_pack_uint(message, argument->value.natural);
            break;
        default:
            opb_pack_uint(message, argument->value.natural);
            break;
        }
    }
}

void
opb_arguments_release(struct opb_argument *arguments, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (arguments[i].has_view) {
            PyBuffer_Release(&arguments[i].value.view);
            arguments[i].has_view = false;
        }
    }
}

int
opb_argument_u32(PyObject *arg, uint32_t *out)
{
    struct opb_argument argument = {.code = 'u'};

    *out = 0;
    if (convert_masked(&argument, arg) < 0) {
        return -1;
    }
    *out = (uint32_t)argument.value.natural;
    return 0;
}
