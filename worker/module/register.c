/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/module/register.c - what the script wants to be called for
 *
 * Here:      the Register* functions, their refusals in the words of the contract
 *            (section 3.1), and the callables until the script is over.
 * Elsewhere: telling Orthanc (plugin/routes.c), calling them (worker/host).
 * Called by: the script; the host asks for callables. With the GIL.
 *
 * The callables are stored before the node is told: a call may come at once.
 */
#include "worker/module/surface.h"

#include "orthanc_module.gen.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct registration {
    const char *function; /* Python name */
    const char *call;     /* by which the node calls, words.h */
    uint32_t callable_count;
    const char *bad_arguments; /* ValueError */
    const char *twice;         /* RuntimeError */
    int excludes;              /* the other variant that cannot be registered too, or -1 */
};

enum kind {
    KIND_CHANGE,
    KIND_STORED_INSTANCE,
    KIND_HTTP_FILTER,
    KIND_FIND,
    KIND_FIND2,
    KIND_MOVE,
    KIND_MOVE2,
    KIND_MOVE3,
    KIND_WORKLIST,
    KIND_WORKLIST2,
    KIND_STORAGE,
    KIND_STORAGE3,
    KIND_CSTORE_FILTER,
    KIND_RECEIVED,
    KIND_COMMITMENT,
    KIND_COMMITMENT2,
    KIND_COUNT
};
_Static_assert(KIND_COUNT <= OPB_MAX_KINDS,
               "the state has too few slots for registrations");

#define ONE(python_name, call_name, what, other)                                           \
    {                                                                                      \
        .function = python_name, .call = call_name, .callable_count = 1,                   \
        .bad_arguments = "Expected a callback function to register one " what,             \
        .twice = "Can only register one " what, .excludes = other                          \
    }
#define SEVERAL(python_name, call_name, number, counted, what, other)                      \
    {                                                                                      \
        .function = python_name, .call = call_name, .callable_count = number,              \
        .bad_arguments = "Expected " counted " callback functions to register " what,      \
        .twice = "Can only register once for " what, .excludes = other                     \
    }
#define STORAGE(python_name, call_name)                                                    \
    {                                                                                      \
        .function = python_name, .call = call_name, .callable_count = 3,                   \
        .bad_arguments =                                                                   \
            "Expected three callback functions to register a custom storage area",         \
        .twice = "Cannot register twice a custom storage area", .excludes = -1             \
    }

static const struct registration kinds[KIND_COUNT] = {
    [KIND_CHANGE] =
        ONE("RegisterOnChangeCallback", "Change", "Python on-changes callback", -1),
    [KIND_STORED_INSTANCE] = ONE("RegisterOnStoredInstanceCallback", "StoredInstance",
                                 "Python on-stored-instance callback", -1),
    [KIND_HTTP_FILTER] = ONE("RegisterIncomingHttpRequestFilter", "HttpFilter",
                             "Python incoming-http-request filter", -1),
    [KIND_FIND] = ONE("RegisterFindCallback", "Find", "Python C-FIND SCP callback", -1),
    [KIND_FIND2] =
        ONE("RegisterFindCallback2", "Find2", "Python C-FIND SCP callback (v2)", -1),
    [KIND_MOVE] = ONE("RegisterMoveCallback", "Move", "Python C-MOVE SCP callback", -1),
    [KIND_MOVE2] = SEVERAL("RegisterMoveCallback2", "Move2", 4, "4",
                           "Python C-MOVE SCP callback (v2)", KIND_MOVE3),
    [KIND_MOVE3] = SEVERAL("RegisterMoveCallback3", "Move3", 4, "4",
                           "Python C-MOVE SCP callback (v3)", KIND_MOVE2),
    [KIND_WORKLIST] = ONE("RegisterWorklistCallback", "Worklist",
                          "Python C-FIND SCP for worklist callback", KIND_WORKLIST2),
    [KIND_WORKLIST2] = ONE("RegisterWorklistCallback2", "Worklist2",
                           "Python C-FIND SCP for worklist callback (v2)", KIND_WORKLIST),
    [KIND_STORAGE] = STORAGE("RegisterStorageArea", "StorageArea"),
    [KIND_STORAGE3] = STORAGE("RegisterStorageArea3", "StorageArea3"),
    [KIND_CSTORE_FILTER] = ONE("RegisterIncomingCStoreInstanceFilter", "CStoreFilter",
                               "Python incoming CStore instance filter", -1),
    [KIND_RECEIVED] = ONE("RegisterReceivedInstanceCallback", "ReceivedInstance",
                          "Python received instance callback", -1),
    [KIND_COMMITMENT] =
        SEVERAL("RegisterStorageCommitmentScpCallback", "StorageCommitment", 2, "two",
                "Python storage commitment SCP & Lookup callback", KIND_COMMITMENT2),
    [KIND_COMMITMENT2] =
        SEVERAL("RegisterStorageCommitmentScpCallback2", "StorageCommitment2", 2, "two",
                "Python storage commitment SCP & Lookup callback (v2)", KIND_COMMITMENT),
};

