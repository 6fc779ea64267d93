/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/fuzz/fuzz_pool.c - any byte stream of a connection to the pool's socket
 *
 * The real connections and nodes of the supervisor, on a real loop; hosts are made up.
 * First byte: bit 0, the stream begins with the hello of a control connection, a DESCRIBE
 * and an ATTACH; bit 1, the peer is a user that may not use the pool; bit 2, the pool runs
 * some scripts only. The rest is what the peer says before it leaves.
 */
#include "worker/supervisor/pool.h"

#include "protocol/sockets.h"
#include "protocol/words.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MAX_BYTES 65536u

static char allowed[] = "/etc";
static char *allowed_items[] = {allowed, NULL};
static struct opb_pool_options options = {.handshake_timeout_ms = 1000,
                                          .managed_fd = -1,
                                          .listen_fd = -1,
                                          .config = {.log_level = OPB_LOG_ERROR}};
static struct opb_host the_host;

/* -- hosts, as far as connections and nodes know them -------------------------------- */

void
opb_host_start(struct opb_slot *slot)
{
    the_host = (struct opb_host){
        .id = 1, .pid = 4242, .node = slot->node, .slot = slot->index, .control_fd = 0};
    slot->host = &the_host;
    opb_node_host_started(slot->node, &the_host);
}

/* There is one host only: it is its own next one. */
void
opb_host_start_next(struct opb_slot *slot)
{
    if (slot->next == NULL) {
        slot->next = slot->host;
        opb_node_next_started(slot, the_host.id, the_host.pid);
    }
}

void
opb_host_switch(struct opb_slot *slot, uint32_t id)
{
    if (slot->next != NULL && id == the_host.id) {
        slot->next = NULL;
    }
}

struct opb_host *
opb_host_find(const struct opb_node *node, uint32_t id)
{
    return the_host.pid != 0 && the_host.node == node && the_host.id == id ? &the_host
                                                                           : NULL;
}

void
opb_host_kill(struct opb_host *host, int signal_number)
{
    (void)host;
    (void)signal_number;
}

void
opb_host_replace(struct opb_host *host, const char *reason)
{
    if (strlen(reason) > OPB_MAX_CONTROL_ENVELOPE_BYTES) {
        abort();
    }
    opb_node_host_died(host->node, host->id, host->pid, "was replaced");
}

void
opb_stacks_ask(struct opb_host *host, const char *reason)
{
    opb_host_replace(host, reason);
}

void
opb_look_begin(struct opb_node *node, struct opb_host *host, uint32_t ticket)
{
    opb_message_begin_notify(node->pool->message, OPB_CONTROL_LOOKED, 3);
    opb_pack_uint(node->pool->message, ticket);
    opb_pack_cstr(node->pool->message, "");
    opb_pack_cstr(node->pool->message, host != NULL ? "" : "gone");
    opb_connection_send(node->connection);
}

enum opb_status
opb_host_pass(struct opb_host *host, enum opb_connection_kind kind, int fd)
{
    (void)host;
    return fd >= 0 && (kind == OPB_CONNECTION_MAIN || kind == OPB_CONNECTION_CALL)
               ? OPB_OK
               : (abort(), OPB_OK);
}

struct opb_host *
opb_host_find_pid(struct opb_pool *pool, pid_t pid)
{
    (void)pool;
    return pid == the_host.pid ? &the_host : NULL;
}

void
opb_zygote_new(struct opb_node *node, struct opb_preload *preload)
{
    (void)node;
    if (preload->arguments[preload->count] != NULL ||
        preload->module_count > OPB_MAX_PRELOADED) {
        abort();
    }
    opb_preload_free(preload);
}

void
opb_zygote_end(struct opb_node *node)
{
    (void)node;
}

void
opb_zygote_free(struct opb_node *node)
{
    (void)node;
}

void
opb_pool_stop(struct opb_pool *pool)
{
    (void)pool;
}

void
opb_pool_refusal(const struct opb_pool *pool, const struct opb_peer *peer, char *out,
                 size_t capacity)
{
    (void)snprintf(out, capacity, "user %u is a stranger to %p", (unsigned)peer->uid,
                   (const void *)pool); /* fits */
}

void
opb_pool_check_stopped(struct opb_pool *pool)
{
    (void)pool;
}

void
opb_pool_accept_more(struct opb_pool *pool)
{
    if (pool->pending_count > 1) {
        abort();
    }
}

