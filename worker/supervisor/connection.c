/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/supervisor/connection.c - accepted connections, frame by frame
 *
 * Here:      reading and writing frames without waiting, the hello with its time
 *            limit, who may come in, and handing a lane over to its host.
 * Elsewhere: what a node asks for (node_requests.c), the host's end (hosts.c).
 *
 * Never a byte beyond the current frame is read: what follows the hello of a lane
 * belongs to the host.
 */
#include "worker/supervisor/pool.h"

#include "protocol/sockets.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define FRAMES_PER_TURN   32 /* then other connections get theirs */
#define PASS_AGAIN_MS     20u
#define COMPLAIN_EVERY_MS 10000u

static void on_poll(uv_poll_t *poll, int status, int events);

static void
on_closed(uv_handle_t *handle)
{
    struct opb_connection *connection = handle->data;

    if (--connection->open_handles == 0) {
        free(connection->in);
        free(connection->out);
        opb_scripts_free(connection->scripts);
        free(connection);
    }
}

static void
leave_pending(struct opb_connection *connection)
{
    if (connection->is_pending) {
        connection->is_pending = false;
        connection->pool->pending_count--;
        opb_pool_accept_more(connection->pool);
    }
}

void
opb_connection_close(struct opb_connection *connection)
{
    struct opb_pool *pool = connection->pool;

    if (connection->stage == OPB_STAGE_CLOSED) {
        return;
    }
    for (struct opb_connection **at = &pool->connections; *at != NULL; at = &(*at)->next) {
        if (*at == connection) {
            *at = connection->next;
            break;
        }
    }
    connection->stage = OPB_STAGE_CLOSED;
    connection->node = NULL;
    uv_close((uv_handle_t *)&connection->poll, on_closed); /* forgets the fd at once */
    uv_close((uv_handle_t *)&connection->timer, on_closed);
    (void)close(connection->fd);
    connection->fd = -1;
    pool->stranger_count -= connection->is_stranger;
    leave_pending(connection);
}

static void
watch(struct opb_connection *connection)
{
    int events = UV_READABLE;

    if (connection->out_sent < connection->out_have) {
        events |= UV_WRITABLE;
    }
    (void)uv_poll_start(&connection->poll, events,
                        on_poll); /* fails for closing ones only */
}

static void
write_waiting(struct opb_connection *connection)
{
    while (connection->out_sent < connection->out_have) {
        ssize_t sent =
            send(connection->fd, connection->out + connection->out_sent,
                 connection->out_have - connection->out_sent, MSG_DONTWAIT | MSG_NOSIGNAL);

        if (sent >= 0) {
            connection->out_sent += (size_t)sent;
        }
        else if (errno == EAGAIN) {
            break;
        }
        else if (errno != EINTR) {
            connection->out_sent = connection->out_have; /* reading shows the end as well */
        }
    }
    if (connection->out_sent == connection->out_have) {
        connection->out_sent = 0;
        connection->out_have = 0;
    }
}

static bool
make_room(struct opb_connection *connection, size_t bytes)
{
    size_t capacity;
    uint8_t *out;

    if (connection->out_sent != 0) {
        memmove(connection->out, connection->out + connection->out_sent,
                connection->out_have - connection->out_sent);
        connection->out_have -= connection->out_sent;
        connection->out_sent = 0;
    }
    if (bytes > OPB_MAX_WAITING_BYTES - connection->out_have) {
        return false;
    }
    if (connection->out_have + bytes <= connection->out_capacity) {
        return true;
    }
    capacity = 2 * (connection->out_have + bytes);
    out = realloc(connection->out, capacity);
    if (out == NULL) {
        return false;
    }
    connection->out = out;
    connection->out_capacity = capacity;
    return true;
}

