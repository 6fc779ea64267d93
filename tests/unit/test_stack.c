/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/test_stack.c - private stacks, and the crash without them */
#include "support.h"

#include "plugin/stack.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define SMALL_STACK_BYTES (100u * 1024u) /* what HTTP threads of Orthanc have */

/* Uses 200 KiB, a page at a time, as nested SDK calls do. */
static __attribute__((noinline)) unsigned
use_stack(unsigned depth)
{
    volatile unsigned page[1024];

    page[depth % 1024] = depth;
    return depth == 0 ? 1 : use_stack(depth - 1) + (page[depth % 1024] == depth ? 1u : 0u);
}

static void
use_much(void *argument)
{
    *(unsigned *)argument = use_stack(50);
}

static void *
use_much_directly(void *argument)
{
    use_much(argument);
    return NULL;
}

static void *
use_much_privately(void *argument)
{
    return opb_stack_run(use_much, argument) == OPB_OK ? argument : NULL;
}

static void *
run_small(void *(*function)(void *), void *argument, size_t stack_bytes)
{
    pthread_attr_t attributes;
    void *result = NULL;
    pthread_t thread;

    assert_int_equal(pthread_attr_init(&attributes), 0);
    assert_int_equal(pthread_attr_setstacksize(&attributes, stack_bytes), 0);
    assert_int_equal(pthread_create(&thread, &attributes, function, argument), 0);
    assert_int_equal(pthread_join(thread, &result), 0);
    pthread_attr_destroy(&attributes);
    return result;
}

/* Runs function in a child with default signals; says the signal that ended it, or 0. */
static int
signal_of_child(void (*function)(void))
{
    static const int signals[] = {SIGSEGV, SIGBUS, SIGABRT};
    struct rlimit none = {0, 0};
    int status = 0;
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        (void)setrlimit(RLIMIT_CORE, &none);
        for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
            (void)signal(signals[i], SIG_DFL);
        }
        close(STDERR_FILENO);
        function();
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void
overflow_small_stack(void)
{
    unsigned result = 0;

    (void)run_small(use_much_directly, &result, SMALL_STACK_BYTES);
}

static void
a_nested_sdk_call_overflows_the_stack_of_an_http_thread(void **state)
{
    (void)state;
    assert_int_equal(signal_of_child(overflow_small_stack), SIGSEGV);
}

static void
the_same_fits_on_a_private_stack(void **state)
{
    unsigned result = 0;

    (void)state;
    assert_ptr_equal(run_small(use_much_privately, &result, SMALL_STACK_BYTES), &result);
    assert_int_equal(result, 51);
    assert_int_equal(opb_stacks_idle(), 1);
    opb_stacks_fini();
    assert_int_equal(opb_stacks_idle(), 0);
}

static pthread_mutex_t recursive;
static __thread int local;
static pthread_t caller;

static void
lock_again(void *argument)
{
    *(bool *)argument = pthread_mutex_trylock(&recursive) == 0 && local == 42 &&
                        pthread_equal(caller, pthread_self()) && opb_stack_is_private();
    local = 43;
    pthread_mutex_unlock(&recursive);
}

static void
locks_and_thread_locals_hold_across_the_switch(void **state)
{
    pthread_mutexattr_t attributes;
    bool held = false;

    (void)state;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutex_init(&recursive, &attributes);
    pthread_mutexattr_destroy(&attributes);
    pthread_mutex_lock(&recursive);
    local = 42;
    caller = pthread_self();
    assert_int_equal(opb_stack_run(lock_again, &held), OPB_OK);
    assert_true(held);
    assert_int_equal(local, 43);
    assert_false(opb_stack_is_private());
    pthread_mutex_unlock(&recursive);
    pthread_mutex_destroy(&recursive);
    opb_stacks_fini();
}

static void
note_address(void *argument)
{
    /* Not the address of a local: a sanitizer may keep those elsewhere. */
    *(uintptr_t *)argument = (uintptr_t)__builtin_frame_address(0);
}

struct nesting {
    uintptr_t outer, inner;
};

static void
nest(void *argument)
{
    struct nesting *nesting = argument;

    nesting->outer = (uintptr_t)__builtin_frame_address(0);
    assert_int_equal(opb_stack_run(note_address, &nesting->inner), OPB_OK);
    assert_true(opb_stack_is_private());
}

static void
a_nested_run_stays_on_the_stack_it_is_on(void **state)
{
    struct nesting nesting = {0, 0};

    (void)state;
    assert_int_equal(opb_stack_run(nest, &nesting), OPB_OK);
    assert_true(nesting.outer > nesting.inner && nesting.outer - nesting.inner < 65536);
    assert_int_equal(opb_stacks_idle(), 1);
    opb_stacks_fini();
}

static void
use_more_than_there_is(void *argument)
{
    *(unsigned *)argument = use_stack(3 * 1024); /* of 4 KiB each */
}

static void
overflow_private_stack(void)
{
    unsigned result = 0;

    if (opb_stack_run(use_more_than_there_is, &result) != OPB_OK) {
        abort();
    }
}

static void
a_private_stack_ends_at_a_guard(void **state)
{
    (void)state;
    assert_int_equal(signal_of_child(overflow_private_stack), SIGSEGV);
}

static void *
run_often(void *argument)
{
    for (int i = 0; i < 200; i++) {
        unsigned result = 0;

        if (opb_stack_run(use_much, &result) != OPB_OK || result != 51) {
            return NULL;
        }
    }
    return argument;
}

static void
many_threads_share_the_pool(void **state)
{
    pthread_t threads[8];
    void *result = NULL;

    (void)state;
    for (int i = 0; i < 8; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, run_often, threads), 0);
    }
    for (int i = 0; i < 8; i++) {
        assert_int_equal(pthread_join(threads[i], &result), 0);
        assert_ptr_equal(result, threads);
    }
    assert_in_range(opb_stacks_idle(), 1, 8);
    opb_stacks_fini();
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        OPB_TEST(a_nested_sdk_call_overflows_the_stack_of_an_http_thread),
        OPB_TEST(the_same_fits_on_a_private_stack),
        OPB_TEST(locks_and_thread_locals_hold_across_the_switch),
        OPB_TEST(a_nested_run_stays_on_the_stack_it_is_on),
        OPB_TEST(a_private_stack_ends_at_a_guard),
        OPB_TEST(many_threads_share_the_pool),
    };

    return OPB_RUN(tests);
}
