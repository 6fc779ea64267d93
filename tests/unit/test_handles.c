/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/test_handles.c - numbers for SDK objects */
#include "plugin_support.h"

#include "plugin/handles.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

static atomic_uint freed_count;

/* An owned image of these tests is malloc'ed memory. */
static OrthancPluginErrorCode
free_image(const void *params)
{
    const _OrthancPluginFreeImage *image = params;

    free(image->image);
    atomic_fetch_add(&freed_count, 1);
    return OrthancPluginErrorCode_Success;
}

static int
make_handles(void **state)
{
    struct opb_handles *handles = NULL;

    fake_orthanc_reset();
    fake_on(_OrthancPluginService_FreeImage, free_image);
    atomic_store(&freed_count, 0);
    *state = NULL;
    if (opb_handles_new(&handles) != OPB_OK) {
        return -1;
    }
    *state = handles;
    return 0;
}

static int
free_handles(void **state)
{
    (void)opb_handles_free(*state, fake_orthanc()); /* some tests leave a lent one */
    return 0;
}

static void
handle_names_its_object_until_it_ends(void **state)
{
    struct opb_handles *handles = *state;
    int object = 0;
    uint64_t handle = opb_handle_lend(handles, OPB_CLASS_RestOutput, &object);

    assert_true(handle != 0);
    assert_int_equal(opb_handles_count(handles), 1);
    assert_ptr_equal(opb_handle_pin(handles, handle, OPB_CLASS_RestOutput), &object);
    opb_handle_unpin(handles, handle);
    opb_handle_end(handles, handle);
    assert_null(opb_handle_pin(handles, handle, OPB_CLASS_RestOutput));
    assert_int_equal(opb_handles_count(handles), 0);
    opb_handle_end(handles, handle); /* a second time does nothing */
    opb_handle_end(handles, 0);
}

static void
handle_of_another_class_or_made_up_names_nothing(void **state)
{
    struct opb_handles *handles = *state;
    int object = 0;
    uint64_t handle = opb_handle_lend(handles, OPB_CLASS_RestOutput, &object);

    assert_null(opb_handle_pin(handles, handle, OPB_CLASS_DicomInstance));
    assert_null(
        opb_handle_pin(handles, handle ^ (UINT64_C(1) << 40), OPB_CLASS_RestOutput));
    assert_null(opb_handle_pin(handles, handle + 1, OPB_CLASS_RestOutput));
    assert_null(opb_handle_pin(handles, 0, OPB_CLASS_RestOutput));
    assert_null(opb_handle_pin(handles, UINT64_MAX, OPB_CLASS_RestOutput));
    assert_false(opb_handle_release(handles, handle, fake_orthanc())); /* lent, not owned */
    assert_int_equal(opb_handle_lend(handles, OPB_CLASS_RestOutput, NULL), 0);
    opb_handle_end(handles, handle);
}

static void
slot_used_again_has_another_number(void **state)
{
    struct opb_handles *handles = *state;
    int object = 0;
    uint64_t first = opb_handle_lend(handles, OPB_CLASS_RestOutput, &object);
    uint64_t second;

    opb_handle_end(handles, first);
    second = opb_handle_lend(handles, OPB_CLASS_RestOutput, &object);
    assert_int_equal(first & 0xfffff, second & 0xfffff);
    assert_true(first != second);
    assert_null(opb_handle_pin(handles, first, OPB_CLASS_RestOutput));
    opb_handle_end(handles, second);
}

static void
owned_object_is_freed_once(void **state)
{
    struct opb_handles *handles = *state;
    uint64_t handle = opb_handle_own(handles, OPB_CLASS_Image, malloc(1));

    assert_true(opb_handle_release(handles, handle, fake_orthanc()));
    assert_int_equal(atomic_load(&freed_count), 1);
    assert_false(opb_handle_release(handles, handle, fake_orthanc()));
    assert_int_equal(atomic_load(&freed_count), 1);
}

static void
object_released_while_in_use_is_freed_afterwards(void **state)
{
    struct opb_handles *handles = *state;
    uint64_t handle = opb_handle_own(handles, OPB_CLASS_Image, malloc(1));

    assert_non_null(opb_handle_pin(handles, handle, OPB_CLASS_Image));
    assert_non_null(opb_handle_pin(handles, handle, OPB_CLASS_Image)); /* the same thread */
    assert_true(opb_handle_release(handles, handle, fake_orthanc()));
    assert_null(opb_handle_pin(handles, handle, OPB_CLASS_Image));
    opb_handle_unpin(handles, handle);
    assert_int_equal(atomic_load(&freed_count), 0);
    opb_handle_unpin(handles, handle);
    assert_int_equal(atomic_load(&freed_count), 1);
    assert_int_equal(opb_handles_count(handles), 0);
}

static void
table_frees_what_the_host_left_and_counts_what_is_lent(void **state)
{
    struct opb_handles *handles = NULL;
    int lent = 0;

    (void)state;
    assert_int_equal(opb_handles_new(&handles), OPB_OK);
    for (int i = 0; i < 200; i++) {
        assert_true(opb_handle_own(handles, OPB_CLASS_Image, malloc(1)) != 0);
    }
    (void)opb_handle_lend(handles, OPB_CLASS_RestOutput, &lent);
    assert_int_equal(opb_handles_free(handles, fake_orthanc()), 1);
    assert_int_equal(atomic_load(&freed_count), 200);
}

