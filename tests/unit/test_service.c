/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/test_service.c - who gets a service lane, and how lanes end */
#include "plugin_support.h"

#include "plugin/handles.h"
#include "plugin/service.h"
#include "protocol/handshake.h"
#include "protocol/sockets.h"

#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PATIENCE_MS 20000u
#define HOST        5u

static struct opb_node *node;
static struct opb_session *session;
static struct opb_services *services;
static char path[128];

static int
open_services(void **state)
{
    (void)state;
    node = fake_node_new();
    memset(node->secret, 7, sizeof(node->secret));
    (void)snprintf(path, sizeof(path), "/tmp/opb-service-%ld.sock", (long)getpid());
    assert_int_equal(opb_services_open(&services, node, path), OPB_OK);
    node->services = services;
    assert_int_equal(opb_session_new(&session, node, HOST, 4711, 0), OPB_OK);
    return 0;
}

static int
close_services(void **state)
{
    struct stat info;

    (void)state;
    opb_session_end(session, "is no longer needed");
    opb_services_close(services);
    opb_session_unref(session);
    node->services = NULL;
    fake_node_free(node);
    assert_int_not_equal(lstat(path, &info), 0);
    return 0;
}

static struct opb_lane *
connect_lane(void)
{
    struct pollfd item = {.fd = opb_services_fd(services), .events = POLLIN};
    struct opb_lane *lane;
    int fd;

    assert_int_equal(opb_socket_connect(&fd, path, opb_deadline_ms(PATIENCE_MS)), OPB_OK);
    assert_int_equal(opb_lane_open(&lane, &fd, &opb_segment_malloc), OPB_OK);
    assert_int_equal(poll(&item, 1, (int)PATIENCE_MS), 1);
    assert_true(opb_services_accept(services));
    return lane;
}

static struct opb_hello
right_hello(void)
{
    struct opb_hello hello = {
        .version = OPB_PROTOCOL_VERSION, .kind = OPB_CONNECTION_SERVICE, .host = HOST};

    strcpy(hello.node, node->name);
    memset(hello.secret, 7, sizeof(hello.secret));
    return hello;
}

/* What the node says to a hello; lane is closed unless it is welcome. */
static enum opb_status
greet(const struct opb_hello *hello, struct opb_lane **lane)
{
    uint32_t version;
    enum opb_status status;

    *lane = connect_lane();
    assert_int_equal(opb_hello_send(*lane, hello, opb_deadline_ms(PATIENCE_MS)), OPB_OK);
    status = opb_welcome_receive(*lane, &version, opb_deadline_ms(PATIENCE_MS));
    if (status != OPB_OK) {
        opb_lane_close(*lane);
        *lane = NULL;
    }
    return status;
}

static void
the_socket_is_private(void **state)
{
    struct stat info;

    (void)state;
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
}

static void
an_allowed_host_is_welcome_and_its_end_ends_the_lane(void **state)
{
    struct opb_hello hello = right_hello();
    struct opb_frame *frame;
    struct opb_lane *lane;

    (void)state;
    opb_services_allow(services, session);
    assert_int_equal(greet(&hello, &lane), OPB_OK);
    opb_session_end(session, "was killed");
    assert_int_equal(opb_lane_receive(lane, &frame, opb_deadline_ms(PATIENCE_MS)),
                     OPB_GONE);
    opb_lane_close(lane);
}

static void
wrong_secret_node_host_kind_and_version_are_refused(void **state)
{
    struct opb_hello hello = right_hello();
    struct opb_lane *lane;

    (void)state;
    assert_int_equal(greet(&hello, &lane), OPB_REFUSED); /* nobody is allowed yet */
    assert_true(fake_log_has("host 5 is none that this node has now"));
    opb_services_allow(services, session);
    hello.secret[31] ^= 1;
    assert_int_equal(greet(&hello, &lane), OPB_REFUSED);
    assert_true(fake_log_has("wrong node or wrong secret"));
    hello = right_hello();
    strcat(hello.node, "x");
    assert_int_equal(greet(&hello, &lane), OPB_REFUSED);
    hello = right_hello();
    hello.host = HOST + 1;
    assert_int_equal(greet(&hello, &lane), OPB_REFUSED);
    hello = right_hello();
    hello.kind = OPB_CONNECTION_CALL;
    assert_int_equal(greet(&hello, &lane), OPB_REFUSED);
    assert_true(fake_log_has("only service lanes connect to a node's socket"));
    hello = right_hello();
    hello.version = OPB_PROTOCOL_VERSION + 1;
    assert_int_equal(greet(&hello, &lane), OPB_REFUSED);
    assert_true(fake_log_has("install both from the same release"));
    opb_services_disallow(services, session);
    hello = right_hello();
    assert_int_equal(greet(&hello, &lane), OPB_REFUSED);
}

