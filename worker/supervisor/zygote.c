/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/supervisor/zygote.c - the process of a node that forks its hosts
 *
 * Here:      starting a zygote and its successors, asking it for hosts, and doing without
 *            when it does not deliver.
 * Elsewhere: the zygote's own side (worker/host/zygote.c), what becomes of a host
 * (hosts.c).
 *
 * A host that a zygote has forked is a child of the supervisor, like one that was started
 * without: it lives on when the zygote dies. Between the request and that moment it is
 * "about to be born": in the list of its zygote, in its slot, and nowhere else.
 */
#include "worker/zygote.h"
#include "worker/supervisor/pool.h"

#include "protocol/sockets.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* One process. */
struct run {
    struct opb_zygote *zygote; /* NULL: given up, waits for libuv to let go of it */
    pid_t pid;                 /* not reaped before end_run() */
    int fd;
    uv_poll_t poll;
    uv_timer_t timer;
    uint32_t open_handles;
    bool is_ready;
    uint64_t ready_ms;
    char module[OPB_ZYGOTE_TEXT_BYTES]; /* being imported; "": none so far */
};

struct opb_zygote {
    struct opb_preload preload;
    struct opb_node *node;
    struct run *run;         /* NULL: there is no process */
    struct opb_host *births; /* about to be born */
    uint32_t failure_count;  /* since the last host */
    uv_timer_t timer;        /* starts the next process */
    pid_t *ended;            /* processes that were ready once; what their modules started
                              * goes on until the node has no host */
    uint32_t ended_count;
};

static void
on_closed(uv_handle_t *handle)
{
    struct run *run = handle->data;

    if (--run->open_handles == 0) {
        free(run);
    }
}

static void
on_zygote_closed(uv_handle_t *handle)
{
    free(handle->data);
}

static bool
is_our_child(pid_t pid)
{
    siginfo_t info;

    return pid > 1 && waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0;
}

/* Takes the host out of the list. */
static void
unlink_birth(struct opb_zygote *zygote, struct opb_host *host)
{
    for (struct opb_host **at = &zygote->births; *at != NULL; at = &(*at)->next) {
        if (*at == host) {
            *at = host->next;
            host->next = NULL;
            return;
        }
    }
}

/* Whatever process it has got by now ends: by us, or by the end of its control socket. */
static void
undo_birth(struct opb_host *host)
{
    if (is_our_child(host->pid)) {
        (void)kill(host->pid, SIGKILL); /* not reaped: the id is still its own */
    }
    host->pid = 0;
    (void)close(host->control_fd); /* only a socket */
    host->control_fd = -1;
}

/* Hosts may use what its modules have started. */
static void
remember(struct opb_zygote *zygote, pid_t pid)
{
    pid_t *ended = realloc(zygote->ended, (zygote->ended_count + 1) * sizeof(*ended));

    if (ended != NULL) { /* else that ends with the last host of all nodes */
        ended[zygote->ended_count++] = pid;
        zygote->ended = ended;
    }
}

static void
end_run(struct run *run)
{
    if (run->is_ready) {
        remember(run->zygote, run->pid);
        (void)kill(run->pid, SIGKILL); /* not reaped: the id is still its own */
    }
    else {
        opb_kill_group(run->pid, SIGKILL); /* likewise; it has forked no host */
    }
    run->zygote->run = NULL;
    run->zygote = NULL;
    uv_close((uv_handle_t *)&run->poll, on_closed);
    uv_close((uv_handle_t *)&run->timer, on_closed);
    (void)close(run->fd); /* only a socket */
}

/* Ends the process. Hosts that were about to be born are started without it, or not at all
 * if the node must not start without its modules. */
static void
give_up(struct run *run, const char *why)
{
    struct opb_zygote *zygote = run->zygote;
    struct opb_node *node = zygote->node;
    struct opb_host *births = zygote->births;
    const bool is_fatal =
        zygote->preload.is_strict && !run->is_ready && run->module[0] != '\0';
    char reason[OPB_REASON_BYTES];

    (void)snprintf(reason, sizeof(reason), "could not be started: %s",
                   why); /* may be cut */
    end_run(run);
    zygote->failure_count++;
    zygote->births = NULL;
    if (!is_fatal) {
        opb_pool_log(node->pool, node, OPB_LOG_WARNING, "%s%s", why,
                     births != NULL ? ": starting a host without it" : "");
    }
    while (births != NULL) {
        struct opb_host *host = births;

        births = host->next;
        host->next = NULL;
        undo_birth(host);
        if (is_fatal) {
            opb_host_unborn(host, reason);
        }
        else {
            opb_host_spawn(host);
        }
    }
}

