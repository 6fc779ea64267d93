/* SPDX-License-Identifier: GPL-3.0-or-later */
/* protocol/sockets.h - Unix-domain sockets: listen, connect, credentials, passing
 *
 * Here:      the few socket operations that all processes share; clock and random.
 * Elsewhere: frames (lane.c), event loops (worker/supervisor, plugin/supervise.c).
 * All descriptors are close-on-exec; nothing raises SIGPIPE.
 */
#ifndef OPB_SOCKETS_H
#define OPB_SOCKETS_H

#include "status.h"

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct msghdr; /* of <sys/socket.h> */

/* Now, CLOCK_MONOTONIC, milliseconds. */
uint64_t opb_clock_ms(void);
/* now + timeout_ms; 0 gives OPB_FOREVER. */
uint64_t opb_deadline_ms(uint64_t timeout_ms);
/* For poll(2): milliseconds left, at least 0; -1 for OPB_FOREVER. */
int opb_deadline_poll(uint64_t deadline_ms);

/* Listens on path with the given mode. A stale socket file is replaced only if
 * nobody answers on it (else OPB_REFUSED, as for a file that is no socket). Paths too
 * long for sun_path: OPB_TOO_LARGE. Non-blocking. The directory is locked meanwhile:
 * OPB_LATE if another process keeps it locked for 2 s. */
OPB_MUST_CHECK enum opb_status opb_socket_listen(int *out_fd, const char *path, mode_t mode,
                                                 int backlog);
/* Blocking. Nobody listens: OPB_SYSTEM with ENOENT or ECONNREFUSED in errno. */
OPB_MUST_CHECK enum opb_status opb_socket_connect(int *out_fd, const char *path,
                                                  uint64_t deadline_ms);
/* One waiting connection; OPB_LATE if there is none now (non-blocking listener). */
OPB_MUST_CHECK enum opb_status opb_socket_accept(int *out_fd, int listen_fd);

#define OPB_MAX_PASSED_BYTES 8192u

struct opb_peer {
    pid_t pid;
    uid_t uid;
    gid_t gid;
};
OPB_MUST_CHECK enum opb_status opb_socket_peer(int fd, struct opb_peer *out);

/* Sends bytes (1..OPB_MAX_PASSED_BYTES) with an optional descriptor (fd < 0: none) over a
 * SOCK_SEQPACKET socket. Lends fd. Never waits: OPB_LATE if the socket is full. */
OPB_MUST_CHECK enum opb_status opb_socket_pass(int socket_fd, const void *bytes,
                                               size_t byte_count, int fd);
/* Takes the descriptors that came with a message: the first is yours if *kept was -1, all
 * others are closed. Says how many there were. */
size_t opb_fds_collect(struct msghdr *header, int *kept);
/* Receives one such message. *fd is -1 or yours. OPB_GONE at end of file;
 * OPB_LATE if a non-blocking socket has none now; OPB_BAD_FRAME if it was too long or
 * brought more than one descriptor. */
OPB_MUST_CHECK enum opb_status opb_socket_take(int socket_fd, void *bytes, size_t capacity,
                                               size_t *byte_count, int *fd);

OPB_MUST_CHECK enum opb_status opb_random_bytes(void *out, size_t byte_count);
/* Compares in constant time. */
int opb_secret_equal(const uint8_t *a, const uint8_t *b, size_t byte_count);

#endif
