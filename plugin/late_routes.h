/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/late_routes.h - REST routes that appear while Orthanc serves
 *
 * Here:      the one thread that registers them, the gate that holds requests back
 * meanwhile, the count of REST callbacks that run. Elsewhere: which routes wait (routes.c).
 *
 * Orthanc's registration of a route waits for every REST callback that runs, and keeps
 * locks that those callbacks need: one in the wrong place freezes the server (core notes
 * 7). So requests are held back, the callbacks that run come to their end, then it is
 * registered. That is safe for our own callbacks only.
 */
#ifndef OPB_LATE_ROUTES_H
#define OPB_LATE_ROUTES_H

#include "routes.h"

struct opb_late;

OPB_MUST_CHECK enum opb_status opb_late_new(struct opb_late **out, struct opb_node *node,
                                            struct opb_routes *routes);
void opb_late_free(struct opb_late *late); /* joins the thread; NULL is fine */
/* Routes wait: begins to work on it, on a thread of its own. Never blocks. */
void opb_late_wake(struct opb_late *late);

/* Called by the HTTP filter, for requests from outside: waits while the gate is closed. */
void opb_late_gate(struct opb_late *late);
/* Each REST callback enters and leaves. False: a registration is under way, and this call
 * must answer 503 at once, without an SDK call that takes a lock (and leave, too). */
bool opb_late_enter(struct opb_late *late);
void opb_late_leave(struct opb_late *late);

#endif
