/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/module/types.c - the classes and enumerations of the module
 *
 * Here:      heap types made from the generated tables, objects around handles, and the
 *            method definitions of module functions.
 * Elsewhere: what a method does (sdk_call.c, sdk_custom_py.c), assembling the module
 *            (module.c).
 * Called by: module.c at import, the host for the arguments of callbacks, with the GIL.
 */
#include "worker/module/surface.h"

#include <stdlib.h>
#include <string.h>

/* Definitions live as long as the process: functions and descriptors point into them,
 * and may outlive the module. One process has one node, hence one set. */
static PyMethodDef *all_definitions;
static uint32_t definition_version;

static uint32_t
definition_capacity(void)
{
    return opb_py_function_count + opb_py_class_count + 1; /* each list ends with a zero */
}

/* Lists of all module functions and, class by class, of all methods, in one array. */
static int
make_definitions(uint32_t node_version)
{
    uint32_t used = 0;

    if (all_definitions != NULL && definition_version == node_version) {
        return 0;
    }
    all_definitions = calloc(definition_capacity(), sizeof(*all_definitions));
    if (all_definitions == NULL) {
        (void)PyErr_NoMemory();
        return -1;
    }
    definition_version = node_version;
    for (int class_index = -1; class_index < (int)opb_py_class_count; class_index++) {
        for (uint32_t i = 0; i < opb_py_function_count; i++) {
            const struct opb_py_function *function = &opb_py_functions[i];

            if (function->class_index == class_index && function->since <= node_version) {
                all_definitions[used].ml_name = function->name;
                all_definitions[used].ml_meth = function->entry;
                all_definitions[used].ml_flags = function->flags;
                all_definitions[used].ml_doc = function->doc;
                used++;
            }
        }
        used++; /* the zero */
    }
    return 0;
}

/* The n-th list. */
static PyMethodDef *
definitions_at(uint32_t list)
{
    PyMethodDef *definition = all_definitions;

    for (; list > 0; list--) {
        while (definition->ml_name != NULL) {
            definition++;
        }
        definition++;
    }
    return definition;
}

PyMethodDef *
opb_type_functions(uint32_t node_version)
{
    return make_definitions(node_version) < 0 ? NULL : definitions_at(0);
}

static const char *
sdk_name_of(PyTypeObject *type)
{
    const struct opb_module_state *state = opb_module_state();

    for (uint32_t i = 0; state != NULL && i < opb_py_class_count; i++) {
        if (state->classes[i] == type) {
            return opb_py_classes[i].sdk_name;
        }
    }
    return type->tp_name;
}

uint64_t
opb_object_handle(const NodeObject *object)
{
    return object->epoch == opb_link_epoch() ? object->handle : 0;
}

/* The object lets go of what it stands for in the node. */
static void
drop_handle(NodeObject *object)
{
    struct opb_link *link = opb_link_current();

    if (opb_object_handle(object) != 0 && object->is_owned && link != NULL) {
        opb_link_release(link, object->handle);
    }
    object->is_stale = object->is_stale || object->handle != 0;
    object->handle = 0;
    opb_facts_drop(object);
}

static PyObject *
object_make(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(keywords))
{
    return type->tp_alloc(type, 0); /* zero filled: no handle */
}

/* (pointer, borrowed): no pointer but NULL can come from Python. Keywords are ignored. */
static int
object_init(PyObject *self, PyObject *args, PyObject *Py_UNUSED(keywords))
{
    long long pointer = 0;
    unsigned char borrowed = 0;

    opb_log_verbose("Creating Python object of class %s", sdk_name_of(Py_TYPE(self)));
    if (!PyArg_ParseTuple(args, "Lb", &pointer, &borrowed) || pointer != 0) {
        opb_raise_from_current(PyExc_ValueError,
                               "Expected a pair (pointer, borrowed) in the constructor");
        return -1;
    }
    drop_handle((NodeObject *)self);
    ((NodeObject *)self)->is_stale = false;
    return 0;
}

static void
object_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);

    opb_log_verbose("Destroying Python object of class %s", sdk_name_of(type));
    drop_handle((NodeObject *)self);
    type->tp_free(self);
    Py_DECREF(type); /* each instance of a heap type holds its type */
}

/* How its instances look for attributes. A function of our own there costs each call of a
 * method a third more in the interpreter, which makes a bound method for it then. */
static void *
getattr_of(const struct opb_py_class *model, uint32_t node_version)
{
    const bool is_complete = node_version >= model->complete_since &&
                             opb_py_sdk_version >= model->complete_since;

    return is_complete ? (void *)PyObject_GenericGetAttr : (void *)opb_object_getattr;
}