void
opb_connection_send(struct opb_connection *connection)
{
    const struct iovec *parts = NULL;
    size_t part_count = 0;
    size_t bytes = 0;

    if (connection->stage == OPB_STAGE_CLOSED) {
        return;
    }
    if (opb_message_frame(connection->pool->message, &parts, &part_count) != OPB_OK) {
        (void)shutdown(connection->fd,
                       SHUT_RDWR); /* a gap would be worse: the loop sees the end */
        return;
    }
    for (size_t i = 0; i < part_count; i++) {
        bytes += parts[i].iov_len;
    }
    if (!make_room(connection, bytes)) {
        (void)shutdown(connection->fd, SHUT_RDWR); /* as above */
        return;
    }
    for (size_t i = 0; i < part_count; i++) {
        if (parts[i].iov_len != 0) {
            memcpy(connection->out + connection->out_have, parts[i].iov_base,
                   parts[i].iov_len);
            connection->out_have += parts[i].iov_len;
        }
    }
    write_waiting(connection);
    watch(connection);
}

/* Says no and closes. The answer is tiny: a socket that nobody has written to takes it. */
static void OPB_PRINTF(2, 3)
    refuse(struct opb_connection *connection, const char *format, ...)
{
    char text[512];
    va_list arguments;

    va_start(arguments, format);
    (void)vsnprintf(text, sizeof(text), format, arguments); /* longer ones are cut */
    va_end(arguments);
    opb_message_error(connection->pool->message, 0, OPB_FAULT_PROTOCOL,
                      OPB_PROTOCOL_VERSION, text);
    opb_connection_send(connection);
    opb_connection_close(connection);
}

static void
refuse_stranger(struct opb_connection *connection, const char *why)
{
    opb_pool_log_refused(connection->pool, &connection->peer, why);
    refuse(connection, "%s", why);
}

static void on_pass_timer(uv_timer_t *timer);

static void
pass(struct opb_connection *connection)
{
    struct opb_pool *pool = connection->pool;
    const struct opb_hello *hello = &connection->hello;
    struct opb_node *node = opb_node_find(pool, hello->node);
    struct opb_host *host = node != NULL ? opb_host_find(node, hello->host) : NULL;
    enum opb_status status;

    if (host == NULL) {
        refuse(connection, "host %u is not running", hello->host);
        return;
    }
    status = opb_host_pass(host, hello->kind, connection->fd);
    if (status == OPB_OK) {
        opb_connection_close(connection); /* the host has its own descriptor now */
    }
    else if (status == OPB_LATE && opb_clock_ms() < connection->give_up_ms) {
        (void)uv_timer_start(&connection->timer, on_pass_timer, PASS_AGAIN_MS, 0);
    }
    else if (status == OPB_LATE) {
        refuse(connection,
               "host %u did not take the lane within %u ms: it hangs or is stopped",
               hello->host, pool->options->handshake_timeout_ms);
    }
    else if (status == OPB_GONE) {
        refuse(connection, "host %u is ending", hello->host);
        opb_host_replace(host, "closed its connection to the worker and was killed");
    }
    else {
        refuse(connection, "the lane could not be passed to host %u: %s", hello->host,
               opb_status_text(status));
    }
}

static void
on_pass_timer(uv_timer_t *timer)
{
    pass(timer->data);
}

/* A lane for a host. Blocking again, since the host's end is plain reads and writes. */
static void
begin_pass(struct opb_connection *connection)
{
    int flags;

    connection->stage = OPB_STAGE_PASSING;
    (void)uv_poll_stop(&connection->poll); /* always 0 */
    flags = fcntl(connection->fd, F_GETFL);
    if (flags < 0 || fcntl(connection->fd, F_SETFL, flags & ~O_NONBLOCK) != 0) {
        refuse(connection, "the lane could not be prepared: %s", strerror(errno));
        return;
    }
    pass(connection);
}

static void
welcome_control(struct opb_connection *connection)
{
    struct opb_message *message = connection->pool->message;

    connection->stage = OPB_STAGE_CONTROL;
    opb_message_begin_response(message, 0);
    opb_pack_array(message, 1);
    opb_pack_uint(message, OPB_PROTOCOL_VERSION);
    opb_connection_send(connection);
}

