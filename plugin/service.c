/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/service.c - the node's own socket, and the threads that serve it
 *
 * Here:      listening, who may connect, one thread for each service lane, their end; which
 *            lanes are of one child process, and so have its objects in common.
 * Elsewhere: the SDK calls (call.c), when to listen (supervise.c).
 *
 * The lock guards slots and the list of allowed sessions. node->lock may be taken under it,
 * nothing else, and nothing waits under it. A lane that a slot names is open.
 */
#include "plugin/service.h"

#include "plugin/call.h"
#include "plugin/log.h"
#include "plugin/pool_user.h"
#include "plugin/spawn.h"
#include "plugin/threads.h"
#include "protocol/handshake.h"
#include "protocol/sockets.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define HANDSHAKE_MS       5000u
#define BACKLOG            64
#define MAX_ALLOWED        (8 * (int)OPB_MAX_WORKERS)
#define COMPLAIN_EVERY_MS  10000u
#define MAX_ACCEPTS_A_TURN 64
#define MOST_SERVICE_LANES 512u /* of all hosts: each is a thread here */

struct slot {
    struct opb_services *services;
    struct opb_lane *lane;     /* the thread's; NULL once it closes it */
    struct opb_session *child; /* the thread's, if a child process is at the other end */
    struct opb_session *host;  /* whose child; only compared */
    pthread_t thread;
    bool is_used;
    bool is_done; /* the thread touches nothing any more: join it */
};

struct opb_services {
    struct opb_node *node;
    int listen_fd;
    char *path;
    uint64_t complained_ms; /* the supervisor thread's */
    atomic_uint_least64_t refused_ms;
    pthread_mutex_t lock;
    struct opb_session *allowed[MAX_ALLOWED]; /* a reference each */
    size_t slot_count;
    struct slot slots[];
};

static void
stop_listening(struct opb_services *services)
{
    if (services->listen_fd >= 0) {
        (void)close(services->listen_fd); /* holds no data */
        (void)unlink(services->path);     /* it may be gone with its directory */
        services->listen_fd = -1;
    }
    free(services->path);
    services->path = NULL;
}

enum opb_status
opb_services_move(struct opb_services *services, const char *path)
{
    const struct opb_pool_user *user = &services->node->pool_user;
    enum opb_status status;
    char *copy;

    stop_listening(services);
    copy = strdup(path);
    if (copy == NULL) {
        return OPB_NO_MEMORY;
    }
    services->path = copy;
    status = opb_socket_listen(&services->listen_fd, path, 0600, BACKLOG);
    if (status == OPB_OK && user->is_set &&
        (chown(path, (uid_t)-1, user->gid) != 0 || chmod(path, 0660) != 0)) {
        status = OPB_SYSTEM; /* the directory was opened before: cannot happen */
    }
    return status;
}

enum opb_status
opb_services_open(struct opb_services **out, struct opb_node *node, const char *path)
{
    struct opb_services *services;
    enum opb_status status;
    size_t slot_count;

    *out = NULL;
    slot_count = (size_t)OPB_MAX_SERVICE_LANES * node->config->workers;
    if (slot_count > MOST_SERVICE_LANES) {
        slot_count = MOST_SERVICE_LANES;
    }
    services = calloc(1, sizeof(*services) + slot_count * sizeof(services->slots[0]));
    if (services == NULL) {
        return OPB_NO_MEMORY;
    }
    services->slot_count = slot_count;
    services->node = node;
    services->listen_fd = -1;
    if (pthread_mutex_init(&services->lock, NULL) != 0) {
        free(services);
        return OPB_NO_MEMORY;
    }
    status = opb_services_move(services, path);
    if (status != OPB_OK) {
        int error = errno;

        opb_services_close(services);
        errno = error;
        return status;
    }
    *out = services;
    return OPB_OK;
}

int
opb_services_fd(struct opb_services *services)
{
    return services->listen_fd;
}

void
opb_services_allow(struct opb_services *services, struct opb_session *session)
{
    struct opb_session *reference = opb_session_ref(session);

    pthread_mutex_lock(&services->lock);
    for (size_t i = 0; i < MAX_ALLOWED && reference != NULL; i++) {
        if (services->allowed[i] == NULL) {
            services->allowed[i] = reference;
            reference = NULL;
        }
    }
    pthread_mutex_unlock(&services->lock);
    if (reference != NULL) {
        opb_log_error(
            "More than %d hosts at a time: the one with pid %ld cannot use service "
            "lanes",
            MAX_ALLOWED, (long)opb_session_pid(session));
        opb_session_unref(reference);
    }
}

