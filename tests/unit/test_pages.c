/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/test_pages.c - see protocol/pages.h */
#include "tests/unit/support.h"

#include "protocol/pages.h"

#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define KIB ((size_t)1024)

static uint8_t *
fresh_memory(size_t bytes)
{
    void *memory =
        mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    assert_ptr_not_equal(memory, MAP_FAILED);
    return memory;
}

/* How many pages of it the kernel has provided. */
static size_t
pages_there(void *memory, size_t bytes)
{
    size_t page_bytes = (size_t)sysconf(_SC_PAGESIZE);
    unsigned char is_there[2048];
    size_t count = 0;

    assert_true(bytes / page_bytes <= sizeof(is_there));
    assert_int_equal(mincore(memory, bytes, is_there), 0);
    for (size_t i = 0; i < bytes / page_bytes; i++) {
        count += is_there[i] & 1u;
    }
    return count;
}

/* Linux before 5.14 does not know how. */
static bool
kernel_provides(void)
{
    uint8_t *memory = fresh_memory(64 * KIB);
    bool can = madvise(memory, 64 * KIB, MADV_POPULATE_WRITE) == 0;

    assert_int_equal(munmap(memory, 64 * KIB), 0);
    return can;
}

static void
fresh_pages_of_a_buffer_are_provided_at_once(void **state)
{
    size_t page_bytes = (size_t)sysconf(_SC_PAGESIZE);
    uint8_t *memory = fresh_memory(512 * KIB);

    (void)state;
    if (!kernel_provides()) {
        skip();
    }
    opb_pages_prepare(memory + 16, 512 * KIB - 32); /* behind a header of malloc() */
    assert_int_equal(pages_there(memory, 512 * KIB), 512 * KIB / page_bytes - 2);
    assert_int_equal(munmap(memory, 512 * KIB), 0);
}

static void
pages_that_are_there_keep_their_contents(void **state)
{
    size_t page_bytes = (size_t)sysconf(_SC_PAGESIZE);
    uint8_t *memory = fresh_memory(512 * KIB);

    (void)state;
    memset(memory, 7, 256 * KIB);
    memory[512 * KIB - 1] = 9;
    opb_pages_prepare(memory, 512 * KIB);
    for (size_t i = 0; i < 256 * KIB; i++) {
        assert_int_equal(memory[i], 7);
    }
    assert_int_equal(memory[256 * KIB], 0);
    assert_int_equal(memory[512 * KIB - 1], 9);
    if (kernel_provides()) {
        assert_int_equal(pages_there(memory, 512 * KIB), 512 * KIB / page_bytes);
    }
    assert_int_equal(munmap(memory, 512 * KIB), 0);
}

static void
small_and_large_memory_is_left_alone(void **state)
{
    uint8_t *memory = fresh_memory(4096 * KIB);

    (void)state;
    opb_pages_prepare(NULL, 512 * KIB);
    opb_pages_prepare(memory, 64 * KIB - 1);
    opb_pages_prepare(memory, 4096 * KIB);
    assert_int_equal(pages_there(memory, 4096 * KIB), 0);
    assert_int_equal(munmap(memory, 4096 * KIB), 0);
}

int
main(void)
{
    const struct CMUnitTest pages[] = {
        cmocka_unit_test(fresh_pages_of_a_buffer_are_provided_at_once),
        cmocka_unit_test(pages_that_are_there_keep_their_contents),
        cmocka_unit_test(small_and_large_memory_is_left_alone),
    };

    return OPB_RUN(pages);
}
