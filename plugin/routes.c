/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/routes.c - what the script has registered, and the C entry points behind it
 *
 * Here:      the tables: one begins, becomes the one that new calls find, is forgotten;
 * what calls find in them. Elsewhere: filling them (routes_add.c), entry points that have
 * to wait (routes_late.c), comparing two (routes_compare.c).
 *
 * Entry points are for good, since Orthanc forgets no registration: number, pattern. What a
 * host registers goes into a table that maps them to the host's numbers. Each host has its
 * own: one that loads, those that new calls go to, those of hosts that come to their end.
 * The hosts of a generation register the same things: the first one's registrations are
 * made with Orthanc, and those of the others (followers) are compared with them.
 */
#include "routes.h"

#include "late_routes.h"
#include "log.h"
#include "routes_state.h"

#include <stdlib.h>
#include <string.h>

static void
table_free(struct table *table)
{
    struct opb_waiting *next;

    if (table == NULL) {
        return;
    }
    opb_waiting_fini(&table->waiting);
    for (struct opb_waiting *each = table->given_up; each != NULL; each = next) {
        next = each->next;
        opb_waiting_free(each);
    }
    free(table);
}

static struct table *
table_new(const struct opb_session *session)
{
    struct table *table = calloc(1, sizeof(*table));

    if (table != NULL) {
        table->session = session;
    }
    return table;
}

struct table *
opb_table_of(const struct opb_routes *routes, const struct opb_session *session)
{
    struct table *table;

    for (table = routes->tables;
         table != NULL && (table->is_forgotten || table->session != session);
         table = table->next) {
    }
    return table != NULL ? table : routes->current;
}

struct table *
opb_table_to_fill(const struct opb_routes *routes, const struct opb_session *session)
{
    struct table *table = opb_table_of(routes, session);
    bool is_current;

    if (table->session == session && !table->is_forgotten) {
        return table;
    }
    is_current = session == NULL;
    pthread_mutex_lock(&routes->node->lock); /* without memory it has no table of its own */
    for (uint32_t i = 0; i < OPB_MAX_WORKERS; i++) {
        is_current = is_current || routes->node->sessions[i] == session;
    }
    pthread_mutex_unlock(&routes->node->lock);
    return is_current ? table : NULL;
}

/* The lock is held. */
static void
unlink_table(struct opb_routes *routes, const struct table *table)
{
    struct table **link;

    for (link = &routes->tables; *link != table; link = &(*link)->next) {
    }
    *link = table->next;
}

enum opb_status
opb_routes_new(struct opb_routes **out, struct opb_node *node)
{
    struct opb_routes *routes;

    *out = NULL;
    routes = calloc(1, sizeof(*routes));
    if (routes == NULL) {
        return OPB_NO_MEMORY;
    }
    routes->tables = table_new(NULL);
    routes->current = routes->tables;
    if (routes->current == NULL || opb_late_new(&routes->late, node, routes) != OPB_OK) {
        table_free(routes->tables);
        free(routes);
        return OPB_NO_MEMORY;
    }
    routes->current->is_forgotten = true;
    routes->generation = 1;
    routes->node = node;
    routes->is_first = true;
    pthread_mutex_init(&routes->lock, NULL);
    pthread_mutex_init(&routes->registering, NULL);
    *out = routes;
    return OPB_OK;
}

struct opb_late *
opb_routes_late(struct opb_routes *routes)
{
    return routes->late;
}

void
opb_routes_free(struct opb_routes *routes)
{
    struct refused *next;
    struct table *table;

    if (routes == NULL) {
        return;
    }
    opb_late_free(routes->late);
    for (struct refused *each = routes->refused; each != NULL; each = next) {
        next = each->next;
        free(each->pattern);
        free(each);
    }
    opb_patterns_fini(&routes->patterns);
    while ((table = routes->tables) != NULL) {
        routes->tables = table->next;
        table_free(table);
    }
    pthread_mutex_destroy(&routes->registering);
    pthread_mutex_destroy(&routes->lock);
    free(routes);
}

void
opb_routes_register_fixed(struct opb_routes *routes)
{
    OrthancPluginContext *context = routes->node->context;

    OrthancPluginRegisterOnChangeCallback(context, opb_callback_change);
    OrthancPluginRegisterOnStoredInstanceCallback(context, opb_callback_stored);
    OrthancPluginRegisterIncomingHttpRequestFilter2(context, opb_callback_filter);
}

static void
begin(struct opb_routes *routes, const struct opb_session *session, bool is_follower)
{
    struct table *table = table_new(session);

    if (table == NULL) {
        opb_log_error(
            "There is no memory for the registrations of a new host: those of the "
            "last one stay in use");
        return;
    }
    table->is_follower = is_follower;
    opb_routes_forget(routes, session);
    pthread_mutex_lock(&routes->lock);
    table->next = routes->tables;
    routes->tables = table;
    pthread_mutex_unlock(&routes->lock);
}

void
opb_routes_begin(struct opb_routes *routes, const struct opb_session *session)
{
    begin(routes, session, false);
}

void
opb_routes_begin_follower(struct opb_routes *routes, const struct opb_session *session)
{
    begin(routes, session, true);
}

void
opb_routes_forget(struct opb_routes *routes, const struct opb_session *session)
{
    struct table *table;

    pthread_mutex_lock(&routes->lock);
    for (table = routes->tables;
         table != NULL && (table->is_forgotten || table->session != session);
         table = table->next) {
    }
    if (table != NULL && table == routes->current) {
        table->is_forgotten =
            true; /* until there is another: it stands for its generation */
        table = NULL;
    }
    if (table != NULL) {
        unlink_table(routes, table);
    }
    pthread_mutex_unlock(&routes->lock);
    table_free(table);
}

