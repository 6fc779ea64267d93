/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/runtime_dir.h - the private directory of a managed pool
 *
 * Here:      making it (mode 0700, shared 0750), marking it as in use by a locked file,
 * removing it, and removing what servers that were killed have left. Elsewhere: the sockets
 * in it (service.c, the daemon).
 */
#ifndef OPB_RUNTIME_DIR_H
#define OPB_RUNTIME_DIR_H

#include "protocol/status.h"

#include <stddef.h>
#include <sys/types.h>

struct opb_runtime_dir;

/* Makes a directory below parent, or, if that is NULL, below the first of
 * $RUNTIME_DIRECTORY, $XDG_RUNTIME_DIR, $TMPDIR, /tmp where it can be made. Gives *out. On
 * failure message holds one sentence for the log. */
OPB_MUST_CHECK enum opb_status opb_runtime_dir_new(struct opb_runtime_dir **out,
                                                   const char *parent, char *message,
                                                   size_t capacity);
/* Lets the members of a group in, so that hosts of another user reach the node's socket. On
 * OPB_SYSTEM message says why not. */
OPB_MUST_CHECK enum opb_status opb_runtime_dir_share(const struct opb_runtime_dir *dir,
                                                     gid_t group, char *message,
                                                     size_t capacity);
/* Removes the directory with the files that the bridge makes in it. NULL is fine. */
void opb_runtime_dir_free(struct opb_runtime_dir *dir);

/* Lend paths, good until the directory is freed. */
const char *opb_runtime_dir_pool_socket(const struct opb_runtime_dir *dir);
const char *opb_runtime_dir_node_socket(const struct opb_runtime_dir *dir);

/* Makes it look new; systems empty /tmp of what is older than some days. */
void opb_runtime_dir_touch(const struct opb_runtime_dir *dir);

/* Removes the directories below parent that belong to no living server. new() does it. */
void opb_runtime_dir_sweep(const char *parent);

#endif
