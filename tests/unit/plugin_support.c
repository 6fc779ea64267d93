/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/plugin_support.c - an Orthanc and a host that the tests of plugin/ control */
#include "plugin_support.h"

#include "plugin/invocation.h"
#include "plugin/routes.h"
#include "plugin/shim.h"
#include "plugin/stack.h"

#include "protocol/handshake.h"
#include "protocol/sockets.h"

#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAX_SERVICES 64u
#define MAX_LANES    64u
#define LOG_BYTES    65536u
#define LOG_WAIT_MS  30000u

static struct {
    pthread_mutex_t lock;
    OrthancPluginContext context;
    struct {
        _OrthancPluginService service;
        fake_service function;
        unsigned calls;
    } services[MAX_SERVICES];
    unsigned service_count;
    char log[LOG_BYTES];
    size_t log_bytes;
} orthanc = {.lock = PTHREAD_MUTEX_INITIALIZER};

static OrthancPluginErrorCode
fake_log(const char *text)
{
    size_t left = LOG_BYTES - orthanc.log_bytes;
    int bytes = snprintf(orthanc.log + orthanc.log_bytes, left, "%s\n", text);

    if (getenv("OPB_TEST_LOG") != NULL) {
        fprintf(stderr, "LOG %s\n", text);
    }
    orthanc.log_bytes += (size_t)bytes < left ? (size_t)bytes : 0;
    return OrthancPluginErrorCode_Success;
}

static OrthancPluginErrorCode
fake_description(const void *params)
{
    const _OrthancPluginGetErrorDescription *description = params;
    static __thread char text[32];

    (void)snprintf(text, sizeof(text), "error %d", (int)description->error);
    *description->target = text;
    return OrthancPluginErrorCode_Success;
}

static OrthancPluginErrorCode
fake_invoke(OrthancPluginContext *context, _OrthancPluginService service,
            const void *params)
{
    fake_service function = NULL;

    assert_ptr_equal(context, &orthanc.context);
    pthread_mutex_lock(&orthanc.lock);
    for (unsigned i = 0; i < orthanc.service_count; i++) {
        if (orthanc.services[i].service == service) {
            orthanc.services[i].calls++;
            function = orthanc.services[i].function;
        }
    }
    if (function == NULL && service >= _OrthancPluginService_LogInfo &&
        service <= _OrthancPluginService_LogError) {
        (void)fake_log(params);
        pthread_mutex_unlock(&orthanc.lock);
        return OrthancPluginErrorCode_Success;
    }
    pthread_mutex_unlock(&orthanc.lock);
    if (function != NULL) {
        return function(params);
    }
    if (service == _OrthancPluginService_GetErrorDescription) {
        return fake_description(params);
    }
    return OrthancPluginErrorCode_UnknownPluginService;
}

void
fake_orthanc_reset(void)
{
    pthread_mutex_lock(&orthanc.lock);
    orthanc.context = (OrthancPluginContext){
        .orthancVersion = "1.10.1", .Free = free, .InvokeService = fake_invoke};
    orthanc.service_count = 0;
    orthanc.log_bytes = 0;
    orthanc.log[0] = '\0';
    pthread_mutex_unlock(&orthanc.lock);
}

OrthancPluginContext *
fake_orthanc(void)
{
    return &orthanc.context;
}

void
fake_on(_OrthancPluginService service, fake_service function)
{
    unsigned i;

    pthread_mutex_lock(&orthanc.lock);
    for (i = 0; i < orthanc.service_count && orthanc.services[i].service != service; i++) {
    }
    if (i == orthanc.service_count) {
        orthanc.service_count++;
        orthanc.services[i].calls = 0;
    }
    orthanc.services[i].service = service;
    orthanc.services[i].function = function;
    pthread_mutex_unlock(&orthanc.lock);
}

unsigned
fake_calls(_OrthancPluginService service)
{
    unsigned calls = 0;

    pthread_mutex_lock(&orthanc.lock);
    for (unsigned i = 0; i < orthanc.service_count; i++) {
        calls = orthanc.services[i].service == service ? orthanc.services[i].calls : calls;
    }
    pthread_mutex_unlock(&orthanc.lock);
    return calls;
}

unsigned
fake_log_count(const char *text)
{
    unsigned count = 0;

    pthread_mutex_lock(&orthanc.lock);
    for (const char *at = orthanc.log; (at = strstr(at, text)) != NULL; at++) {
        count++;
    }
    pthread_mutex_unlock(&orthanc.lock);
    return count;
}

bool
fake_log_has(const char *text)
{
    return fake_log_count(text) > 0;
}

static bool
log_has(void *text)
{
    return fake_log_has(text);
}

void
fake_await_log(const char *text)
{
    char copy[128];

    (void)snprintf(copy, sizeof(copy), "%s", text);
    opb_wait_until(log_has, copy, LOG_WAIT_MS);
}

