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

/* The pages that are wholly inside: *first, and how many bytes they have. */
static size_t
pages_inside(void *memory, size_t bytes, size_t page_bytes, void **first)
{
    uintptr_t mask = (uintptr_t)page_bytes - 1u;
    uintptr_t begin = ((uintptr_t)memory + mask) & ~mask;
    uintptr_t end = ((uintptr_t)memory + bytes) & ~mask;

    *first = (void *)begin;
    return end > begin ? end - begin : 0;
}

void
opb_pages_prefer_large(void *memory, size_t bytes)
{
    long page_bytes = sysconf(_SC_PAGESIZE);
    size_t inside;
    void *first;

    if (memory == NULL || bytes < SMALLEST_LARGE || page_bytes <= 0) {
        return;
    }
    inside = pages_inside(memory, bytes, (size_t)page_bytes, &first);
    /* only a hint: what it says does not matter */
    (void)madvise(first, inside, MADV_HUGEPAGE);
}

void
opb_pages_provide(void *memory, size_t bytes)
{
    unsigned char is_there[FEW_PAGES];
    long page_bytes = sysconf(_SC_PAGESIZE);
    size_t count;
    size_t known = 0;
    void *first;

    if (memory == NULL || bytes < SMALLEST_PROVIDED || bytes >= SMALLEST_LARGE ||
        page_bytes < 4096) {
        return;
    }
    count = pages_inside(memory, bytes, (size_t)page_bytes, &first) / (size_t)page_bytes;
    if (count == 0 || mincore(first, count * (size_t)page_bytes, is_there) != 0) {
        return; /* the pages come one by one */
    }
    while (known < count && (is_there[known] & 1u) != 0) {
        known++;
    }
    if (known < count) { /* as above: only a hint */
        (void)madvise((uint8_t *)first + known * (size_t)page_bytes,
                      (count - known) * (size_t)page_bytes, MADV_POPULATE_WRITE);
    }
}
