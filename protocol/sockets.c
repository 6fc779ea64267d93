/* SPDX-License-Identifier: GPL-3.0-or-later */
/* protocol/sockets.c - Unix-domain sockets, the clock, and randomness
 *
 * Here:      the few system calls that all processes share, each with its traps
 *            (stale files, descriptors that arrive unasked, signals) dealt with once.
 * Elsewhere: frames (lane.c), event loops (worker/supervisor, plugin/).
 * Called by: any thread; nothing here keeps state.
 */
#include "protocol/sockets.h"

#include "protocol/limits.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define DIRECTORY_WAIT_MS 2000u /* for another process that listens in this directory */

uint64_t
opb_clock_ms(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now); /* cannot fail with this clock */
    return (uint64_t)now.tv_sec * 1000u + (uint64_t)now.tv_nsec / 1000000u;
}

uint64_t
opb_deadline_ms(uint64_t timeout_ms)
{
    uint64_t now = opb_clock_ms();

    if (timeout_ms == 0 || timeout_ms >= OPB_FOREVER - now) {
        return OPB_FOREVER;
    }
    return now + timeout_ms;
}

int
opb_deadline_poll(uint64_t deadline_ms)
{
    uint64_t now;

    if (deadline_ms == OPB_FOREVER) {
        return -1;
    }
    now = opb_clock_ms();
    if (deadline_ms <= now) {
        return 0;
    }
    return deadline_ms - now > INT_MAX ? INT_MAX : (int)(deadline_ms - now);
}

/* Closes fd and keeps errno, which says why it has to be closed. */
static void
close_keeping_errno(int fd)
{
    int error = errno;

    (void)close(fd);
    errno = error;
}

static enum opb_status
make_address(struct sockaddr_un *out, const char *path)
{
    size_t bytes = strlen(path);

    memset(out, 0, sizeof(*out));
    out->sun_family = AF_UNIX;
    if (bytes == 0) {
        errno = ENOENT;
        return OPB_SYSTEM;
    }
    if (bytes >= sizeof(out->sun_path)) {
        errno = ENAMETOOLONG;
        return OPB_TOO_LARGE;
    }
    memcpy(out->sun_path, path, bytes + 1);
    return OPB_OK;
}

/* Holds off other processes that may be replacing a stale socket in the same
 * directory. Gives *out_fd; closing it lets the next one in. */
static enum opb_status
lock_directory(int *out_fd, const struct sockaddr_un *address)
{
    char directory[sizeof(address->sun_path)];
    const struct timespec pause = {.tv_nsec = 5000000};
    uint64_t deadline_ms = opb_clock_ms() + DIRECTORY_WAIT_MS;
    char *slash;
    int fd;

    memcpy(directory, address->sun_path, sizeof(directory));
    slash = strrchr(directory, '/');
    if (slash == NULL) {
        strcpy(directory, ".");
    }
    else {
        slash[slash == directory ? 1 : 0] = '\0';
    }
    fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return OPB_SYSTEM;
    }
    while (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK && errno != EINTR) {
            close_keeping_errno(fd);
            return OPB_SYSTEM;
        }
        if (opb_clock_ms() >= deadline_ms) {
            close_keeping_errno(fd);
            return OPB_LATE;
        }
        (void)nanosleep(&pause, NULL); /* an early wake-up only tries again sooner */
    }
    *out_fd = fd;
    return OPB_OK;
}

/* Removes a socket that nobody listens on. Anything else stays where it is. */
static enum opb_status
remove_stale(const struct sockaddr_un *address)
{
    enum opb_status status = OPB_REFUSED;
    struct stat info;
    int fd;

    if (lstat(address->sun_path, &info) != 0) {
        return errno == ENOENT ? OPB_OK : OPB_SYSTEM;
    }
    if (!S_ISSOCK(info.st_mode)) {
        errno = EEXIST;
        return OPB_REFUSED;
    }
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return OPB_SYSTEM;
    }
    if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0) {
        errno = EADDRINUSE;
    }
    else if (errno == ECONNREFUSED) {
        status = unlink(address->sun_path) == 0 || errno == ENOENT ? OPB_OK : OPB_SYSTEM;
    }
    else if (errno == ENOENT) {
        status = OPB_OK;
    }
    else if (errno == EAGAIN || errno == EPROTOTYPE) {
        errno = EADDRINUSE; /* somebody listens: too busy, or another kind of socket */
    }
    else {
        status = OPB_SYSTEM;
    }
    close_keeping_errno(fd);
    return status;
}

