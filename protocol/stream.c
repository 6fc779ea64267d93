/* SPDX-License-Identifier: GPL-3.0-or-later */
/* protocol/stream.c - bytes in and out of a lane
 *
 * Here:      over its socket, or through memory that both ends map, with the socket left
 *            for waking whoever sleeps and for noticing that the peer is gone; waiting,
 *            with deadlines; looking for a while before sleeping.
 * Elsewhere: the memory itself (ring.c), frames (lane.c, receive.c), agreeing on memory
 *            (offer.c).
 * Called by: lane.c, receive.c, exchange.c.
 */
#include "protocol/internal.h"
#include "protocol/ring.h"
#include "protocol/sockets.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

/* Longer than a script takes from one SDK call to the next and than most SDK calls take,
 * about as long as a sleeping thread takes to be woken on another core. */
#define LINGER_NS 50000
/* Looks at memory before the first yield: the most take some 3 microseconds. */
#define FEWEST_LOOKS 16u
#define MOST_LOOKS   128u
#define MOST_SKIPPED 15u
#define MOST_CROWDED 255u
/* Reads of wakes that came too late, which are few. */
#define MOST_STALE_READS 16u

enum want { WANT_DATA, WANT_ROOM };

/* What came of looking. Crowded: others need the core, who looks there is late. */
enum look { LOOK_FOUND, LOOK_VAIN, LOOK_CROWDED };

/* -- the socket ---------------------------------------------------------------- */

enum opb_status
opb_lane_wait(struct opb_lane *lane, short events, uint64_t deadline_ms)
{
    struct pollfd item = {.fd = lane->fd, .events = events};

    for (;;) {
        int count = poll(&item, 1, opb_deadline_poll(deadline_ms));

        if (count > 0) {
            return OPB_OK;
        }
        if (count == 0) {
            if (opb_clock_ms() >= deadline_ms) {
                return OPB_LATE;
            }
            continue; /* a deadline further away than poll() can count */
        }
        if (errno != EINTR) {
            return OPB_SYSTEM;
        }
    }
}

/* recv(), and the descriptor that comes with the welcome where one is wanted. */
static ssize_t
receive_bytes(struct opb_lane *lane, void *out, size_t capacity, int flags)
{
    return lane->is_ring_wanted ? opb_offer_receive(lane, out, capacity, flags)
                                : recv(lane->fd, out, capacity, flags);
}

static enum opb_status
read_socket(struct opb_lane *lane, void *out, size_t capacity, bool is_bulk,
            uint64_t deadline_ms, size_t *count)
{
    int flags = is_bulk ? MSG_WAITALL : 0;

    if (deadline_ms != OPB_FOREVER) {
        flags = MSG_DONTWAIT;
    }
    for (;;) {
        enum opb_status status = OPB_OK;
        ssize_t bytes;

        if (deadline_ms != OPB_FOREVER) {
            status = opb_lane_wait(lane, POLLIN, deadline_ms);
        }
        if (status != OPB_OK) {
            return status;
        }
        bytes = receive_bytes(lane, out, capacity, flags);
        if (bytes > 0) {
            *count = (size_t)bytes;
            return OPB_OK;
        }
        if (bytes == 0 || errno == ECONNRESET) {
            return OPB_GONE;
        }
        if (errno == EAGAIN || errno == EWOULDBLOCK) {
            /* Someone has made the socket non-blocking (an event loop does). */
            status = opb_lane_wait(lane, POLLIN, deadline_ms);
            if (status != OPB_OK) {
                return status;
            }
        }
        else if (errno != EINTR) {
            return OPB_SYSTEM;
        }
    }
}

/* Forgets the first bytes of a list of parts, and what is empty after them. */
static void
advance(struct iovec **parts, size_t *part_count, size_t bytes)
{
    while (*part_count > 0 && bytes >= (*parts)->iov_len) {
        bytes -= (*parts)->iov_len;
        (*parts)++;
        (*part_count)--;
    }
    if (*part_count > 0) {
        (*parts)->iov_base = (uint8_t *)(*parts)->iov_base + bytes;
        (*parts)->iov_len -= bytes;
    }
}

