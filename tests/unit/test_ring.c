/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/test_ring.c - see protocol/ring.h */
#include "tests/unit/support.h"

#include "protocol/limits.h"
#include "protocol/ring.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define HEAD_BYTES 4096u /* the page of the indices: see ring.c */

struct pair {
    struct opb_ring *a;
    struct opb_ring *b;
    uint8_t *raw; /* what a hostile peer can write to */
};

static int
make_pair(void **state)
{
    struct pair *pair = calloc(1, sizeof(*pair));
    int fd;

    assert_int_equal(opb_ring_create(&pair->a, &fd), OPB_OK);
    pair->raw = mmap(NULL, HEAD_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert_true(pair->raw != MAP_FAILED);
    assert_int_equal(opb_ring_map(&pair->b, &fd), OPB_OK);
    assert_int_equal(fd, -1);
    *state = pair;
    return 0;
}

static int
free_pair(void **state)
{
    struct pair *pair = *state;

    opb_ring_free(pair->a);
    opb_ring_free(pair->b);
    assert_int_equal(munmap(pair->raw, HEAD_BYTES), 0);
    free(pair);
    return 0;
}

static size_t
write_some(struct opb_ring *ring, const void *bytes, size_t byte_count)
{
    const struct iovec part = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = byte_count};
    size_t count;
    bool is_awaited;

    assert_int_equal(opb_ring_write(ring, &part, 1, &count, &is_awaited), OPB_OK);
    return count;
}

static size_t
read_some(struct opb_ring *ring, void *bytes, size_t capacity)
{
    size_t count;
    bool is_awaited;

    assert_int_equal(opb_ring_read(ring, bytes, capacity, &count, &is_awaited), OPB_OK);
    return count;
}

static void
bytes_arrive_in_both_directions(void **state)
{
    struct pair *pair = *state;
    char bytes[16];

    assert_false(opb_ring_has_data(pair->b));
    assert_int_equal(read_some(pair->b, bytes, sizeof(bytes)), 0);
    assert_int_equal(write_some(pair->a, "to b", 4), 4);
    assert_int_equal(write_some(pair->b, "to a!", 5), 5);
    assert_true(opb_ring_has_data(pair->b));
    assert_int_equal(read_some(pair->b, bytes, sizeof(bytes)), 4);
    assert_memory_equal(bytes, "to b", 4);
    assert_int_equal(read_some(pair->a, bytes, 2), 2);
    assert_int_equal(read_some(pair->a, bytes + 2, sizeof(bytes) - 2), 3);
    assert_memory_equal(bytes, "to a!", 5);
}

static void
bytes_keep_their_order_around_the_end_of_the_memory(void **state)
{
    struct pair *pair = *state;
    static uint8_t out[3 * OPB_RING_BYTES + 17];
    static uint8_t in[sizeof(out)];
    size_t written = 0;
    size_t read = 0;

    for (size_t i = 0; i < sizeof(out); i++) {
        out[i] = (uint8_t)(i * 31 + i / 251);
    }
    for (size_t step = 1; read < sizeof(in); step = step * 7 % 10007 + 1) {
        size_t left = sizeof(out) - written;

        written += write_some(pair->a, out + written, left < step ? left : step);
        read += read_some(pair->b, in + read, step % 977 + 1);
    }
    assert_memory_equal(in, out, sizeof(out));
}

static void
a_full_ring_takes_nothing_until_something_was_read(void **state)
{
    struct pair *pair = *state;
    uint8_t *bytes = calloc(1, OPB_RING_BYTES);
    size_t written = 0;
    size_t more;

    do {
        more = write_some(pair->a, bytes, OPB_RING_BYTES);
        written += more;
    } while (more > 0);
    assert_int_equal(written, OPB_RING_BYTES);
    assert_false(opb_ring_has_room(pair->a));
    assert_int_equal(read_some(pair->b, bytes, 10), 10);
    assert_true(opb_ring_has_room(pair->a));
    assert_int_equal(write_some(pair->a, bytes, 100), 10);
    free(bytes);
}

static void
an_empty_part_is_passed_over(void **state)
{
    struct pair *pair = *state;
    const struct iovec parts[] = {{.iov_base = NULL, .iov_len = 0},
                                  {.iov_base = (char[]){"ab"}, .iov_len = 2},
                                  {.iov_base = NULL, .iov_len = 0}};
    bool is_awaited;
    size_t count;

    assert_int_equal(opb_ring_write(pair->a, parts, 3, &count, &is_awaited), OPB_OK);
    assert_int_equal(count, 2);
}