static enum opb_status
bind_and_listen(int fd, const struct sockaddr_un *address, mode_t mode, int backlog)
{
    const struct sockaddr *name = (const struct sockaddr *)address;

    /* Before bind(), so that no one gets in while the mode is still wider. */
    if (fchmod(fd, mode) != 0) {
        return OPB_SYSTEM;
    }
    if (bind(fd, name, sizeof(*address)) != 0) {
        enum opb_status status;

        if (errno != EADDRINUSE) {
            return OPB_SYSTEM;
        }
        status = remove_stale(address);
        if (status != OPB_OK) {
            return status;
        }
        if (bind(fd, name, sizeof(*address)) != 0) {
            return OPB_SYSTEM;
        }
    }
    /* Once more: the umask may have taken away what mode allows. */
    if (chmod(address->sun_path, mode) != 0 || listen(fd, backlog) != 0) {
        int error = errno;

        (void)unlink(address->sun_path);
        errno = error;
        return OPB_SYSTEM;
    }
    return OPB_OK;
}

enum opb_status
opb_socket_listen(int *out_fd, const char *path, mode_t mode, int backlog)
{
    struct sockaddr_un address;
    enum opb_status status;
    int directory_fd;
    int fd;

    *out_fd = -1;
    status = make_address(&address, path);
    if (status != OPB_OK) {
        return status;
    }
    status = lock_directory(&directory_fd, &address);
    if (status != OPB_OK) {
        return status;
    }
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        close_keeping_errno(directory_fd);
        return OPB_SYSTEM;
    }
    status = bind_and_listen(fd, &address, mode, backlog);
    close_keeping_errno(directory_fd);
    if (status != OPB_OK) {
        close_keeping_errno(fd);
        return status;
    }
    *out_fd = fd;
    return OPB_OK;
}

/* The kernel bounds a connect() to a busy listener by the send timeout; 0: no bound. */
static bool
set_connect_timeout(int fd, uint64_t timeout_ms)
{
    struct timeval timeout = {.tv_sec = (time_t)(timeout_ms / 1000u),
                              .tv_usec = (suseconds_t)(timeout_ms % 1000u * 1000u)};

    return setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout)) == 0;
}

static enum opb_status
connect_until(int fd, const struct sockaddr_un *address, uint64_t deadline_ms)
{
    for (;;) {
        if (deadline_ms != OPB_FOREVER) {
            int left_ms = opb_deadline_poll(deadline_ms);

            if (!set_connect_timeout(fd, left_ms < 1 ? 1u : (uint64_t)left_ms)) {
                return OPB_SYSTEM;
            }
        }
        if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0) {
            return set_connect_timeout(fd, 0) ? OPB_OK : OPB_SYSTEM;
        }
        if (errno == EAGAIN) {
            if (opb_clock_ms() >= deadline_ms) {
                return OPB_LATE;
            }
        }
        else if (errno != EINTR) {
            return OPB_SYSTEM;
        }
    }
}

enum opb_status
opb_socket_connect(int *out_fd, const char *path, uint64_t deadline_ms)
{
    struct sockaddr_un address;
    enum opb_status status;
    int fd;

    *out_fd = -1;
    status = make_address(&address, path);
    if (status != OPB_OK) {
        return status;
    }
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return OPB_SYSTEM;
    }
    status = connect_until(fd, &address, deadline_ms);
    if (status != OPB_OK) {
        close_keeping_errno(fd);
        return status;
    }
    *out_fd = fd;
    return OPB_OK;
}

enum opb_status
opb_socket_accept(int *out_fd, int listen_fd)
{
    *out_fd = -1;
    for (;;) {
        int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC);

        if (fd >= 0) {
            *out_fd = fd;
            return OPB_OK;
        }
        if (errno == EAGAIN || errno == EWOULDBLOCK) {
            return OPB_LATE;
        }
        if (errno != EINTR && errno != ECONNABORTED) {
            return OPB_SYSTEM;
        }
    }
}

enum opb_status
opb_socket_peer(int fd, struct opb_peer *out)
{
    struct ucred credentials;
    socklen_t size = sizeof(credentials);

    memset(out, 0, sizeof(*out));
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0) {
        return OPB_SYSTEM;
    }
    out->pid = credentials.pid;
    out->uid = credentials.uid;
    out->gid = credentials.gid;
    return OPB_OK;
}

/* Room for one descriptor, aligned as the kernel wants it. */
union one_fd {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(sizeof(int))];
};

