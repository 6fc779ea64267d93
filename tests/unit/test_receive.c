/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/test_receive.c - frames coming in: hostile bytes, ends, deadlines, segments */
#include "tests/unit/lane_fixture.h"

#include "protocol/internal.h"
#include "protocol/sockets.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static void
a_small_frame_is_read_with_the_frames_behind_it(void **state)
{
    struct fixture *fixture = *state;

    opb_begin_number(fixture->message, 1, 1);
    assert_int_equal(opb_lane_send(fixture->a, fixture->message, OPB_FOREVER), OPB_OK);
    assert_int_equal(opb_lane_send(fixture->a, fixture->message, OPB_FOREVER), OPB_OK);
    opb_assert_number(fixture->b, 1, 1);
    assert_int_equal(fixture->b->in_end - fixture->b->in_start, 13);
    assert_true(opb_lane_is_stale(fixture->b)); /* unread, though the socket is empty */
    opb_assert_number(fixture->b, 1, 1);
    assert_false(opb_lane_is_stale(fixture->b));
}

static void
a_lane_that_is_not_trusted_takes_only_a_small_frame(void **state)
{
    struct fixture *fixture = *state;
    static char text[OPB_MAX_HELLO_BYTES];
    struct opb_lane *lane;
    struct opb_frame *frame;
    int fds[2];

    for (int round = 0; round < 2; round++) {
        size_t text_bytes = round == 0 ? sizeof(text) - 7 : sizeof(text) - 6;
        uint8_t *bytes;
        size_t byte_count;

        opb_make_pair(fds);
        assert_int_equal(opb_lane_open(&lane, &fds[0], &opb_segment_malloc), OPB_OK);
        opb_message_begin_notify(fixture->message, 1, 1);
        opb_pack_str(fixture->message, text, text_bytes);
        byte_count = opb_flatten(fixture->message, &bytes);
        opb_write_all(fds[1], bytes, byte_count);
        free(bytes);
        assert_int_equal(opb_lane_receive(lane, &frame, opb_deadline_ms(1000)),
                         round == 0 ? OPB_OK : OPB_TOO_LARGE);
        opb_frame_free(frame);
        opb_lane_close(lane);
        (void)close(fds[1]);
    }
}

/* The lane of a bare fixture fails with this status upon these bytes, and stays so. */
static void
assert_lane_fails(const void *bytes, size_t byte_count, bool trusted,
                  enum opb_status expected)
{
    struct opb_message *message = opb_message_new();
    struct opb_lane *lane;
    struct opb_frame *frame;
    int fds[2];

    opb_make_pair(fds);
    assert_int_equal(opb_lane_open(&lane, &fds[0], &opb_segment_malloc), OPB_OK);
    if (trusted) {
        opb_lane_trust(lane);
    }
    opb_write_all(fds[1], bytes, byte_count);
    assert_int_equal(opb_lane_receive(lane, &frame, opb_deadline_ms(1000)), expected);
    assert_null(frame);
    assert_int_equal(opb_lane_status(lane), expected);
    assert_string_not_equal(opb_lane_failure(lane), "");
    assert_int_equal(opb_lane_receive(lane, &frame, OPB_FOREVER), expected);
    opb_begin_number(message, 1, 1);
    assert_int_equal(opb_lane_send(lane, message, OPB_FOREVER), expected);
    assert_int_equal(opb_lane_post(lane, message), expected);
    assert_true(opb_lane_is_stale(lane));
    opb_lane_close(lane);
    (void)close(fds[1]);
    opb_message_free(message);
}

static void
hostile_bytes_fail_the_lane_and_it_stays_failed(void **state)
{
    (void)state;
    assert_lane_fails("\xff\xff\xff\xff\0\0\0\0", 8, true, OPB_TOO_LARGE);
    assert_lane_fails("\0\0\0\0\0\0\0\0", 8, true, OPB_BAD_FRAME);
    assert_lane_fails("\0\0\0\x05\0\x41\0\0", 8, true, OPB_TOO_LARGE);
    assert_lane_fails("\0\0\0\x05\0\x01\0\0", 8, false, OPB_BAD_FRAME);
    assert_lane_fails("\0\0\0\x05\0\x01\0\0\0\0\0\0\0\0\0\0", 16, true, OPB_BAD_FRAME);
    assert_lane_fails("\0\0\0\x05\0\x01\0\0\xff\0\0\0\0\0\0\0", 16, true, OPB_TOO_LARGE);
    assert_lane_fails("\0\0\0\x05\0\0\0\0\xdf\xff\xff\xff\xff", 13, true, OPB_BAD_FRAME);
    assert_lane_fails("GET / HTTP/1.1\r\n\r\n", 18, false, OPB_BAD_FRAME);
    /* 64 EiB less a little is more memory than there is: no crash, no wait. */
    assert_lane_fails(
        "\0\0\0\x04\0\x01\0\0\x7f\xff\xff\xff\xff\xff\xff\xff\x93\x02\x01\x90", 20, true,
        OPB_NO_MEMORY);
}

