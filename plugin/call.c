/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/call.c - running one callback in Python, on the Orthanc thread that waits
 *
 * Here:      which lane, the private stack, the exchange.
 * Elsewhere: what is said of one that has failed, and who ends for it (call_outcome.c); see
 *            call.h.
 *
 * The frames before opb_stack_run() are on the small stack of an HTTP thread: they hold
 * nothing large.
 */
#include "call_state.h"

#include "call_stats.h"
#include "config.h"
#include "handles.h"
#include "invocation.h"
#include "log.h"
#include "routes.h"
#include "stack.h"

#include "protocol/sockets.h"

#include <stdio.h>
#include <string.h>

#define MUTE_MS          5000u /* after that a host that takes no lane is one that hangs */
#define FAULT_TEXT_BYTES 8192u /* a traceback; on a private stack */

/* What a thread is inside of, innermost. */
struct level {
    struct opb_session *session;
    struct opb_lane *lane;
    enum opb_call_index kind; /* OPB_CALL_COUNT: a service lane */
    uint64_t deadline_ms;     /* nothing inside has longer */
    const struct level *outer;
};

static __thread const struct level *innermost;
static __thread uint32_t depth; /* callbacks; a service lane is none */
static __thread bool is_own_thread;

uint32_t
opb_call_depth(void)
{
    return depth;
}

bool
opb_call_is_inside(enum opb_call_index kind)
{
    for (const struct level *level = innermost; level != NULL; level = level->outer) {
        if (level->kind == kind) {
            return true;
        }
    }
    return false;
}

bool
opb_call_is_own_thread(void)
{
    return is_own_thread;
}

void
opb_call_mark_own_thread(void)
{
    is_own_thread = true;
}

/* What serve() needs: whose call it is part of. */
struct server {
    struct opb_session *session;
    struct opb_message *message;
    uint64_t deadline_ms;
};

static enum opb_status
serve(void *context, struct opb_lane *lane, struct opb_frame *frame)
{
    struct server *server = context;

    return opb_invocation_run(server->session, lane, frame, server->message,
                              server->deadline_ms);
}

/* Reads the response of a call. Copies the text of a fault to text. */
static enum opb_outcome
read_response(struct opb_lane *lane, struct opb_frame *response,
              const struct opb_call_io *io, char *text, size_t capacity)
{
    enum opb_fault fault = OPB_FAULT_PROTOCOL;
    const char *fault_text = "";
    struct opb_reader reader;

    if (opb_frame_fault(response, &fault, NULL, &fault_text)) {
        (void)snprintf(text, capacity, "%s", fault_text);
        return fault == OPB_FAULT_RAISED     ? OPB_CALL_RAISED
               : fault == OPB_FAULT_ENCODING ? OPB_CALL_ENCODING
                                             : OPB_CALL_FAILED;
    }
    opb_frame_result(response, &reader);
    if (io->result != NULL) {
        io->result(&reader, io->context);
    }
    else {
        opb_read_skip(&reader);
    }
    if (opb_reader_finish(&reader) != OPB_OK) {
        opb_lane_fail(lane, OPB_BAD_FRAME, "the result of a call has the wrong type");
        (void)snprintf(text, capacity, "%s", opb_lane_failure(lane));
        return OPB_CALL_DIED;
    }
    return OPB_CALL_DONE;
}

static enum opb_outcome
failed_exchange(struct opb_lane *lane, enum opb_status status, char *text, size_t capacity)
{
    if (status == OPB_TOO_LARGE && opb_lane_status(lane) == OPB_OK) {
        (void)snprintf(text, capacity, "calls are nested too deeply");
        return OPB_CALL_FAILED;
    }
    if (opb_lane_status(lane) ==
        OPB_OK) { /* the response may still come: no longer usable */
        opb_lane_fail(lane, status, opb_status_text(status));
    }
    (void)snprintf(text, capacity, "%s",
                   opb_lane_failure(lane)[0] != '\0' ? opb_lane_failure(lane)
                                                     : opb_status_text(status));
    return status == OPB_LATE ? OPB_CALL_LATE : OPB_CALL_DIED;
}

