/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/test_lane.c - a lane's life; frames and posts going out over a socket */
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
sleep_ms(long ms)
{
    const struct timespec pause = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

    (void)nanosleep(&pause, NULL); /* signals are not expected in the tests */
}

static void
frames_arrive_in_order(void **state)
{
    struct fixture *fixture = *state;

    for (uint32_t i = 0; i < 100; i++) {
        opb_begin_number(fixture->message, i, i * 1000u);
        assert_int_equal(opb_lane_send(fixture->a, fixture->message, OPB_FOREVER), OPB_OK);
    }
    for (uint32_t i = 0; i < 100; i++) {
        opb_assert_number(fixture->b, i, i * 1000u);
    }
    assert_false(opb_lane_is_stale(fixture->b));
}

static void
descriptors_close_on_exec_and_block(void **state)
{
    struct fixture *fixture = *state;
    int fds[2];
    struct opb_lane *lane;

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    assert_int_equal(opb_lane_open(&lane, &fds[0], &opb_segment_malloc), OPB_OK);
    assert_int_equal(fcntl(opb_lane_fd(lane), F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    assert_int_equal(fcntl(opb_lane_fd(lane), F_GETFL) & O_NONBLOCK, 0);
    opb_lane_close(lane);
    (void)close(fds[1]);
    opb_lane_close(NULL);
    assert_string_equal(opb_lane_failure(fixture->a), "");
}

static void
opening_over_a_bad_descriptor_takes_nothing(void **state)
{
    struct opb_lane *lane;
    int fd = -1;

    (void)state;
    assert_int_equal(opb_lane_open(&lane, &fd, &opb_segment_malloc), OPB_SYSTEM);
    assert_int_equal(errno, EBADF);
    assert_null(lane);
}

static void
posts_leave_with_the_next_frame_in_order_and_arrive_with_one_recv(void **state)
{
    struct fixture *fixture = *state;
    struct opb_lane *peer;
    uint8_t bytes[4096];
    ssize_t count;

    for (uint32_t i = 0; i < 10; i++) {
        opb_begin_number(fixture->message, i, i);
        assert_int_equal(opb_lane_post(fixture->a, fixture->message), OPB_OK);
    }
    assert_true(opb_lane_has_posts(fixture->a));
    assert_true(recv(fixture->bare_fd, bytes, sizeof(bytes), MSG_DONTWAIT) < 0);
    assert_int_equal(errno, EAGAIN);
    opb_message_begin_response(fixture->message, 5);
    opb_pack_nil(fixture->message);
    assert_int_equal(opb_lane_send(fixture->a, fixture->message, OPB_FOREVER), OPB_OK);
    assert_false(opb_lane_has_posts(fixture->a));
    count = recv(fixture->bare_fd, bytes, sizeof(bytes), MSG_PEEK | MSG_DONTWAIT);
    assert_true(count > 0);
    assert_int_equal(opb_lane_open(&peer, &fixture->bare_fd, &opb_segment_malloc), OPB_OK);
    for (uint32_t i = 0; i < 10; i++) {
        opb_assert_number(peer, i, i);
        /* Everything came with the first recv. */
        assert_int_equal(peer->in_end, count);
    }
    opb_lane_close(peer);
}

static void
posts_and_a_frame_are_one_packet(void **state)
{
    struct opb_message *message = opb_message_new();
    struct opb_lane *lane;
    uint8_t bytes[4096];
    int fds[2];

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds), 0);
    assert_int_equal(opb_lane_open(&lane, &fds[0], &opb_segment_malloc), OPB_OK);
    opb_begin_number(message, 1, 1);
    assert_int_equal(opb_lane_post(lane, message), OPB_OK);
    assert_int_equal(opb_lane_post(lane, message), OPB_OK);
    opb_begin_number(message, 2, 2);
    assert_int_equal(opb_lane_send(lane, message, OPB_FOREVER), OPB_OK);
    assert_int_equal(recv(fds[1], bytes, sizeof(bytes), MSG_DONTWAIT), 3 * 13);
    assert_true(recv(fds[1], bytes, sizeof(bytes), MSG_DONTWAIT) < 0);
    opb_lane_close(lane);
    (void)close(fds[1]);
    opb_message_free(message);
}

static void
a_post_must_be_a_notification(void **state)
{
    struct fixture *fixture = *state;

    opb_message_begin_request(fixture->message, 1, 0);
    assert_int_equal(opb_lane_post(fixture->a, fixture->message), OPB_BAD_FRAME);
    opb_message_begin_notify(fixture->message, 1, 1); /* and complete */
    assert_int_equal(opb_lane_post(fixture->a, fixture->message), OPB_BAD_FRAME);
    assert_int_equal(opb_lane_send(fixture->a, fixture->message, OPB_FOREVER),
                     OPB_BAD_FRAME);
    assert_int_equal(opb_lane_status(fixture->a), OPB_OK); /* nothing was written */
}

