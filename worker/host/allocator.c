/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/host/allocator.c - what the C library's allocator of a host keeps
 *
 * Here:      few arenas, and memory of large objects that is kept for the next ones.
 * Elsewhere: the plugin's own blocks (protocol/blocks.c). In Orthanc nothing is set.
 * Called by: main.c, before there is a thread or an interpreter.
 *
 * Threads of lanes would get an arena each, up to eight for each core, which keep what the
 * largest bodies needed. Few are enough where the GIL is taken in turn.
 *
 * Memory beyond the thresholds goes back to the kernel when it is freed, and is cleared
 * page by page when it is wanted again: 128 page faults for an image of 512 KB, which take
 * longer than its way to here. The C library begins with 128 KiB, and raises that by what
 * it sees freed, up to what is set here, as Orthanc's own large buffers make it do there.
 */
#include "host.h"

#include <malloc.h>
#include <stdlib.h>

#define ARENA_COUNT     2
#define LARGEST_IN_HEAP (32 * 1024 * 1024) /* the C library allows no more */
#define MOST_KEPT       (2 * LARGEST_IN_HEAP)

/* Who has set the C library's own variables has decided otherwise. */
static bool
is_decided(const char *variable)
{
    return getenv(variable) != NULL || getenv("GLIBC_TUNABLES") != NULL;
}

void
opb_allocator_set_up(void)
{
    /* a sanitizer's allocator refuses, and that is fine */
    if (!is_decided("MALLOC_ARENA_MAX")) {
        (void)mallopt(M_ARENA_MAX, ARENA_COUNT);
    }
    if (!is_decided("MALLOC_MMAP_THRESHOLD_") && !is_decided("MALLOC_TRIM_THRESHOLD_")) {
        (void)mallopt(M_MMAP_THRESHOLD, LARGEST_IN_HEAP);
        (void)mallopt(M_TRIM_THRESHOLD, MOST_KEPT);
    }
}
