/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/supervisor/access.h - who gets to the pool's socket
 *
 * Here:      its mode and group, and which users may use it.
 * Elsewhere: making it (protocol/sockets.h), telling a user that he may not (connection.c).
 */
#ifndef OPB_SUPERVISOR_ACCESS_H
#define OPB_SUPERVISOR_ACCESS_H

#include "protocol/sockets.h"
#include "worker/supervisor/config.h"

#include <stdbool.h>

/* Gives the socket that was made with mode 0600 its mode and group. On OPB_REFUSED message
 * says why it has not got them. */
OPB_MUST_CHECK enum opb_status opb_access_open(const char *path,
                                               const struct opb_pool_config *config,
                                               char *message, size_t capacity);

/* Who may connect, besides root and our own user. */
struct opb_access {
    uid_t *users;
    size_t user_count;
    bool has_group;
    gid_t group;
};

/* Looks up AllowUsers and AllowGroup. End it with opb_access_fini(), also after
 * OPB_REFUSED, when message says which there is not. */
OPB_MUST_CHECK enum opb_status opb_access_init(struct opb_access *access,
                                               const struct opb_pool_config *config,
                                               char *message, size_t capacity);
void opb_access_fini(struct opb_access *access);
/* Lends fd, whose peer it is. */
bool opb_access_allows(const struct opb_access *access, int fd,
                       const struct opb_peer *peer);

#endif
