/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/host/host.h - one process, one interpreter, the script of one node
 *
 * Here:      what the files of this folder offer each other, in the order in which the
 *            life of a host uses them.
 * Elsewhere: the Python surface and the way to the node (worker/module), starting and
 *            killing hosts (worker/supervisor).
 * May use:   CPython, protocol/, worker/module. Not libuv, not the SDK.
 *
 * Threads: the main thread owns the main lane and imports the script; the control thread
 * takes lanes from the supervisor and never touches Python; each call lane has a thread.
 */
#ifndef OPB_HOST_H
#define OPB_HOST_H

#include <Python.h>

#include "protocol/frame.h"
#include "protocol/handshake.h"
#include "protocol/lane.h"
#include "protocol/limits.h"
#include "protocol/message.h"
#include "protocol/sockets.h"
#include "protocol/status.h"
#include "protocol/words.h"
#include "worker/module/link.h"
#include "worker/module/module.h"

#ifdef UV_H
#    error "a host has no event loop: libuv belongs in worker/supervisor"
#endif

/* The node opens at most 256 call lanes; more than this is no node of ours. */
#define OPB_HOST_MAX_LANES 1024u
/* Recursive scripts and C extensions: the main thread of a program has 8 MiB. */
#define OPB_HOST_STACK_BYTES (16u * 1024u * 1024u)
#define OPB_HOST_WELCOME_MS  5000u
/* Longer exception texts are cut in the log. */
#define OPB_HOST_MAX_LOG_BYTES (1024u * 1024u)
#define OPB_HOST_ERROR_BYTES   1024u
/* Text of a refused Load: it may hold two paths. */
#define OPB_HOST_TEXT_BYTES (3u * 4096u)

/* Where the interpreter stands. It only moves forward. */
enum opb_interpreter_phase {
    OPB_INTERPRETER_NONE,    /* Load has not come, or Python did not start */
    OPB_INTERPRETER_RUNNING, /* callbacks are served */
    OPB_INTERPRETER_ENDING,  /* Finalize: threads and atexit still run, no callbacks */
    OPB_INTERPRETER_GONE     /* nothing of Python may be touched */
};

/* main.c. A line on stderr, for what cannot reach the node. */
void opb_host_say(const char *format, ...) OPB_PRINTF(1, 2);
/* main.c. A child of a fork came back to code of ours: it must not touch a lane. */
void opb_host_check_child(void);

/* allocator.c. Once, before there are threads or an interpreter. */
void opb_allocator_set_up(void);

/* signals.c. Blocks SIGINT and SIGTERM in the calling thread (and threads it creates);
 * before any thread exists. */
void opb_signals_begin(void);
/* Lets the calling thread receive signals as a program usually does. */
void opb_signals_unblock(void);
/* GIL held, main thread. SIGINT and SIGTERM no longer end the process, unless the script
 * has asked for something else. Sets an exception on failure. */
OPB_MUST_CHECK enum opb_status opb_signals_settle(void);
/* For poll(2): how long the main thread may sleep without asking for signals that another
 * thread has received; -1 without limit. */
int opb_signals_poll_ms(void);

/* stacks.c. GIL held, before the script. Prepares what follows. */
void opb_stacks_begin(void);
/* Writes the Python stacks of all threads to the file, and a NUL. Without the GIL, which a
 * thread may hold for ever. */
void opb_stacks_write(int fd);
/* The same with the GIL, on a thread of its own. Takes *fd. Never waits. */
void opb_stacks_look(int *fd);
/* Python has ended: there are none any more. */
void opb_stacks_end(void);

/* control.c. Takes *control_fd (a SOCK_SEQPACKET socket to the supervisor). When its peer
 * is gone the process ends. */
OPB_MUST_CHECK enum opb_status opb_control_start(int *control_fd);
/* Waits for the main lane. Gives its descriptor. */
int opb_control_main_lane(void);

/* binding.c. A script that this host may run, the next in order: path, NUL, reason. Control
 * thread, before the main lane. */
void opb_binding_set(const char *message, size_t byte_count);
/* Puts these paths into what Load has said, or says in text why it may not be. */
OPB_MUST_CHECK enum opb_status opb_binding_apply(struct opb_node_info *info, char *text,
                                                 size_t capacity);

/* lane_thread.c. Serves a call lane on a thread of its own. Takes *fd on success. */
OPB_MUST_CHECK enum opb_status opb_lane_thread_start(int *fd);

/* forking.c. Lanes that no fork child may keep: it gets /dev/null in their place. */
OPB_MUST_CHECK enum opb_status opb_forking_begin(int control_fd);
OPB_MUST_CHECK enum opb_status opb_forking_add(int fd);
void opb_forking_remove(int fd);

