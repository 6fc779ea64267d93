/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/load.h - the first and the last call of a host
 *
 * Here:      Load, which imports the script, and Finalize, which lets it end; both on the
 *            host's main lane.
 * Elsewhere: which host, when, on which thread (pool.c).
 */
#ifndef OPB_LOAD_H
#define OPB_LOAD_H

#include "scripts.h"
#include "session.h"

/* What a host is told besides what its session knows. */
struct opb_load {
    const char *orthanc_path;
    const char *node_socket;
    const struct opb_scripts *scripts;
};

/* Connects the main lane and runs Load on the calling thread: the host's death ends it, and
 * deadline_ms, which is OPB_FOREVER where nothing else can be done than to wait. Gives
 * *lane, known to the session: end it with opb_load_close_lane(), after a failure once the
 * host has ended, since it ends with the lane and says so. On failure *lane may be NULL,
 * and message holds one sentence for the log. OPB_GONE: the host has ended. OPB_REFUSED:
 * the script raised (the host has logged the traceback, which is in message as far as it
 * fits: *is_logged), or cannot be imported, or not in time. *files, to be freed, is NULL or
 * has the files of the script: each path ends with a NUL, the last one with two. */
OPB_MUST_CHECK enum opb_status opb_load_run(struct opb_session *session,
                                            const struct opb_load *load,
                                            uint64_t deadline_ms, struct opb_lane **lane,
                                            bool *is_logged, char **files, char *message,
                                            size_t capacity);

/* Runs Finalize on the calling thread until deadline_ms, and logs what went wrong. True if
 * the host has finished and ends now. */
bool opb_load_finalize(struct opb_session *session, struct opb_lane *lane,
                       uint64_t deadline_ms);

/* Sets *lane to NULL. NULL in it is fine. */
void opb_load_close_lane(struct opb_session *session, struct opb_lane **lane);

#endif
