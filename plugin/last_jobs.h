/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/last_jobs.h - jobs that would never run, since Orthanc stops
 *
 * Here:      cancelling them. Elsewhere: when (callback_change.c).
 *
 * An SDK call that waits for a job ("Synchronous") waits in the core's list of jobs. If
 * Orthanc stops before the job has begun, nobody ends that wait, and the core waits for
 * ever in its turn, to free the list (seen with 1.10.1). For calls of its own threads that
 * is what HTTP's end prevents; those on threads of ours it does not know.
 */
#ifndef OPB_LAST_JOBS_H
#define OPB_LAST_JOBS_H

#include "node.h"

#include <time.h>

struct opb_last_jobs;

/* Inside ORTHANC_STOPPED, when a call has not returned: begins to cancel jobs that were
 * submitted at that time or later and have not begun, on a thread of its own. For this one
 * must not wait for the list of jobs: up to 1.12.1 a job that has just ended holds it, and
 * waits for ORTHANC_STOPPED to be over. NULL: without a thread nothing is done. */
struct opb_last_jobs *opb_last_jobs_begin(struct opb_node *node, time_t since);
/* ORTHANC_STOPPED is about to be over: the thread leaves soon after. NULL is fine. */
void opb_last_jobs_hurry(struct opb_last_jobs *last);
/* Joins the thread. NULL is fine. */
void opb_last_jobs_end(struct opb_last_jobs *last);

#endif
