/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/test_offer.c - see protocol/offer.c, and stream.c for what follows from it */
#include "tests/unit/lane_fixture.h"

#include "protocol/handshake.h"
#include "protocol/internal.h"
#include "protocol/limits.h"
#include "protocol/ring.h"
#include "protocol/sockets.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define LARGE_BYTES (5u * 1024u * 1024u + 3u)

/* a opens the lane and b has accepted it. */
static void
shake_hands(struct fixture *fixture)
{
    uint32_t version;

    assert_int_equal(opb_welcome_send(fixture->b, OPB_FOREVER), OPB_OK);
    assert_int_equal(opb_welcome_receive(fixture->a, &version, opb_deadline_ms(5000)),
                     OPB_OK);
}

static void
send_number(struct opb_lane *lane, struct opb_message *message, uint32_t method,
            uint64_t number)
{
    opb_begin_number(message, method, number);
    assert_int_equal(opb_lane_send(lane, message, opb_deadline_ms(5000)), OPB_OK);
}

static void
share(struct fixture *fixture)
{
    opb_lane_want_memory(fixture->a);
    opb_lane_offer_memory(fixture->b);
    shake_hands(fixture);
    assert_true(opb_lane_has_memory(fixture->a));
    send_number(fixture->a, fixture->message, 1, 10);
    opb_assert_number(fixture->b, 1, 10);
    assert_true(opb_lane_has_memory(fixture->b));
}

static int
make_shared(void **state)
{
    if (opb_fixture_lanes(state) != 0) {
        return -1;
    }
    share(*state);
    return 0;
}

#define WITH_MEMORY(function)                                                              \
    cmocka_unit_test_setup_teardown(function, make_shared, opb_fixture_free)

static void
frames_go_both_ways_without_the_socket(void **state)
{
    struct fixture *fixture = *state;
    char byte;

    send_number(fixture->a, fixture->message, 2, 20);
    assert_int_equal(recv(opb_lane_fd(fixture->b), &byte, 1, MSG_PEEK | MSG_DONTWAIT), -1);
    opb_assert_number(fixture->b, 2, 20);
    send_number(fixture->b, fixture->message, 3, 30);
    opb_assert_number(fixture->a, 3, 30);
}

static void
an_offer_that_is_not_wanted_leaves_the_socket(void **state)
{
    struct fixture *fixture = *state;

    opb_lane_offer_memory(fixture->b);
    shake_hands(fixture);
    send_number(fixture->a, fixture->message, 2, 20);
    opb_assert_number(fixture->b, 2, 20);
    assert_false(opb_lane_has_memory(fixture->a));
    assert_false(opb_lane_has_memory(fixture->b));
    send_number(fixture->b, fixture->message, 3, 30);
    opb_assert_number(fixture->a, 3, 30);
}

static void
who_wants_memory_and_gets_none_stays_with_the_socket(void **state)
{
    struct fixture *fixture = *state;

    opb_lane_want_memory(fixture->a);
    shake_hands(fixture);
    assert_false(opb_lane_has_memory(fixture->a));
    send_number(fixture->a, fixture->message, 2, 20);
    opb_assert_number(fixture->b, 2, 20);
}

static void
a_descriptor_that_is_no_memory_is_closed_and_the_socket_stays(void **state)
{
    struct fixture *fixture = *state;

    opb_lane_want_memory(fixture->a);
    fixture->b->offer_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    shake_hands(fixture);
    assert_false(opb_lane_has_memory(fixture->a));
    send_number(fixture->a, fixture->message, 2, 20);
    opb_assert_number(fixture->b, 2, 20);
}

/* The padding of a control message for one descriptor has room for a second one. */
static void
a_second_descriptor_is_closed(void **state)
{
    struct fixture *fixture = *state;
    int before = open("/dev/null", O_RDWR | O_CLOEXEC);
    int fds[2] = {dup(before), dup(before)};
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(fds))];
    } control = {.bytes = {0}};
    struct iovec part = {.iov_base = (char[]){'x'}, .iov_len = 1};
    struct msghdr header = {.msg_iov = &part,
                            .msg_iovlen = 1,
                            .msg_control = &control,
                            .msg_controllen = sizeof(control)};
    struct cmsghdr *item = CMSG_FIRSTHDR(&header);
    char byte;

    item->cmsg_level = SOL_SOCKET;
    item->cmsg_type = SCM_RIGHTS;
    item->cmsg_len = CMSG_LEN(sizeof(fds));
    memcpy(CMSG_DATA(item), fds, sizeof(fds));
    for (int i = 0; i < 20; i++) {
        assert_int_equal(sendmsg(opb_lane_fd(fixture->b), &header, 0), 1);
        assert_int_equal(opb_offer_receive(fixture->a, &byte, 1, 0), 1);
    }
    assert_true(fixture->a->taken_fd >= 0);
    (void)close(fds[0]);
    (void)close(fds[1]);
    fds[0] = dup(before);
    assert_true(fds[0] <= before + 3); /* none of the forty is left, but for the last */
    (void)close(fds[0]);
    (void)close(before);
}

