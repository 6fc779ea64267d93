/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/runtime_dir.c - the private directory of a managed pool
 *
 * Here:      see runtime_dir.h.
 * Elsewhere: what a missing directory leads to (pool.c).
 *
 * A directory is in use while its file "lock" is locked. Somebody who sweeps takes the same
 * lock before he removes anything, and whoever makes a directory looks, once he has the
 * lock, whether the file is still there: so neither removes what the other has just made.
 * The times of both are renewed now and then, since systems empty /tmp of what is old.
 */
#include "plugin/runtime_dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define NAME_PREFIX  "orthanc-python-"
#define LOCK_NAME    "lock"
#define POOL_NAME    "pool.sock"
#define NODE_NAME    "node.sock"
#define MAX_ATTEMPTS 8

struct opb_runtime_dir {
    char *path;
    char *pool_socket;
    char *node_socket;
    int directory_fd;
    int lock_fd;
};

/* unlink and rmdir in one order everywhere: whoever holds the lock does it. Failures are
 * no news: the file was not there, or the directory holds what is not ours. */
static void
remove_content(int parent_fd, const char *name, int directory_fd)
{
    (void)unlinkat(directory_fd, POOL_NAME, 0);
    (void)unlinkat(directory_fd, NODE_NAME, 0);
    (void)unlinkat(directory_fd, LOCK_NAME, 0);
    (void)unlinkat(parent_fd, name, AT_REMOVEDIR);
}

/* True if the locked file is still the one that the directory names. */
static bool
is_linked(int directory_fd, int lock_fd)
{
    struct stat locked;
    struct stat named;

    return fstat(lock_fd, &locked) == 0 &&
           fstatat(directory_fd, LOCK_NAME, &named, AT_SYMLINK_NOFOLLOW) == 0 &&
           locked.st_dev == named.st_dev && locked.st_ino == named.st_ino;
}

/* orthanc-python-<digits>-<six characters>; the digits are a process id. */
static bool
parse_name(const char *name, pid_t *pid)
{
    const char *digits = name + strlen(NAME_PREFIX);
    char *end;
    long number;

    if (strncmp(name, NAME_PREFIX, strlen(NAME_PREFIX)) != 0) {
        return false;
    }
    if (digits[0] < '1' || digits[0] > '9') {
        return false;
    }
    errno = 0;
    number = strtol(digits, &end, 10);
    if (errno != 0 || number > INT32_MAX || end[0] != '-' || strlen(end) != 7) {
        return false;
    }
    *pid = (pid_t)number;
    return true;
}

/* Without its lock file a directory is about to be made, or about to be removed. It is
 * removed only if it is empty, and its maker is not there: a maker makes another. */
static void
sweep_unlocked(int parent_fd, const char *name, pid_t pid)
{
    if (kill(pid, 0) != 0 && errno == ESRCH) {
        (void)unlinkat(parent_fd, name, AT_REMOVEDIR); /* not empty: not ours to empty */
    }
}