static void
a_stream_that_ends_anywhere_is_a_lost_peer(void **state)
{
    struct fixture *fixture = *state;
    static const uint8_t body[OPB_INLINE_BYTES + 1];
    uint8_t *bytes;
    size_t byte_count;

    opb_message_begin_notify(fixture->message, 1, 2);
    opb_pack_bytes(fixture->message, body, sizeof(body));
    opb_pack_cstr(fixture->message, "text");
    byte_count = opb_flatten(fixture->message, &bytes);
    for (size_t i = 0; i < byte_count; i += i < 64 ? 1 : 97) {
        struct opb_lane *lane;
        struct opb_frame *frame;
        int fds[2];

        opb_make_pair(fds);
        assert_int_equal(opb_lane_open(&lane, &fds[0], &opb_segment_malloc), OPB_OK);
        opb_lane_trust(lane);
        opb_write_all(fds[1], bytes, i);
        (void)close(fds[1]);
        assert_int_equal(
            opb_lane_receive(lane, &frame, i % 2 ? OPB_FOREVER : opb_deadline_ms(1000)),
            OPB_GONE);
        assert_null(frame);
        assert_string_equal(
            opb_lane_failure(lane),
            i == 0 ? "the peer closed the connection"
                   : "the peer closed the connection in the middle of a frame");
        opb_lane_close(lane);
    }
    free(bytes);
}

static void
a_frame_in_single_bytes_is_read(void **state)
{
    struct fixture *fixture = *state;
    struct opb_frame *frame;
    uint8_t *bytes;
    size_t byte_count;

    opb_begin_number(fixture->message, 6, 12345);
    byte_count = opb_flatten(fixture->message, &bytes);
    for (size_t i = 0; i + 1 < byte_count; i++) {
        opb_write_all(fixture->bare_fd, bytes + i, 1);
        assert_int_equal(opb_lane_receive(fixture->a, &frame, opb_clock_ms()), OPB_LATE);
        assert_null(frame);
    }
    assert_int_equal(opb_lane_status(fixture->a), OPB_OK);
    opb_write_all(fixture->bare_fd, bytes + byte_count - 1, 1);
    opb_assert_number(fixture->a, 6, 12345);
    free(bytes);
}

static void
frames_of_every_size_pass_the_edges_of_the_buffer(void **state)
{
    struct fixture *fixture = *state;
    char *text = malloc(70000);

    assert_non_null(text);
    memset(text, 'x', 70000);
    for (uint32_t i = 0; i < 400; i++) {
        size_t text_bytes = (size_t)i * 997u % 70000u;
        struct opb_reader reader;
        struct opb_frame *frame;

        opb_message_begin_notify(fixture->message, i, 1);
        opb_pack_str(fixture->message, text, text_bytes);
        assert_int_equal(opb_lane_send(fixture->a, fixture->message, OPB_FOREVER), OPB_OK);
        opb_begin_number(fixture->message, i, 7);
        assert_int_equal(opb_lane_send(fixture->a, fixture->message, OPB_FOREVER), OPB_OK);
        assert_int_equal(opb_lane_receive(fixture->b, &frame, OPB_FOREVER), OPB_OK);
        opb_frame_params(frame, &reader);
        assert_int_equal(strlen(opb_read_cstr(&reader, false)), text_bytes);
        assert_int_equal(opb_reader_finish(&reader), OPB_OK);
        opb_frame_free(frame);
        opb_assert_number(fixture->b, i, 7);
    }
    free(text);
}

static void
reading_is_late_at_its_deadline_and_the_lane_lives_on(void **state)
{
    struct fixture *fixture = *state;
    struct opb_frame *frame;
    uint64_t began_ms = opb_clock_ms();
    uint64_t took_ms;

    assert_int_equal(opb_lane_receive(fixture->a, &frame, opb_deadline_ms(100)), OPB_LATE);
    took_ms = opb_clock_ms() - began_ms;
    assert_in_range(took_ms, 99, 2000);
    opb_begin_number(fixture->message, 1, 1);
    assert_int_equal(opb_lane_send(fixture->b, fixture->message, opb_deadline_ms(1000)),
                     OPB_OK);
    opb_assert_number(fixture->a, 1, 1);
}

struct rest {
    int fd;
    const uint8_t *bytes;
    size_t byte_count;
};

static void
write_rest(void *context)
{
    const struct rest *rest = context;

    opb_write_all(rest->fd, rest->bytes, rest->byte_count);
}

