/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/last_jobs.c - jobs that would never run, since Orthanc stops
 *
 * See last_jobs.h. Which job a call waits for cannot be told: those that are older than the
 * call it cannot be, and they are left alone, as Orthanc may save them for its next start.
 */
#include "last_jobs.h"

#include "call.h"
#include "invocation.h"
#include "log.h"
#include "threads.h"

#include "protocol/sockets.h"

#include <jansson.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TIME_BYTES 16u /* "20260131T235959" */
#define ROUND_MS   100u
#define HURRY_MS   300u

struct opb_last_jobs {
    struct opb_node *node;
    char since[TIME_BYTES];
    atomic_uint_least64_t end_ms; /* a look that begins later is the last */
    pthread_t thread;
};

static const char *
text_of(const json_t *job, const char *key)
{
    const char *text = json_string_value(json_object_get(job, key));

    return text != NULL ? text : "";
}

/* Times of the same form have the order of their texts. */
static bool
is_waiting_since(const json_t *job, const char *since)
{
    const char *state = text_of(job, "State");

    return (strcmp(state, "Pending") == 0 || strcmp(state, "Paused") == 0 ||
            strcmp(state, "Retry") == 0) &&
           strncmp(text_of(job, "CreationTime"), since, TIME_BYTES - 1) >= 0;
}

static void
cancel(struct opb_node *node, const char *id)
{
    OrthancPluginMemoryBuffer answer = {.data = NULL};
    char uri[128];

    if (snprintf(uri, sizeof(uri), "/jobs/%s/cancel", id) >= (int)sizeof(uri) ||
        OrthancPluginRestApiPost(node->context, &answer, uri, "", 0) !=
            OrthancPluginErrorCode_Success) {
        return; /* which the core has logged: it may just have begun */
    }
    OrthancPluginFreeMemoryBuffer(node->context, &answer);
    opb_log_warning("The job %s is cancelled: Orthanc stops before it has begun, and a "
                    "thread of the Python script waits for it",
                    id);
}

/* False: the server no longer tells. */
static bool
cancel_all(struct opb_node *node, const char *since)
{
    OrthancPluginMemoryBuffer answer = {.data = NULL};
    json_t *jobs;
    json_t *job;
    size_t i;

    if (OrthancPluginRestApiGet(node->context, &answer, "/jobs?expand") !=
        OrthancPluginErrorCode_Success) {
        return false;
    }
    jobs = json_loadb(answer.data, answer.size, 0, NULL);
    OrthancPluginFreeMemoryBuffer(node->context, &answer);
    json_array_foreach(jobs, i, job)
    {
        if (is_waiting_since(job, since)) {
            cancel(node, text_of(job, "ID"));
        }
    }
    json_decref(jobs);
    return true;
}

/* A call may be about to submit its job: so it looks again until none is left, or the
 * server goes away. */
static void *
run_last_jobs(void *argument)
{
    struct opb_last_jobs *last = argument;
    struct opb_node *node = last->node;
    time_t since;

    opb_call_mark_own_thread();
    for (;;) {
        uint64_t end_ms = atomic_load(&last->end_ms); /* a round must begin after it */
        uint64_t began_ms = opb_clock_ms();

        if (!cancel_all(node, last->since) ||
            opb_invocations_drain(node, opb_deadline_ms(ROUND_MS), &since) ||
            opb_node_phase(node) == OPB_PHASE_FINALIZING || began_ms >= end_ms) {
            return NULL;
        }
    }
}

struct opb_last_jobs *
opb_last_jobs_begin(struct opb_node *node, time_t since)
{
    struct opb_last_jobs *last = calloc(1, sizeof(*last));
    struct tm parts;

    if (last == NULL) {
        return NULL;
    }
    last->node = node;
    atomic_init(&last->end_ms, OPB_FOREVER);
    if (gmtime_r(&since, &parts) == NULL ||
        strftime(last->since, sizeof(last->since), "%Y%m%dT%H%M%S", &parts) == 0 ||
        opb_own_thread_start(&last->thread, run_last_jobs, last, "PY-LAST-JOBS") !=
            OPB_OK) {
        free(last);
        return NULL;
    }
    return last;
}

void
opb_last_jobs_hurry(struct opb_last_jobs *last)
{
    if (last != NULL) {
        atomic_store(&last->end_ms, opb_deadline_ms(HURRY_MS));
    }
}

void
opb_last_jobs_end(struct opb_last_jobs *last)
{
    if (last != NULL) {
        opb_own_thread_join(last->thread, "the cancellation of jobs");
        free(last);
    }
}
