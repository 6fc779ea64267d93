/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/look.h - where the Python threads of all hosts are, while they go on
 *
 * Here:      asking the pool for each host's stacks, and waiting for them, with a limit.
 * Elsewhere: how a host tells them (worker/host/stacks.c), what is shown (stacks_json.c).
 */
#ifndef OPB_LOOK_H
#define OPB_LOOK_H

#include "pool.h"

struct opb_looked {
    pid_t pid;
    uint32_t worker;
    const char *state;   /* static: "serving", "next", "ending", "starting" */
    const char *text;    /* as CPython's faulthandler writes it; "" if there is none */
    const char *problem; /* why there is none, or "" */
};

/* Looks at all hosts, within some seconds, and calls visit for each, without a lock. One
 * at a time: others wait for their turn. OPB_LATE: it did not come. */
OPB_MUST_CHECK enum opb_status
opb_look_at_hosts(struct opb_pool *pool,
                  void (*visit)(void *context, const struct opb_looked *looked),
                  void *context);

/* The supervisor thread: tells the pool which hosts are to be looked at now. */
OPB_MUST_CHECK enum opb_status opb_look_send(struct opb_pool *pool);
/* News of the pool's (control.h). */
void opb_look_news(void *context, uint32_t ticket, const char *text, const char *problem);

#endif
