/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/fake_module.c - see fake_module.h */
#include "fake_module.h"

#include "support.h"

#include "protocol/sockets.h"
#include "worker/module/module.h"

#include <stdlib.h>
#include <string.h>

static struct opb_fake_node *node; /* lent */
static struct opb_link *test_link; /* lent */

void
opb_fake_module_show(struct opb_fake_node *shown, struct opb_link *link_to_it)
{
    node = shown;
    test_link = link_to_it;
}

/* take() -> [line]: what the node was asked since the last time. */
static PyObject *
fake_take(PyObject *self, PyObject *args)
{
    char *lines = opb_fake_node_take(node);
    PyObject *text = PyUnicode_FromString(lines);
    PyObject *list;

    (void)self;
    (void)args;
    free(lines);
    list = PyUnicode_Splitlines(text, 0);
    Py_DECREF(text);
    return list;
}

/* bound(function): calls it as a thread that serves a lane would. */
static PyObject *
fake_bound(PyObject *self, PyObject *function)
{
    struct opb_lane *lane;
    PyObject *result;
    int fds[2];

    (void)self;
    opb_make_pair(fds);
    assert_int_equal(opb_lane_open(&lane, &fds[0], &opb_segment_pybytes), OPB_OK);
    opb_lane_trust(lane);
    opb_fake_node_serve(node, fds[1]);
    assert_int_equal(opb_link_bind(test_link, lane), OPB_OK);
    result = PyObject_CallNoArgs(function);
    Py_BEGIN_ALLOW_THREADS opb_lane_flush(lane);
    Py_END_ALLOW_THREADS assert_int_equal(opb_link_bind(test_link, NULL), OPB_OK);
    opb_lane_close(lane);
    return result;
}

/* Is there in builds with the address sanitizer. */
extern int __lsan_do_recoverable_leak_check(void) __attribute__((weak));

/* loses_memory(): True, after a report, if memory is allocated that nobody knows any more;
 * False in a build that cannot tell. */
static PyObject *
fake_loses_memory(PyObject *self, PyObject *args)
{
    (void)self;
    (void)args;
    return PyBool_FromLong(__lsan_do_recoverable_leak_check != NULL &&
                           __lsan_do_recoverable_leak_check() != 0);
}

/* drop(): the node closes all connections. */
static PyObject *
fake_drop(PyObject *self, PyObject *args)
{
    (void)self;
    (void)args;
    Py_BEGIN_ALLOW_THREADS opb_fake_node_drop(node);
    Py_END_ALLOW_THREADS Py_RETURN_NONE;
}

/* path(): of the service socket. */
static PyObject *
fake_path(PyObject *self, PyObject *args)
{
    (void)self;
    (void)args;
    return PyUnicode_FromString(opb_link_info(test_link)->node_socket);
}

static PyObject *
fake_most(PyObject *self, PyObject *args)
{
    (void)self;
    (void)args;
    return PyLong_FromUnsignedLong(opb_fake_node_most_connections(node));
}

/* made() and live(): objects that the node gave as results, and those that it still has. */
static PyObject *
fake_made(PyObject *self, PyObject *args)
{
    (void)self;
    (void)args;
    return PyLong_FromUnsignedLong(opb_fake_node_made(node));
}

static PyObject *
fake_live(PyObject *self, PyObject *args)
{
    (void)self;
    (void)args;
    return PyLong_FromUnsignedLong(opb_fake_node_live(node));
}

/* go() lets go who waits for it; was_let_go() is False if somebody has waited in vain. */
static PyObject *
fake_go(PyObject *self, PyObject *args)
{
    (void)self;
    (void)args;
    opb_fake_node_go(node);
    Py_RETURN_NONE;
}

static PyObject *
fake_was_let_go(PyObject *self, PyObject *args)
{
    (void)self;
    (void)args;
    return PyBool_FromLong(opb_fake_node_was_let_go(node));
}

/* version(): what it says that it is. */
static PyObject *
fake_version(PyObject *self, PyObject *args)
{
    (void)self;
    (void)args;
    return PyUnicode_FromString(opb_link_info(test_link)->version_text);
}

/* new(class, handle, owned) and end(object): as for the argument of a callback. */
static PyObject *
fake_new(PyObject *self, PyObject *args)
{
    unsigned long long handle;
    const char *name;
    int is_owned;

    (void)self;
    return PyArg_ParseTuple(args, "sKp", &name, &handle, &is_owned)
               ? opb_object_new(name, handle, is_owned != 0)
               : NULL;
}

/* Any value as a peer might send it: bytes are a text that need not be UTF-8. */
static void
pack_any(struct opb_message *message, PyObject *value)
{
    Py_ssize_t at = 0;
    PyObject *key;
    PyObject *item;

    if (PyBool_Check(value)) {
        opb_pack_bool(message, value == Py_True);
    }
    else if (PyLong_Check(value)) {
        int overflow = 0;
        long long number = PyLong_AsLongLongAndOverflow(value, &overflow);

        if (overflow != 0) {
            opb_pack_uint(message, PyLong_AsUnsignedLongLong(value));
        }
        else {
            opb_pack_int(message, number);
        }
    }
    else if (PyUnicode_Check(value)) {
        opb_pack_cstr(message, PyUnicode_AsUTF8(value));
    }
    else if (PyBytes_Check(value)) {
        opb_pack_str(message, PyBytes_AS_STRING(value), (size_t)PyBytes_GET_SIZE(value));
    }
    else if (PyList_Check(value)) {
        opb_pack_array(message, (uint32_t)PyList_GET_SIZE(value));
        for (Py_ssize_t i = 0; i < PyList_GET_SIZE(value); i++) {
            pack_any(message, PyList_GET_ITEM(value, i));
        }
    }
    else if (PyDict_Check(value)) {
        opb_pack_map(message, (uint32_t)PyDict_GET_SIZE(value));
        while (PyDict_Next(value, &at, &key, &item)) {
            pack_any(message, key);
            pack_any(message, item);
        }
    }
    else {
        opb_pack_nil(message);
    }
}

