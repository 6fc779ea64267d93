/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/module/link.c - the way from Python code to its node
 *
 * Here:      which lane the calling thread is in, exchanges and posts with the GIL
 *            released, messages to pack in, what a failure is called in Python.
 * Elsewhere: lanes for threads that are in none (service_lanes.c), posts that wait
 *            (flusher.c), children (fork.c), what is sent (sdk_call.c).
 * Called by: the other files of worker/module, and the host.
 */
#include <Python.h>

#include "worker/module/link_internal.h"
#include "protocol/sockets.h"
#include "worker/module/module.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SPARE_MESSAGES     4u
#define KEPT_MESSAGE_BYTES (1024u * 1024u) /* longer ones are not kept for reuse */
#define WHY_BYTES          512u

/* What a thread keeps from one SDK call to the next. Freed when the thread ends. */
struct link_thread {
    struct opb_link *link;
    struct opb_bound bound;
    struct opb_message *spare[SPARE_MESSAGES];
    uint32_t spare_count;
    char why[WHY_BYTES]; /* the last call that failed */
};

static struct opb_link *current_link;
static pthread_key_t thread_key;
static _Thread_local struct link_thread *this_thread;

static void
leave_list(struct link_thread *thread)
{
    struct opb_bound *bound = &thread->bound;

    if (bound->lane == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&thread->link->bound_lock); /* a normal mutex: cannot fail */
    *bound->previous = bound->next;
    if (bound->next != NULL) {
        bound->next->previous = bound->previous;
    }
    (void)pthread_mutex_unlock(&thread->link->bound_lock);
    bound->lane = NULL;
}

static void
thread_free(void *memory)
{
    struct link_thread *thread = memory;

    leave_list(thread);
    while (thread->spare_count > 0) {
        opb_message_free(thread->spare[--thread->spare_count]);
    }
    free(thread);
    this_thread = NULL;
}

/* Lends the calling thread's memory, or NULL without any. */
static struct link_thread *
thread_memory(struct opb_link *link)
{
    struct link_thread *thread = this_thread;

    if (thread != NULL || link == NULL) {
        return thread;
    }
    thread = calloc(1, sizeof(*thread));
    if (thread == NULL) {
        return NULL;
    }
    if (pthread_setspecific(thread_key, thread) != 0) {
        free(thread);
        return NULL;
    }
    thread->link = link;
    this_thread = thread;
    return thread;
}

/* A child process: no node of ours sends calls to it. */
static enum opb_status
refuse_calls(void *context, struct opb_lane *lane, struct opb_frame *frame)
{
    (void)context;
    (void)frame;
    opb_lane_fail(lane, OPB_BAD_FRAME, "the node sent a call to a child process");
    return OPB_BAD_FRAME;
}

/* Of an error number of pthread functions. */
static enum opb_status
system_status(int error)
{
    errno = error;
    return error == ENOMEM ? OPB_NO_MEMORY : OPB_SYSTEM;
}

static enum opb_status
create_key(void)
{
    int error = pthread_key_create(&thread_key, thread_free);

    return error == 0 ? OPB_OK : system_status(error);
}