static void
large_posts_and_full_queues_are_written_at_once_in_order(void **state)
{
    struct fixture *fixture = *state;
    char *text = calloc(1, OPB_LANE_POST_BYTES);
    struct opb_frame *frame;

    assert_non_null(text);
    opb_begin_number(fixture->message, 1, 11);
    assert_int_equal(opb_lane_post(fixture->a, fixture->message), OPB_OK);
    opb_message_begin_notify(fixture->message, 2, 1);
    opb_pack_str(fixture->message, text, OPB_LANE_POST_BYTES);
    assert_int_equal(opb_lane_post(fixture->a, fixture->message), OPB_OK);
    assert_false(opb_lane_has_posts(fixture->a));
    opb_assert_number(fixture->b, 1, 11);
    assert_int_equal(opb_lane_receive(fixture->b, &frame, opb_deadline_ms(5000)), OPB_OK);
    assert_int_equal(opb_frame_method(frame), 2);
    opb_frame_free(frame);

    opb_message_begin_notify(fixture->message, 3, 1);
    opb_pack_bytes(fixture->message, text, OPB_INLINE_BYTES + 1);
    assert_int_equal(opb_lane_post(fixture->a, fixture->message), OPB_OK);
    assert_false(opb_lane_has_posts(fixture->a)); /* its segment is only lent: no waiting */
    assert_int_equal(opb_lane_receive(fixture->b, &frame, opb_deadline_ms(5000)), OPB_OK);
    assert_int_equal(opb_frame_method(frame), 3);
    opb_frame_free(frame);

    for (uint32_t i = 0; i < 9; i++) { /* nine times 8 KB does not fit into 64 KiB */
        opb_message_begin_notify(fixture->message, 10 + i, 1);
        opb_pack_str(fixture->message, text, 8000);
        assert_int_equal(opb_lane_post(fixture->a, fixture->message), OPB_OK);
    }
    assert_false(opb_lane_has_posts(fixture->a));
    for (uint32_t i = 0; i < 9; i++) {
        assert_int_equal(opb_lane_receive(fixture->b, &frame, opb_deadline_ms(5000)),
                         OPB_OK);
        assert_int_equal(opb_frame_method(frame), 10 + i);
        opb_frame_free(frame);
    }
    free(text);
}

static void
an_empty_flush_does_nothing_and_a_flush_writes_what_waits(void **state)
{
    struct fixture *fixture = *state;

    opb_lane_flush(fixture->a);
    opb_begin_number(fixture->message, 1, 1);
    assert_int_equal(opb_lane_post(fixture->a, fixture->message), OPB_OK);
    opb_lane_flush(fixture->a);
    assert_false(opb_lane_has_posts(fixture->a));
    opb_assert_number(fixture->b, 1, 1);
}

static void
a_flush_never_waits_and_keeps_what_the_socket_does_not_take(void **state)
{
    struct fixture *fixture = *state;
    static char text[15000];
    uint32_t posted = 0;
    uint64_t began_ms = opb_clock_ms();

    /* Until the socket is full and something stays behind. */
    do {
        for (int i = 0; i < 3; i++) {
            opb_message_begin_notify(fixture->message, posted++, 1);
            opb_pack_str(fixture->message, text, sizeof(text));
            assert_int_equal(opb_lane_post(fixture->a, fixture->message), OPB_OK);
        }
        opb_lane_flush(fixture->a);
    } while (!opb_lane_has_posts(fixture->a));
    assert_true(opb_clock_ms() - began_ms < 5000);
    for (uint32_t i = 0; i < posted; i++) {
        struct opb_frame *frame;

        assert_int_equal(opb_lane_receive(fixture->b, &frame, opb_deadline_ms(5000)),
                         OPB_OK);
        assert_int_equal(opb_frame_method(frame), i);
        opb_frame_free(frame);
        opb_lane_flush(fixture->a);
    }
    assert_false(opb_lane_has_posts(fixture->a));
}

struct flusher {
    struct opb_lane *lane;
    atomic_bool is_over;
};

static void
flush_until_over(void *context)
{
    struct flusher *flusher = context;

    while (!atomic_load(&flusher->is_over)) {
        opb_lane_flush(flusher->lane);
        (void)opb_lane_has_posts(flusher->lane); /* another thread may look */
    }
}

