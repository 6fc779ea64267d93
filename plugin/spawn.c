/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/spawn.c - the process of a managed pool
 *
 * Here:      see spawn.h.
 * Elsewhere: where the executable is (worker_path.c).
 *
 * posix_spawn() alone: nothing may run in a forked copy of a server with many threads. The
 * child keeps stdout and stderr, which are the script's, and its end of the lifeline as
 * descriptor 3; older servers would leak their DICOM sockets to it otherwise.
 */
#include "plugin/spawn.h"

#include "plugin/log.h"
#include "plugin/worker_path.h"
#include "protocol/limits.h"
#include "protocol/sockets.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define LIFELINE_FD    3
#define MAX_LINE_BYTES 512u
#define END_MS         2000u /* for the daemon to end by itself, and after each signal */
#define WAIT_STEP_MS   10
#define MAX_ANCESTORS  32 /* ends the walk, if processes come and go meanwhile */

struct opb_daemon {
    char *program;
    pid_t pid;
    int pidfd;
    int lifeline;
    bool is_reaped;
    int wait_status; /* -1: unknown, somebody else has reaped it */
};

extern char **environ;

pid_t
opb_daemon_pid(const struct opb_daemon *daemon)
{
    return daemon->pid;
}

int
opb_daemon_pidfd(const struct opb_daemon *daemon)
{
    return daemon->pidfd;
}

int
opb_daemon_lifeline(const struct opb_daemon *daemon)
{
    return daemon->lifeline;
}

/* 0: there is no such process, or we may not see it. */
static pid_t
parent_of(pid_t pid)
{
    char path[64];
    char text[512]; /* the name before the parent has 64 bytes at most */
    const char *end;
    size_t bytes;
    long parent = 0;
    FILE *file;

    (void)snprintf(path, sizeof(path), "/proc/%ld/stat", (long)pid); /* fits */
    file = fopen(path, "re");
    if (file == NULL) {
        return 0;
    }
    bytes = fread(text, 1, sizeof(text) - 1, file);
    (void)fclose(file); /* was only read */
    text[bytes] = '\0';
    end = strrchr(text, ')'); /* the name may hold anything */
    if (end == NULL || sscanf(end + 1, " %*c %19ld", &parent) != 1) {
        return 0;
    }
    return (pid_t)parent;
}

enum opb_kinship
opb_process_kinship(pid_t ancestor, pid_t pid)
{
    for (int i = 0; i < MAX_ANCESTORS; i++) {
        pid_t parent = parent_of(pid);

        if (parent == ancestor) {
            return OPB_KINSHIP_OWN;
        }
        if (parent <= 1) {
            return i == 0 && parent == 0 ? OPB_KINSHIP_UNKNOWN : OPB_KINSHIP_NONE;
        }
        pid = parent;
    }
    return OPB_KINSHIP_NONE;
}

enum opb_kinship
opb_daemon_kinship(const struct opb_daemon *daemon, pid_t pid)
{
    return opb_process_kinship(daemon->pid, pid);
}

static bool
reap(struct opb_daemon *daemon)
{
    pid_t pid;

    if (daemon->is_reaped) {
        return true;
    }
    do {
        pid = waitpid(daemon->pid, &daemon->wait_status, WNOHANG);
    } while (pid < 0 && errno == EINTR);
    if (pid < 0) {
        daemon->wait_status = -1;
    }
    daemon->is_reaped = pid != 0;
    return daemon->is_reaped;
}

bool
opb_daemon_wait_end(struct opb_daemon *daemon, uint64_t timeout_ms)
{
    uint64_t deadline_ms = opb_clock_ms() + timeout_ms;

    while (!reap(daemon)) {
        struct pollfd item = {.fd = daemon->pidfd, .events = POLLIN};
        int left_ms = opb_deadline_poll(deadline_ms);

        if (left_ms == 0) {
            return false;
        }
        if (daemon->pidfd < 0 && left_ms > WAIT_STEP_MS) {
            left_ms = WAIT_STEP_MS;
        }
        (void)poll(&item, 1, left_ms); /* woken early: the loop looks again */
    }
    return true;
}

static void
describe_end(const struct opb_daemon *daemon, char *out, size_t capacity)
{
    int status = daemon->wait_status;

    /* all of them fit in any sensible buffer, else they are cut */
    if (!daemon->is_reaped) {
        (void)snprintf(out, capacity, "does not end, not even by SIGKILL");
    }
    else if (status == -1) {
        (void)snprintf(out, capacity, "ended, nobody knows how");
    }
    else if (WIFSIGNALED(status)) {
        (void)snprintf(out, capacity, "was killed by signal %d (%s)", WTERMSIG(status),
                       strsignal(WTERMSIG(status)));
    }
    else {
        (void)snprintf(out, capacity, "ended with exit code %d", WEXITSTATUS(status));
    }
}

