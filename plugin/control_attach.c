/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/control_attach.c - a node finds its pool, and attaches
 *
 * Here:      who the pool belongs to, the handshake, what the pool is told of the node, and
 *            the sentence for people if it does not come to that. For launch.c.
 * Elsewhere: the connection from then on (control.c); finding out whose a pool may be
 *            (pool_user.c).
 */
#include "plugin/control_state.h"

#include "plugin/config.h"
#include "plugin/log.h"
#include "plugin/pool_user.h"
#include "plugin/scripts.h"
#include "protocol/handshake.h"
#include "protocol/sockets.h"
#include "protocol/words.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_REFUSAL_BYTES 1024u

/* What can be done about a pool that cannot be connected to. */
static const char *
remedy(const struct opb_config *config, int error)
{
    if (config->pool == NULL) {
        return "";
    }
    if (error == EACCES) {
        return ": Orthanc's user must be in the group of the socket (\"SocketGroup\" in "
               "the "
               "pool's configuration), and may have to be started anew for that";
    }
    return ": start it (systemctl start orthanc-python-worker.socket), or correct the "
           "configuration option \"Python.Pool\"";
}

/* Gives the lane in control->lane. */
static enum opb_status
connect_pool(struct opb_control *control, const struct opb_node *node, uint64_t deadline_ms,
             char *message, size_t capacity)
{
    const char *path = node->pool_socket;
    struct opb_peer peer;
    enum opb_status status;
    int fd = -1;

    status = opb_socket_connect(&fd, path, deadline_ms);
    if (status != OPB_OK) {
        /* a message that does not fit is cut */
        (void)snprintf(message, capacity, "The pool does not answer at %s: %s%s", path,
                       status == OPB_SYSTEM ? strerror(errno) : opb_status_text(status),
                       status == OPB_SYSTEM ? remedy(node->config, errno) : "");
        return status == OPB_SYSTEM && (errno == ENOENT || errno == ECONNREFUSED) ? OPB_GONE
                                                                                  : status;
    }
    status = opb_socket_peer(fd, &peer);
    if (status == OPB_OK && !opb_pool_user_is(&node->pool_user, &peer)) {
        (void)snprintf(
            message, capacity,
            "The pool at %s belongs to user %lu, and Orthanc runs as user %lu: if "
            "that is who it should be, name the user in the configuration option "
            "\"Python.PoolUser\"",
            path, (unsigned long)peer.uid, (unsigned long)geteuid());
        status = OPB_REFUSED;
    }
    if (status == OPB_OK) {
        status = opb_lane_open(&control->lane, &fd, &opb_segment_malloc);
    }
    if (status != OPB_OK) {
        (void)close(fd); /* nothing was written */
    }
    return status;
}

static enum opb_status
shake_hands(struct opb_control *control, uint64_t deadline_ms)
{
    struct opb_hello hello = {.version = OPB_PROTOCOL_VERSION,
                              .kind = OPB_CONNECTION_CONTROL};
    enum opb_status status;
    uint32_t peer_version;

    status = opb_hello_send(control->lane, &hello, deadline_ms);
    if (status != OPB_OK) {
        return status;
    }
    return opb_welcome_receive(control->lane, &peer_version, deadline_ms);
}

/* Takes the node's name, and how many hosts it has, from the response. */
static enum opb_status
read_attached(struct opb_frame *response, struct opb_node *node, char *message,
              size_t capacity)
{
    struct opb_reader reader;
    struct opb_reader names;
    const char *text;
    const char *name;
    uint64_t workers;

    if (opb_frame_fault(response, NULL, NULL, &text)) {
        char line[MAX_REFUSAL_BYTES];

        opb_control_copy_line(line, sizeof(line), text);
        /* a message that does not fit is cut */
        (void)snprintf(message, capacity, "The pool refuses this server: %s", line);
        return OPB_REFUSED;
    }
    opb_frame_result(response, &reader);
    (void)opb_read_array(&reader, &names); /* finish() below sees what is wrong with it */
    name = opb_read_cstr(&names, false);
    workers = opb_read_uint(&names, node->config->workers);
    if (opb_reader_finish(&reader) != OPB_OK || opb_reader_finish(&names) != OPB_OK ||
        name[0] == '\0' || strlen(name) >= sizeof(node->name) || workers == 0) {
        return OPB_BAD_FRAME;
    }
    if (workers < node->config->workers) {
        opb_log_warning(
            "The pool gives this server %u of the %u hosts of the configuration "
            "option \"Python.Workers\": \"MaxHosts\" in the worker's "
            "configuration allows no more now, and the next reload asks again",
            (unsigned)workers, (unsigned)node->config->workers);
    }
    pthread_mutex_lock(&node->lock);
    strcpy(node->name, name);
    node->worker_count = (uint32_t)workers;
    pthread_mutex_unlock(&node->lock);
    return OPB_OK;
}