/* Packs, exchanges and reads, with two messages: the request stays whole while SDK calls
 * are being answered. */
static enum opb_outcome
exchange(struct opb_session *session, struct opb_lane *lane, const struct opb_call_io *io,
         uint64_t deadline_ms, char *text, size_t capacity)
{
    struct opb_message *request = opb_session_message(session);
    struct server server = {.session = session,
                            .message = opb_session_message(session),
                            .deadline_ms = deadline_ms};
    enum opb_outcome outcome = OPB_CALL_FAILED;
    struct opb_frame *response = NULL;
    enum opb_status status;

    if (request == NULL || server.message == NULL) {
        (void)snprintf(text, capacity, "%s", opb_status_text(OPB_NO_MEMORY));
        goto give_back;
    }
    io->pack(request, session, io->context);
    status = opb_message_status(request);
    if (status != OPB_OK) {
        (void)snprintf(text, capacity, "its arguments cannot be sent: %s",
                       opb_status_text(status));
    }
    else {
        status = opb_exchange(lane, request, serve, &server, deadline_ms, &response);
        outcome = status == OPB_OK ? read_response(lane, response, io, text, capacity)
                                   : failed_exchange(lane, status, text, capacity);
    }
    opb_frame_free(response);
    if (io->finish != NULL) {
        io->finish(session, io->context);
    }

give_back:
    opb_session_message_back(session, server.message);
    opb_session_message_back(session, request);
    return outcome;
}

static uint64_t
earlier(uint64_t a_ms, uint64_t b_ms)
{
    return a_ms < b_ms ? a_ms : b_ms;
}

/* Runs a job on its lane, and makes the lane the one of the thread meanwhile. The time that
 * it may take begins here: to wait for a host is another matter. */
static void
run_on_lane(struct opb_job *job, char *text, size_t capacity)
{
    struct level level = {
        .session = job->session, .lane = job->lane, .kind = job->kind, .outer = innermost};

    if (opb_node_phase(job->node) == OPB_PHASE_STOPPED &&
        (job->timeout_ms == 0 || job->timeout_ms > job->node->config->drain_timeout_ms)) {
        job->timeout_ms = job->node->config->drain_timeout_ms; /* the server waits for it */
        job->is_last = true;
    }
    if (job->timeout_ms != 0) {
        job->deadline_ms = earlier(job->deadline_ms, opb_deadline_ms(job->timeout_ms));
    }
    level.deadline_ms = job->deadline_ms;
    if (innermost != NULL && innermost->lane == job->lane) {
        level.deadline_ms = earlier(level.deadline_ms, innermost->deadline_ms);
    }
    innermost = &level;
    depth++;
    job->outcome =
        exchange(job->session, job->lane, job->io, level.deadline_ms, text, capacity);
    depth--;
    innermost = level.outer;
}

static void
log_ended(const char *what)
{
    opb_log_error("The %s could not be run: the host that it belongs to has ended", what);
}

static bool
is_absent(struct opb_job *job)
{
    const struct opb_call_io *io = job->io;

    if ((!io->is_of_script ||
         opb_routes_session_has(job->node->routes, job->session, job->kind)) &&
        (io->check == NULL || io->check(job->session, io->context))) {
        return false;
    }
    job->outcome = OPB_CALL_ABSENT;
    return true;
}

/* A call on the lane that the thread is in. */
static void
run_nested(void *argument)
{
    struct opb_job *job = argument;
    char text[FAULT_TEXT_BYTES];

    text[0] = '\0';
    if (!is_absent(job)) {
        run_on_lane(job, text, sizeof(text));
        opb_job_log_outcome(job, text);
    }
}

