/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/supervisor/access.h - who gets to the pool's socket
 *
 * Here:      its mode and group.
 * Elsewhere: making it (protocol/sockets.h).
 */
#ifndef OPB_SUPERVISOR_ACCESS_H
#define OPB_SUPERVISOR_ACCESS_H

#include "worker/supervisor/config.h"

/* Gives the socket that was made with mode 0600 its mode and group. On OPB_REFUSED message
 * says why it has not got them. */
OPB_MUST_CHECK enum opb_status opb_access_open(const char *path,
                                               const struct opb_pool_config *config,
                                               char *message, size_t capacity);

#endif
