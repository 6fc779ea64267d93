/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/module/module.h - the orthanc module, as the host uses it
 *
 * Here:      the inittab entry, objects around handles, what the script has registered,
 *            errors.
 * Elsewhere: the Python surface itself (model.h and the generated tables).
 * All functions need the GIL.
 */
#ifndef OPB_MODULE_H
#define OPB_MODULE_H

#include <Python.h>

#include "protocol/frame.h"
#include "protocol/words.h"

/* For PyImport_AppendInittab("orthanc", ...), and the entry point of the extension module
 * orthanc.*.so for children of a host. */
PyMODINIT_FUNC PyInit_orthanc(void);

/* New reference: an object of the class with that SDK name without prefix ("RestOutput"),
 * around a handle; 0 makes an invalid object. owned objects are released when they die. */
PyObject *opb_object_new(const char *class_name, uint64_t handle, bool owned);
/* facts.c. Tells it what the node has sent along with its handle: the map of the reader's
 * next value (docs/protocol.md, "Facts"). -1 with an exception, or, if that is none, with a
 * failed reader. */
OPB_MUST_CHECK int opb_object_tell(PyObject *object, struct opb_reader *reader);
/* Its call is over: every method now raises ValueError('Invalid object'). */
void opb_object_invalidate(PyObject *object);

/* Borrowed reference to what the script registered for a call ("Rest" with the route's
 * index, others 0), or NULL without an exception. Of several scripts the first that has. */
PyObject *opb_registered(const char *call_name, uint32_t index);
/* The same; *script is the one that has. */
PyObject *opb_registered_by(const char *call_name, uint32_t index, uint32_t *script);
/* The same of one script, for a call that more than one may register. */
PyObject *opb_registered_of(uint32_t script, const char *call_name);
/* Forgets every registration (Finalize). */
void opb_registrations_clear(void);

/* owner.c. Scripts are numbered in their order. */
#define OPB_NO_SCRIPT UINT32_MAX
uint32_t opb_script_count(void);
/* The script that is at work on the calling thread from now on; gives the one before. */
uint32_t opb_owner_set(uint32_t script);
/* Lends its path, if there are several scripts, else gives NULL: to be named in messages.
 */
const char *opb_owner_path(void);

/* Sets the Python exception for a fault in a response: OrthancException(code, text),
 * ValueError, TypeError, RuntimeError. */
void opb_raise_fault(enum opb_fault fault, int32_t code, const char *text);

/* Posts a line to Orthanc's log (OrthancPluginLogError...), from any thread with the GIL;
 * falls back to stderr if the node cannot be reached. */
void opb_log_to_node(const char *function /* "LogError" */, const char *text);

#endif
