/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/supervisor/log.c - the supervisor's own lines
 *
 * Here:      a line to the node, whose log it belongs in. To stderr: of a managed pool only
 *            while no node is attached, since stdout and stderr are the script's; of a
 *            shared one always, with the node's name in front.
 * Elsewhere: what is worth a line (the callers). Never a secret.
 */
#include "worker/supervisor/pool.h"

#include "protocol/sockets.h"
#include "protocol/words.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define REFUSALS_EVERY_MS 10000u
#define REFUSALS_TOLD     10u /* in that time */

/* As syslog numbers them; the journal reads the number in front of a line. */
static const int priorities[] = {
    [OPB_LOG_ERROR] = 3, [OPB_LOG_WARNING] = 4, [OPB_LOG_INFO] = 6};

/* True if stderr is the journal's, and not something else since. */
static bool
is_journal(void)
{
    const char *stream = getenv("JOURNAL_STREAM");
    unsigned long long device;
    unsigned long long inode;
    struct stat info;

    return stream != NULL && sscanf(stream, "%llu:%llu", &device, &inode) == 2 &&
           fstat(STDERR_FILENO, &info) == 0 && info.st_dev == device &&
           info.st_ino == inode;
}

void
opb_say(enum opb_log_level level, const char *who, const char *text)
{
    const char *between = who[0] != '\0' ? ": " : "";

    /* nowhere else to go */
    if (is_journal()) {
        (void)fprintf(stderr, "<%d>%s%s%s\n", priorities[level], who, between, text);
    }
    else {
        (void)fprintf(stderr, "orthanc-python-worker: %s%s%s\n", who, between, text);
    }
}

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
    if (!is_said || !pool->is_managed) {
        opb_pool_say(pool, node, level, "%s", text);
    }
}

void
opb_pool_say(const struct opb_pool *pool, const struct opb_node *node,
             enum opb_log_level level, const char *format, ...)
{
    char text[1024];
    va_list arguments;

    if (level > pool->options->config.log_level) {
        return;
    }
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof(text), format, arguments); /* longer lines are cut */
    va_end(arguments);
    opb_say(level, node != NULL ? node->name : "", text);
}

void
opb_pool_log_refused(struct opb_pool *pool, const struct opb_peer *peer, const char *why)
{
    uint64_t now_ms = opb_clock_ms();

    if (pool->refused_ms == 0 || now_ms - pool->refused_ms > REFUSALS_EVERY_MS) {
        if (pool->refused_count > REFUSALS_TOLD) {
            opb_pool_log(pool, NULL, OPB_LOG_WARNING,
                         "%u more connections were refused that have not been told",
                         pool->refused_count - REFUSALS_TOLD);
        }
        pool->refused_ms = now_ms;
        pool->refused_count = 0;
    }
    if (pool->refused_count < REFUSALS_TOLD) {
        opb_pool_log(pool, NULL, OPB_LOG_WARNING, "refused a connection of process %d: %s",
                     (int)peer->pid, why);
    }
    if (pool->refused_count < UINT32_MAX) {
        pool->refused_count++;
    }
}
