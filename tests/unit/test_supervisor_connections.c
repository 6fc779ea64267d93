/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/test_supervisor_connections.c - who comes in at a pool's socket: lanes, nodes
 *
 * Each test runs the daemon itself, with fake_host.c in the place of Python.
 */
#include "tests/unit/pool_support.h"
#include "tests/unit/support.h"

#include "protocol/sockets.h"
#include "protocol/words.h"

#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

static const char *const hurry[] = {"--handshake-timeout-ms", "300", NULL};

static void
expect_refusal(struct pool *pool, struct opb_hello hello, const char *expected)
{
    char text[512];

    assert_null(pool_connect(pool, &hello, text, sizeof(text)));
    assert_string_equal(text, expected);
}

/* True once the peer has closed; skips what it said before. */
static bool
is_closed_by_peer(int fd)
{
    uint64_t deadline = opb_deadline_ms(POOL_WAIT_MS);
    char bytes[512];
    ssize_t got;

    do {
        struct pollfd poll_fd = {.fd = fd, .events = POLLIN};

        if (poll(&poll_fd, 1, opb_deadline_poll(deadline)) != 1) {
            return false;
        }
        got = recv(fd, bytes, sizeof(bytes), 0);
    } while (got > 0);
    return true;
}

static int
connect_raw(struct pool *pool)
{
    int fd = -1;

    assert_int_equal(
        opb_socket_connect(&fd, pool->socket_path, opb_deadline_ms(POOL_WAIT_MS)), OPB_OK);
    return fd;
}

static void
lanes_are_refused_with_the_reason(void **state)
{
    struct pool pool;
    struct host_news host;
    struct opb_hello hello;

    (void)state;
    pool_start(&pool, true, NULL);
    hello = pool_hello(&pool, 1);
    (void)strcpy(hello.node, "Nobody");
    expect_refusal(&pool, hello, "no node of that name is attached to this worker");
    host = pool_attach(&pool);

    hello = pool_hello(&pool, host.host);
    hello.version = 77;
    expect_refusal(&pool, hello,
                   "this worker speaks protocol version 3, the plugin version 77: install "
                   "plugin and worker from the same release");
    hello = pool_hello(&pool, host.host);
    hello.secret[31] ^= 1;
    expect_refusal(&pool, hello, "the secret is not the one of the node that it names");
    hello = pool_hello(&pool, host.host + 1);
    expect_refusal(&pool, hello, "host 2 is not running");
    hello = pool_hello(&pool, host.host);
    hello.kind = OPB_CONNECTION_SERVICE;
    expect_refusal(&pool, hello, "this socket takes no connections of that kind");
    pool_expect_echo(&pool, host.host);
    pool_end(&pool);
}

static void
garbage_ends_only_its_own_connection(void **state)
{
    static const uint8_t huge[] = {0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0};
    static const uint8_t with_segments[] = {0, 0, 0, 1, 0, 9, 0, 0};
    static const uint8_t empty[] = {0, 0, 0, 0, 0, 0, 0, 0};
    static const uint8_t bomb[] = {0, 0, 0, 5, 0, 0, 0, 0, 0xdf, 0xff, 0xff, 0xff, 0xff};
    static const uint8_t http[] = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    static const struct {
        const uint8_t *bytes;
        size_t count;
    } cases[] = {{huge, sizeof(huge)},
                 {with_segments, sizeof(with_segments)},
                 {empty, sizeof(empty)},
                 {bomb, sizeof(bomb)},
                 {http, sizeof(http)}};
    struct pool pool;
    struct host_news host;

    (void)state;
    pool_start(&pool, true, NULL);
    host = pool_attach(&pool);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int fd = connect_raw(&pool);

        assert_true(send(fd, cases[i].bytes, cases[i].count, MSG_NOSIGNAL) > 0);
        assert_true(is_closed_by_peer(fd));
        (void)close(fd);
        assert_non_null(strstr(pool_news(&pool, OPB_CONTROL_LOG).text,
                               "its first bytes are no greeting of the bridge"));
    }
    pool_expect_echo(&pool, host.host);
    pool_end(&pool);
}

