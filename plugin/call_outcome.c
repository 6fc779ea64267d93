/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/call_outcome.c - what became of a call
 *
 * Here:      the log, the history and the counts; a host that hangs is given up. For
 * call.c. Elsewhere: what a caller answers then (callback_*.c, policy.c), the end of a host
 *            (pool.h).
 */
#include "call_state.h"

#include "config.h"
#include "history.h"
#include "kinds.h"
#include "log.h"
#include "policy.h"
#include "pool.h"

#include "protocol/sockets.h"

#include <stdio.h>

#define DEATH_WAIT_MS 200u /* for the pool to say why a host ended */
#define TEXT_BYTES    512u

/* "was killed by signal 9 (Killed)", or why the lane broke. */
static void
log_lost(const struct opb_job *job, const char *text)
{
    long pid = (long)opb_session_pid(job->session);
    char death[TEXT_BYTES];

    if (opb_lane_status(job->lane) == OPB_GONE &&
        opb_session_wait_death(job->session, opb_deadline_ms(DEATH_WAIT_MS))) {
        opb_session_death(job->session, death, sizeof(death));
        opb_log_error("The host (pid %ld) %s during the %s; this call has failed", pid,
                      death, job->what);
    }
    else {
        opb_log_error("The connection to the host (pid %ld) was lost during the %s: %s; "
                      "this call has failed",
                      pid, job->what, text);
    }
}

/* Its host is given up with it, whatever else runs there: nobody can tell what it would
 * still do, and with which locks. */
static void
give_up(const struct opb_job *job)
{
    long pid = (long)opb_session_pid(job->session);
    char reason[TEXT_BYTES];

    if (opb_clock_ms() < job->deadline_ms) {
        opb_log_error("The %s has failed, since a callback inside of it, or around it, has "
                      "not returned in time",
                      job->what);
    }
    else if (job->timeout_ms != 0) {
        opb_log_error("The %s has not returned within %g s (%s): it has failed", job->what,
                      job->timeout_ms / 1000.0,
                      job->is_last ? "Python.DrainTimeout, since Orthanc stops"
                                   : "Python.CallTimeout");
    }
    else {
        opb_log_error("The %s has not returned in time: it has failed", job->what);
    }
    if (opb_session_condemn(job->session)) {
        opb_log_error("The host (pid %ld) is killed, and a new one started. Where its "
                      "threads are follows",
                      pid);
        (void)snprintf(reason, sizeof(reason),
                       "was killed, since the %s had not returned in time",
                       job->what); /* cut if it does not fit */
        opb_pool_host_hangs(job->session, reason);
    }
}

void
opb_call_give_up_mute(struct opb_node *node)
{
    struct opb_session *session = opb_session_mute(node);

    if (session != NULL && opb_session_condemn(session)) {
        opb_log_error("The host (pid %ld) takes no more calls: it is killed, and a new one "
                      "started",
                      (long)opb_session_pid(session));
        opb_pool_host_hangs(session, "was killed, since it took no more calls");
    }
    opb_session_unref(session);
}

/* For who looks later. */
static void
note_exception(const struct opb_job *job, const char *text)
{
    const struct opb_happening happening = {.pid = opb_session_pid(job->session),
                                            .kind = opb_call_name(job->kind),
                                            .what = job->what,
                                            .text = text};

    opb_history_add(job->node->history, OPB_HISTORY_EXCEPTIONS, &happening);
}

void
opb_job_log_outcome(const struct opb_job *job, const char *text)
{
    opb_policy_count_outcome(job->node, job->outcome);
    switch (job->outcome) {
    case OPB_CALL_DONE:
    case OPB_CALL_ABSENT:
        break;
    case OPB_CALL_RAISED: /* the host has logged the traceback */
        note_exception(job, text);
        break;
    case OPB_CALL_ENCODING:
        opb_log_error("Cannot create a Python string, check that the string is properly "
                      "encoded using UTF-8");
        break;
    case OPB_CALL_FAILED:
        opb_log_error("The %s could not be run: %s", job->what, text);
        break;
    case OPB_CALL_DIED:
        log_lost(job, text);
        break;
    case OPB_CALL_LATE:
        give_up(job);
        break;
    case OPB_CALL_NO_HOST:
        opb_log_error("The %s was not run: no host was ready within Python.QueueTimeout. "
                      "Earlier lines say why the last one ended",
                      job->what);
        opb_call_give_up_mute(job->node);
        break;
    }
}
