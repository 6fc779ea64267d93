/* worker/module/model.h - the shape of the generated description of the SDK
 *
 * Here:      the tables that orthanc_module.gen.c fills and module.c, types.c and
 *            sdk_call.c read.
 * Elsewhere: making them (protocol/generator), using them.
 */
#ifndef OPB_MODEL_H
#define OPB_MODEL_H

#include <Python.h>

#include <stdint.h>

/* Signature: one code per argument, ':' and one result code.
 *   arguments  s str   b buf   p buf without a length in the SDK   e enum   i i32
 *              l i64   c u8    h u16   u u32   U u64   f float
 *              O<Class>; object, never None     N<Class>; object or None
 *   results    v None, never fails (posted one way)   E None or OE   b bytes or OE
 *              s str or OE(-1)   z str or None   i int   O<Class>; new object or OE(-1)
 *              B bool    x made by hand (sdk_custom.c at both ends)
 * The receiver of a method is not part of args_text and is the first argument of
 * the signature: "ORestOutput;bs:v". */
struct opb_py_function {
    const char *name; /* Python name: "RestApiGet"; for a method "AnswerBuffer" */
    const char
        *node_name; /* how the node names it: "RestApiGet", "RestOutput.AnswerBuffer";
                     * NULL: by hand, the node has nothing of this name */
    const char *signature;  /* NULL with node_name */
    const char *type_error; /* "Bad types for the arguments (2 arguments expected)" */
    const char *doc;
    uint32_t since;          /* 1012006 for 1.12.6; 0: every version */
    uint32_t argument_count; /* without the receiver */
    int class_index;         /* of the receiver in opb_py_classes, or -1 */
    int is_constant;         /* what it says of an object never changes (facts.c) */
    PyCFunction entry;       /* generated trampoline, or the hand-written function */
    int flags;               /* METH_* of entry */
};

struct opb_py_class {
    const char *name;           /* "RestOutput" */
    const char *qualified_name; /* "orthanc.RestOutput" */
    const char *sdk_name;       /* "OrthancPluginRestOutput" */
    const char *doc;
    uint32_t since;
    uint32_t complete_since; /* the SDK that has all methods that are known of it */
    int is_owned;            /* has an SDK destructor: released when the object dies */
};

struct opb_py_enum_value {
    const char *name;
    int32_t value;
    uint32_t since;
};

struct opb_py_enum {
    const char *name;
    const char *qualified_name;
    const char *doc;
    uint32_t since;
    const struct opb_py_enum_value *values; /* ends with name NULL */
};

/* A name that newer headers than that of the build have. */
struct opb_py_later {
    const char *name;
    uint32_t since;
};

extern const struct opb_py_function opb_py_functions[]; /* functions and methods */
extern const uint32_t opb_py_function_count;
extern const struct opb_py_class opb_py_classes[];
extern const uint32_t opb_py_class_count;
extern const struct opb_py_enum opb_py_enums[];
extern const uint32_t opb_py_enum_count;
extern const uint32_t opb_py_sdk_version;              /* of the header at build time */
extern const struct opb_py_later opb_py_later_names[]; /* ends with name NULL */

/* What every generated trampoline calls (sdk_call.c). self is the module or the
 * receiver; args as in METH_FASTCALL. Returns a new reference. */
PyObject *opb_sdk_call(const struct opb_py_function *function, PyObject *self,
                       PyObject *const *args, Py_ssize_t count);
/* Module functions: METH_FASTCALL | METH_KEYWORDS; refuses keywords with the text of
 * the contract ("RestApiGet() takes no keyword arguments"). */
PyObject *opb_sdk_call_keywords(const struct opb_py_function *function, PyObject *self,
                                PyObject *const *args, Py_ssize_t count, PyObject *names);

/* Hand-written functions, by Python name (register.c, sdk_custom.c). All have the
 * METH_FASTCALL | METH_KEYWORDS type (functions) or METH_FASTCALL (methods). */
#include "custom.h"

#endif