static void
run_top_level(void *argument)
{
    struct opb_job *job = argument;
    uint64_t queue_ms = opb_deadline_ms(job->node->config->queue_timeout_ms);
    uint64_t mute_ms = opb_deadline_ms(MUTE_MS);
    char text[FAULT_TEXT_BYTES];
    enum opb_status status;

    text[0] = '\0';
    status =
        opb_lane_acquire(job->node, job->io->is_for_primary ? 0 : OPB_ANY_WORKER,
                         &job->session, &job->lane, earlier(queue_ms, job->deadline_ms));
    if (status == OPB_OK && opb_clock_ms() >= mute_ms) {
        opb_call_give_up_mute(
            job->node); /* another one has taken the call that it did not */
    }
    if (status != OPB_OK) {
        job->outcome = status == OPB_NO_MEMORY ? OPB_CALL_FAILED : OPB_CALL_NO_HOST;
        opb_job_log_outcome(job, opb_status_text(status));
        return;
    }
    if (!is_absent(job)) {
        run_on_lane(job, text, sizeof(text));
        opb_job_log_outcome(job, text);
    }
    opb_lane_release(&job->session, &job->lane);
}

/* A call that only the host of its session can run. */
static void
run_in_session(void *argument)
{
    struct opb_job *job = argument;
    struct opb_session *session = job->session;
    uint64_t queue_ms = opb_deadline_ms(job->node->config->queue_timeout_ms);
    char text[FAULT_TEXT_BYTES];
    enum opb_status status;

    text[0] = '\0';
    if (is_absent(job)) {
        return;
    }
    status = opb_lane_acquire_in(session, &job->lane, earlier(queue_ms, job->deadline_ms));
    if (status == OPB_GONE) {
        job->outcome = OPB_CALL_DIED;
        log_ended(job->what);
        return;
    }
    if (status != OPB_OK) {
        opb_job_log_outcome(job, status == OPB_LATE
                                     ? "no lane to its host was to be had in time"
                                     : opb_status_text(status));
        return;
    }
    run_on_lane(job, text, sizeof(text));
    opb_job_log_outcome(job, text);
    opb_lane_release(&session, &job->lane);
}

/* Whether calls can be nested in it. A child process has no callbacks: what Orthanc wants
 * while it serves one goes to a host, as if the thread were in nothing. */
static bool
is_usable(const struct level *level)
{
    return level != NULL && !opb_session_is_child(level->session) &&
           opb_lane_status(level->lane) == OPB_OK && !opb_session_is_dead(level->session);
}

static void
count_call(const struct opb_job *job)
{
    uint64_t end_us = opb_clock_us();

    if (job->outcome != OPB_CALL_ABSENT) {
        opb_call_stat_count(opb_call_stats_kind(job->node->call_stats, job->kind),
                            job->outcome, end_us - job->begin_us, end_us / 1000u);
        opb_call_stat_count(job->io->stat, job->outcome, end_us - job->begin_us,
                            end_us / 1000u);
    }
}

/* Whether a call of the node, or of one of its sessions, is nested in what the thread does.
 */
static bool
is_nested(const struct opb_node *node, const struct opb_session *session)
{
    return is_usable(innermost) &&
           (session != NULL ? innermost->session == session
                            : opb_session_node(innermost->session) == node);
}

/* session: whose host shall run it; NULL: any. */
static enum opb_outcome
run(struct opb_node *node, struct opb_session *session, enum opb_call_index kind,
    const struct opb_call_io *io, const char *what, uint64_t deadline_ms)
{
    struct opb_job job = {.node = node,
                          .session = session,
                          .kind = kind,
                          .io = io,
                          .what = what,
                          .deadline_ms = deadline_ms,
                          .timeout_ms = node->config->call_timeout_ms[kind],
                          .begin_us = opb_clock_us(),
                          .outcome = OPB_CALL_FAILED};
    void (*run_job)(void *) = session != NULL ? run_in_session : run_top_level;

    if (is_nested(node, session)) {
        job.session = innermost->session;
        job.lane = innermost->lane;
        run_job = run_nested;
    }
    if (opb_stack_run(run_job, &job) != OPB_OK) {
        opb_job_log_outcome(&job, "there is no memory for its stack");
    }
    count_call(&job);
    return job.outcome;
}