/* serve NULL: a child process or a console, which have no callbacks. */
static enum opb_status
open_link(struct opb_link **out, struct opb_node_info **info, enum opb_connection_kind kind,
          opb_serve_fn serve, void *serve_context)
{
    bool is_child = serve == NULL;
    struct opb_link *link;
    enum opb_status status;
    int error;

    *out = NULL;
    if (current_link != NULL) {
        return OPB_REFUSED; /* one for each process */
    }
    link = calloc(1, sizeof(*link));
    if (link == NULL) {
        return OPB_NO_MEMORY;
    }
    link->kind = kind;
    link->serve = is_child ? refuse_calls : serve;
    link->serve_context = serve_context;
    error = pthread_mutex_init(&link->bound_lock, NULL);
    if (error != 0) {
        status = system_status(error);
        goto free_link;
    }
    status =
        opb_services_init(&link->services, is_child ? OPB_CHILD_LANES : OPB_SERVICE_LANES);
    if (status != OPB_OK) {
        goto destroy_lock;
    }
    status = opb_flusher_init(&link->flusher);
    if (status != OPB_OK) {
        goto fini_services;
    }
    status = create_key();
    if (status != OPB_OK) {
        goto fini_flusher;
    }
    status = opb_fork_watch(link);
    if (status != OPB_OK) {
        goto delete_key;
    }
    link->info = *info;
    *info = NULL;
    link->flusher.release_method = opb_link_method(link, OPB_FUNCTION_RELEASE);
    link->fence_method = opb_link_method(link, OPB_FUNCTION_FENCE);
    atomic_init(&link->fence_count, 0);
    current_link = link;
    *out = link;
    return OPB_OK;

delete_key:
    (void)pthread_key_delete(thread_key); /* the key exists: cannot fail */
fini_flusher:
    opb_flusher_fini(&link->flusher);
fini_services:
    opb_services_fini(&link->services);
destroy_lock:
    (void)pthread_mutex_destroy(&link->bound_lock); /* nobody holds it */
free_link:
    free(link);
    return status;
}

enum opb_status
opb_link_open(struct opb_link **out, struct opb_node_info **info, opb_serve_fn serve,
              void *serve_context)
{
    return open_link(out, info, OPB_CONNECTION_SERVICE, serve, serve_context);
}

enum opb_status
opb_link_open_child(struct opb_node_info **info, bool is_console)
{
    struct opb_link *link;

    return open_link(&link, info,
                     is_console ? OPB_CONNECTION_CONSOLE : OPB_CONNECTION_CHILD, NULL,
                     NULL);
}

void
opb_link_begin_anew(struct opb_link *link)
{
    struct opb_services *services = &link->services;

    link->is_fork = link->is_fork || link->kind == OPB_CONNECTION_SERVICE;
    if (link->kind == OPB_CONNECTION_SERVICE) {
        link->kind = OPB_CONNECTION_CHILD;
    }
    link->epoch++;
    link->serve = refuse_calls;
    link->serve_context = NULL;
    link->bound = NULL;
    if (this_thread != NULL) {
        this_thread->bound.lane = NULL;
    }
    memset(services->open, 0, sizeof(services->open));
    memset(services->idle, 0, sizeof(services->idle));
    services->idle_count = 0;
    services->taken_count = 0;
    services->limit = OPB_CHILD_LANES;
    opb_services_reset_condition(services);
    opb_flusher_forget(&link->flusher);
}

enum opb_status
opb_link_start(struct opb_link *link)
{
    return opb_flusher_start(link);
}

struct opb_link *
opb_link_current(void)
{
    return current_link;
}

bool
opb_link_is_child(void)
{
    return current_link != NULL && current_link->kind != OPB_CONNECTION_SERVICE;
}

bool
opb_link_is_console(void)
{
    return current_link != NULL && current_link->kind == OPB_CONNECTION_CONSOLE;
}

bool
opb_link_is_fork(void)
{
    return current_link != NULL && current_link->is_fork;
}

uint32_t
opb_link_epoch(void)
{
    return current_link != NULL ? current_link->epoch : 0;
}

const struct opb_node_info *
opb_link_info(const struct opb_link *link)
{
    return link->info;
}

int32_t
opb_link_method(const struct opb_link *link, const char *node_name)
{
    for (uint32_t i = 0; i < link->info->function_count && i <= INT32_MAX; i++) {
        if (strcmp(link->info->functions[i].name, node_name) == 0) {
            return (int32_t)i;
        }
    }
    return -1;
}

static void
enter_list(struct link_thread *thread, struct opb_lane *lane)
{
    struct opb_link *link = thread->link;

    (void)pthread_mutex_lock(&link->bound_lock); /* a normal mutex: cannot fail */
    thread->bound.lane = lane;
    thread->bound.next = link->bound;
    thread->bound.previous = &link->bound;
    if (link->bound != NULL) {
        link->bound->previous = &thread->bound.next;
    }
    link->bound = &thread->bound;
    (void)pthread_mutex_unlock(&link->bound_lock);
}

