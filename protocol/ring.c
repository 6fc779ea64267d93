/* SPDX-License-Identifier: GPL-3.0-or-later */
/* protocol/ring.c - two rings of bytes in memory that both ends of a lane map
 *
 * Here:      the layout: a page with the indices, then the bytes of both directions.
 * Indices count bytes and are never reduced; they wrap at 2^32, which is a multiple of the
 * size. Elsewhere: the contract (ring.h), sleeping and waking (stream.c). Called by:
 * stream.c, handshake.c.
 */
#include "protocol/ring.h"

#include "protocol/limits.h"

#include <errno.h>
#include <fcntl.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define HEAD_BYTES   4096u
#define RING_BYTES   ((size_t)HEAD_BYTES + 2 * (size_t)OPB_RING_BYTES)
#define RING_MASK    (OPB_RING_BYTES - 1u)
#define APART        128 /* two cache lines: some machines fetch them in pairs */
#define SEALS        (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)
#define LARGEST_STEP (OPB_RING_BYTES / 4u) /* so that the reader starts before the end */

_Static_assert((OPB_RING_BYTES & RING_MASK) == 0, "the size of a ring is a power of two");

/* In the shared memory. What the reader changes for each frame is apart from what the
 * writer looks at for each: then only the first line and the bytes go from core to core. */
struct direction {
    alignas(APART) _Atomic uint32_t written;         /* the writer's index */
    _Atomic uint32_t is_room_awaited;                /* the writer sleeps */
    alignas(APART) _Atomic uint32_t read;            /* the reader's index */
    alignas(APART) _Atomic uint32_t is_data_awaited; /* the reader sleeps */
};

_Static_assert(2 * sizeof(struct direction) <= HEAD_BYTES, "both are in the first page");

struct opb_ring {
    uint8_t *memory; /* owned */
    struct direction *in;
    struct direction *out;
    const uint8_t *in_bytes;
    uint8_t *out_bytes;
    uint32_t read;      /* ours, as the peer sees it in in->read */
    uint32_t written;   /* ours, as the peer sees it in out->written */
    uint32_t peer_read; /* out->read when it was last looked at: there is this much room */
};

