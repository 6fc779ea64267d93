/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/support.c - see support.h
 *
 * Called by: the unit tests of all rooms. Touches nothing of the system but what the
 * calling test asks for.
 */
#include "tests/unit/support.h"

#include "protocol/handshake.h"
#include "protocol/sockets.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MAX_TESTS         100u
#define JOIN_TIMEOUT_S    60
#define SETTLE_TIMEOUT_MS 2000u /* for the kernel to let go of what a test has ended */

/* Read by the sanitizers: an allocation that is too large fails, as it does without them,
 * so that the tests see what becomes of it. */
#define SANITIZER_OPTIONS __attribute__((visibility("default"), used))
const char *__asan_default_options(void);
const char *__tsan_default_options(void);

SANITIZER_OPTIONS const char *
__asan_default_options(void)
{
    return "allocator_may_return_null=1";
}

SANITIZER_OPTIONS const char *
__tsan_default_options(void)
{
    return "allocator_may_return_null=1";
}

/* What one test of a group started with. */
struct guarded {
    const struct CMUnitTest *test;
    void *inner_state;
    size_t fd_count;
    size_t child_count;
};

size_t
opb_count_fds(void)
{
    DIR *directory = opendir("/proc/self/fd");
    size_t count = 0;

    if (directory == NULL) {
        fail_msg("/proc/self/fd: %s", strerror(errno));
        return 0;
    }
    while (readdir(directory) != NULL) {
        count++;
    }
    (void)closedir(directory); /* was only read */
    return count - 3;          /* ".", ".." and the directory's own descriptor */
}

/* What is open, for who looks for a descriptor too many. */
static void
print_fds(void)
{
    DIR *directory = opendir("/proc/self/fd");
    const struct dirent *entry;
    char target[256];

    while (directory != NULL && (entry = readdir(directory)) != NULL) {
        ssize_t bytes =
            readlinkat(dirfd(directory), entry->d_name, target, sizeof(target) - 1);

        if (bytes > 0) {
            target[bytes] = '\0';
            print_error("  %s: %s\n", entry->d_name, target);
        }
    }
    if (directory != NULL) {
        (void)closedir(directory); /* was only read */
    }
}

/* The parent of a process by /proc, or -1. */
static long
read_parent(const char *pid)
{
    char path[64];
    char line[1024];
    const char *after_name;
    long parent = -1;
    size_t bytes;
    FILE *file;

    (void)snprintf(path, sizeof(path), "/proc/%.20s/stat", pid);
    file = fopen(path, "re");
    if (file == NULL) {
        return -1; /* has ended meanwhile */
    }
    bytes = fread(line, 1, sizeof(line) - 1, file);
    line[bytes] = '\0';
    (void)fclose(file); /* was only read */
    after_name = strrchr(line, ')');
    if (after_name == NULL || sscanf(after_name + 1, " %*c %ld", &parent) != 1) {
        return -1;
    }
    return parent;
}

size_t
opb_count_children(void)
{
    const struct dirent *entry;
    siginfo_t info;
    size_t count = 0;
    DIR *directory;

    /* Cheap, and nearly always the answer. */
    if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) != 0 && errno == ECHILD) {
        return 0;
    }
    directory = opendir("/proc");
    if (directory == NULL) {
        fail_msg("/proc: %s", strerror(errno));
        return 0;
    }
    while ((entry = readdir(directory)) != NULL) {
        if (isdigit((unsigned char)entry->d_name[0]) &&
            read_parent(entry->d_name) == (long)getpid()) {
            count++;
        }
    }
    (void)closedir(directory); /* was only read */
    return count;
}

static int
guarded_setup(void **state)
{
    struct guarded *guarded = *state;

    guarded->fd_count = opb_count_fds();
    guarded->child_count = opb_count_children();
    guarded->inner_state = guarded->test->initial_state;
    if (guarded->test->setup_func != NULL) {
        return guarded->test->setup_func(&guarded->inner_state);
    }
    return 0;
}

