/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/host/signals.c - SIGINT and SIGTERM are for Orthanc, which then ends the host
 *
 * Here:      surviving both (Ctrl-C and service managers send them to everybody), without
 *            taking them from scripts that handle them, from their children, or from what
 *            they execute.
 * Elsewhere: running Python's handlers (main_lane.c), ending (finalize.c, the supervisor).
 *
 * The handlers do nothing instead of SIG_IGN, which executed programs would inherit. Both
 * signals stay blocked until Python is there: it must find the default dispositions, or
 * signal.getsignal() would tell scripts of handlers that are not theirs.
 */
#include "host.h"

#include <signal.h>
#include <string.h>

#define TICK_MS 250

static sigset_t usual_mask;
static _Thread_local sigset_t mask_before_fork;

static void
survive(int signal_number)
{
    (void)signal_number;
}

static bool
is_ours(int signal_number)
{
    struct sigaction action;

    return sigaction(signal_number, NULL, &action) == 0 &&
           (action.sa_flags & SA_SIGINFO) == 0 && action.sa_handler == survive;
}

static void
set_handler(int signal_number, void (*handler)(int))
{
    struct sigaction action;

    memset(&action, 0, sizeof(action));
    action.sa_handler = handler;
    action.sa_flags = handler == survive ? SA_RESTART : 0;
    (void)sigemptyset(&action.sa_mask);
    (void)sigaction(signal_number, &action, NULL); /* fails for bad numbers only */
}

static sigset_t
both_signals(void)
{
    sigset_t both;

    (void)sigemptyset(&both);
    (void)sigaddset(&both, SIGINT);
    (void)sigaddset(&both, SIGTERM);
    return both;
}

/* A signal for the child that comes before its handlers are restored must not be lost. */
static void
hold_before_fork(void)
{
    const sigset_t both = both_signals();

    (void)pthread_sigmask(SIG_BLOCK, &both, &mask_before_fork);
}

static void
resume_after_fork(void)
{
    (void)pthread_sigmask(SIG_SETMASK, &mask_before_fork, NULL);
}

/* multiprocessing ends its children by SIGTERM. */
static void
restore_in_child(void)
{
    if (is_ours(SIGTERM)) {
        set_handler(SIGTERM, SIG_DFL);
    }
    if (is_ours(SIGINT)) {
        set_handler(SIGINT, SIG_DFL);
    }
    resume_after_fork();
}

void
opb_signals_begin(void)
{
    const sigset_t both = both_signals();

    (void)pthread_sigmask(SIG_BLOCK, &both, &usual_mask); /* fails for bad arguments only */
    (void)sigdelset(&usual_mask, SIGINT);
    (void)sigdelset(&usual_mask, SIGTERM);
    set_handler(SIGINT, SIG_DFL); /* a shell in the background has it ignored */
    set_handler(SIGTERM, SIG_DFL);
    set_handler(SIGPIPE, SIG_IGN); /* as in every Python: BrokenPipeError instead */
    if (pthread_atfork(hold_before_fork, resume_after_fork, restore_in_child) != 0) {
        opb_host_say("no memory: forked children of the script will survive SIGTERM");
    }
}

void
opb_signals_unblock(void)
{
    (void)pthread_sigmask(SIG_SETMASK, &usual_mask, NULL);
}

/* 1 if Python's handler of a signal is the one of a fresh interpreter, -1: exception. */
static int
is_fresh(PyObject *module, int signal_number)
{
    PyObject *handler = PyObject_CallMethod(module, "getsignal", "i", signal_number);
    PyObject *interrupt = NULL;
    int fresh = -1;

    if (handler == NULL) {
        return -1;
    }
    interrupt = PyObject_GetAttrString(module, "default_int_handler");
    if (interrupt != NULL) {
        fresh = handler == interrupt ||
                (PyLong_Check(handler) && PyLong_AsLong(handler) == (long)SIG_DFL);
        Py_DECREF(interrupt);
    }
    Py_DECREF(handler);
    return fresh;
}

enum opb_status
opb_signals_settle(void)
{
    static const int both[] = {SIGINT, SIGTERM};
    enum opb_status status = OPB_OK;
    /* The first import of _signal makes SIGINT raise KeyboardInterrupt: before that. */
    PyObject *module = PyImport_ImportModule("_signal");

    if (module == NULL) {
        return OPB_NO_MEMORY;
    }
    for (size_t i = 0; i < 2 && status == OPB_OK; i++) {
        int fresh = is_fresh(module, both[i]);

        if (fresh < 0) {
            status = OPB_SYSTEM;
        }
        else if (fresh == 1) {
            set_handler(both[i], survive);
        }
    }
    Py_DECREF(module);
    return status;
}

int
opb_signals_poll_ms(void)
{
    for (int number = 1; number < NSIG; number++) {
        struct sigaction action;

        if (sigaction(number, NULL, &action) != 0 || is_ours(number)) {
            continue;
        }
        /* Somebody handles it, and a lane's thread may be the one that gets it. */
        if ((action.sa_flags & SA_SIGINFO) != 0 ||
            (action.sa_handler != SIG_DFL && action.sa_handler != SIG_IGN)) {
            return TICK_MS;
        }
    }
    return -1;
}
