/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/module/module.c - the orthanc module: what `import orthanc` gives
 *
 * Here:      assembling the module from the generated tables, with the names that the
 *            node's version has; its state.
 * Elsewhere: types (types.c), functions (sdk_call.c, register.c, sdk_custom_py.c), names
 *            that are not there (missing.c).
 * Called by: CPython, through the inittab of the host or as the extension module that
 *            children of a host import.
 */
#include "worker/module/child.h"
#include "worker/module/surface.h"

#include <stdlib.h>
#include <string.h>

#define NODE_VERSION_VARIABLE "ORTHANC_PYTHON_BRIDGE_NODE_VERSION"
#define KEEPER_KEY            "orthanc-python-bridge.module"

/* The first module object holds the state, and a later one (a script may delete the entry
 * in sys.modules and import again) refers to it, so that types stay what they were. */
struct module_memory {
    struct opb_module_state *state; /* owned; NULL in a later module */
    PyObject *first; /* owned reference to the module with the state, or NULL */
};

static struct opb_module_state *current_state; /* lent by the first module */

struct opb_module_state *
opb_module_state(void)
{
    return current_state;
}

/* "1.12.6" gives 1012006; anything else, as "mainline", means every version. */
static uint32_t
parse_version(const char *text)
{
    unsigned int parts[3] = {0, 0, 0};
    char after = '\0';

    if (text == NULL ||
        sscanf(text, "%3u.%3u.%3u%c", &parts[0], &parts[1], &parts[2], &after) < 2) {
        return UINT32_MAX;
    }
    return parts[0] * 1000000u + parts[1] * 1000u + parts[2];
}

static uint32_t
find_node_version(void)
{
    const struct opb_link *link = opb_link_current();

    return link != NULL ? opb_link_info(link)->version
                        : parse_version(getenv(NODE_VERSION_VARIABLE));
}

static struct opb_module_state *
state_new(void)
{
    struct opb_module_state *state = PyMem_Calloc(1, sizeof(*state));

    if (state == NULL) {
        (void)PyErr_NoMemory();
        return NULL;
    }
    state->interpreter = PyInterpreterState_Get();
    state->node_version = find_node_version();
    state->classes = PyMem_Calloc((size_t)opb_py_class_count + 1, sizeof(*state->classes));
    state->plans = PyMem_Calloc((size_t)opb_py_function_count + 1, sizeof(*state->plans));
    state->script_count = opb_script_count();
    state->scripts = PyMem_Calloc(state->script_count, sizeof(*state->scripts));
    if (state->classes == NULL || state->plans == NULL || state->scripts == NULL) {
        PyMem_Free(state->scripts);
        PyMem_Free(state->classes);
        PyMem_Free(state->plans);
        PyMem_Free(state);
        (void)PyErr_NoMemory();
        return NULL;
    }
    return state;
}

static int
prepare_plans(struct opb_module_state *state)
{
    const struct opb_link *link = opb_link_current();

    for (uint32_t i = 0; i < opb_py_function_count; i++) {
        if (opb_plan_prepare(&state->plans[i], &opb_py_functions[i]) < 0) {
            return -1;
        }
        if (link != NULL) {
            opb_plan_bind(&state->plans[i], &opb_py_functions[i], link);
        }
    }
    return 0;
}

/* Makes the types; their names are added by add_names(). */
static int
make_types(PyObject *module, struct opb_module_state *state)
{
    for (uint32_t i = 0; i < opb_py_class_count; i++) {
        if (opb_py_classes[i].since > state->node_version) {
            continue;
        }
        state->classes[i] = opb_type_for_class(module, (int)i, state->node_version);
        if (state->classes[i] == NULL) {
            return -1;
        }
    }
    state->exception =
        PyErr_NewException("orthanc.OrthancException", PyExc_Exception, NULL);
    return state->exception == NULL ? -1 : 0;
}

static int
add_enums(PyObject *module, const struct opb_module_state *state)
{
    for (uint32_t i = 0; i < opb_py_enum_count; i++) {
        PyTypeObject *type;
        int failed;

        if (opb_py_enums[i].since > state->node_version) {
            continue;
        }
        type = opb_type_for_enum(module, &opb_py_enums[i], state->node_version);
        failed = type == NULL ||
                 PyModule_AddObjectRef(module, opb_py_enums[i].name, (PyObject *)type) < 0;
        Py_XDECREF(type);
        if (failed) {
            return -1;
        }
    }
    return 0;
}

static int
add_names(PyObject *module, const struct opb_module_state *state)
{
    PyMethodDef *functions = opb_type_functions(state->node_version);

    if (functions == NULL || PyModule_AddFunctions(module, functions) < 0) {
        return -1;
    }
    for (uint32_t i = 0; i < opb_py_class_count; i++) {
        if (state->classes[i] != NULL &&
            PyModule_AddObjectRef(module, opb_py_classes[i].name,
                                  (PyObject *)state->classes[i]) < 0) {
            return -1;
        }
    }
    return PyModule_AddObjectRef(module, "OrthancException", state->exception);
}

/* A module object beside the first: the same names with the same values. */
static int
copy_names(PyObject *module, PyObject *first)
{
    PyObject *from = PyModule_GetDict(first);  /* borrowed */
    PyObject *into = PyModule_GetDict(module); /* borrowed */
    PyObject *key, *value;
    Py_ssize_t position = 0;

    while (PyDict_Next(from, &position, &key, &value)) {
        int found = PyDict_Contains(into, key);

        if (found < 0 || (found == 0 && PyDict_SetItem(into, key, value) < 0)) {
            return -1;
        }
    }
    return 0;
}

