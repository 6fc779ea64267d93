/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/host/slow.c - see slow.h
 *
 * All calls may take equally long before they are slow, so they become slow in the order in
 * which they began: the thread sleeps for the first that it has not told yet.
 *
 * The stack is taken with the GIL held, so that all threads stand still. While C code keeps
 * the GIL there is no stack to be had without a risk for the host; it follows when the GIL
 * is free (CallTimeout, after which the host ends anyway, does not wait for it).
 */
#include "slow.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>

#define MAX_WHAT_BYTES 300u

static struct {
    pthread_mutex_t lock; /* the GIL may be held when it is taken, never the reverse */
    pthread_cond_t changed;
    pthread_t thread;
    bool has_thread;
    bool is_ending;
    uint32_t slow_ms;
    struct opb_slow_call *first; /* the oldest */
    struct opb_slow_call *last;
} slow = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* "Rest callback GET /uri": what the parameters say, which are not consumed. */
static void
describe(const struct opb_slow_call *call, char *out, size_t capacity)
{
    struct opb_reader params;
    const char *uri;
    const char *method;

    (void)snprintf(out, capacity, "%s callback", call->name); /* short enough */
    if (strcmp(call->name, "Rest") == 0) {
        opb_frame_params(call->frame, &params);
        opb_read_skip(&params); /* route */
        opb_read_skip(&params); /* output */
        uri = opb_read_cstr(&params, false);
        method = opb_read_cstr(&params, false);
        if (params.status == OPB_OK) {
            (void)snprintf(out, capacity, "%s callback %s %s", call->name, method,
                           uri); /* may be cut */
        }
    }
}

/* GIL held. New reference to the text of the thread's stack; NULL with an exception. */
static PyObject *
format_stack(unsigned long thread)
{
    PyObject *sys = PyImport_ImportModule("sys");
    PyObject *traceback = PyImport_ImportModule("traceback");
    PyObject *empty = PyUnicode_FromString("");
    PyObject *key = PyLong_FromUnsignedLong(thread);
    PyObject *frames = NULL;
    PyObject *lines = NULL;
    PyObject *text = NULL;

    if (sys != NULL && traceback != NULL && empty != NULL && key != NULL) {
        frames = PyObject_CallMethod(sys, "_current_frames", NULL);
    }
    if (frames != NULL && PyDict_GetItemWithError(frames, key) != NULL) {
        lines = PyObject_CallMethod(traceback, "format_stack", "O",
                                    PyDict_GetItemWithError(frames, key));
    }
    if (lines != NULL) {
        text = PyUnicode_Join(empty, lines); /* each ends with a newline */
    }
    Py_XDECREF(lines);
    Py_XDECREF(frames);
    Py_XDECREF(key);
    Py_XDECREF(empty);
    Py_XDECREF(traceback);
    Py_XDECREF(sys);
    return text;
}

/* GIL held: while it is, a call that has not been left runs no Python. */
static bool
is_running(const struct opb_slow_call *wanted, uint64_t start_ms)
{
    bool is_found = false;

    (void)pthread_mutex_lock(&slow.lock);
    for (const struct opb_slow_call *call = slow.first; call != NULL; call = call->next) {
        is_found = is_found || (call == wanted && call->start_ms == start_ms);
    }
    (void)pthread_mutex_unlock(&slow.lock);
    return is_found;
}

static void
tell(const char *what, uint64_t taken_ms, PyObject *stack)
{
    const char *stack_text = stack != NULL ? PyUnicode_AsUTF8(stack) : NULL;
    PyObject *line;

    PyErr_Clear();
    line = PyUnicode_FromFormat("The %s has been running for %llu ms (Python.SlowCall is "
                                "%lu ms). Its Python stack, "
                                "the innermost call last:\n%s",
                                what, (unsigned long long)taken_ms,
                                (unsigned long)slow.slow_ms,
                                stack_text != NULL ? stack_text : "  (not to be had)");
    if (line != NULL && PyUnicode_AsUTF8(line) != NULL) {
        opb_log_to_node("LogWarning", PyUnicode_AsUTF8(line));
    }
    PyErr_Clear();
    Py_XDECREF(line);
}

