/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/control.h - the control connection of a node to its pool
 *
 * Here:      attaching, news of hosts, the pool's log lines, detaching.
 * Elsewhere: what the news lead to (host_news.c, generations.c).
 *
 * One thread at a time. Every wait has a deadline.
 */
#ifndef OPB_CONTROL_H
#define OPB_CONTROL_H

#include "node.h"

#include <sys/types.h>

struct opb_control;

/* Called from within the functions below, for what the pool says unasked. */
struct opb_control_news {
    /* worker: which of the hosts of its generation it is. */
    void (*host_started)(void *context, uint32_t host, pid_t pid, uint32_t worker);
    /* pid is 0 if it never ran. reason is one line. */
    void (*host_died)(void *context, uint32_t host, pid_t pid, const char *reason);
    /* The next host, beside the one that runs; pid is 0 if it could not be started, and
     * host_died says why. */
    void (*next_started)(void *context, uint32_t host, pid_t pid, uint32_t worker);
    /* How many hosts there will be in the next generation, before they are started. */
    void (*next_count)(void *context, uint32_t workers);
    /* The pool has done what opb_control_switch() asked for; host is the first of those. */
    void (*switched)(void *context, uint32_t host);
    /* Somebody asks for the next generation. */
    void (*reload)(void *context);
    /* An answer to opb_control_look(). */
    void (*looked)(void *context, uint32_t ticket, const char *text, const char *problem);
    /* The pool is about to end: hosts are to finish. */
    void (*leaving)(void *context);
    void *context;
};

/* Connects and attaches: node->name is what to be called, and then what the pool calls the
 * node; node->worker_count is how many hosts it then has. is_starting: there is to be no
 * host without Python.Preload; without it, no more hosts are asked for than there were.
 * Lends news, for the life of the connection. Gives *out. On failure message holds one
 * sentence for the log. OPB_GONE: nobody listens there, or he has left. */
OPB_MUST_CHECK enum opb_status
opb_control_open(struct opb_control **out, struct opb_node *node, const char *node_socket,
                 bool is_starting, const struct opb_control_news *news,
                 uint64_t deadline_ms, char *message, size_t capacity);
void opb_control_close(struct opb_control *control); /* NULL is fine */

int opb_control_fd(const struct opb_control *control); /* for poll */
/* Takes what has arrived, without waiting. *has_more: there is more to take, whatever poll
 * says. Another status than OPB_OK: the connection is lost, opb_control_failure() says why.
 */
OPB_MUST_CHECK enum opb_status opb_control_serve(struct opb_control *control,
                                                 bool *has_more);
/* Lends a sentence, until close. */
const char *opb_control_failure(const struct opb_control *control);

/* Asks for another host instead of this one. */
OPB_MUST_CHECK enum opb_status opb_control_replace_host(struct opb_control *control,
                                                        uint32_t host, const char *reason,
                                                        uint64_t deadline_ms);
/* The same, after the host's Python stacks were logged. */
OPB_MUST_CHECK enum opb_status opb_control_host_hangs(struct opb_control *control,
                                                      uint32_t host, const char *reason,
                                                      uint64_t deadline_ms);
/* Asks for the Python stacks of a host that goes on. */
OPB_MUST_CHECK enum opb_status opb_control_look(struct opb_control *control, uint32_t host,
                                                uint32_t ticket, uint64_t deadline_ms);
/* Asks for a host beside each that runs, and for more, if they are fewer than workers, all
 * for these scripts; for them, in the order of their workers, to take the others' places.
 */
OPB_MUST_CHECK enum opb_status opb_control_start_next(struct opb_control *control,
                                                      const struct opb_scripts *scripts,
                                                      uint32_t workers,
                                                      uint64_t deadline_ms);
OPB_MUST_CHECK enum opb_status opb_control_switch(struct opb_control *control,
                                                  const uint32_t *hosts, uint32_t count,
                                                  uint64_t deadline_ms);
/* Asks for the end of the node's hosts: no new ones, and they have grace_ms to end by
 * themselves. The answer is taken by opb_control_serve(). */
OPB_MUST_CHECK enum opb_status opb_control_detach(struct opb_control *control,
                                                  uint64_t grace_ms, uint64_t deadline_ms);
/* True once all hosts have ended. */
bool opb_control_is_detached(const struct opb_control *control);

#endif