static void
garbage_on_the_control_connection_ends_the_node(void **state)
{
    static const uint8_t garbage[] = {0, 0, 0, 1, 0, 0, 0, 0, 0xc1};
    struct pool pool;
    struct host_news host;
    struct opb_frame *frame = NULL;

    (void)state;
    pool_start(&pool, false, NULL);
    host = pool_attach(&pool);
    assert_true(send(opb_lane_fd(pool.control), garbage, sizeof(garbage), MSG_NOSIGNAL) >
                0);
    while (opb_lane_receive(pool.control, &frame, opb_deadline_ms(POOL_WAIT_MS)) ==
           OPB_OK) {
        opb_frame_free(frame); /* the log line that says so */
    }
    assert_int_equal(opb_lane_status(pool.control), OPB_GONE);
    process_await_end(host.pid);
    opb_lane_close(pool.control);
    host = pool_attach(&pool); /* the daemon is well */
    pool_expect_echo(&pool, host.host);
    pool_end(&pool);
}

static void
a_slow_greeting_is_not_waited_for(void **state)
{
    struct pool pool;
    struct host_news host;
    struct opb_lane *idle_control;
    int silent;
    int slow;

    (void)state;
    pool_start(&pool, true, hurry);
    host = pool_attach(&pool);
    silent = connect_raw(&pool);
    slow = connect_raw(&pool);
    assert_int_equal(send(slow, "\0\0\0\20", 4, MSG_NOSIGNAL), 4);
    idle_control = pool_connect_control(&pool);
    pool_expect_echo(&pool, host.host); /* nobody waits for them */
    assert_true(is_closed_by_peer(silent));
    assert_true(is_closed_by_peer(slow));
    assert_true(is_closed_by_peer(opb_lane_fd(idle_control)));
    (void)close(silent);
    (void)close(slow);
    opb_lane_close(idle_control);
    pool_expect_echo(&pool, host.host); /* the attached node may be idle for ever */
    pool_end(&pool);
}

static void
crowds_wait_outside_and_are_served_later(void **state)
{
    enum { CROWD = 300 };
    struct pool pool;
    struct host_news host;
    int fds[CROWD];

    (void)state;
    pool_start(&pool, true, hurry);
    host = pool_attach(&pool);
    for (size_t i = 0; i < CROWD; i++) {
        fds[i] = connect_raw(&pool);
    }
    pool_expect_echo(&pool, host.host);
    for (size_t i = 0; i < CROWD; i++) {
        (void)close(fds[i]);
    }
    pool_end(&pool);
}

static void
running_out_of_descriptors_is_survived(void **state)
{
    struct rlimit few = {24, 24};
    struct pool pool;
    struct host_news host;
    int fds[40];

    (void)state;
    pool_start(&pool, true, NULL);
    host = pool_attach(&pool);
    assert_int_equal(prlimit(pool.pid, RLIMIT_NOFILE, &few, NULL), 0);
    for (size_t i = 0; i < 40; i++) {
        fds[i] = connect_raw(&pool);
    }
    assert_non_null(strstr(pool_news(&pool, OPB_CONTROL_LOG).text,
                           "cannot take a connection now (Too many open files)"));
    for (size_t i = 0; i < 40; i++) {
        (void)close(fds[i]);
    }
    pool_expect_echo(&pool, host.host);
    pool_end(&pool);
}

static void
attach_wants_a_real_secret_and_only_once(void **state)
{
    static const uint8_t zeros[OPB_SECRET_BYTES] = {0};
    struct pool pool;
    struct opb_lane *control;
    char text[256] = "";

    (void)state;
    pool_start(&pool, true, NULL);
    control = pool_connect_control(&pool);
    assert_int_equal(
        pool_ask_attach(&pool, control, "A", pool.secret, 31, text, sizeof(text)),
        OPB_FAULT_RUNTIME);
    assert_string_equal(text, "the attach secret must be 32 random bytes");
    assert_int_equal(
        pool_ask_attach(&pool, control, "A", zeros, sizeof(zeros), text, sizeof(text)),
        OPB_FAULT_RUNTIME);
    assert_string_equal(text, "the attach secret must be 32 random bytes");
    (void)pool_attach(&pool);
    assert_int_equal(pool_ask_attach(&pool, control, "B", pool.secret, OPB_SECRET_BYTES,
                                     text, sizeof(text)),
                     OPB_FAULT_RUNTIME);
    assert_non_null(strstr(text, "belongs to another Orthanc"));
    opb_lane_close(control);
    pool_end(&pool);
}

