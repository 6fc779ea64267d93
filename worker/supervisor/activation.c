/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/supervisor/activation.c - a socket that systemd has made: see service.h */
#include "worker/supervisor/service.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#ifdef OPB_HAVE_SYSTEMD

#    include <systemd/sd-daemon.h>

#    define WHERE "in its .socket unit (ListenStream=)"

/* False: it has no path. */
static bool
find_path(int fd, char *path, size_t capacity)
{
    struct sockaddr_un address;
    socklen_t size = sizeof(address);

    memset(&address, 0, sizeof(address));
    if (getsockname(fd, (struct sockaddr *)&address, &size) != 0 ||
        address.sun_path[0] != '/') {
        return false;
    }
    (void)snprintf(path, capacity, "%.*s", (int)sizeof(address.sun_path),
                   address.sun_path); /* fits */
    return true;
}

enum opb_status
opb_activation_take(int *out_fd, const char *wanted, char *path, size_t path_capacity,
                    char *message, size_t capacity)
{
    int count = sd_listen_fds(1);
    const int fd = SD_LISTEN_FDS_START;

    *out_fd = -1;
    path[0] = '\0';
    message[0] = '\0';
    if (count == 0) {
        return OPB_OK;
    }
    /* messages that do not fit are cut */
    if (count < 0) {
        (void)snprintf(message, capacity, "systemd's sockets cannot be taken: %s",
                       strerror(-count));
    }
    else if (count > 1) {
        (void)snprintf(message, capacity, "systemd passed %d sockets: name one " WHERE,
                       count);
    }
    else if (sd_is_socket_unix(fd, SOCK_STREAM, 1, NULL, 0) <= 0 ||
             !find_path(fd, path, path_capacity)) {
        (void)snprintf(message, capacity,
                       "systemd passed something else than a listening Unix-domain stream "
                       "socket with a path: name one " WHERE);
    }
    else if (wanted != NULL && strcmp(wanted, path) != 0) {
        (void)snprintf(
            message, capacity,
            "the key \"Socket\" is %s, and systemd passed %s: leave the key out, "
            "or name the same " WHERE,
            wanted, path);
    }
    else {
        *out_fd = fd;
        return OPB_OK;
    }
    return OPB_REFUSED;
}

#else

enum opb_status
opb_activation_take(int *out_fd, const char *wanted, char *path, size_t path_capacity,
                    char *message, size_t capacity)
{
    const char *pid = getenv("LISTEN_PID");

    (void)wanted;
    (void)path_capacity;
    *out_fd = -1;
    path[0] = '\0';
    message[0] = '\0';
    if (pid == NULL || strtol(pid, NULL, 10) != (long)getpid()) {
        return OPB_OK;
    }
    (void)snprintf(message, capacity,
                   "systemd passed a socket, and this program was built without "
                   "libsystemd: disable the .socket unit, or build with libsystemd-dev");
    return OPB_REFUSED;
}

#endif