static void
sweep_one(int parent_fd, const char *name, pid_t pid)
{
    int directory_fd;
    int lock_fd;
    struct stat directory;
    struct stat file;

    directory_fd = openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (directory_fd < 0) {
        return;
    }
    if (fstat(directory_fd, &directory) != 0 || directory.st_uid != geteuid() ||
        ((directory.st_mode & 0777) != 0700 && (directory.st_mode & 0777) != 0750)) {
        goto close_directory;
    }
    lock_fd = openat(directory_fd, LOCK_NAME, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (lock_fd < 0) {
        if (errno == ENOENT) {
            sweep_unlocked(parent_fd, name, pid);
        }
        goto close_directory;
    }
    if (fstat(lock_fd, &file) == 0 && S_ISREG(file.st_mode) &&
        flock(lock_fd, LOCK_EX | LOCK_NB) == 0 && is_linked(directory_fd, lock_fd)) {
        remove_content(parent_fd, name, directory_fd);
    }
    (void)close(lock_fd); /* only read */

close_directory:
    (void)close(directory_fd); /* only read */
}

void
opb_runtime_dir_sweep(const char *parent)
{
    DIR *entries = opendir(parent);
    struct dirent *entry;
    pid_t pid;

    if (entries == NULL) {
        return;
    }
    while ((entry = readdir(entries)) != NULL) {
        if (parse_name(entry->d_name, &pid)) {
            sweep_one(dirfd(entries), entry->d_name, pid);
        }
    }
    (void)closedir(entries); /* only read */
}

/* Opens and locks what mkdtemp() has just made. OPB_GONE: somebody swept it away. */
static enum opb_status
take_directory(struct opb_runtime_dir *dir)
{
    dir->directory_fd = open(dir->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (dir->directory_fd < 0) {
        return errno == ENOENT ? OPB_GONE : OPB_SYSTEM;
    }
    dir->lock_fd = openat(dir->directory_fd, LOCK_NAME,
                          O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (dir->lock_fd < 0) {
        return errno == ENOENT ? OPB_GONE : OPB_SYSTEM;
    }
    if (flock(dir->lock_fd, LOCK_EX | LOCK_NB) != 0) {
        return errno == EWOULDBLOCK ? OPB_GONE : OPB_SYSTEM;
    }
    return is_linked(dir->directory_fd, dir->lock_fd) ? OPB_OK : OPB_GONE;
}

static void
drop_directory(struct opb_runtime_dir *dir)
{
    if (dir->lock_fd >= 0) {
        (void)close(dir->lock_fd); /* nothing was written */
    }
    if (dir->directory_fd >= 0) {
        (void)close(dir->directory_fd); /* only read */
    }
    dir->lock_fd = -1;
    dir->directory_fd = -1;
}

/* On OPB_SYSTEM errno says why. */
static enum opb_status
make_below(struct opb_runtime_dir *dir, const char *parent)
{
    for (int attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
        enum opb_status status;
        int error;

        free(dir->path);
        if (asprintf(&dir->path, "%s/" NAME_PREFIX "%ld-XXXXXX", parent, (long)getpid()) <
            0) {
            dir->path = NULL;
            return OPB_NO_MEMORY;
        }
        if (strlen(dir->path) + strlen("/" POOL_NAME) >=
            sizeof(((struct sockaddr_un *)0)->sun_path)) {
            return OPB_TOO_LARGE;
        }
        if (mkdtemp(dir->path) == NULL) {
            return OPB_SYSTEM;
        }
        status = take_directory(dir);
        if (status == OPB_OK) {
            return OPB_OK;
        }
        error = errno;
        drop_directory(dir);
        if (status != OPB_GONE) {
            (void)rmdir(dir->path); /* a sweep will, otherwise */
            errno = error;
            return status;
        }
    }
    errno = EAGAIN;
    return OPB_SYSTEM;
}

/* A candidate that cannot be used, for the message. */
static void
explain(enum opb_status status, const char *parent, char *message, size_t capacity)
{
    size_t used = strlen(message);
    const char *reason = strerror(errno);

    if (status == OPB_TOO_LARGE) {
        reason = "its path is too long for a socket: 67 bytes always fit";
    }
    else if (status == OPB_NO_MEMORY) {
        reason = "not enough memory";
    }
    if (used < capacity) {
        /* a message that does not fit is cut */
        (void)snprintf(message + used, capacity - used, "%s%s (%s)", used == 0 ? "" : ", ",
                       parent, reason);
    }
}

static enum opb_status
try_below(struct opb_runtime_dir *dir, const char *parent, char *tried, size_t capacity)
{
    enum opb_status status;

    if (parent[0] != '/') {
        errno = EINVAL;
        status = OPB_SYSTEM;
    }
    else {
        opb_runtime_dir_sweep(parent);
        status = make_below(dir, parent);
    }
    if (status != OPB_OK) {
        explain(status, parent, tried, capacity);
    }
    return status;
}

/* $RUNTIME_DIRECTORY may name several, with colons between them. */
static enum opb_status
try_usual_places(struct opb_runtime_dir *dir, char *tried, size_t capacity)
{
    const char *places[] = {getenv("RUNTIME_DIRECTORY"), getenv("XDG_RUNTIME_DIR"),
                            getenv("TMPDIR"), "/tmp"};
    enum opb_status status = OPB_SYSTEM;

    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        char *place;

        if (places[i] == NULL || places[i][0] == '\0') {
            continue;
        }
        place = strndup(places[i], i == 0 ? strcspn(places[i], ":") : strlen(places[i]));
        if (place == NULL) {
            return OPB_NO_MEMORY;
        }
        status = try_below(dir, place, tried, capacity);
        free(place);
        if (status == OPB_OK) {
            return OPB_OK;
        }
    }
    return status;
}

static enum opb_status
name_sockets(struct opb_runtime_dir *dir)
{
    if (asprintf(&dir->pool_socket, "%s/" POOL_NAME, dir->path) < 0) {
        dir->pool_socket = NULL;
        return OPB_NO_MEMORY;
    }
    if (asprintf(&dir->node_socket, "%s/" NODE_NAME, dir->path) < 0) {
        dir->node_socket = NULL;
        return OPB_NO_MEMORY;
    }
    return OPB_OK;
}

enum opb_status
opb_runtime_dir_new(struct opb_runtime_dir **out, const char *parent, char *message,
                    size_t capacity)
{
    struct opb_runtime_dir *dir;
    enum opb_status status;
    char tried[1024] = "";

    *out = NULL;
    message[0] = '\0';
    dir = calloc(1, sizeof(*dir));
    if (dir == NULL) {
        (void)snprintf(message, capacity, "Not enough memory"); /* short enough */
        return OPB_NO_MEMORY;
    }
    dir->directory_fd = -1;
    dir->lock_fd = -1;
    if (parent != NULL) {
        status = try_below(dir, parent, tried, sizeof(tried));
    }
    else {
        status = try_usual_places(dir, tried, sizeof(tried));
    }
    if (status == OPB_OK) {
        status = name_sockets(dir);
    }
    if (status != OPB_OK) {
        /* a message that does not fit is cut */
        (void)snprintf(
            message, capacity,
            "The private directory for the sockets of the worker cannot be made "
            "below %s: set the configuration option \"Python.RuntimeDirectory\" to "
            "an existing directory, by its absolute path, in which Orthanc may "
            "write",
            tried);
        opb_runtime_dir_free(dir);
        return status;
    }
    *out = dir;
    return OPB_OK;
}

void
opb_runtime_dir_free(struct opb_runtime_dir *dir)
{
    if (dir == NULL) {
        return;
    }
    if (dir->path != NULL && dir->lock_fd >= 0) {
        remove_content(AT_FDCWD, dir->path, dir->directory_fd);
    }
    drop_directory(dir);
    free(dir->path);
    free(dir->pool_socket);
    free(dir->node_socket);
    free(dir);
}

enum opb_status
opb_runtime_dir_share(const struct opb_runtime_dir *dir, gid_t group, char *message,
                      size_t capacity)
{
    if (fchown(dir->directory_fd, (uid_t)-1, group) == 0 &&
        fchmod(dir->directory_fd, 0750) == 0) {
        return OPB_OK;
    }
    /* a message that does not fit is cut */
    (void)snprintf(
        message, capacity,
        "The private directory %s cannot be opened to the group %lu of the user "
        "whom the configuration option \"Python.PoolUser\" names: %s; Orthanc's "
        "user must be a member of that group, and may have to be started anew for "
        "that",
        dir->path, (unsigned long)group, strerror(errno));
    return OPB_SYSTEM;
}

const char *
opb_runtime_dir_pool_socket(const struct opb_runtime_dir *dir)
{
    return dir->pool_socket;
}

const char *
opb_runtime_dir_node_socket(const struct opb_runtime_dir *dir)
{
    return dir->node_socket;
}

void
opb_runtime_dir_touch(const struct opb_runtime_dir *dir)
{
    /* a failure leaves an old file, that somebody may remove: noticed at the next start */
    (void)futimens(dir->lock_fd, NULL);
    (void)futimens(dir->directory_fd, NULL);
}
