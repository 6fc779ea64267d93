/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/routes_late.c - routes that wait for their entry point
 *
 * Here:      which ones wait, in all hosts of the generation at once; registering them with
 *            Orthanc, or giving them up.
 * Elsewhere: when that is safe (late_routes.c), the tables (routes.c).
 */
#include "routes_state.h"

#include "log.h"

#include <stdlib.h>
#include <string.h>

/* Calls may go to its host now. The lock is held. */
static bool
is_member(const struct opb_routes *routes, const struct table *table)
{
    return table == routes->current || table->generation == routes->generation;
}

/* Gives the first route of that pattern that waits an entry, if there is one, in every host
 * of the generation. */
static void
bind_members(struct opb_routes *routes, const char *pattern)
{
    pthread_mutex_lock(&routes->lock);
    for (struct table *each = routes->tables; each != NULL; each = each->next) {
        if (is_member(routes, each)) {
            opb_table_bind_first(routes, each, pattern);
        }
    }
    pthread_mutex_unlock(&routes->lock);
}

/* The status tells of it as long as the generation lasts. Takes waiting. */
static void
keep_given_up(struct table *table, struct opb_waiting *waiting)
{
    *(table->last_given_up != NULL ? &table->last_given_up->next : &table->given_up) =
        waiting;
    table->last_given_up = waiting;
}

/* No host of the generation waits for it any more. */
static void
drop_waiting(struct opb_routes *routes, const char *pattern, bool is_kept)
{
    pthread_mutex_lock(&routes->lock);
    for (struct table *each = routes->tables; each != NULL; each = each->next) {
        struct opb_waiting *waiting =
            is_member(routes, each) ? opb_waiting_find(&each->waiting, pattern) : NULL;

        if (waiting == NULL) {
            continue;
        }
        opb_waiting_take(&each->waiting, waiting);
        if (is_kept && each == routes->current) {
            keep_given_up(each, waiting);
        }
        else {
            opb_waiting_free(waiting);
        }
    }
    pthread_mutex_unlock(&routes->lock);
}

bool
opb_routes_has_waiting(struct opb_routes *routes)
{
    bool has_waiting;

    pthread_mutex_lock(&routes->lock);
    has_waiting = routes->current->waiting.first != NULL;
    pthread_mutex_unlock(&routes->lock);
    return has_waiting;
}

/* A copy of the pattern of the first route that waits; NULL: none does, or there is no
 * memory. */
static char *
first_waiting(struct opb_routes *routes)
{
    char *pattern = NULL;

    pthread_mutex_lock(&routes->lock);
    if (routes->current->waiting.first != NULL) {
        pattern = strdup(routes->current->waiting.first->pattern);
    }
    pthread_mutex_unlock(&routes->lock);
    return pattern;
}

static bool
is_waiting(struct opb_routes *routes, const char *pattern)
{
    bool result;

    pthread_mutex_lock(&routes->lock);
    result = opb_waiting_find(&routes->current->waiting, pattern) != NULL;
    pthread_mutex_unlock(&routes->lock);
    return result;
}

static enum opb_status
register_late(struct opb_routes *routes, const char *waiting, char *text, size_t capacity)
{
    char *pattern;
    enum opb_status status;

    bind_members(routes, waiting);
    if (!is_waiting(routes, waiting)) {
        return OPB_OK; /* it has one, or another generation has taken its place */
    }
    pattern = strdup(waiting);
    if (pattern == NULL) {
        (void)snprintf(text, capacity, "there is no memory");
        return OPB_NO_MEMORY;
    }
    status = opb_routes_register_entry(routes, &pattern, text, capacity);
    free(pattern);
    if (status == OPB_OK) {
        bind_members(routes, waiting); /* to the entry that was just made */
    }
    return status;
}

uint32_t
opb_routes_register_waiting(struct opb_routes *routes)
{
    uint32_t count = 0;
    char text[512];
    char *pattern;

    pthread_mutex_lock(&routes->registering);
    while ((pattern = first_waiting(routes)) != NULL) {
        if (register_late(routes, pattern, text, sizeof(text)) == OPB_OK) {
            count++;
        }
        else {
            opb_log_error(
                "The REST route %s, registered after the start of Orthanc, does not "
                "work: %s",
                pattern, text);
            drop_waiting(routes, pattern, false);
        }
        free(pattern);
    }
    pthread_mutex_unlock(&routes->registering);
    return count;
}

void
opb_routes_refuse_waiting(struct opb_routes *routes, const char *why)
{
    char *pattern;

    while ((pattern = first_waiting(routes)) != NULL) {
        opb_log_warning(
            "The REST route %s was registered after the start of Orthanc: it needs "
            "a restart of Orthanc to become effective, since %s",
            pattern, why);
        drop_waiting(routes, pattern, true);
        free(pattern);
    }
}

void
opb_routes_each_waiting(struct opb_routes *routes,
                        void (*visit)(void *context, const char *what,
                                      enum opb_route_wait wait),
                        void *context)
{
    const struct table *current;

    pthread_mutex_lock(&routes->lock);
    current = routes->current;
    for (const struct opb_waiting *each = current->waiting.first; each != NULL;
         each = each->next) {
        visit(context, each->pattern, OPB_ROUTE_WAITS);
    }
    for (const struct opb_waiting *each = current->given_up; each != NULL;
         each = each->next) {
        visit(context, each->pattern, OPB_ROUTE_NEEDS_RESTART);
    }
    for (int kind = 0; kind < OPB_CALL_COUNT; kind++) {
        if (current->has_kind[kind] &&
            opb_kind_needs_restart(&routes->kinds, (enum opb_call_index)kind)) {
            visit(context, opb_kind((enum opb_call_index)kind)->description,
                  OPB_ROUTE_NEEDS_RESTART);
        }
    }
    pthread_mutex_unlock(&routes->lock);
}
