/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/host/slow.h - calls that take longer than Python.SlowCall
 *
 * Here:      a thread that wakes when the oldest call has taken that long, and tells the
 *            node's log where it is. Used by calls.c, main_lane.c and finalize.c.
 * Elsewhere: ending calls that take too long (the node's CallTimeout).
 */
#ifndef OPB_HOST_SLOW_H
#define OPB_HOST_SLOW_H

#include "host.h"

/* One call, in the frame of the function that runs it. */
struct opb_slow_call {
    const char *name;        /* of the kind */
    struct opb_frame *frame; /* lent */
    uint64_t start_ms;
    unsigned long thread;
    bool is_watched;
    bool is_told;
    struct opb_slow_call *next;
    struct opb_slow_call *previous;
};

/* GIL held, once, before the first call. 0: no call is slow, and there is no thread. */
OPB_MUST_CHECK enum opb_status opb_slow_begin(uint32_t slow_ms);
/* GIL held, around a call, on its thread. */
void opb_slow_enter(struct opb_slow_call *call, const char *name, struct opb_frame *frame);
void opb_slow_leave(struct opb_slow_call *call);
/* Without the GIL, before Python ends: the thread is gone after it. */
void opb_slow_end(void);

#endif
