/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/module/surface.h - what the files of worker/module know about each other
 *
 * Here:      the state of the module, objects around handles, prepared signatures,
 *            arguments on their way to the node.
 * Elsewhere: the contract with the host (module.h, link.h) and the tables (model.h).
 * All functions need the GIL. Nothing outside worker/module includes this file.
 */
#ifndef OPB_SURFACE_H
#define OPB_SURFACE_H

#include <Python.h>

#include "worker/module/link.h"
#include "worker/module/model.h"
#include "worker/module/module.h"

#include <stdbool.h>

#define OPB_MAX_ARGUMENTS 12u

/* Method numbers that are none. */
#define OPB_METHOD_UNKNOWN (-1) /* the node lacks the function */
#define OPB_METHOD_DIFFERS (-2) /* the node's signature is another one */
#define OPB_METHOD_UNBOUND (-3) /* not looked up yet: there was no node */

/* A signature of model.h, taken apart once. */
struct opb_plan {
    int32_t method;      /* of the node, or OPB_METHOD_* */
    int receiver_class;  /* -1: none */
    uint32_t item_count; /* arguments, without the receiver */
    struct opb_plan_item {
        char code;
        int class_index; /* codes O and N */
    } items[OPB_MAX_ARGUMENTS];
    char result;
    int result_class;
    uint32_t getter;       /* if its results are kept (facts.c): which of its class it is */
    uint32_t getter_count; /* of the class */
};

/* What the script registered: one slot for each call that is no REST route. */
#define OPB_MAX_KINDS     20u
#define OPB_MAX_CALLABLES 4u

struct opb_py_route {
    PyObject *callback; /* owned; may be NULL */
    PyObject *pattern;  /* owned, a str; may be NULL */
    uint32_t script;
};

struct opb_module_state {
    PyInterpreterState *interpreter;
    uint32_t node_version; /* decides which names exist */
    PyObject *exception;   /* owned: OrthancException */
    PyTypeObject *
        *classes; /* owned, by index in opb_py_classes; NULL: not in this version */
    struct opb_plan *plans;    /* by index in opb_py_functions */
    struct opb_plan **getters; /* owned, of facts.c: by the node's number; NULL: not yet */
    struct opb_py_route *routes; /* by the host's route number */
    uint32_t route_count;
    uint32_t route_capacity;
    struct opb_py_kinds {
        PyObject *callables[OPB_MAX_KINDS][OPB_MAX_CALLABLES]; /* owned, or NULL */
    } * scripts;                                               /* one for each script */
    uint32_t script_count;
    bool has_warned; /* that a child process registers in vain */
};

/* Lends the state of the module of this process, or NULL before the import. */
struct opb_module_state *opb_module_state(void);

/* An object of a class of the SDK. It refers to numbers and texts at most: needs no GC. */
typedef struct {
    PyObject_HEAD uint64_t handle; /* 0: none */
    bool is_owned;                 /* the handle is released when the object dies */
    bool is_stale;                 /* had a handle once */
    uint32_t epoch;                /* of the process that has it: opb_link_epoch() */
    const struct opb_lane *lane;   /* borrowed: of the call it belongs to; only compared */
    struct opb_facts *facts;       /* owned: facts.c; NULL: none */
} NodeObject;

/* types.c. The handle, or 0 if the object stands for nothing in this process: it may be one
 * of the process that this one is a fork of. */
uint64_t opb_object_handle(const NodeObject *object);

/* types.c. Methods and constants newer than the version are left out. */
PyTypeObject *opb_type_for_class(PyObject *module, int class_index, uint32_t node_version);
PyTypeObject *opb_type_for_enum(PyObject *module, const struct opb_py_enum *model,
                                uint32_t node_version);
/* Lends the definitions of all module functions, for the life of the process; NULL with
 * an exception. */
PyMethodDef *opb_type_functions(uint32_t node_version);
/* New reference. */
PyObject *opb_object_from_class(int class_index, uint64_t handle, bool is_owned);