static void
guarded_test(void **state)
{
    struct guarded *guarded = *state;

    guarded->test->test_func(&guarded->inner_state);
}

static bool
is_as_before(void *context)
{
    const struct guarded *guarded = context;

    return opb_count_fds() == guarded->fd_count &&
           opb_count_children() == guarded->child_count;
}

static int
guarded_teardown(void **state)
{
    struct guarded *guarded = *state;
    uint64_t deadline_ms = opb_clock_ms() + SETTLE_TIMEOUT_MS;
    const struct timespec pause = {.tv_nsec = 5000000};

    if (guarded->test->teardown_func != NULL &&
        guarded->test->teardown_func(&guarded->inner_state) != 0) {
        return -1;
    }
    while (!is_as_before(guarded)) {
        if (opb_clock_ms() >= deadline_ms) {
            print_error("%s: began with %zu descriptors and %zu children, ended with %zu "
                        "and %zu\n",
                        guarded->test->name, guarded->fd_count, guarded->child_count,
                        opb_count_fds(), opb_count_children());
            print_fds();
            return -1;
        }
        (void)nanosleep(&pause, NULL); /* an early wake-up only looks again sooner */
    }
    return 0;
}

int
opb_run_group(const char *name, const struct CMUnitTest *tests, size_t count)
{
    static struct guarded guarded[MAX_TESTS];
    static struct CMUnitTest wrapped[MAX_TESTS];

    if (count > MAX_TESTS) {
        (void)fprintf(stderr, "%s has %zu tests, and %u is the limit\n", name, count,
                      MAX_TESTS);
        return 1;
    }
    for (size_t i = 0; i < count; i++) {
        guarded[i] = (struct guarded){.test = &tests[i]};
        wrapped[i] = (struct CMUnitTest){.name = tests[i].name,
                                         .test_func = guarded_test,
                                         .setup_func = guarded_setup,
                                         .teardown_func = guarded_teardown,
                                         .initial_state = &guarded[i]};
    }
    return _cmocka_run_group_tests(name, wrapped, count, NULL, NULL);
}

void
opb_make_pair(int fds[2])
{
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
}

/* As the ends of a lane do in their handshake. */
static void
share_memory(struct opb_lane *opener, struct opb_lane *acceptor)
{
    struct opb_frame *none;
    uint32_t version;

    opb_lane_want_memory(opener);
    opb_lane_offer_memory(acceptor);
    assert_int_equal(opb_welcome_send(acceptor, OPB_FOREVER), OPB_OK);
    assert_int_equal(opb_welcome_receive(opener, &version, opb_deadline_ms(5000)), OPB_OK);
    assert_true(opb_lane_has_memory(opener));
    assert_false(opb_lane_has_memory(acceptor)); /* it has not read that yet */
    assert_int_equal(opb_lane_receive(acceptor, &none, opb_clock_ms()), OPB_LATE);
    assert_true(opb_lane_has_memory(acceptor));
}

void
opb_make_lanes(struct opb_lane **a, struct opb_lane **b)
{
    int fds[2];

    opb_make_pair(fds);
    assert_int_equal(opb_lane_open(a, &fds[0], &opb_segment_malloc), OPB_OK);
    assert_int_equal(opb_lane_open(b, &fds[1], &opb_segment_malloc), OPB_OK);
    opb_lane_trust(*a);
    opb_lane_trust(*b);
    if (getenv("OPB_TEST_MEMORY") != NULL) {
        share_memory(*a, *b);
    }
}

struct opb_thread {
    pthread_t id;
    void (*function)(void *context);
    void *context;
};

static void *
run_thread(void *argument)
{
    struct opb_thread *thread = argument;

    thread->function(thread->context);
    return NULL;
}

