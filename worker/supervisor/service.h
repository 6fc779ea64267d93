/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/supervisor/service.h - the daemon as a service of systemd, where there is one
 *
 * Here:      a socket that was made before us (activation.c), telling systemd how we are
 *            (notify.c). Without libsystemd in the build both do nothing, and say so when
 *            they are wanted.
 * Elsewhere: the units (worker/systemd), the loop (pool.c).
 */
#ifndef OPB_SUPERVISOR_SERVICE_H
#define OPB_SUPERVISOR_SERVICE_H

#include "protocol/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

struct opb_pool;

/* The socket that systemd has made for us: gives *out_fd, or -1 if there is none. path gets
 * its address. wanted: the configured path, which must be the same, or NULL. Takes the
 * variables out of the environment. On OPB_REFUSED message says why. */
OPB_MUST_CHECK enum opb_status opb_activation_take(int *out_fd, const char *wanted,
                                                   char *path, size_t path_capacity,
                                                   char *message, size_t capacity);

/* What systemd has been told. */
struct opb_notify {
    char *socket; /* owned; NULL: nobody wants to know */
    uv_prepare_t prepare;
    uv_timer_t watchdog;
    uint32_t node_count;
    uint32_t host_count;
    bool is_ready;
    bool is_stopping;
};

/* The pool listens: from now on systemd is told what changes, and that the loop runs. */
void opb_notify_start(struct opb_pool *pool);
void opb_notify_fini(struct opb_pool *pool);

#endif