static void
garbage_ends_the_connection(void **state)
{
    struct opb_lane *lane = connect_lane();
    struct opb_frame *frame;

    (void)state;
    opb_write_all(opb_lane_fd(lane), "GET / HTTP/1.1\r\n\r\n", 18);
    assert_int_equal(opb_lane_receive(lane, &frame, opb_deadline_ms(PATIENCE_MS)),
                     OPB_GONE);
    opb_lane_close(lane);
}

static void
closing_wakes_connections_that_have_not_said_hello(void **state)
{
    struct opb_lane *silent = connect_lane();
    uint64_t before_ms = opb_clock_ms();

    (void)state;
    opb_services_close(services);
    assert_true(opb_clock_ms() - before_ms < 4000);
    assert_int_equal(opb_services_open(&services, node, path), OPB_OK);
    opb_lane_close(silent);
}

static void
more_connections_than_threads_are_refused_and_later_ones_served(void **state)
{
    struct opb_lane *lanes[OPB_MAX_SERVICE_LANES + 1];
    struct opb_hello hello = right_hello();
    struct opb_frame *frame;
    struct opb_lane *lane = NULL;
    enum opb_status status = OPB_GONE;

    (void)state;
    opb_services_allow(services, session);
    for (size_t i = 0; i <= OPB_MAX_SERVICE_LANES; i++) {
        lanes[i] = connect_lane();
    }
    assert_int_equal(opb_lane_receive(lanes[OPB_MAX_SERVICE_LANES], &frame,
                                      opb_deadline_ms(PATIENCE_MS)),
                     OPB_GONE);
    assert_true(fake_log_has("too many threads of the script"));
    for (size_t i = 0; i <= OPB_MAX_SERVICE_LANES; i++) {
        opb_lane_close(lanes[i]);
    }
    for (int i = 0; i < 200 && status != OPB_OK; i++) { /* their threads are leaving */
        uint32_t version;

        lane = connect_lane();
        status = opb_hello_send(lane, &hello, opb_deadline_ms(PATIENCE_MS));
        if (status == OPB_OK) {
            status = opb_welcome_receive(lane, &version, opb_deadline_ms(PATIENCE_MS));
        }
        opb_lane_close(lane);
        usleep(10000);
    }
    assert_int_equal(status, OPB_OK);
}

/* This process is a child of the "host", which is the parent of both. */
static struct opb_hello
hello_of_a_child(struct opb_session **host)
{
    struct opb_hello hello = right_hello();

    assert_int_equal(opb_session_new(host, node, HOST, getppid(), 0), OPB_OK);
    opb_services_allow(services, *host);
    hello.kind = OPB_CONNECTION_CHILD;
    return hello;
}

static void
forget_host(struct opb_session **host)
{
    opb_session_end(*host, "is no longer needed");
    opb_services_disallow(services, *host);
    opb_session_unref(*host);
    *host = NULL;
}

static void
child_process_of_an_allowed_host_is_welcome_until_that_ends(void **state)
{
    struct opb_session *host;
    struct opb_hello hello = hello_of_a_child(&host);
    struct opb_frame *frame;
    struct opb_lane *lane;

    (void)state;
    assert_int_equal(greet(&hello, &lane), OPB_OK);
    forget_host(&host);
    assert_int_equal(opb_lane_receive(lane, &frame, opb_deadline_ms(PATIENCE_MS)),
                     OPB_GONE);
    opb_lane_close(lane);
    assert_int_equal(greet(&hello, &lane), OPB_REFUSED);
    assert_true(fake_log_has("the host that started this process (number 5) has ended"));
}

