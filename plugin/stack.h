/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/stack.h - large private stacks for small threads
 *
 * Here:      running a function on a pooled, guarded stack, on the same kernel thread.
 * Elsewhere: who needs one (call.c).
 *
 * HTTP threads of Orthanc have 100 KiB of stack; one nested archive route needs 75
 * (core notes 1.3). The kernel thread stays the same, so that mutexes and thread-locals
 * hold.
 */
#ifndef OPB_STACK_H
#define OPB_STACK_H

#include "protocol/status.h"

#include <stdbool.h>
#include <stddef.h>

#define OPB_STACK_BYTES                                                                    \
    (8u * 1024u * 1024u) /* address space; pages are taken when touched */
#define OPB_MAX_IDLE_STACKS 128u

/* Runs fn(argument) on a private stack; on this one if the thread is on such a stack
 * already. OPB_NO_MEMORY: fn has not run. */
OPB_MUST_CHECK enum opb_status opb_stack_run(void (*fn)(void *), void *argument);
bool opb_stack_is_private(void); /* the calling thread is on one now */
/* Unmaps the idle stacks. None may be in use. */
void opb_stacks_fini(void);
size_t opb_stacks_idle(void); /* for tests */

#endif
