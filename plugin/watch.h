/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/watch.h - whether a file of the script has changed
 *
 * One thread at a time (the supervisor's).
 */
#ifndef OPB_WATCH_H
#define OPB_WATCH_H

#include "protocol/status.h"

#include <stdbool.h>
#include <stdint.h>

struct opb_watch;

/* Gives a watch that watches nothing so far. OPB_SYSTEM: errno says why not. */
OPB_MUST_CHECK enum opb_status opb_watch_new(struct opb_watch **out);
void opb_watch_free(struct opb_watch *watch); /* NULL is fine */
/* Watches these files from now on: absolute paths, each ended by a NUL, the last one by
 * two. Takes files. */
void opb_watch_set(struct opb_watch *watch, char *files);
/* A directory in which scripts come and go: it is watched besides, and each file with the
 * name of a script counts there. Lends path for the life of the watch. Before the first
 * opb_watch_set(). */
void opb_watch_scripts(struct opb_watch *watch, const char *path);
/* Whether every file that ends with .py counts, if it is in a directory of one of them:
 * while the script does not load, nobody knows which files it would need. */
void opb_watch_any(struct opb_watch *watch, bool is_any);
int opb_watch_fd(const struct opb_watch *watch); /* for poll */
void opb_watch_read(struct opb_watch *watch);    /* takes what has happened */
/* When to ask; OPB_FOREVER: nothing has happened. */
uint64_t opb_watch_next_ms(const struct opb_watch *watch);
/* True, once, if something has changed and then nothing for a moment. */
bool opb_watch_has_changed(struct opb_watch *watch);

#endif
