/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/fake_node.c - see fake_node.h
 *
 * Here:      connections and their threads, the lines and objects of the node, its tables.
 * Elsewhere: what a call is written down as, orders, answers (fake_call.c).
 */
#include "fake_node.h"

#include "fake_call.h"
#include "support.h"

#include "protocol/handshake.h"
#include "protocol/limits.h"
#include "protocol/sockets.h"
#include "protocol/words.h"
#include "worker/module/model.h"

#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define MAX_CONNECTIONS 256u
#define CHANGE_METHOD   3u
#define FIRST_HANDLE    1000000u /* of results; tests choose lower ones themselves */

struct connection {
    struct opb_fake_node *node;
    struct opb_lane *lane;
    struct opb_thread *thread; /* NULL: free */
    bool is_service;
    bool is_done;
};

struct opb_fake_node {
    pthread_mutex_t lock;
    char directory[64];
    char path[96];
    int listen_fd;
    int stop_pair[2];
    struct opb_thread *acceptor;
    struct connection connections[MAX_CONNECTIONS];
    unsigned int live, most;
    bool is_newest;
    char order[64];          /* of calls without one */
    bool *is_live;           /* by handle, from FIRST_HANDLE on */
    unsigned int made, left; /* results, and those not released yet */
    bool is_confused;        /* told to release what it does not have */
    int go_fd;               /* an eventfd */
    atomic_bool was_held_up;
    char *lines;
    size_t lines_bytes;
    struct opb_node_info *info; /* a copy of the tables, for names */
};

static void
write_line(struct opb_fake_node *node, const char *line)
{
    size_t bytes = strlen(line);

    (void)pthread_mutex_lock(&node->lock);
    node->lines = realloc(node->lines, node->lines_bytes + bytes + 2);
    assert_non_null(node->lines);
    memcpy(node->lines + node->lines_bytes, line, bytes);
    node->lines_bytes += bytes;
    node->lines[node->lines_bytes++] = '\n';
    node->lines[node->lines_bytes] = '\0';
    (void)pthread_mutex_unlock(&node->lock);
}

static void
hold(struct opb_fake_node *node)
{
    struct pollfd go = {.fd = node->go_fd, .events = POLLIN};
    eventfd_t count;

    if (poll(&go, 1, 20000) == 0) {
        atomic_store(&node->was_held_up, true);
    }
    else {
        (void)eventfd_read(node->go_fd, &count);
    }
}

void
opb_fake_node_go(struct opb_fake_node *node)
{
    assert_int_equal(eventfd_write(node->go_fd, 1), 0);
}

bool
opb_fake_node_was_let_go(struct opb_fake_node *node)
{
    return !atomic_exchange(&node->was_held_up, false);
}

char *
opb_fake_node_take(struct opb_fake_node *node)
{
    char *lines;

    (void)pthread_mutex_lock(&node->lock);
    lines = node->lines == NULL ? strdup("") : node->lines;
    node->lines = NULL;
    node->lines_bytes = 0;
    (void)pthread_mutex_unlock(&node->lock);
    return lines;
}

void
opb_fake_node_order(struct opb_fake_node *node, const char *order)
{
    (void)pthread_mutex_lock(&node->lock);
    (void)snprintf(node->order, sizeof(node->order), "%s", order);
    (void)pthread_mutex_unlock(&node->lock);
}

uint64_t
opb_fake_node_make(struct opb_fake_node *node)
{
    uint64_t handle;

    (void)pthread_mutex_lock(&node->lock);
    node->is_live = realloc(node->is_live, (node->made + 1) * sizeof(*node->is_live));
    assert_non_null(node->is_live);
    node->is_live[node->made] = true;
    handle = FIRST_HANDLE + node->made++;
    node->left++;
    (void)pthread_mutex_unlock(&node->lock);
    return handle;
}

