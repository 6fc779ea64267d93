/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/host/zygote.c - a process with Python ready, which forks hosts
 *
 * Here:      starting Python, forking when the supervisor asks, and what a host must not
 *            share with its zygote or with the hosts before it.
 * Elsewhere: preloading (preload.c), the life of a host (main.c), the supervisor's side.
 *
 * A host is forked twice, by a process in the middle that ends at once. So the kernel gives
 * it to the supervisor (the nearest subreaper), which reaps it, sees how it died, and takes
 * it along when it dies itself, all as if it had started the host; and the host does not
 * depend on the zygote any more. It goes on when the one in the middle is gone: a
 * parent-death signal would be for that one otherwise.
 *
 *     zygote: fork, wait ------------------------- STARTED, close the pipe
 *     middle:      fork, BORN, _exit
 *     host:             setsid, read the pipe .................... end of file: it runs
 *
 * The supervisor learns the process id before the host can be its child (BORN), so that it
 * never reaps a stranger, and tells the node when it is (STARTED).
 */
#include "host.h"
#include "zygote.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define TELL_MS 5000

void
opb_zygote_tell(int fd, enum opb_zygote_word word, uint32_t id, int32_t number,
                const char *text)
{
    struct opb_zygote_note note;
    struct pollfd writable = {.fd = fd, .events = POLLOUT};
    enum opb_status status;

    memset(&note, 0, sizeof(note));
    note.word = (uint32_t)word;
    note.id = id;
    note.number = number;
    if (text != NULL) {
        size_t bytes = strnlen(text, sizeof(note.text) - 1);

        memcpy(note.text, text, bytes);
    }
    do {
        status = opb_socket_pass(fd, &note, sizeof(note), -1);
    } while (status == OPB_LATE && poll(&writable, 1, TELL_MS) > 0);
    if (status != OPB_OK) {
        _exit(EXIT_FAILURE); /* nobody who could use this process */
    }
}

void
opb_zygote_log(int fd, int level, const char *line)
{
    opb_zygote_tell(fd, OPB_ZYGOTE_LOG, 0, level, line);
}

/* What is in memory now is there for good: the collector does not touch it, and hosts go on
 * to share it. Leaves no trace in sys.modules. */
static void
freeze_memory(void)
{
    PyObject *all = PyImport_GetModuleDict(); /* borrowed */
    const bool had_gc = PyDict_GetItemString(all, "gc") != NULL;
    PyObject *gc;
    PyObject *result = NULL;

    (void)PyGC_Collect(); /* how much it was */
    gc = PyImport_ImportModule("gc");
    if (gc != NULL) {
        result = PyObject_CallMethod(gc, "freeze", NULL);
    }
    if (gc != NULL && !had_gc) {
        (void)PyDict_DelItemString(all, "gc"); /* it is there */
    }
    PyErr_Clear(); /* hosts work without, and share less */
    Py_XDECREF(result);
    Py_XDECREF(gc);
}

/* ps shows hosts as hosts, however they came to be. */
static void
show_as_host(const struct opb_zygote_options *options)
{
    static const char arguments[] = "orthanc-python-host\0--control-fd\0003";

    if (options->argument_bytes >= sizeof(arguments)) {
        memset(options->arguments, 0, options->argument_bytes);
        memcpy(options->arguments, arguments, sizeof(arguments));
    }
}

/* In the new process, with the GIL: all that makes it a host of its own. Takes control and
 * pipe_ends. */
static void
become_host(const struct opb_zygote_options *options, pid_t supervisor, int control,
            const int pipe_ends[2])
{
    char nothing;

    (void)setsid(); /* a new child leads no group: it works */
    (void)close(pipe_ends[1]);
    while (read(pipe_ends[0], &nothing, 1) < 0 && errno == EINTR) {
    }
    (void)close(pipe_ends[0]);
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != supervisor) {
        _exit(EXIT_FAILURE); /* without the supervisor, or without it as a parent */
    }
    if (dup3(control, options->fd, O_CLOEXEC) < 0) {
        _exit(EXIT_FAILURE); /* its death shows */
    }
    (void)close(control);
    PyOS_AfterFork_Child();
    opb_prelude_reseed();
    opb_interpreter_pause();
    show_as_host(options);
}

