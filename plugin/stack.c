/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/stack.c - large private stacks for small threads
 *
 * A stack is one mapping: a page that nobody may touch at its low end, the stack, and at
 * its high end the struct that describes it, so that the caller's small stack holds nothing
 * of ours but two frames.
 */
#include "stack.h"

#include <pthread.h>
#include <stdint.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__)
#    define OPB_ASAN 1
#elif defined(__has_feature)
#    if __has_feature(address_sanitizer)
#        define OPB_ASAN 1
#    endif
#endif
#ifdef OPB_ASAN
#    include <sanitizer/common_interface_defs.h>
#endif
/* ThreadSanitizer is told nothing: a switch here is a call and a return of one thread,
 * which is what it assumes. As fibres it would take recursive locks for locks of two
 * threads. */

struct opb_stack {
    struct opb_stack *next; /* in the pool */
    void *map;
    size_t map_bytes;
    ucontext_t caller, callee;
    void (*fn)(void *);
    void *argument;
#ifdef OPB_ASAN
    const void *caller_bottom;
    size_t caller_bytes;
    void *caller_fake;
#endif
};

static pthread_mutex_t pool_lock = PTHREAD_MUTEX_INITIALIZER;
static struct opb_stack *pool;
static size_t pool_count;

static __thread struct opb_stack *current;

static struct opb_stack *
stack_map(void)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t bytes = OPB_STACK_BYTES + page;
    struct opb_stack *stack;
    uint8_t *map;

    map = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    if (map == MAP_FAILED) {
        return NULL;
    }
    if (mprotect(map, page, PROT_NONE) != 0) {
        (void)munmap(map, bytes); /* it was mapped above: cannot fail */
        return NULL;
    }
    stack = (struct opb_stack *)(void *)(map + bytes - ((sizeof(*stack) + 63u) & ~63ul));
    stack->map = map;
    stack->map_bytes = bytes;
    return stack;
}

static void
stack_unmap(struct opb_stack *stack)
{
    (void)munmap(stack->map, stack->map_bytes); /* a whole mapping of ours: cannot fail */
}

static struct opb_stack *
stack_take(void)
{
    struct opb_stack *stack;

    pthread_mutex_lock(&pool_lock);
    stack = pool;
    if (stack != NULL) {
        pool = stack->next;
        pool_count--;
    }
    pthread_mutex_unlock(&pool_lock);
    return stack != NULL ? stack : stack_map();
}

static void
stack_give_back(struct opb_stack *stack)
{
    pthread_mutex_lock(&pool_lock);
    if (pool_count < OPB_MAX_IDLE_STACKS) {
        stack->next = pool;
        pool = stack;
        pool_count++;
        stack = NULL;
    }
    pthread_mutex_unlock(&pool_lock);
    if (stack != NULL) {
        stack_unmap(stack);
    }
}

/* The first frame of a private stack. */
static void
stack_main(void)
{
    struct opb_stack *stack = current;

#ifdef OPB_ASAN
    __sanitizer_finish_switch_fiber(NULL, &stack->caller_bottom, &stack->caller_bytes);
#endif
    stack->fn(stack->argument);
#ifdef OPB_ASAN
    __sanitizer_start_switch_fiber(NULL, stack->caller_bottom, stack->caller_bytes);
#endif
    /* uc_link continues in opb_stack_run() */
}

/* Not inlined: gcc takes getcontext() for setjmp(), and the caller's variables for lost. */
static __attribute__((noinline)) bool
stack_prepare(struct opb_stack *stack, void (*fn)(void *), void *argument)
{
    stack->fn = fn;
    stack->argument = argument;
    if (getcontext(&stack->callee) != 0) {
        return false;
    }
    stack->callee.uc_link = &stack->caller;
    stack->callee.uc_stack.ss_sp = stack->map;
    stack->callee.uc_stack.ss_size = (size_t)((uint8_t *)stack - (uint8_t *)stack->map);
    makecontext(&stack->callee, stack_main, 0);
    return true;
}

enum opb_status
opb_stack_run(void (*fn)(void *), void *argument)
{
    struct opb_stack *stack;

    if (current != NULL) {
        fn(argument);
        return OPB_OK;
    }
    stack = stack_take();
    if (stack == NULL) {
        return OPB_NO_MEMORY;
    }
    if (!stack_prepare(stack, fn, argument)) {
        stack_give_back(stack);
        return OPB_NO_MEMORY;
    }
    current = stack;
#ifdef OPB_ASAN
    __sanitizer_start_switch_fiber(&stack->caller_fake, stack->map,
                                   stack->callee.uc_stack.ss_size);
#endif
    (void)swapcontext(&stack->caller,
                      &stack->callee); /* fails only for a too small stack */
#ifdef OPB_ASAN
    __sanitizer_finish_switch_fiber(stack->caller_fake, NULL, NULL);
#endif
    current = NULL;
    stack_give_back(stack);
    return OPB_OK;
}

bool
opb_stack_is_private(void)
{
    return current != NULL;
}

void
opb_stacks_fini(void)
{
    struct opb_stack *stack;
    struct opb_stack *next;

    pthread_mutex_lock(&pool_lock);
    stack = pool;
    pool = NULL;
    pool_count = 0;
    pthread_mutex_unlock(&pool_lock);
    for (; stack != NULL; stack = next) {
        next = stack->next;
        stack_unmap(stack);
    }
}

size_t
opb_stacks_idle(void)
{
    size_t count;

    pthread_mutex_lock(&pool_lock);
    count = pool_count;
    pthread_mutex_unlock(&pool_lock);
    return count;
}