static void
process_that_is_no_child_of_the_host_is_refused(void **state)
{
    struct opb_hello hello = right_hello();
    struct opb_session *own;
    struct opb_lane *lane;

    (void)state;
    hello.kind = OPB_CONNECTION_CHILD;
    opb_services_allow(services, session); /* pid 4711 */
    assert_int_equal(greet(&hello, &lane), OPB_REFUSED);
    assert_true(fake_log_has("does not descend from the host (pid 4711)"));
    opb_services_disallow(services, session);
    assert_int_equal(opb_session_new(&own, node, HOST, getpid(), 0), OPB_OK);
    opb_services_allow(services, own); /* the host itself is no child of its own */
    assert_int_equal(greet(&hello, &lane), OPB_REFUSED);
    forget_host(&own);
}

static void
console_is_welcome_though_it_descends_from_nobody_and_is_logged_once(void **state)
{
    struct opb_hello hello = right_hello();
    struct opb_lane *lanes[2];
    struct opb_frame *frame;
    struct opb_lane *lane;

    (void)state;
    hello.kind = OPB_CONNECTION_CONSOLE;
    assert_int_equal(greet(&hello, &lane), OPB_REFUSED);
    assert_true(
        fake_log_has("the host that this console was opened for (number 5) has ended"));
    opb_services_allow(services, session); /* pid 4711 */
    hello.secret[0] ^= 1;
    assert_int_equal(greet(&hello, &lane), OPB_REFUSED);
    hello = right_hello();
    hello.kind = OPB_CONNECTION_CONSOLE;
    assert_int_equal(greet(&hello, &lanes[0]), OPB_OK);
    assert_int_equal(greet(&hello, &lanes[1]), OPB_OK);
    assert_int_equal(
        fake_log_count(
            "calls the SDK with the rights of the script in the host (pid 4711)"),
        1);
    opb_session_end(session, "was killed");
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(opb_lane_receive(lanes[i], &frame, opb_deadline_ms(PATIENCE_MS)),
                         OPB_GONE);
        opb_lane_close(lanes[i]);
    }
}

static void
child_processes_have_a_limit_that_leaves_lanes_for_hosts(void **state)
{
    struct opb_lane *lanes[OPB_MAX_CHILD_LANES];
    struct opb_session *host;
    struct opb_hello hello = hello_of_a_child(&host);
    struct opb_lane *lane;

    (void)state;
    for (size_t i = 0; i < OPB_MAX_CHILD_LANES; i++) {
        assert_int_equal(greet(&hello, &lanes[i]), OPB_OK);
    }
    assert_int_equal(greet(&hello, &lane), OPB_REFUSED);
    assert_true(fake_log_has("have 128 connections to Orthanc, which is the most"));
    hello.kind = OPB_CONNECTION_SERVICE;
    assert_int_equal(greet(&hello, &lane), OPB_OK);
    opb_lane_close(lane);
    for (size_t i = 0; i < OPB_MAX_CHILD_LANES; i++) {
        opb_lane_close(lanes[i]);
    }
    forget_host(&host);
}

static atomic_uint freed;

static OrthancPluginErrorCode
make_image(const void *params)
{
    static char picture;
    const _OrthancPluginCreateImage *image = params;

    *image->target = (OrthancPluginImage *)&picture;
    return OrthancPluginErrorCode_Success;
}

static OrthancPluginErrorCode
free_image(const void *params)
{
    (void)params;
    freed++;
    return OrthancPluginErrorCode_Success;
}

/* Asks for the width of an image, by its handle; gives the fault, or -1. */
static int
ask_width(struct opb_lane *lane, uint64_t handle)
{
    struct opb_message *message = opb_message_new();
    struct opb_frame *response;
    enum opb_fault fault = OPB_FAULT_ORTHANC;
    bool is_fault;

    opb_message_begin_request(message, fake_method("Image.GetImageWidth"), 1);
    opb_pack_uint(message, handle);
    assert_int_equal(fake_sdk_call(lane, message, NULL, &response), OPB_OK);
    is_fault = opb_frame_fault(response, &fault, NULL, NULL);
    opb_frame_free(response);
    opb_message_free(message);
    return is_fault ? (int)fault : -1;
}