static struct {
    pthread_mutex_t lock;
    struct opb_node *node;
    struct opb_session *session;
    fake_serve serve;
    int listen_fd;
    int end_pipe[2];
    struct opb_thread *acceptor;
    struct {
        struct opb_thread *thread;
        struct opb_lane *lane;
        bool is_ended;
    } lanes[MAX_LANES];
    unsigned lane_count;
    char directory[64];
} host = {.lock = PTHREAD_MUTEX_INITIALIZER};

struct opb_node *
fake_node_new(void)
{
    struct opb_node *node = NULL;

    fake_orthanc_reset();
    assert_int_equal(opb_node_new(&node), OPB_OK);
    node->orthanc = fake_orthanc();
    node->context = opb_shim_new(fake_orthanc());
    assert_non_null(node->context);
    node->config = calloc(1, sizeof(*node->config));
    assert_non_null(node->config);
    node->config->queue_timeout_ms = 300;
    node->config->stopped_timeout_ms = 60 * 1000;
    node->config->workers = 1;
    node->config->max_events = 100000;
    (void)snprintf(node->name, sizeof(node->name), "test");
    (void)snprintf(host.directory, sizeof(host.directory), "/tmp/opb-test-XXXXXX");
    assert_non_null(mkdtemp(host.directory));
    (void)snprintf(node->pool_socket, sizeof(node->pool_socket), "%s/pool.sock",
                   host.directory);
    assert_int_equal(opb_routes_new(&node->routes, node), OPB_OK);
    opb_node_set_phase(node, OPB_PHASE_RUNNING);
    opb_node_set_current(node);
    host.listen_fd = -1;
    host.lane_count = 0;
    return node;
}

static __thread uint32_t lane_host;

uint32_t
fake_lane_host(void)
{
    return lane_host;
}

static void
serve_lane(void *context)
{
    unsigned number = (unsigned)(uintptr_t)context;
    struct opb_lane *lane = host.lanes[number].lane;
    struct opb_message *message = opb_message_new();
    struct opb_frame *frame = NULL;
    struct opb_hello hello;

    assert_non_null(message);
    if (opb_lane_receive(lane, &frame, opb_deadline_ms(5000)) == OPB_OK &&
        opb_hello_decode(frame, &hello) == OPB_OK &&
        opb_welcome_send(lane, opb_deadline_ms(5000)) == OPB_OK) {
        opb_lane_trust(lane);
        opb_frame_free(frame);
        lane_host = hello.host;
        while (opb_lane_receive(lane, &frame, OPB_FOREVER) == OPB_OK) {
            fake_serve serve;

            pthread_mutex_lock(&host.lock);
            serve = host.serve;
            pthread_mutex_unlock(&host.lock);
            serve(lane, frame, message);
            opb_frame_free(frame);
        }
    }
    opb_message_free(message);
    pthread_mutex_lock(&host.lock);
    host.lanes[number].is_ended = true;
    opb_lane_shutdown(lane); /* as the kernel does for a process that has ended */
    pthread_mutex_unlock(&host.lock);
}

static void
accept_lanes(void *context)
{
    struct pollfd polled[] = {{.fd = host.listen_fd, .events = POLLIN},
                              {.fd = host.end_pipe[0], .events = POLLIN}};

    (void)context;
    while (poll(polled, 2, -1) > 0 && (polled[1].revents & (POLLIN | POLLHUP)) == 0) {
        struct opb_lane *lane = NULL;
        int fd = accept4(host.listen_fd, NULL, NULL, SOCK_CLOEXEC);

        assert_true(fd >= 0);
        assert_int_equal(opb_lane_open(&lane, &fd, &opb_segment_malloc), OPB_OK);
        pthread_mutex_lock(&host.lock);
        assert_true(host.lane_count < MAX_LANES);
        host.lanes[host.lane_count].lane = lane;
        host.lanes[host.lane_count].is_ended = false;
        host.lanes[host.lane_count].thread =
            opb_thread_start(serve_lane, (void *)(uintptr_t)host.lane_count);
        host.lane_count++;
        pthread_mutex_unlock(&host.lock);
    }
}

void
fake_host_serve(fake_serve serve)
{
    pthread_mutex_lock(&host.lock);
    host.serve = serve;
    pthread_mutex_unlock(&host.lock);
}

void
fake_host_start(struct opb_node *node, fake_serve serve)
{
    fake_host_serve(serve);
    host.node = node;
    assert_int_equal(opb_socket_listen(&host.listen_fd, node->pool_socket, 0600, 64),
                     OPB_OK);
    assert_int_equal(pipe(host.end_pipe), 0);
    host.acceptor = opb_thread_start(accept_lanes, NULL);
    (void)fake_host_activate(node);
}