/* In the process in the middle. Never returns. */
static _Noreturn void
leave_host(int fd, uint32_t id, pid_t host, int error)
{
    if (host > 0) {
        opb_zygote_tell(fd, OPB_ZYGOTE_BORN, id, (int32_t)host, NULL);
        _exit(EXIT_SUCCESS);
    }
    _exit(error);
}

/* 0, or errno of what the process in the middle could not do. */
static int
await_middle(pid_t pid)
{
    int status = 0;

    while (waitpid(pid, &status, 0) < 0) {
        if (errno != EINTR) {
            return errno;
        }
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : ECHILD;
}

/* True in the new host. Takes control. */
static bool
fork_host(const struct opb_zygote_options *options, pid_t supervisor, uint32_t id,
          int control)
{
    int pipe_ends[2];
    int error;
    pid_t middle;

    if (pipe2(pipe_ends, O_CLOEXEC) != 0) {
        error = errno;
        (void)close(control);
        opb_zygote_tell(options->fd, OPB_ZYGOTE_NOT_STARTED, id, error, NULL);
        return false;
    }
    (void)fflush(NULL); /* what modules have printed must not be printed again by hosts */
    PyOS_BeforeFork();
    middle = fork();
    if (middle == 0) {
        pid_t host = fork();

        if (host != 0) {
            leave_host(options->fd, id, host, errno);
        }
        become_host(options, supervisor, control, pipe_ends);
        return true;
    }
    error = middle < 0 ? errno : 0;
    PyOS_AfterFork_Parent();
    (void)close(control);
    if (error == 0) {
        error = await_middle(middle);
    }
    opb_zygote_tell(options->fd, error == 0 ? OPB_ZYGOTE_STARTED : OPB_ZYGOTE_NOT_STARTED,
                    id, error, NULL);
    (void)close(pipe_ends[0]);
    (void)close(pipe_ends[1]); /* here the host begins */
    return false;
}

/* Nobody waits any more at the other end. */
static bool
is_abandoned(int control)
{
    struct pollfd peer = {.fd = control, .events = 0};

    return poll(&peer, 1, 0) != 0; /* POLLHUP, or an error */
}

/* The supervisor has been told that this process is of no use, and ends it. */
static _Noreturn void
await_end(int fd)
{
    struct pollfd peer = {.fd = fd, .events = 0};

    while (poll(&peer, 1, -1) < 0 && errno == EINTR) {
    }
    _exit(EXIT_FAILURE);
}

/* Returns in new hosts. The GIL is held all the time: threads of preloaded modules stand
 * still, and hold nothing that they did not hold before. */
static void
serve(const struct opb_zygote_options *options, pid_t supervisor)
{
    for (;;) {
        struct opb_zygote_note note;
        size_t bytes = 0;
        int control = -1;
        enum opb_status status =
            opb_socket_take(options->fd, &note, sizeof(note), &bytes, &control);

        if (status == OPB_GONE) {
            _exit(EXIT_SUCCESS);
        }
        if (status != OPB_OK || bytes != sizeof(note) || note.word != OPB_ZYGOTE_FORK ||
            control < 0) {
            opb_host_say("the zygote cannot understand the supervisor: %s",
                         status == OPB_SYSTEM ? strerror(errno) : opb_status_text(status));
            _exit(EXIT_FAILURE); /* another one is started */
        }
        if (is_abandoned(control)) {
            (void)close(control);
            continue;
        }
        if (fork_host(options, supervisor, note.id, control)) {
            return;
        }
    }
}

void
opb_zygote_run(const struct opb_zygote_options *options)
{
    const pid_t supervisor = getppid(); /* or it is dead, and the socket at its end */
    char text[OPB_HOST_TEXT_BYTES];

    if (opb_interpreter_start(options->verbose, text, sizeof(text)) != OPB_OK) {
        _exit(EXIT_FAILURE); /* the host that is started without will tell */
    }
    if (opb_prelude_begin() != OPB_OK) {
        PyErr_Clear();
        _exit(EXIT_FAILURE);
    }
    if (!opb_preload(options->fd, options->modules, options->module_count)) {
        await_end(options->fd);
    }
    freeze_memory();
    opb_zygote_tell(options->fd, OPB_ZYGOTE_READY, 0, 0, NULL);
    serve(options, supervisor);
}
