/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/watch.c - whether a file of the script has changed
 *
 * Directories are watched, not files: editors put a new file in the place of the old one.
 * Several changes that follow each other soon are one. A directory that is itself
 * replaced is looked for by its name until it is there again.
 */
#include "plugin/watch.h"

#include "plugin/log.h"
#include "plugin/scripts.h"
#include "protocol/limits.h"
#include "protocol/sockets.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#define QUIET_MS        300u
#define LOOK_FOR_MS     1000u /* a directory that is gone */
#define MAX_DIRECTORIES 64u
/* What counts for scripts that come and go only. */
#define COMES_OR_GOES (IN_CREATE | IN_DELETE | IN_MOVED_FROM)
#define EVENTS                                                                             \
    (IN_CLOSE_WRITE | IN_MOVED_TO | IN_DELETE_SELF | IN_MOVE_SELF | COMES_OR_GOES |        \
     IN_ONLYDIR)
/* How volumes of Kubernetes change: a link to the directory with all files is replaced. */
#define VOLUME_LINK "..data"

struct directory {
    char *path;
    int number; /* of inotify; -1: none */
};

struct opb_watch {
    int fd;
    char *files;
    const char *scripts; /* lent; NULL: none come and go */
    struct directory directories[MAX_DIRECTORIES];
    uint32_t directory_count;
    uint64_t due_ms;
    bool is_any;
    bool is_lost;    /* a directory is gone */
    bool has_warned; /* that not all can be watched */
};

enum opb_status
opb_watch_new(struct opb_watch **out)
{
    struct opb_watch *watch = calloc(1, sizeof(*watch));

    *out = NULL;
    if (watch == NULL) {
        return OPB_NO_MEMORY;
    }
    watch->due_ms = OPB_FOREVER;
    watch->fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (watch->fd < 0) {
        free(watch);
        return OPB_SYSTEM;
    }
    *out = watch;
    return OPB_OK;
}

static void
free_directories(struct directory *directories, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        free(directories[i].path);
    }
}

void
opb_watch_free(struct opb_watch *watch)
{
    if (watch == NULL) {
        return;
    }
    (void)close(watch->fd); /* holds no data */
    free_directories(watch->directories, watch->directory_count);
    free(watch->files);
    free(watch);
}

static void
warn(struct opb_watch *watch, const char *path, const char *why)
{
    if (!watch->has_warned) {
        watch->has_warned = true;
        opb_log_warning(
            "Not all files of the script can be watched (Python.ReloadOnChange): "
            "%s: %s",
            path, why);
    }
}

/* Watches a directory, if it is there. */
static bool
begin(struct opb_watch *watch, struct directory *directory)
{
    directory->number = inotify_add_watch(watch->fd, directory->path, EVENTS);
    if (directory->number < 0 && errno != ENOENT && errno != ENOTDIR) {
        warn(watch, directory->path, strerror(errno));
        return true; /* to try again would not help */
    }
    return directory->number >= 0;
}

static size_t
directory_bytes(const char *file)
{
    size_t bytes = (size_t)(strrchr(file, '/') - file); /* an absolute path */

    return bytes > 0 ? bytes : 1; /* "/" */
}

static void
add_directory(struct opb_watch *watch, const char *file, size_t bytes)
{
    struct directory *new;

    for (uint32_t i = 0; i < watch->directory_count; i++) {
        const char *path = watch->directories[i].path;

        if (strlen(path) == bytes && memcmp(path, file, bytes) == 0) {
            return;
        }
    }
    if (watch->directory_count == MAX_DIRECTORIES) {
        warn(watch, file, "too many directories");
        return;
    }
    new = &watch->directories[watch->directory_count];
    new->path = strndup(file, bytes);
    if (new->path == NULL) {
        warn(watch, file, "no memory");
        return;
    }
    watch->directory_count++;
    (void)begin(watch, new); /* if it is gone, somebody has noticed or will */
}

void
opb_watch_set(struct opb_watch *watch, char *files)
{
    struct directory before[MAX_DIRECTORIES];
    uint32_t before_count = watch->directory_count;

    memcpy(before, watch->directories, sizeof(before));
    free(watch->files);
    watch->files = files;
    watch->directory_count = 0;
    for (const char *file = files; *file != '\0'; file += strlen(file) + 1) {
        if (file[0] == '/') {
            add_directory(watch, file, directory_bytes(file));
        }
    }
    if (watch->scripts != NULL) {
        add_directory(watch, watch->scripts, strlen(watch->scripts));
    }
    for (uint32_t i = 0; i < before_count; i++) {
        bool is_used = before[i].number < 0;

        for (uint32_t j = 0; j < watch->directory_count; j++) {
            is_used = is_used || watch->directories[j].number == before[i].number;
        }
        if (!is_used) {
            (void)inotify_rm_watch(watch->fd, before[i].number); /* it may be gone */
        }
    }
    free_directories(before, before_count);
}