/* -- one connection --------------------------------------------------------------- */

static size_t
append(uint8_t *out, struct opb_message *message)
{
    const struct iovec *parts;
    size_t part_count;
    size_t bytes = 0;

    if (opb_message_frame(message, &parts, &part_count) != OPB_OK) {
        abort();
    }
    for (size_t i = 0; i < part_count; i++) {
        if (parts[i].iov_len > 0) {
            memcpy(out + bytes, parts[i].iov_base, parts[i].iov_len);
            bytes += parts[i].iov_len;
        }
    }
    return bytes;
}

static size_t
make_attach(uint8_t *out, struct opb_message *message)
{
    uint8_t secret[OPB_SECRET_BYTES];
    size_t bytes;

    memset(secret, 's', sizeof(secret));
    opb_message_begin_request(message, 0, 6);
    opb_pack_cstr(message, OPB_PROTOCOL_MAGIC);
    opb_pack_uint(message, OPB_PROTOCOL_VERSION);
    opb_pack_uint(message, OPB_CONNECTION_CONTROL);
    opb_pack_cstr(message, "");
    opb_pack_uint(message, 0);
    opb_pack_bytes(message, secret, sizeof(secret));
    bytes = append(out, message);
    opb_message_begin_notify(message, OPB_CONTROL_DESCRIBE, 2);
    opb_pack_array(message, 2);
    opb_pack_cstr(message, "/etc/passwd");
    opb_pack_cstr(message, "/etc/group");
    opb_pack_bool(message, true);
    bytes += append(out + bytes, message);
    opb_message_begin_request(message, OPB_CONTROL_ATTACH, 7);
    opb_message_set_msgid(message, 1);
    opb_pack_cstr(message, "node");
    opb_pack_cstr(message, "1.10.1");
    opb_pack_cstr(message, "/nowhere");
    opb_pack_bytes(message, secret, sizeof(secret));
    opb_pack_uint(message, 1);
    opb_pack_uint(message, 2);
    opb_pack_map(message, 2);
    opb_pack_cstr(message, "verbose");
    opb_pack_bool(message, true);
    opb_pack_cstr(message, "preload");
    opb_pack_array(message, 1);
    opb_pack_cstr(message, "numpy.linalg");
    return bytes + append(out + bytes, message);
}

/* Runs the loop until nothing of the connection is left: the peer has gone already. */
static void
serve_to_its_end(struct opb_pool *pool)
{
    uint64_t deadline_ms = opb_deadline_ms(5000);

    while (pool->connections != NULL && opb_clock_ms() < deadline_ms) {
        (void)uv_run(&pool->loop, UV_RUN_ONCE);
    }
    if (pool->connections != NULL || pool->pending_count != 0 ||
        pool->stranger_count != 0) {
        abort();
    }
    while (pool->nodes != NULL) {
        if (pool->nodes->connection != NULL) {
            abort(); /* nobody would ever end its hosts */
        }
        the_host.pid = 0;
        opb_node_forget(pool->nodes);
    }
    (void)uv_run(&pool->loop, UV_RUN_DEFAULT); /* until all handles are closed */
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct opb_peer peer = {.pid = 1, .uid = 1};
    static uint8_t said[MAX_BYTES + 512];
    struct opb_pool pool;
    size_t bytes = 0;
    int fds[2];

    if (size < 1 || size > MAX_BYTES ||
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0) {
        return 0;
    }
    memset(&pool, 0, sizeof(pool));
    options.config.scripts.items = (data[0] & 4u) != 0 ? allowed_items : NULL;
    options.config.scripts.count = (data[0] & 4u) != 0 ? 1 : 0;
    pool.options = &options;
    pool.message = opb_message_new();
    if (pool.message == NULL || uv_loop_init(&pool.loop) != 0) {
        abort();
    }
    if ((data[0] & 1u) != 0) {
        bytes = make_attach(said, pool.message);
    }
    memcpy(said + bytes, data + 1, size - 1);
    bytes += size - 1;
    if (send(fds[1], said, bytes, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)bytes ||
        opb_connection_open(&pool, &fds[0], &peer, (data[0] & 2u) != 0) != OPB_OK) {
        abort();
    }
    (void)shutdown(fds[1], SHUT_WR);
    serve_to_its_end(&pool);
    (void)close(fds[1]);
    opb_message_free(pool.message);
    if (uv_loop_close(&pool.loop) != 0) {
        abort();
    }
    return 0;
}