static enum opb_status
write_socket(struct opb_lane *lane, struct iovec *parts, size_t part_count,
             uint64_t deadline_ms, size_t *written)
{
    int flags = MSG_NOSIGNAL | (deadline_ms == OPB_FOREVER ? 0 : MSG_DONTWAIT);

    while (part_count > 0) {
        struct msghdr header = {.msg_iov = parts, .msg_iovlen = part_count};
        ssize_t bytes = lane->offer_fd >= 0 ? opb_offer_send(lane, &header, flags)
                                            : sendmsg(lane->fd, &header, flags);

        if (bytes >= 0) {
            *written += (size_t)bytes;
            advance(&parts, &part_count, (size_t)bytes);
            continue;
        }
        if (errno == EAGAIN || errno == EWOULDBLOCK) {
            enum opb_status status = opb_lane_wait(lane, POLLOUT, deadline_ms);

            if (status != OPB_OK) {
                return status;
            }
            continue;
        }
        if (errno == EPIPE || errno == ECONNRESET) {
            return OPB_GONE;
        }
        if (errno != EINTR) {
            return OPB_SYSTEM;
        }
    }
    return OPB_OK;
}

/* -- memory ---------------------------------------------------------------------- */

/* Wakes the peer. If the socket is full of such bytes it has enough of them. */
static enum opb_status
wake_peer(struct opb_lane *lane)
{
    ssize_t bytes;

    do {
        bytes = send(lane->fd, "", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
    } while (bytes < 0 && errno == EINTR);
    if (bytes == 1 || errno == EAGAIN || errno == EWOULDBLOCK) {
        return OPB_OK;
    }
    return errno == EPIPE || errno == ECONNRESET ? OPB_GONE : OPB_SYSTEM;
}

static bool
is_there(const struct opb_lane *lane, enum want want)
{
    return want == WANT_DATA ? opb_ring_has_data(lane->ring)
                             : opb_ring_has_room(lane->ring);
}

static void
set_awaited(struct opb_lane *lane, enum want want, bool is_waiting)
{
    if (want == WANT_DATA) {
        opb_ring_await_data(lane->ring, is_waiting);
    }
    else {
        opb_ring_await_room(lane->ring, is_waiting);
    }
}

/* Takes what has woken us; waits for it if is_patient. */
static enum opb_status
take_wakes(struct opb_lane *lane, bool is_patient)
{
    char wakes[256];

    for (;;) {
        ssize_t bytes = recv(lane->fd, wakes, sizeof(wakes), is_patient ? 0 : MSG_DONTWAIT);

        if (bytes > 0) {
            return OPB_OK;
        }
        if (bytes == 0 || errno == ECONNRESET) {
            return OPB_GONE;
        }
        if (errno == EAGAIN || errno == EWOULDBLOCK) {
            enum opb_status status =
                is_patient ? opb_lane_wait(lane, POLLIN, OPB_FOREVER) : OPB_OK;

            if (!is_patient || status != OPB_OK) {
                return status;
            }
        }
        else if (errno != EINTR) {
            return OPB_SYSTEM;
        }
    }
}

static void
relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static int64_t
elapsed_ns(const struct timespec *begin, const struct timespec *end)
{
    return (int64_t)(end->tv_sec - begin->tv_sec) * 1000000000 + end->tv_nsec -
           begin->tv_nsec;
}

/* Lets others have the core: the peer may be waiting for it. False if it was somebody else
 * who took it, for longer than the peer does. */
static bool
yield_core(struct timespec *now)
{
    struct timespec before = *now;

    (void)sched_yield();                       /* cannot fail */
    (void)clock_gettime(CLOCK_MONOTONIC, now); /* nor this, for this clock */
    return elapsed_ns(&before, now) < LINGER_NS;
}

/* A peer that has answered when the first yield returns probably shares this core with us:
 * all looks before that are in its way. One that takes more of them is on another. */
static void
learn_looks(struct opb_lane *lane, unsigned yields)
{
    unsigned looks = yields == 1 ? lane->looks / 2 : lane->looks * 2;

    lane->looks = looks < FEWEST_LOOKS ? FEWEST_LOOKS
                  : looks > MOST_LOOKS ? MOST_LOOKS
                                       : looks;
}

static enum look
look_for(struct opb_lane *lane, enum want want)
{
    struct timespec begin;
    struct timespec now;
    unsigned yields = 0;

    for (unsigned i = 0; i < lane->looks || i < FEWEST_LOOKS; i++) {
        if (is_there(lane, want)) {
            learn_looks(lane, 0);
            return LOOK_FOUND;
        }
        relax();
    }
    (void)clock_gettime(CLOCK_MONOTONIC, &begin); /* cannot fail for this clock */
    now = begin;
    while (elapsed_ns(&begin, &now) < LINGER_NS) {
        if (!yield_core(&now)) {
            return LOOK_CROWDED;
        }
        yields++;
        if (is_there(lane, want)) {
            learn_looks(lane, yields);
            return LOOK_FOUND;
        }
    }
    return LOOK_VAIN;
}

/* How often to go without, after a look. */
static unsigned
skip_after(enum look look, unsigned skipped)
{
    switch (look) {
    case LOOK_FOUND:
        return 0;
    case LOOK_VAIN:
        skipped = skipped * 2 + 1;
        return skipped < MOST_SKIPPED ? skipped : MOST_SKIPPED;
    case LOOK_CROWDED:
        break;
    }
    skipped = skipped * 4 + 3;
    return skipped < MOST_CROWDED ? skipped : MOST_CROWDED;
}

/* Inside of a frame the peer is at work for us: its next bytes, or room for ours, are some
 * microseconds away, unless somebody else has its core. Then a yield costs a turn of the
 * scheduler, milliseconds, where a sleeper is woken at once. */
static bool
is_there_soon(struct opb_lane *lane, enum want want)
{
    struct opb_linger *bulk = &lane->bulk;
    enum look look;

    if (bulk->to_skip > 0) {
        bulk->to_skip--;
        return is_there(lane, want);
    }
    look = look_for(lane, want);
    bulk->skipped = look == LOOK_CROWDED ? skip_after(look, bulk->skipped) : 0;
    bulk->to_skip = bulk->skipped;
    return look == LOOK_FOUND;
}

/* Sleeps until the peer says that there may be some, or is gone. */
static enum opb_status
sleep_for(struct opb_lane *lane, enum want want, uint64_t deadline_ms)
{
    enum opb_status status = OPB_OK;

    set_awaited(lane, want, true);
    if (!is_there(lane, want)) {
        if (deadline_ms != OPB_FOREVER) {
            status = opb_lane_wait(lane, POLLIN, deadline_ms);
        }
        if (status == OPB_OK) {
            status = take_wakes(lane, deadline_ms == OPB_FOREVER);
        }
        if (status == OPB_OK && deadline_ms != OPB_FOREVER &&
            opb_clock_ms() >= deadline_ms && !is_there(lane, want)) {
            status = OPB_LATE; /* a peer that wakes, and writes nothing, ends no wait */
        }
    }
    set_awaited(lane, want, false);
    if (status == OPB_GONE && want == WANT_DATA && is_there(lane, want)) {
        return OPB_OK; /* written before it left */
    }
    return status;
}

/* After a shutdown what has been written before counts, as on a socket; but a peer that
 * goes on writing holds nobody up. */
static bool
is_read_out(const struct opb_lane *lane)
{
    return lane->left_bytes == 0 || !opb_ring_has_data(lane->ring);
}

static enum opb_status
read_ring(struct opb_lane *lane, void *out, size_t capacity, bool is_bulk,
          uint64_t deadline_ms, size_t *count)
{
    bool is_shut = false;

    *count = 0;
    while (*count == 0) {
        enum opb_status status;
        bool is_awaited;

        is_shut = atomic_load(&lane->is_shut);
        if (is_shut && is_read_out(lane)) {
            return OPB_GONE;
        }
        status = opb_ring_read(lane->ring, out, capacity, count, &is_awaited);
        if (status == OPB_OK && is_awaited) {
            status = wake_peer(lane);
            if (status == OPB_GONE) {
                status = OPB_OK; /* what it left here counts; the next read says so */
            }
        }
        if (status == OPB_OK && *count == 0 &&
            !(is_bulk && !is_shut && is_there_soon(lane, WANT_DATA))) {
            status = sleep_for(lane, WANT_DATA, deadline_ms);
        }
        if (status != OPB_OK) {
            return status;
        }
    }
    if (is_shut) {
        lane->left_bytes -= *count < lane->left_bytes ? *count : lane->left_bytes;
    }
    return OPB_OK;
}

static enum opb_status
write_ring(struct opb_lane *lane, struct iovec *parts, size_t part_count,
           uint64_t deadline_ms, size_t *written)
{
    while (part_count > 0) {
        enum opb_status status;
        bool is_awaited;
        size_t count;

        if (atomic_load(&lane->is_shut)) {
            return OPB_GONE;
        }
        status = opb_ring_write(lane->ring, parts, part_count, &count, &is_awaited);
        *written += count;
        advance(&parts, &part_count, count);
        if (status == OPB_OK && is_awaited) {
            status = wake_peer(lane);
        }
        if (status == OPB_OK && count == 0 && part_count > 0) {
            if (!is_there_soon(lane, WANT_ROOM)) {
                status = sleep_for(lane, WANT_ROOM, deadline_ms);
            }
            else if (opb_clock_ms() >= deadline_ms) {
                status = OPB_LATE; /* however steadily the peer makes a little room */
            }
        }
        if (status != OPB_OK) {
            return status;
        }
    }
    return OPB_OK;
}

/* -- either ----------------------------------------------------------------------- */

enum opb_status
opb_stream_read(struct opb_lane *lane, void *out, size_t capacity, bool is_bulk,
                uint64_t deadline_ms, size_t *count)
{
    return lane->ring == NULL
               ? read_socket(lane, out, capacity, is_bulk, deadline_ms, count)
               : read_ring(lane, out, capacity, is_bulk, deadline_ms, count);
}

enum opb_status
opb_stream_write(struct opb_lane *lane, struct iovec *parts, size_t part_count,
                 uint64_t deadline_ms, size_t *written)
{
    *written = 0;
    return lane->ring == NULL ? write_socket(lane, parts, part_count, deadline_ms, written)
                              : write_ring(lane, parts, part_count, deadline_ms, written);
}

enum opb_status
opb_stream_write_now(struct opb_lane *lane, const void *bytes, size_t byte_count,
                     size_t *written)
{
    const struct iovec part = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = byte_count};
    bool is_awaited = false;
    enum opb_status status;
    ssize_t count;

    *written = 0;
    if (lane->ring != NULL) {
        status = opb_ring_write(lane->ring, &part, 1, written, &is_awaited);
        return status == OPB_OK && is_awaited ? wake_peer(lane) : status;
    }
    do {
        count = send(lane->fd, bytes, byte_count, MSG_NOSIGNAL | MSG_DONTWAIT);
    } while (count < 0 && errno == EINTR);
    if (count >= 0) {
        *written = (size_t)count;
        return OPB_OK;
    }
    return errno == EAGAIN || errno == EWOULDBLOCK ? OPB_OK : OPB_GONE;
}

