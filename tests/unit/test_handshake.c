/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/test_handshake.c - hello and welcome, between friends, strangers and enemies
 */
#include "tests/unit/support.h"

#include "protocol/handshake.h"
#include "protocol/sockets.h"

#include <stdlib.h>
#include <string.h>

#define OURS  OPB_PROTOCOL_VERSION
#define OTHER (OPB_PROTOCOL_VERSION + 1)

struct fixture {
    struct opb_lane *client;
    struct opb_lane *server;
    struct opb_message *message;
    struct opb_hello hello;
};

static int
make_fixture(void **state)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    int fds[2];

    opb_make_pair(fds);
    assert_int_equal(opb_lane_open(&fixture->client, &fds[0], &opb_segment_malloc), OPB_OK);
    assert_int_equal(opb_lane_open(&fixture->server, &fds[1], &opb_segment_malloc), OPB_OK);
    fixture->message = opb_message_new();
    fixture->hello.version = OPB_PROTOCOL_VERSION;
    fixture->hello.kind = OPB_CONNECTION_CALL;
    fixture->hello.host = 3;
    strcpy(fixture->hello.node, "ORTHANC");
    memset(fixture->hello.secret, 0xa5, sizeof(fixture->hello.secret));
    *state = fixture;
    return 0;
}

static int
free_fixture(void **state)
{
    struct fixture *fixture = *state;

    opb_lane_close(fixture->client);
    opb_lane_close(fixture->server);
    opb_message_free(fixture->message);
    free(fixture);
    return 0;
}

static struct opb_frame *
receive_hello(struct fixture *fixture)
{
    struct opb_frame *frame;

    assert_int_equal(opb_lane_receive(fixture->server, &frame, opb_deadline_ms(1000)),
                     OPB_OK);
    return frame;
}

static void
a_hello_is_understood_and_welcomed(void **state)
{
    static const uint8_t body[OPB_INLINE_BYTES + 1];
    struct fixture *fixture = *state;
    struct opb_frame *frame;
    struct opb_hello seen;
    uint32_t version;

    memset(fixture->hello.node, 'n', OPB_NODE_NAME_BYTES);
    assert_int_equal(opb_hello_send(fixture->client, &fixture->hello, OPB_FOREVER), OPB_OK);
    frame = receive_hello(fixture);
    assert_int_equal(opb_hello_decode(frame, &seen), OPB_OK);
    opb_frame_free(frame);
    assert_int_equal(seen.version, OPB_PROTOCOL_VERSION);
    assert_int_equal(seen.kind, OPB_CONNECTION_CALL);
    assert_int_equal(seen.host, 3);
    assert_string_equal(seen.node, fixture->hello.node);
    assert_memory_equal(seen.secret, fixture->hello.secret, sizeof(seen.secret));
    assert_int_equal(opb_welcome_send(fixture->server, OPB_FOREVER), OPB_OK);
    assert_int_equal(opb_welcome_receive(fixture->client, &version, opb_deadline_ms(1000)),
                     OPB_OK);
    assert_int_equal(version, OPB_PROTOCOL_VERSION);
    /* Both ends take large frames from now on. */
    opb_message_begin_notify(fixture->message, 1, 1);
    opb_pack_bytes(fixture->message, body, sizeof(body));
    for (int i = 0; i < 2; i++) {
        struct opb_lane *from = i == 0 ? fixture->client : fixture->server;
        struct opb_lane *to = i == 0 ? fixture->server : fixture->client;

        assert_int_equal(opb_lane_send(from, fixture->message, OPB_FOREVER), OPB_OK);
        assert_int_equal(opb_lane_receive(to, &frame, opb_deadline_ms(1000)), OPB_OK);
        opb_frame_free(frame);
    }
}

static void
a_refusal_brings_its_reason(void **state)
{
    struct fixture *fixture = *state;
    uint32_t version;

    assert_int_equal(opb_welcome_refuse(fixture->server,
                                        "the script is\nnot allowed\x1b[2J", OPB_FOREVER),
                     OPB_OK);
    assert_int_equal(opb_welcome_receive(fixture->client, &version, opb_deadline_ms(1000)),
                     OPB_REFUSED);
    assert_int_equal(version, OPB_PROTOCOL_VERSION);
    /* One line, whatever the peer put in. */
    assert_string_equal(opb_lane_failure(fixture->client), "the script is not allowed [2J");
}

static void
a_refusal_of_any_length_fits_the_first_frame(void **state)
{
    struct fixture *fixture = *state;
    char *text = malloc(100001);
    uint32_t version;

    assert_non_null(text);
    memset(text, 'x', 100000);
    text[100000] = '\0';
    assert_int_equal(opb_welcome_refuse(fixture->server, text, OPB_FOREVER), OPB_OK);
    free(text);
    assert_int_equal(opb_welcome_receive(fixture->client, &version, opb_deadline_ms(1000)),
                     OPB_REFUSED);
}