static void
mark_stays_with_the_handle(void **state)
{
    struct opb_handles *handles = *state;
    int object = 0;
    uint64_t handle = opb_handle_lend(handles, OPB_CLASS_RestOutput, &object);

    assert_false(opb_handle_is_marked(handles, handle));
    opb_handle_mark(handles, handle);
    assert_true(opb_handle_is_marked(handles, handle));
    opb_handle_end(handles, handle);
    assert_false(opb_handle_is_marked(handles, handle));
    opb_handle_mark(handles, handle);
    handle = opb_handle_lend(handles, OPB_CLASS_RestOutput, &object);
    assert_false(opb_handle_is_marked(handles, handle));
    opb_handle_end(handles, handle);
}

struct user {
    struct opb_handles *handles;
    uint64_t handle;
    atomic_bool is_pinned, may_unpin, has_unpinned;
};

static void
pause_ms(long ms)
{
    nanosleep(&(struct timespec){.tv_nsec = ms * 1000000L}, NULL);
}

static void
use_for_a_while(void *context)
{
    struct user *user = context;

    assert_non_null(opb_handle_pin(user->handles, user->handle, OPB_CLASS_RestOutput));
    atomic_store(&user->is_pinned, true);
    while (!atomic_load(&user->may_unpin)) {
        pause_ms(1);
    }
    pause_ms(50);
    atomic_store(&user->has_unpinned, true);
    opb_handle_unpin(user->handles, user->handle);
}

static struct opb_thread *
start_user(struct user *user)
{
    struct opb_thread *thread = opb_thread_start(use_for_a_while, user);

    while (!atomic_load(&user->is_pinned)) {
        pause_ms(1);
    }
    return thread;
}

static void
end_waits_for_the_sdk_call_of_another_thread(void **state)
{
    int object = 0;
    struct user user = {.handles = *state,
                        .handle = opb_handle_lend(*state, OPB_CLASS_RestOutput, &object)};
    struct opb_thread *thread = start_user(&user);

    atomic_store(&user.may_unpin, true);
    opb_handle_end(user.handles, user.handle);
    assert_true(atomic_load(&user.has_unpinned));
    opb_thread_join(thread);
}

static void
pin_waits_for_the_sdk_call_of_another_thread(void **state)
{
    int object = 0;
    struct user user = {.handles = *state,
                        .handle = opb_handle_lend(*state, OPB_CLASS_RestOutput, &object)};
    struct opb_thread *thread = start_user(&user);

    atomic_store(&user.may_unpin, true);
    assert_ptr_equal(opb_handle_pin(user.handles, user.handle, OPB_CLASS_RestOutput),
                     &object);
    assert_true(atomic_load(&user.has_unpinned));
    opb_handle_unpin(user.handles, user.handle);
    opb_thread_join(thread);
    opb_handle_end(user.handles, user.handle);
}

static void
end_within_its_own_sdk_call_does_not_wait_for_itself(void **state)
{
    struct opb_handles *handles = *state;
    int object = 0;
    uint64_t handle = opb_handle_lend(handles, OPB_CLASS_RestOutput, &object);

    assert_non_null(opb_handle_pin(handles, handle, OPB_CLASS_RestOutput));
    opb_handle_end(handles, handle);
    opb_handle_unpin(handles, handle);
    assert_int_equal(opb_handles_count(handles), 0);
}

struct torture {
    struct opb_handles *handles;
    uint64_t shared;
    int object;
};

static void
torture(void *context)
{
    struct torture *torture = context;

    for (int i = 0; i < 500; i++) {
        int mine = 0;
        uint64_t lent = opb_handle_lend(torture->handles, OPB_CLASS_RestOutput, &mine);
        uint64_t owned = opb_handle_own(torture->handles, OPB_CLASS_Image, malloc(1));

        assert_ptr_equal(
            opb_handle_pin(torture->handles, torture->shared, OPB_CLASS_DicomInstance),
            &torture->object);
        torture->object++; /* one at a time */
        opb_handle_unpin(torture->handles, torture->shared);
        assert_ptr_equal(opb_handle_pin(torture->handles, lent, OPB_CLASS_RestOutput),
                         &mine);
        opb_handle_unpin(torture->handles, lent);
        opb_handle_end(torture->handles, lent);
        assert_true(opb_handle_release(torture->handles, owned, fake_orthanc()));
    }
}

static void
many_threads_use_one_table(void **state)
{
    struct torture shared = {.handles = *state};
    struct opb_thread *threads[8];

    shared.shared = opb_handle_lend(*state, OPB_CLASS_DicomInstance, &shared.object);
    for (int i = 0; i < 8; i++) {
        threads[i] = opb_thread_start(torture, &shared);
    }
    for (int i = 0; i < 8; i++) {
        opb_thread_join(threads[i]);
    }
    assert_int_equal(shared.object, 4000);
    assert_int_equal(atomic_load(&freed_count), 4000);
    opb_handle_end(*state, shared.shared);
    assert_int_equal(opb_handles_count(*state), 0);
}

#define HANDLE_TEST(function)                                                              \
    cmocka_unit_test_setup_teardown(function, make_handles, free_handles)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        HANDLE_TEST(handle_names_its_object_until_it_ends),
        HANDLE_TEST(handle_of_another_class_or_made_up_names_nothing),
        HANDLE_TEST(slot_used_again_has_another_number),
        HANDLE_TEST(owned_object_is_freed_once),
        HANDLE_TEST(object_released_while_in_use_is_freed_afterwards),
        HANDLE_TEST(table_frees_what_the_host_left_and_counts_what_is_lent),
        HANDLE_TEST(mark_stays_with_the_handle),
        HANDLE_TEST(end_waits_for_the_sdk_call_of_another_thread),
        HANDLE_TEST(pin_waits_for_the_sdk_call_of_another_thread),
        HANDLE_TEST(end_within_its_own_sdk_call_does_not_wait_for_itself),
        HANDLE_TEST(many_threads_use_one_table),
    };

    return OPB_RUN(tests);
}