void
opb_fake_node_release(struct opb_fake_node *node, uint64_t handle)
{
    if (handle < FIRST_HANDLE) {
        return; /* of the test */
    }
    handle -= FIRST_HANDLE;
    (void)pthread_mutex_lock(&node->lock);
    if (handle < node->made && node->is_live[handle]) {
        node->is_live[handle] = false;
        node->left--;
    }
    else {
        node->is_confused = true;
    }
    (void)pthread_mutex_unlock(&node->lock);
}

unsigned int
opb_fake_node_made(struct opb_fake_node *node)
{
    unsigned int made;

    (void)pthread_mutex_lock(&node->lock);
    made = node->made;
    (void)pthread_mutex_unlock(&node->lock);
    return made;
}

unsigned int
opb_fake_node_live(struct opb_fake_node *node)
{
    unsigned int left;

    (void)pthread_mutex_lock(&node->lock);
    left = node->is_confused ? UINT_MAX : node->left;
    (void)pthread_mutex_unlock(&node->lock);
    return left;
}

static enum opb_status serve(void *context, struct opb_lane *lane, struct opb_frame *frame);

static void
call_host(struct connection *connection, const char *text)
{
    struct opb_message *message = opb_message_new();
    struct opb_frame *response;

    assert_non_null(message);
    opb_message_begin_request(message, CHANGE_METHOD, 1);
    opb_pack_cstr(message, text);
    if (opb_exchange(connection->lane, message, serve, connection, opb_deadline_ms(20000),
                     &response) == OPB_OK) {
        opb_frame_free(response);
    }
    opb_message_free(message);
}

static enum opb_status
serve(void *context, struct opb_lane *lane, struct opb_frame *frame)
{
    struct connection *connection = context;
    const struct opb_node_info *info = connection->node->info;
    const struct opb_node_function *function;
    struct opb_message *message;
    struct fake_call call;
    unsigned int number;
    enum opb_status status;
    void *kept = NULL;
    char text[32];

    if (opb_frame_method(frame) >= info->function_count) {
        return OPB_BAD_FRAME;
    }
    function = &info->functions[opb_frame_method(frame)];
    opb_fake_call_describe(connection->node, &call, function, frame);
    if (function->name[0] != '_' && !call.has_order) {
        (void)pthread_mutex_lock(&connection->node->lock);
        memcpy(call.order, connection->node->order, sizeof(connection->node->order));
        (void)pthread_mutex_unlock(&connection->node->lock);
    }
    if (opb_frame_type(frame) == OPB_NOTIFY) {
        (void)snprintf(call.text + call.used, sizeof(call.text) - call.used, " posted");
        write_line(connection->node, call.text);
        if (strcmp(call.order, "hold") == 0) {
            hold(connection->node);
        }
        return OPB_OK;
    }
    write_line(connection->node, call.text);
    if (strcmp(call.order, "drop") == 0) {
        opb_lane_shutdown(lane);
        return OPB_GONE;
    }
    if (sscanf(call.order, "sleep:%u", &number) == 1) {
        (void)poll(NULL, 0, (int)number);
    }
    else if (sscanf(call.order, "nest:%u", &number) == 1) {
        for (; number > 0; number--) {
            call_host(connection, "nested");
        }
    }
    else if (sscanf(call.order, "deep:%u", &number) == 1 && number > 0) {
        (void)snprintf(text, sizeof(text), "deep:%u", number - 1);
        call_host(connection, text);
    }
    message = opb_message_new();
    assert_non_null(message);
    opb_fake_call_answer(connection->node, message, opb_frame_msgid(frame),
                         function->signature, &call, &kept);
    status = opb_lane_send(lane, message, opb_deadline_ms(20000));
    opb_message_free(message);
    free(kept);
    return status;
}

