/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/module/link.h - how Python code of this process reaches its node
 *
 * Here:      the lane that the calling thread is in, service lanes for threads that are
 *            in none, exchanges with the GIL released, posts that wait for company and
 *            the thread that flushes them, releasing objects, what a fork child must do.
 * Elsewhere: callbacks (worker/host), the Python surface (module.c, sdk_call.c).
 *
 * One link per process: of a host, or of a child process of one. A child has lanes of its
 * own, on which it makes SDK calls, and serves no callbacks.
 */
#ifndef OPB_LINK_H
#define OPB_LINK_H

#include "protocol/frame.h"
#include "protocol/lane.h"
#include "protocol/limits.h"

#include <stdbool.h>
#include <stdint.h>

/* What the node said in Load. */
struct opb_node_info {
    uint32_t version; /* 1010001 for 1.10.1; UINT32_MAX for "mainline" */
    char *version_text;
    char *node; /* node name */
    char *node_socket;
    char *orthanc_path;
    char **scripts; /* absolute paths, in order */
    uint32_t script_count;
    uint32_t host;
    uint32_t worker_index, workers_count;
    uint32_t slow_call_ms; /* 0: none is slow */
    bool verbose, memory_usage;
    uint8_t secret[OPB_SECRET_BYTES];
    uint32_t function_count; /* SDK functions: index is the method number */
    struct opb_node_function {
        char *name;
        char *signature;
    } * functions;
    uint32_t call_count; /* calls: index is the method number */
    char **calls;
};

struct opb_link;

/* Takes *info. serve runs the calls that arrive nested in an SDK call
 * (worker/host/calls.c). Starts nothing until opb_link_start(). */
OPB_MUST_CHECK enum opb_status opb_link_open(struct opb_link **out,
                                             struct opb_node_info **info,
                                             opb_serve_fn serve, void *serve_context);
/* The same in a child process that has started afresh, or in a console: the link starts by
 * itself. */
OPB_MUST_CHECK enum opb_status opb_link_open_child(struct opb_node_info **info,
                                                   bool is_console);
/* Starts the flusher thread. In a forked child (pthread_atfork) the link begins anew,
 * without lanes, as that of a child: what belongs to the host is cut off there. */
OPB_MUST_CHECK enum opb_status opb_link_start(struct opb_link *link);
struct opb_link *opb_link_current(void); /* NULL without a node */
bool opb_link_is_child(void);   /* this process is a child of a host, or a console */
bool opb_link_is_console(void); /* an administrator has started it, or it is a fork of it */
bool opb_link_is_fork(void); /* and a fork of it: it has not imported the script itself */
/* Another number after each fork: objects of the forking process are not ours. */
uint32_t opb_link_epoch(void);
const struct opb_node_info *opb_link_info(const struct opb_link *link);

/* node_info.c. Out of the request Load. Gives *out; on failure text says why. */
OPB_MUST_CHECK enum opb_status opb_node_info_decode(struct opb_node_info **out,
                                                    struct opb_frame *frame, char *text,
                                                    size_t capacity);
/* Makes a request of it that opb_node_info_decode() reads. */
void opb_node_info_pack(struct opb_message *message, const struct opb_node_info *info);
void opb_node_info_free(struct opb_node_info *info); /* NULL is fine */

/* Method number of an SDK function (by the node's name for it), or -1. */
int32_t opb_link_method(const struct opb_link *link, const char *node_name);

/* The calling thread serves this lane (NULL: no longer): its SDK calls go down it. Lanes
 * bound anywhere are known to the flusher and closed in fork children. */
OPB_MUST_CHECK enum opb_status opb_link_bind(struct opb_link *link, struct opb_lane *lane);
struct opb_lane *opb_link_bound(void);

/* A message to pack a request or post in, owned by the thread's nesting level: each
 * nested user gets another one. Give it back. NULL without memory. */
struct opb_message *opb_link_message(struct opb_link *link);
void opb_link_message_back(struct opb_link *link, struct opb_message *message);

/* Runs an SDK call: on the bound lane, else on a service lane taken for the time (waits
 * up to 30 s for one of 64, or of 8 in a child). The GIL must be held; it is released while
 * waiting. Gives *response. On failure no Python exception is set: see opb_link_raise(). */
OPB_MUST_CHECK enum opb_status opb_link_call(struct opb_link *link,
                                             struct opb_message *request,
                                             struct opb_frame **response);
/* What this thread calls next comes behind what another has posted on the lane that it
 * serves. Never blocks: with the GIL held. */
void opb_link_order_after(struct opb_link *link, const struct opb_lane *lane);
/* Posts a notification: lazily with the next frame (urgent false; bound lanes only, at
 * most some milliseconds), else at once. GIL held; released if it must write. */
OPB_MUST_CHECK enum opb_status opb_link_post(struct opb_link *link,
                                             struct opb_message *message, bool urgent);
/* Sets the Python exception (RuntimeError) for a failed opb_link_call/post. */
void opb_link_raise(enum opb_status status);

/* An owned object died: its handle is released in the node before the next request, or
 * soon, in a batch. Never blocks, needs no GIL. */
void opb_link_release(struct opb_link *link, uint64_t handle);

/* segments.c. bytes objects as segment memory: takes the GIL to allocate. owner is the
 * PyObject. */
extern const struct opb_segment_memory opb_segment_pybytes;

#endif
