/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/routes.c - what the script has registered, and the C entry points behind it
 *
 * Entry points are for good, since Orthanc forgets no registration: number, pattern. What a
 * host registers goes into a table that maps them to the host's numbers. Each host has its
 * own: one that loads, the one that new calls go to, those of hosts that come to their end.
 *
 * Orthanc is called without the lock: registering may wait for other threads of the core.
 */
#include "routes.h"

#include "config.h"
#include "kinds.h"
#include "late_routes.h"
#include "log.h"
#include "rest_entries.h"
#include "shim.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NO_INDEX UINT32_MAX

struct waiting {
    struct waiting *next;
    char *pattern;
    uint32_t index;
    uint64_t generation; /* of the table it was taken from */
};

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
    bool has_kind[OPB_CALL_COUNT];
    uint32_t index_of[OPB_MAX_ROUTES]; /* entry -> the host's number, or NO_INDEX */
    struct waiting *waiting;           /* routes without an entry, in order */
    struct waiting *given_up;          /* those that need a restart */
};

struct opb_routes {
    struct opb_node *node;
    pthread_mutex_t lock;
    pthread_mutex_t registering; /* one registration with Orthanc at a time */
    char *patterns[OPB_MAX_ROUTES];
    uint32_t entry_count;
    struct refused *refused;
    struct opb_kind_states kinds;
    struct table *tables;                 /* all, the newest first */
    struct table *current;                /* one of them, never NULL */
    uint64_t generation;                  /* counts what was current */
    atomic_bool has_kind[OPB_CALL_COUNT]; /* current's, for the fast path */
    bool is_first;                        /* no host has been committed yet */
    struct opb_late *late;
};

static void
waiting_free(struct waiting *waiting)
{
    free(waiting->pattern);
    free(waiting);
}

static void
waiting_free_all(struct waiting *first)
{
    struct waiting *next;

    for (struct waiting *each = first; each != NULL; each = next) {
        next = each->next;
        waiting_free(each);
    }
}

static void
table_free(struct table *table)
{
    if (table != NULL) {
        waiting_free_all(table->waiting);
        waiting_free_all(table->given_up);
        free(table);
    }
}

static struct table *
table_new(const struct opb_session *session)
{
    struct table *table = calloc(1, sizeof(*table));

    if (table != NULL) {
        table->session = session;
        for (uint32_t i = 0; i < OPB_MAX_ROUTES; i++) {
            table->index_of[i] = NO_INDEX;
        }
    }
    return table;
}

/* The table of a session; the current one if it has none. The lock is held. */
static struct table *
table_of(const struct opb_routes *routes, const struct opb_session *session)
{
    struct table *table;

    for (table = routes->tables;
         table != NULL && (table->is_forgotten || table->session != session);
         table = table->next) {
    }
    return table != NULL ? table : routes->current;
}

/* Where a session registers: NULL if its host has ended. The lock is held. */
static struct table *
table_to_fill(const struct opb_routes *routes, const struct opb_session *session)
{
    struct table *table = table_of(routes, session);
    bool is_current;

    if (table->session == session && !table->is_forgotten) {
        return table;
    }
    pthread_mutex_lock(&routes->node->lock); /* without memory it has no table of its own */
    is_current = session == NULL || routes->node->session == session;
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
    for (uint32_t i = 0; i < routes->entry_count; i++) {
        free(routes->patterns[i]);
    }
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

void
opb_routes_begin(struct opb_routes *routes, const struct opb_session *session)
{
    struct table *table = table_new(session);

    if (table == NULL) {
        opb_log_error(
            "There is no memory for the registrations of a new host: those of the "
            "last one stay in use");
        return;
    }
    opb_routes_forget(routes, session);
    pthread_mutex_lock(&routes->lock);
    table->next = routes->tables;
    routes->tables = table;
    pthread_mutex_unlock(&routes->lock);
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
        table->is_forgotten = true; /* until there is another */
        table = NULL;
    }
    if (table != NULL) {
        unlink_table(routes, table);
    }
    pthread_mutex_unlock(&routes->lock);
    table_free(table);
}

/* What a host lacks that its predecessor had. */
static void
log_differences(const struct opb_routes *routes, const struct table *before,
                const struct table *after, uint32_t entry_count)
{
    for (int kind = 0; kind < OPB_CALL_COUNT; kind++) {
        const struct opb_kind *what = opb_kind((enum opb_call_index)kind);

        if (what != NULL && before->has_kind[kind] && !after->has_kind[kind]) {
            opb_log_warning("The new host has not registered the %s that the last one had",
                            what->description);
        }
    }
    for (uint32_t i = 0; i < entry_count; i++) {
        if (before->index_of[i] != NO_INDEX && after->index_of[i] == NO_INDEX) {
            opb_log_warning(
                "The new host has not registered the REST route %s, which answers "
                "404 from now on",
                routes->patterns[i]);
        }
    }
}

