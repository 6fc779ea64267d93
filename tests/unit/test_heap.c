/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/test_heap.c - see plugin/heap.h */
#include "tests/unit/support.h"

#include "plugin/heap.h"

#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#define IMAGE_BYTES ((size_t)512 * 1024)
#define IMAGE_COUNT 4u

/* Page faults of some images that are there at the same time, and are freed. */
static long
faults_of_images(void)
{
    void *images[IMAGE_COUNT];
    struct rusage before;
    struct rusage after;

    assert_int_equal(getrusage(RUSAGE_SELF, &before), 0);
    for (unsigned i = 0; i < IMAGE_COUNT; i++) {
        images[i] = malloc(IMAGE_BYTES);
        assert_non_null(images[i]);
        memset(images[i], 1, IMAGE_BYTES);
    }
    for (unsigned i = 0; i < IMAGE_COUNT; i++) {
        free(images[i]);
    }
    assert_int_equal(getrusage(RUSAGE_SELF, &after), 0);
    return after.ru_minflt - before.ru_minflt;
}

/* Without the lesson each set costs 512 faults, again and again. */
static void
images_find_the_memory_of_those_before_them(void **state)
{
    (void)state;
    if (OPB_IS_SANITIZED) {
        skip(); /* another allocator */
    }
    opb_heap_teach();
    (void)faults_of_images();
    assert_true(faults_of_images() < 20);
}

int
main(void)
{
    const struct CMUnitTest heap[] = {
        cmocka_unit_test(images_find_the_memory_of_those_before_them),
    };

    return OPB_RUN(heap);
}
