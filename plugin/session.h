/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/session.h - one host process as its node sees it, with its lanes
 *
 * Here:      which lanes lead to the host, taking a free one, noticing its death.
 * Elsewhere: running a call on a lane (call.c), when sessions begin (pool.c, load.c),
 *            objects the host holds (handles.c).
 *
 * Counted references: a call and each service thread hold one. When the last is gone
 * the owned objects of the host are freed in Orthanc.
 *
 * A child process of a host has a session of its own, for its objects only: it has no
 * state and takes no calls. Its lanes are known to the host's session, and end with it.
 */
#ifndef OPB_SESSION_H
#define OPB_SESSION_H

#include "node.h"

#include "protocol/handshake.h"
#include "protocol/lane.h"

#include <sys/types.h>

#define OPB_MAX_CALL_LANES  256u /* of one session */
#define OPB_IDLE_CALL_LANES 64u  /* kept open for the next call; more are closed */

struct opb_handles;

/* Gives a session with one reference, in state "loading". worker: which of the hosts of its
 * generation it is, less than OPB_MAX_WORKERS. */
OPB_MUST_CHECK enum opb_status opb_session_new(struct opb_session **out,
                                               struct opb_node *node, uint32_t host,
                                               pid_t pid, uint32_t worker);
/* Gives the session of a child process of that host, with one reference. Its service
 * threads hold the references; the last one frees the child's objects. */
OPB_MUST_CHECK enum opb_status
opb_session_new_child(struct opb_session **out, const struct opb_session *host, pid_t pid);
bool opb_session_is_child(const struct opb_session *session);
struct opb_session *opb_session_ref(struct opb_session *session);
void opb_session_unref(struct opb_session *session); /* NULL is fine */

uint32_t opb_session_host(const struct opb_session *session);
/* When it was made, by opb_clock_ms(). */
uint64_t opb_session_born_ms(const struct opb_session *session);
pid_t opb_session_pid(const struct opb_session *session);
uint32_t opb_session_worker(const struct opb_session *session);
/* How many hosts its generation has: as many as the node has when the session is made,
 * unless it is set before anybody else knows the session. */
uint32_t opb_session_worker_count(const struct opb_session *session);
void opb_session_set_worker_count(struct opb_session *session, uint32_t count);
struct opb_handles *opb_session_handles(struct opb_session *session);
struct opb_node *opb_session_node(struct opb_session *session);
/* "was killed by signal 9 (Killed)"; copied; "" while alive. */
void opb_session_death(struct opb_session *session, char *text, size_t capacity);
bool opb_session_is_dead(struct opb_session *session);
/* Waits for the death of a host whose lane broke, so that the log can say why. */
bool opb_session_wait_death(struct opb_session *session, uint64_t deadline_ms);

/* A message to build in, reused between calls; NULL without memory. Give it back. */
struct opb_message *opb_session_message(struct opb_session *session);
void opb_session_message_back(struct opb_session *session, struct opb_message *message);

/* The session that calls go to now as that worker, with a reference, or NULL. */
struct opb_session *opb_session_at(struct opb_node *node, uint32_t worker);
/* The one that change events go to: the first. */
struct opb_session *opb_session_primary(struct opb_node *node);
/* How many calls have been sent to it, without those that are nested in others. */
uint64_t opb_session_call_count(struct opb_session *session);
/* How the host is now. */
struct opb_session_look {
    uint64_t call_count;
    uint32_t running_count; /* calls in it, without nested ones */
    bool is_condemned;      /* it hangs, and is about to be killed */
};
void opb_session_look_at(struct opb_session *session, struct opb_session_look *out);
/* How many of them run. */
uint32_t opb_session_running_count(struct opb_session *session);
/* Calls go to another session now, or wait: waits until those in this one have ended, and
 * the drivers that it has, until deadline_ms, its death, or the end of the node. False:
 * some still run in a host that lives. */
bool opb_session_drain(struct opb_session *session, uint64_t deadline_ms);