/* The end that made the memory writes to the first direction. */
static enum opb_status
map_memory(struct opb_ring **out, int fd, bool is_maker)
{
    struct opb_ring *ring = calloc(1, sizeof(*ring));
    struct direction *directions;
    uint8_t *bytes;

    *out = NULL;
    if (ring == NULL) {
        return OPB_NO_MEMORY;
    }
    ring->memory = mmap(NULL, RING_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (ring->memory == MAP_FAILED) {
        free(ring);
        return errno == ENOMEM ? OPB_NO_MEMORY : OPB_SYSTEM;
    }
    /* A child of a fork must not write into its parent's lane. */
    if (madvise(ring->memory, RING_BYTES, MADV_DONTFORK) != 0) {
        opb_ring_free(ring);
        return OPB_SYSTEM;
    }
    directions = (struct direction *)(void *)ring->memory; /* a page: aligned */
    bytes = ring->memory + HEAD_BYTES;
    ring->out = &directions[is_maker ? 0 : 1];
    ring->in = &directions[is_maker ? 1 : 0];
    ring->out_bytes = bytes + (is_maker ? 0 : OPB_RING_BYTES);
    ring->in_bytes = bytes + (is_maker ? OPB_RING_BYTES : 0);
    *out = ring;
    return OPB_OK;
}

enum opb_status
opb_ring_create(struct opb_ring **out, int *fd)
{
    enum opb_status status = OPB_SYSTEM;

    *out = NULL;
    *fd = memfd_create("opb-lane", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (*fd < 0) {
        return OPB_SYSTEM;
    }
    if (ftruncate(*fd, (off_t)RING_BYTES) == 0 && fcntl(*fd, F_ADD_SEALS, SEALS) == 0) {
        status = map_memory(out, *fd, true);
    }
    if (status != OPB_OK) {
        (void)close(*fd); /* nobody else knows it */
        *fd = -1;
    }
    return status;
}

enum opb_status
opb_ring_map(struct opb_ring **out, int *fd)
{
    enum opb_status status = OPB_BAD_FRAME;
    struct stat about;
    int seals;

    *out = NULL;
    seals = fcntl(*fd, F_GET_SEALS); /* fails for what is no memory file */
    if (seals >= 0 && (seals & F_SEAL_SHRINK) != 0 && fstat(*fd, &about) == 0 &&
        about.st_size == (off_t)RING_BYTES) {
        status = map_memory(out, *fd, false);
    }
    (void)close(*fd); /* the mapping stays */
    *fd = -1;
    return status;
}

void
opb_ring_free(struct opb_ring *ring)
{
    if (ring != NULL) {
        (void)munmap(ring->memory, RING_BYTES); /* ours: cannot fail */
        free(ring);
    }
}

/* True once, if the peer has said that it sleeps. */
static bool
take_request(_Atomic uint32_t *is_awaited)
{
    return atomic_load(is_awaited) != 0 && atomic_exchange(is_awaited, 0) != 0;
}

enum opb_status
opb_ring_read(struct opb_ring *ring, void *out, size_t capacity, size_t *count,
              bool *is_awaited)
{
    uint32_t there =
        atomic_load_explicit(&ring->in->written, memory_order_acquire) - ring->read;
    uint32_t bytes = capacity < there ? (uint32_t)capacity : there;
    uint32_t start = ring->read & RING_MASK;
    uint32_t first = bytes < OPB_RING_BYTES - start ? bytes : OPB_RING_BYTES - start;

    *count = 0;
    *is_awaited = false;
    if (there > OPB_RING_BYTES) {
        return OPB_BAD_FRAME;
    }
    if (bytes == 0) {
        return OPB_OK;
    }
    memcpy(out, ring->in_bytes + start, first);
    memcpy((uint8_t *)out + first, ring->in_bytes, bytes - first);
    ring->read += bytes;
    atomic_store(&ring->in->read, ring->read); /* before is_room_awaited is looked at */
    *is_awaited = take_request(&ring->in->is_room_awaited);
    *count = bytes;
    return OPB_OK;
}

/* Copies one part, or the beginning of it, behind what is written. */
static uint32_t
copy_in(struct opb_ring *ring, const struct iovec *part, uint32_t room)
{
    uint32_t bytes = part->iov_len < room ? (uint32_t)part->iov_len : room;
    uint32_t start = ring->written & RING_MASK;
    uint32_t first = bytes < OPB_RING_BYTES - start ? bytes : OPB_RING_BYTES - start;

    if (bytes > 0) { /* an empty part may be NULL */
        memcpy(ring->out_bytes + start, part->iov_base, first);
        memcpy(ring->out_bytes, (const uint8_t *)part->iov_base + first, bytes - first);
        ring->written += bytes;
    }
    return bytes;
}

enum opb_status
opb_ring_write(struct opb_ring *ring, const struct iovec *parts, size_t part_count,
               size_t *count, bool *is_awaited)
{
    uint32_t room = OPB_RING_BYTES - (ring->written - ring->peer_read);

    *count = 0;
    *is_awaited = false;
    if (room < LARGEST_STEP) { /* perhaps there is more by now */
        uint32_t peer_read = atomic_load_explicit(&ring->out->read, memory_order_acquire);

        if (ring->written - peer_read > OPB_RING_BYTES) {
            return OPB_BAD_FRAME;
        }
        ring->peer_read = peer_read;
        room = OPB_RING_BYTES - (ring->written - peer_read);
    }
    if (room > LARGEST_STEP) {
        room = LARGEST_STEP;
    }
    for (size_t i = 0; i < part_count && room > 0; i++) {
        uint32_t bytes = copy_in(ring, &parts[i], room);

        room -= bytes;
        *count += bytes;
    }
    if (*count > 0) {
        atomic_store(&ring->out->written, ring->written); /* before is_data_awaited */
        *is_awaited = take_request(&ring->out->is_data_awaited);
    }
    return OPB_OK;
}

bool
opb_ring_has_data(const struct opb_ring *ring)
{
    return atomic_load(&ring->in->written) != ring->read;
}

bool
opb_ring_has_room(const struct opb_ring *ring)
{
    return ring->written - atomic_load(&ring->out->read) != OPB_RING_BYTES;
}

void
opb_ring_await_data(struct opb_ring *ring, bool is_waiting)
{
    atomic_store(&ring->in->is_data_awaited, is_waiting ? 1 : 0);
}

void
opb_ring_await_room(struct opb_ring *ring, bool is_waiting)
{
    atomic_store(&ring->out->is_room_awaited, is_waiting ? 1 : 0);
}
