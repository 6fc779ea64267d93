/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/pool_node.c - the node of a supervisor: its connections, and what they say
 *
 * Here:      the control connection, call lanes, questions to fake hosts.
 * Elsewhere: the supervisor (pool_support.c), what is expected (test_supervisor_*.c).
 */
#include "tests/unit/fake_host.h"
#include "tests/unit/pool_support.h"

#include "protocol/sockets.h"
#include "protocol/words.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

struct opb_hello
pool_hello(const struct pool *pool, uint32_t host)
{
    struct opb_hello hello = {
        .version = OPB_PROTOCOL_VERSION, .kind = OPB_CONNECTION_CALL, .host = host};

    (void)snprintf(hello.node, sizeof(hello.node), "%s", pool->node);
    memcpy(hello.secret, pool->secret, sizeof(hello.secret));
    return hello;
}

struct opb_lane *
pool_connect(struct pool *pool, struct opb_hello *hello, char *text, size_t capacity)
{
    uint64_t deadline = opb_deadline_ms(POOL_WAIT_MS);
    struct opb_lane *lane = NULL;
    uint32_t version = 0;
    enum opb_status status;
    int fd = -1;

    text[0] = '\0';
    assert_int_equal(opb_socket_connect(&fd, pool->socket_path, deadline), OPB_OK);
    assert_int_equal(opb_lane_open(&lane, &fd, &opb_segment_malloc), OPB_OK);
    assert_int_equal(opb_hello_send(lane, hello, deadline), OPB_OK);
    status = opb_welcome_receive(lane, &version, deadline);
    if (status != OPB_OK) {
        (void)snprintf(text, capacity, "%s", opb_lane_failure(lane));
        opb_lane_close(lane);
        return NULL;
    }
    opb_lane_trust(lane);
    return lane;
}

struct opb_lane *
pool_connect_control(struct pool *pool)
{
    struct opb_hello hello = {.version = OPB_PROTOCOL_VERSION,
                              .kind = OPB_CONNECTION_CONTROL};
    char text[512];

    return pool_connect(pool, &hello, text, sizeof(text));
}

void
pool_send_attach(struct pool *pool, struct opb_lane *control, const char *name,
                 const uint8_t *secret, size_t secret_bytes)
{
    opb_message_begin_request(pool->message, OPB_CONTROL_ATTACH,
                              pool->preload != NULL ? 7 : 6);
    opb_message_set_msgid(pool->message, 41);
    opb_pack_cstr(pool->message, name);
    opb_pack_cstr(pool->message, "1.10.1");
    opb_pack_cstr(pool->message, "/nowhere/node.sock");
    opb_pack_bytes(pool->message, secret, secret_bytes);
    opb_pack_uint(pool->message, (uint64_t)getpid());
    opb_pack_uint(pool->message, pool->workers == 0 ? 1 : pool->workers);
    if (pool->preload != NULL) {
        opb_pack_map(pool->message, 3);
        opb_pack_cstr(pool->message, "a key of a newer release");
        opb_pack_nil(pool->message);
        opb_pack_cstr(pool->message, "starting");
        opb_pack_bool(pool->message, pool->is_starting);
        opb_pack_cstr(pool->message, "preload");
        opb_pack_array(pool->message, 1);
        opb_pack_cstr(pool->message, pool->preload);
    }
    assert_int_equal(opb_lane_send(control, pool->message, opb_deadline_ms(POOL_WAIT_MS)),
                     OPB_OK);
}

int
pool_ask_attach(struct pool *pool, struct opb_lane *control, const char *name,
                const uint8_t *secret, size_t secret_bytes, char *text, size_t capacity)
{
    struct opb_frame *frame = NULL;
    struct opb_reader reader;
    struct opb_reader result;
    enum opb_fault fault = OPB_FAULT_ORTHANC;
    const char *fault_text = NULL;
    int answer = -1;

    pool_send_attach(pool, control, name, secret, secret_bytes);
    assert_int_equal(opb_lane_receive(control, &frame, opb_deadline_ms(POOL_WAIT_MS)),
                     OPB_OK);
    assert_int_equal(opb_frame_type(frame), OPB_RESPONSE);
    assert_int_equal(opb_frame_msgid(frame), 41);
    if (opb_frame_fault(frame, &fault, NULL, &fault_text)) {
        answer = (int)fault;
        (void)snprintf(text, capacity, "%s", fault_text);
    }
    else {
        opb_frame_result(frame, &reader);
        assert_int_equal(opb_read_array(&reader, &result), 2);
        (void)snprintf(text, capacity, "%s", opb_read_cstr(&result, false));
        assert_int_equal(opb_read_uint(&result, UINT32_MAX),
                         pool->workers == 0 ? 1 : pool->workers);
        assert_int_equal(opb_reader_finish(&result), OPB_OK);
        assert_int_equal(opb_reader_finish(&reader), OPB_OK);
    }
    opb_frame_free(frame);
    return answer;
}

