/* SPDX-License-Identifier: GPL-3.0-or-later */
/* protocol/offer.c - how the ends of a lane agree on memory
 *
 * Here:      who accepts a connection makes the memory and passes its descriptor with the
 *            welcome; who opened it maps that, and says so by a notification, the last
 *            frame on the socket. A peer that cannot (another machine, a proxy between
 *            them) or will not says nothing, and the lane stays with its socket.
 * Elsewhere: the memory (ring.c), its use (stream.c).
 * Called by: stream.c, lane.c, receive.c, handshake.c, and the two ends for what lane.h
 * says.
 */
#include "protocol/internal.h"
#include "protocol/ring.h"
#include "protocol/sockets.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Room for one descriptor, aligned as the kernel wants it. */
union control {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(sizeof(int))];
};

static void
close_fd(int *fd)
{
    if (*fd >= 0) {
        (void)close(*fd); /* nothing was written */
        *fd = -1;
    }
}

void
opb_lane_offer_memory(struct opb_lane *lane)
{
    int domain = 0;
    socklen_t bytes = sizeof(domain);

    if (getsockopt(lane->fd, SOL_SOCKET, SO_DOMAIN, &domain, &bytes) != 0 ||
        domain != AF_UNIX) {
        return;
    }
    /* Without memory, or descriptors, the socket does as well. */
    (void)!opb_ring_create(&lane->offered, &lane->offer_fd);
}

void
opb_lane_want_memory(struct opb_lane *lane)
{
    lane->is_ring_wanted = true;
}

bool
opb_lane_has_memory(const struct opb_lane *lane)
{
    return lane->ring != NULL;
}

void
opb_lane_orphan(struct opb_lane *lane)
{
    /* The mapping has not come along (MADV_DONTFORK); what describes it leaks. */
    lane->ring = NULL;
    lane->offered = NULL;
    atomic_store(&lane->is_shut, true);
}

ssize_t
opb_offer_send(struct opb_lane *lane, struct msghdr *header, int flags)
{
    union control control;
    struct cmsghdr *item;
    ssize_t bytes;

    memset(&control, 0, sizeof(control));
    header->msg_control = &control;
    header->msg_controllen = sizeof(control);
    item = CMSG_FIRSTHDR(header);
    item->cmsg_level = SOL_SOCKET;
    item->cmsg_type = SCM_RIGHTS;
    item->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(item), &lane->offer_fd, sizeof(int));
    bytes = sendmsg(lane->fd, header, flags);
    if (bytes >= 0) {
        close_fd(&lane->offer_fd);
    }
    return bytes;
}

ssize_t
opb_offer_receive(struct opb_lane *lane, void *out, size_t capacity, int flags)
{
    union control control;
    struct iovec part = {.iov_base = out, .iov_len = capacity};
    struct msghdr header = {.msg_iov = &part,
                            .msg_iovlen = 1,
                            .msg_control = &control,
                            .msg_controllen = sizeof(control)};
    int kept = -1;
    ssize_t bytes;

    memset(&control, 0, sizeof(control));
    bytes = recvmsg(lane->fd, &header, flags | MSG_CMSG_CLOEXEC);
    if (bytes < 0) {
        return bytes;
    }
    if (opb_fds_collect(&header, &kept) > 0) { /* padding has room for a second one */
        close_fd(&lane->taken_fd);
        lane->taken_fd = kept;
    }
    return bytes;
}

enum opb_status
opb_offer_take(struct opb_lane *lane, uint64_t deadline_ms)
{
    struct opb_message *message;
    struct opb_ring *ring = NULL;
    enum opb_status status;

    lane->is_ring_wanted = false;
    if (lane->taken_fd < 0 || opb_ring_map(&ring, &lane->taken_fd) != OPB_OK) {
        return OPB_OK; /* the lane stays with its socket */
    }
    message = opb_message_new();
    if (message == NULL) {
        opb_ring_free(ring);
        return OPB_NO_MEMORY;
    }
    opb_message_begin_notify(message, OPB_RING_METHOD, 1);
    opb_pack_uint(message, OPB_RING_BYTES);
    status = opb_lane_send(lane, message, deadline_ms);
    opb_message_free(message);
    if (status != OPB_OK) {
        opb_ring_free(ring);
        return status;
    }
    lane->ring = ring;
    return OPB_OK;
}

bool
opb_offer_settle(struct opb_lane *lane, struct opb_frame *frame)
{
    struct opb_reader reader;
    bool is_taken = false;

    if (lane->offered == NULL) {
        return false;
    }
    if (opb_frame_type(frame) == OPB_NOTIFY && opb_frame_method(frame) == OPB_RING_METHOD) {
        opb_frame_params(frame, &reader);
        is_taken = opb_read_uint(&reader, UINT32_MAX) == OPB_RING_BYTES &&
                   opb_reader_finish(&reader) == OPB_OK;
    }
    if (is_taken) {
        lane->ring = lane->offered;
        lane->in_start = lane->in_end = 0; /* nothing but wakes follows on the socket */
    }
    else {
        opb_ring_free(lane->offered);
    }
    lane->offered = NULL;
    return is_taken;
}

void
opb_offer_end(struct opb_lane *lane)
{
    opb_ring_free(lane->ring);
    opb_ring_free(lane->offered);
    close_fd(&lane->offer_fd);
    close_fd(&lane->taken_fd);
}