void
opb_watch_scripts(struct opb_watch *watch, const char *path)
{
    watch->scripts = path;
}

void
opb_watch_any(struct opb_watch *watch, bool is_any)
{
    watch->is_any = is_any;
}

int
opb_watch_fd(const struct opb_watch *watch)
{
    return watch->fd;
}

static bool
is_script_file(const char *name)
{
    size_t bytes = strlen(name);

    return bytes > 3 && strcmp(name + bytes - 3, ".py") == 0;
}

static bool
is_script(const struct opb_watch *watch, const char *directory, const char *name)
{
    return watch->scripts != NULL && strcmp(directory, watch->scripts) == 0 &&
           opb_scripts_is_name(name);
}

/* A link is complete when it is made. A file is when it has been written, which is another
 * event. */
static bool
is_link(const char *directory, const char *name)
{
    char path[PATH_MAX + NAME_MAX];
    struct stat file;

    (void)snprintf(path, sizeof(path), "%s/%s", directory, name); /* fits */
    return lstat(path, &file) == 0 &&
           (S_ISLNK(file.st_mode) || (S_ISREG(file.st_mode) && file.st_nlink > 1));
}

static bool
has_come_or_gone(const struct opb_watch *watch, const char *directory, const char *name,
                 uint32_t mask)
{
    return (mask & IN_ISDIR) == 0 && is_script(watch, directory, name) &&
           ((mask & IN_CREATE) == 0 || is_link(directory, name));
}

/* Whether the file of that name in that directory is one of ours. */
static bool
is_watched(const struct opb_watch *watch, const char *directory, const char *name)
{
    size_t bytes = strlen(directory);

    if (strcmp(name, VOLUME_LINK) == 0 || (watch->is_any && is_script_file(name)) ||
        is_script(watch, directory, name)) {
        return true;
    }
    for (const char *file = watch->files; *file != '\0'; file += strlen(file) + 1) {
        if (file[0] == '/' && directory_bytes(file) == bytes &&
            memcmp(file, directory, bytes) == 0 &&
            strcmp(strrchr(file, '/') + 1, name) == 0) {
            return true;
        }
    }
    return false;
}

/* A directory may be there under two names. */
static bool
is_change(struct opb_watch *watch, const struct inotify_event *event)
{
    bool result = false;

    if ((event->mask & IN_Q_OVERFLOW) != 0) {
        return true; /* nobody knows */
    }
    for (uint32_t i = 0; i < watch->directory_count; i++) {
        struct directory *directory = &watch->directories[i];

        if (directory->number != event->wd) {
            continue;
        }
        if ((event->mask & (IN_DELETE_SELF | IN_MOVE_SELF | IN_IGNORED)) != 0) {
            if ((event->mask & IN_MOVE_SELF) != 0) {
                (void)inotify_rm_watch(watch->fd, event->wd); /* it has another name */
            }
            directory->number = -1;
            watch->is_lost = true;
            result = true;
        }
        else if (event->len > 0 && (event->mask & COMES_OR_GOES) != 0) {
            result |= has_come_or_gone(watch, directory->path, event->name, event->mask);
        }
        else if (event->len > 0) {
            result |= is_watched(watch, directory->path, event->name);
        }
    }
    return result;
}

void
opb_watch_read(struct opb_watch *watch)
{
    _Alignas(struct inotify_event) char buffer[4096 + NAME_MAX];
    ssize_t bytes;

    while ((bytes = read(watch->fd, buffer, sizeof(buffer))) > 0) {
        const char *at = buffer;

        while (at < buffer + bytes) {
            const struct inotify_event *event = (const void *)at;

            if (is_change(watch, event)) {
                watch->due_ms = opb_deadline_ms(QUIET_MS);
            }
            at += sizeof(*event) + event->len;
        }
    }
}

uint64_t
opb_watch_next_ms(const struct opb_watch *watch)
{
    return watch->due_ms;
}

bool
opb_watch_has_changed(struct opb_watch *watch)
{
    if (watch->due_ms > opb_clock_ms()) {
        return false;
    }
    watch->due_ms = OPB_FOREVER;
    if (watch->is_lost) {
        watch->is_lost = false;
        for (uint32_t i = 0; i < watch->directory_count; i++) {
            struct directory *directory = &watch->directories[i];

            if (directory->number < 0 && !begin(watch, directory)) {
                watch->is_lost = true;
            }
        }
    }
    if (watch->is_lost) {
        watch->due_ms = opb_deadline_ms(LOOK_FOR_MS);
        return false;
    }
    return true;
}
