/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/deadlocks.h - SDK calls that would never return
 *
 * Here:      what the calling thread is inside of, as far as it matters, and which SDK
 *            calls Orthanc cannot finish there, since it holds a lock that they need.
 * Elsewhere: the callbacks that a thread is inside of (call.c), the refusal (invocation.c).
 *
 * A script that makes such a call would hang its thread and, with the lock, the server: it
 * gets an exception instead.
 */
#ifndef OPB_DEADLOCKS_H
#define OPB_DEADLOCKS_H

#include "invocation.h"

/* An SDK call that the thread is inside of, from begin to end; on the stack. */
struct opb_running {
    const struct opb_sdk_function *function;
    const struct opb_running *outer;
};
void opb_running_begin(struct opb_running *running,
                       const struct opb_sdk_function *function);
void opb_running_end(const struct opb_running *running);

/* True if the function would not return, on this thread, in this Orthanc (version as of
 * opb_orthanc_version()); text then says why. */
bool opb_deadlock_is_certain(const struct opb_sdk_function *function, uint32_t version,
                             char *text, size_t capacity);

#endif