static void
no_memory_is_offered_over_tcp(void **state)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct opb_lane *lane;

    (void)state;
    assert_int_equal(opb_lane_open(&lane, &fd, &opb_segment_malloc), OPB_OK);
    opb_lane_offer_memory(lane);
    assert_null(lane->offered);
    opb_lane_close(lane);
}

static void
write_large(void *context)
{
    struct fixture *fixture = context;
    uint8_t *bytes = malloc(LARGE_BYTES);

    for (size_t i = 0; i < LARGE_BYTES; i++) {
        bytes[i] = (uint8_t)(i * 7 + i / 255);
    }
    opb_message_begin_notify(fixture->message, 4, 1);
    opb_pack_bytes(fixture->message, bytes, LARGE_BYTES);
    assert_int_equal(opb_lane_send(fixture->a, fixture->message, opb_deadline_ms(10000)),
                     OPB_OK);
    free(bytes);
}

static void
what_is_larger_than_the_memory_goes_through_it(void **state)
{
    struct fixture *fixture = *state;
    struct opb_thread *writer = opb_thread_start(write_large, fixture);
    struct opb_reader reader;
    struct opb_frame *frame;
    const uint8_t *bytes;
    size_t count;

    assert_int_equal(opb_lane_receive(fixture->b, &frame, opb_deadline_ms(10000)), OPB_OK);
    opb_frame_params(frame, &reader);
    bytes = opb_read_bytes(&reader, &count);
    assert_int_equal(count, LARGE_BYTES);
    for (size_t i = 0; i < LARGE_BYTES; i++) {
        if (bytes[i] != (uint8_t)(i * 7 + i / 255)) {
            fail_msg("byte %zu differs", i);
        }
    }
    opb_frame_free(frame);
    opb_thread_join(writer);
}

/* Sleeps in receive, forever or until a deadline, and gets what comes. */
static void
answer_later(void *context)
{
    struct fixture *fixture = context;
    struct opb_message *message = opb_message_new();

    for (uint64_t i = 0; i < 200; i++) {
        opb_assert_number(fixture->b, 5, i);
        if (i % 10 == 0) {
            opb_begin_number(message, 6, i);
            assert_int_equal(opb_lane_send(fixture->b, message, OPB_FOREVER), OPB_OK);
        }
    }
    opb_message_free(message);
}

static void
a_sleeping_reader_is_woken(void **state)
{
    struct fixture *fixture = *state;
    struct opb_thread *reader = opb_thread_start(answer_later, fixture);

    for (uint64_t i = 0; i < 200; i++) {
        send_number(fixture->a, fixture->message, 5, i);
        if (i % 10 == 0) {
            opb_assert_number(fixture->a, 6, i);
        }
    }
    opb_thread_join(reader);
}

static void
a_reader_without_anything_to_read_is_late(void **state)
{
    struct fixture *fixture = *state;
    struct opb_frame *frame;

    assert_int_equal(opb_lane_receive(fixture->b, &frame, opb_deadline_ms(20)), OPB_LATE);
    send_number(fixture->a, fixture->message, 2, 20);
    opb_assert_number(fixture->b, 2, 20);
}

static void
a_writer_whose_peer_does_not_read_is_late(void **state)
{
    struct fixture *fixture = *state;
    uint8_t *bytes = calloc(1, LARGE_BYTES);

    opb_message_begin_notify(fixture->message, 4, 1);
    opb_pack_bytes(fixture->message, bytes, LARGE_BYTES);
    assert_int_equal(opb_lane_send(fixture->a, fixture->message, opb_deadline_ms(50)),
                     OPB_LATE);
    assert_int_equal(opb_lane_status(fixture->a), OPB_LATE);
    free(bytes);
}

static void
what_a_peer_wrote_before_it_left_is_read(void **state)
{
    struct fixture *fixture = *state;
    struct opb_frame *frame;

    send_number(fixture->a, fixture->message, 2, 20);
    opb_lane_close(fixture->a);
    fixture->a = NULL;
    opb_assert_number(fixture->b, 2, 20);
    assert_int_equal(opb_lane_receive(fixture->b, &frame, OPB_FOREVER), OPB_GONE);
}

static void
wait_forever(void *context)
{
    struct opb_frame *frame;

    assert_int_equal(opb_lane_receive(context, &frame, OPB_FOREVER), OPB_GONE);
}

