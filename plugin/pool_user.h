/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/pool_user.h - a shared pool that runs as another user than Orthanc
 *
 * Here:      who that is, and whether a peer is he.
 * Elsewhere: opening the private directory for him (runtime_dir.c).
 */
#ifndef OPB_POOL_USER_H
#define OPB_POOL_USER_H

#include "node.h"

#include "protocol/sockets.h"

/* Looks up Python.PoolUser, if it is configured. On OPB_REFUSED message says what is wrong
 * with it. */
OPB_MUST_CHECK enum opb_status opb_pool_user_find(struct opb_pool_user *out,
                                                  const struct opb_config *config,
                                                  char *message, size_t capacity);
/* True for root, our own user, and the pool's. */
bool opb_pool_user_is(const struct opb_pool_user *user, const struct opb_peer *peer);

#endif
