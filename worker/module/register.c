/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/module/register.c - what the script wants to be called for
 *
 * Here:      the Register* functions, their refusals in the words of the contract
 *            (section 3.1), what several scripts may have beside each other, and the
 *            callables until the script is over.
 * Elsewhere: telling Orthanc (plugin/routes.c), calling them (worker/host), which script
 *            registers (owner.c).
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
    status = opb_message_status(message);
    if (status == OPB_TOO_LARGE) {
        opb_link_message_back(link, message);
        PyErr_SetString(PyExc_ValueError, "the pattern of the REST route is too long");
        return -1;
    }
    if (status == OPB_OK) {
        status = opb_link_call(link, message, &response);
    }
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

/* NULL with an exception in a console, where somebody expects something, too.
 * A child of a host imports the script again, and is not called. A fork of a host has not
 * imported anything: whoever registers there expects something. */
static PyObject *
ignore_in_child(struct opb_module_state *state, const char *function)
{
    char text[256];

    if (opb_link_is_console()) {
        PyErr_Format(PyExc_RuntimeError,
                     "orthanc.%s() cannot be used in a console: Orthanc calls the hosts of "
                     "the script, and not this process. Edit the script and reload it",
                     function);
        return NULL;
    }
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

/* What every script may have: all of them are called. */
static bool
is_shared(enum kind kind)
{
    return kind == KIND_CHANGE || kind == KIND_STORED_INSTANCE || kind == KIND_HTTP_FILTER;
}

/* Kinds that have one place in Orthanc between them. */
static enum kind
family_of(enum kind kind)
{
    switch (kind) {
    case KIND_FIND2:
        return KIND_FIND;
    case KIND_MOVE2:
    case KIND_MOVE3:
        return KIND_MOVE;
    case KIND_WORKLIST2:
        return KIND_WORKLIST;
    case KIND_STORAGE3:
        return KIND_STORAGE;
    case KIND_COMMITMENT2:
        return KIND_COMMITMENT;
    default:
        return kind;
    }
}

static bool
has_kind(const struct opb_module_state *state, uint32_t script, enum kind kind)
{
    return state->scripts[script].callables[kind][0] != NULL;
}

/* Another script that has what only one can have, or OPB_NO_SCRIPT. */
static uint32_t
find_other(const struct opb_module_state *state, uint32_t script, enum kind kind)
{
    for (uint32_t other = 0; other < state->script_count; other++) {
        for (enum kind each = 0; other != script && each < KIND_COUNT; each++) {
            if (family_of(each) == family_of(kind) && has_kind(state, other, each)) {
                return other;
            }
        }
    }
    return OPB_NO_SCRIPT;
}

/* -1 with an exception. */
static int
refuse_second(const struct opb_module_state *state, uint32_t script, enum kind kind)
{
    const struct registration *item = &kinds[kind];
    uint32_t other;

    if (has_kind(state, script, kind) ||
        (item->excludes >= 0 && has_kind(state, script, (enum kind)item->excludes))) {
        PyErr_SetString(PyExc_RuntimeError, item->twice);
        return -1;
    }
    other = is_shared(kind) ? OPB_NO_SCRIPT : find_other(state, script, kind);
    if (other != OPB_NO_SCRIPT) {
        PyErr_Format(PyExc_RuntimeError,
                     "%s: the script %s has done so already, and the script %s cannot as "
                     "well",
                     item->twice, opb_script_path(other), opb_script_path(script));
        return -1;
    }
    return 0;
}

static PyObject *
register_kind(enum kind kind, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    const struct registration *item = &kinds[kind];
    struct opb_module_state *state = opb_module_state();
    struct opb_link *link = opb_link_current();
    PyObject **callables;
    uint32_t script;

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
    script = opb_owner_of_caller();
    if (refuse_second(state, script, kind) < 0) {
        return NULL;
    }
    callables = state->scripts[script].callables[kind];
    for (uint32_t i = 0; i < item->callable_count; i++) {
        callables[i] = Py_NewRef(args[i]);
    }
    if (tell_node(link, item->call, NULL, 0) < 0) {
        PyObject *exception = opb_exception_take();

        forget(callables, item->callable_count); /* may run Python code */
        opb_exception_restore(&exception);
        return NULL;
    }
    Py_RETURN_NONE;
}

/* The same route of two scripts: one of them would never be called. -1 with an exception.
 */
static int
refuse_taken(const struct opb_module_state *state, uint32_t script, PyObject *pattern)
{
    for (uint32_t i = 0; state->script_count > 1 && i < state->route_count; i++) {
        const struct opb_py_route *route = &state->routes[i];

        if (route->callback != NULL && route->script != script &&
            PyUnicode_Compare(route->pattern, pattern) == 0) {
            PyErr_Format(PyExc_RuntimeError,
                         "The REST route %U is that of the script %s, and the script %s "
                         "cannot register it as well",
                         pattern, opb_script_path(route->script), opb_script_path(script));
            return -1;
        }
    }
    return PyErr_Occurred() != NULL ? -1 : 0;
}

/* Gives the route a number. -1 with an exception. */
static int
add_route(struct opb_module_state *state, PyObject *pattern, PyObject *callback,
          uint32_t *index)
{
    uint32_t capacity = state->route_capacity == 0 ? 16 : 2 * state->route_capacity;
    uint32_t script = opb_owner_of_caller();
    struct opb_py_route *routes;

    if (refuse_taken(state, script, pattern) < 0) {
        return -1;
    }

    if (state->route_count == state->route_capacity) {
        routes = PyMem_Realloc(state->routes, capacity * sizeof(*routes));
        if (routes == NULL) {
            (void)PyErr_NoMemory();
            return -1;
        }
        state->routes = routes;
        state->route_capacity = capacity;
    }
    *index = state->route_count++;
    state->routes[*index] = (struct opb_py_route){
        .callback = Py_NewRef(callback), .pattern = Py_NewRef(pattern), .script = script};
    return 0;
}

/* The node refused the route: its number is free again if it was the last one. */
static void
drop_route(struct opb_module_state *state, uint32_t index)
{
    PyObject *exception = opb_exception_take();
    PyObject *callback = NULL;

    if (index < state->route_count) { /* not cleared meanwhile */
        callback = state->routes[index].callback;
        state->routes[index].callback = NULL;
        Py_CLEAR(state->routes[index].pattern); /* a str: runs nothing */
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
        add_route(state, args[0], args[1], &index) < 0) {
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
opb_registered_by(const char *call_name, uint32_t index, uint32_t *script)
{
    const struct opb_module_state *state = opb_module_state();

    *script = 0;
    if (state == NULL) {
        return NULL;
    }
    if (strcmp(call_name, "Rest") == 0) {
        if (index >= state->route_count) {
            return NULL;
        }
        *script = state->routes[index].script;
        return state->routes[index].callback;
    }
    for (enum kind kind = 0; kind < KIND_COUNT; kind++) {
        if (strcmp(call_name, kinds[kind].call) != 0 ||
            index >= kinds[kind].callable_count) {
            continue;
        }
        while (*script < state->script_count && !has_kind(state, *script, kind)) {
            (*script)++;
        }
        return *script < state->script_count
                   ? state->scripts[*script].callables[kind][index]
                   : NULL;
    }
    return NULL;
}

PyObject *
opb_registered(const char *call_name, uint32_t index)
{
    uint32_t script;

    return opb_registered_by(call_name, index, &script);
}

PyObject *
opb_registered_of(uint32_t script, const char *call_name)
{
    const struct opb_module_state *state = opb_module_state();

    for (enum kind kind = 0; state != NULL && kind < KIND_COUNT; kind++) {
        if (script < state->script_count && strcmp(call_name, kinds[kind].call) == 0) {
            return state->scripts[script].callables[kind][0];
        }
    }
    return NULL;
}
