/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/module/owner.c - which of several scripts is at work
 *
 * Here:      who registers: the script whose code is the innermost on the Python stack,
 * else the one whose callback, or import, the thread is in, else the first. Who is named in
 * the log. Elsewhere: what scripts have registered (register.c), running it (worker/host).
 *
 * A script is a module with the name of its file: no two have the same.
 */
#include "worker/module/surface.h"

#include <string.h>

static _Thread_local uint32_t current = OPB_NO_SCRIPT;

static const struct opb_node_info *
find_info(void)
{
    const struct opb_link *link = opb_link_current();

    return link != NULL ? opb_link_info(link) : NULL;
}

uint32_t
opb_script_count(void)
{
    const struct opb_node_info *info = find_info();

    return info != NULL && info->script_count > 1 ? info->script_count : 1;
}

const char *
opb_script_path(uint32_t script)
{
    const struct opb_node_info *info = find_info();

    return info != NULL && script < info->script_count ? info->scripts[script] : "";
}

uint32_t
opb_owner_set(uint32_t script)
{
    uint32_t before = current;

    current = script;
    return before;
}

const char *
opb_owner_path(void)
{
    return opb_script_count() > 1 && current != OPB_NO_SCRIPT ? opb_script_path(current)
                                                              : NULL;
}

/* Whether the module of the script has that name. */
static bool
has_name(const char *script, const char *name)
{
    const char *base = strrchr(script, '/') + 1; /* absolute */
    const char *dot = strrchr(base, '.');
    size_t bytes = dot != NULL ? (size_t)(dot - base) : strlen(base);

    return strlen(name) == bytes && memcmp(base, name, bytes) == 0;
}

/* The script with these globals, or OPB_NO_SCRIPT. Sets no exception. */
static uint32_t
find_script(PyObject *globals)
{
    PyObject *name = PyDict_GetItemString(globals, "__name__"); /* borrowed */
    const char *text =
        name != NULL && PyUnicode_Check(name) ? PyUnicode_AsUTF8(name) : NULL;

    PyErr_Clear(); /* a name without UTF-8 is no script's */
    for (uint32_t i = 0; text != NULL && i < opb_script_count(); i++) {
        if (has_name(opb_script_path(i), text)) {
            return i;
        }
    }
    return OPB_NO_SCRIPT;
}

uint32_t
opb_owner_of_caller(void)
{
    PyFrameObject *frame;
    uint32_t script = OPB_NO_SCRIPT;

    if (opb_script_count() == 1) {
        return 0;
    }
    frame = PyEval_GetFrame(); /* borrowed */
    Py_XINCREF(frame);
    while (frame != NULL && script == OPB_NO_SCRIPT) {
        PyObject *globals = PyFrame_GetGlobals(frame);
        PyFrameObject *back = PyFrame_GetBack(frame);

        script = find_script(globals);
        Py_DECREF(globals);
        Py_DECREF(frame);
        frame = back;
    }
    Py_XDECREF(frame);
    if (script == OPB_NO_SCRIPT) {
        script = current;
    }
    return script != OPB_NO_SCRIPT ? script : 0;
}