/* -1 with an exception: the node says no, or cannot be asked. */
static int
tell_node(struct opb_link *link, const char *call, const char *pattern, uint32_t index)
{
    int32_t method = opb_link_method(link, OPB_FUNCTION_REGISTER);
    struct opb_message *message;
    struct opb_frame *response = NULL;
    enum opb_status status;
    enum opb_fault fault;
    const char *text;
    int32_t code;
    int result = 0;

    if (method < 0) {
        PyErr_SetString(
            PyExc_RuntimeError,
            "the plugin of this Orthanc accepts no registrations: install the same "
            "release of plugin and worker");
        return -1;
    }
    message = opb_link_message(link);
    if (message == NULL) {
        (void)PyErr_NoMemory();
        return -1;
    }
    opb_message_begin_request(message, (uint32_t)method, 3);
    opb_pack_cstr(message, call);
    opb_pack_cstr(message, pattern);
    opb_pack_uint(message, index);
    status = opb_link_call(link, message, &response);
    opb_link_message_back(link, message);
    if (status != OPB_OK) {
        opb_link_raise(status);
        return -1;
    }
    if (opb_frame_fault(response, &fault, &code, &text)) {
        opb_raise_fault(fault, code, text);
        result = -1;
    }
    opb_frame_free(response);
    return result;
}

static bool
is_served(const struct opb_link *link, const char *call)
{
    const struct opb_node_info *info = opb_link_info(link);

    for (uint32_t i = 0; i < info->call_count; i++) {
        if (strcmp(info->calls[i], call) == 0) {
            return true;
        }
    }
    return false;
}

static int
refuse_unserved(const struct opb_link *link, const char *function, const char *call)
{
    if (is_served(link, call)) {
        return 0;
    }
    PyErr_Format(
        PyExc_RuntimeError,
        "%s() is not supported yet by the Python bridge that this Orthanc has loaded",
        function);
    return -1;
}

static void
forget(PyObject **slots, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        Py_CLEAR(slots[i]);
    }
}

/* A child of a host imports the script again, and is not called. A fork of a host has not
 * imported anything: whoever registers there expects something. */
static PyObject *
ignore_in_child(struct opb_module_state *state, const char *function)
{
    char text[256];

    if (opb_link_is_fork() && !state->has_warned) {
        state->has_warned = true;
        (void)snprintf(text, sizeof(text),
                       "orthanc.%s() does nothing in a child process of the script (pid "
                       "%ld): callbacks run in the script's own process",
                       function, (long)getpid());
        opb_log_to_node("LogWarning", text);
    }
    Py_RETURN_NONE;
}

static PyObject *
register_kind(enum kind kind, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    const struct registration *item = &kinds[kind];
    struct opb_module_state *state = opb_module_state();
    struct opb_link *link = opb_link_current();

    if (opb_sdk_refuse_keywords(item->function, names) < 0) {
        return NULL;
    }
    if (count != (Py_ssize_t)item->callable_count) {
        PyErr_SetString(PyExc_ValueError, item->bad_arguments);
        return NULL;
    }
    if (link == NULL || opb_link_is_child()) {
        return ignore_in_child(state, item->function);
    }
    if (refuse_unserved(link, item->function, item->call) < 0) {
        return NULL;
    }
    if (state->kinds[kind][0] != NULL ||
        (item->excludes >= 0 && state->kinds[item->excludes][0] != NULL)) {
        PyErr_SetString(PyExc_RuntimeError, item->twice);
        return NULL;
    }
    for (uint32_t i = 0; i < item->callable_count; i++) {
        state->kinds[kind][i] = Py_NewRef(args[i]);
    }
    if (tell_node(link, item->call, NULL, 0) < 0) {
        PyObject *exception = opb_exception_take();

        forget(state->kinds[kind], item->callable_count); /* may run Python code */
        opb_exception_restore(&exception);
        return NULL;
    }
    Py_RETURN_NONE;
}