static int
module_exec(PyObject *module)
{
    struct module_memory *memory = PyModule_GetState(module);
    PyObject *kept = PyInterpreterState_GetDict(PyInterpreterState_Get()); /* borrowed */
    PyObject *first;

    if (kept == NULL) {
        PyErr_SetString(PyExc_ImportError,
                        "orthanc cannot be imported in this interpreter");
        return -1;
    }
    if (current_state != NULL && current_state->interpreter != PyInterpreterState_Get()) {
        PyErr_SetString(PyExc_ImportError,
                        "orthanc can be imported in the main interpreter only");
        return -1;
    }
    if (opb_missing_add(module) < 0) {
        return -1;
    }
    first = current_state == NULL ? NULL
                                  : PyDict_GetItemString(kept, KEEPER_KEY); /* borrowed */
    if (first != NULL) {
        memory->first = Py_NewRef(first);
        return copy_names(module, first);
    }
    opb_child_attach();
    memory->state = state_new();
    if (memory->state == NULL || prepare_plans(memory->state) < 0 ||
        make_types(module, memory->state) < 0 || add_enums(module, memory->state) < 0 ||
        add_names(module, memory->state) < 0
        /* Registrations must live even if the script forgets the module. */
        || PyDict_SetItemString(kept, KEEPER_KEY, module) < 0) {
        return -1;
    }
    current_state = memory->state;
    return 0;
}

static int
module_traverse(PyObject *module, visitproc visit, void *arg)
{
    struct module_memory *memory = PyModule_GetState(module);
    struct opb_module_state *state = memory->state;

    Py_VISIT(memory->first);
    if (state == NULL) {
        return 0;
    }
    Py_VISIT(state->exception);
    for (uint32_t i = 0; i < opb_py_class_count; i++) {
        Py_VISIT(state->classes[i]);
    }
    for (uint32_t i = 0; i < state->route_count; i++) {
        Py_VISIT(state->routes[i].callback);
    }
    for (uint32_t script = 0; script < state->script_count; script++) {
        for (uint32_t i = 0; i < OPB_MAX_KINDS; i++) {
            for (uint32_t j = 0; j < OPB_MAX_CALLABLES; j++) {
                Py_VISIT(state->scripts[script].callables[i][j]);
            }
        }
    }
    return 0;
}

static void
clear_kinds(struct opb_py_kinds *kinds)
{
    for (uint32_t i = 0; i < OPB_MAX_KINDS; i++) {
        for (uint32_t j = 0; j < OPB_MAX_CALLABLES; j++) {
            Py_CLEAR(kinds->callables[i][j]);
        }
    }
}

static void
clear_registrations(struct opb_module_state *state)
{
    uint32_t count = state->route_count;
    struct opb_py_route *routes = state->routes;

    state->routes = NULL; /* first: destroying a callable may run Python code */
    state->route_count = 0;
    state->route_capacity = 0;
    for (uint32_t i = 0; i < count; i++) {
        Py_CLEAR(routes[i].callback);
        Py_CLEAR(routes[i].pattern);
    }
    PyMem_Free(routes);
    for (uint32_t i = 0; i < state->script_count; i++) {
        clear_kinds(&state->scripts[i]);
    }
}

void
opb_registrations_clear(void)
{
    if (current_state != NULL) {
        clear_registrations(current_state);
    }
}

static int
module_clear(PyObject *module)
{
    struct module_memory *memory = PyModule_GetState(module);
    struct opb_module_state *state = memory->state;

    Py_CLEAR(memory->first);
    if (state == NULL) {
        return 0;
    }
    clear_registrations(state);
    Py_CLEAR(state->exception);
    for (uint32_t i = 0; i < opb_py_class_count; i++) {
        Py_CLEAR(state->classes[i]);
    }
    return 0;
}

static void
module_free(void *module)
{
    struct module_memory *memory = PyModule_GetState((PyObject *)module);
    struct opb_module_state *state;

    if (memory == NULL) {
        return; /* creation failed before there was any */
    }
    state = memory->state;
    if (state != NULL && current_state == state) {
        current_state = NULL;
    }
    (void)module_clear((PyObject *)module); /* always 0 */
    if (state != NULL) {
        memory->state = NULL;
        PyMem_Free((void *)state->getters);
        PyMem_Free(state->scripts);
        PyMem_Free(state->classes);
        PyMem_Free(state->plans);
        PyMem_Free(state);
    }
}

PyMODINIT_FUNC
PyInit_orthanc(void)
{
    static PyModuleDef_Slot slots[] = {
        {Py_mod_exec, (void *)module_exec},
#if PY_VERSION_HEX >= 0x030c0000
        {Py_mod_multiple_interpreters, Py_MOD_MULTIPLE_INTERPRETERS_NOT_SUPPORTED},
#endif
#if PY_VERSION_HEX >= 0x030d0000
        {Py_mod_gil, Py_MOD_GIL_USED},
#endif
        {0, NULL},
    };
    static struct PyModuleDef definition = {
        PyModuleDef_HEAD_INIT,
        .m_name = "orthanc",
        .m_size = (Py_ssize_t)sizeof(struct module_memory),
        .m_slots = slots,
        .m_traverse = module_traverse,
        .m_clear = module_clear,
        .m_free = module_free,
    };

    return PyModuleDef_Init(&definition);
}
