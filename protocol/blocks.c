/* SPDX-License-Identifier: GPL-3.0-or-later */
/* protocol/blocks.c - see blocks.h
 *
 * A block is a mapping of whole large pages. The few that exist are in a list, and known by
 * their address: nothing in front of it would survive MADV_FREE.
 */
#include "protocol/blocks.h"

#include "protocol/pages.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

#define ALIGNMENT      ((size_t)2 * 1024 * 1024) /* a large page of most machines */
#define SMALLEST_BYTES ((size_t)4 * 1024 * 1024)
#define LARGEST_KEPT   ((size_t)64 * 1024 * 1024)
#define MOST_KEPT      2u

struct block {
    struct block *next;
    void *memory;
    size_t bytes; /* a multiple of ALIGNMENT */
    bool is_used;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct block *blocks; /* used and idle; of the idle, the last given back is first */
static size_t idle_count;

/* A mapping that begins at a multiple of ALIGNMENT. */
static void *
map_aligned(size_t bytes)
{
    uint8_t *map = mmap(NULL, bytes + ALIGNMENT, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    size_t before;

    if (map == MAP_FAILED) {
        return NULL;
    }
    before = (size_t)(-(uintptr_t)map & (ALIGNMENT - 1u));
    /* Parts of a mapping of ours; where the kernel cannot split it, they stay mapped. */
    if (before > 0) {
        (void)munmap(map, before);
    }
    if (before < ALIGNMENT) {
        (void)munmap(map + before + bytes, ALIGNMENT - before);
    }
    opb_pages_prepare(map + before, bytes);
    return map + before;
}

static struct block *
block_new(size_t bytes)
{
    struct block *block = malloc(sizeof(*block));

    if (block == NULL) {
        return NULL;
    }
    block->bytes = bytes;
    block->is_used = true;
    block->memory = map_aligned(bytes);
    if (block->memory == NULL) {
        free(block);
        return NULL;
    }
    return block;
}

static void
block_unmap(struct block *block)
{
    (void)munmap(block->memory, block->bytes); /* a mapping of ours: cannot fail */
    free(block);
}

/* The smallest that is large enough, but is no waste. With the lock held. */
static struct block *
find_idle(size_t bytes)
{
    struct block *best = NULL;

    for (struct block *block = blocks; block != NULL; block = block->next) {
        if (!block->is_used && block->bytes >= bytes && block->bytes / 4 <= bytes &&
            (best == NULL || block->bytes < best->bytes)) {
            best = block;
        }
    }
    return best;
}

static void
link_first(struct block *block)
{
    block->next = blocks;
    blocks = block;
}

void *
opb_block_alloc(size_t bytes)
{
    struct block *block;
    size_t rounded;

    if (bytes < SMALLEST_BYTES || bytes > SIZE_MAX / 2) {
        void *memory = malloc(bytes);

        opb_pages_prepare(memory, bytes);
        return memory;
    }
    rounded = (bytes + ALIGNMENT - 1u) & ~(ALIGNMENT - 1u);
    (void)pthread_mutex_lock(&lock); /* a normal mutex: cannot fail */
    block = find_idle(rounded);
    if (block != NULL) {
        block->is_used = true;
        idle_count--;
    }
    (void)pthread_mutex_unlock(&lock);
    if (block != NULL) {
        return block->memory;
    }
    block = block_new(rounded);
    if (block == NULL) {
        return NULL;
    }
    (void)pthread_mutex_lock(&lock);
    link_first(block);
    (void)pthread_mutex_unlock(&lock);
    return block->memory;
}

/* Takes the block at this address that is in use out of the list; NULL: there is none. With
 * the lock held. */
static struct block *
take_used(const void *memory)
{
    for (struct block **link = &blocks; *link != NULL; link = &(*link)->next) {
        struct block *block = *link;

        if (block->memory == memory && block->is_used) {
            *link = block->next;
            return block;
        }
    }
    return NULL;
}

/* Takes the one out of the list that is kept too many: the one that nobody has wanted for
 * the longest time. With the lock held. */
static struct block *
take_surplus(void)
{
    struct block **oldest = NULL;
    struct block *block;

    if (idle_count <= MOST_KEPT) {
        return NULL;
    }
    for (struct block **link = &blocks; *link != NULL; link = &(*link)->next) {
        oldest = (*link)->is_used ? oldest : link;
    }
    block = *oldest;
    *oldest = block->next;
    idle_count--;
    return block;
}

void
opb_block_free(void *memory)
{
    struct block *surplus;
    struct block *block = NULL;

    if (((uintptr_t)memory & (ALIGNMENT - 1u)) == 0 && memory != NULL) {
        (void)pthread_mutex_lock(&lock);
        block = take_used(memory);
        (void)pthread_mutex_unlock(&lock);
    }
    if (block == NULL) {
        free(memory);
        return;
    }
    if (block->bytes > LARGEST_KEPT) {
        block_unmap(block);
        return;
    }
    /* Not with the lock held. A kernel that refuses leaves it as it is. */
    (void)madvise(block->memory, block->bytes, MADV_FREE);
    block->is_used = false;
    (void)pthread_mutex_lock(&lock);
    idle_count++;
    link_first(block);
    surplus = take_surplus();
    (void)pthread_mutex_unlock(&lock);
    if (surplus != NULL) {
        block_unmap(surplus);
    }
}

void
opb_blocks_fini(void)
{
    struct block *used = NULL;

    (void)pthread_mutex_lock(&lock);
    while (blocks != NULL) {
        struct block *block = blocks;

        blocks = block->next;
        if (block->is_used) {
            block->next = used;
            used = block;
        }
        else {
            block_unmap(block);
        }
    }
    blocks = used;
    idle_count = 0;
    (void)pthread_mutex_unlock(&lock);
}

size_t
opb_blocks_idle(void)
{
    size_t count;

    (void)pthread_mutex_lock(&lock);
    count = idle_count;
    (void)pthread_mutex_unlock(&lock);
    return count;
}
