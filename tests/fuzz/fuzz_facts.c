/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/fuzz/fuzz_facts.c - any bytes as what a node tells about the objects that it lends
 *
 * First byte: how many segments (at most 3) the frame has. The rest is its envelope, a
 * call: each of its parameters is read as a lent object of each class, with facts or
 * without. Facts that were taken must be those of a getter of the class, have the type of
 * its result, be what the script gets, and be gone when the call has ended.
 */
#include "worker/host/arguments.h"
#include "worker/module/surface.h"

#include "fuzz_envelope.h"
#include "sdk_facts.gen.h"

#include <stdlib.h>
#include <string.h>

#define OWN_FUNCTIONS     3u /* of the node, before the SDK's */
#define INDEXES_LOOKED_AT 64u

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct opb_node_info *node; /* lent by the link */

static void
require(bool condition)
{
    if (!condition) {
        if (PyErr_Occurred() != NULL) {
            PyErr_Print();
        }
        abort();
    }
}

static int
compare_names(const void *left, const void *right)
{
    const struct opb_node_function *a = left;
    const struct opb_node_function *b = right;

    return strcmp(a->name, b->name);
}

/* Old names of a method stand for the same function of the node. */
static bool
is_node_function(const struct opb_py_function *function)
{
    const char *dot;

    if (function->node_name == NULL) {
        return false;
    }
    dot = strchr(function->node_name, '.');
    return strcmp(dot != NULL ? dot + 1 : function->node_name, function->name) == 0;
}

/* A node with all functions, numbered as the plugin does: two of its own, then by name. */
static struct opb_node_info *
make_info(void)
{
    struct opb_node_info *info = calloc(1, sizeof(*info));
    uint32_t used = OWN_FUNCTIONS;

    require(info != NULL);
    info->version = UINT32_MAX;
    info->version_text = strdup("mainline");
    info->node = strdup("fuzz");
    info->node_socket = strdup("/nonexistent/node.sock");
    info->functions =
        calloc(opb_py_function_count + OWN_FUNCTIONS, sizeof(*info->functions));
    require(info->functions != NULL);
    info->functions[0].name = strdup(OPB_FUNCTION_REGISTER);
    info->functions[0].signature = strdup("x:x");
    info->functions[1].name = strdup(OPB_FUNCTION_RELEASE);
    info->functions[1].signature = strdup("x:x");
    info->functions[2].name = strdup(OPB_FUNCTION_FENCE);
    info->functions[2].signature = strdup("x:x");
    for (uint32_t i = 0; i < opb_py_function_count; i++) {
        if (is_node_function(&opb_py_functions[i])) {
            info->functions[used].name = strdup(opb_py_functions[i].node_name);
            info->functions[used++].signature = strdup(opb_py_functions[i].signature);
        }
    }
    qsort(info->functions + OWN_FUNCTIONS, used - OWN_FUNCTIONS, sizeof(*info->functions),
          compare_names);
    info->function_count = used;
    return info;
}

static enum opb_status
serve_nothing(void *context, struct opb_lane *lane, struct opb_frame *frame)
{
    (void)context;
    (void)lane;
    (void)frame;
    return OPB_REFUSED; /* there is no lane */
}

/* Each object of Python is memory of its own, so that sanitizers see where it ends. */
static void
start_python(void)
{
    PyPreConfig before;
    PyConfig config;

    PyPreConfig_InitIsolatedConfig(&before);
    before.allocator = PYMEM_ALLOCATOR_MALLOC;
    require(!PyStatus_Exception(Py_PreInitialize(&before)));
    require(PyImport_AppendInittab("orthanc", PyInit_orthanc) == 0);
    PyConfig_InitIsolatedConfig(&config);
    require(!PyStatus_Exception(Py_InitializeFromConfig(&config)));
    PyConfig_Clear(&config);
}

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
    struct opb_node_info *info = make_info();
    struct opb_link *link;

    (void)argc;
    (void)argv;
    start_python();
    require(opb_link_open(&link, &info, serve_nothing, NULL) == OPB_OK);
    node = opb_link_info(link);
    require(PyImport_ImportModule("orthanc") != NULL); /* for the life of the process */
    require(strcmp(node->functions[OPB_FACT_FindQuery_GetFindQueryValue].name,
                   "FindQuery.GetFindQueryValue") == 0);
    return 0;
}

