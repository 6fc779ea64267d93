/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/session_state.h - what session.c and session_lanes.c share
 *
 * Everything that changes is guarded by node->lock.
 */
#ifndef OPB_SESSION_STATE_H
#define OPB_SESSION_STATE_H

#include "session.h"

#define DEATH_TEXT_BYTES   256u
#define PASSED_FENCES      64u /* more are never awaited at a time, nearly */
#define IDLE_MESSAGES      64u
#define CONNECT_TIMEOUT_MS 5000u /* for one attempt to open a lane */

enum session_state { SESSION_LOADING, SESSION_ACTIVE, SESSION_DEAD };

struct known_lane {
    struct known_lane *next;
    struct opb_lane *lane;
    bool is_call; /* counts for OPB_MAX_CALL_LANES */
};

struct opb_session {
    struct opb_node *node;
    uint32_t host;
    pid_t pid;
    uint64_t born_ms;
    uint32_t worker;
    uint32_t worker_count;
    bool is_child;
    struct opb_handles *handles;
    uint32_t reference_count;
    enum session_state state;
    bool is_condemned; /* takes no new calls */
    uint64_t mute_ms;  /* when the first lane began to wait that got no answer; 0: none */
    char death[DEATH_TEXT_BYTES];
    struct known_lane *lanes;
    struct opb_lane *idle[OPB_IDLE_CALL_LANES]; /* last in, first out */
    uint32_t idle_count;
    uint32_t call_lane_count; /* open or being opened */
    uint64_t call_count;
    uint64_t used; /* node->call_count when it was last given a call */
    bool is_draining;
    struct opb_message *messages[IDLE_MESSAGES];
    uint32_t message_count;
    uint64_t fences[PASSED_FENCES]; /* the last that were passed; 0: none */
    uint32_t fence_next;
};

/* Waits for a change of the node, with its lock held. False once deadline_ms has passed. */
bool opb_session_wait_changed(struct opb_node *node, uint64_t deadline_ms);

#endif