static enum look
look_at_socket(struct opb_lane *lane)
{
    struct timespec begin;
    struct timespec now;
    uint8_t byte;

    (void)clock_gettime(CLOCK_MONOTONIC, &begin); /* cannot fail for this clock */
    now = begin;
    while (elapsed_ns(&begin, &now) < LINGER_NS) {
        if (recv(lane->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) >= 0 || errno != EAGAIN) {
            return LOOK_FOUND; /* there is something; the next receive says what */
        }
        if (!yield_core(&now)) {
            return LOOK_CROWDED;
        }
    }
    return LOOK_VAIN;
}

void
opb_stream_linger(struct opb_lane *lane)
{
    struct opb_linger *linger = &lane->linger;
    enum look look;

    if (lane->in_start != lane->in_end) {
        return;
    }
    if (linger->to_skip > 0) {
        linger->to_skip--;
        return;
    }
    look = lane->ring != NULL ? look_for(lane, WANT_DATA) : look_at_socket(lane);
    linger->skipped = skip_after(look, linger->skipped);
    linger->to_skip = linger->skipped;
}

bool
opb_stream_is_quiet(struct opb_lane *lane)
{
    unsigned reads = 0;
    uint8_t bytes[256];
    ssize_t count;

    if (lane->ring != NULL && opb_ring_has_data(lane->ring)) {
        return false;
    }
    do { /* nobody sleeps here: bytes on the socket of a ring mean nothing now, if few */
        count = recv(lane->fd, bytes, lane->ring != NULL ? sizeof(bytes) : 1,
                     MSG_DONTWAIT | (lane->ring != NULL ? 0 : MSG_PEEK));
        reads++;
    } while ((count < 0 && errno == EINTR) ||
             (count > 0 && lane->ring != NULL && reads < MOST_STALE_READS));
    return count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK);
}
