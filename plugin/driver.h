/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/driver.h - an object of the script that stands behind a C pointer of Orthanc
 *
 * Here:      what C-MOVE and storage commitment give Orthanc as "driver": which host made
 *            the Python object, and its number there.
 * Elsewhere: the objects themselves (worker/host/drivers.c), the calls (callback_*.c).
 *
 * Calls with a driver go to the very host that made it. When that host has ended, the
 * driver is lost: a call says OPB_CALL_DIED, and to end it is all that is left.
 */
#ifndef OPB_DRIVER_H
#define OPB_DRIVER_H

#include "call.h"

struct opb_driver;

/* Gives a driver without an object, before the host is asked to make one: nothing can be
 * lost afterwards. NULL without memory. End it with opb_driver_end(). */
struct opb_driver *opb_driver_new(void);
/* For opb_call_io.result: reads the number that the host of the session gave. */
void opb_driver_read(struct opb_driver *driver, struct opb_session *session,
                     struct opb_reader *reader);
bool opb_driver_has_object(const struct opb_driver *driver);
/* For opb_call_io.pack. */
void opb_driver_pack(const struct opb_driver *driver, struct opb_message *message);

/* Runs a call in the host of the driver. */
enum opb_outcome opb_driver_call(struct opb_driver *driver, struct opb_node *node,
                                 enum opb_call_index kind, const struct opb_call_io *io,
                                 const char *what, uint64_t deadline_ms);
/* Has the host free the object, by a call of that kind, if there is an object and the host
 * is there; then frees the driver. Takes *driver; NULL is fine. */
void opb_driver_end(struct opb_driver **driver, struct opb_node *node,
                    enum opb_call_index kind, const char *what);

/* Whether there are drivers that a host has made. */
bool opb_drivers_has(const struct opb_session *session);
/* session.c: a host has ended; its drivers hold on to it no longer. */
void opb_drivers_session_ended(const struct opb_session *ended);

#endif
