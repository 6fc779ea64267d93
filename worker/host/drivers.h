/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/host/drivers.h - objects of the script that the node names by a number
 *
 * Here:      what a "create" function of the script returned (C-MOVE, storage commitment),
 *            kept until the node says that it is over.
 * Elsewhere: which calls make, use and free one (call_move.c, call_commitment.c).
 * Everything needs the GIL.
 */
#ifndef OPB_DRIVERS_H
#define OPB_DRIVERS_H

#include "host.h"

/* Keeps an object, any one, with a reference of its own. Never the same number twice; 0
 * with an exception. */
uint64_t opb_driver_add(PyObject *object);
/* New reference, or NULL without an exception: there is no such driver (any more). */
PyObject *opb_driver_get(uint64_t number);
/* The same, and the table lets go of it. */
PyObject *opb_driver_remove(uint64_t number);
/* Lets go of all (Finalize). */
void opb_drivers_clear(void);

#endif
