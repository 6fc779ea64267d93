/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/service.h - the node's own socket, and threads that run SDK calls for Python
 * threads that are not in a callback
 */
#ifndef OPB_SERVICE_H
#define OPB_SERVICE_H

#include "session.h"

#define OPB_MAX_HOST_LANES  64u  /* what the threads of one host use at most */
#define OPB_MAX_CHILD_LANES 128u /* of all child processes */
/* For each of Python.Workers, up to 512 for all. */
#define OPB_MAX_SERVICE_LANES (OPB_MAX_HOST_LANES + OPB_MAX_CHILD_LANES)

/* Listens on path (mode 0600). */
OPB_MUST_CHECK enum opb_status opb_services_open(struct opb_services **out,
                                                 struct opb_node *node, const char *path);
int opb_services_fd(struct opb_services *services); /* for the supervisor thread's poll */
/* Listens on another path instead, for hosts of a new daemon. */
OPB_MUST_CHECK enum opb_status opb_services_move(struct opb_services *services,
                                                 const char *path);
/* Connections wait: accepts them and gives each a thread. Never blocks: the handshake is
 * done by the new thread, within a deadline. False: none can be accepted now, for want of
 * descriptors or memory; try again a little later. */
bool opb_services_accept(struct opb_services *services);
/* Which hosts may connect, and their child processes: sessions that are loading or
 * active. */
void opb_services_allow(struct opb_services *services, struct opb_session *session);
void opb_services_disallow(struct opb_services *services, struct opb_session *session);
/* Stops listening, shuts every service lane down, joins the threads. NULL is fine. */
void opb_services_close(struct opb_services *services);

#endif