enum opb_status
opb_socket_pass(int socket_fd, const void *bytes, size_t byte_count, int fd)
{
    union one_fd control = {.bytes = {0}};
    struct iovec part = {.iov_len = byte_count};
    struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1};
    ssize_t count;

    if (byte_count == 0 || byte_count > OPB_MAX_PASSED_BYTES) {
        return OPB_TOO_LARGE;
    }
    memcpy(&part.iov_base, &bytes, sizeof(part.iov_base)); /* sendmsg() only reads */
    if (fd >= 0) {
        struct cmsghdr *item;

        header.msg_control = control.bytes;
        header.msg_controllen = sizeof(control.bytes);
        item = CMSG_FIRSTHDR(&header);
        item->cmsg_level = SOL_SOCKET;
        item->cmsg_type = SCM_RIGHTS;
        item->cmsg_len = CMSG_LEN(sizeof(fd));
        memcpy(CMSG_DATA(item), &fd, sizeof(fd));
    }
    do {
        count = sendmsg(socket_fd, &header, MSG_NOSIGNAL | MSG_DONTWAIT);
    } while (count < 0 && errno == EINTR);
    if (count >= 0) {
        return OPB_OK;
    }
    if (errno == EAGAIN || errno == EWOULDBLOCK) {
        return OPB_LATE;
    }
    return errno == EPIPE || errno == ECONNRESET || errno == ENOTCONN ? OPB_GONE
                                                                      : OPB_SYSTEM;
}

size_t
opb_fds_collect(struct msghdr *header, int *kept)
{
    size_t total = 0;

    for (struct cmsghdr *item = CMSG_FIRSTHDR(header); item != NULL;
         item = CMSG_NXTHDR(header, item)) {
        size_t count;

        if (item->cmsg_level != SOL_SOCKET || item->cmsg_type != SCM_RIGHTS) {
            continue;
        }
        count = (item->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int fd;

            memcpy(&fd, CMSG_DATA(item) + i * sizeof(int), sizeof(fd));
            total++;
            if (*kept < 0) {
                *kept = fd;
            }
            else {
                (void)close(fd); /* nobody asked for a second one */
            }
        }
    }
    return total;
}

enum opb_status
opb_socket_take(int socket_fd, void *bytes, size_t capacity, size_t *byte_count, int *fd)
{
    union one_fd control = {.bytes = {0}};
    struct iovec part = {.iov_base = bytes, .iov_len = capacity};
    struct msghdr header = {.msg_iov = &part,
                            .msg_iovlen = 1,
                            .msg_control = control.bytes,
                            .msg_controllen = sizeof(control.bytes)};
    size_t fd_count;
    ssize_t count;
    int kept = -1;

    *byte_count = 0;
    *fd = -1;
    do {
        count = recvmsg(socket_fd, &header, MSG_CMSG_CLOEXEC);
    } while (count < 0 && errno == EINTR);
    if (count < 0) {
        if (errno == EAGAIN || errno == EWOULDBLOCK) {
            return OPB_LATE;
        }
        return errno == ECONNRESET ? OPB_GONE : OPB_SYSTEM;
    }
    fd_count = opb_fds_collect(&header, &kept);
    if (count > 0 && fd_count == 0 && (header.msg_flags & MSG_CTRUNC) != 0) {
        errno = EMFILE; /* there was one, and no room for it here */
        return OPB_SYSTEM;
    }
    if (count == 0 || fd_count > 1 || (header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) {
        if (kept >= 0) {
            (void)close(kept);
        }
        return count == 0 && fd_count == 0 ? OPB_GONE : OPB_BAD_FRAME;
    }
    *byte_count = (size_t)count;
    *fd = kept;
    return OPB_OK;
}

enum opb_status
opb_random_bytes(void *out, size_t byte_count)
{
    uint8_t *next = out;

    while (byte_count > 0) {
        ssize_t count = getrandom(next, byte_count, 0);

        if (count < 0) {
            if (errno == EINTR) {
                continue;
            }
            return OPB_SYSTEM;
        }
        next += count;
        byte_count -= (size_t)count;
    }
    return OPB_OK;
}

int
opb_secret_equal(const uint8_t *a, const uint8_t *b, size_t byte_count)
{
    volatile uint8_t difference = 0;

    for (size_t i = 0; i < byte_count; i++) {
        difference = (uint8_t)(difference | (a[i] ^ b[i]));
    }
    return difference == 0;
}
