/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/module/missing.c - names that this server or this build does not have
 *
 * Here:      what AttributeError says about a name of the SDK that is younger than the
 *            running Orthanc, or than the header of the build.
 * Elsewhere: which names exist (module.c, types.c).
 * Called by: CPython, when an attribute was looked up in vain. hasattr() stays False, as
 *            scripts expect of a name that is not there.
 */
#include "worker/module/surface.h"

#include <string.h>

/* Since when a module's (class_index -1) or a class's name exists; 0: no such name here. */
static uint32_t
known_since(const char *name, int class_index)
{
    for (uint32_t i = 0; i < opb_py_function_count; i++) {
        if (opb_py_functions[i].class_index == class_index &&
            strcmp(opb_py_functions[i].name, name) == 0) {
            return opb_py_functions[i].since;
        }
    }
    for (uint32_t i = 0; class_index < 0 && i < opb_py_class_count; i++) {
        if (strcmp(opb_py_classes[i].name, name) == 0) {
            return opb_py_classes[i].since;
        }
    }
    for (uint32_t i = 0; class_index < 0 && i < opb_py_enum_count; i++) {
        if (strcmp(opb_py_enums[i].name, name) == 0) {
            return opb_py_enums[i].since;
        }
    }
    return 0;
}

/* Since when a name exists that the header of the build lacks; 0: not known either. */
static uint32_t
later_since(const char *name)
{
    for (const struct opb_py_later *later = opb_py_later_names; later->name != NULL;
         later++) {
        if (strcmp(later->name, name) == 0) {
            return later->since;
        }
    }
    return 0;
}

/* New reference to the end of the message, empty if nothing is known about the name. */
static PyObject *
make_hint(const char *name, int class_index)
{
    const struct opb_link *link = opb_link_current();
    const struct opb_module_state *state = opb_module_state();
    const char *server = link != NULL ? opb_link_info(link)->version_text : "older";
    uint32_t since = known_since(name, class_index);
    uint32_t sdk = opb_py_sdk_version;

    if (since != 0 && state != NULL && since > state->node_version) {
        return PyUnicode_FromFormat(": it needs Orthanc %u.%u.%u, and this server is %s",
                                    since / 1000000u, since / 1000u % 1000u, since % 1000u,
                                    server);
    }
    since = since == 0 ? later_since(name) : 0;
    if (since != 0) {
        return PyUnicode_FromFormat(
            ": it needs Orthanc %u.%u.%u, and a bridge that was built with the SDK of "
            "that version (this server is %s, and the SDK %u.%u.%u)",
            since / 1000000u, since / 1000u % 1000u, since % 1000u, server, sdk / 1000000u,
            sdk / 1000u % 1000u, sdk % 1000u);
    }
    return PyUnicode_FromString("");
}

/* New reference to make_hint() of a name given as an object. */
static PyObject *
hint_for(PyObject *name, int class_index)
{
    const char *text = PyUnicode_AsUTF8(name);

    if (text == NULL) {
        PyErr_Clear(); /* a lone surrogate: no name of ours */
        text = "";
    }
    return make_hint(text, class_index);
}

/* The module's __getattr__ (PEP 562): the words of CPython, and the reason. */
static PyObject *
module_getattr(PyObject *Py_UNUSED(module), PyObject *name)
{
    PyObject *hint;

    if (!PyUnicode_Check(name)) {
        PyErr_SetString(PyExc_TypeError, "attribute name must be string");
        return NULL;
    }
    hint = hint_for(name, -1);
    if (hint != NULL) {
        PyErr_Format(PyExc_AttributeError, "module 'orthanc' has no attribute '%U'%U", name,
                     hint);
        Py_DECREF(hint);
    }
    return NULL;
}

static int
class_index_of(PyTypeObject *type)
{
    const struct opb_module_state *state = opb_module_state();

    for (uint32_t i = 0; state != NULL && i < opb_py_class_count; i++) {
        if (state->classes[i] == type) {
            return (int)i;
        }
    }
    return -1;
}

PyObject *
opb_object_getattr(PyObject *self, PyObject *name)
{
    PyObject *value = PyObject_GenericGetAttr(self, name);
    int class_index = value == NULL ? class_index_of(Py_TYPE(self)) : -1;
    PyObject *hint;

    if (class_index < 0 || !PyErr_ExceptionMatches(PyExc_AttributeError)) {
        return value;
    }
    PyErr_Clear();
    hint = hint_for(name, class_index);
    if (hint != NULL) {
        PyErr_Format(PyExc_AttributeError, "'%s' object has no attribute '%U'%U",
                     opb_py_classes[class_index].qualified_name, name, hint);
        Py_DECREF(hint);
    }
    return NULL;
}

/* The module's __dir__: all names but the two that only this file needs. New reference. */
static PyObject *
module_dir(PyObject *module, PyObject *Py_UNUSED(nothing))
{
    PyObject *names = PyDict_Keys(PyModule_GetDict(module));

    for (Py_ssize_t i = names == NULL ? 0 : PyList_GET_SIZE(names); i > 0; i--) {
        PyObject *name = PyList_GET_ITEM(names, i - 1); /* borrowed */

        if (PyUnicode_Check(name) &&
            (PyUnicode_CompareWithASCIIString(name, "__getattr__") == 0 ||
             PyUnicode_CompareWithASCIIString(name, "__dir__") == 0) &&
            PyList_SetSlice(names, i - 1, i, NULL) < 0) {
            Py_CLEAR(names);
            return NULL;
        }
    }
    return names;
}

int
opb_missing_add(PyObject *module)
{
    static PyMethodDef functions[] = {
        {"__getattr__", module_getattr, METH_O, NULL},
        {"__dir__", module_dir, METH_NOARGS, NULL},
        {NULL, NULL, 0, NULL},
    };

    return PyModule_AddFunctions(module, functions);
}
