/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/routes_compare.c - what one host has registered, and another has not
 *
 * Here:      the warnings about a host that lacks what its predecessor had, and the words
 *            for hosts of one generation that differ, which must not be.
 * Elsewhere: the tables that are compared (routes.c), what follows (loader.c,
 *            generations.c).
 */
#include "routes_state.h"

#include "log.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void
opb_routes_log_losses(struct opb_routes *routes, const struct opb_session *session)
{
    struct table *before = malloc(sizeof(*before)); /* to compare without the lock */
    struct table *after = malloc(sizeof(*after));
    uint32_t entry_count = 0;
    bool has_both = false;

    pthread_mutex_lock(&routes->lock);
    if (before != NULL && after != NULL && !routes->is_first) {
        has_both = true;
        *before = *routes->current;
        *after = *opb_table_of(routes, session);
        entry_count = routes->patterns.count;
    }
    pthread_mutex_unlock(&routes->lock);
    for (int kind = 0; has_both && kind < OPB_CALL_COUNT; kind++) {
        const struct opb_kind *what = opb_kind((enum opb_call_index)kind);

        if (what != NULL && before->has_kind[kind] && !after->has_kind[kind]) {
            opb_log_warning("The new host has not registered the %s that the last one had",
                            what->description);
        }
    }
    for (uint32_t i = 0; i < entry_count; i++) {
        if (before->number_of[i] != 0 && after->number_of[i] == 0) {
            opb_log_warning(
                "The new host has not registered the REST route %s, which answers "
                "404 from now on",
                routes->patterns.texts[i]);
        }
    }
    free(after);
    free(before);
}

/* A list of what one of two tables has, and the other has not. */
struct difference {
    char *text;
    size_t capacity;
    size_t bytes;
    uint32_t count;
};

static void OPB_PRINTF(2, 3)
    add_difference(struct difference *list, const char *format, ...)
{
    va_list arguments;
    int bytes;

    if (list->count++ > 0 && list->bytes + 3 < list->capacity) {
        strcpy(list->text + list->bytes, ", ");
        list->bytes += 2;
    }
    va_start(arguments, format);
    bytes = vsnprintf(list->text + list->bytes, list->capacity - list->bytes, format,
                      arguments);
    va_end(arguments);
    if (bytes > 0) { /* cut if it does not fit */
        list->bytes += (size_t)bytes;
        if (list->bytes >= list->capacity) {
            list->bytes = list->capacity - 1;
        }
    }
}

/* How many routes of that pattern a table has, with and without an entry. */
static uint32_t
count_routes(const struct opb_routes *routes, const struct table *table,
             const char *pattern)
{
    uint32_t count = opb_waiting_count(&table->waiting, pattern);
    uint32_t entry = NO_ENTRY;

    while ((entry = opb_patterns_find(&routes->patterns, pattern, entry)) != NO_ENTRY) {
        count += table->number_of[entry] != 0;
    }
    return count;
}

/* What a has more of than b. */
static void
list_more(const struct opb_routes *routes, const struct table *a, const struct table *b,
          struct difference *list)
{
    for (int kind = 0; kind < OPB_CALL_COUNT; kind++) {
        const struct opb_kind *what = opb_kind((enum opb_call_index)kind);

        if (what != NULL && a->has_kind[kind] && !b->has_kind[kind]) {
            add_difference(list, "the %s", what->description);
        }
    }
    for (uint32_t i = 0; i < routes->patterns.count; i++) {
        const char *pattern = routes->patterns.texts[i];

        if (a->number_of[i] != 0 && b->number_of[i] == 0 &&
            opb_waiting_find(&b->waiting, pattern) == NULL) {
            add_difference(list, "the REST route %s", pattern);
        }
    }
    for (const struct opb_waiting *each = a->waiting.first; each != NULL;
         each = each->next) {
        if (count_routes(routes, a, each->pattern) >
            count_routes(routes, b, each->pattern)) {
            add_difference(list, "the REST route %s", each->pattern);
        }
    }
}

bool
opb_routes_differ(struct opb_routes *routes, const struct opb_session *session,
                  const struct opb_session *other, char *text, size_t capacity)
{
    const struct table *mine;
    const struct table *theirs;
    char more[512] = "";
    char less[512] = "";
    struct difference more_list = {.text = more, .capacity = sizeof(more)};
    struct difference less_list = {.text = less, .capacity = sizeof(less)};

    pthread_mutex_lock(&routes->lock);
    mine = opb_table_of(routes, session);
    theirs = opb_table_of(routes, other);
    list_more(routes, mine, theirs, &more_list);
    list_more(routes, theirs, mine, &less_list);
    pthread_mutex_unlock(&routes->lock);
    if (more_list.count == 0 && less_list.count == 0) {
        return false;
    }
    /* cut if it does not fit */
    (void)snprintf(text, capacity, "%s%s%s%s%s", less_list.count > 0 ? "it lacks " : "",
                   less, less_list.count > 0 && more_list.count > 0 ? "; " : "",
                   more_list.count > 0 ? "only it has " : "", more);
    return true;
}
