/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/fake_module.h - the Python module fake_node: the node's side, for tests in
 * Python
 *
 * Here:      functions that see and steer what the orthanc module under test talks to.
 * Elsewhere: the node itself (fake_node.c), the tests (module_*_tests.py).
 */
#ifndef OPB_FAKE_MODULE_H
#define OPB_FAKE_MODULE_H

#include <Python.h>

#include "fake_node.h"

/* For PyImport_AppendInittab("fake_node", ...). */
PyObject *opb_fake_module_init(void);
/* What it shows, before the first test. Lends both, for the life of the interpreter. */
void opb_fake_module_show(struct opb_fake_node *shown, struct opb_link *link_to_it);

#endif