static void
a_shutdown_wakes_the_reader(void **state)
{
    struct fixture *fixture = *state;
    struct opb_thread *reader = opb_thread_start(wait_forever, fixture->b);

    opb_lane_shutdown(fixture->b);
    opb_thread_join(reader);
}

/* How often it looks at all, of so many times, while nothing comes. */
static unsigned
looks_in_vain(struct opb_lane *lane, unsigned times)
{
    unsigned looks = 0;

    for (unsigned i = 0; i < times; i++) {
        looks += lane->linger.to_skip == 0;
        opb_stream_linger(lane);
    }
    return looks;
}

static void
who_looks_in_vain_looks_less_often(void **state)
{
    struct fixture *fixture = *state;

    /* after 1, 3, 7, 15 that are left out; fewer where others need the core */
    assert_in_range(looks_in_vain(fixture->a, 100), 2, 9);
}

static void
who_finds_something_looks_each_time_again(void **state)
{
    struct fixture *fixture = *state;

    (void)looks_in_vain(fixture->a, 100);
    send_number(fixture->b, fixture->message, 2, 20);
    for (unsigned i = 0; i < 300 && fixture->a->linger.skipped > 0; i++) {
        opb_stream_linger(fixture->a);
    }
    assert_int_equal(fixture->a->linger.skipped, 0);
    assert_int_equal(fixture->a->linger.to_skip, 0);
    opb_assert_number(fixture->a, 2, 20);
}

static void
who_finds_something_before_it_yields_looks_for_longer(void **state)
{
    struct fixture *fixture = *state;

    fixture->a->looks = 0;
    send_number(fixture->b, fixture->message, 2, 20);
    for (unsigned looks = 16; looks <= 128; looks *= 2) {
        opb_stream_linger(fixture->a);
        assert_int_equal(fixture->a->looks, looks);
    }
    opb_stream_linger(fixture->a);
    assert_int_equal(fixture->a->looks, 128); /* no longer than that */
    opb_assert_number(fixture->a, 2, 20);
}

static void
looking_ends_where_nothing_comes(void **state)
{
    struct fixture *fixture = *state;
    struct opb_frame *response;
    uint64_t begin_ms = opb_clock_ms();

    opb_lane_expect_prompt(fixture->a);
    opb_message_begin_request(fixture->message, 2, 0);
    assert_int_equal(opb_exchange(fixture->a, fixture->message, NULL, NULL,
                                  opb_deadline_ms(20), &response),
                     OPB_LATE);
    assert_true(opb_clock_ms() - begin_ms >= 20);
}

static void
a_shutdown_ends_the_reading_of_a_peer_that_goes_on(void **state)
{
    struct fixture *fixture = *state;
    const struct iovec part = {
        .iov_base = (char[]){"\0\0\0\x05\0\0\0\0\x93\x02\x01\x91\x01"}, .iov_len = 13};
    enum opb_status status;
    uint64_t count = 0;

    opb_lane_shutdown(fixture->b);
    do {
        struct opb_frame *frame;
        bool is_awaited;
        size_t written;

        /* As a peer that does not look at its socket. */
        assert_int_equal(opb_ring_write(fixture->a->ring, &part, 1, &written, &is_awaited),
                         OPB_OK);
        status = opb_lane_receive(fixture->b, &frame, OPB_FOREVER);
        opb_frame_free(frame);
        count++;
    } while (status == OPB_OK);
    assert_int_equal(status, OPB_GONE);
    assert_in_range(count, 2, OPB_RING_BYTES / 13 + 2);
}

static void
what_was_written_before_a_shutdown_is_read(void **state)
{
    struct fixture *fixture = *state;
    struct opb_frame *frame;

    send_number(fixture->a, fixture->message, 2, 20);
    opb_lane_shutdown(fixture->b);
    opb_assert_number(fixture->b, 2, 20);
    assert_int_equal(opb_lane_receive(fixture->b, &frame, OPB_FOREVER), OPB_GONE);
}

static void
an_idle_lane_is_not_stale_and_one_that_was_left_is(void **state)
{
    struct fixture *fixture = *state;

    assert_false(opb_lane_is_stale(fixture->b));
    (void)send(opb_lane_fd(fixture->a), "", 1, MSG_NOSIGNAL); /* a wake that came late */
    assert_false(opb_lane_is_stale(fixture->b));
    send_number(fixture->a, fixture->message, 2, 20);
    assert_true(opb_lane_is_stale(fixture->b));
    opb_assert_number(fixture->b, 2, 20);
    opb_lane_close(fixture->a);
    fixture->a = NULL;
    assert_true(opb_lane_is_stale(fixture->b));
}