static bool
greet(struct connection *connection)
{
    uint64_t deadline_ms = opb_deadline_ms(5000);
    struct opb_hello hello;
    struct opb_frame *frame;
    bool is_child;
    bool is_right;

    if (opb_lane_receive(connection->lane, &frame, deadline_ms) != OPB_OK) {
        return false;
    }
    is_right = opb_hello_decode(frame, &hello) == OPB_OK &&
               strcmp(hello.node, "fake") == 0 && hello.host == 5 &&
               hello.secret[0] == 0x5a;
    is_child = is_right && hello.kind == OPB_CONNECTION_CHILD;
    is_right = is_child || (is_right && hello.kind == OPB_CONNECTION_SERVICE);
    if (is_child) {
        write_line(connection->node, "child");
    }
    opb_frame_free(frame);
    if (!is_right) {
        assert_int_equal(
            opb_welcome_refuse(connection->lane, "not the hello of this host", deadline_ms),
            OPB_OK);
        return false;
    }
    if (opb_welcome_send(connection->lane, deadline_ms) != OPB_OK) {
        return false;
    }
    opb_lane_trust(connection->lane);
    return true;
}

static void
run_connection(void *context)
{
    struct connection *connection = context;
    struct opb_frame *frame;
    enum opb_status status = OPB_OK;

    if (connection->is_service && !greet(connection)) {
        status = OPB_REFUSED;
    }
    while (status == OPB_OK) {
        status = opb_lane_receive(connection->lane, &frame, OPB_FOREVER);
        if (status == OPB_OK) {
            status = serve(connection, connection->lane, frame);
            opb_frame_free(frame);
        }
    }
    (void)pthread_mutex_lock(&connection->node->lock);
    opb_lane_close(connection->lane);
    connection->lane = NULL;
    connection->is_done = true;
    connection->node->live--;
    (void)pthread_mutex_unlock(&connection->node->lock);
}

/* Called with the lock held. */
static void
add_connection(struct opb_fake_node *node, int fd, bool is_service)
{
    struct connection *connection = NULL;

    for (size_t i = 0; i < MAX_CONNECTIONS && connection == NULL; i++) {
        struct connection *candidate = &node->connections[i];

        if (candidate->thread != NULL && candidate->is_done) {
            struct opb_thread *thread = candidate->thread;

            candidate->thread = NULL;
            (void)pthread_mutex_unlock(&node->lock);
            opb_thread_join(thread);
            (void)pthread_mutex_lock(&node->lock);
        }
        if (candidate->thread == NULL) {
            connection = candidate;
        }
    }
    assert_non_null(connection);
    memset(connection, 0, sizeof(*connection));
    connection->node = node;
    connection->is_service = is_service;
    assert_int_equal(opb_lane_open(&connection->lane, &fd, &opb_segment_malloc), OPB_OK);
    if (!is_service) {
        opb_lane_trust(connection->lane);
    }
    node->live++;
    node->most = node->live > node->most ? node->live : node->most;
    connection->thread = opb_thread_start(run_connection, connection);
}

void
opb_fake_node_serve(struct opb_fake_node *node, int fd)
{
    (void)pthread_mutex_lock(&node->lock);
    add_connection(node, fd, false);
    (void)pthread_mutex_unlock(&node->lock);
}

static void
accept_forever(void *context)
{
    struct opb_fake_node *node = context;

    for (;;) {
        struct pollfd items[2] = {
            {.fd = node->listen_fd, .events = POLLIN},
            {.fd = node->stop_pair[0], .events = POLLIN},
        };
        int fd;

        if (poll(items, 2, -1) < 0 || items[1].revents != 0) {
            return;
        }
        if (opb_socket_accept(&fd, node->listen_fd) == OPB_OK) {
            (void)pthread_mutex_lock(&node->lock);
            add_connection(node, fd, true);
            (void)pthread_mutex_unlock(&node->lock);
        }
    }
}

void
opb_fake_node_drop(struct opb_fake_node *node)
{
    for (size_t i = 0; i < MAX_CONNECTIONS; i++) {
        struct connection *connection = &node->connections[i];
        struct opb_thread *thread;

        (void)pthread_mutex_lock(&node->lock);
        if (connection->lane != NULL) {
            opb_lane_shutdown(connection->lane);
        }
        thread = connection->thread;
        connection->thread = NULL;
        (void)pthread_mutex_unlock(&node->lock);
        if (thread != NULL) {
            opb_thread_join(thread);
        }
    }
    node->most = 0;
}