/* missing.c. __getattr__ and __dir__ of the module: what AttributeError says about names
 * that this server or this build lacks. -1 with an exception. */
int opb_missing_add(PyObject *module);
/* The same for attributes of an object of a class of the SDK. New reference. */
PyObject *opb_object_getattr(PyObject *self, PyObject *name);

/* plan.c: -1 with an exception if a generated signature is not one. */
int opb_plan_prepare(struct opb_plan *plan, const struct opb_py_function *function);
/* Looks the function up in the node's list. */
void opb_plan_bind(struct opb_plan *plan, const struct opb_py_function *function,
                   const struct opb_link *link);

/* arguments.c: one argument, converted, lending the memory of the Python object. */
struct opb_argument {
    char code;
    bool has_view;
    union {
        int64_t integer;
        uint64_t natural;
        double real;
        struct {
            const char *data; /* NULL: none */
            size_t bytes;
        } text;
        Py_buffer view;
    } value;
};
/* -1 with the exception of Python's own conversion. Ends with opb_arguments_release(),
 * on failure too. */
int opb_arguments_convert(struct opb_argument *arguments, const struct opb_plan *plan,
                          PyObject *const *args);
/* -1 with the exception of the contract. To be called after opb_arguments_convert(). */
int opb_arguments_check_objects(struct opb_argument *arguments, const struct opb_plan *plan,
                                PyObject *const *args,
                                const struct opb_module_state *state);
void opb_arguments_pack(const struct opb_argument *arguments, uint32_t count,
                        struct opb_message *message);
void opb_arguments_release(struct opb_argument *arguments, uint32_t count);
/* The value of an argument of code u: -1 with an exception. */
int opb_argument_u32(PyObject *arg, uint32_t *out);

/* facts.c. Results of getters whose is_constant is set. What the only argument says; 0
 * without. */
uint32_t opb_fact_index(const struct opb_plan *plan, const struct opb_argument *arguments);
/* New reference, or NULL without an exception: it must be asked for. */
PyObject *opb_fact_find(const NodeObject *object, const struct opb_plan *plan,
                        uint32_t index);
/* The node has said it. Sets no exception. */
void opb_fact_keep(NodeObject *object, const struct opb_plan *plan, uint32_t index,
                   PyObject *value);
/* Forgets all. */
void opb_facts_drop(NodeObject *object);

/* sdk_call.c. New reference to the result of a function, by its signature. On what it is
 * not the reader has failed, and the reference is to None; NULL with an exception. */
PyObject *opb_sdk_read_value(const struct opb_plan *plan, struct opb_reader *reader);
/* sdk_call.c. Runs the function and gives the response to read the result from; NULL with
 * an exception, also for a fault. Not for functions without a result (code v). */
struct opb_frame *opb_sdk_request(const struct opb_py_function *function, PyObject *self,
                                  PyObject *const *args, Py_ssize_t count);
/* Refuses keywords in the words of the contract: -1 with an exception. */
int opb_sdk_refuse_keywords(const char *name, PyObject *names);
/* Lends the link, or NULL with the exception that there is no server. */
struct opb_link *opb_sdk_link(void);
/* The result is not what its signature says. */
void opb_sdk_raise_malformed(const struct opb_py_function *function);

/* owner.c. The script that the calling Python code belongs to. */
uint32_t opb_owner_of_caller(void);
const char *opb_script_path(uint32_t script); /* lent */

/* errors.c. Raises type(text); an exception that is set becomes its cause. */
void opb_raise_from_current(PyObject *type, const char *text);
/* Gives the exception that is set, normalised, which is then set no more; or NULL. */
PyObject *opb_exception_take(void);
/* Sets it again. Takes *exception; NULL clears. */
void opb_exception_restore(PyObject **exception);

/* What the verbose log says: "Calling Python global function: ..." and so on. Keeps an
 * exception that is set. */
OPB_PRINTF(1, 2) void opb_log_verbose(const char *format, ...);

#endif