static void
names_are_made_unique_and_fit_for_logs(void **state)
{
#define FORTY "0123456789012345678901234567890123456789"
    static const char longest[] = FORTY "012345678901234567890123";
    static const char too_long[] = FORTY FORTY;
    static const char *const wanted[] = {"Same", "Same", "", "a\nb", too_long};
    static const char *const given[] = {"Same", "Same-2", "orthanc", "a?b", longest};
#undef FORTY
    struct opb_lane *controls[5];
    struct pool pool;
    char text[256];

    (void)state;
    pool_start(&pool, false, NULL);
    for (size_t i = 0; i < 5; i++) {
        controls[i] = pool_connect_control(&pool);
        assert_int_equal(pool_ask_attach(&pool, controls[i], wanted[i], pool.secret,
                                         OPB_SECRET_BYTES, text, sizeof(text)),
                         -1);
        assert_string_equal(text, given[i]);
    }
    for (size_t i = 0; i < 5; i++) {
        opb_lane_close(controls[i]);
    }
    pool_end(&pool);
}

static void
a_node_that_asks_and_never_listens_is_let_go(void **state)
{
    struct pool pool;
    struct host_news host;
    struct opb_message *message = opb_message_new();
    enum opb_status status = OPB_OK;

    (void)state;
    assert_non_null(message);
    pool_start(&pool, false, NULL);
    host = pool_attach(&pool);
    for (uint32_t i = 0; status == OPB_OK && i < 200000; i++) {
        opb_message_begin_request(message, 4711, 0);
        opb_message_set_msgid(message, i);
        status = opb_lane_send(pool.control, message, opb_deadline_ms(POOL_WAIT_MS));
    }
    assert_int_equal(status, OPB_GONE);
    process_await_end(host.pid);
    opb_message_free(message);
    opb_lane_close(pool.control);
    host = pool_attach(&pool);
    pool_expect_echo(&pool, host.host);
    pool_end(&pool);
}

static void
post_nonsense(struct pool *pool, uint32_t count)
{
    struct opb_message *message = opb_message_new();

    assert_non_null(message);
    for (uint32_t i = 0; i < count; i++) {
        opb_message_begin_notify(message, 4711, 0);
        assert_int_equal(
            opb_lane_send(pool->control, message, opb_deadline_ms(POOL_WAIT_MS)), OPB_OK);
    }
    opb_message_free(message);
}

static void
a_node_that_leaves_with_much_unread_is_noticed(void **state)
{
    struct pool pool;
    struct host_news host;
    struct pollfd item = {.events = POLLIN};

    (void)state;
    pool_start(&pool, false, NULL);
    host = pool_attach(&pool);
    pool_replace_host(&pool, host.host, "must be replaced");
    item.fd = opb_lane_fd(pool.control);
    assert_int_equal(poll(&item, 1, (int)POOL_WAIT_MS), 1); /* news that nobody reads */
    assert_int_equal(kill(pool.pid, SIGSTOP), 0);
    post_nonsense(&pool, 100); /* more than it serves in a turn */
    opb_lane_close(pool.control);
    pool.control = NULL;
    assert_int_equal(kill(pool.pid, SIGCONT), 0);
    pool_await_stderr(&pool, "is gone: ending its Python processes");
    pool_end(&pool);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        OPB_TEST(lanes_are_refused_with_the_reason),
        OPB_TEST(garbage_ends_only_its_own_connection),
        OPB_TEST(garbage_on_the_control_connection_ends_the_node),
        OPB_TEST(a_slow_greeting_is_not_waited_for),
        OPB_TEST(crowds_wait_outside_and_are_served_later),
        OPB_TEST(running_out_of_descriptors_is_survived),
        OPB_TEST(attach_wants_a_real_secret_and_only_once),
        OPB_TEST(names_are_made_unique_and_fit_for_logs),
        OPB_TEST(a_node_that_asks_and_never_listens_is_let_go),
        OPB_TEST(a_node_that_leaves_with_much_unread_is_noticed),
    };

    return OPB_RUN(tests);
}