static void
a_refusal_of_another_version_says_which(void **state)
{
    struct fixture *fixture = *state;
    uint32_t version;

    opb_message_error(fixture->message, 0, OPB_FAULT_PROTOCOL, 7, "update");
    assert_int_equal(opb_lane_send(fixture->server, fixture->message, OPB_FOREVER), OPB_OK);
    assert_int_equal(opb_welcome_receive(fixture->client, &version, opb_deadline_ms(1000)),
                     OPB_VERSION);
    assert_int_equal(version, 7);
    assert_string_equal(opb_lane_failure(fixture->client), "update");
}

static void
a_welcome_of_another_version_says_which(void **state)
{
    struct fixture *fixture = *state;
    uint32_t version;

    opb_message_begin_response(fixture->message, 0);
    opb_pack_array(fixture->message, 1);
    opb_pack_uint(fixture->message, OTHER);
    assert_int_equal(opb_lane_send(fixture->server, fixture->message, OPB_FOREVER), OPB_OK);
    assert_int_equal(opb_welcome_receive(fixture->client, &version, opb_deadline_ms(1000)),
                     OPB_VERSION);
    assert_int_equal(version, OTHER);
    assert_non_null(strstr(opb_lane_failure(fixture->client), "same release"));
}

static void
no_welcome_in_time_is_late(void **state)
{
    struct fixture *fixture = *state;
    uint32_t version;

    assert_int_equal(opb_welcome_receive(fixture->client, &version, opb_deadline_ms(50)),
                     OPB_LATE);
    assert_int_equal(version, 0);
}

/* What the client makes of a frame that is no welcome. */
static void
assert_no_welcome(struct fixture *fixture)
{
    uint32_t version;

    assert_int_equal(opb_lane_send(fixture->server, fixture->message, OPB_FOREVER), OPB_OK);
    assert_int_equal(opb_welcome_receive(fixture->client, &version, opb_deadline_ms(1000)),
                     OPB_BAD_FRAME);
    assert_int_equal(opb_lane_status(fixture->client), OPB_BAD_FRAME);
}

static void
a_request_is_no_welcome(void **state)
{
    struct fixture *fixture = *state;

    opb_message_begin_request(fixture->message, 0, 0);
    assert_no_welcome(fixture);
}

static void
a_response_to_something_else_is_no_welcome(void **state)
{
    struct fixture *fixture = *state;

    opb_message_begin_response(fixture->message, 1);
    opb_pack_nil(fixture->message);
    assert_no_welcome(fixture);
}

static void
a_welcome_without_a_version_is_refused(void **state)
{
    struct fixture *fixture = *state;

    opb_message_begin_response(fixture->message, 0);
    opb_pack_array(fixture->message, 2);
    opb_pack_uint(fixture->message, 1);
    opb_pack_uint(fixture->message, 1);
    assert_no_welcome(fixture);
}

static void
a_refusal_without_a_version_is_refused(void **state)
{
    struct fixture *fixture = *state;

    opb_message_error(fixture->message, 0, OPB_FAULT_PROTOCOL, -1, "no");
    assert_no_welcome(fixture);
}

/* One value of a hello that is not as it should be. */
struct spoiled {
    const char *magic;
    uint64_t version;
    uint64_t kind;
    const char *node;
    size_t node_bytes;
    uint64_t host;
    size_t secret_bytes;
    uint32_t method;
    uint32_t msgid;
    enum opb_status expected;
};

static enum opb_status
decode_spoiled(struct fixture *fixture, const struct spoiled *spoiled, uint32_t param_count,
               struct opb_hello *out)
{
    static const uint8_t secret[64];
    struct opb_message *message = fixture->message;
    struct opb_frame *frame;
    enum opb_status status;

    opb_message_begin_request(message, spoiled->method, param_count);
    opb_message_set_msgid(message, spoiled->msgid);
    opb_pack_cstr(message, spoiled->magic);
    opb_pack_uint(message, spoiled->version);
    opb_pack_uint(message, spoiled->kind);
    opb_pack_str(message, spoiled->node, spoiled->node_bytes);
    opb_pack_uint(message, spoiled->host);
    if (param_count > 5) {
        opb_pack_bytes(message, secret, spoiled->secret_bytes);
    }
    if (param_count > 6) {
        opb_pack_nil(message);
    }
    assert_int_equal(opb_lane_send(fixture->client, message, OPB_FOREVER), OPB_OK);
    frame = receive_hello(fixture);
    status = opb_hello_decode(frame, out);
    opb_frame_free(frame);
    return status;
}