/* session_hold.c. Calls that come from now on wait, though there are hosts; those that run
 * go on, with what is nested in them. */
void opb_calls_hold(struct opb_node *node);
/* Those that wait at this moment go to the hosts that there are, and later ones wait. */
void opb_calls_let_in(struct opb_node *node);
/* The end of this; of no effect if they do not wait. */
void opb_calls_go_on(struct opb_node *node);
/* Waits until none runs in the hosts that serve; as opb_session_drain(). */
bool opb_calls_drain(struct opb_node *node, uint64_t deadline_ms);
/* No host serves any more, until some are activated; there will be that many. The sessions
 * live, and what runs in them goes on. The caller has references to them. */
void opb_sessions_withdraw(struct opb_node *node, uint32_t worker_count);

/* The host has loaded the script: from now on calls go to it (node->sessions). False: it
 * has ended meanwhile, and nothing was changed. */
bool opb_session_activate(struct opb_session *session);
/* The same for a whole generation, at the same moment: calls go to no others any more, and
 * the node has that many hosts (node->worker_count).
 * False: one of them has ended, and nothing was changed. */
bool opb_session_activate_all(struct opb_session *const *sessions, uint32_t count);
/* It has lost its place: calls go to it no more, but for those of drivers that it has left.
 */
void opb_session_leave(struct opb_session *session);
/* The host hangs, and is about to be killed: no more calls go to it. Those that run go on
 * until it has ended. False: it has ended, or this was said before. */
bool opb_session_condemn(struct opb_session *session);
/* An active session, with a reference, whose host has left every lane that was opened for
 * some seconds without an answer; NULL if there is none. */
struct opb_session *opb_session_mute(struct opb_node *node);
/* What was sent before on this lane is done: who awaits that number goes on (for a second
 * at most). Numbers are of one process, and not 0. */
void opb_session_pass_fence(struct opb_session *session, uint64_t number);
void opb_session_await_fence(struct opb_session *session, uint64_t number);
/* The host has died, or is given up: wakes every thread that waits on one of its lanes,
 * takes it out of node->sessions. Any thread, any number of times; the first reason counts.
 */
void opb_session_end(struct opb_session *session, const char *reason);

/* Connects a lane of the given kind: hello, welcome. Gives *lane; it is known to the
 * session, so that opb_session_end() wakes it. */
OPB_MUST_CHECK enum opb_status opb_session_connect(struct opb_session *session,
                                                   struct opb_lane **lane,
                                                   enum opb_connection_kind kind,
                                                   uint64_t deadline_ms);
/* Makes the session know a lane that was accepted (service lanes) - and forget it. */
void opb_session_adopt(struct opb_session *session, struct opb_lane *lane);
void opb_session_forget(struct opb_session *session, struct opb_lane *lane);

#define OPB_ANY_WORKER UINT32_MAX

/* Takes a free call lane of an active session, or connects one; waits for a host until
 * deadline_ms. worker: of that one; OPB_ANY_WORKER: of the one in which the fewest calls
 * are in progress, and among those, of the one that was used last. Gives both (*session
 * with a reference). OPB_LATE: no host in time. OPB_STOPPING: the node is past serving. */
OPB_MUST_CHECK enum opb_status opb_lane_acquire(struct opb_node *node, uint32_t worker,
                                                struct opb_session **session,
                                                struct opb_lane **lane,
                                                uint64_t deadline_ms);
/* The same in a given session, which is or was the active one. OPB_GONE: it has ended.
 * Gives *lane, and takes a reference of its own for opb_lane_release(). */
OPB_MUST_CHECK enum opb_status opb_lane_acquire_in(struct opb_session *session,
                                                   struct opb_lane **lane,
                                                   uint64_t deadline_ms);
/* Gives the lane back (failed ones are closed) and drops the reference. */
void opb_lane_release(struct opb_session **session, struct opb_lane **lane);

#endif