/* Of a frame that does not fit the buffer, so that what has come is consumed. */
static void
who_does_not_wait_for_a_frame_waits_for_the_rest_of_a_large_one(void **state)
{
    struct fixture *fixture = *state;
    const size_t text_bytes = 2 * OPB_LANE_BUFFER_BYTES;
    char *text = calloc(1, text_bytes);
    struct opb_thread *thread;
    struct opb_frame *frame;
    struct rest rest;
    uint8_t *bytes;

    assert_non_null(text);
    assert_int_equal(opb_lane_receive_now(fixture->a, &frame, opb_deadline_ms(20000)),
                     OPB_LATE);
    opb_message_begin_notify(fixture->message, 6, 1);
    opb_pack_str(fixture->message, text, text_bytes);
    rest.byte_count = opb_flatten(fixture->message, &bytes) - 20;
    rest.bytes = bytes + 20;
    rest.fd = fixture->bare_fd;
    opb_write_all(fixture->bare_fd, bytes, 20);
    thread = opb_thread_start(write_rest, &rest);
    assert_int_equal(opb_lane_receive_now(fixture->a, &frame, opb_deadline_ms(20000)),
                     OPB_OK);
    opb_thread_join(thread);
    opb_frame_free(frame);
    free(bytes);
    opb_write_all(fixture->bare_fd, "\0\0\0\x0a\0\0\0\0\x93\x02",
                  10); /* a small one waits */
    assert_int_equal(opb_lane_receive_now(fixture->a, &frame, opb_deadline_ms(20000)),
                     OPB_LATE);
    assert_int_equal(opb_lane_status(fixture->a), OPB_OK);
    free(text);
}

static void
a_segment_that_stops_coming_is_late_and_fails_the_lane(void **state)
{
    struct fixture *fixture = *state;
    struct opb_frame *frame;

    opb_write_all(
        fixture->bare_fd,
        "\0\0\0\x0a\0\x01\0\0\0\0\0\0\0\0\0\x09\x93\x02\x01\x91\xd6\x01\0\0\0\0half", 30);
    assert_int_equal(opb_lane_receive(fixture->a, &frame, opb_deadline_ms(50)), OPB_LATE);
    assert_int_equal(opb_lane_status(fixture->a), OPB_LATE);
    assert_string_equal(opb_lane_failure(fixture->a),
                        "the deadline passed in the middle of reading a frame");
}

static void
what_a_peer_said_before_it_left_is_still_read(void **state)
{
    struct fixture *fixture = *state;
    struct opb_frame *frame;

    opb_begin_number(fixture->message, 1, 1);
    assert_int_equal(opb_lane_send(fixture->b, fixture->message, OPB_FOREVER), OPB_OK);
    opb_lane_close(fixture->b);
    fixture->b = NULL;
    opb_assert_number(fixture->a, 1, 1);
    assert_int_equal(opb_lane_receive(fixture->a, &frame, OPB_FOREVER), OPB_GONE);
}

static void
an_idle_lane_is_stale_once_its_peer_speaks_or_leaves(void **state)
{
    struct fixture *fixture = *state;

    assert_false(opb_lane_is_stale(fixture->a));
    opb_write_all(fixture->bare_fd, "x", 1);
    assert_true(opb_lane_is_stale(fixture->a));
    (void)close(fixture->bare_fd);
    fixture->bare_fd = -1;
    assert_true(opb_lane_is_stale(fixture->a));
}

/* Segment memory that counts, as the host's bytes objects would be made. */
struct counted {
    uint32_t allocated;
    uint32_t released;
    uint32_t fail_at; /* this allocation fails; 0: none */
    void *last;
};

static void *
counted_allocate(void *context, size_t bytes, void **owner)
{
    struct counted *counted = context;

    counted->allocated++;
    if (counted->allocated == counted->fail_at) {
        counted->allocated--;
        return NULL;
    }
    *owner = malloc(bytes + 16); /* data is not where its owner is */
    if (*owner == NULL) {
        return NULL;
    }
    counted->last = (uint8_t *)*owner + 16;
    return counted->last;
}

static void
counted_release(void *context, void *owner)
{
    struct counted *counted = context;

    counted->released++;
    free(owner);
}

struct sender {
    struct opb_lane *lane;
    const uint8_t *body;
    size_t body_bytes;
    enum opb_status status;
};

static void
send_body(void *context)
{
    struct sender *sender = context;
    struct opb_message *message = opb_message_new();

    opb_message_begin_notify(message, 1, 2);
    opb_pack_bytes(message, sender->body, sender->body_bytes);
    opb_pack_bytes(message, sender->body, OPB_INLINE_BYTES + 1);
    sender->status = opb_lane_send(sender->lane, message, opb_deadline_ms(30000));
    opb_message_free(message);
}

