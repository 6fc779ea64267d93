/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/waiting.h - the REST routes of a host that have no entry point yet
 *
 * Here:      which they are, in the order of the script, and found by their pattern without
 *            looking at all others: a reload may bring ten thousand.
 * Elsewhere: what becomes of them (routes_late.c), those that have one (patterns.h).
 *
 * Not locked.
 */
#ifndef OPB_WAITING_H
#define OPB_WAITING_H

#include "protocol/status.h"

#include <stdint.h>

struct opb_waiting {
    struct opb_waiting *next; /* in the order of the script */
    struct opb_waiting *previous;
    struct opb_waiting *alike; /* the next one with the same hash */
    char *pattern;             /* owned */
    uint32_t index;            /* the host's number */
};

struct opb_waiting_bucket {
    struct opb_waiting *first;
    struct opb_waiting *last;
};

/* Zeros are an empty one. */
struct opb_waiting_list {
    struct opb_waiting *first;
    struct opb_waiting *last;
    struct opb_waiting_bucket *buckets; /* owned; NULL: none has ever waited */
};

void opb_waiting_fini(struct opb_waiting_list *list);
/* Adds one behind all others. Takes *pattern. */
OPB_MUST_CHECK enum opb_status opb_waiting_add(struct opb_waiting_list *list,
                                               char **pattern, uint32_t index);
/* Lends the first one of that pattern, or NULL; and says how many of it there are. */
struct opb_waiting *opb_waiting_find(const struct opb_waiting_list *list,
                                     const char *pattern);
uint32_t opb_waiting_count(const struct opb_waiting_list *list, const char *pattern);
/* It waits no more. Gives it; end it with opb_waiting_free(). */
void opb_waiting_take(struct opb_waiting_list *list, struct opb_waiting *waiting);
void opb_waiting_free(struct opb_waiting *waiting);

#endif