static void start_run(struct opb_zygote *zygote);

static void
on_restart(uv_timer_t *timer)
{
    struct opb_zygote *zygote = timer->data;

    if (zygote->run == NULL) {
        start_run(zygote);
    }
}

/* The process has ended by itself. One that was ready is followed by another, at once if it
 * had lived for a while; else the next host brings it. */
static void
lose_run(struct run *run)
{
    struct opb_zygote *zygote = run->zygote;
    const bool was_ready = run->is_ready;
    const bool is_steady =
        was_ready && opb_clock_ms() - run->ready_ms >= OPB_ZYGOTE_STEADY_MS;
    char why[OPB_REASON_BYTES];

    if (was_ready || run->module[0] == '\0') {
        (void)snprintf(why, sizeof(why), "The zygote (pid %d) has ended%s", /* fits */
                       (int)run->pid, was_ready ? ", and another is started" : "");
    }
    else { /* may be cut */
        (void)snprintf(why, sizeof(why),
                       "The zygote ended while it imported the module \"%.100s\", named by "
                       "Python.Preload",
                       run->module);
    }
    give_up(run, why);
    if (is_steady) {
        zygote->failure_count = 0;
    }
    if (was_ready) {
        (void)uv_timer_start(&zygote->timer, on_restart,
                             is_steady ? 0 : OPB_ZYGOTE_STEADY_MS, 0); /* it is open */
    }
}

static void
on_timer(uv_timer_t *timer)
{
    struct run *run = timer->data;
    char why[OPB_REASON_BYTES];

    if (run->zygote == NULL || run->zygote->births == NULL) {
        return;
    }
    if (run->is_ready) {
        (void)snprintf(why, sizeof(why), /* fits */
                       "The zygote (pid %d) has not forked a host within %u s",
                       (int)run->pid, OPB_ZYGOTE_FORK_MS / 1000u);
    }
    else { /* may be cut */
        (void)snprintf(
            why, sizeof(why), "The zygote (pid %d) was not ready within %u s%s%.100s",
            (int)run->pid, OPB_ZYGOTE_START_MS / 1000u,
            run->module[0] != '\0' ? ": Python.Preload makes it import " : "", run->module);
        run->zygote->preload.is_strict = false; /* slow is not wrong */
    }
    give_up(run, why);
}

static void
watch_births(struct run *run)
{
    (void)uv_timer_stop(&run->timer); /* always 0 */
    if (run->zygote->births != NULL) {
        (void)uv_timer_start(&run->timer, on_timer,
                             run->is_ready ? OPB_ZYGOTE_FORK_MS : OPB_ZYGOTE_START_MS,
                             0); /* it is open */
    }
}

static struct opb_host *
find_birth(const struct opb_zygote *zygote, uint32_t id)
{
    struct opb_host *host = zygote->births;

    while (host != NULL && host->id != id) {
        host = host->next;
    }
    return host;
}

static void
take_started(struct run *run, struct opb_host *host)
{
    if (host == NULL) {
        return; /* no longer wanted: it sees the end of its control socket */
    }
    if (!is_our_child(host->pid)) {
        give_up(run, "The zygote named a process as a host that is none");
        return;
    }
    unlink_birth(run->zygote, host);
    run->zygote->failure_count = 0;
    watch_births(run);
    opb_host_born(host);
}

static void
take_not_started(struct run *run, struct opb_host *host, int error)
{
    struct opb_node *node = run->zygote->node;

    if (host == NULL) {
        return;
    }
    opb_pool_log(node->pool, node, OPB_LOG_WARNING,
                 "The zygote (pid %d) cannot fork a host (%s): starting it without",
                 (int)run->pid, strerror(error));
    unlink_birth(run->zygote, host);
    watch_births(run);
    undo_birth(host);
    opb_host_spawn(host);
}