/* The lock is held, and given up meanwhile. */
static void
report(struct opb_slow_call *call, uint64_t now_ms)
{
    const struct opb_slow_call *const identity = call;
    const uint64_t start_ms = call->start_ms;
    const unsigned long thread = call->thread;
    char what[MAX_WHAT_BYTES];
    PyGILState_STATE gil;

    call->is_told = true;
    describe(call, what, sizeof(what));
    (void)pthread_mutex_unlock(&slow.lock);
    gil = PyGILState_Ensure();
    if (is_running(identity, start_ms)) {
        PyObject *stack = format_stack(thread);

        tell(what, now_ms - start_ms, stack);
        Py_XDECREF(stack);
    }
    PyGILState_Release(gil);
    (void)pthread_mutex_lock(&slow.lock);
}

static struct opb_slow_call *
first_untold(void)
{
    struct opb_slow_call *call = slow.first;

    while (call != NULL && call->is_told) {
        call = call->next;
    }
    return call;
}

static void *
watch(void *unused)
{
    (void)unused;
    (void)pthread_mutex_lock(&slow.lock);
    while (!slow.is_ending) {
        struct opb_slow_call *call = first_untold();
        uint64_t now_ms = opb_clock_ms();
        uint64_t due_ms;

        if (call == NULL) {
            (void)pthread_cond_wait(&slow.changed, &slow.lock);
            continue;
        }
        due_ms = call->start_ms + slow.slow_ms;
        if (now_ms >= due_ms) {
            report(call, now_ms);
        }
        else {
            const struct timespec due = {.tv_sec = (time_t)(due_ms / 1000u),
                                         .tv_nsec = (long)(due_ms % 1000u) * 1000000L};

            (void)pthread_cond_timedwait(&slow.changed, &slow.lock, &due);
        }
    }
    (void)pthread_mutex_unlock(&slow.lock);
    return NULL;
}

enum opb_status
opb_slow_begin(uint32_t slow_ms)
{
    pthread_condattr_t attributes;
    sigset_t all;
    sigset_t before;
    int error;

    if (slow_ms == 0) {
        return OPB_OK;
    }
    if (pthread_condattr_init(&attributes) != 0) {
        return OPB_NO_MEMORY;
    }
    (void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC); /* it exists */
    error = pthread_cond_init(&slow.changed, &attributes);
    (void)pthread_condattr_destroy(&attributes);
    if (error != 0) {
        return OPB_NO_MEMORY;
    }
    slow.slow_ms = slow_ms;
    (void)sigfillset(&all); /* signals are for the script's threads */
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    error = pthread_create(&slow.thread, NULL, watch, NULL);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error != 0) {
        slow.slow_ms = 0;
        return OPB_SYSTEM;
    }
    (void)pthread_setname_np(slow.thread, "slow-calls"); /* for ps and gdb only */
    slow.has_thread = true;
    return OPB_OK;
}

void
opb_slow_enter(struct opb_slow_call *call, const char *name, struct opb_frame *frame)
{
    *call = (struct opb_slow_call){.is_watched = slow.slow_ms != 0};
    if (!call->is_watched) {
        return;
    }
    call->name = name;
    call->frame = frame;
    call->start_ms = opb_clock_ms();
    call->thread = PyThread_get_thread_ident();
    (void)pthread_mutex_lock(&slow.lock);
    call->previous = slow.last;
    if (slow.last != NULL) {
        slow.last->next = call;
    }
    else {
        slow.first = call;
    }
    slow.last = call;
    (void)pthread_cond_signal(&slow.changed);
    (void)pthread_mutex_unlock(&slow.lock);
}

void
opb_slow_leave(struct opb_slow_call *call)
{
    char what[MAX_WHAT_BYTES];
    char line[MAX_WHAT_BYTES + 100];

    if (!call->is_watched) {
        return;
    }
    (void)pthread_mutex_lock(&slow.lock);
    if (call->previous != NULL) {
        call->previous->next = call->next;
    }
    else {
        slow.first = call->next;
    }
    if (call->next != NULL) {
        call->next->previous = call->previous;
    }
    else {
        slow.last = call->previous;
    }
    (void)pthread_mutex_unlock(&slow.lock);
    if (call->is_told) {
        describe(call, what, sizeof(what));
        (void)snprintf(line, sizeof(line), "The %s took %llu ms", what,
                       (unsigned long long)(opb_clock_ms() - call->start_ms)); /* fits */
        opb_log_to_node("LogWarning", line);
    }
}

void
opb_slow_end(void)
{
    if (!slow.has_thread) {
        return;
    }
    (void)pthread_mutex_lock(&slow.lock);
    slow.is_ending = true;
    (void)pthread_cond_signal(&slow.changed);
    (void)pthread_mutex_unlock(&slow.lock);
    (void)pthread_join(slow.thread,
                       NULL); /* it may be waiting for the GIL, which is free */
    slow.has_thread = false;
}