struct opb_thread *
opb_thread_start(void (*function)(void *context), void *context)
{
    struct opb_thread *thread = calloc(1, sizeof(*thread));

    if (thread == NULL) {
        fail_msg("no memory for a thread");
        return NULL;
    }
    thread->function = function;
    thread->context = context;
    assert_int_equal(pthread_create(&thread->id, NULL, run_thread, thread), 0);
    return thread;
}

void
opb_thread_join(struct opb_thread *thread)
{
    struct timespec deadline;

    (void)clock_gettime(CLOCK_REALTIME, &deadline);
    deadline.tv_sec += JOIN_TIMEOUT_S;
    if (pthread_timedjoin_np(thread->id, NULL, &deadline) != 0) {
        (void)fprintf(stderr, "a thread of the test has not ended within %d s\n",
                      JOIN_TIMEOUT_S);
        abort(); /* its stack and ours are entangled: going on would prove nothing */
    }
    free(thread);
}

void
opb_wait_until(bool (*is_true)(void *context), void *context, uint64_t timeout_ms)
{
    uint64_t deadline_ms = opb_clock_ms() + timeout_ms;
    const struct timespec pause = {.tv_nsec = 2000000};

    while (!is_true(context)) {
        if (opb_clock_ms() >= deadline_ms) {
            fail_msg("did not come true within %llu ms", (unsigned long long)timeout_ms);
        }
        (void)nanosleep(&pause, NULL); /* an early wake-up only looks again sooner */
    }
}

void
opb_write_all(int fd, const void *bytes, size_t byte_count)
{
    const uint8_t *next = bytes;

    while (byte_count > 0) {
        ssize_t count = send(fd, next, byte_count, MSG_NOSIGNAL);

        assert_true(count > 0);
        next += count;
        byte_count -= (size_t)count;
    }
}

void
opb_read_all(int fd, void *bytes, size_t byte_count)
{
    uint8_t *next = bytes;

    while (byte_count > 0) {
        ssize_t count = read(fd, next, byte_count);

        assert_true(count > 0);
        next += count;
        byte_count -= (size_t)count;
    }
}

size_t
opb_flatten(struct opb_message *message, uint8_t **out)
{
    const struct iovec *parts;
    size_t part_count;
    size_t total = 0;
    uint8_t *next;

    assert_int_equal(opb_message_frame(message, &parts, &part_count), OPB_OK);
    for (size_t i = 0; i < part_count; i++) {
        total += parts[i].iov_len;
    }
    next = *out = malloc(total);
    assert_non_null(next);
    for (size_t i = 0; i < part_count; i++) {
        memcpy(next, parts[i].iov_base, parts[i].iov_len);
        next += parts[i].iov_len;
    }
    return total;
}

size_t
opb_wrap(const void *envelope, size_t envelope_bytes, uint8_t **out)
{
    uint8_t *bytes = malloc(envelope_bytes + OPB_FRAME_HEADER_BYTES);

    assert_non_null(bytes);
    memset(bytes, 0, OPB_FRAME_HEADER_BYTES);
    for (size_t i = 0; i < 4; i++) {
        bytes[i] = (uint8_t)(envelope_bytes >> (24 - 8 * i));
    }
    memcpy(bytes + OPB_FRAME_HEADER_BYTES, envelope, envelope_bytes);
    *out = bytes;
    return envelope_bytes + OPB_FRAME_HEADER_BYTES;
}

struct opb_frame *
opb_decode_message(struct opb_message *message)
{
    struct opb_frame *frame;
    uint8_t *bytes;
    size_t byte_count = opb_flatten(message, &bytes);

    assert_int_equal(opb_frame_decode(&frame, bytes, byte_count), OPB_OK);
    free(bytes);
    return frame;
}

enum opb_status
opb_decode_envelope(struct opb_frame **frame, const void *envelope, size_t envelope_bytes)
{
    enum opb_status status;
    uint8_t *bytes;
    size_t byte_count = opb_wrap(envelope, envelope_bytes, &bytes);

    status = opb_frame_decode(frame, bytes, byte_count);
    free(bytes);
    return status;
}
