/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/module/sdk_call.c - one SDK function, from Python to the node and back
 *
 * Here:      checks in the order of the contract, the request or post, the result.
 * Elsewhere: converting arguments (arguments.c), reaching the node (link.c), functions
 *            with a result of their own (sdk_custom_py.c).
 * Called by: the generated trampolines and sdk_custom_py.c, with the GIL.
 */
#include "worker/module/child.h"
#include "worker/module/surface.h"

#include <stdarg.h>
#include <string.h>

#define GENERATED_DOC "Generated from C function "

struct opb_link *
opb_sdk_link(void)
{
    struct opb_link *link = opb_link_current();

    if (link != NULL) {
        return link;
    }
    if (opb_child_failure()[0] != '\0') {
        PyErr_Format(PyExc_RuntimeError,
                     "the orthanc module is not connected to an Orthanc server in this "
                     "process: %s",
                     opb_child_failure());
    }
    else {
        PyErr_SetString(
            PyExc_RuntimeError,
            "the orthanc module is not connected to an Orthanc server in this "
            "process: neither Orthanc nor its script has started it, or the script has, "
            "without its environment (" OPB_CREDENTIALS_VARIABLE ")");
    }
    return NULL;
}

int
opb_sdk_refuse_keywords(const char *name, PyObject *names)
{
    if (names == NULL || PyTuple_GET_SIZE(names) == 0) {
        return 0;
    }
    PyErr_Format(PyExc_TypeError, "%s() takes no keyword arguments", name);
    return -1;
}

void
opb_log_verbose(const char *format, ...)
{
    const struct opb_link *link = opb_link_current();
    PyObject *exception;
    char text[512];
    va_list arguments;

    if (link == NULL || !opb_link_info(link)->verbose || opb_link_is_child()) {
        return; /* a child may have nothing else to say to the node */
    }
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof(text), format, arguments); /* cut names still tell */
    va_end(arguments);
    exception = opb_exception_take();
    opb_log_to_node("LogInfo", text);
    opb_exception_restore(&exception);
}

static void
log_call(const struct opb_py_function *function)
{
    const char *c_name;

    if (strncmp(function->doc, GENERATED_DOC, strlen(GENERATED_DOC)) != 0) {
        return; /* written by hand: the official plugin is silent too */
    }
    c_name = function->doc + strlen(GENERATED_DOC); /* with its () */
    if (function->class_index < 0) {
        opb_log_verbose("Calling Python global function: %s", c_name);
    }
    else {
        opb_log_verbose("Calling method %s on object of class %s", c_name,
                        opb_py_classes[function->class_index].sdk_name);
    }
}

static const char *
version_text(uint32_t version, char *text, size_t bytes)
{
    if (version == UINT32_MAX) {
        return "mainline";
    }
    (void)snprintf(text, bytes, "%u.%u.%u", version / 1000000u, version / 1000u % 1000u,
                   version % 1000u);
    return text;
}

/* -1 with an exception if the node does not offer the function as we know it. */
static int
check_offered(const struct opb_py_function *function, struct opb_plan *plan,
              const struct opb_link *link)
{
    char since[32];

    if (plan->method == OPB_METHOD_UNBOUND) {
        opb_plan_bind(plan, function, link);
    }
    if (plan->method >= 0) {
        return 0;
    }
    if (plan->method == OPB_METHOD_DIFFERS) {
        PyErr_Format(
            PyExc_RuntimeError,
            "%s() is another function in the plugin of this Orthanc: plugin and worker "
            "are of different releases, install the same release of both",
            function->name);
    }
    else if (function->since != 0) {
        PyErr_Format(
            PyExc_RuntimeError,
            "%s() is not offered by the plugin of this Orthanc %s: it needs Orthanc %s "
            "and a plugin built with the SDK of that version",
            function->name, opb_link_info(link)->version_text,
            version_text(function->since, since, sizeof(since)));
    }
    else {
        PyErr_Format(
            PyExc_RuntimeError,
            "%s() is not offered by the plugin of this Orthanc %s: plugin and worker are "
            "of different releases, install the same release of both",
            function->name, opb_link_info(link)->version_text);
    }
    return -1;
}

/* Everything that can be refused without asking the node. On success arguments must be
 * released. */