/* A peer that writes anything into the memory breaks the lane and nothing else. */
static void
what_is_no_frame_fails_the_lane(void **state)
{
    struct fixture *fixture = *state;
    const struct iovec part = {.iov_base = (char[]){"garbage!garbage!"}, .iov_len = 16};
    struct opb_frame *frame;
    bool is_awaited;
    size_t count;

    assert_int_equal(opb_ring_write(fixture->a->ring, &part, 1, &count, &is_awaited),
                     OPB_OK);
    assert_int_equal(opb_lane_receive(fixture->b, &frame, opb_deadline_ms(1000)),
                     OPB_BAD_FRAME);
    assert_int_equal(opb_lane_status(fixture->b), OPB_BAD_FRAME);
}

/* Until the other end is closed. */
static void
wake_for_nothing(void *context)
{
    static const char wakes[4096];

    while (send((int)(intptr_t)context, wakes, sizeof(wakes), MSG_NOSIGNAL) > 0) {
    }
}

static void
a_peer_that_wakes_without_end_holds_nobody_up(void **state)
{
    struct fixture *fixture = *state;
    int fd = dup(opb_lane_fd(fixture->b));
    struct opb_thread *thread = opb_thread_start(wake_for_nothing, (void *)(intptr_t)fd);
    struct opb_frame *frame;

    assert_int_equal(opb_lane_receive(fixture->a, &frame, opb_deadline_ms(200)), OPB_LATE);
    opb_lane_shutdown(fixture->a);
    opb_thread_join(thread);
    (void)close(fd);
}

static void
a_lane_with_more_wakes_than_there_can_be_is_not_quiet(void **state)
{
    static const char wakes[8192];
    struct fixture *fixture = *state;

    assert_int_equal(send(opb_lane_fd(fixture->b), wakes, 100, MSG_NOSIGNAL), 100);
    assert_true(opb_stream_is_quiet(fixture->a));
    assert_int_equal(send(opb_lane_fd(fixture->b), wakes, sizeof(wakes), MSG_NOSIGNAL),
                     sizeof(wakes));
    assert_false(opb_stream_is_quiet(fixture->a));
}

/* In the child there is no such memory: to touch it would end the process. */
static void
a_forked_child_leaves_the_lane_alone(void **state)
{
    struct fixture *fixture = *state;
    int status;
    pid_t pid;

    pid = fork();
    if (pid == 0) {
        opb_lane_orphan(fixture->a);
        opb_begin_number(fixture->message, 2, 99);
        (void)close(opb_lane_fd(fixture->a));
        opb_lane_flush(fixture->a);
        _exit(opb_lane_send(fixture->a, fixture->message, OPB_FOREVER) == OPB_OK);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    send_number(fixture->a, fixture->message, 2, 20);
    opb_assert_number(fixture->b, 2, 20);
}

int
main(void)
{
    const struct CMUnitTest offer[] = {
        WITH_MEMORY(frames_go_both_ways_without_the_socket),
        WITH_LANES(an_offer_that_is_not_wanted_leaves_the_socket),
        WITH_LANES(who_wants_memory_and_gets_none_stays_with_the_socket),
        WITH_LANES(a_descriptor_that_is_no_memory_is_closed_and_the_socket_stays),
        WITH_LANES(a_second_descriptor_is_closed),
        OPB_TEST(no_memory_is_offered_over_tcp),
        WITH_MEMORY(what_is_larger_than_the_memory_goes_through_it),
        WITH_MEMORY(a_sleeping_reader_is_woken),
        WITH_MEMORY(a_reader_without_anything_to_read_is_late),
        WITH_MEMORY(a_writer_whose_peer_does_not_read_is_late),
        WITH_MEMORY(a_peer_that_wakes_without_end_holds_nobody_up),
        WITH_MEMORY(a_lane_with_more_wakes_than_there_can_be_is_not_quiet),
        WITH_MEMORY(what_a_peer_wrote_before_it_left_is_read),
        WITH_MEMORY(a_shutdown_wakes_the_reader),
        WITH_MEMORY(who_looks_in_vain_looks_less_often),
        WITH_MEMORY(who_finds_something_looks_each_time_again),
        WITH_MEMORY(who_finds_something_before_it_yields_looks_for_longer),
        WITH_MEMORY(looking_ends_where_nothing_comes),
        WITH_MEMORY(a_shutdown_ends_the_reading_of_a_peer_that_goes_on),
        WITH_MEMORY(what_was_written_before_a_shutdown_is_read),
        WITH_MEMORY(an_idle_lane_is_not_stale_and_one_that_was_left_is),
        WITH_MEMORY(what_is_no_frame_fails_the_lane),
        WITH_MEMORY(a_forked_child_leaves_the_lane_alone),
    };

    return OPB_RUN(offer);
}
