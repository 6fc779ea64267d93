/* SPDX-License-Identifier: GPL-3.0-or-later */
/* protocol/pages.c - see pages.h */
#include "protocol/pages.h"

#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

/* Below that the faults cost less than what a kernel may do to find large pages. */
#define SMALLEST_LARGE ((size_t)4 * 1024 * 1024)
/* Below that they cost no more than asking which are to come. */
#define SMALLEST_PROVIDED ((size_t)64 * 1024)
#define FEW_PAGES         (SMALLEST_LARGE / 4096)

/* A hint: what the kernel says to it does not matter, nor to the one below. */
static void
prefer_large(void *first, size_t bytes)
{
    (void)madvise(first, bytes, MADV_HUGEPAGE);
}

/* From the first page on that is not there. */
static void
provide(uint8_t *first, size_t bytes, size_t page_bytes)
{
    unsigned char is_there[FEW_PAGES];
    size_t known = 0;

    if (mincore(first, bytes, is_there) != 0) {
        return; /* the pages come one by one */
    }
    while (known < bytes / page_bytes && (is_there[known] & 1u) != 0) {
        known++;
    }
    if (known < bytes / page_bytes) {
        (void)madvise(first + known * page_bytes, bytes - known * page_bytes,
                      MADV_POPULATE_WRITE);
    }
}

void
opb_pages_prepare(void *memory, size_t bytes)
{
    long page_bytes = sysconf(_SC_PAGESIZE);
    uintptr_t mask = (uintptr_t)page_bytes - 1u;
    uintptr_t first;
    uintptr_t end;

    if (memory == NULL || bytes < SMALLEST_PROVIDED || page_bytes < 4096) {
        return;
    }
    first = ((uintptr_t)memory + mask) & ~mask; /* the pages that are wholly inside */
    end = ((uintptr_t)memory + bytes) & ~mask;
    if (end <= first) {
        return;
    }
    if (bytes >= SMALLEST_LARGE) {
        prefer_large((void *)first, end - first);
    }
    else {
        provide((uint8_t *)first, end - first, (size_t)page_bytes);
    }
}