static void
serve_hello(struct opb_connection *connection, struct opb_frame *frame)
{
    struct opb_pool *pool = connection->pool;
    struct opb_hello *hello = &connection->hello;
    const struct opb_node *node;
    enum opb_status status = opb_hello_decode(frame, hello);
    char why[256];

    if (status == OPB_VERSION) {
        (void)snprintf(why, sizeof(why), /* fits */
                       "this worker speaks protocol version %d, the plugin version %u: "
                       "install plugin and worker from the same release",
                       OPB_PROTOCOL_VERSION, hello->version);
        refuse_stranger(connection, why);
        return;
    }
    if (status != OPB_OK) {
        refuse_stranger(connection, "its first bytes are no greeting of the bridge");
        return;
    }
    if (connection->is_stranger) {
        opb_pool_refusal(pool, &connection->peer, why, sizeof(why));
        refuse(connection, "%s", why); /* has been logged */
        return;
    }
    if (hello->kind == OPB_CONNECTION_CONTROL) {
        welcome_control(connection);
        return;
    }
    if (hello->kind != OPB_CONNECTION_MAIN && hello->kind != OPB_CONNECTION_CALL) {
        refuse_stranger(connection, "this socket takes no connections of that kind");
        return;
    }
    node = opb_node_find(pool, hello->node);
    if (node == NULL) {
        refuse_stranger(connection, "no node of that name is attached to this worker");
        return;
    }
    if (!opb_secret_equal(hello->secret, node->secret, OPB_SECRET_BYTES)) {
        refuse_stranger(connection, "the secret is not the one of the node that it names");
        return;
    }
    begin_pass(connection);
}

/* Gives the next whole frame. OPB_LATE: not all of it is there. */
static enum opb_status
read_frame(struct opb_connection *connection, struct opb_frame **out)
{
    *out = NULL;
    for (;;) {
        struct opb_frame_header header;
        const uint32_t limit = connection->stage == OPB_STAGE_CONTROL
                                   ? OPB_MAX_CONTROL_ENVELOPE_BYTES
                                   : OPB_MAX_HELLO_BYTES;
        enum opb_status status;
        uint8_t *in;

        while (connection->in_have < connection->in_need) {
            ssize_t got = recv(connection->fd, connection->in + connection->in_have,
                               connection->in_need - connection->in_have, MSG_DONTWAIT);

            if (got > 0) {
                connection->in_have += (size_t)got;
            }
            else if (got < 0 && errno == EAGAIN) {
                return OPB_LATE;
            }
            else if (got == 0 || errno != EINTR) {
                return OPB_GONE;
            }
        }
        if (connection->in_need > OPB_FRAME_HEADER_BYTES) {
            status = opb_frame_decode(out, connection->in, connection->in_need);
            connection->in_have = 0;
            connection->in_need = OPB_FRAME_HEADER_BYTES;
            return status;
        }
        status = opb_frame_header_decode(&header, connection->in, limit);
        if (status != OPB_OK) {
            return status;
        }
        if (header.segment_count != 0 || header.envelope_bytes == 0) {
            return OPB_BAD_FRAME; /* nothing that is said here is bulk */
        }
        in =
            realloc(connection->in, OPB_FRAME_HEADER_BYTES + (size_t)header.envelope_bytes);
        if (in == NULL) {
            return OPB_NO_MEMORY;
        }
        connection->in = in;
        connection->in_need = OPB_FRAME_HEADER_BYTES + (size_t)header.envelope_bytes;
    }
}

/* The connection ends by its peer's doing. */
static void
fail(struct opb_connection *connection, enum opb_status status)
{
    struct opb_node *node = connection->node;

    if (connection->stage == OPB_STAGE_HELLO &&
        (status == OPB_BAD_FRAME || status == OPB_TOO_LARGE)) {
        refuse_stranger(connection, "its first bytes are no greeting of the bridge");
        return;
    }
    if (status != OPB_GONE) {
        opb_pool_log(connection->pool, node, OPB_LOG_ERROR,
                     "the worker closes the connection of process %d: %s",
                     (int)connection->peer.pid, opb_status_text(status));
    }
    opb_connection_close(connection);
    if (node != NULL) {
        opb_node_lost(node);
    }
}

