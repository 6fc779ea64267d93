/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/support.h - what the unit tests of all rooms share
 *
 * Here:      the group runner that checks descriptors and children around each test,
 *            lanes over socket pairs, threads, hand-made frames.
 * Elsewhere: the behaviour under test.
 */
#ifndef OPB_TEST_SUPPORT_H
#define OPB_TEST_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <cmocka.h>

/* cmocka 2 takes a plain word for a macro of no use here, and deprecates assert_in_range,
 * for which cmocka 1 has no substitute. */
#undef stop
#undef CMOCKA_DEPRECATION_WARNING
#define CMOCKA_DEPRECATION_WARNING(message)

#include "protocol/lane.h"

/* Built with the address or the thread sanitizer, whose allocator keeps what was freed. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#    define OPB_IS_SANITIZED true
#elif defined(__has_feature)
#    if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#        define OPB_IS_SANITIZED true
#    endif
#endif
#ifndef OPB_IS_SANITIZED
#    define OPB_IS_SANITIZED false
#endif

/* A test of a group that opb_run_group() runs. setup and teardown may be NULL. */
#define OPB_TEST(function) cmocka_unit_test(function)

/* Runs the tests in order. After each one (and its own setup and teardown), the process
 * must have the descriptors and children that it had before, else the test fails.
 * At most 100 tests. Returns what main() returns. */
int opb_run_group(const char *name, const struct CMUnitTest *tests, size_t count);
#define OPB_RUN(tests) opb_run_group(#tests, tests, sizeof(tests) / sizeof((tests)[0]))

/* Open descriptors of this process now. */
size_t opb_count_fds(void);
/* Children of this process now, zombies included. */
size_t opb_count_children(void);

/* Both ends of a Unix stream, blocking, close-on-exec. */
void opb_make_pair(int fds[2]);
/* Two trusted lanes that talk to each other; segments in malloc'ed memory. */
void opb_make_lanes(struct opb_lane **a, struct opb_lane **b);

/* Runs function in a thread. End it with opb_thread_join(), which waits at most
 * 60 s and then ends the test program: a hang is a failure, not a wait. */
struct opb_thread;
struct opb_thread *opb_thread_start(void (*function)(void *context), void *context);
void opb_thread_join(struct opb_thread *thread);

/* Fails the test unless this comes true within timeout_ms. */
void opb_wait_until(bool (*is_true)(void *context), void *context, uint64_t timeout_ms);

/* Writes or reads exactly so many bytes of a blocking descriptor. */
void opb_write_all(int fd, const void *bytes, size_t byte_count);
void opb_read_all(int fd, void *bytes, size_t byte_count);

/* Builds the wire form of a message in malloc'ed memory: *out is yours. */
size_t opb_flatten(struct opb_message *message, uint8_t **out);
/* Puts header and segment lengths in front of a raw envelope: *out is yours. */
size_t opb_wrap(const void *envelope, size_t envelope_bytes, uint8_t **out);
/* Decodes a message of ours as its peer would: the frame is yours. */
struct opb_frame *opb_decode_message(struct opb_message *message);
/* Decodes a raw envelope, which need not be one. */
enum opb_status opb_decode_envelope(struct opb_frame **frame, const void *envelope,
                                    size_t envelope_bytes);

#endif
