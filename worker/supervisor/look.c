/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/supervisor/look.c - the Python stacks of a host that goes on
 *
 * Here:      asking for them, first with the GIL, then, if the host cannot get it, without;
 *            telling the node.
 * Elsewhere: the file that they come in, hosts that are killed afterwards (stacks.c);
 *            writing them (worker/host/stacks.c).
 *
 * To write them while other threads change them may crash the host. With the GIL nothing
 * changes. Where one thread keeps the GIL for long, it is in C code, and the others wait.
 */
#include "worker/supervisor/pool.h"

#include "protocol/sockets.h"
#include "protocol/words.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MAX_LOOK_BYTES 131072u /* four of them may wait for a slow node */

static void
answer(struct opb_node *node, uint32_t ticket, const char *text, const char *problem)
{
    struct opb_message *message = node->pool->message;

    if (node->connection != NULL) {
        opb_message_begin_notify(message, OPB_CONTROL_LOOKED, 3);
        opb_pack_uint(message, ticket);
        opb_pack_cstr(message, text);
        opb_pack_cstr(message, problem);
        opb_connection_send(node->connection);
    }
}

static void
forget(struct opb_look *look)
{
    (void)close(look->fd); /* it has no name: it is gone */
    look->fd = -1;
}

/* Opens the file, and passes it. */
static bool
ask(struct opb_host *host, uint8_t how)
{
    struct opb_look *look = &host->look;

    look->fd = memfd_create("stacks", MFD_CLOEXEC);
    if (look->fd < 0) {
        return false;
    }
    if (opb_socket_pass(host->control_fd, &how, 1, look->fd) != OPB_OK) {
        forget(look);
        return false;
    }
    return true;
}

void
opb_look_end(struct opb_host *host)
{
    char *text;

    if (host->look.fd < 0) {
        return;
    }
    text = opb_stacks_read(host->look.fd, MAX_LOOK_BYTES);
    forget(&host->look);
    answer(host->node, host->look.ticket, text != NULL ? text : "",
           text != NULL ? "" : opb_stacks_state(host->pid));
    free(text);
}

void
opb_look_begin(struct opb_node *node, struct opb_host *host, uint32_t ticket)
{
    if (host == NULL || host->control_fd < 0 || host->reason[0] != '\0') {
        answer(node, ticket, "", "gone");
        return;
    }
    opb_look_end(host); /* who asked before gets what there is */
    host->look.ticket = ticket;
    host->look.is_without_gil = false;
    host->look.until_ms = opb_clock_ms() + OPB_LOOK_GIL_MS;
    if (!ask(host, OPB_HOST_LOOK)) {
        answer(node, ticket, "", opb_stacks_state(host->pid));
        return;
    }
    opb_sweep_soon(node->pool, OPB_SWEEP_MS);
}

/* It has not got the GIL in time. */
static bool
ask_again(struct opb_host *host)
{
    forget(&host->look);
    host->look.is_without_gil = true;
    host->look.until_ms = opb_clock_ms() + OPB_STACKS_MS;
    if (!ask(host, OPB_HOST_STACKS)) {
        answer(host->node, host->look.ticket, "", opb_stacks_state(host->pid));
        return false;
    }
    return true;
}

bool
opb_look_check(struct opb_pool *pool)
{
    bool is_waiting = false;

    for (struct opb_host *host = pool->hosts; host != NULL; host = host->next) {
        struct opb_look *look = &host->look;

        if (look->fd < 0) {
            continue;
        }
        if (opb_stacks_are_complete(look->fd) || pool->is_stopping) {
            opb_look_end(host);
        }
        else if (opb_clock_ms() < look->until_ms) {
            is_waiting = true;
        }
        else if (look->is_without_gil) {
            opb_look_end(host);
        }
        else {
            is_waiting = ask_again(host) || is_waiting;
        }
    }
    return is_waiting;
}