void
opb_services_disallow(struct opb_services *services, struct opb_session *session)
{
    struct opb_session *reference = NULL;

    pthread_mutex_lock(&services->lock);
    for (size_t i = 0; i < MAX_ALLOWED; i++) {
        if (services->allowed[i] == session) {
            reference = services->allowed[i];
            services->allowed[i] = NULL;
            break;
        }
    }
    pthread_mutex_unlock(&services->lock);
    opb_session_unref(reference);
}

/* NULL, or the allowed session of that host, with a reference. */
static struct opb_session *
find_session(struct opb_services *services, const struct opb_hello *hello)
{
    struct opb_session *found = NULL;

    pthread_mutex_lock(&services->lock);
    for (size_t i = 0; i < MAX_ALLOWED && found == NULL; i++) {
        if (services->allowed[i] != NULL &&
            opb_session_host(services->allowed[i]) == hello->host) {
            found = opb_session_ref(services->allowed[i]);
        }
    }
    pthread_mutex_unlock(&services->lock);
    return found;
}

static bool
is_for_us(struct opb_node *node, const struct opb_hello *hello)
{
    bool is_same;

    pthread_mutex_lock(&node->lock);
    is_same = strcmp(hello->node, node->name) == 0;
    pthread_mutex_unlock(&node->lock);
    return is_same && opb_secret_equal(hello->secret, node->secret, OPB_SECRET_BYTES);
}

/* NULL, and the reason to refuse. *kind: the peer is that host, a child process of it, or
 * a console. */
static struct opb_session *
check_hello(struct opb_services *services, struct opb_frame *frame,
            enum opb_connection_kind *kind, char *reason, size_t capacity)
{
    struct opb_session *session;
    struct opb_hello hello;
    enum opb_status status = opb_hello_decode(frame, &hello);

    /* the reasons fit */
    if (status == OPB_VERSION) {
        (void)snprintf(
            reason, capacity,
            "the orthanc module speaks version %u of the protocol, and the plugin "
            "version %d: install both from the same release",
            hello.version, OPB_PROTOCOL_VERSION);
        return NULL;
    }
    if (status != OPB_OK ||
        (hello.kind != OPB_CONNECTION_SERVICE && hello.kind != OPB_CONNECTION_CHILD &&
         hello.kind != OPB_CONNECTION_CONSOLE)) {
        (void)snprintf(reason, capacity, "only service lanes connect to a node's socket");
        return NULL;
    }
    if (!is_for_us(services->node, &hello)) {
        (void)snprintf(reason, capacity, "wrong node or wrong secret");
        return NULL;
    }
    *kind = hello.kind;
    session = find_session(services, &hello);
    if (session == NULL && hello.kind == OPB_CONNECTION_CHILD) {
        (void)snprintf(reason, capacity,
                       "the host that started this process (number %u) has ended, and with "
                       "it the access of its child processes",
                       hello.host);
    }
    else if (session == NULL && hello.kind == OPB_CONNECTION_CONSOLE) {
        (void)snprintf(reason, capacity,
                       "the host that this console was opened for (number %u) has ended: "
                       "open another one",
                       hello.host);
    }
    else if (session == NULL) {
        (void)snprintf(reason, capacity, "host %u is none that this node has now",
                       hello.host);
    }
    explicit_bzero(hello.secret, sizeof(hello.secret));
    return session;
}

/* The session of a child process that has other lanes, with a reference; or NULL. */
static struct opb_session *
find_child(struct opb_services *services, const struct opb_session *host, pid_t pid,
           size_t *lane_count)
{
    struct opb_session *found = NULL;

    *lane_count = 0;
    for (size_t i = 0; i < services->slot_count; i++) {
        const struct slot *slot = &services->slots[i];

        *lane_count += slot->child != NULL ? 1u : 0u;
        /* a process of another container has the number 0, as others may have */
        if (slot->child != NULL && found == NULL && slot->host == host && pid > 0 &&
            opb_session_pid(slot->child) == pid) {
            found = opb_session_ref(slot->child);
        }
    }
    return found;
}

/* Whether the pool's numbers of processes mean the same to us: not if it is in a container
 * of its own. A process that hides this is none of which we could tell where it comes from.
 */
static bool
has_our_numbers(pid_t pid)
{
    struct stat ours;
    struct stat theirs;
    char path[64];

    (void)snprintf(path, sizeof(path), "/proc/%ld/ns/pid", (long)pid); /* fits */
    return stat("/proc/self/ns/pid", &ours) == 0 && stat(path, &theirs) == 0 &&
           ours.st_ino == theirs.st_ino && ours.st_dev == theirs.st_dev;
}

/* Makes the slot one of the child process, or of the console, which descends from nobody.
 * False, and the reason to refuse. */