static void
publish_kinds(struct opb_routes *routes)
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
    next = table_of(routes, session);
    for (int kind = 0; kind < OPB_CALL_COUNT; kind++) {
        atomic_store(&routes->has_kind[kind],
                     routes->current->has_kind[kind] && next->has_kind[kind]);
    }
    pthread_mutex_unlock(&routes->lock);
}

void
opb_routes_commit(struct opb_routes *routes, const struct opb_session *session)
{
    struct table *before = malloc(sizeof(*before)); /* to compare without the lock */
    struct table *after = malloc(sizeof(*after));
    struct table *unused = NULL;
    uint32_t entry_count;
    bool is_first;

    pthread_mutex_lock(&routes->lock);
    if (before != NULL) {
        *before = *routes->current;
    }
    if (table_of(routes, session) != routes->current) {
        if (routes->current->is_forgotten) {
            unused = routes->current;
            unlink_table(routes, unused);
        }
        routes->current = table_of(routes, session);
        routes->generation++;
        publish_kinds(routes);
    }
    if (after != NULL) {
        *after = *routes->current;
    }
    entry_count = routes->entry_count;
    is_first = routes->is_first;
    routes->is_first = false;
    pthread_mutex_unlock(&routes->lock);
    if (before != NULL && after != NULL && !is_first) {
        log_differences(routes, before, after, entry_count);
    }
    free(after);
    free(before);
    table_free(unused);
    if (opb_routes_has_waiting(routes)) {
        opb_late_wake(routes->late);
    }
}

/* Remembers why a pattern was refused. Without memory Orthanc is asked again. */
static void
remember_refusal(struct opb_routes *routes, const char *pattern, const char *text)
{
    struct refused *refused = calloc(1, sizeof(*refused));

    if (refused == NULL || (refused->pattern = strdup(pattern)) == NULL) {
        free(refused);
        return;
    }
    (void)snprintf(refused->text, sizeof(refused->text), "%s", text);
    pthread_mutex_lock(&routes->lock);
    refused->next = routes->refused;
    routes->refused = refused;
    pthread_mutex_unlock(&routes->lock);
}

static bool
was_refused(struct opb_routes *routes, const char *pattern, char *text, size_t capacity)
{
    const struct refused *each;

    pthread_mutex_lock(&routes->lock);
    for (each = routes->refused; each != NULL && strcmp(each->pattern, pattern) != 0;
         each = each->next) {
    }
    if (each != NULL) {
        (void)snprintf(text, capacity, "%s", each->text);
    }
    pthread_mutex_unlock(&routes->lock);
    return each != NULL;
}

/* Registers the next entry point for a pattern with Orthanc. Takes *pattern. The
 * registering lock is held, the other is not. */
static enum opb_status
register_entry(struct opb_routes *routes, char **pattern, char *text, size_t capacity)
{
    OrthancPluginContext *context = routes->node->context;
    _OrthancPluginRestCallback params;
    OrthancPluginErrorCode code;
    uint32_t entry = routes->entry_count; /* changes under the registering lock only */

    if (entry == OPB_MAX_ROUTES) {
        (void)snprintf(text, capacity, "A script can register at most %u REST callbacks",
                       OPB_MAX_ROUTES);
        return OPB_TOO_LARGE;
    }
    params.pathRegularExpression = *pattern;
    params.callback = opb_rest_entry(entry);
    opb_shim_forget();
    code = context->InvokeService(context, _OrthancPluginService_RegisterRestCallbackNoLock,
                                  &params);
    if (code != OrthancPluginErrorCode_Success) {
        const char *why = opb_shim_exception();

        (void)snprintf(text, capacity,
                       "Orthanc does not accept the REST callback on URI %s: %s", *pattern,
                       why[0] != '\0' ? why : "the reason is in the log");
        if (why[0] != '\0') {
            remember_refusal(routes, *pattern, text);
        }
        return OPB_REFUSED;
    }
    pthread_mutex_lock(&routes->lock);
    routes->patterns[entry] = *pattern;
    routes->entry_count++;
    pthread_mutex_unlock(&routes->lock);
    *pattern = NULL;
    return OPB_OK;
}

/* The entry for one more registration of a pattern in a table: the first one with that
 * pattern that the table does not use. NO_INDEX if there is none. */
static uint32_t
free_entry(const struct opb_routes *routes, const struct table *table, const char *pattern)
{
    for (uint32_t i = 0; i < routes->entry_count; i++) {
        if (table->index_of[i] == NO_INDEX && strcmp(routes->patterns[i], pattern) == 0) {
            return i;
        }
    }
    return NO_INDEX;
}

