/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/test_blocks.c - see protocol/blocks.h */
#include "tests/unit/support.h"

#include "protocol/blocks.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

#define MIB ((size_t)1024 * 1024)

static int
forget_blocks(void **state)
{
    (void)state;
    opb_blocks_fini();
    return 0;
}

static long
faults_of_filling(void *memory, size_t bytes)
{
    struct rusage before;
    struct rusage after;

    assert_int_equal(getrusage(RUSAGE_SELF, &before), 0);
    memset(memory, 1, bytes);
    assert_int_equal(getrusage(RUSAGE_SELF, &after), 0);
    return after.ru_minflt - before.ru_minflt;
}

/* Whether all of it is mapped. */
static bool
is_mapped(void *memory, size_t bytes)
{
    return msync(memory, bytes, MS_ASYNC) == 0;
}

static void
a_large_block_is_filled_again_without_page_faults(void **state)
{
    uint8_t *first = opb_block_alloc(50 * MIB);
    long faults;

    (void)state;
    assert_non_null(first);
    faults = faults_of_filling(first, 50 * MIB);
    assert_true(faults >= 25); /* one for each large page, where there are any */
    opb_block_free(first);
    assert_int_equal(opb_blocks_idle(), 1);
    assert_ptr_equal(opb_block_alloc(50 * MIB - 17), first);
    assert_int_equal(opb_blocks_idle(), 0);
    assert_true(faults_of_filling(first, 50 * MIB - 17) < 25);
    opb_block_free(first);
}

static void
small_memory_is_that_of_malloc(void **state)
{
    void *memory = opb_block_alloc(MIB);
    void *other = malloc(MIB);

    (void)state;
    assert_non_null(memory);
    free(memory);
    opb_block_free(other);
    opb_block_free(NULL);
    assert_int_equal(opb_blocks_idle(), 0);
}

static void
no_more_than_two_blocks_are_kept_and_none_that_is_very_large(void **state)
{
    void *memory[4];

    (void)state;
    for (size_t i = 0; i < 4; i++) {
        memory[i] = opb_block_alloc(8 * MIB);
        assert_non_null(memory[i]);
        memset(memory[i], (int)i, 8 * MIB);
    }
    for (size_t i = 0; i < 4; i++) {
        for (size_t byte = 0; byte < 8 * MIB; byte += 4095) {
            assert_int_equal(((uint8_t *)memory[i])[byte], i); /* each is one's own */
        }
        opb_block_free(memory[i]);
    }
    assert_int_equal(opb_blocks_idle(), 2);
    assert_false(is_mapped(memory[0], 8 * MIB)); /* the first ones have gone */
    assert_false(is_mapped(memory[1], 8 * MIB));
    assert_true(is_mapped(memory[3], 8 * MIB));
    opb_blocks_fini();
    memory[0] = opb_block_alloc(65 * MIB);
    assert_non_null(memory[0]);
    opb_block_free(memory[0]);
    assert_int_equal(opb_blocks_idle(), 0);
    assert_false(is_mapped(memory[0], 65 * MIB));
}

static void
a_block_is_not_wasted_on_what_is_much_smaller(void **state)
{
    void *large = opb_block_alloc(50 * MIB);
    void *small;

    (void)state;
    opb_block_free(large);
    small = opb_block_alloc(5 * MIB);
    assert_non_null(small);
    assert_int_equal(opb_blocks_idle(), 1);
    opb_block_free(small);
    assert_int_equal(opb_blocks_idle(), 2);
    assert_ptr_equal(opb_block_alloc(6 * MIB), small); /* the one that fits */
    opb_block_free(small);
}

static void
the_end_leaves_blocks_that_are_in_use(void **state)
{
    uint8_t *used = opb_block_alloc(8 * MIB);
    void *idle = opb_block_alloc(8 * MIB);

    (void)state;
    opb_block_free(idle);
    opb_blocks_fini();
    assert_int_equal(opb_blocks_idle(), 0);
    assert_false(is_mapped(idle, 8 * MIB));
    memset(used, 7, 8 * MIB);
    opb_block_free(used);
    assert_int_equal(opb_blocks_idle(), 1);
}

static void
what_nobody_can_have_is_refused(void **state)
{
    (void)state;
    assert_null(opb_block_alloc(SIZE_MAX - 5));
    assert_null(opb_block_alloc(SIZE_MAX / 2 - 5));
}

static void
take_and_give(void *argument)
{
    uint8_t mark = (uint8_t)(uintptr_t)argument;

    for (size_t i = 0; i < 100; i++) {
        size_t bytes = (4 + (i * mark) % 7) * MIB;
        uint8_t *memory = opb_block_alloc(bytes);

        assert_non_null(memory);
        memory[0] = memory[bytes - 1] = mark;
        assert_int_equal(memory[0], mark);
        assert_int_equal(memory[bytes - 1], mark);
        opb_block_free(memory);
    }
}

static void
many_threads_can_use_blocks(void **state)
{
    struct opb_thread *threads[4];

    (void)state;
    for (uintptr_t i = 0; i < 4; i++) {
        threads[i] = opb_thread_start(take_and_give, (void *)(i + 1));
    }
    for (size_t i = 0; i < 4; i++) {
        opb_thread_join(threads[i]);
    }
    assert_true(opb_blocks_idle() <= 2);
}

int
main(void)
{
#define TEST(function) cmocka_unit_test_teardown(function, forget_blocks)
    const struct CMUnitTest blocks[] = {
        TEST(a_large_block_is_filled_again_without_page_faults),
        TEST(small_memory_is_that_of_malloc),
        TEST(no_more_than_two_blocks_are_kept_and_none_that_is_very_large),
        TEST(a_block_is_not_wasted_on_what_is_much_smaller),
        TEST(the_end_leaves_blocks_that_are_in_use),
        TEST(many_threads_can_use_blocks),
        TEST(what_nobody_can_have_is_refused),
    };

    return OPB_RUN(blocks);
}