struct host_news
pool_attach(struct pool *pool)
{
    pool->control = pool_connect_control(pool);
    assert_non_null(pool->control);
    assert_int_equal(pool_ask_attach(pool, pool->control, "Test node", pool->secret,
                                     OPB_SECRET_BYTES, pool->node, sizeof(pool->node)),
                     -1);
    return pool_news(pool, OPB_CONTROL_HOST_STARTED);
}

static void
read_news(struct opb_frame *frame, struct host_news *out)
{
    struct opb_reader reader;

    memset(out, 0, sizeof(*out));
    out->method = opb_frame_method(frame);
    opb_frame_params(frame, &reader);
    if (out->method != OPB_CONTROL_RELOAD && out->method != OPB_CONTROL_LEAVING) {
        out->host = (uint32_t)opb_read_uint(&reader, UINT32_MAX);
    }
    if (out->method == OPB_CONTROL_HOST_STARTED || out->method == OPB_CONTROL_HOST_DIED ||
        out->method == OPB_CONTROL_NEXT_STARTED) {
        out->pid = (pid_t)opb_read_uint(&reader, INT32_MAX);
    }
    if (out->method == OPB_CONTROL_HOST_STARTED ||
        out->method == OPB_CONTROL_NEXT_STARTED) {
        out->worker = (uint32_t)opb_read_uint(&reader, UINT32_MAX);
    }
    if (out->method == OPB_CONTROL_LOOKED) { /* or the problem, in brackets */
        const char *text = opb_read_cstr(&reader, false);
        const char *problem = opb_read_cstr(&reader, false);

        (void)snprintf(out->text, sizeof(out->text), "%s%s%s%s", text,
                       problem[0] != '\0' ? "(" : "", problem,
                       problem[0] != '\0' ? ")" : "");
    }
    if (out->method == OPB_CONTROL_HOST_DIED || out->method == OPB_CONTROL_LOG) {
        (void)snprintf(out->text, sizeof(out->text), "%s", opb_read_cstr(&reader, false));
    }
    assert_int_equal(opb_reader_finish(&reader), OPB_OK);
}

struct host_news
pool_news(struct pool *pool, uint32_t method)
{
    uint64_t deadline = opb_deadline_ms(POOL_WAIT_MS);
    struct host_news news;

    do {
        struct opb_frame *frame = NULL;

        assert_int_equal(opb_lane_receive(pool->control, &frame, deadline), OPB_OK);
        assert_int_equal(opb_frame_type(frame), OPB_NOTIFY);
        read_news(frame, &news);
        opb_frame_free(frame);
    } while (news.method != method);
    return news;
}

/* Sends pool->message. */
static void
send_control(struct pool *pool)
{
    assert_int_equal(
        opb_lane_send(pool->control, pool->message, opb_deadline_ms(POOL_WAIT_MS)), OPB_OK);
}

void
pool_ask_detach(struct pool *pool, uint64_t grace_ms)
{
    opb_message_begin_request(pool->message, OPB_CONTROL_DETACH, 1);
    opb_message_set_msgid(pool->message, 42);
    opb_pack_uint(pool->message, grace_ms);
    send_control(pool);
}

void
pool_await_detached(struct pool *pool)
{
    uint64_t deadline = opb_deadline_ms(POOL_WAIT_MS);
    bool is_done = false;

    while (!is_done) {
        struct opb_frame *frame = NULL;

        assert_int_equal(opb_lane_receive(pool->control, &frame, deadline), OPB_OK);
        is_done = opb_frame_type(frame) == OPB_RESPONSE;
        if (is_done) {
            assert_int_equal(opb_frame_msgid(frame), 42);
            assert_false(opb_frame_fault(frame, NULL, NULL, NULL));
        }
        opb_frame_free(frame);
    }
}

