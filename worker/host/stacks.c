/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/host/stacks.c - where every Python thread is, when the host no longer answers
 *
 * Here:      CPython's own dump of all threads, called on the control thread: it takes no
 *            lock and no GIL, so that it works while the script never lets go of it.
 * Elsewhere: who asks and reads (the supervisor), when (the node's CallTimeout).
 *
 * faulthandler offers the dump to Python code, which needs the GIL, and to signals. So it
 * is registered for a signal, and what it has registered is kept as a function; the signal
 * itself is given back at once, since the script may want it.
 *
 * Other threads run meanwhile: the dump may be wrong in details, and may even crash. That
 * is for a host that is about to be killed, or that keeps the GIL: then nothing changes
 * either. A host that is only looked at takes the GIL first.
 */
#include "host.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#define MAX_LOOKING 4u

typedef void (*dump_function)(int);

static int dump_signal;
static int dump_fd = -1; /* faulthandler knows this number */
static dump_function dump;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of both */

/* Sets an exception on failure. */
static int
register_dump(PyObject *module, int signal_number, int fd)
{
    PyObject *function = PyObject_GetAttrString(module, "register");
    PyObject *arguments = Py_BuildValue("(i)", signal_number);
    PyObject *keywords = Py_BuildValue("{s:i,s:O,s:O}", "file", fd, "all_threads", Py_True,
                                       "chain", Py_False);
    PyObject *result = NULL;

    if (function != NULL && arguments != NULL && keywords != NULL) {
        result = PyObject_Call(function, arguments, keywords);
    }
    Py_XDECREF(keywords);
    Py_XDECREF(arguments);
    Py_XDECREF(function);
    if (result == NULL) {
        return -1;
    }
    Py_DECREF(result);
    return 0;
}

/* Keeps what handles the signal, and gives the signal back. */
static void
take_handler(int signal_number, const struct sigaction *before)
{
    struct sigaction action;

    if (sigaction(signal_number, before, &action) == 0 &&
        (action.sa_flags & SA_SIGINFO) == 0 && action.sa_handler != SIG_DFL &&
        action.sa_handler != SIG_IGN) {
        dump_signal = signal_number;
        (void)pthread_mutex_lock(&lock);
        dump = action.sa_handler;
        (void)pthread_mutex_unlock(&lock);
    }
}

void
opb_stacks_begin(void)
{
    const int signal_number = SIGRTMAX;
    struct sigaction before;
    PyObject *module;

    dump_fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (dump_fd < 0 || sigaction(signal_number, NULL, &before) != 0) {
        return;
    }
    module = PyImport_ImportModule("faulthandler");
    if (module != NULL && register_dump(module, signal_number, dump_fd) == 0) {
        take_handler(signal_number, &before);
    }
    PyErr_Clear(); /* without it a host that hangs is replaced without its stacks */
    Py_XDECREF(module);
}

static void
write_all(int fd, const char *text, size_t bytes)
{
    while (bytes > 0) {
        ssize_t count = write(fd, text, bytes);

        if (count <= 0) {
            return; /* nowhere else to tell */
        }
        text += count;
        bytes -= (size_t)count;
    }
}

void
opb_stacks_write(int fd)
{
    static const char none[] = "Python has not been started, or offers no stacks\n";
    dump_function function;

    (void)pthread_mutex_lock(&lock); /* no wait: who holds it writes to a file in memory */
    function = dump;
    if (function == NULL || dup3(fd, dump_fd, O_CLOEXEC) < 0) {
        write_all(fd, none, sizeof(none) - 1);
    }
    else {
        function(dump_signal);
    }
    (void)pthread_mutex_unlock(&lock);
    write_all(fd, "", 1);
}

void
opb_stacks_end(void)
{
    (void)pthread_mutex_lock(&lock);
    dump = NULL;
    (void)pthread_mutex_unlock(&lock);
}

static atomic_uint looking_count; /* threads that wait for the GIL, or have it */

static void *
look(void *argument)
{
    int fd = (int)(intptr_t)argument;
    PyGILState_STATE gil;

    gil =
        PyGILState_Ensure(); /* ends the thread if Python ends: fd goes with the process */
    opb_stacks_write(fd);
    PyGILState_Release(gil);
    (void)close(fd); /* the supervisor reads it */
    (void)atomic_fetch_sub(&looking_count, 1);
    return NULL;
}

void
opb_stacks_look(int *fd)
{
    pthread_t thread;

    if (opb_interpreter_phase() != OPB_INTERPRETER_RUNNING) {
        opb_stacks_write(*fd); /* the main thread alone has Python, if any */
    }
    else if (atomic_fetch_add(&looking_count, 1) < MAX_LOOKING) {
        if (pthread_create(&thread, NULL, look, (void *)(intptr_t)*fd) == 0) {
            (void)pthread_setname_np(thread, "look"); /* for ps and gdb only */
            (void)pthread_detach(thread);
            *fd = -1;
            return;
        }
        (void)atomic_fetch_sub(&looking_count, 1);
    }
    else {
        (void)atomic_fetch_sub(&looking_count, 1); /* the GIL is not to be had */
    }
    (void)close(*fd); /* without an answer: the supervisor asks otherwise */
    *fd = -1;
}