static void
free_daemon(struct opb_daemon *daemon)
{
    if (daemon->lifeline >= 0) {
        (void)close(daemon->lifeline); /* a socket: nothing is lost */
    }
    if (daemon->pidfd >= 0) {
        (void)close(daemon->pidfd); /* holds no data */
    }
    free(daemon->program);
    free(daemon);
}

void
opb_daemon_kill(struct opb_daemon *daemon, char *how, size_t capacity)
{
    if (!reap(daemon)) {
        (void)kill(daemon->pid, SIGKILL); /* not reaped, so the number is still its own */
        if (!opb_daemon_wait_end(daemon, END_MS)) {
            opb_log_error("The worker (pid %ld) does not end, not even by SIGKILL",
                          (long)daemon->pid);
        }
    }
    if (how != NULL) {
        describe_end(daemon, how, capacity);
    }
    free_daemon(daemon);
}

void
opb_daemon_stop(struct opb_daemon *daemon)
{
    if (daemon == NULL) {
        return;
    }
    (void)shutdown(daemon->lifeline, SHUT_RDWR); /* it may have ended already */
    if (opb_daemon_wait_end(daemon, END_MS)) {
        free_daemon(daemon);
        return;
    }
    opb_log_warning("The worker (pid %ld) has not ended within %u s: sending SIGTERM",
                    (long)daemon->pid, END_MS / 1000);
    (void)kill(daemon->pid, SIGTERM); /* not reaped, so the number is still its own */
    if (!opb_daemon_wait_end(daemon, END_MS)) {
        opb_log_warning("The worker (pid %ld) ignores SIGTERM: sending SIGKILL",
                        (long)daemon->pid);
    }
    opb_daemon_kill(daemon, NULL, 0);
}

/* What a child may not inherit from Orthanc's threads: blocked and ignored signals. */
static int
set_attributes(posix_spawnattr_t *attributes)
{
    sigset_t signals;
    int error;

    error = posix_spawnattr_setflags(
        attributes,
        (short)(POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK));
    if (error != 0) {
        return error;
    }
    (void)sigemptyset(&signals); /* cannot fail */
    error = posix_spawnattr_setsigmask(attributes, &signals);
    if (error != 0) {
        return error;
    }
    (void)sigfillset(&signals); /* cannot fail, nor can these two */
    (void)sigdelset(&signals, SIGKILL);
    (void)sigdelset(&signals, SIGSTOP);
    return posix_spawnattr_setsigdefault(attributes, &signals);
}

static int
set_actions(posix_spawn_file_actions_t *actions, int lifeline)
{
    int error;

    /* first: the lifeline may have any number, 0 to 3 included */
    error = posix_spawn_file_actions_adddup2(actions, lifeline, LIFELINE_FD);
    if (error == 0) {
        error = posix_spawn_file_actions_addopen(actions, STDIN_FILENO, "/dev/null",
                                                 O_RDONLY, 0);
    }
    if (error == 0) {
        error = posix_spawn_file_actions_addclosefrom_np(actions, LIFELINE_FD + 1);
    }
    return error;
}

/* 0, or an errno. */
static int
spawn(struct opb_daemon *daemon, const char *socket_path, int lifeline)
{
    char *arguments[] = {
        strdup("orthanc-python-worker"), strdup("--socket"), strdup(socket_path),
        strdup("--managed-fd"),          strdup("3"),        NULL};
    size_t argument_count = sizeof(arguments) / sizeof(arguments[0]) - 1;
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    int error = ENOMEM;

    for (size_t i = 0; i < argument_count; i++) {
        if (arguments[i] == NULL) {
            goto free_arguments;
        }
    }
    error = posix_spawn_file_actions_init(&actions);
    if (error != 0) {
        goto free_arguments;
    }
    error = posix_spawnattr_init(&attributes);
    if (error != 0) {
        goto destroy_actions;
    }
    error = set_attributes(&attributes);
    if (error == 0) {
        error = set_actions(&actions, lifeline);
    }
    if (error == 0) {
        error = posix_spawn(&daemon->pid, daemon->program, &actions, &attributes, arguments,
                            environ);
    }
    (void)posix_spawnattr_destroy(&attributes); /* only frees */

destroy_actions:
    (void)posix_spawn_file_actions_destroy(&actions); /* only frees */
free_arguments:
    for (size_t i = 0; i < argument_count; i++) {
        free(arguments[i]);
    }
    return error;
}

/* Reads the daemon's first line, without its newline. */
static enum opb_status
read_line(struct opb_daemon *daemon, int cancel_fd, uint64_t deadline_ms,
          char line[MAX_LINE_BYTES])
{
    struct pollfd items[] = {{.fd = daemon->lifeline, .events = POLLIN},
                             {.fd = cancel_fd, .events = POLLIN}};
    size_t used = 0;

    while (used < MAX_LINE_BYTES) {
        ssize_t got;

        if (poll(items, 2, opb_deadline_poll(deadline_ms)) == 0) {
            return OPB_LATE;
        }
        if (items[1].revents != 0) {
            return OPB_STOPPING;
        }
        got = recv(daemon->lifeline, line + used, 1, MSG_DONTWAIT);
        if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) {
            return OPB_GONE;
        }
        if (got == 1 && line[used] == '\n') {
            line[used] = '\0';
            return OPB_OK;
        }
        if (got == 1) {
            line[used] = isprint((unsigned char)line[used]) ? line[used] : '?';
            used++;
        }
    }
    return OPB_BAD_FRAME;
}

