/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/supervisor/reaper.c - dead children, and what dead hosts leave behind
 *
 * Here:      SIGCHLD, and the orphans that the kernel gives to the supervisor (it is
 *            their subreaper) when a host dies: processes that left the host's group.
 * Elsewhere: what the death of a host leads to (hosts.c, nodes.c).
 */
#include "worker/supervisor/pool.h"

#include "protocol/sockets.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

struct process {
    pid_t parent;
    pid_t session;
    char state;
};

/* False if the process has ended meanwhile. */
static bool
read_process(const char *pid_text, struct process *out)
{
    char path[64];
    char text[512];
    char *fields;
    ssize_t bytes;
    int parent;
    int group;
    int session;
    int fd;

    if (snprintf(path, sizeof(path), "/proc/%s/stat", pid_text) >= (int)sizeof(path)) {
        return false;
    }
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return false;
    }
    bytes = read(fd, text, sizeof(text) - 1);
    (void)close(fd); /* read only */
    if (bytes <= 0) {
        return false;
    }
    text[bytes] = '\0';
    fields = strrchr(text, ')'); /* the name before it may hold anything */
    if (fields == NULL ||
        sscanf(fields + 1, " %c %d %d %d", &out->state, &parent, &group, &session) != 4) {
        return false;
    }
    out->parent = parent;
    out->session = session;
    return true;
}

static bool
is_session_of_a_host(const struct opb_pool *pool, pid_t session)
{
    for (const struct opb_host *host = pool->hosts; host != NULL; host = host->next) {
        if (host->pid == session) {
            return true;
        }
    }
    return false;
}

/* A process that left its session no longer says whose it was. So it is killed once
 * no host is left that it could belong to. */
static bool
is_orphan_of(const struct opb_pool *pool, pid_t session, const struct process *process)
{
    if (process->session == session) {
        return true;
    }
    if (is_session_of_a_host(pool, process->session)) {
        return false;
    }
    return pool->hosts == NULL && !opb_zygote_is_busy(pool);
}

/* SIGKILL to our children that the leader of a session has left behind (0: any). Returns
 * how many there are; a zombie does not count, opb_reap() takes it. */
static uint32_t
kill_orphans_of(struct opb_pool *pool, pid_t session)
{
    const pid_t self = getpid();
    const struct dirent *entry;
    uint32_t count = 0;
    DIR *directory;

    directory = opendir("/proc");
    if (directory == NULL) {
        opb_pool_log(pool, NULL, OPB_LOG_ERROR,
                     "cannot look for orphans of a dead host: /proc: %s", strerror(errno));
        return 0;
    }
    while ((entry = readdir(directory)) != NULL) {
        struct process process;
        long pid = strtol(entry->d_name, NULL, 10);

        if (pid <= 0 || !read_process(entry->d_name, &process) || process.parent != self ||
            process.state == 'Z' || process.state == 'X' ||
            opb_host_find_pid(pool, (pid_t)pid) != NULL ||
            opb_zygote_is(pool, (pid_t)pid) || !is_orphan_of(pool, session, &process)) {
            continue;
        }
        (void)kill((pid_t)pid,
                   SIGKILL); /* our child and not reaped: the id is still its own */
        count++;
    }
    (void)closedir(directory);
    return count;
}

bool
opb_kill_orphans(struct opb_pool *pool)
{
    return kill_orphans_of(pool, 0) != 0;
}

void
opb_kill_left_by_zygote(struct opb_pool *pool, pid_t zygote)
{
    if (opb_host_find_pid(pool, zygote) == NULL && !opb_zygote_is(pool, zygote)) {
        (void)kill_orphans_of(pool, zygote);
    }
}

static void
bury(struct opb_pool *pool, struct opb_host *host)
{
    struct opb_node *node = host->node;
    struct opb_slot *slot = &node->slots[host->slot];

    for (struct opb_host **at = &pool->dead; *at != NULL; at = &(*at)->next) {
        if (*at == host) {
            *at = host->next;
            break;
        }
    }
    if (slot->host == host) {
        slot->host = NULL;
        free(host);
        opb_node_slot_free(node, slot); /* may end the node */
    }
    else {
        free(host);
        opb_node_host_gone(node); /* likewise */
    }
}

static void
on_sweep_timer(uv_timer_t *timer)
{
    struct opb_pool *pool = timer->data;

    opb_reap(pool);
    opb_sweep(pool);
}

void
opb_sweep_soon(struct opb_pool *pool, uint64_t delay_ms)
{
    (void)uv_timer_start(&pool->sweep_timer, on_sweep_timer, delay_ms, 0); /* it is open */
}

void
opb_sweep(struct opb_pool *pool)
{
    bool is_looking = opb_look_check(pool);
    bool is_waiting = opb_stacks_check(pool) || is_looking;
    struct opb_host *next;

    for (struct opb_host *host = pool->dead; host != NULL; host = next) {
        uint32_t count = kill_orphans_of(pool, host->pid);

        next = host->next;
        if (count != 0 && opb_clock_ms() < host->sweep_until_ms) {
            continue;
        }
        if (count != 0) {
            opb_pool_log(pool, host->node, OPB_LOG_ERROR,
                         "host %u (process %d) left %u processes that SIGKILL does not end",
                         host->id, (int)host->pid, count);
        }
        bury(pool, host);
    }
    if (pool->dead != NULL || pool->is_stopping || is_waiting) {
        opb_sweep_soon(pool, OPB_SWEEP_MS);
    }
    opb_pool_check_stopped(pool);
}

void
opb_reap(struct opb_pool *pool)
{
    for (;;) {
        struct opb_host *host;
        siginfo_t info;
        int status = 0;

        memset(&info, 0, sizeof(info));
        if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) != 0 || info.si_pid == 0) {
            return; /* no child, or none that is dead */
        }
        host = opb_host_find_pid(pool, info.si_pid);
        if (host == NULL) {
            opb_zygote_child_died(pool, info.si_pid);
            host = opb_host_find_pid(pool, info.si_pid);
        }
        if (host != NULL) {
            opb_host_kill(host, SIGKILL); /* its group, while its id cannot be another's */
        }
        if (waitpid(info.si_pid, &status, 0) != info.si_pid) {
            return; /* cannot be: it was dead a moment ago */
        }
        if (host != NULL) {
            opb_host_died(host, status);
        }
    }
}