/* After this the run may have been given up. */
static void
take_note(struct run *run, struct opb_zygote_note *note)
{
    struct opb_zygote *zygote = run->zygote;
    struct opb_host *host = find_birth(zygote, note->id);

    note->text[sizeof(note->text) - 1] = '\0';
    switch (note->word) {
    case OPB_ZYGOTE_LOG:
        opb_pool_log(zygote->node->pool, zygote->node,
                     note->number == OPB_LOG_ERROR ? OPB_LOG_ERROR : OPB_LOG_WARNING, "%s",
                     note->text);
        break;
    case OPB_ZYGOTE_IMPORTING:
        memcpy(run->module, note->text, sizeof(run->module));
        break;
    case OPB_ZYGOTE_FAILED:
        give_up(run, note->text);
        break;
    case OPB_ZYGOTE_READY:
        run->is_ready = true;
        run->ready_ms = opb_clock_ms();
        zygote->preload.is_strict = false;
        watch_births(run);
        break;
    case OPB_ZYGOTE_BORN:
        if (host != NULL) {
            host->pid = note->number;
        }
        break;
    case OPB_ZYGOTE_STARTED:
        take_started(run, host);
        break;
    case OPB_ZYGOTE_NOT_STARTED:
        take_not_started(run, host, note->number);
        break;
    default:
        give_up(run, "The zygote said something that this worker does not know");
        break;
    }
}

/* Takes all that has been said. */
static void
listen_to(struct run *run)
{
    bool is_reset = false;

    while (run->zygote != NULL) {
        struct opb_zygote_note note;
        size_t bytes = 0;
        int fd = -1;
        enum opb_status status = opb_socket_take(run->fd, &note, sizeof(note), &bytes, &fd);

        if (fd >= 0) {
            (void)close(fd); /* nobody asked for it */
        }
        if (status == OPB_LATE) {
            return;
        }
        if (status == OPB_OK && bytes == sizeof(note)) {
            take_note(run, &note);
        }
        else if (status == OPB_GONE && !is_reset) {
            /* If it had not read all, this comes before what it has said. */
            is_reset = true;
        }
        else {
            lose_run(run);
        }
    }
}

static void
on_readable(uv_poll_t *poll, int status, int events)
{
    (void)status; /* an error shows again when it is read */
    (void)events;
    listen_to(poll->data);
}

/* The new zygote is in zygote->run, or there is none and the log says why. */
static void
start_run(struct opb_zygote *zygote)
{
    struct opb_node *node = zygote->node;
    struct opb_pool *pool = node->pool;
    struct run *run = calloc(1, sizeof(*run));
    struct opb_spawned spawned;

    if (run == NULL ||
        !opb_spawn(pool->options->host_program, zygote->preload.arguments, &spawned)) {
        opb_pool_log(pool, node, OPB_LOG_WARNING, "The zygote cannot be started: %s",
                     strerror(run == NULL ? ENOMEM : errno));
        free(run);
        return;
    }
    (void)close(spawned.exec_fd); /* hosts that are started without will tell */
    run->zygote = zygote;
    run->pid = spawned.pid;
    run->fd = spawned.control_fd;
    run->poll.data = run;
    run->timer.data = run;
    run->open_handles = 2;
    (void)uv_timer_init(&pool->loop, &run->timer); /* always 0 */
    if (uv_poll_init(&pool->loop, &run->poll, run->fd) != 0) {
        (void)kill(run->pid, SIGKILL); /* just started, not reaped */
        (void)close(run->fd);
        run->open_handles = 1;
        uv_close((uv_handle_t *)&run->timer, on_closed);
        return;
    }
    (void)uv_poll_start(&run->poll, UV_READABLE, on_readable); /* it is open */
    zygote->run = run;
}

void
opb_zygote_new(struct opb_node *node, struct opb_preload *preload)
{
    struct opb_zygote *zygote = NULL;

    if (!node->pool->options->without_zygotes) {
        zygote = calloc(1, sizeof(*zygote));
    }
    if (zygote == NULL) {
        opb_preload_free(preload);
        return;
    }
    zygote->node = node;
    zygote->preload = *preload;
    memset(preload, 0, sizeof(*preload));
    (void)uv_timer_init(&node->pool->loop, &zygote->timer); /* always 0 */
    zygote->timer.data = zygote;
    node->zygote = zygote;
}

