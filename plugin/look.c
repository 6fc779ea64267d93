/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/look.c - where the Python threads of all hosts are, while they go on
 *
 * See look.h. The pool answers for each host that it was asked for, also if that has died
 * or does not answer. A few are asked for at a time, since answers are long.
 */
#include "plugin/look.h"

#include "plugin/pool_state.h"
#include "plugin/status_json.h"
#include "plugin/threads.h"
#include "protocol/sockets.h"

#include <stdlib.h>
#include <string.h>

#define ASKED_AT_A_TIME 4u
#define LOOK_MS         15000u
#define SEND_MS         1000u
#define PROBLEM_BYTES   128u

enum look_state { LOOK_WANTED, LOOK_ASKED, LOOK_ANSWERED };

struct look_host {
    struct opb_session *session; /* a reference */
    const char *state;           /* static */
    enum look_state look_state;
    uint32_t ticket;
    char *text; /* owned; NULL: none */
    char problem[PROBLEM_BYTES];
};

/* Guarded by the pool's lock, but for what never changes. */
struct opb_look {
    uint32_t count;
    struct look_host hosts[OPB_POOL_GROUPS];
};

/* Waits for its turn. False: it did not come in time. */
static bool
enter(struct opb_pool *pool, struct opb_look *look, uint64_t deadline_ms)
{
    bool is_mine;

    pthread_mutex_lock(&pool->lock);
    while (pool->look != NULL && !pool->is_stopping &&
           opb_condition_wait(&pool->changed, &pool->lock, deadline_ms) == OPB_OK) {
    }
    is_mine = pool->look == NULL;
    if (is_mine) {
        pool->look = look;
    }
    pthread_mutex_unlock(&pool->lock);
    return is_mine;
}

static void
leave(struct opb_pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    pool->look = NULL;
    pthread_cond_broadcast(&pool->changed);
    pthread_mutex_unlock(&pool->lock);
}

/* Whether nothing more is to come. With the pool's lock held. */
static bool
is_done(const struct opb_look *look)
{
    bool result = true;

    for (uint32_t i = 0; i < look->count; i++) {
        result = result && (look->hosts[i].look_state == LOOK_ANSWERED ||
                            opb_session_is_dead(look->hosts[i].session));
    }
    return result;
}

/* Adds a host before it is looked at. An opb_hosts_each() function. */
static void
add(void *context, struct opb_session *session, const char *state)
{
    struct opb_look *look = context;

    if (look->count < OPB_POOL_GROUPS) {
        look->hosts[look->count++] =
            (struct look_host){.session = opb_session_ref(session), .state = state};
    }
}

static void
free_look(struct opb_look *look)
{
    for (uint32_t i = 0; i < look->count; i++) {
        free(look->hosts[i].text);
        opb_session_unref(look->hosts[i].session);
    }
    free(look);
}

static void
await(struct opb_pool *pool, const struct opb_look *look, uint64_t deadline_ms)
{
    pthread_mutex_lock(&pool->lock);
    while (!is_done(look) && !pool->is_stopping && /* it has no more time for us */
           opb_condition_wait(&pool->changed, &pool->lock, deadline_ms) == OPB_OK) {
    }
    pthread_mutex_unlock(&pool->lock);
}

static void
show(const struct look_host *host,
     void (*visit)(void *context, const struct opb_looked *looked), void *context)
{
    struct opb_looked looked = {.pid = opb_session_pid(host->session),
                                .worker = opb_session_worker(host->session),
                                .state = host->state,
                                .text = host->text != NULL ? host->text : "",
                                .problem = host->problem};

    if (host->text == NULL && host->problem[0] == '\0') {
        looked.problem =
            opb_session_is_dead(host->session) ? "gone" : "the worker has not told them";
    }
    visit(context, &looked);
}

enum opb_status
opb_look_at_hosts(struct opb_pool *pool,
                  void (*visit)(void *context, const struct opb_looked *looked),
                  void *context)
{
    uint64_t deadline_ms = opb_deadline_ms(LOOK_MS);
    struct opb_look *look = calloc(1, sizeof(*look)); /* the stack is small */

    if (look == NULL) {
        return OPB_NO_MEMORY;
    }
    opb_hosts_each(pool->node, add, look);
    if (!enter(pool, look, deadline_ms)) {
        free_look(look);
        return OPB_LATE;
    }
    opb_pool_wake(pool);
    await(pool, look, deadline_ms);
    leave(pool); /* nobody else knows it any more */
    for (uint32_t i = 0; i < look->count; i++) {
        show(&look->hosts[i], visit, context);
    }
    free_look(look);
    return OPB_OK;
}

/* The next one to ask for, or NULL. With the pool's lock held. */
static struct look_host *
find_next(struct opb_look *look)
{
    struct look_host *found = NULL;
    uint32_t asked_count = 0;

    for (uint32_t i = 0; look != NULL && i < look->count; i++) {
        struct look_host *host = &look->hosts[i];

        asked_count +=
            host->look_state == LOOK_ASKED && !opb_session_is_dead(host->session);
        if (found == NULL && host->look_state == LOOK_WANTED &&
            !opb_session_is_dead(host->session)) {
            found = host;
        }
    }
    return asked_count < ASKED_AT_A_TIME ? found : NULL;
}

enum opb_status
opb_look_send(struct opb_pool *pool)
{
    enum opb_status status = OPB_OK;

    pthread_mutex_lock(&pool->lock);
    if (pool->look != NULL && is_done(pool->look)) {
        pthread_cond_broadcast(&pool->changed); /* the last of its hosts has died */
    }
    pthread_mutex_unlock(&pool->lock);
    while (pool->control != NULL && status == OPB_OK) {
        struct look_host *host;
        uint32_t ticket = 0;
        uint32_t id = 0;

        pthread_mutex_lock(&pool->lock);
        host = find_next(pool->look);
        if (host != NULL) {
            host->look_state = LOOK_ASKED;
            host->ticket = ticket = ++pool->look_ticket;
            id = opb_session_host(host->session);
        }
        pthread_mutex_unlock(&pool->lock);
        if (host == NULL) {
            break;
        }
        status = opb_control_look(pool->control, id, ticket, opb_deadline_ms(SEND_MS));
    }
    return status;
}

void
opb_look_news(void *context, uint32_t ticket, const char *text, const char *problem)
{
    struct opb_pool *pool = context;
    struct opb_look *look;

    pthread_mutex_lock(&pool->lock);
    look = pool->look;
    for (uint32_t i = 0; look != NULL && i < look->count; i++) {
        struct look_host *host = &look->hosts[i];

        if (host->look_state == LOOK_ASKED && host->ticket == ticket) {
            host->look_state = LOOK_ANSWERED;
            host->text = text[0] != '\0' ? strdup(text) : NULL;
            (void)strncpy(host->problem, problem, PROBLEM_BYTES - 1); /* may be cut */
        }
    }
    pthread_cond_broadcast(&pool->changed);
    pthread_mutex_unlock(&pool->lock);
    opb_pool_wake(pool); /* there may be others to ask for */
}
