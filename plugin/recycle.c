/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/recycle.c - a new host before the old one has become too large or too old
 *
 * Here:      looking at the hosts that serve, from time to time: how many calls each has
 * run, how much memory it has. Limits are a little different for each host, so that several
 * servers do not recycle in step. Elsewhere: the exchange, which is a reload of all
 * (generations.c).
 *
 * On the supervisor thread only.
 */
#include "plugin/recycle.h"

#include "plugin/log.h"
#include "plugin/pool_state.h"
#include "plugin/process.h"
#include "protocol/sockets.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define LOOK_MS        500u   /* between two looks at the number of calls */
#define MEMORY_MS      1000u  /* between two looks at the memory */
#define MEMORY_SHARE   50u    /* reading it takes at most a 50th of the time */
#define YOUNG_MS       10000u /* a host that needs too much so early always will */
#define AGAIN_MS       60000u /* after an attempt that has failed */
#define JITTER_PERCENT 10u

struct watched {
    pid_t pid; /* of the host that the rest is about; 0: none */
    uint64_t since_ms;
    uint64_t call_limit;   /* 0: none */
    uint64_t memory_limit; /* in KiB; 0: none */
    uint64_t memory_ms;
    uint64_t again_ms;
    bool was_unreadable; /* said once */
};

struct opb_recycler {
    uint64_t look_ms;
    struct watched hosts[OPB_MAX_WORKERS];
};

struct opb_recycler *
opb_recycler_new(void)
{
    return calloc(1, sizeof(struct opb_recycler));
}

void
opb_recycler_free(struct opb_recycler *recycler)
{
    free(recycler);
}

uint64_t
opb_recycler_draw(uint64_t limit)
{
    uint64_t spread = limit * JITTER_PERCENT / 100u;
    uint64_t number = 0;

    if (spread == 0 || opb_random_bytes(&number, sizeof(number)) != OPB_OK) {
        return limit;
    }
    return limit - spread + number % (2u * spread + 1u);
}

static bool
has_too_many_calls(const struct watched *watched, struct opb_session *session)
{
    uint64_t count = opb_session_call_count(session);

    if (watched->call_limit == 0 || count < watched->call_limit) {
        return false;
    }
    opb_log_warning("The host (pid %ld) has run %llu calls: another one takes its place, "
                    "since its limit is %llu (Python.MaxCalls)",
                    (long)watched->pid, (unsigned long long)count,
                    (unsigned long long)watched->call_limit);
    return true;
}

static bool
has_too_much_memory(struct watched *watched, uint64_t now_ms)
{
    struct opb_process_memory found;
    uint64_t memory;
    uint64_t taken_ms;

    if (watched->memory_limit == 0 || now_ms < watched->memory_ms) {
        return false;
    }
    memory = opb_process_memory(watched->pid, &found) ? found.pss_kib : 0;
    if (memory == 0 && errno != ENOENT && errno != ESRCH && !watched->was_unreadable) {
        watched->was_unreadable = true;
        opb_log_warning("The memory of the host (pid %ld) cannot be read (%s): "
                        "Python.MaxMemory has no effect",
                        (long)watched->pid, strerror(errno));
    }
    taken_ms = (opb_clock_ms() - now_ms) * MEMORY_SHARE;
    watched->memory_ms = opb_deadline_ms(taken_ms > MEMORY_MS ? taken_ms : MEMORY_MS);
    if (memory < watched->memory_limit) {
        return false;
    }
    opb_log_warning(
        "The host (pid %ld) has %llu MiB of memory: another one takes its place, "
        "since its limit is %llu MiB (Python.MaxMemory)",
        (long)watched->pid, (unsigned long long)(memory / 1024u),
        (unsigned long long)(watched->memory_limit / 1024u));
    if (now_ms - watched->since_ms < YOUNG_MS) {
        opb_log_warning("That was soon after its start: if the script needs so much, raise "
                        "the configuration option \"Python.MaxMemory\"");
    }
    return true;
}

/* Whether the host needs a successor. */
static bool
look_at(struct watched *watched, const struct opb_config *config,
        struct opb_session *session, uint64_t now_ms)
{
    if (opb_session_pid(session) != watched->pid) {
        watched->pid = opb_session_pid(session);
        watched->since_ms = now_ms;
        watched->call_limit = opb_recycler_draw(config->max_calls);
        watched->memory_limit = opb_recycler_draw((uint64_t)config->max_memory_mb * 1024u);
        watched->memory_ms = now_ms + MEMORY_MS;
        watched->again_ms = 0;
    }
    if (now_ms < watched->again_ms ||
        (!has_too_many_calls(watched, session) && !has_too_much_memory(watched, now_ms))) {
        return false;
    }
    return true;
}

void
opb_recycler_look(struct opb_recycler *recycler, struct opb_pool *pool)
{
    uint64_t now_ms = opb_clock_ms();
    bool is_needed = false;

    if (now_ms < recycler->look_ms) {
        return;
    }
    recycler->look_ms = now_ms + LOOK_MS;
    for (uint32_t i = 0; i < OPB_MAX_WORKERS && !is_needed; i++) {
        struct opb_session *session = opb_session_at(pool->node, i);

        is_needed = session != NULL &&
                    look_at(&recycler->hosts[i], pool->node->config, session, now_ms);
        opb_session_unref(session);
    }
    for (uint32_t i = 0; i < OPB_MAX_WORKERS && is_needed; i++) {
        recycler->hosts[i].again_ms = now_ms + AGAIN_MS; /* one reload is for all */
    }
    if (is_needed) {
        opb_pool_request_reload(pool, "The host has to be replaced");
    }
}

uint64_t
opb_recycler_next_ms(const struct opb_recycler *recycler, const struct opb_config *config)
{
    return config->max_calls == 0 && config->max_memory_mb == 0 ? OPB_FOREVER
                                                                : recycler->look_ms;
}
