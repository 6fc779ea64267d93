/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/supervisor/hosts.c - starting hosts, giving them lanes, and their death
 *
 * Here:      fork and exec of the host program, the control socket, backoff, signals.
 * Elsewhere: hosts that come from a zygote (zygote.c), noticing a death (reaper.c), telling
 * the node (nodes.c), all that a host does (worker/host).
 */
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

#define HOST_CONTROL_FD  3
#define EXEC_FAILED_CODE 127

struct opb_host *
opb_host_find_pid(struct opb_pool *pool, pid_t pid)
{
    for (struct opb_host *host = pool->hosts; host != NULL; host = host->next) {
        if (host->pid == pid) {
            return host;
        }
    }
    return NULL;
}

struct opb_host *
opb_host_find(const struct opb_node *node, uint32_t id)
{
    for (struct opb_host *host = node->pool->hosts; host != NULL; host = host->next) {
        if (host->node == node && host->id == id) {
            return host;
        }
    }
    return NULL;
}

/* In the child: nothing but what is safe between fork and exec. Never returns. */
static void
run_program(const char *program, char *const *arguments, int control_fd, int exec_fd)
{
    struct sigaction standard;
    sigset_t none;
    int error;

    (void)setsid(); /* a new child leads no group: it works */
    memset(&standard, 0, sizeof(standard));
    standard.sa_handler = SIG_DFL;
    for (int i = 1; i < NSIG; i++) {
        (void)sigaction(i, &standard,
                        NULL); /* fails for KILL, STOP and the C library's own */
    }
    (void)sigemptyset(&none);                    /* always 0 */
    (void)sigprocmask(SIG_SETMASK, &none, NULL); /* always 0 */
    if (exec_fd == HOST_CONTROL_FD) {
        exec_fd = fcntl(exec_fd, F_DUPFD_CLOEXEC, HOST_CONTROL_FD + 1);
    }
    if (control_fd == HOST_CONTROL_FD) {
        (void)fcntl(control_fd, F_SETFD, 0); /* the host would miss it and end at once */
    }
    else {
        (void)dup2(control_fd, HOST_CONTROL_FD); /* likewise */
    }
    (void)execv(program, arguments);
    error = errno;
    (void)!write(exec_fd, &error, sizeof(error)); /* lost: the exit code still says it */
    _exit(EXEC_FAILED_CODE);
}

/* Forks with all signals blocked, so that no handler of ours runs in the child. */
static pid_t
fork_program(const char *program, char *const *arguments, int control_fd, int exec_fd)
{
    sigset_t all;
    sigset_t before;
    pid_t pid;
    int error;

    (void)sigfillset(&all);                        /* always 0 */
    (void)sigprocmask(SIG_SETMASK, &all, &before); /* always 0 */
    pid = fork();
    if (pid == 0) {
        run_program(program, arguments, control_fd, exec_fd);
    }
    error = errno;
    (void)sigprocmask(SIG_SETMASK, &before, NULL); /* always 0 */
    errno = error;
    return pid;
}

bool
opb_spawn(const char *program, char *const *arguments, struct opb_spawned *out)
{
    int pair[2] = {-1, -1};
    int pipe_ends[2] = {-1, -1};
    bool is_done = false;
    int error;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0 ||
        fcntl(pair[0], F_SETFL, O_NONBLOCK) != 0 || pipe2(pipe_ends, O_CLOEXEC) != 0 ||
        fcntl(pipe_ends[0], F_SETFL, O_NONBLOCK) != 0) {
        goto close_all;
    }
    out->pid = fork_program(program, arguments, pair[1], pipe_ends[1]);
    if (out->pid > 0) {
        out->control_fd = pair[0];
        out->exec_fd = pipe_ends[0];
        pair[0] = -1;
        pipe_ends[0] = -1;
        is_done = true;
    }

close_all:
    error = errno;
    for (int i = 0; i < 2; i++) {
        if (pair[i] >= 0) {
            (void)close(pair[i]);
        }
        if (pipe_ends[i] >= 0) {
            (void)close(pipe_ends[i]);
        }
    }
    errno = error;
    return is_done;
}

/* How long the next start waits: not at all for the first death, then longer for each
 * that follows soon. */
static void
count_failure(struct opb_slot *slot, uint64_t lived_ms)
{
    if (lived_ms >= OPB_HEALTHY_MS) {
        slot->failure_count = 0;
    }
    slot->respawn_delay_ms = 0;
    if (slot->failure_count != 0) {
        slot->respawn_delay_ms = OPB_BACKOFF_FIRST_MS;
        for (uint32_t i = 1;
             i < slot->failure_count && slot->respawn_delay_ms < OPB_BACKOFF_LAST_MS; i++) {
            slot->respawn_delay_ms *= 2;
        }
        if (slot->respawn_delay_ms > OPB_BACKOFF_LAST_MS) {
            slot->respawn_delay_ms = OPB_BACKOFF_LAST_MS;
        }
    }
    if (slot->failure_count < UINT32_MAX) {
        slot->failure_count++;
    }
}