/* main_lane.c. The life of the main thread; returns the exit code. Takes *fd. */
int opb_main_lane_run(int *fd);

/* environment.c. What children of the host find in their environment. */
OPB_MUST_CHECK enum opb_status opb_environment_set(const struct opb_node_info *info);
/* GIL held, in a host that was forked: os.environ is older than that. */
OPB_MUST_CHECK enum opb_status opb_environment_show(void);

/* interpreter.c. Starts Python on the calling thread, which then holds the GIL. On
 * failure text says why, and the phase is still OPB_INTERPRETER_NONE. In a forked host it
 * goes on with the Python of the zygote. */
OPB_MUST_CHECK enum opb_status opb_interpreter_start(bool verbose, char *text,
                                                     size_t capacity);
/* In a forked host: lets go of the GIL until the start. */
void opb_interpreter_pause(void);
bool opb_interpreter_was_forked(void);
enum opb_interpreter_phase opb_interpreter_phase(void); /* any thread */
void opb_interpreter_set_phase(enum opb_interpreter_phase next);
/* Memory of the segments of every lane: bytes objects, and only while there is Python. */
extern const struct opb_segment_memory opb_host_segments;

/* script.c. GIL held, main thread. Imports the scripts, in order. On failure either the
 * node's log has the traceback (fault OPB_FAULT_RAISED), or text says why. */
OPB_MUST_CHECK bool opb_script_import(const struct opb_node_info *info,
                                      enum opb_fault *fault, char *text, size_t capacity);
/* files.c. GIL held. The scripts and what they have imported from their directories, as far
 * as there is memory. End it with opb_files_free(). */
struct opb_files {
    char **paths; /* UTF-8 */
    uint32_t count;
};
void opb_files_find(struct opb_files *out, const struct opb_node_info *info);
void opb_files_free(struct opb_files *files);
/* prelude.c. The part of opb_prelude_run() that must be there before any module; once. */
OPB_MUST_CHECK enum opb_status opb_prelude_begin(void);
/* In a host that was forked: other random numbers and keys than in other hosts. */
void opb_prelude_reseed(void);
/* The same at its end: the collector sees what it shared with its zygote. */
void opb_prelude_thaw(void);
/* prelude.c. What is set up in Python before the script is imported; sets an exception. */
OPB_MUST_CHECK enum opb_status opb_prelude_run(const struct opb_node_info *info);

/* traceback.c. GIL held, an exception is set: clears it, and logs headline (with its
 * newline), class, text and frames as one error in the node's log. Of several scripts the
 * headline names the one that is at work. */
void opb_log_exception(const char *headline);
/* The same; text gets class, text and frames, as far as they fit. */
void opb_report_exception(const char *headline, char *text, size_t capacity);

/* The same without logging it. */
void opb_describe_exception(char *text, size_t capacity);

/* finalize.c. The Finalize call on the main lane. Does not return. python is the main
 * thread's state, NULL if the interpreter has not started. */
_Noreturn void opb_finalize(struct opb_lane *lane, uint32_t msgid, PyThreadState *python);

/* calls.c. Numbers of the calls, as this node gave them. Once, before the first call. */
OPB_MUST_CHECK enum opb_status opb_calls_begin(const struct opb_node_info *info);
/* The opb_serve_fn of this process: runs one call. The GIL must not be held; the thread
 * may be any that has a lane. context: the lane thread's struct opb_call_thread, or NULL
 * for a call that is nested in what the thread runs. */
enum opb_status opb_calls_serve(void *context, struct opb_lane *lane,
                                struct opb_frame *frame);
/* call_thread.c. The Python thread state of a thread that runs calls. */
struct opb_call_thread {
    bool is_kept; /* from one call to the next */
};
/* GIL held, taken by PyGILState_Ensure(), before a call. What another thread has raised in
 * this one since the last call was meant for that. NULL: a nested one. */
void opb_call_thread_enter(const struct opb_call_thread *thread);
/* GIL held, taken by PyGILState_Ensure(): gives it back after a call. NULL: a nested one.
 */
void opb_call_thread_leave(struct opb_call_thread *thread, PyGILState_STATE gil);
/* GIL not held: the thread runs no call any more. */
void opb_call_thread_end(struct opb_call_thread *thread);
/* The call a method number stands for, or OPB_CALL_COUNT. */
enum opb_call_index opb_calls_index(uint32_t method);
/* Sends a response without a result: nil, or a fault. */
OPB_MUST_CHECK enum opb_status opb_calls_answer_nil(struct opb_lane *lane, uint32_t msgid);
OPB_MUST_CHECK enum opb_status opb_calls_answer_fault(struct opb_lane *lane, uint32_t msgid,
                                                      enum opb_fault fault, int32_t code,
                                                      const char *text);

#endif