enum opb_status
opb_link_bind(struct opb_link *link, struct opb_lane *lane)
{
    struct link_thread *thread = lane == NULL ? this_thread : thread_memory(link);

    if (lane != NULL && link == NULL) {
        return OPB_STOPPING;
    }
    if (thread == NULL) {
        return lane == NULL ? OPB_OK : OPB_NO_MEMORY;
    }
    leave_list(thread);
    if (lane != NULL) {
        enter_list(thread, lane);
    }
    return OPB_OK;
}

struct opb_lane *
opb_link_bound(void)
{
    return this_thread == NULL ? NULL : this_thread->bound.lane;
}

bool
opb_link_flush_bound(struct opb_link *link)
{
    bool is_rest = false;

    (void)pthread_mutex_lock(&link->bound_lock); /* flushing never blocks for long */
    for (struct opb_bound *bound = link->bound; bound != NULL; bound = bound->next) {
        if (opb_lane_has_posts(bound->lane)) {
            opb_lane_flush(bound->lane);
            is_rest = is_rest || opb_lane_has_posts(bound->lane);
        }
    }
    (void)pthread_mutex_unlock(&link->bound_lock);
    return is_rest;
}

struct opb_message *
opb_link_message(struct opb_link *link)
{
    struct link_thread *thread = thread_memory(link);

    if (thread == NULL) {
        return NULL;
    }
    return thread->spare_count > 0 ? thread->spare[--thread->spare_count]
                                   : opb_message_new();
}

void
opb_link_message_back(struct opb_link *link, struct opb_message *message)
{
    struct link_thread *thread = thread_memory(link);

    if (message == NULL) {
        return;
    }
    if (thread == NULL || thread->spare_count == SPARE_MESSAGES ||
        opb_message_bytes(message) > KEPT_MESSAGE_BYTES) {
        opb_message_free(message);
        return;
    }
    thread->spare[thread->spare_count++] = message;
}

/* Remembers why, for opb_link_raise(). */
static void
remember(struct link_thread *thread, const char *why)
{
    (void)snprintf(thread->why, sizeof(thread->why), "%s", why); /* may be cut */
}

static enum opb_status
exchange(struct opb_link *link, struct link_thread *thread, struct opb_lane *lane,
         struct opb_message *request, struct opb_frame **response)
{
    enum opb_status status;

    opb_flusher_join_request(link, lane);
    opb_lane_expect_prompt(lane); /* most SDK calls take microseconds */
    status = opb_fence_join_request(link, lane);
    if (status == OPB_OK) {
        status = opb_exchange(lane, request, link->serve, link->serve_context, OPB_FOREVER,
                              response);
    }
    if (status != OPB_OK) {
        remember(thread, opb_lane_failure(lane));
    }
    return status;
}

/* For a thread that is in no callback. What is nested in the call uses its lane too. */
static enum opb_status
exchange_on_service(struct opb_link *link, struct link_thread *thread,
                    struct opb_message *request, struct opb_frame **response)
{
    struct opb_lane *lane;
    enum opb_status status;

    status = opb_service_take(link, opb_deadline_ms(OPB_SERVICE_WAIT_MS), &lane,
                              thread->why, sizeof(thread->why));
    if (status != OPB_OK) {
        return status;
    }
    enter_list(thread, lane);
    status = exchange(link, thread, lane, request, response);
    leave_list(thread);
    opb_service_give(link, &lane);
    return status;
}

enum opb_status
opb_link_call(struct opb_link *link, struct opb_message *request,
              struct opb_frame **response)
{
    struct link_thread *thread = thread_memory(link);
    enum opb_status status;
    PyThreadState *python;

    *response = NULL;
    if (thread == NULL) {
        return OPB_NO_MEMORY;
    }
    remember(thread, "");
    python = PyEval_SaveThread();
    status = thread->bound.lane != NULL
                 ? exchange(link, thread, thread->bound.lane, request, response)
                 : exchange_on_service(link, thread, request, response);
    PyEval_RestoreThread(python);
    return status;
}