/* Gives a route of a table the entry that its pattern has. False if there is none. The lock
 * is held. */
static bool
bind_in(struct opb_routes *routes, struct table *table, const char *pattern, uint32_t index)
{
    uint32_t entry = free_entry(routes, table, pattern);

    if (entry == NO_INDEX) {
        return false;
    }
    table->index_of[entry] = index;
    table->has_kind[OPB_CALL_REST_INDEX] = true;
    publish_kinds(routes);
    return true;
}

/* True as well if the host has ended: there is nothing left to do for it. */
static bool
bind_route(struct opb_routes *routes, const struct opb_session *session,
           const char *pattern, uint32_t index)
{
    struct table *table;
    bool is_bound;

    pthread_mutex_lock(&routes->lock);
    table = table_to_fill(routes, session);
    is_bound = table == NULL || bind_in(routes, table, pattern, index);
    pthread_mutex_unlock(&routes->lock);
    return is_bound;
}

/* The same for a route that has waited. True as well if its host is no longer the current
 * one: then there is nothing left to do for it. */
static bool
bind_waiting(struct opb_routes *routes, const struct waiting *waiting)
{
    bool is_done;

    pthread_mutex_lock(&routes->lock);
    is_done = waiting->generation != routes->generation ||
              bind_in(routes, routes->current, waiting->pattern, waiting->index);
    pthread_mutex_unlock(&routes->lock);
    return is_done;
}

/* Remembers a route that has to wait for its entry point. Takes *pattern on success. */
static enum opb_status
remember_route(struct opb_routes *routes, const struct opb_session *session, char **pattern,
               uint32_t index)
{
    struct waiting *waiting = calloc(1, sizeof(*waiting));
    struct waiting **link;
    struct table *table;

    if (waiting == NULL) {
        return OPB_NO_MEMORY;
    }
    waiting->pattern = *pattern;
    waiting->index = index;
    *pattern = NULL;
    pthread_mutex_lock(&routes->lock);
    table = table_to_fill(routes, session);
    if (table != NULL) {
        for (link = &table->waiting; *link != NULL; link = &(*link)->next) {
        }
        *link = waiting;
        waiting = NULL;
    }
    pthread_mutex_unlock(&routes->lock);
    if (waiting != NULL) {
        waiting_free(waiting);
    }
    return OPB_OK;
}

static enum opb_status
add_rest(struct opb_routes *routes, const struct opb_session *session, const char *pattern,
         uint32_t index, enum opb_fault *fault, char *text, size_t capacity)
{
    enum opb_status status = OPB_OK;
    char *copy = strdup(pattern);

    *fault = OPB_FAULT_RUNTIME;
    if (copy == NULL) {
        goto no_memory;
    }
    opb_log_info("Registering a Python REST callback on URI: %s", pattern);
    if (bind_route(routes, session, pattern, index)) {
        free(copy);
        return OPB_OK;
    }
    if (was_refused(routes, pattern, text, capacity)) {
        *fault = OPB_FAULT_VALUE;
        free(copy);
        return OPB_REFUSED;
    }
    if (opb_node_phase(routes->node) == OPB_PHASE_LOADING) {
        pthread_mutex_lock(&routes->registering);
        status = register_entry(routes, &copy, text, capacity);
        pthread_mutex_unlock(&routes->registering);
        if (status == OPB_OK) {
            (void)bind_route(routes, session, pattern,
                             index); /* to the entry that was just made */
        }
        else if (status == OPB_REFUSED) {
            *fault = OPB_FAULT_VALUE;
        }
        free(copy);
        return status;
    }
    status = remember_route(routes, session, &copy, index);
    free(copy);
    if (status != OPB_OK) {
        goto no_memory;
    }
    opb_late_wake(routes->late);
    return OPB_OK;

no_memory:
    (void)snprintf(text, capacity, "There is no memory to register a REST callback");
    return OPB_NO_MEMORY;
}