static uint64_t
create_image(struct opb_lane *lane)
{
    struct opb_message *message = opb_message_new();
    struct opb_reader reader;
    struct opb_frame *response;
    uint64_t handle;

    opb_message_begin_request(message, fake_method("CreateImage"), 3);
    for (int i = 0; i < 3; i++) {
        opb_pack_uint(message, 1);
    }
    assert_int_equal(fake_sdk_call(lane, message, NULL, &response), OPB_OK);
    opb_frame_result(response, &reader);
    handle = opb_read_uint(&reader, UINT64_MAX);
    assert_int_equal(opb_reader_finish(&reader), OPB_OK);
    opb_frame_free(response);
    opb_message_free(message);
    return handle;
}

static void
objects_of_a_child_process_are_its_own_and_end_with_its_last_lane(void **state)
{
    struct opb_session *host;
    struct opb_hello hello = hello_of_a_child(&host);
    struct opb_lane *first;
    struct opb_lane *second;
    struct opb_lane *parent;
    uint64_t handle;

    (void)state;
    freed = 0;
    fake_on(_OrthancPluginService_CreateImage, make_image);
    fake_on(_OrthancPluginService_FreeImage, free_image);
    fake_on(_OrthancPluginService_GetImageWidth, free_image);
    assert_int_equal(greet(&hello, &first), OPB_OK);
    assert_int_equal(greet(&hello, &second), OPB_OK);
    hello.kind = OPB_CONNECTION_SERVICE;
    assert_int_equal(greet(&hello, &parent), OPB_OK);
    handle = create_image(first);
    assert_int_equal(ask_width(second, handle), -1);
    assert_int_equal(ask_width(parent, handle), OPB_FAULT_INVALID_OBJECT);
    assert_int_equal(ask_width(first, create_image(parent)), OPB_FAULT_INVALID_OBJECT);
    freed = 0;
    opb_lane_close(first);
    assert_int_equal(ask_width(second, handle), -1);
    freed = 0;
    opb_lane_close(second);
    for (int i = 0; i < 2000 && freed == 0; i++) {
        usleep(10000); /* its thread notices */
    }
    assert_int_equal(freed, 1);
    assert_int_equal(opb_handles_count(opb_session_handles(host)), 1);
    opb_lane_close(parent);
    forget_host(&host);
}

static void
the_socket_can_move(void **state)
{
    struct opb_hello hello = right_hello();
    struct opb_lane *lane;
    struct stat info;
    char old[128];

    (void)state;
    strcpy(old, path);
    strcat(path, "2");
    opb_services_allow(services, session);
    assert_int_equal(opb_services_move(services, path), OPB_OK);
    assert_int_not_equal(lstat(old, &info), 0);
    assert_int_equal(greet(&hello, &lane), OPB_OK);
    opb_lane_close(lane);
}

#define SERVICE_TEST(function)                                                             \
    cmocka_unit_test_setup_teardown(function, open_services, close_services)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        SERVICE_TEST(the_socket_is_private),
        SERVICE_TEST(an_allowed_host_is_welcome_and_its_end_ends_the_lane),
        SERVICE_TEST(wrong_secret_node_host_kind_and_version_are_refused),
        SERVICE_TEST(garbage_ends_the_connection),
        SERVICE_TEST(closing_wakes_connections_that_have_not_said_hello),
        SERVICE_TEST(more_connections_than_threads_are_refused_and_later_ones_served),
        SERVICE_TEST(child_process_of_an_allowed_host_is_welcome_until_that_ends),
        SERVICE_TEST(process_that_is_no_child_of_the_host_is_refused),
        SERVICE_TEST(console_is_welcome_though_it_descends_from_nobody_and_is_logged_once),
        SERVICE_TEST(child_processes_have_a_limit_that_leaves_lanes_for_hosts),
        SERVICE_TEST(objects_of_a_child_process_are_its_own_and_end_with_its_last_lane),
        SERVICE_TEST(the_socket_can_move),
    };

    return OPB_RUN(tests);
}