/* Gives the route a number. -1 with an exception. */
static int
add_route(struct opb_module_state *state, PyObject *callback, uint32_t *index)
{
    uint32_t capacity = state->route_capacity == 0 ? 16 : 2 * state->route_capacity;
    PyObject **routes;

    if (state->route_count == state->route_capacity) {
        routes = PyMem_Realloc(state->routes, capacity * sizeof(PyObject *));
        if (routes == NULL) {
            (void)PyErr_NoMemory();
            return -1;
        }
        state->routes = routes;
        state->route_capacity = capacity;
    }
    *index = state->route_count++;
    state->routes[*index] = Py_NewRef(callback);
    return 0;
}

/* The node refused the route: its number is free again if it was the last one. */
static void
drop_route(struct opb_module_state *state, uint32_t index)
{
    PyObject *exception = opb_exception_take();
    PyObject *callback = NULL;

    if (index < state->route_count) { /* not cleared meanwhile */
        callback = state->routes[index];
        state->routes[index] = NULL;
        if (index + 1 == state->route_count) {
            state->route_count--;
        }
    }
    Py_XDECREF(callback); /* may run Python code */
    opb_exception_restore(&exception);
}

OPB_CUSTOM_FUNCTION(RegisterRestCallback)
{
    static const char bad_arguments[] = "Expected a string (URI) and a callback function";
    struct opb_module_state *state = opb_module_state();
    struct opb_link *link = opb_link_current();
    const char *pattern;
    Py_ssize_t bytes;
    uint32_t index;

    (void)module;
    if (opb_sdk_refuse_keywords("RegisterRestCallback", names) < 0) {
        return NULL;
    }
    if (count != 2 || !PyUnicode_Check(args[0])) {
        PyErr_SetString(PyExc_ValueError, bad_arguments);
        return NULL;
    }
    pattern = PyUnicode_AsUTF8AndSize(args[0], &bytes);
    if (pattern == NULL) {
        opb_raise_from_current(PyExc_ValueError, bad_arguments);
        return NULL;
    }
    if (strlen(pattern) != (size_t)bytes) {
        PyErr_SetString(PyExc_ValueError, bad_arguments);
        return NULL;
    }
    if (link == NULL || opb_link_is_child()) {
        return ignore_in_child(state, "RegisterRestCallback");
    }
    if (refuse_unserved(link, "RegisterRestCallback", "Rest") < 0 ||
        add_route(state, args[1], &index) < 0) {
        return NULL;
    }
    if (tell_node(link, "Rest", pattern, index) < 0) {
        drop_route(state, index);
        return NULL;
    }
    Py_RETURN_NONE;
}

#define DEFINE_REGISTER(name, kind)                                                        \
    OPB_CUSTOM_FUNCTION(name)                                                              \
    {                                                                                      \
        (void)module;                                                                      \
        return register_kind(kind, args, count, names);                                    \
    }

DEFINE_REGISTER(RegisterOnChangeCallback, KIND_CHANGE)
DEFINE_REGISTER(RegisterOnStoredInstanceCallback, KIND_STORED_INSTANCE)
DEFINE_REGISTER(RegisterIncomingHttpRequestFilter, KIND_HTTP_FILTER)
DEFINE_REGISTER(RegisterFindCallback, KIND_FIND)
DEFINE_REGISTER(RegisterFindCallback2, KIND_FIND2)
DEFINE_REGISTER(RegisterMoveCallback, KIND_MOVE)
DEFINE_REGISTER(RegisterMoveCallback2, KIND_MOVE2)
DEFINE_REGISTER(RegisterMoveCallback3, KIND_MOVE3)
DEFINE_REGISTER(RegisterWorklistCallback, KIND_WORKLIST)
DEFINE_REGISTER(RegisterWorklistCallback2, KIND_WORKLIST2)
DEFINE_REGISTER(RegisterStorageArea, KIND_STORAGE)
DEFINE_REGISTER(RegisterStorageArea3, KIND_STORAGE3)
DEFINE_REGISTER(RegisterIncomingCStoreInstanceFilter, KIND_CSTORE_FILTER)
DEFINE_REGISTER(RegisterReceivedInstanceCallback, KIND_RECEIVED)
DEFINE_REGISTER(RegisterStorageCommitmentScpCallback, KIND_COMMITMENT)
DEFINE_REGISTER(RegisterStorageCommitmentScpCallback2, KIND_COMMITMENT2)

PyObject *
opb_registered(const char *call_name, uint32_t index)
{
    const struct opb_module_state *state = opb_module_state();

    if (state == NULL) {
        return NULL;
    }
    if (strcmp(call_name, "Rest") == 0) {
        return index < state->route_count ? state->routes[index] : NULL;
    }
    for (uint32_t i = 0; i < KIND_COUNT; i++) {
        if (strcmp(call_name, kinds[i].call) == 0) {
            return index < kinds[i].callable_count ? state->kinds[i][index] : NULL;
        }
    }
    return NULL;
}