static void
send_about_host(struct pool *pool, uint32_t method, uint32_t host, const char *reason)
{
    opb_message_begin_notify(pool->message, method, 2);
    opb_pack_uint(pool->message, host);
    opb_pack_cstr(pool->message, reason);
    send_control(pool);
}

void
pool_replace_host(struct pool *pool, uint32_t host, const char *reason)
{
    send_about_host(pool, OPB_CONTROL_REPLACE_HOST, host, reason);
}

void
pool_limit_restarts(struct pool *pool, uint32_t restarts, uint32_t window_ms)
{
    opb_message_begin_notify(pool->message, OPB_CONTROL_LIMIT_RESTARTS, 2);
    opb_pack_uint(pool->message, restarts);
    opb_pack_uint(pool->message, window_ms);
    send_control(pool);
}

void
pool_host_hangs(struct pool *pool, uint32_t host, const char *reason)
{
    send_about_host(pool, OPB_CONTROL_HOST_HANGS, host, reason);
}

struct host_news
pool_look(struct pool *pool, uint32_t host, uint32_t ticket)
{
    opb_message_begin_notify(pool->message, OPB_CONTROL_LOOK, 2);
    opb_pack_uint(pool->message, host);
    opb_pack_uint(pool->message, ticket);
    send_control(pool);
    return pool_news(pool, OPB_CONTROL_LOOKED);
}

void
pool_ask_next(struct pool *pool)
{
    opb_message_begin_notify(pool->message, OPB_CONTROL_START_NEXT, 1);
    opb_pack_array(pool->message, 1);
    opb_pack_cstr(pool->message, "/script.py");
    send_control(pool);
}

struct host_news
pool_start_next(struct pool *pool)
{
    pool_ask_next(pool);
    return pool_news(pool, OPB_CONTROL_NEXT_STARTED);
}

void
pool_switch(struct pool *pool, uint32_t host)
{
    pool_switch_all(pool, &host, 1);
}

void
pool_switch_all(struct pool *pool, const uint32_t *hosts, uint32_t count)
{
    opb_message_begin_notify(pool->message, OPB_CONTROL_SWITCH, 1);
    opb_pack_array(pool->message, count);
    for (uint32_t i = 0; i < count; i++) {
        opb_pack_uint(pool->message, hosts[i]);
    }
    send_control(pool);
    assert_int_equal(pool_news(pool, OPB_CONTROL_SWITCHED).host, hosts[0]);
}

struct opb_lane *
pool_open_lane(struct pool *pool, uint32_t host, char *text, size_t capacity)
{
    struct opb_hello hello = pool_hello(pool, host);

    return pool_connect(pool, &hello, text, capacity);
}

struct opb_lane *
pool_must_open_lane(struct pool *pool, uint32_t host)
{
    char text[512];
    struct opb_lane *lane = pool_open_lane(pool, host, text, sizeof(text));

    if (lane == NULL) {
        fail_msg("no lane: %s", text);
    }
    return lane;
}

void
pool_expect_echo(struct pool *pool, uint32_t host)
{
    struct opb_lane *lane = pool_must_open_lane(pool, host);
    char answer[64];

    assert_true(host_ask(lane, FAKE_ECHO, "fine", answer, sizeof(answer)));
    assert_string_equal(answer, "fine");
    opb_lane_close(lane);
}

bool
host_ask(struct opb_lane *lane, uint32_t method, const char *text, char *answer,
         size_t capacity)
{
    uint64_t deadline = opb_deadline_ms(POOL_WAIT_MS);
    struct opb_message *message = opb_message_new();
    struct opb_frame *frame = NULL;
    struct opb_reader reader;
    enum opb_status status;

    assert_non_null(message);
    answer[0] = '\0';
    opb_message_begin_request(message, method, 1);
    opb_pack_cstr(message, text);
    status = opb_exchange(lane, message, NULL, NULL, deadline, &frame);
    opb_message_free(message);
    if (status != OPB_OK) {
        assert_int_equal(status, OPB_GONE);
        return false;
    }
    opb_frame_result(frame, &reader);
    (void)snprintf(answer, capacity, "%s", opb_read_cstr(&reader, false));
    assert_int_equal(opb_reader_finish(&reader), OPB_OK);
    opb_frame_free(frame);
    return true;
}

pid_t
host_ask_pid(struct opb_lane *lane, uint32_t method)
{
    char answer[64];

    assert_true(host_ask(lane, method, "", answer, sizeof(answer)));
    assert_true(atoi(answer) > 1);
    return atoi(answer);
}