static void
on_readable(struct opb_connection *connection)
{
    for (int i = 0; i < FRAMES_PER_TURN; i++) {
        struct opb_frame *frame = NULL;
        enum opb_status status = read_frame(connection, &frame);

        if (status == OPB_LATE) {
            return;
        }
        if (status == OPB_OK) {
            if (connection->stage == OPB_STAGE_HELLO) {
                serve_hello(connection, frame);
            }
            else {
                status = opb_control_serve(connection, frame);
            }
            opb_frame_free(frame);
        }
        if (status != OPB_OK) {
            fail(connection, status);
        }
        if (connection->stage != OPB_STAGE_CONTROL) {
            return; /* closed, or a lane whose next bytes are not ours */
        }
    }
}

static void
on_poll(uv_poll_t *poll, int status, int events)
{
    struct opb_connection *connection = poll->data;

    if (status != 0) { /* the peer left without reading: libuv watches it no longer */
        fail(connection, OPB_GONE);
        return;
    }
    if ((events & UV_WRITABLE) != 0) {
        write_waiting(connection);
        watch(connection);
    }
    if ((events & UV_READABLE) != 0) {
        on_readable(connection);
    }
}

static void
on_late(uv_timer_t *timer)
{
    struct opb_connection *connection = timer->data;

    if (connection->stage == OPB_STAGE_HELLO) {
        refuse_stranger(connection, "it did not complete its greeting in time");
    }
    else {
        refuse_stranger(connection,
                        "it opened a control connection and did not attach in time");
    }
}

bool
opb_connection_drop_silent(struct opb_pool *pool)
{
    struct opb_connection *oldest = NULL;
    uint64_t now_ms = opb_clock_ms();
    uint32_t count = 0;

    for (struct opb_connection *each = pool->connections; each != NULL; each = each->next) {
        if (each->is_pending && each->stage != OPB_STAGE_PASSING) {
            oldest = each; /* new ones are put in front */
            count++;
        }
    }
    if (count < OPB_MAX_PENDING / 4) {
        return false; /* so few may be new ones, whose words have not been read yet */
    }
    if (pool->complained_ms == 0 || now_ms - pool->complained_ms > COMPLAIN_EVERY_MS) {
        pool->complained_ms = now_ms;
        opb_pool_log(pool, NULL, OPB_LOG_WARNING,
                     "more than %u connections have not said what they want: the oldest "
                     "are closed, now one of process %d",
                     OPB_MAX_PENDING, (int)oldest->peer.pid);
    }
    opb_connection_close(oldest);
    return true;
}

void
opb_connection_settle(struct opb_connection *connection, struct opb_node *node)
{
    connection->node = node;
    (void)uv_timer_stop(&connection->timer); /* always 0 */
    leave_pending(connection);
}

enum opb_status
opb_connection_open(struct opb_pool *pool, int *fd, const struct opb_peer *peer,
                    bool is_stranger)
{
    struct opb_connection *connection = calloc(1, sizeof(*connection));

    if (connection == NULL) {
        return OPB_NO_MEMORY;
    }
    connection->in = malloc(OPB_FRAME_HEADER_BYTES);
    if (connection->in == NULL) {
        free(connection);
        return OPB_NO_MEMORY;
    }
    if (uv_poll_init(&pool->loop, &connection->poll, *fd) != 0) {
        free(connection->in);
        free(connection);
        return OPB_SYSTEM;
    }
    (void)uv_timer_init(&pool->loop, &connection->timer); /* always 0 */
    connection->poll.data = connection;
    connection->timer.data = connection;
    connection->open_handles = 2;
    connection->pool = pool;
    connection->fd = *fd;
    *fd = -1;
    connection->peer = *peer;
    connection->is_stranger = is_stranger;
    pool->stranger_count += is_stranger;
    connection->in_need = OPB_FRAME_HEADER_BYTES;
    connection->give_up_ms = opb_deadline_ms(pool->options->handshake_timeout_ms);
    connection->is_pending = true;
    pool->pending_count++;
    connection->next = pool->connections;
    pool->connections = connection;
    (void)uv_timer_start(&connection->timer, on_late, pool->options->handshake_timeout_ms,
                         0);
    watch(connection);
    return OPB_OK;
}