/* Too many deaths in too short a time: the next start waits long, since something is wrong
 * that a restart does not mend. */
static void
limit_restarts(struct opb_slot *slot, uint64_t lived_ms)
{
    const struct opb_node *node = slot->node;
    uint64_t now = opb_clock_ms();
    uint64_t *oldest;

    if (node->max_restarts == 0) {
        return;
    }
    if (lived_ms >= node->restart_window_ms) {
        slot->is_slow = false;
        slot->death_count = 0;
    }
    oldest = &slot->deaths_ms[slot->death_count % node->max_restarts];
    if (!slot->is_slow && slot->death_count >= node->max_restarts &&
        now - *oldest <= node->restart_window_ms) {
        slot->is_slow = true;
        opb_pool_log(node->pool, slot->node, OPB_LOG_ERROR,
                     "More than %u hosts have died within %g s: from now on one is started "
                     "every %u s only, until one lives for %g s. Python.MaxRestarts and "
                     "Python.RestartWindow set this limit",
                     node->max_restarts, (double)node->restart_window_ms / 1000.0,
                     OPB_SLOW_MS / 1000u, (double)node->restart_window_ms / 1000.0);
    }
    *oldest = now;
    slot->death_count++;
    if (slot->is_slow) {
        slot->respawn_delay_ms = OPB_SLOW_MS;
    }
}

void
opb_host_spawn(struct opb_host *host)
{
    static char name[] = "orthanc-python-host";
    static char option[] = "--control-fd";
    static char number[] = "3";
    static char environment[] = "--venv";
    char *arguments[] = {name, option, number, NULL, NULL, NULL};
    struct opb_spawned spawned;
    char reason[OPB_REASON_BYTES];

    if (host->node->environment != NULL) {
        arguments[3] = environment;
        arguments[4] = host->node->environment;
    }
    if (!opb_spawn(host->node->pool->options->host_program, arguments, &spawned)) {
        (void)snprintf(reason, sizeof(reason), "could not be started: %s",
                       strerror(errno)); /* fits */
        opb_host_unborn(host, reason);
        return;
    }
    host->pid = spawned.pid;
    host->control_fd = spawned.control_fd;
    host->exec_fd = spawned.exec_fd;
    opb_host_born(host);
}

void
opb_host_born(struct opb_host *host)
{
    struct opb_node *node = host->node;

    host->is_born = true;
    host->started_ms = opb_clock_ms();
    host->next = node->pool->hosts;
    node->pool->hosts = host;
    opb_scripts_bind(host);
    if (node->slots[host->slot].next == host) {
        opb_node_next_started(&node->slots[host->slot], host->id, host->pid);
    }
    else {
        opb_node_host_started(node, host);
    }
}

/* There will be no host of that number in the slot, or beside the one of the slot. */
static void
give_up(struct opb_slot *slot, bool is_next, uint32_t id, const char *reason)
{
    struct opb_node *node = slot->node;

    if (is_next) {
        slot->next = NULL;
        opb_node_next_started(slot, id, 0);
        opb_node_host_died(node, id, 0, reason);
        return;
    }
    slot->host = NULL;
    count_failure(slot, 0);
    limit_restarts(slot, 0);
    opb_node_host_died(node, id, 0, reason);
    opb_node_slot_free(node, slot); /* starts the next attempt's timer */
}

void
opb_host_unborn(struct opb_host *host, const char *reason)
{
    struct opb_slot *slot = &host->node->slots[host->slot];
    const bool is_next = slot->next == host;
    const uint32_t id = host->id;

    free(host);
    give_up(slot, is_next, id, reason);
}

/* Starts a host in *place, which is the slot's or beside it. */
static void
start(struct opb_slot *slot, struct opb_host **place)
{
    struct opb_pool *pool = slot->node->pool;
    struct opb_host *host = calloc(1, sizeof(*host));

    pool->last_host_id++;
    if (host == NULL) {
        give_up(slot, place == &slot->next, pool->last_host_id,
                "could not be started: the worker is out of memory");
        return;
    }
    host->id = pool->last_host_id;
    host->node = slot->node;
    host->slot = slot->index;
    host->control_fd = -1;
    host->exec_fd = -1;
    host->stacks_fd = -1;
    host->look.fd = -1;
    *place = host;
    if (opb_zygote_ask(host) != OPB_OK) {
        opb_host_spawn(host);
    }
}

void
opb_host_start(struct opb_slot *slot)
{
    const struct opb_node *node = slot->node;

    if (node->state == OPB_NODE_ATTACHED && !node->pool->is_stopping &&
        slot->host == NULL) {
        start(slot, &slot->host);
    }
}