/* told(class, handle, facts): as new(), of an object that the node has told facts about;
 * ValueError('malformed') if they are none. */
static PyObject *
fake_told(PyObject *self, PyObject *args)
{
    struct opb_message *message = opb_message_new();
    struct opb_frame *frame;
    struct opb_reader reader;
    unsigned long long handle;
    PyObject *object;
    PyObject *facts;
    const char *name;

    (void)self;
    assert_non_null(message);
    assert_true(PyArg_ParseTuple(args, "sKO", &name, &handle, &facts));
    opb_message_begin_notify(message, 1, 1);
    pack_any(message, facts);
    frame = opb_decode_message(message);
    opb_frame_params(frame, &reader);
    object = opb_object_new(name, handle, false);
    if (opb_object_tell(object, &reader) < 0) {
        assert_int_equal(reader.status != OPB_OK, PyErr_Occurred() == NULL);
        Py_CLEAR(object);
        if (PyErr_Occurred() == NULL) {
            PyErr_SetString(PyExc_ValueError, "malformed");
        }
    }
    opb_frame_free(frame);
    opb_message_free(message);
    return object;
}

/* method(name): the node's number of an SDK function. */
static PyObject *
fake_method(PyObject *self, PyObject *name)
{
    (void)self;
    return PyLong_FromLong(opb_link_method(test_link, PyUnicode_AsUTF8(name)));
}

/* order(text): what the node does when it is asked something without a text; "": answers.
 */
static PyObject *
fake_order(PyObject *self, PyObject *text)
{
    (void)self;
    opb_fake_node_order(node, PyUnicode_AsUTF8(text));
    Py_RETURN_NONE;
}

static PyObject *
fake_end(PyObject *self, PyObject *object)
{
    (void)self;
    opb_object_invalidate(object);
    Py_RETURN_NONE;
}

static PyObject *
fake_sanitized(PyObject *self, PyObject *args)
{
    (void)self;
    (void)args;
    return PyBool_FromLong(OPB_IS_SANITIZED);
}

static PyObject *
fake_verbose(PyObject *self, PyObject *flag)
{
    struct opb_node_info *info;
    const struct opb_node_info *lent = opb_link_info(test_link);

    (void)self;
    memcpy(&info, &lent, sizeof(info)); /* it was ours, and nobody else looks now */
    info->verbose = PyObject_IsTrue(flag) == 1;
    Py_RETURN_NONE;
}

static PyObject *
fake_log(PyObject *self, PyObject *text)
{
    (void)self;
    opb_log_to_node("LogError", PyUnicode_AsUTF8(text));
    Py_RETURN_NONE;
}

static PyObject *
fake_clear(PyObject *self, PyObject *args)
{
    (void)self;
    (void)args;
    opb_registrations_clear();
    Py_RETURN_NONE;
}

static PyObject *
fake_registered(PyObject *self, PyObject *args)
{
    PyObject *found;
    unsigned int index;
    const char *name;

    (void)self;
    if (!PyArg_ParseTuple(args, "sI", &name, &index)) {
        return NULL;
    }
    found = opb_registered(name, index);
    return Py_NewRef(found == NULL ? Py_None : found);
}

static PyMethodDef fake_functions[] = {
    {"take", fake_take, METH_NOARGS, NULL},
    {"bound", fake_bound, METH_O, NULL},
    {"drop", fake_drop, METH_NOARGS, NULL},
    {"loses_memory", fake_loses_memory, METH_NOARGS, NULL},
    {"path", fake_path, METH_NOARGS, NULL},
    {"most", fake_most, METH_NOARGS, NULL},
    {"made", fake_made, METH_NOARGS, NULL},
    {"live", fake_live, METH_NOARGS, NULL},
    {"go", fake_go, METH_NOARGS, NULL},
    {"was_let_go", fake_was_let_go, METH_NOARGS, NULL},
    {"version", fake_version, METH_NOARGS, NULL},
    {"new", fake_new, METH_VARARGS, NULL},
    {"told", fake_told, METH_VARARGS, NULL},
    {"method", fake_method, METH_O, NULL},
    {"order", fake_order, METH_O, NULL},
    {"end", fake_end, METH_O, NULL},
    {"sanitized", fake_sanitized, METH_NOARGS, NULL},
    {"verbose", fake_verbose, METH_O, NULL},
    {"log", fake_log, METH_O, NULL},
    {"clear", fake_clear, METH_NOARGS, NULL},
    {"registered", fake_registered, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef fake_definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "fake_node",
    .m_size = -1,
    .m_methods = fake_functions,
};

PyObject *
opb_fake_module_init(void)
{
    return PyModule_Create(&fake_definition);
}
