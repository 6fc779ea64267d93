/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/supervisor/log.c - the supervisor's own lines
 *
 * Here:      a line to the node, whose log it belongs in; to stderr only while no
 *            node is attached, since stdout and stderr are the script's.
 * Elsewhere: what is worth a line (the callers). Never a secret.
 */
#include "worker/supervisor/pool.h"

#include "protocol/words.h"

#include <stdarg.h>
#include <stdio.h>

static void
log_to_node(struct opb_node *node, enum opb_log_level level, const char *text)
{
    struct opb_connection *connection = node->connection;
    struct opb_message *message = node->pool->message;

    if (connection->out_have - connection->out_sent > OPB_MAX_WAITING_LOG_BYTES) {
        connection->dropped_log_count++;
        return;
    }
    if (connection->dropped_log_count != 0) {
        char dropped[80];

        (void)snprintf(
            dropped, sizeof(dropped), /* fits: the number has 10 digits */
            "%u log lines of the worker were dropped: the node did not read them",
            connection->dropped_log_count);
        connection->dropped_log_count = 0;
        log_to_node(node, OPB_LOG_WARNING, dropped);
    }
    opb_message_begin_notify(message, OPB_CONTROL_LOG, 2);
    opb_pack_uint(message, (uint64_t)level);
    opb_pack_cstr(message, text);
    opb_connection_send(connection);
}

void
opb_pool_log(struct opb_pool *pool, struct opb_node *node, enum opb_log_level level,
             const char *format, ...)
{
    char text[1024];
    bool is_said = false;
    va_list arguments;

    va_start(arguments, format);
    (void)vsnprintf(text, sizeof(text), format, arguments); /* longer lines are cut */
    va_end(arguments);
    for (struct opb_node *each = pool->nodes; each != NULL; each = each->next) {
        if (each->connection != NULL && (node == NULL || node == each)) {
            log_to_node(each, level, text);
            is_said = true;
        }
    }
    if (!is_said) {
        (void)fprintf(stderr, "orthanc-python-worker: %s\n", text); /* nowhere else to go */
    }
}
