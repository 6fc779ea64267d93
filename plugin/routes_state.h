/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/routes_state.h - what routes.c and routes_*.c share
 *
 * Entry points are for good; what a host registers goes into a table that maps them to the
 * host's numbers (routes.c). The lock guards all but what says otherwise.
 */
#ifndef OPB_ROUTES_STATE_H
#define OPB_ROUTES_STATE_H

#include "kinds.h"
#include "patterns.h"
#include "routes.h"
#include "waiting.h"

#include <stdatomic.h>

#define NO_INDEX UINT32_MAX
#define NO_ENTRY UINT32_MAX

/* A pattern that Orthanc has refused: every host that asks again gets the same answer. */
struct refused {
    struct refused *next;
    char *pattern;
    char text[512];
};

struct table {
    struct table *next;
    const struct opb_session *session; /* a name only; may be the one of two tables */
    bool is_forgotten;                 /* its host has ended; it is the current one */
    bool is_follower;                  /* nothing of it is registered with Orthanc */
    uint64_t generation;               /* it is one of those; 0: its host still loads */
    bool has_kind[OPB_CALL_COUNT];
    uint32_t number_of[OPB_MAX_ROUTES]; /* entry -> the host's number plus 1, or 0 */
    struct opb_waiting_list waiting;    /* routes without an entry */
    struct opb_waiting *given_up;       /* owned: those that need a restart, in order */
    struct opb_waiting *last_given_up;
};

struct opb_routes {
    struct opb_node *node;
    pthread_mutex_t lock;
    pthread_mutex_t registering;  /* one registration with Orthanc at a time */
    struct opb_patterns patterns; /* of the entry points */
    struct refused *refused;
    struct opb_kind_states kinds;
    struct table *tables;                 /* all, the newest first */
    struct table *current;                /* one of them, never NULL */
    uint64_t generation;                  /* counts what was current; from 1 */
    atomic_bool has_kind[OPB_CALL_COUNT]; /* current's, for the fast path */
    bool is_first;                        /* no host has been committed yet */
    struct opb_late *late;
};

/* With the lock held: */

/* The table of a session; the current one if it has none. */
struct table *opb_table_of(const struct opb_routes *routes,
                           const struct opb_session *session);
/* Gives entries to what waits for one and can have it now: all of it, or only the first of
 * a pattern. */
void opb_table_bind_waiting(struct opb_routes *routes, struct table *table);
void opb_table_bind_first(struct opb_routes *routes, struct table *table,
                          const char *pattern);
/* Where a session registers: NULL if its host has ended. */
struct table *opb_table_to_fill(const struct opb_routes *routes,
                                const struct opb_session *session);
/* Gives a route of a table the entry that its pattern has. False if there is none. */
bool opb_table_bind(struct opb_routes *routes, struct table *table, const char *pattern,
                    uint32_t index);
/* The kinds that the current table has are those that are called. */
void opb_routes_publish_kinds(struct opb_routes *routes);

/* Registers the next entry point for a pattern with Orthanc. Takes *pattern on success. The
 * registering lock is held, the other is not. */
OPB_MUST_CHECK enum opb_status opb_routes_register_entry(struct opb_routes *routes,
                                                         char **pattern, char *text,
                                                         size_t capacity);

#endif