/* For a pool that runs some scripts only, and for one in which names must differ. */
static enum opb_status
describe(struct opb_control *control, struct opb_node *node, uint64_t deadline_ms)
{
    struct opb_scripts *scripts = opb_node_scripts(node);

    opb_message_begin_notify(control->message, OPB_CONTROL_DESCRIBE, 2);
    opb_scripts_pack(scripts, control->message);
    opb_scripts_unref(scripts);
    opb_pack_bool(control->message, node->config->node_name != NULL);
    return opb_lane_send(control->lane, control->message, deadline_ms);
}

/* What the zygote of this node is to be. */
static void
pack_preload(struct opb_message *message, const struct opb_config *config, bool is_starting)
{
    opb_pack_map(message, config->virtual_env != NULL ? 4 : 3);
    if (config->virtual_env != NULL) {
        opb_pack_cstr(message, "venv");
        opb_pack_cstr(message, config->virtual_env);
    }
    opb_pack_cstr(message, "verbose");
    opb_pack_bool(message, config->verbose);
    opb_pack_cstr(message, "starting");
    opb_pack_bool(message, is_starting);
    opb_pack_cstr(message, "preload");
    opb_pack_array(message, config->preload_count);
    for (uint32_t i = 0; i < config->preload_count; i++) {
        opb_pack_cstr(message, config->preload[i]);
    }
}

static enum opb_status
attach(struct opb_control *control, struct opb_node *node, const char *node_socket,
       bool is_starting, uint64_t deadline_ms, char *message, size_t capacity)
{
    struct opb_frame *response;
    enum opb_status status;
    uint32_t had; /* of a full pool, others shall find what they had, too */

    pthread_mutex_lock(&node->lock);
    had = node->worker_count;
    pthread_mutex_unlock(&node->lock);
    status = describe(control, node, deadline_ms);
    if (status != OPB_OK) {
        return status;
    }
    opb_message_begin_request(control->message, OPB_CONTROL_ATTACH, 7);
    opb_pack_cstr(control->message, node->name);
    opb_pack_cstr(control->message, node->context->orthancVersion);
    opb_pack_cstr(control->message, node_socket);
    opb_pack_bytes(control->message, node->secret, sizeof(node->secret));
    opb_pack_uint(control->message, (uint64_t)getpid());
    opb_pack_uint(control->message, is_starting ? node->config->workers : had);
    pack_preload(control->message, node->config, is_starting);
    status = opb_exchange(control->lane, control->message, opb_control_serve_frame, control,
                          deadline_ms, &response);
    if (status == OPB_OK) {
        status = read_attached(response, node, message, capacity);
    }
    opb_frame_free(response);
    return status;
}

/* Nothing that a pool must know: one of an older release does not look at it. */
static enum opb_status
limit_restarts(struct opb_control *control, const struct opb_config *config,
               uint64_t deadline_ms)
{
    opb_message_begin_notify(control->message, OPB_CONTROL_LIMIT_RESTARTS, 2);
    opb_pack_uint(control->message, config->max_restarts);
    opb_pack_uint(control->message, config->restart_window_ms);
    return opb_lane_send(control->lane, control->message, deadline_ms);
}

enum opb_status
opb_control_open(struct opb_control **out, struct opb_node *node, const char *node_socket,
                 bool is_starting, const struct opb_control_news *news,
                 uint64_t deadline_ms, char *message, size_t capacity)
{
    struct opb_control *control;
    enum opb_status status = OPB_NO_MEMORY;

    *out = NULL;
    message[0] = '\0';
    control = calloc(1, sizeof(*control));
    if (control == NULL) {
        goto explain;
    }
    control->news = news;
    control->message = opb_message_new();
    if (control->message == NULL) {
        goto close_control;
    }
    status = connect_pool(control, node, deadline_ms, message, capacity);
    if (status != OPB_OK) {
        goto close_control;
    }
    status = shake_hands(control, deadline_ms);
    if (status == OPB_OK) {
        status =
            attach(control, node, node_socket, is_starting, deadline_ms, message, capacity);
    }
    if (status == OPB_OK) {
        status = limit_restarts(control, node->config, deadline_ms);
    }
    if (status == OPB_OK) {
        *out = control;
        return OPB_OK;
    }
    if (message[0] == '\0') {
        /* a message that does not fit is cut */
        (void)snprintf(message, capacity,
                       "The pool at %s did not let this server attach: %s",
                       node->pool_socket, opb_lane_failure(control->lane));
    }

close_control:
    opb_control_close(control);
explain:
    if (message[0] == '\0') {
        (void)snprintf(message, capacity, "The control connection to the pool failed: %s",
                       opb_status_text(status));
    }
    return status;
}
