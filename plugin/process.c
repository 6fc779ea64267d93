/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/process.c - what the kernel says of another process
 *
 * PSS may be read of processes of one's own user only, RSS of all.
 */
#include "plugin/process.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

static void
read_rollup(FILE *file, struct opb_process_memory *out)
{
    char line[128];
    unsigned long long kib;

    while (fgets(line, sizeof(line), file) != NULL) {
        if (sscanf(line, "Pss: %20llu kB", &kib) == 1) {
            out->pss_kib = kib;
        }
        else if (sscanf(line, "Rss: %20llu kB", &kib) == 1) {
            out->rss_kib = kib;
        }
    }
}

static void
read_statm(pid_t pid, struct opb_process_memory *out)
{
    unsigned long long pages = 0;
    char path[64];
    FILE *file;

    (void)snprintf(path, sizeof(path), "/proc/%ld/statm", (long)pid); /* fits */
    file = fopen(path, "re");
    if (file != NULL) {
        if (fscanf(file, "%*s %20llu", &pages) == 1) {
            out->rss_kib = pages * ((unsigned long long)sysconf(_SC_PAGESIZE) / 1024u);
        }
        (void)fclose(file); /* read only */
    }
}

bool
opb_process_memory(pid_t pid, struct opb_process_memory *out)
{
    char path[64];
    FILE *file;
    int error;

    *out = (struct opb_process_memory){.pss_kib = 0};
    (void)snprintf(path, sizeof(path), "/proc/%ld/smaps_rollup", (long)pid); /* fits */
    file = fopen(path, "re");
    error = errno;
    if (file != NULL) {
        error = EIO;
        read_rollup(file, out);
        (void)fclose(file); /* read only */
    }
    if (out->rss_kib == 0) {
        read_statm(pid, out);
    }
    errno = error;
    return out->rss_kib != 0;
}
