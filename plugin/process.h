/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/process.h - what the kernel says of another process */
#ifndef OPB_PROCESS_H
#define OPB_PROCESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct opb_process_memory {
    uint64_t pss_kib; /* shared pages in part; 0: it may not be read */
    uint64_t rss_kib; /* shared pages in full */
};

/* False: neither is known. errno says why there is no PSS. The kernel walks through the
 * process's memory for it, which takes milliseconds for a large one. */
bool opb_process_memory(pid_t pid, struct opb_process_memory *out);

#endif