static void
send_many(void *context)
{
    struct opb_lane *lane = context;
    struct opb_message *message = opb_message_new();
    static uint8_t body[300000];

    for (uint32_t i = 0; i < 3000; i++) {
        opb_begin_number(message, i, i);
        if (i % 5 == 4) {
            assert_int_equal(opb_lane_send(lane, message, OPB_FOREVER), OPB_OK);
        }
        else if (i % 500 == 6) {
            opb_message_begin_notify(message, i, 2);
            opb_pack_uint(message, i);
            opb_pack_bytes(message, body, sizeof(body));
            assert_int_equal(opb_lane_post(lane, message), OPB_OK);
        }
        else {
            assert_int_equal(opb_lane_post(lane, message), OPB_OK);
        }
    }
    opb_begin_number(message, 3000, 0);
    assert_int_equal(opb_lane_send(lane, message, OPB_FOREVER), OPB_OK);
    opb_message_free(message);
}

static void
flushes_of_another_thread_never_split_or_reorder_frames(void **state)
{
    struct fixture *fixture = *state;
    struct flusher flusher = {.lane = fixture->a};
    struct opb_thread *flushing = opb_thread_start(flush_until_over, &flusher);
    struct opb_thread *sending = opb_thread_start(send_many, fixture->a);

    for (uint32_t i = 0; i <= 3000; i++) {
        struct opb_frame *frame;

        assert_int_equal(opb_lane_receive(fixture->b, &frame, opb_deadline_ms(20000)),
                         OPB_OK);
        assert_int_equal(opb_frame_method(frame), i);
        opb_frame_free(frame);
    }
    opb_thread_join(sending);
    atomic_store(&flusher.is_over, true);
    opb_thread_join(flushing);
}

static void
writing_to_a_peer_that_does_not_read_is_late(void **state)
{
    struct fixture *fixture = *state;
    uint8_t *body = calloc(1, 16 * 1024 * 1024);
    uint64_t began_ms = opb_clock_ms();

    assert_non_null(body);
    opb_message_begin_notify(fixture->message, 1, 1);
    opb_pack_bytes(fixture->message, body, 16 * 1024 * 1024);
    assert_int_equal(opb_lane_send(fixture->a, fixture->message, opb_deadline_ms(100)),
                     OPB_LATE);
    assert_in_range(opb_clock_ms() - began_ms, 99, 5000);
    /* Half of a frame is out: nothing that follows it could be understood. */
    assert_int_equal(opb_lane_status(fixture->a), OPB_LATE);
    free(body);
}

static void
a_late_frame_of_which_nothing_was_written_can_be_sent_again(void **state)
{
    struct fixture *fixture = *state;
    uint8_t bytes[4096];

    /* Fill the socket to the last byte with what the lane knows nothing of. */
    memset(bytes, 0, sizeof(bytes));
    while (send(opb_lane_fd(fixture->a), bytes, sizeof(bytes), MSG_DONTWAIT) > 0) {
        continue;
    }
    while (send(opb_lane_fd(fixture->a), bytes, 1, MSG_DONTWAIT) > 0) {
        continue;
    }
    opb_begin_number(fixture->message, 1, 1);
    assert_int_equal(opb_lane_post(fixture->a, fixture->message), OPB_OK);
    opb_begin_number(fixture->message, 2, 2);
    assert_int_equal(opb_lane_send(fixture->a, fixture->message, opb_deadline_ms(50)),
                     OPB_LATE);
    assert_int_equal(opb_lane_status(fixture->a), OPB_OK);
    assert_true(opb_lane_has_posts(fixture->a));
    for (;;) {
        ssize_t count = recv(fixture->bare_fd, bytes, sizeof(bytes), MSG_DONTWAIT);

        if (count <= 0) {
            break;
        }
    }
    assert_int_equal(opb_lane_send(fixture->a, fixture->message, opb_deadline_ms(1000)),
                     OPB_OK);
    opb_read_all(fixture->bare_fd, bytes, 26);
    assert_memory_equal(bytes, "\0\0\0\x05\0\0\0\0\x93\x02\x01\x91\x01", 13);
    assert_memory_equal(bytes + 13, "\0\0\0\x05\0\0\0\0\x93\x02\x02\x91\x02", 13);
}

/* The message cannot be sent; in memory it can, and who waits for an answer learns it. */
static void
assert_gone(struct fixture *fixture)
{
    enum opb_status status = opb_lane_send(fixture->a, fixture->message, OPB_FOREVER);
    struct opb_frame *frame;

    if (opb_lane_has_memory(fixture->a)) {
        assert_int_equal(status, OPB_OK);
        status = opb_lane_receive(fixture->a, &frame, OPB_FOREVER);
    }
    assert_int_equal(status, OPB_GONE);
}