static void
a_hello_with_anything_wrong_is_refused(void **state)
{
    static const char long_name[OPB_NODE_NAME_BYTES + 1] = "";
    static const struct spoiled all[] = {
        {OPB_PROTOCOL_MAGIC, OURS, 1, "n", 1, 0, 32, 0, 0, OPB_OK},
        {"orthanc-python-bridg", OURS, 1, "n", 1, 0, 32, 0, 0, OPB_BAD_FRAME},
        {"", OURS, 1, "n", 1, 0, 32, 0, 0, OPB_BAD_FRAME},
        {NULL, OURS, 1, "n", 1, 0, 32, 0, 0, OPB_BAD_FRAME},
        {OPB_PROTOCOL_MAGIC, UINT64_MAX, 1, "n", 1, 0, 32, 0, 0, OPB_BAD_FRAME},
        {OPB_PROTOCOL_MAGIC, OTHER, 99, "n", 1, 0, 1, 0, 0, OPB_VERSION},
        {OPB_PROTOCOL_MAGIC, OURS, 0, "n", 1, 0, 32, 0, 0, OPB_BAD_FRAME},
        {OPB_PROTOCOL_MAGIC, OURS, 7, "n", 1, 0, 32, 0, 0, OPB_BAD_FRAME},
        {OPB_PROTOCOL_MAGIC, OURS, 1, "a\0b", 3, 0, 32, 0, 0, OPB_BAD_FRAME},
        {OPB_PROTOCOL_MAGIC, OURS, 1, "a\nb", 3, 0, 32, 0, 0, OPB_BAD_FRAME},
        {OPB_PROTOCOL_MAGIC, OURS, 1, long_name, OPB_NODE_NAME_BYTES + 1, 0, 32, 0, 0,
         OPB_BAD_FRAME},
        {OPB_PROTOCOL_MAGIC, OURS, 1, "n", 1, 1ull << 32, 32, 0, 0, OPB_BAD_FRAME},
        {OPB_PROTOCOL_MAGIC, OURS, 1, "n", 1, 0, 31, 0, 0, OPB_BAD_FRAME},
        {OPB_PROTOCOL_MAGIC, OURS, 1, "n", 1, 0, 33, 0, 0, OPB_BAD_FRAME},
        {OPB_PROTOCOL_MAGIC, OURS, 1, "n", 1, 0, 32, 1, 0, OPB_BAD_FRAME},
        {OPB_PROTOCOL_MAGIC, OURS, 1, "n", 1, 0, 32, 0, 1, OPB_BAD_FRAME},
    };
    struct fixture *fixture = *state;
    struct opb_hello seen;

    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        assert_int_equal(decode_spoiled(fixture, &all[i], 6, &seen), all[i].expected);
    }
    assert_int_equal(decode_spoiled(fixture, &all[0], 5, &seen), OPB_BAD_FRAME);
    assert_int_equal(decode_spoiled(fixture, &all[0], 7, &seen), OPB_BAD_FRAME);
    assert_int_equal(decode_spoiled(fixture, &all[5], 6, &seen), OPB_VERSION);
    assert_int_equal(seen.version, OTHER);
}

static void
a_name_that_is_too_long_is_refused_whatever_is_in_it(void **state)
{
    struct fixture *fixture = *state;
    struct spoiled spoiled = {OPB_PROTOCOL_MAGIC, OURS, 1, NULL, 0, 0, 32, 0, 0,
                              OPB_BAD_FRAME};
    char name[OPB_NODE_NAME_BYTES + 1];
    struct opb_hello seen;

    memset(name, 'n', sizeof(name));
    spoiled.node = name;
    spoiled.node_bytes = sizeof(name);
    assert_int_equal(decode_spoiled(fixture, &spoiled, 6, &seen), OPB_BAD_FRAME);
    spoiled.node_bytes = OPB_NODE_NAME_BYTES;
    assert_int_equal(decode_spoiled(fixture, &spoiled, 6, &seen), OPB_OK);
    assert_int_equal(strlen(seen.node), OPB_NODE_NAME_BYTES);
}

static void
a_notification_is_no_hello(void **state)
{
    struct fixture *fixture = *state;
    struct opb_frame *frame;
    struct opb_hello seen;

    opb_message_begin_notify(fixture->message, 0, 0);
    assert_int_equal(opb_lane_send(fixture->client, fixture->message, OPB_FOREVER), OPB_OK);
    frame = receive_hello(fixture);
    assert_int_equal(opb_hello_decode(frame, &seen), OPB_BAD_FRAME);
    opb_frame_free(frame);
}

#define WITH_FIXTURE(function)                                                             \
    cmocka_unit_test_setup_teardown(function, make_fixture, free_fixture)

int
main(void)
{
    const struct CMUnitTest handshake[] = {
        WITH_FIXTURE(a_hello_is_understood_and_welcomed),
        WITH_FIXTURE(a_refusal_brings_its_reason),
        WITH_FIXTURE(a_refusal_of_any_length_fits_the_first_frame),
        WITH_FIXTURE(a_refusal_of_another_version_says_which),
        WITH_FIXTURE(a_welcome_of_another_version_says_which),
        WITH_FIXTURE(no_welcome_in_time_is_late),
        WITH_FIXTURE(a_request_is_no_welcome),
        WITH_FIXTURE(a_response_to_something_else_is_no_welcome),
        WITH_FIXTURE(a_welcome_without_a_version_is_refused),
        WITH_FIXTURE(a_refusal_without_a_version_is_refused),
        WITH_FIXTURE(a_hello_with_anything_wrong_is_refused),
        WITH_FIXTURE(a_name_that_is_too_long_is_refused_whatever_is_in_it),
        WITH_FIXTURE(a_notification_is_no_hello),
    };

    return OPB_RUN(handshake);
}