void
opb_host_start_next(struct opb_slot *slot)
{
    const struct opb_node *node = slot->node;

    if (node->state != OPB_NODE_ATTACHED || node->pool->is_stopping) {
        return;
    }
    if (slot->next != NULL) {
        slot->is_next_wanted = slot->next->reason[0] != '\0';
        return;
    }
    start(slot, &slot->next);
}

static uint32_t
count_hosts(const struct opb_slot *slot)
{
    const struct opb_node *node = slot->node;
    uint32_t count = 0;

    for (const struct opb_host *host = node->pool->hosts; host != NULL; host = host->next) {
        count += host->node == node && host->slot == slot->index ? 1 : 0;
    }
    return count;
}

void
opb_host_switch(struct opb_slot *slot, uint32_t id)
{
    struct opb_host *next = slot->next != NULL && slot->next->id == id ? slot->next : NULL;

    if (slot->host != NULL && !slot->host->is_born) {
        opb_zygote_cancel(slot->host); /* nobody has been told of it */
        slot->host = NULL;
    }
    if (slot->host != NULL && slot->host != next &&
        count_hosts(slot) >= OPB_MAX_SLOT_HOSTS) {
        opb_host_replace(slot->host, "was killed, since its node keeps too many");
    }
    (void)uv_timer_stop(&slot->timer); /* always 0 */
    slot->failure_count = 0;
    slot->death_count = 0;
    slot->is_slow = false;
    slot->respawn_delay_ms = 0;
    slot->host = next;
    if (next != NULL) {
        slot->next = NULL;
    }
    else {
        opb_node_slot_free(slot->node, slot); /* it has died: starts another */
    }
}

void
opb_kill_group(pid_t pid, int signal_number)
{
    if (kill(-pid, signal_number) != 0) {
        (void)kill(pid, signal_number); /* between fork and setsid; else it is dead */
    }
}

void
opb_host_kill(struct opb_host *host, int signal_number)
{
    opb_kill_group(host->pid, signal_number);
}

void
opb_host_replace(struct opb_host *host, const char *reason)
{
    if (host->control_fd < 0) {
        return; /* has died of something else */
    }
    if (host->reason[0] == '\0') {
        (void)snprintf(host->reason, sizeof(host->reason), "%s", reason); /* may be cut */
    }
    opb_host_kill(host, SIGKILL);
}

enum opb_status
opb_host_pass(struct opb_host *host, enum opb_connection_kind kind, int fd)
{
    const uint8_t byte = (uint8_t)kind;
    enum opb_status status = opb_socket_pass(host->control_fd, &byte, 1, fd);

    if (status == OPB_SYSTEM && errno == ETOOMANYREFS) {
        return OPB_LATE; /* too many descriptors that hosts have not taken yet */
    }
    return status;
}

/* Why the host ended. */
static void
describe_death(const struct opb_host *host, int wait_status, char *out, size_t capacity)
{
    int error = 0;

    if (host->reason[0] != '\0') {
        (void)snprintf(out, capacity, "%s", host->reason); /* same size */
    }
    else if (read(host->exec_fd, &error, sizeof(error)) == (ssize_t)sizeof(error)) {
        (void)snprintf(out, capacity, "could not be started: %s: %s",
                       host->node->pool->options->host_program,
                       strerror(error)); /* may be cut */
    }
    else if (WIFSIGNALED(wait_status)) {
        (void)snprintf(out, capacity, "was killed by signal %d (%s)", WTERMSIG(wait_status),
                       strsignal(WTERMSIG(wait_status))); /* fits */
    }
    else {
        (void)snprintf(out, capacity, "ended with exit code %d",
                       WEXITSTATUS(wait_status)); /* fits */
    }
}

void
opb_host_died(struct opb_host *host, int wait_status)
{
    struct opb_node *node = host->node;
    struct opb_pool *pool = node->pool;
    struct opb_slot *slot = &node->slots[host->slot];
    uint64_t now = opb_clock_ms();
    char reason[OPB_REASON_BYTES];

    opb_stacks_end(host);
    opb_look_end(host);
    describe_death(host, wait_status, reason, sizeof(reason));
    (void)close(host->control_fd);
    if (host->exec_fd >= 0) {
        (void)close(host->exec_fd);
    }
    host->control_fd = -1;
    host->exec_fd = -1;
    for (struct opb_host **at = &pool->hosts; *at != NULL; at = &(*at)->next) {
        if (*at == host) {
            *at = host->next;
            break;
        }
    }
    host->next = pool->dead;
    pool->dead = host;
    host->sweep_until_ms = now + OPB_TERMINATE_MS;
    if (slot->host == host) {
        count_failure(slot, now - host->started_ms);
        limit_restarts(slot, now - host->started_ms);
    }
    if (slot->next == host) {
        slot->next = NULL;
    }
    opb_node_host_died(node, host->id, host->pid, reason);
    if (slot->is_next_wanted && slot->next == NULL) {
        slot->is_next_wanted = false;
        opb_host_start_next(slot);
    }
}
