/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/call.h - running one callback in Python, on the Orthanc thread that waits
 *
 * Here:      taking a lane (or going down the one this thread is in), the private stack,
 *            the exchange, serving the SDK calls that come back, outcomes.
 * Elsewhere: what a callback's arguments and results are (callback_*.c), SDK calls
 *            (invocation.c and the generated dispatch), lanes (session.c).
 *
 * A call that runs for longer than Python.CallTimeout says for its kind ends late, and its
 * host is killed (opb_pool_host_hangs()). Time is looked at only while we wait for the
 * host: an SDK call that the callback makes runs to its end in any case. A call inside
 * another one has no more time than that.
 */
#ifndef OPB_CALL_H
#define OPB_CALL_H

#include "session.h"

#include "protocol/words.h"

struct opb_call_stat; /* call_stats.h */

struct opb_call_io {
    /* Packs the whole request: opb_message_begin_request(message, kind, n) and n values.
     * session is where to lend handles (handles.h). */
    void (*pack)(struct opb_message *message, struct opb_session *session, void *context);
    /* Reads the one result value; NULL if there is none to read. */
    void (*result)(struct opb_reader *reader, void *context);
    /* Always runs if pack ran, when the host can no longer use what was lent: ends handles.
     */
    void (*finish)(struct opb_session *session, void *context);
    void *context;
    /* The primary shall run it, and no other host. */
    bool is_for_primary;
    /* NULL, or asked before pack, when a host is there. False: there is nothing to call in
     * this host, and the outcome is OPB_CALL_ABSENT. */
    bool (*check)(struct opb_session *session, void *context);
    /* The same is asked of the kind: the host that is there now may have another script
     * than when the caller looked, since it may have waited for it. */
    bool is_of_script;
    struct opb_call_stat *stat; /* where it counts beside its kind, or NULL */
};

enum opb_outcome {
    OPB_CALL_DONE,     /* the script returned; result() has run */
    OPB_CALL_RAISED,   /* the script raised; the host has logged the traceback */
    OPB_CALL_ENCODING, /* a string was not UTF-8: the script was not called */
    OPB_CALL_FAILED,  /* it could not be run, by the host or by us: the reason is in the log
                       */
    OPB_CALL_DIED,    /* the host died, or the lane broke, during the call */
    OPB_CALL_LATE,    /* the deadline passed during the call; its host is being killed */
    OPB_CALL_NO_HOST, /* no host within QueueTimeout; nothing was called */
    OPB_CALL_ABSENT   /* the script of the host has nothing to call; nothing is logged */
};

/* Runs a call. what names it in logs ("REST callback for GET /toto"). deadline_ms counts
 * beside the configured time. */
enum opb_outcome opb_call_run(struct opb_node *node, enum opb_call_index kind,
                              const struct opb_call_io *io, const char *what,
                              uint64_t deadline_ms);

/* The same in a given session, whether calls still go to it or not; OPB_CALL_DIED if it has
 * ended, or is NULL because it has. */
enum opb_outcome opb_call_run_in(struct opb_session *session, enum opb_call_index kind,
                                 const struct opb_call_io *io, const char *what,
                                 uint64_t deadline_ms);

/* The same on a given lane of a session (Load, Finalize on the main lane); fault and text
 * (may be NULL) receive what the host said. Does not log. */
enum opb_outcome opb_call_run_on(struct opb_session *session, struct opb_lane *lane,
                                 enum opb_call_index kind, const struct opb_call_io *io,
                                 uint64_t deadline_ms, char *text, size_t text_capacity);

/* Serves a service lane until the peer or the session ends. The calling thread's nested
 * callbacks go down this lane; those of a child process take a call lane to a host. */
void opb_call_serve_service_lane(struct opb_session *session, struct opb_lane *lane);

/* How many of our callbacks the calling thread is inside of. */
uint32_t opb_call_depth(void);
bool opb_call_is_inside(enum opb_call_index kind); /* of one of that kind, at any depth */
/* True while the calling thread is one of our own (service, event, loader), not Orthanc's.
 */
bool opb_call_is_own_thread(void);
void opb_call_mark_own_thread(void);

#endif
