/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/call_state.h - what call.c and call_outcome.c share */
#ifndef OPB_CALL_STATE_H
#define OPB_CALL_STATE_H

#include "call.h"

/* A call, from when it is asked for until its outcome is known. On its thread's stack. */
struct opb_job {
    struct opb_node *node;
    struct opb_session *session; /* given (run_on), or acquired */
    struct opb_lane *lane;
    enum opb_call_index kind;
    const struct opb_call_io *io;
    const char *what;
    uint64_t deadline_ms;
    uint32_t timeout_ms; /* from when it runs; 0: none */
    bool is_last;        /* so the time is DrainTimeout */
    uint64_t begin_us;
    char *text;
    size_t text_capacity;
    enum opb_outcome outcome;
};

/* Counts and logs what became of it. A host that has not answered in time is given up. */
void opb_job_log_outcome(const struct opb_job *job, const char *text);
/* No host was to be had: if there is one that does not even take lanes, it is given up. */
void opb_call_give_up_mute(struct opb_node *node);

#endif