static void
who_sleeps_is_to_be_woken_once(void **state)
{
    struct pair *pair = *state;
    const struct iovec part = {.iov_base = (char[]){"x"}, .iov_len = 1};
    bool is_awaited;
    size_t count;
    char byte;

    assert_int_equal(opb_ring_write(pair->a, &part, 1, &count, &is_awaited), OPB_OK);
    assert_false(is_awaited);
    opb_ring_await_data(pair->b, true);
    assert_int_equal(opb_ring_write(pair->a, &part, 1, &count, &is_awaited), OPB_OK);
    assert_true(is_awaited);
    assert_int_equal(opb_ring_write(pair->a, &part, 1, &count, &is_awaited), OPB_OK);
    assert_false(is_awaited);
    opb_ring_await_room(pair->a, true);
    assert_int_equal(opb_ring_read(pair->b, &byte, 1, &count, &is_awaited), OPB_OK);
    assert_true(is_awaited);
    assert_int_equal(opb_ring_read(pair->b, &byte, 1, &count, &is_awaited), OPB_OK);
    assert_false(is_awaited);
}

/* Every 32-bit number of the page that a peer can write to, in turn. */
static void
an_index_that_makes_no_sense_is_an_error_and_touches_nothing_else(void **state)
{
    struct pair *pair = *state;
    static const uint32_t odd[] = {OPB_RING_BYTES + 1, 0x7fffffff, 0x80000000, 0xffffffff};
    const struct iovec part = {.iov_base = (char[]){"x"}, .iov_len = 1};
    char *bytes = calloc(1, OPB_RING_BYTES);
    size_t refused = 0;

    /* so full that the next write looks what was read */
    for (size_t written = 0; written < OPB_RING_BYTES - 100;) {
        written += write_some(pair->a, bytes, OPB_RING_BYTES - 100 - written);
    }
    for (size_t at = 0; at < 1024; at += 4) {
        for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
            uint32_t before;
            enum opb_status status;
            bool is_awaited;
            size_t count;

            memcpy(&before, pair->raw + at, 4);
            memcpy(pair->raw + at, &odd[i], 4);
            status = opb_ring_read(pair->a, bytes, OPB_RING_BYTES, &count, &is_awaited);
            refused += status == OPB_BAD_FRAME;
            assert_true(status == OPB_BAD_FRAME || (status == OPB_OK && count == 0));
            status = opb_ring_write(pair->a, &part, 0, &count, &is_awaited);
            refused += status == OPB_BAD_FRAME;
            memcpy(pair->raw + at, &before, 4);
        }
    }
    /* Four of what b says to have written, and what b says to have read but for one: more
     * than was written by nearly 2^32 is little, and does no harm. */
    assert_int_equal(refused, 7);
    free(bytes);
}

static void
memory_that_could_be_made_smaller_is_refused(void **state)
{
    struct opb_ring *ring;
    int fd = memfd_create("soft", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    (void)state;
    assert_int_equal(ftruncate(fd, HEAD_BYTES + 2 * OPB_RING_BYTES), 0);
    assert_int_equal(opb_ring_map(&ring, &fd), OPB_BAD_FRAME);
    assert_null(ring);
    assert_int_equal(fd, -1);
}

static void
memory_of_another_size_is_refused(void **state)
{
    struct opb_ring *ring;
    int fd = memfd_create("small", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    (void)state;
    assert_int_equal(ftruncate(fd, HEAD_BYTES), 0);
    assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK), 0);
    assert_int_equal(opb_ring_map(&ring, &fd), OPB_BAD_FRAME);
}

static void
what_is_no_memory_is_refused(void **state)
{
    struct opb_ring *ring;
    int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

    (void)state;
    assert_int_equal(opb_ring_map(&ring, &fd), OPB_BAD_FRAME);
    assert_int_equal(fd, -1);
}

static void
the_maker_cannot_make_it_smaller_either(void **state)
{
    struct opb_ring *ring;
    int fd;

    (void)state;
    assert_int_equal(opb_ring_create(&ring, &fd), OPB_OK);
    assert_int_equal(ftruncate(fd, 0), -1);
    (void)close(fd);
    opb_ring_free(ring);
}

int
main(void)
{
#define WITH_PAIR(function) cmocka_unit_test_setup_teardown(function, make_pair, free_pair)
    const struct CMUnitTest ring[] = {
        WITH_PAIR(bytes_arrive_in_both_directions),
        WITH_PAIR(bytes_keep_their_order_around_the_end_of_the_memory),
        WITH_PAIR(a_full_ring_takes_nothing_until_something_was_read),
        WITH_PAIR(an_empty_part_is_passed_over),
        WITH_PAIR(who_sleeps_is_to_be_woken_once),
        WITH_PAIR(an_index_that_makes_no_sense_is_an_error_and_touches_nothing_else),
        OPB_TEST(memory_that_could_be_made_smaller_is_refused),
        OPB_TEST(memory_of_another_size_is_refused),
        OPB_TEST(what_is_no_memory_is_refused),
        OPB_TEST(the_maker_cannot_make_it_smaller_either),
    };

    return OPB_RUN(ring);
}