static void
writing_to_a_closed_peer_says_gone_and_raises_no_signal(void **state)
{
    struct fixture *fixture = *state;

    opb_lane_close(fixture->b);
    fixture->b = NULL;
    opb_begin_number(fixture->message, 1, 1);
    assert_gone(fixture);
    assert_int_equal(opb_lane_status(fixture->a), OPB_GONE);
    assert_string_not_equal(opb_lane_failure(fixture->a), "");
}

static void
posts_to_a_closed_peer_are_dropped_by_a_flush_and_the_owner_learns_it(void **state)
{
    struct fixture *fixture = *state;

    opb_begin_number(fixture->message, 1, 1);
    assert_int_equal(opb_lane_post(fixture->a, fixture->message), OPB_OK);
    opb_lane_close(fixture->b);
    fixture->b = NULL;
    opb_lane_flush(fixture->a);
    assert_false(opb_lane_has_posts(fixture->a));
    assert_gone(fixture);
}

struct shutter {
    struct opb_lane *lane;
    long after_ms;
};

static void
shut_down_later(void *context)
{
    struct shutter *shutter = context;

    sleep_ms(shutter->after_ms);
    opb_lane_shutdown(shutter->lane);
}

static void
a_shutdown_wakes_a_waiting_reader(void **state)
{
    struct fixture *fixture = *state;
    struct shutter shutter = {.lane = fixture->a, .after_ms = 50};
    struct opb_thread *thread = opb_thread_start(shut_down_later, &shutter);
    struct opb_frame *frame;

    assert_int_equal(opb_lane_receive(fixture->a, &frame, OPB_FOREVER), OPB_GONE);
    opb_thread_join(thread);
    assert_string_equal(opb_lane_failure(fixture->a),
                        "the connection was shut down on this side");
}

static void
a_shutdown_wakes_a_waiting_writer(void **state)
{
    struct fixture *fixture = *state;
    struct shutter shutter = {.lane = fixture->a, .after_ms = 50};
    struct opb_thread *thread = opb_thread_start(shut_down_later, &shutter);
    uint8_t *body = calloc(1, 16 * 1024 * 1024);

    assert_non_null(body);
    opb_message_begin_notify(fixture->message, 1, 1);
    opb_pack_bytes(fixture->message, body, 16 * 1024 * 1024);
    assert_int_equal(opb_lane_send(fixture->a, fixture->message, OPB_FOREVER), OPB_GONE);
    opb_thread_join(thread);
    free(body);
}

static void
the_first_failure_is_the_one_that_is_told(void **state)
{
    struct fixture *fixture = *state;

    opb_lane_fail(fixture->a, OPB_BAD_FRAME, "first");
    opb_lane_fail(fixture->a, OPB_GONE, "second");
    assert_int_equal(opb_lane_status(fixture->a), OPB_BAD_FRAME);
    assert_string_equal(opb_lane_failure(fixture->a), "first");
}

int
main(void)
{
    const struct CMUnitTest lane[] = {
        WITH_LANES(frames_arrive_in_order),
        WITH_LANES(descriptors_close_on_exec_and_block),
        OPB_TEST(opening_over_a_bad_descriptor_takes_nothing),
        WITH_BARE(posts_leave_with_the_next_frame_in_order_and_arrive_with_one_recv),
        OPB_TEST(posts_and_a_frame_are_one_packet),
        WITH_LANES(a_post_must_be_a_notification),
        WITH_LANES(large_posts_and_full_queues_are_written_at_once_in_order),
        WITH_LANES(an_empty_flush_does_nothing_and_a_flush_writes_what_waits),
        WITH_LANES(a_flush_never_waits_and_keeps_what_the_socket_does_not_take),
        WITH_LANES(flushes_of_another_thread_never_split_or_reorder_frames),
        WITH_BARE(writing_to_a_peer_that_does_not_read_is_late),
        WITH_BARE(a_late_frame_of_which_nothing_was_written_can_be_sent_again),
        WITH_LANES(writing_to_a_closed_peer_says_gone_and_raises_no_signal),
        WITH_LANES(posts_to_a_closed_peer_are_dropped_by_a_flush_and_the_owner_learns_it),
        WITH_LANES(a_shutdown_wakes_a_waiting_reader),
        WITH_LANES(a_shutdown_wakes_a_waiting_writer),
        WITH_LANES(the_first_failure_is_the_one_that_is_told),
    };

    return OPB_RUN(lane);
}