/* "READY <protocol version> <pid>" or "ERROR <text>". */
static enum opb_status
check_line(const struct opb_daemon *daemon, const char *line, char *message,
           size_t capacity)
{
    unsigned version;
    long pid;
    char rest;

    /* a message that does not fit is cut */
    if (sscanf(line, "READY %9u %9ld%c", &version, &pid, &rest) == 2) {
        if (version == OPB_PROTOCOL_VERSION) {
            return OPB_OK;
        }
        (void)snprintf(message, capacity,
                       "The worker %s speaks version %u of the protocol, and this plugin "
                       "version %d: install both from the same release",
                       daemon->program, version, OPB_PROTOCOL_VERSION);
        return OPB_VERSION;
    }
    if (strncmp(line, "ERROR ", 6) == 0) {
        (void)snprintf(message, capacity, "The worker %s could not start: %s",
                       daemon->program, line + 6);
        return OPB_REFUSED;
    }
    (void)snprintf(message, capacity,
                   "The worker %s answered \"%.100s\", which is no answer of this plugin's "
                   "worker: check the configuration option \"Python.Worker\"",
                   daemon->program, line);
    return OPB_BAD_FRAME;
}

static enum opb_status
wait_ready(struct opb_daemon *daemon, int cancel_fd, uint64_t deadline_ms, char *message,
           size_t capacity)
{
    char line[MAX_LINE_BYTES + 1] = "";
    char how[128];
    enum opb_status status = read_line(daemon, cancel_fd, deadline_ms, line);

    /* a message that does not fit is cut */
    switch (status) {
    case OPB_OK:
        return check_line(daemon, line, message, capacity);
    case OPB_LATE:
        (void)snprintf(message, capacity,
                       "The worker %s was not ready in time: if this machine is very slow, "
                       "raise the configuration option \"Python.StartTimeout\"",
                       daemon->program);
        return status;
    case OPB_STOPPING:
        (void)snprintf(message, capacity, "The worker %s is not needed any more",
                       daemon->program);
        return status;
    case OPB_GONE:
        (void)opb_daemon_wait_end(daemon,
                                  END_MS); /* describe_end() says if it has not ended */
        describe_end(daemon, how, sizeof(how));
        (void)snprintf(message, capacity, "The worker %s %s before it was ready",
                       daemon->program, how);
        return status;
    default:
        (void)snprintf(message, capacity,
                       "The worker %s answered something else than READY", daemon->program);
        return OPB_BAD_FRAME;
    }
}

static enum opb_status
launch(struct opb_daemon *daemon, const char *socket_path, char *message, size_t capacity)
{
    int pair[2];
    int error;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) {
        error = errno;
    }
    else {
        error = spawn(daemon, socket_path, pair[1]);
        (void)close(pair[1]); /* the child has its own */
        daemon->lifeline = pair[0];
    }
    if (error != 0) {
        /* a message that does not fit is cut */
        (void)snprintf(message, capacity, "The worker %s cannot be started: %s",
                       daemon->program, strerror(error));
        return OPB_SYSTEM;
    }
    /* -1 on old kernels: the lifeline tells the same, a little later */
    daemon->pidfd = (int)syscall(SYS_pidfd_open, daemon->pid, 0);
    return OPB_OK;
}

enum opb_status
opb_daemon_start(struct opb_daemon **out, const char *configured, const char *socket_path,
                 int cancel_fd, uint64_t deadline_ms, char *message, size_t capacity)
{
    struct opb_daemon *daemon;
    enum opb_status status;

    *out = NULL;
    message[0] = '\0';
    daemon = calloc(1, sizeof(*daemon));
    if (daemon == NULL) {
        (void)snprintf(message, capacity, "Not enough memory"); /* short enough */
        return OPB_NO_MEMORY;
    }
    daemon->pidfd = -1;
    daemon->lifeline = -1;
    status = opb_worker_path_find(&daemon->program, configured, message, capacity);
    if (status != OPB_OK) {
        goto free_daemon;
    }
    status = launch(daemon, socket_path, message, capacity);
    if (status != OPB_OK) {
        goto free_daemon;
    }
    status = wait_ready(daemon, cancel_fd, deadline_ms, message, capacity);
    if (status != OPB_OK) {
        opb_daemon_kill(daemon, NULL, 0);
        return status;
    }
    *out = daemon;
    return OPB_OK;

free_daemon:
    free_daemon(daemon);
    return status;
}