static bool
admit_child(struct opb_services *services, struct slot *slot, struct opb_session *host,
            bool is_console, pid_t pid, char *reason, size_t capacity)
{
    struct opb_session *child = NULL;
    size_t lane_count;
    bool is_new;

    if (!is_console &&
        opb_process_kinship(opb_session_pid(host), pid) == OPB_KINSHIP_NONE &&
        has_our_numbers(pid)) {
        (void)snprintf(reason, capacity,
                       "process %ld does not descend from the host (pid %ld), as its child "
                       "processes do",
                       (long)pid, (long)opb_session_pid(host));
        return false;
    }
    pthread_mutex_lock(&services->lock);
    child = find_child(services, host, pid, &lane_count);
    is_new = child == NULL;
    if (lane_count >= OPB_MAX_CHILD_LANES) {
        (void)snprintf(reason, capacity,
                       "the child processes of the script have %u connections to Orthanc, "
                       "which is the most at the same time",
                       OPB_MAX_CHILD_LANES);
    }
    else if (child == NULL && opb_session_new_child(&child, host, pid) != OPB_OK) {
        (void)snprintf(reason, capacity, "Orthanc is out of memory");
    }
    else {
        slot->child = child; /* the thread's reference */
        slot->host = host;
        child = NULL;
    }
    pthread_mutex_unlock(&services->lock);
    if (slot->child == NULL) {
        opb_session_unref(child);
        return false;
    }
    if (is_console && is_new) {
        opb_log_warning(
            "A console (process %ld) calls the SDK with the rights of the script in the "
            "host (pid %ld)",
            (long)pid, (long)opb_session_pid(host));
    }
    return true;
}

static void
dismiss_child(struct opb_services *services, struct slot *slot)
{
    struct opb_session *child;

    pthread_mutex_lock(&services->lock);
    child = slot->child;
    slot->child = NULL;
    slot->host = NULL;
    pthread_mutex_unlock(&services->lock);
    opb_session_unref(child); /* the last one frees its objects */
}

/* The session of the hello, which may be answered; NULL, and the reason. */
static struct opb_session *
admit(struct opb_services *services, struct slot *slot, struct opb_frame *frame, pid_t pid,
      char *reason, size_t capacity)
{
    struct opb_session *session;
    enum opb_connection_kind kind = OPB_CONNECTION_SERVICE;

    session = check_hello(services, frame, &kind, reason, capacity);
    if (session != NULL && kind != OPB_CONNECTION_SERVICE &&
        !admit_child(services, slot, session, kind == OPB_CONNECTION_CONSOLE, pid, reason,
                     capacity)) {
        opb_session_unref(session);
        session = NULL;
    }
    return session;
}

/* A child process that has lost its host, or a stranger, may try again and again: not in a
 * flood of lines. */
static void
log_refusal(struct opb_services *services, pid_t pid, const char *reason)
{
    uint64_t now_ms = opb_clock_ms();
    uint64_t before_ms = atomic_load(&services->refused_ms);

    if ((before_ms == 0 || now_ms - before_ms > COMPLAIN_EVERY_MS) &&
        atomic_compare_exchange_strong(&services->refused_ms, &before_ms, now_ms)) {
        opb_log_warning("Process %ld was refused at the node's socket: %s", (long)pid,
                        reason);
    }
    else {
        opb_log_info("Process %ld was refused at the node's socket: %s", (long)pid, reason);
    }
}

/* A session with a reference; NULL if the connection is refused. */
static struct opb_session *
shake_hands(struct opb_services *services, struct slot *slot, struct opb_lane *lane)
{
    uint64_t deadline_ms = opb_deadline_ms(HANDSHAKE_MS);
    struct opb_session *session;
    struct opb_frame *frame;
    struct opb_peer peer;
    char reason[256];

    if (opb_socket_peer(opb_lane_fd(lane), &peer) != OPB_OK) {
        return NULL; /* cannot happen with a socket of this kind */
    }
    if (!opb_pool_user_is(&services->node->pool_user, &peer)) {
        (void)snprintf(reason, sizeof(reason), "user %lu may not use this node",
                       (unsigned long)peer.uid); /* fits */
        log_refusal(services, peer.pid, reason);
        return NULL;
    }
    if (opb_lane_receive(lane, &frame, deadline_ms) != OPB_OK) {
        opb_log_info("Process %ld connected to the node's socket without saying hello: %s",
                     (long)peer.pid, opb_lane_failure(lane));
        return NULL;
    }
    session = admit(services, slot, frame, peer.pid, reason, sizeof(reason));
    opb_frame_free(frame);
    if (session == NULL) {
        log_refusal(services, peer.pid, reason);
        if (opb_welcome_refuse(lane, reason, deadline_ms) != OPB_OK) {
            opb_log_info("Process %ld did not wait for the reason", (long)peer.pid);
        }
        return NULL;
    }
    if (services->node->config->shared_memory) {
        opb_lane_offer_memory(lane);
    }
    if (opb_welcome_send(lane, deadline_ms) != OPB_OK) {
        opb_session_unref(session); /* it has left again */
        return NULL;
    }
    return session;
}

