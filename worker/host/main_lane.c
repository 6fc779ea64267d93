/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/host/main_lane.c - the main thread: Load, then Python's signals, then Finalize
 *
 * Here:      the main lane. It is bound to the thread while Load or Finalize runs, and only
 *            then: in between no thread of the node listens on it, so that what a signal
 *            handler asks of the SDK goes over a service lane.
 * Elsewhere: callbacks (lane_thread.c).
 */
#include "host.h"
#include "slow.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FRAME_MS 10000u /* a frame that has begun to arrive */

/* Everything up to the script, with the GIL held on return if *python_runs. Takes *info
 * where it can. */
static bool
start_script(struct opb_lane *lane, struct opb_node_info **info, bool *python_runs,
             enum opb_fault *fault, char *text, size_t capacity)
{
    struct opb_link *link = NULL;
    enum opb_status status;

    *fault = OPB_FAULT_RUNTIME;
    if (opb_binding_apply(*info, text, capacity) != OPB_OK) {
        return false;
    }
    status = opb_environment_set(*info);
    if (status == OPB_OK) {
        status = opb_calls_begin(*info);
    }
    if (status == OPB_OK &&
        opb_interpreter_start((*info)->verbose, text, capacity) != OPB_OK) {
        return false;
    }
    if (status == OPB_OK) {
        *python_runs = true;
        status = opb_interpreter_was_forked() ? opb_environment_show() : OPB_OK;
    }
    if (status == OPB_OK) {
        status = opb_link_open(&link, info, opb_calls_serve, NULL);
    }
    if (status == OPB_OK) {
        status = opb_link_start(link);
    }
    if (status == OPB_OK) {
        status = opb_link_bind(link, lane);
    }
    if (status != OPB_OK) {
        (void)snprintf(text, capacity, "the host cannot be set up: %s",
                       opb_status_text(status));
        return false;
    }
    status = opb_slow_begin(opb_link_info(link)->slow_call_ms);
    if (status != OPB_OK) {
        opb_log_to_node("LogWarning",
                        "Python.SlowCall has no effect in this host: there is "
                        "no thread for it");
    }
    opb_interpreter_set_phase(OPB_INTERPRETER_RUNNING);
    return opb_script_import(opb_link_info(link), fault, text, capacity);
}

/* The script is there: the node is told which files it consists of. */
static enum opb_status
answer_loaded(struct opb_lane *lane, uint32_t msgid, const struct opb_files *files)
{
    struct opb_message *message = opb_message_new();
    enum opb_status status;

    if (message == NULL) {
        return opb_calls_answer_nil(lane, msgid);
    }
    opb_message_begin_response(message, msgid);
    opb_pack_array(message, files->count);
    for (uint32_t i = 0; i < files->count; i++) {
        opb_pack_cstr(message, files->paths[i]);
    }
    status = opb_lane_send(lane, message, OPB_FOREVER); /* or until the node is gone */
    opb_message_free(message);
    return status;
}

/* Runs Load and answers it. Gives *python, NULL if there is none. */
static enum opb_status
load(struct opb_lane *lane, struct opb_frame *frame, PyThreadState **python)
{
    char text[OPB_HOST_TEXT_BYTES];
    enum opb_fault fault = OPB_FAULT_PROTOCOL;
    struct opb_node_info *info = NULL;
    struct opb_files files = {.count = 0};
    bool python_runs = false;
    bool is_loaded = false;
    enum opb_status status;

    text[0] = '\0';
    if (opb_node_info_decode(&info, frame, text, sizeof(text)) == OPB_OK) {
        is_loaded = start_script(lane, &info, &python_runs, &fault, text, sizeof(text));
    }
    opb_node_info_free(info);
    if (is_loaded) {
        opb_files_find(&files, opb_link_info(opb_link_current()));
    }
    if (python_runs) {
        if (opb_link_current() != NULL &&
            opb_link_bind(opb_link_current(), NULL) != OPB_OK) {
            opb_host_say("the main lane is still bound");
        }
        *python = PyEval_SaveThread();
    }
    if (is_loaded) {
        status = answer_loaded(lane, opb_frame_msgid(frame), &files);
        opb_files_free(&files);
        return status;
    }
    /* Not the end of this process: the node decides, and may still say Finalize. */
    return opb_calls_answer_fault(lane, opb_frame_msgid(frame), fault,
                                  fault == OPB_FAULT_RAISED ? 1 : 0, text);
}

static void
run_signal_handlers(PyThreadState *python)
{
    PyEval_RestoreThread(python);
    while (PyErr_CheckSignals() != 0) {
        PyErr_WriteUnraisable(NULL); /* nobody to raise to; the rest goes on */
    }
    (void)PyEval_SaveThread(); /* the same state as before */
    opb_host_check_child();
}

/* Sleeps until the node says something; Python's signal handlers run meanwhile. */
static enum opb_status
wait_for_node(struct opb_lane *lane, PyThreadState *python)
{
    struct pollfd item = {.fd = opb_lane_fd(lane), .events = POLLIN};

    for (;;) {
        int count = poll(&item, 1, python != NULL ? opb_signals_poll_ms() : -1);

        if (count > 0) {
            return OPB_OK;
        }
        if (count < 0 && errno != EINTR) {
            return OPB_SYSTEM;
        }
        if (python != NULL) {
            run_signal_handlers(python);
        }
    }
}

static enum opb_status
serve(struct opb_lane *lane, struct opb_frame *frame, bool *was_loaded,
      PyThreadState **python)
{
    uint32_t msgid = opb_frame_msgid(frame);

    if (opb_frame_type(frame) != OPB_REQUEST) {
        opb_lane_fail(lane, OPB_BAD_FRAME, "the node sent something else than a call");
        return OPB_BAD_FRAME;
    }
    if (!*was_loaded && opb_frame_method(frame) == OPB_CALL_LOAD) {
        *was_loaded = true;
        return load(lane, frame, python);
    }
    if (*was_loaded &&
        opb_calls_index(opb_frame_method(frame)) == OPB_CALL_FINALIZE_INDEX) {
        opb_finalize(lane, msgid, *python);
    }
    return opb_calls_answer_fault(lane, msgid, OPB_FAULT_PROTOCOL, 0,
                                  "the main lane carries Load once, and then Finalize");
}

int
opb_main_lane_run(int *fd)
{
    struct opb_lane *lane = NULL;
    PyThreadState *python = NULL;
    bool was_loaded = false;
    enum opb_status status = opb_forking_add(*fd);

    if (status == OPB_OK) {
        status = opb_lane_open(&lane, fd, &opb_host_segments);
    }
    if (status != OPB_OK) {
        opb_host_say("cannot open the main lane: %s", opb_status_text(status));
        return EXIT_FAILURE;
    }
    status = opb_welcome_send(lane, opb_deadline_ms(OPB_HOST_WELCOME_MS));
    if (status == OPB_OK) {
        opb_lane_trust(lane);
    }
    while (status == OPB_OK) {
        struct opb_frame *frame = NULL;

        status = wait_for_node(lane, python);
        if (status == OPB_OK) {
            status = opb_lane_receive(lane, &frame, opb_deadline_ms(FRAME_MS));
        }
        if (status == OPB_OK) {
            status = serve(lane, frame, &was_loaded, &python);
        }
        opb_frame_free(frame);
    }
    opb_host_say("the main lane has ended, and so does this host: %s",
                 opb_lane_failure(lane)[0] != '\0' ? opb_lane_failure(lane)
                                                   : opb_status_text(status));
    return EXIT_FAILURE; /* the lane stays open until the process is gone */
}