static int
prepare(const struct opb_py_function *function, const struct opb_plan *plan, PyObject *self,
        PyObject *const *args, Py_ssize_t count, struct opb_argument *arguments)
{
    if (plan->receiver_class >= 0 && opb_object_handle((NodeObject *)self) == 0) {
        PyErr_SetString(PyExc_ValueError, "Invalid object");
        return -1;
    }
    if (plan->item_count == 0) {
        return 0; /* surplus arguments are ignored, as in the official plugin */
    }
    if (count != (Py_ssize_t)plan->item_count) {
        PyErr_SetString(PyExc_TypeError, function->type_error);
        return -1;
    }
    if (opb_arguments_convert(arguments, plan, args) < 0) {
        opb_arguments_release(arguments, plan->item_count);
        opb_raise_from_current(PyExc_TypeError, function->type_error);
        return -1;
    }
    if (opb_arguments_check_objects(arguments, plan, args, opb_module_state()) < 0) {
        opb_arguments_release(arguments, plan->item_count);
        return -1;
    }
    return 0;
}

static void
raise_packing(const struct opb_py_function *function, enum opb_status status)
{
    if (status == OPB_TOO_LARGE) {
        PyErr_Format(
            PyExc_ValueError,
            "the text arguments of %s() are too long: %u MiB is the limit for one call",
            function->name, OPB_MAX_ENVELOPE_BYTES / (1024u * 1024u));
    }
    else {
        opb_link_raise(status);
    }
}

/* Only within the call that waits at the other end is order kept without an answer. On a
 * service lane nobody waits, and an object of another call must be used before that ends.
 */
static bool
can_post(const struct opb_plan *plan, const NodeObject *receiver)
{
    const struct opb_lane *lane = opb_link_bound();

    return plan->result == 'v' && lane != NULL &&
           (receiver == NULL || receiver->lane == lane);
}

/* Another thread serves the call of the object: what it has posted comes first. */
static bool
is_of_another(const struct opb_plan *plan, const NodeObject *receiver)
{
    return plan->result == 'v' && receiver != NULL && receiver->lane != NULL &&
           receiver->lane != opb_link_bound();
}

/* Sends what prepare() has checked. A result that nobody waits for leaves *response NULL.
 */
static int
transmit(struct opb_link *link, const struct opb_py_function *function,
         const struct opb_plan *plan, const NodeObject *receiver,
         const struct opb_argument *arguments, struct opb_frame **response)
{
    uint32_t params = plan->item_count + (plan->receiver_class >= 0 ? 1u : 0u);
    struct opb_message *message = opb_link_message(link);
    bool is_post = can_post(plan, receiver);
    enum opb_status status;

    *response = NULL;
    if (message == NULL) {
        (void)PyErr_NoMemory();
        return -1;
    }
    if (is_post) {
        opb_message_begin_notify(message, (uint32_t)plan->method, params);
    }
    else {
        opb_message_begin_request(message, (uint32_t)plan->method, params);
    }
    if (receiver != NULL) {
        opb_pack_uint(message, receiver->handle);
    }
    opb_arguments_pack(arguments, plan->item_count, message);
    status = opb_message_status(message);
    if (status != OPB_OK) {
        raise_packing(function, status);
        opb_link_message_back(link, message);
        return -1;
    }
    if (!is_post && is_of_another(plan, receiver)) {
        opb_link_order_after(link, receiver->lane);
    }
    status = is_post ? opb_link_post(link, message, function->class_index < 0)
                     : opb_link_call(link, message, response);
    opb_link_message_back(link, message);
    if (status != OPB_OK) {
        opb_link_raise(status);
        return -1;
    }
    return 0;
}

/* What is known of a constant result. */
struct fact {
    PyObject *value; /* new reference, or NULL: the node was asked */
    uint32_t index;
};

static void
look_up(struct fact *fact, const struct opb_plan *plan, const NodeObject *receiver,
        const struct opb_argument *arguments)
{
    fact->index = opb_fact_index(plan, arguments);
    fact->value = opb_fact_find(receiver, plan, fact->index);
}

/* -1 with an exception. *response is NULL after a post, and if *fact has the result, else
 * without a fault. fact may be NULL: it is not looked for. */
static int
run(const struct opb_py_function *function, struct opb_plan *plan, PyObject *self,
    PyObject *const *args, Py_ssize_t count, struct opb_frame **response, struct fact *fact)
{
    struct opb_link *link = opb_sdk_link();
    struct opb_argument arguments[OPB_MAX_ARGUMENTS];
    enum opb_fault fault;
    int32_t code;
    const char *text;
    int result;

    *response = NULL;
    if (link == NULL) {
        return -1;
    }
    if (opb_link_info(link)->verbose) {
        log_call(function);
    }
    if (prepare(function, plan, self, args, count, arguments) < 0) {
        return -1;
    }
    result = check_offered(function, plan, link);
    if (result == 0 && fact != NULL && function->is_constant) {
        look_up(fact, plan, (NodeObject *)self, arguments);
    }
    if (result == 0 && (fact == NULL || fact->value == NULL)) {
        result = transmit(link, function, plan,
                          plan->receiver_class >= 0 ? (NodeObject *)self : NULL, arguments,
                          response);
    }
    opb_arguments_release(arguments, plan->item_count);
    if (result < 0) {
        return -1;
    }
    if (*response != NULL && opb_frame_fault(*response, &fault, &code, &text)) {
        opb_raise_fault(fault, code, text);
        opb_frame_free(*response);
        *response = NULL;
        return -1;
    }
    return 0;
}