static void *
run_lane(void *argument)
{
    struct slot *slot = argument;
    struct opb_services *services = slot->services;
    struct opb_lane *lane = slot->lane;
    struct opb_session *session;

    opb_call_mark_own_thread();
    session = shake_hands(services, slot, lane);
    if (session != NULL) {
        opb_session_adopt(session, lane);
        opb_call_serve_service_lane(slot->child != NULL ? slot->child : session, lane);
        opb_session_forget(session, lane);
        opb_session_unref(session);
    }
    dismiss_child(services, slot);
    pthread_mutex_lock(&services->lock);
    slot->lane = NULL;
    pthread_mutex_unlock(&services->lock);
    opb_lane_close(lane);
    pthread_mutex_lock(&services->lock);
    slot->is_done = true;
    pthread_mutex_unlock(&services->lock);
    return NULL;
}

/* Joins the threads that have ended. */
static void
reap_threads(struct opb_services *services)
{
    for (size_t i = 0; i < services->slot_count; i++) {
        struct slot *slot = &services->slots[i];
        bool is_done;

        pthread_mutex_lock(&services->lock);
        is_done = slot->is_used && slot->is_done;
        pthread_mutex_unlock(&services->lock);
        if (is_done) {
            (void)pthread_join(slot->thread, NULL); /* at once: it is leaving */
            slot->is_used = false;
            slot->is_done = false;
        }
    }
}

static struct slot *
find_free(struct opb_services *services)
{
    for (size_t i = 0; i < services->slot_count; i++) {
        if (!services->slots[i].is_used) {
            return &services->slots[i];
        }
    }
    return NULL;
}

static void
complain(struct opb_services *services, const char *why)
{
    uint64_t now_ms = opb_clock_ms();

    if (services->complained_ms == 0 ||
        now_ms - services->complained_ms > COMPLAIN_EVERY_MS) {
        services->complained_ms = now_ms;
        opb_log_warning("A service lane was refused: %s", why);
    }
}

/* Takes fd. */
static void
begin_lane(struct opb_services *services, int fd)
{
    struct slot *slot = find_free(services);
    struct opb_lane *lane;

    if (slot == NULL) {
        complain(services,
                 "too many threads of the script, and child processes, are inside "
                 "SDK calls");
        goto close_fd;
    }
    if (opb_lane_open(&lane, &fd, &opb_segment_malloc) != OPB_OK) {
        complain(services, strerror(errno));
        goto close_fd;
    }
    slot->services = services;
    slot->lane = lane;
    slot->is_done = false;
    slot->is_used = true; /* before the thread can say that it is done */
    if (opb_own_thread_start(&slot->thread, run_lane, slot, "PY-SERVICE") != OPB_OK) {
        complain(services, strerror(errno));
        slot->is_used = false;
        slot->lane = NULL;
        opb_lane_close(lane);
    }
    return;

close_fd:
    (void)close(fd); /* nothing was written */
}

bool
opb_services_accept(struct opb_services *services)
{
    reap_threads(services);
    for (int i = 0; i < MAX_ACCEPTS_A_TURN; i++) {
        enum opb_status status;
        int fd;

        status = opb_socket_accept(&fd, services->listen_fd);
        if (status == OPB_LATE) {
            return true;
        }
        if (status != OPB_OK) {
            complain(services, strerror(errno));
            return false;
        }
        begin_lane(services, fd);
    }
    return true;
}

void
opb_services_close(struct opb_services *services)
{
    if (services == NULL) {
        return;
    }
    stop_listening(services);
    pthread_mutex_lock(&services->lock);
    for (size_t i = 0; i < services->slot_count; i++) {
        if (services->slots[i].lane != NULL) {
            opb_lane_shutdown(services->slots[i].lane);
        }
    }
    pthread_mutex_unlock(&services->lock);
    for (size_t i = 0; i < services->slot_count; i++) {
        if (services->slots[i].is_used) {
            opb_own_thread_join(services->slots[i].thread,
                                "an SDK call of a Python thread");
        }
    }
    for (size_t i = 0; i < MAX_ALLOWED; i++) {
        opb_session_unref(services->allowed[i]);
    }
    (void)pthread_mutex_destroy(&services->lock); /* nobody can hold it */
    free(services);
}