struct opb_session *
fake_host_activate(struct opb_node *node)
{
    static uint32_t number;
    struct opb_session *session = NULL;

    assert_int_equal(opb_session_new(&session, node, ++number, 4242, 0), OPB_OK);
    pthread_mutex_lock(&host.lock);
    opb_session_unref(host.session);
    host.session = session; /* first: once it is active, a call in it may kill it */
    pthread_mutex_unlock(&host.lock);
    assert_true(opb_session_activate(session));
    return session;
}

static void
shut_lanes(void)
{
    pthread_mutex_lock(&host.lock);
    for (unsigned i = 0; i < host.lane_count; i++) {
        opb_lane_shutdown(host.lanes[i].lane);
    }
    pthread_mutex_unlock(&host.lock);
}

void
fake_host_kill(const char *reason)
{
    struct opb_session *session;

    pthread_mutex_lock(&host.lock);
    session = opb_session_ref(host.session);
    pthread_mutex_unlock(&host.lock);
    shut_lanes();
    opb_session_end(session, reason);
    opb_session_unref(session);
}

unsigned
fake_host_lanes(void)
{
    unsigned count;

    pthread_mutex_lock(&host.lock);
    count = host.lane_count;
    pthread_mutex_unlock(&host.lock);
    return count;
}

static void
end_session(void)
{
    struct opb_session *session;

    pthread_mutex_lock(&host.lock);
    session = host.session != NULL ? opb_session_ref(host.session) : NULL;
    pthread_mutex_unlock(&host.lock);
    if (session != NULL) {
        opb_session_end(session, "is no longer needed");
    }
    opb_session_unref(session);
}

void
fake_node_free(struct opb_node *node)
{
    end_session();
    if (host.listen_fd >= 0) {
        close(host.end_pipe[1]);
        opb_thread_join(host.acceptor);
        close(host.end_pipe[0]);
        close(host.listen_fd);
        shut_lanes();
        for (unsigned i = 0; i < host.lane_count; i++) {
            opb_thread_join(host.lanes[i].thread);
            opb_lane_close(host.lanes[i].lane);
        }
        host.listen_fd = -1;
        end_session(); /* a lane may have activated another meanwhile */
    }
    opb_session_unref(host.session);
    host.session = NULL;
    opb_routes_free(node->routes);
    (void)unlink(node->pool_socket);
    (void)rmdir(host.directory);
    opb_node_set_current(NULL);
    opb_shim_free(node->context);
    opb_node_free(node);
    opb_stacks_fini();
}

uint32_t
fake_method(const char *name)
{
    for (uint32_t i = 0; i < opb_sdk_function_count; i++) {
        if (strcmp(opb_sdk_functions[i].name, name) == 0) {
            return i;
        }
    }
    fail_msg("no such SDK function: %s", name);
    return 0;
}

uint64_t
fake_read_lent(struct opb_reader *reader, struct opb_reader *facts)
{
    struct opb_reader none;
    struct opb_reader pair;
    uint64_t handle;

    facts = facts != NULL ? facts : &none;
    if (!opb_read_is_array(reader)) {
        memset(facts, 0, sizeof(*facts));
        return opb_read_uint(reader, UINT64_MAX);
    }
    assert_int_equal(opb_read_array(reader, &pair), 2);
    handle = opb_read_uint(&pair, UINT64_MAX);
    (void)opb_read_map(&pair, facts);
    assert_int_equal(opb_reader_finish(&pair), OPB_OK);
    return handle;
}

void
fake_send(struct opb_lane *lane, struct opb_message *message)
{
    if (opb_lane_send(lane, message, opb_deadline_ms(5000)) != OPB_OK) {
        opb_lane_shutdown(lane); /* the test sees that nothing comes */
    }
}

void
fake_answer_nil(struct opb_lane *lane, struct opb_frame *request,
                struct opb_message *message)
{
    opb_message_begin_response(message, opb_frame_msgid(request));
    opb_pack_nil(message);
    fake_send(lane, message);
}

void
fake_answer_fault(struct opb_lane *lane, struct opb_frame *request,
                  struct opb_message *message, enum opb_fault fault, const char *text)
{
    opb_message_error(message, opb_frame_msgid(request), fault, 0, text);
    fake_send(lane, message);
}

struct nested {
    fake_serve serve;
    struct opb_message *message;
};

static enum opb_status
serve_nested(void *context, struct opb_lane *lane, struct opb_frame *frame)
{
    struct nested *nested = context;

    nested->serve(lane, frame, nested->message);
    return OPB_OK;
}

enum opb_status
fake_sdk_call(struct opb_lane *lane, struct opb_message *message, fake_serve nested_serve,
              struct opb_frame **response)
{
    struct nested nested = {.serve = nested_serve, .message = opb_message_new()};
    struct opb_frame *frame = NULL;
    enum opb_status status =
        opb_exchange(lane, message, nested_serve != NULL ? serve_nested : NULL, &nested,
                     opb_deadline_ms(10000), &frame);

    opb_message_free(nested.message);
    if (response != NULL) {
        *response = frame;
    }
    else {
        opb_frame_free(frame);
    }
    return status;
}
