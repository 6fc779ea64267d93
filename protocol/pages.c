/* SPDX-License-Identifier: GPL-3.0-or-later */
/* protocol/pages.c - see pages.h */
#include "protocol/pages.h"

#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

/* Below that the faults cost less than what a kernel may do to find large pages. */
#define SMALLEST_BYTES (4u * 1024u * 1024u)

void
opb_pages_prefer_large(void *memory, size_t bytes)
{
    long page_bytes = sysconf(_SC_PAGESIZE);
    uintptr_t mask = (uintptr_t)page_bytes - 1u;
    uintptr_t first;
    uintptr_t end;

    if (memory == NULL || bytes < SMALLEST_BYTES || page_bytes <= 0) {
        return;
    }
    first = ((uintptr_t)memory + mask) & ~mask;
    end = ((uintptr_t)memory + bytes) & ~mask;
    /* only a hint: what it says does not matter */
    (void)madvise((void *)first, end - first, MADV_HUGEPAGE);
}