static bool
has_type_of_result(PyObject *value, const struct opb_py_function *function)
{
    switch (strchr(function->signature, ':')[1]) {
    case 'i':
        return PyLong_CheckExact(value);
    case 's':
        return PyUnicode_CheckExact(value);
    case 'z':
        return PyUnicode_CheckExact(value) || value == Py_None;
    default:
        return false; /* no getter of an object's constants */
    }
}

/* New reference to what the script gets, or NULL with an exception. */
static PyObject *
ask(PyObject *object, const struct opb_py_function *function, uint32_t index)
{
    return function->argument_count == 0
               ? PyObject_CallMethod(object, function->name, NULL)
               : PyObject_CallMethod(object, function->name, "k", (unsigned long)index);
}

/* What is known of a getter for an index. False: nothing. */
static bool
check_fact(PyObject *object, const struct opb_py_function *function, uint32_t index)
{
    const struct opb_plan *plan = &opb_module_state()->plans[function - opb_py_functions];
    PyObject *value = opb_fact_find((NodeObject *)object, plan, index);
    PyObject *said;

    require(PyErr_Occurred() == NULL);
    if (value == NULL) {
        return false;
    }
    require(has_type_of_result(value, function));
    require(function->argument_count > 0 || index == 0);
    said = ask(object, function, index);
    require(said == value);
    Py_DECREF(said);
    Py_DECREF(value);
    return true;
}

static void
require_ended(PyObject *object, const struct opb_py_function *function)
{
    PyObject *said = ask(object, function, 0);

    require(said == NULL && PyErr_ExceptionMatches(PyExc_ValueError));
    PyErr_Clear();
}

/* All facts of an object, and what is left of them after its call. */
static void
check_object(PyObject *object)
{
    const bool has_facts = ((NodeObject *)object)->facts != NULL;
    const bool is_valid = opb_object_handle((NodeObject *)object) != 0;
    const struct opb_py_function *known = NULL;

    for (uint32_t i = 0; i < opb_py_function_count && is_valid && has_facts; i++) {
        const struct opb_py_function *function = &opb_py_functions[i];

        if (function->is_constant &&
            opb_module_state()->classes[function->class_index] == Py_TYPE(object)) {
            for (uint32_t index = 0; index < INDEXES_LOOKED_AT; index++) {
                known = check_fact(object, function, index) ? function : known;
            }
        }
    }
    opb_object_invalidate(object);
    require(((NodeObject *)object)->facts == NULL);
    if (known != NULL) {
        require_ended(object, known);
    }
}

/* reader: a copy, at the parameter. */
static void
read_object(struct opb_reader reader, const char *class_name)
{
    const uint32_t left = reader.left;
    PyObject *object = opb_argument_object(&reader, class_name);

    require((object != NULL) == (reader.status == OPB_OK));
    require(PyErr_Occurred() == NULL);
    if (object != NULL) {
        require(reader.left == left - 1);
        check_object(object);
        Py_DECREF(object);
    }
}

static void
read_params(struct opb_frame *frame)
{
    struct opb_reader reader;

    opb_frame_params(frame, &reader);
    while (reader.left > 0) {
        for (uint32_t i = 0; i < opb_py_class_count; i++) {
            read_object(reader, opb_py_classes[i].name);
        }
        opb_read_skip(&reader);
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct opb_frame *frame = NULL;
    size_t byte_count = 0;
    uint8_t *wrapped;

    if (size < 2) {
        return 0;
    }
    wrapped = fuzz_wrap(data + 1, size - 1, data[0] % 4u, &byte_count);
    if (wrapped != NULL && opb_frame_decode(&frame, wrapped, byte_count) == OPB_OK &&
        opb_frame_type(frame) != OPB_RESPONSE) {
        read_params(frame);
    }
    opb_frame_free(frame);
    free(wrapped);
    return 0;
}