enum opb_status
opb_zygote_ask(struct opb_host *host)
{
    struct opb_zygote *zygote = host->node->zygote;
    struct opb_zygote_note note;
    enum opb_status status;
    int pair[2];

    if (zygote == NULL) {
        return OPB_REFUSED;
    }
    if (zygote->run == NULL) {
        start_run(zygote);
    }
    if (zygote->run == NULL || (!zygote->run->is_ready && zygote->failure_count != 0 &&
                                !zygote->preload.is_strict)) {
        return OPB_LATE; /* its failure is in the log; the next host may find it ready */
    }
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) {
        return OPB_SYSTEM; /* to start it without will fail too, and say so */
    }
    memset(&note, 0, sizeof(note));
    note.word = OPB_ZYGOTE_FORK;
    note.id = host->id;
    status = fcntl(pair[0], F_SETFL, O_NONBLOCK) != 0
                 ? OPB_SYSTEM
                 : opb_socket_pass(zygote->run->fd, &note, sizeof(note), pair[1]);
    (void)close(pair[1]); /* the zygote has its own by now */
    if (status != OPB_OK) {
        (void)close(pair[0]);
        return status; /* it has ended, which is about to be noticed */
    }
    host->control_fd = pair[0];
    host->next = zygote->births;
    zygote->births = host;
    watch_births(zygote->run);
    return OPB_OK;
}

void
opb_zygote_cancel(struct opb_host *host)
{
    unlink_birth(host->node->zygote, host);
    undo_birth(host);
    free(host);
}

void
opb_zygote_end(struct opb_node *node)
{
    struct opb_zygote *zygote = node->zygote;

    if (zygote == NULL) {
        return;
    }
    (void)uv_timer_stop(&zygote->timer); /* always 0 */
    if (zygote->run != NULL) {
        end_run(zygote->run);
    }
    while (zygote->births != NULL) {
        struct opb_host *host = zygote->births;
        struct opb_slot *slot = &node->slots[host->slot];

        if (slot->host == host) {
            slot->host = NULL;
        }
        if (slot->next == host) {
            slot->next = NULL;
        }
        zygote->births = host->next;
        undo_birth(host);
        free(host);
    }
}

/* The node has no host any more. */
static void
kill_what_is_left(struct opb_zygote *zygote)
{
    for (uint32_t i = 0; i < zygote->ended_count; i++) {
        if (is_our_child(zygote->ended[i])) {
            opb_kill_group(zygote->ended[i], SIGKILL); /* about to be reaped */
        }
        else {
            opb_kill_left_by_zygote(zygote->node->pool, zygote->ended[i]);
        }
    }
    free(zygote->ended);
    zygote->ended = NULL;
    zygote->ended_count = 0;
}

void
opb_zygote_free(struct opb_node *node)
{
    if (node->zygote != NULL) {
        opb_zygote_end(node);
        kill_what_is_left(node->zygote);
        opb_preload_free(&node->zygote->preload);
        uv_close((uv_handle_t *)&node->zygote->timer, on_zygote_closed);
        node->zygote = NULL;
    }
}

static void
look_at_child(struct run *run, pid_t pid)
{
    struct opb_host *host;

    listen_to(run);
    if (run->zygote == NULL) {
        return;
    }
    if (run->pid == pid) {
        lose_run(run); /* without a word: something holds its socket open */
        return;
    }
    host = run->zygote->births;
    while (host != NULL && host->pid != pid) {
        host = host->next;
    }
    if (host != NULL) {
        host->pid = 0;
        take_not_started(run, host, ECHILD);
    }
}

void
opb_zygote_child_died(struct opb_pool *pool, pid_t pid)
{
    for (const struct opb_node *node = pool->nodes; node != NULL; node = node->next) {
        if (node->zygote != NULL && node->zygote->run != NULL) {
            look_at_child(node->zygote->run, pid);
        }
    }
}

bool
opb_zygote_is(const struct opb_pool *pool, pid_t pid)
{
    for (const struct opb_node *node = pool->nodes; node != NULL; node = node->next) {
        if (node->zygote != NULL && node->zygote->run != NULL &&
            node->zygote->run->pid == pid) {
            return true;
        }
    }
    return false;
}

bool
opb_zygote_is_busy(const struct opb_pool *pool)
{
    for (const struct opb_node *node = pool->nodes; node != NULL; node = node->next) {
        if (node->zygote != NULL && node->zygote->births != NULL) {
            return true;
        }
    }
    return false;
}
