/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/test_service.c - who gets a service lane, and how lanes end */
#include "plugin_support.h"

#include "plugin/service.h"
#include "protocol/handshake.h"
#include "protocol/sockets.h"

#include <poll.h>
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
    assert_int_equal(opb_session_new(&session, node, HOST, 4711), OPB_OK);
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
        SERVICE_TEST(the_socket_can_move),
    };

    return OPB_RUN(tests);
}
