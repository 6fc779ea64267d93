/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/history.h - the last deaths, exceptions and changes of generation
 *
 * Here:      bounded lists of what has happened, for who looks later.
 * Elsewhere: noticing it (host_news.c, call.c, generations.c), showing it (node_status.c).
 *
 * Any thread. Its lock is a leaf, and is not held while anything else is done.
 */
#ifndef OPB_HISTORY_H
#define OPB_HISTORY_H

#include "protocol/status.h"

#include <stdint.h>
#include <sys/types.h>

enum opb_history_list {
    OPB_HISTORY_DEATHS,     /* of hosts that served, and of the worker */
    OPB_HISTORY_EXCEPTIONS, /* of the script, in a callback or while it was imported */
    OPB_HISTORY_GENERATIONS /* those that serve or served, and those that failed */
};
#define OPB_HISTORY_LISTS 3u

#define OPB_HISTORY_LENGTH     32u   /* of each list; the newest ones are kept */
#define OPB_HISTORY_TEXT_BYTES 8192u /* longer texts are cut */

struct opb_happening {
    int64_t at_ms;    /* since 1970; set by opb_history_add() */
    uint64_t number;  /* the generation */
    pid_t pid;        /* 0: none */
    const char *kind; /* static */
    const char *what;
    const char *text;
};

struct opb_history;

OPB_MUST_CHECK enum opb_status opb_history_new(struct opb_history **out);
void opb_history_free(struct opb_history *history); /* NULL is fine */

/* Copies. Without memory it is counted only. */
void opb_history_add(struct opb_history *history, enum opb_history_list list,
                     const struct opb_happening *happening);
/* How many there were since the start. */
uint64_t opb_history_count(struct opb_history *history, enum opb_history_list list);
/* Calls visit for each that is kept, the newest first, with a copy that it may keep: its
 * texts are good until visit returns. */
void opb_history_each(struct opb_history *history, enum opb_history_list list,
                      void (*visit)(void *context, const struct opb_happening *happening),
                      void *context);

#endif