enum opb_outcome
opb_call_run(struct opb_node *node, enum opb_call_index kind, const struct opb_call_io *io,
             const char *what, uint64_t deadline_ms)
{
    return node == NULL ? OPB_CALL_NO_HOST : run(node, NULL, kind, io, what, deadline_ms);
}

enum opb_outcome
opb_call_run_in(struct opb_session *session, enum opb_call_index kind,
                const struct opb_call_io *io, const char *what, uint64_t deadline_ms)
{
    if (session == NULL || opb_session_is_dead(session)) {
        log_ended(what);
        return OPB_CALL_DIED;
    }
    return run(opb_session_node(session), session, kind, io, what, deadline_ms);
}

static void
run_given(void *argument)
{
    struct opb_job *job = argument;
    char text[FAULT_TEXT_BYTES];

    text[0] = '\0';
    run_on_lane(job, text, sizeof(text));
    if (job->text != NULL) {
        (void)snprintf(job->text, job->text_capacity, "%s", text);
    }
}

enum opb_outcome
opb_call_run_on(struct opb_session *session, struct opb_lane *lane,
                enum opb_call_index kind, const struct opb_call_io *io,
                uint64_t deadline_ms, char *text, size_t text_capacity)
{
    struct opb_job job = {.node = opb_session_node(session),
                          .session = session,
                          .lane = lane,
                          .kind = kind,
                          .io = io,
                          .deadline_ms = deadline_ms,
                          .text = text_capacity > 0 ? text : NULL,
                          .text_capacity = text_capacity,
                          .outcome = OPB_CALL_FAILED};

    if (job.text != NULL) {
        job.text[0] = '\0';
    }
    if (opb_stack_run(run_given, &job) != OPB_OK && job.text != NULL) {
        (void)snprintf(job.text, text_capacity, "there is no memory for its stack");
    }
    return job.outcome;
}

static const char *
process_name(const struct opb_session *session)
{
    return opb_session_is_child(session) ? "child process" : "host";
}

struct service {
    struct opb_session *session;
    struct opb_lane *lane;
};

static void
serve_lane(void *argument)
{
    const struct service *service = argument;
    struct level level = {.session = service->session,
                          .lane = service->lane,
                          .kind = OPB_CALL_COUNT,
                          .deadline_ms = OPB_FOREVER,
                          .outer = innermost};
    struct server server = {.session = service->session,
                            .message = opb_session_message(service->session),
                            .deadline_ms = OPB_FOREVER};
    enum opb_status status = server.message != NULL ? OPB_OK : OPB_NO_MEMORY;

    innermost = &level;
    while (status == OPB_OK) {
        struct opb_frame *frame = NULL;

        status = opb_lane_receive(service->lane, &frame, OPB_FOREVER);
        if (status == OPB_OK && opb_frame_type(frame) == OPB_RESPONSE) {
            opb_lane_fail(service->lane, OPB_BAD_FRAME,
                          "the host answers what nobody asked");
            status = OPB_BAD_FRAME;
        }
        else if (status == OPB_OK) {
            status = serve(&server, service->lane, frame);
        }
        opb_frame_free(frame);
        if (status == OPB_OK) {
            opb_lane_linger(service->lane); /* a script that makes one call makes two */
        }
    }
    innermost = level.outer;
    opb_session_message_back(service->session, server.message);
    if (status != OPB_GONE) {
        opb_log_error(
            "A service lane of the %s (pid %ld) is closed: %s",
            process_name(service->session), (long)opb_session_pid(service->session),
            opb_lane_failure(service->lane)[0] != '\0' ? opb_lane_failure(service->lane)
                                                       : opb_status_text(status));
    }
}

void
opb_call_serve_service_lane(struct opb_session *session, struct opb_lane *lane)
{
    struct service service = {.session = session, .lane = lane};

    if (opb_stack_run(serve_lane, &service) != OPB_OK) {
        opb_log_error(
            "A service lane of the %s (pid %ld) is closed: there is no memory for "
            "its stack",
            process_name(session), (long)opb_session_pid(session));
    }
}