/* Opens a pair whose receiving lane counts its segment memory. */
static void
make_counted(struct opb_lane **sending, struct opb_lane **receiving,
             const struct opb_segment_memory *memory)
{
    int fds[2];

    opb_make_pair(fds);
    assert_int_equal(opb_lane_open(sending, &fds[0], &opb_segment_malloc), OPB_OK);
    assert_int_equal(opb_lane_open(receiving, &fds[1], memory), OPB_OK);
    opb_lane_trust(*receiving);
}

static void
receive_large_body(uint64_t deadline_ms)
{
    struct counted counted = {0};
    const struct opb_segment_memory memory = {counted_allocate, counted_release, &counted};
    struct sender sender = {.body_bytes = 64u * 1024u * 1024u};
    struct opb_lane *receiving;
    struct opb_thread *thread;
    struct opb_reader reader;
    struct opb_frame *frame;
    const void *data;
    void *owner;
    size_t bytes;
    uint8_t *body = malloc(sender.body_bytes);

    assert_non_null(body);
    for (size_t i = 0; i < sender.body_bytes; i++) {
        body[i] = (uint8_t)(i * 7 ^ i >> 13);
    }
    sender.body = body;
    make_counted(&sender.lane, &receiving, &memory);
    thread = opb_thread_start(send_body, &sender);
    assert_int_equal(opb_lane_receive(receiving, &frame, deadline_ms), OPB_OK);
    opb_thread_join(thread);
    assert_int_equal(sender.status, OPB_OK);
    assert_int_equal(counted.allocated, 2);
    opb_frame_params(frame, &reader);
    data = opb_read_bytes_take(&reader, &bytes, &owner);
    assert_int_equal(bytes, sender.body_bytes);
    assert_ptr_equal(data, (uint8_t *)owner + 16); /* the memory we gave, not a copy */
    assert_int_equal(memcmp(data, body, bytes), 0);
    assert_ptr_equal(opb_read_bytes(&reader, &bytes), counted.last);
    assert_int_equal(opb_reader_finish(&reader), OPB_OK);
    opb_frame_free(frame);
    assert_int_equal(counted.released, 1); /* the one that was not taken */
    free(owner);
    free(body);
    opb_lane_close(sender.lane);
    opb_lane_close(receiving);
}

static void
a_large_segment_lands_in_the_memory_that_the_owner_gave(void **state)
{
    (void)state;
    receive_large_body(OPB_FOREVER);
    receive_large_body(opb_deadline_ms(30000));
}

static void
segment_memory_is_released_when_the_frame_fails(void **state)
{
    /* Two segments, and an envelope that is no RPC. */
    static const uint8_t bad[] = {0, 0, 0, 1, 0, 2, 0, 0, 0, 0, 0,    0,   0,  0,
                                  0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0xc0, 'a', 'b'};
    (void)state;
    for (uint32_t round = 0; round < 3; round++) {
        struct counted counted = {.fail_at = round};
        const struct opb_segment_memory memory = {counted_allocate, counted_release,
                                                  &counted};
        struct opb_lane *sending;
        struct opb_lane *receiving;
        struct opb_frame *frame;

        make_counted(&sending, &receiving, &memory);
        opb_write_all(opb_lane_fd(sending), bad, sizeof(bad));
        assert_int_equal(opb_lane_receive(receiving, &frame, opb_deadline_ms(1000)),
                         round == 0 ? OPB_BAD_FRAME : OPB_NO_MEMORY);
        assert_int_equal(counted.allocated, round == 0 ? 2 : round - 1);
        assert_int_equal(counted.released, counted.allocated);
        opb_lane_close(sending);
        opb_lane_close(receiving);
    }
}

int
main(void)
{
    const struct CMUnitTest receive[] = {
        WITH_LANES(a_small_frame_is_read_with_the_frames_behind_it),
        WITH_LANES(a_lane_that_is_not_trusted_takes_only_a_small_frame),
        OPB_TEST(hostile_bytes_fail_the_lane_and_it_stays_failed),
        WITH_LANES(a_stream_that_ends_anywhere_is_a_lost_peer),
        WITH_BARE(a_frame_in_single_bytes_is_read),
        WITH_LANES(frames_of_every_size_pass_the_edges_of_the_buffer),
        WITH_LANES(reading_is_late_at_its_deadline_and_the_lane_lives_on),
        WITH_BARE(who_does_not_wait_for_a_frame_waits_for_the_rest_of_a_large_one),
        WITH_BARE(a_segment_that_stops_coming_is_late_and_fails_the_lane),
        WITH_LANES(what_a_peer_said_before_it_left_is_still_read),
        WITH_BARE(an_idle_lane_is_stale_once_its_peer_speaks_or_leaves),
        OPB_TEST(a_large_segment_lands_in_the_memory_that_the_owner_gave),
        OPB_TEST(segment_memory_is_released_when_the_frame_fails),
    };

    return OPB_RUN(receive);
}