PyTypeObject *
opb_type_for_class(PyObject *module, int class_index, uint32_t node_version)
{
    const struct opb_py_class *model = &opb_py_classes[class_index];
    char *doc = NULL;

    if (make_definitions(node_version) < 0) {
        return NULL;
    }
    memcpy(&doc, &model->doc, sizeof(doc)); /* the slot has no const; CPython copies it */

    PyType_Slot slots[] = {
        {Py_tp_doc, doc},
        {Py_tp_new, (void *)object_make},
        {Py_tp_init, (void *)object_init},
        {Py_tp_dealloc, (void *)object_dealloc},
        {Py_tp_getattro, getattr_of(model, node_version)},
        {Py_tp_methods, definitions_at((uint32_t)class_index + 1)},
        {0, NULL},
    };
    PyType_Spec spec = {
        .name = model->qualified_name,
        .basicsize = (int)sizeof(NodeObject),
        .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
        .slots = slots,
    };
    return (PyTypeObject *)PyType_FromModuleAndSpec(module, &spec, NULL);
}

/* New reference to the dictionary of a type that is not in use yet. */
static PyObject *
type_dict(PyTypeObject *type)
{
#if PY_VERSION_HEX >= 0x030c0000
    return PyType_GetDict(type);
#else
    return Py_NewRef(type->tp_dict);
#endif
}

static int
add_values(PyTypeObject *type, const struct opb_py_enum_value *values,
           uint32_t node_version)
{
    PyObject *dict = type_dict(type); /* the type refuses setattr: it is immutable */
    PyObject *number;
    int failed = 0;

    for (; values->name != NULL && !failed; values++) {
        if (values->since > node_version) {
            continue;
        }
        number = PyLong_FromLong(values->value);
        failed = number == NULL || PyDict_SetItemString(dict, values->name, number) < 0;
        Py_XDECREF(number);
    }
    Py_DECREF(dict);
    PyType_Modified(type);
    return failed ? -1 : 0;
}

PyTypeObject *
opb_type_for_enum(PyObject *module, const struct opb_py_enum *model, uint32_t node_version)
{
    PyTypeObject *type;
    char *doc = NULL;

    memcpy(&doc, &model->doc, sizeof(doc)); /* the slot has no const; CPython copies it */

    PyType_Slot slots[] = {
        {Py_tp_doc, doc},
        {Py_tp_new, (void *)object_make}, /* any arguments: a useless empty instance */
        {0, NULL},
    };
    PyType_Spec spec = {
        .name = model->qualified_name,
        .basicsize = (int)sizeof(PyObject),
        .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
        .slots = slots,
    };
    type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &spec, NULL);
    if (type != NULL && add_values(type, model->values, node_version) < 0) {
        Py_CLEAR(type);
    }
    return type;
}

PyObject *
opb_object_from_class(int class_index, uint64_t handle, bool is_owned)
{
    const struct opb_module_state *state = opb_module_state();
    struct opb_link *link = opb_link_current();
    PyTypeObject *type = state == NULL ? NULL : state->classes[class_index];
    NodeObject *object;

    opb_log_verbose("Creating Python object of class %s",
                    opb_py_classes[class_index].sdk_name);
    object = type == NULL ? NULL : (NodeObject *)type->tp_alloc(type, 0);
    if (object == NULL) {
        if (is_owned && handle != 0 && link != NULL) {
            opb_link_release(link, handle); /* nobody else will */
        }
        if (type == NULL) {
            PyErr_Format(PyExc_RuntimeError,
                         "this Orthanc has no objects of the class orthanc.%s",
                         opb_py_classes[class_index].name);
        }
        return NULL;
    }
    object->handle = handle;
    object->epoch = opb_link_epoch();
    object->is_owned = is_owned;
    object->lane = is_owned ? NULL : opb_link_bound();
    return (PyObject *)object;
}

PyObject *
opb_object_new(const char *class_name, uint64_t handle, bool owned)
{
    for (uint32_t i = 0; i < opb_py_class_count; i++) {
        if (strcmp(opb_py_classes[i].name, class_name) == 0) {
            return opb_object_from_class((int)i, handle, owned);
        }
    }
    PyErr_Format(PyExc_SystemError, "the orthanc module has no class %s", class_name);
    return NULL;
}

void
opb_object_invalidate(PyObject *object)
{
    drop_handle((NodeObject *)object);
}