unsigned int
opb_fake_node_most_connections(struct opb_fake_node *node)
{
    unsigned int most;

    (void)pthread_mutex_lock(&node->lock);
    most = node->most;
    (void)pthread_mutex_unlock(&node->lock);
    return most;
}

struct opb_node_info *
opb_fake_node_info(const struct opb_fake_node *node)
{
    static const char *const calls[] = {"Load",   "Finalize",       "Rest",
                                        "Change", "StoredInstance", "HttpFilter"};
    struct opb_node_info *info = calloc(1, sizeof(*info));
    uint32_t used = 0;

    assert_non_null(info);
    info->version = node->is_newest ? UINT32_MAX : 1010001;
    info->version_text = strdup(node->is_newest ? "mainline" : "1.10.1");
    info->node = strdup("fake");
    info->node_socket = strdup(node->path);
    info->host = 5;
    info->secret[0] = 0x5a;
    info->functions = calloc(opb_py_function_count + 3, sizeof(*info->functions));
    for (uint32_t i = 0; i < opb_py_function_count; i++) {
        const struct opb_py_function *function = &opb_py_functions[i];

        /* Old names of a method stand for the same function of the node. One function is
         * missing, and one is another, as if the plugin were of another release. */
        if (function->node_name == NULL || strcmp(function->name, "GetFontSize") == 0) {
            continue;
        }
        info->functions[used].name = strdup(function->node_name);
        info->functions[used++].signature = strdup(
            strcmp(function->name, "GetFontsCount") == 0 ? "s:i" : function->signature);
    }
    info->functions[used].name = strdup(OPB_FUNCTION_FENCE);
    info->functions[used++].signature = strdup("x:x");
    info->functions[used].name = strdup(OPB_FUNCTION_REGISTER);
    info->functions[used++].signature = strdup("x:x");
    info->functions[used].name = strdup(OPB_FUNCTION_RELEASE);
    info->functions[used++].signature = strdup("x:x");
    info->function_count = used;
    info->call_count = sizeof(calls) / sizeof(calls[0]);
    info->calls = calloc(info->call_count, sizeof(*info->calls));
    for (uint32_t i = 0; i < info->call_count; i++) {
        info->calls[i] = strdup(calls[i]);
    }
    return info;
}

struct opb_fake_node *
opb_fake_node_start(bool is_newest)
{
    struct opb_fake_node *node = calloc(1, sizeof(*node));

    assert_non_null(node);
    assert_int_equal(pthread_mutex_init(&node->lock, NULL), 0);
    (void)snprintf(node->directory, sizeof(node->directory), "/tmp/opb-fake-node-XXXXXX");
    assert_non_null(mkdtemp(node->directory));
    (void)snprintf(node->path, sizeof(node->path), "%s/node.sock", node->directory);
    assert_int_equal(opb_socket_listen(&node->listen_fd, node->path, 0600, 128), OPB_OK);
    opb_make_pair(node->stop_pair);
    node->go_fd = eventfd(0, EFD_CLOEXEC);
    assert_true(node->go_fd >= 0);
    node->is_newest = is_newest;
    node->info = opb_fake_node_info(node);
    node->acceptor = opb_thread_start(accept_forever, node);
    return node;
}

void
opb_fake_node_stop(struct opb_fake_node *node)
{
    opb_write_all(node->stop_pair[1], "x", 1);
    opb_thread_join(node->acceptor);
    opb_fake_node_drop(node);
    (void)close(node->stop_pair[0]);
    (void)close(node->stop_pair[1]);
    (void)close(node->listen_fd);
    (void)close(node->go_fd);
    (void)unlink(node->path);
    (void)rmdir(node->directory);
    opb_node_info_free(node->info);
    (void)pthread_mutex_destroy(&node->lock);
    free(node->is_live);
    free(node->lines);
    free(node);
}