void
opb_sdk_raise_malformed(const struct opb_py_function *function)
{
    PyErr_Format(
        PyExc_RuntimeError,
        "Orthanc answered %s() with something else than its signature says: plugin and "
        "worker are probably of different releases, install the same release of both",
        function->name);
}

/* New reference to the bytes, which are not copied if they came as a segment. */
static PyObject *
read_bytes(struct opb_reader *reader)
{
    void *owner = NULL;
    size_t bytes = 0;
    const char *data = opb_read_bytes_take(reader, &bytes, &owner);

    if (owner != NULL) {
        return owner; /* opb_segment_pybytes: the reference is ours now */
    }
    return PyBytes_FromStringAndSize(data, (Py_ssize_t)bytes);
}

/* Text longer than an envelope may be comes as bytes. */
static PyObject *
read_text(struct opb_reader *reader)
{
    struct opb_reader as_bytes = *reader;
    size_t bytes = 0;
    const char *data = opb_read_str(reader, &bytes);

    if (reader->status != OPB_OK) {
        *reader = as_bytes;
        data = opb_read_bytes(reader, &bytes);
    }
    return reader->status == OPB_OK
               ? PyUnicode_DecodeUTF8(data, (Py_ssize_t)bytes, "strict")
               : Py_NewRef(Py_None); /* refused by the caller */
}

static PyObject *
read_object(struct opb_reader *reader, int class_index)
{
    uint64_t handle = opb_read_uint(reader, UINT64_MAX);

    if (opb_reader_finish(reader) != OPB_OK || handle == 0) {
        reader->status = OPB_BAD_FRAME;
        return Py_NewRef(Py_None); /* refused by the caller */
    }
    return opb_object_from_class(class_index, handle, true);
}

PyObject *
opb_sdk_read_value(const struct opb_plan *plan, struct opb_reader *reader)
{
    switch (plan->result) {
    case 'v':
    case 'E':
        opb_read_skip(reader);
        return Py_NewRef(Py_None);
    case 'b':
        return read_bytes(reader);
    case 'z':
        if (opb_read_is_nil(reader)) {
            opb_read_skip(reader);
            return Py_NewRef(Py_None);
        }
        return read_text(reader);
    case 's':
        return read_text(reader);
    case 'i':
        return PyLong_FromLongLong(opb_read_int(reader, INT64_MIN, INT64_MAX));
    case 'B':
        return PyBool_FromLong(opb_read_bool(reader));
    case 'O':
        return read_object(reader, plan->result_class);
    default:
        reader->status = OPB_BAD_FRAME; /* x: never asked for here */
        return Py_NewRef(Py_None);
    }
}

PyObject *
opb_sdk_call(const struct opb_py_function *function, PyObject *self, PyObject *const *args,
             Py_ssize_t count)
{
    struct opb_plan *plan = &opb_module_state()->plans[function - opb_py_functions];
    struct fact fact = {.value = NULL};
    struct opb_frame *response;
    struct opb_reader reader;
    PyObject *result;

    if (run(function, plan, self, args, count, &response, &fact) < 0) {
        return NULL;
    }
    if (response == NULL) {
        return fact.value != NULL ? fact.value : Py_NewRef(Py_None);
    }
    opb_frame_result(response, &reader);
    result = opb_sdk_read_value(plan, &reader);
    if (result != NULL && opb_reader_finish(&reader) != OPB_OK) {
        Py_CLEAR(result);
        opb_sdk_raise_malformed(function);
    }
    if (result != NULL && function->is_constant) {
        opb_fact_keep((NodeObject *)self, plan, fact.index, result);
    }
    opb_frame_free(response);
    return result;
}

PyObject *
opb_sdk_call_keywords(const struct opb_py_function *function, PyObject *self,
                      PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    if (opb_sdk_refuse_keywords(function->name, names) < 0) {
        return NULL;
    }
    return opb_sdk_call(function, self, args, count);
}

struct opb_frame *
opb_sdk_request(const struct opb_py_function *function, PyObject *self,
                PyObject *const *args, Py_ssize_t count)
{
    struct opb_plan *plan = &opb_module_state()->plans[function - opb_py_functions];
    struct opb_frame *response;

    return run(function, plan, self, args, count, &response, NULL) < 0 ? NULL : response;
}
