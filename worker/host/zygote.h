/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/host/zygote.h - the zygote's own side
 *
 * Here:      what zygote.c and preload.c offer each other and main.c.
 * Elsewhere: the notes (worker/zygote.h), who asks (worker/supervisor/zygote.c).
 */
#ifndef OPB_HOST_ZYGOTE_H
#define OPB_HOST_ZYGOTE_H

#include "worker/zygote.h"

#include <stdbool.h>
#include <stdint.h>

/* Levels of lines in the node's log (OPB_CONTROL_LOG). */
#define OPB_ZYGOTE_ERROR   0
#define OPB_ZYGOTE_WARNING 1

struct opb_zygote_options {
    int fd; /* a SOCK_SEQPACKET socket to the supervisor, always descriptor 3 */
    bool verbose;
    char **modules;
    unsigned module_count;
    char *arguments; /* what ps shows, to be overwritten by hosts */
    size_t argument_bytes;
};

/* zygote.c. Runs the zygote on the main thread. Returns in each host that it forks, with
 * Python started, no GIL held, and the host's control socket in place of the zygote's; else
 * it ends the process. */
void opb_zygote_run(const struct opb_zygote_options *options);
/* To the supervisor; the process ends with it. text may be NULL, and is cut. */
void opb_zygote_tell(int fd, enum opb_zygote_word word, uint32_t id, int32_t number,
                     const char *text);
void opb_zygote_log(int fd, int level, const char *line);

/* preload.c. GIL held. False: the supervisor has been told why. */
bool opb_preload(int fd, char *const *modules, unsigned count);

#endif