enum opb_status
opb_routes_add(struct opb_routes *routes, const struct opb_session *session,
               const char *kind, const char *pattern, uint32_t index, enum opb_fault *fault,
               char *text, size_t capacity)
{
#define NAME_CALL(upper, name) name,
    static const char *const names[] = {OPB_CALL_NAMES(NAME_CALL)};
#undef NAME_CALL
    const struct opb_kind *what;
    struct table *table;
    int call;

    for (call = 0; call < OPB_CALL_COUNT && strcmp(kind, names[call]) != 0; call++) {
    }
    if (call == OPB_CALL_REST_INDEX && pattern != NULL && index != NO_INDEX) {
        return add_rest(routes, session, pattern, index, fault, text, capacity);
    }
    what = opb_kind((enum opb_call_index)call);
    if (what == NULL) {
        *fault = OPB_FAULT_RUNTIME;
        (void)snprintf(
            text, capacity,
            "Callbacks of the kind \"%s\" are not supported by this version of the "
            "Orthanc Python bridge",
            kind);
        return OPB_REFUSED;
    }
    opb_log_info("%s", what->announcement);
    opb_kind_register(&routes->kinds, routes->node, (enum opb_call_index)call);
    pthread_mutex_lock(&routes->lock);
    table = table_to_fill(routes, session);
    if (table != NULL) {
        table->has_kind[call] = true;
        publish_kinds(routes);
    }
    pthread_mutex_unlock(&routes->lock);
    return OPB_OK;
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
    has_kind = table_of(routes, session)->has_kind[kind];
    pthread_mutex_unlock(&routes->lock);
    return has_kind;
}

bool
opb_routes_lookup(struct opb_routes *routes, const struct opb_session *session,
                  uint32_t entry, uint32_t *index)
{
    pthread_mutex_lock(&routes->lock);
    *index =
        entry < routes->entry_count ? table_of(routes, session)->index_of[entry] : NO_INDEX;
    pthread_mutex_unlock(&routes->lock);
    return *index != NO_INDEX;
}

const char *
opb_routes_pattern(struct opb_routes *routes, uint32_t entry)
{
    const char *pattern;

    pthread_mutex_lock(&routes->lock);
    pattern = entry < routes->entry_count ? routes->patterns[entry] : "";
    pthread_mutex_unlock(&routes->lock);
    return pattern;
}

bool
opb_routes_has_waiting(struct opb_routes *routes)
{
    bool has_waiting;

    pthread_mutex_lock(&routes->lock);
    has_waiting = routes->current->waiting != NULL;
    pthread_mutex_unlock(&routes->lock);
    return has_waiting;
}

static struct waiting *
pop_waiting(struct opb_routes *routes)
{
    struct waiting *waiting;

    pthread_mutex_lock(&routes->lock);
    waiting = routes->current->waiting;
    if (waiting != NULL) {
        routes->current->waiting = waiting->next;
        waiting->generation = routes->generation;
    }
    pthread_mutex_unlock(&routes->lock);
    return waiting;
}

static enum opb_status
register_late(struct opb_routes *routes, const struct waiting *waiting, char *text,
              size_t capacity)
{
    char *pattern;
    enum opb_status status;

    if (bind_waiting(routes, waiting)) {
        return OPB_OK;
    }
    pattern = strdup(waiting->pattern);
    if (pattern == NULL) {
        (void)snprintf(text, capacity, "there is no memory");
        return OPB_NO_MEMORY;
    }
    status = register_entry(routes, &pattern, text, capacity);
    free(pattern);
    if (status == OPB_OK) {
        (void)bind_waiting(routes, waiting); /* to the entry that was just made */
    }
    return status;
}

uint32_t
opb_routes_register_waiting(struct opb_routes *routes)
{
    struct waiting *waiting;
    uint32_t count = 0;
    char text[512];

    pthread_mutex_lock(&routes->registering);
    while ((waiting = pop_waiting(routes)) != NULL) {
        if (register_late(routes, waiting, text, sizeof(text)) == OPB_OK) {
            count++;
        }
        else {
            opb_log_error(
                "The REST route %s, registered after the start of Orthanc, does not "
                "work: %s",
                waiting->pattern, text);
        }
        waiting_free(waiting);
    }
    pthread_mutex_unlock(&routes->registering);
    return count;
}

/* For the status, as long as the table is the current one. Takes waiting. */
static void
keep_given_up(struct opb_routes *routes, struct waiting *waiting)
{
    struct waiting **link;

    waiting->next = NULL;
    pthread_mutex_lock(&routes->lock);
    if (waiting->generation == routes->generation) {
        for (link = &routes->current->given_up; *link != NULL; link = &(*link)->next) {
        }
        *link = waiting;
        waiting = NULL;
    }
    pthread_mutex_unlock(&routes->lock);
    if (waiting != NULL) {
        waiting_free(waiting);
    }
}

void
opb_routes_refuse_waiting(struct opb_routes *routes, const char *why)
{
    struct waiting *waiting;

    while ((waiting = pop_waiting(routes)) != NULL) {
        opb_log_warning(
            "The REST route %s was registered after the start of Orthanc: it needs "
            "a restart of Orthanc to become effective, since %s",
            waiting->pattern, why);
        keep_given_up(routes, waiting);
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
    for (const struct waiting *each = current->waiting; each != NULL; each = each->next) {
        visit(context, each->pattern, OPB_ROUTE_WAITS);
    }
    for (const struct waiting *each = current->given_up; each != NULL; each = each->next) {
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