static enum opb_status
post_on_service(struct opb_link *link, struct link_thread *thread,
                struct opb_message *message)
{
    struct opb_lane *lane;
    enum opb_status status;

    status = opb_service_take(link, opb_deadline_ms(OPB_SERVICE_WAIT_MS), &lane,
                              thread->why, sizeof(thread->why));
    if (status != OPB_OK) {
        return status;
    }
    status = opb_lane_post(lane, message);
    if (status != OPB_OK) {
        remember(thread, opb_lane_failure(lane));
    }
    opb_lane_flush(lane);
    if (opb_lane_has_posts(lane)) {
        opb_flusher_arm(link);
    }
    opb_service_give(link, &lane);
    return status;
}

static enum opb_status
post_on_lane(struct opb_link *link, struct link_thread *thread, struct opb_message *message,
             bool urgent)
{
    struct opb_lane *lane = thread->bound.lane;
    enum opb_status status = opb_lane_post(lane, message);

    if (status != OPB_OK) {
        remember(thread, opb_lane_failure(lane));
        return status;
    }
    if (urgent) {
        opb_lane_flush(lane);
    }
    if (opb_lane_has_posts(lane)) {
        opb_flusher_arm(link);
    }
    return OPB_OK;
}

enum opb_status
opb_link_post(struct opb_link *link, struct opb_message *message, bool urgent)
{
    struct link_thread *thread = thread_memory(link);
    enum opb_status status;
    PyThreadState *python;

    if (thread == NULL) {
        return OPB_NO_MEMORY;
    }
    remember(thread, "");
    if (thread->bound.lane != NULL && !urgent &&
        opb_lane_post_now(thread->bound.lane, message)) {
        opb_flusher_arm(link);
        return OPB_OK;
    }
    python = PyEval_SaveThread();
    status = thread->bound.lane != NULL ? post_on_lane(link, thread, message, urgent)
                                        : post_on_service(link, thread, message);
    PyEval_RestoreThread(python);
    return status;
}

void
opb_link_raise(enum opb_status status)
{
    const char *why = this_thread == NULL ? "" : this_thread->why;
    const char *colon = why[0] == '\0' ? "" : ": ";

    switch (status) {
    case OPB_NO_MEMORY:
        (void)PyErr_NoMemory();
        return;
    case OPB_TOO_LARGE:
        if (why[0] != '\0') {
            break; /* a frame, with which the lane has failed */
        }
        PyErr_Format(
            PyExc_RecursionError,
            "Orthanc and the script have called each other more than %u times without "
            "returning",
            OPB_MAX_CALL_DEPTH);
        return;
    case OPB_LATE:
        PyErr_Format(PyExc_RuntimeError, "the call did not reach Orthanc in time%s%s",
                     colon, why);
        return;
    case OPB_STOPPING:
        PyErr_SetString(PyExc_RuntimeError,
                        "the call was not made: this process is ending");
        return;
    case OPB_OK:
    case OPB_BAD_FRAME:
    case OPB_GONE:
    case OPB_SYSTEM:
    case OPB_REFUSED:
    case OPB_VERSION:
        break;
    }
    PyErr_Format(PyExc_RuntimeError,
                 "the call was lost, as the connection to Orthanc failed%s%s", colon,
                 why[0] == '\0' ? opb_status_text(status) : why);
}

void
opb_log_to_node(const char *function, const char *text)
{
    struct opb_link *link = opb_link_current();
    int32_t method = link == NULL ? -1 : opb_link_method(link, function);
    struct opb_message *message = method < 0 ? NULL : opb_link_message(link);
    enum opb_status status = OPB_STOPPING;

    if (message != NULL) {
        opb_message_begin_notify(message, (uint32_t)method, 1);
        opb_pack_cstr(message, text);
        status = opb_link_post(link, message, true);
        opb_link_message_back(link, message);
    }
    if (status != OPB_OK) {
        (void)fprintf(stderr, "%s: %s\n", function, text); /* the last place to say it */
    }
}