void
opb_routes_publish_kinds(struct opb_routes *routes)
{
    for (int kind = 0; kind < OPB_CALL_COUNT; kind++) {
        atomic_store(&routes->has_kind[kind], routes->current->has_kind[kind]);
    }
}

void
opb_routes_narrow(struct opb_routes *routes, const struct opb_session *session)
{
    const struct table *next;

    pthread_mutex_lock(&routes->lock);
    next = opb_table_of(routes, session);
    for (int kind = 0; kind < OPB_CALL_COUNT; kind++) {
        atomic_store(&routes->has_kind[kind],
                     routes->current->has_kind[kind] && next->has_kind[kind]);
    }
    pthread_mutex_unlock(&routes->lock);
}

/* The entry for one more registration of a pattern in a table: the first one with that
 * pattern that the table does not use. NO_ENTRY if there is none. */
static uint32_t
free_entry(const struct opb_routes *routes, const struct table *table, const char *pattern)
{
    uint32_t entry = NO_ENTRY;

    do {
        entry = opb_patterns_find(&routes->patterns, pattern, entry);
    } while (entry != NO_ENTRY && table->number_of[entry] != 0);
    return entry;
}

bool
opb_table_bind(struct opb_routes *routes, struct table *table, const char *pattern,
               uint32_t index)
{
    uint32_t entry = free_entry(routes, table, pattern);

    if (entry == NO_ENTRY) {
        return false;
    }
    table->number_of[entry] = index + 1;
    table->has_kind[OPB_CALL_REST_INDEX] = true;
    opb_routes_publish_kinds(routes);
    return true;
}

void
opb_routes_widen(struct opb_routes *routes)
{
    pthread_mutex_lock(&routes->lock);
    opb_routes_publish_kinds(routes);
    pthread_mutex_unlock(&routes->lock);
}

/* Gives a route that waits its entry. False if there is none for it yet. */
static bool
bind_one(struct opb_routes *routes, struct table *table, struct opb_waiting *waiting)
{
    if (!opb_table_bind(routes, table, waiting->pattern, waiting->index)) {
        return false;
    }
    opb_waiting_take(&table->waiting, waiting);
    opb_waiting_free(waiting);
    return true;
}

void
opb_table_bind_waiting(struct opb_routes *routes, struct table *table)
{
    struct opb_waiting *next;

    for (struct opb_waiting *each = table->waiting.first; each != NULL; each = next) {
        next = each->next;
        (void)bind_one(routes, table, each); /* else it waits on */
    }
}

void
opb_table_bind_first(struct opb_routes *routes, struct table *table, const char *pattern)
{
    struct opb_waiting *waiting = opb_waiting_find(&table->waiting, pattern);

    if (waiting != NULL) {
        (void)bind_one(routes, table, waiting); /* the same */
    }
}

void
opb_routes_commit(struct opb_routes *routes, const struct opb_session *session)
{
    struct table *unused = NULL;
    struct table *table;

    pthread_mutex_lock(&routes->lock);
    table = opb_table_of(routes, session);
    if (table != routes->current) {
        if (routes->current->is_forgotten) {
            unused = routes->current;
            unlink_table(routes, unused);
        }
        routes->current = table;
        routes->generation++;
    }
    if (!table->is_forgotten) {
        table->generation = routes->generation;
    }
    opb_table_bind_waiting(routes, table);
    opb_routes_publish_kinds(routes);
    routes->is_first = false;
    pthread_mutex_unlock(&routes->lock);
    table_free(unused);
}

void
opb_routes_join(struct opb_routes *routes, const struct opb_session *session)
{
    struct table *table;

    pthread_mutex_lock(&routes->lock);
    table = opb_table_of(routes, session);
    if (table != routes->current) {
        table->generation = routes->generation;
        opb_table_bind_waiting(routes, table);
    }
    pthread_mutex_unlock(&routes->lock);
}

void
opb_routes_look_for_late(struct opb_routes *routes)
{
    if (opb_routes_has_waiting(routes)) {
        opb_late_wake(routes->late);
    }
}

bool
opb_routes_has(struct opb_routes *routes, enum opb_call_index kind)
{
    return atomic_load(&routes->has_kind[kind]);
}

bool
opb_routes_session_has(struct opb_routes *routes, const struct opb_session *session,
                       enum opb_call_index kind)
{
    bool has_kind;

    pthread_mutex_lock(&routes->lock);
    has_kind = opb_table_of(routes, session)->has_kind[kind];
    pthread_mutex_unlock(&routes->lock);
    return has_kind;
}

bool
opb_routes_lookup(struct opb_routes *routes, const struct opb_session *session,
                  uint32_t entry, uint32_t *index)
{
    uint32_t number = 0;

    pthread_mutex_lock(&routes->lock);
    if (entry < routes->patterns.count) {
        number = opb_table_of(routes, session)->number_of[entry];
    }
    pthread_mutex_unlock(&routes->lock);
    *index = number != 0 ? number - 1 : NO_INDEX;
    return number != 0;
}

const char *
opb_routes_pattern(struct opb_routes *routes, uint32_t entry)
{
    const char *pattern;

    pthread_mutex_lock(&routes->lock);
    pattern = entry < routes->patterns.count ? routes->patterns.texts[entry] : "";
    pthread_mutex_unlock(&routes->lock);
    return pattern;
}
