/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/test_support.c - the leak check of the other tests is itself tested
 *
 * Run with an argument, this program is a group with one test that leaks.
 */
#include "tests/unit/support.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void
leaves_a_descriptor(void **state)
{
    (void)state;
    assert_true(open("/dev/null", O_RDONLY | O_CLOEXEC) >= 0);
}

static void
leaves_a_child(void **state)
{
    pid_t child = fork();

    (void)state;
    assert_true(child >= 0);
    if (child == 0) {
        _exit(0); /* its parent never collects it */
    }
}

static void
leaves_nothing(void **state)
{
    (void)state;
}

static int
run_leaking_group(const char *which)
{
    const struct CMUnitTest descriptor[] = {OPB_TEST(leaves_a_descriptor)};
    const struct CMUnitTest child[] = {OPB_TEST(leaves_a_child)};
    const struct CMUnitTest nothing[] = {OPB_TEST(leaves_nothing)};

    if (strcmp(which, "descriptor") == 0) {
        return OPB_RUN(descriptor);
    }
    return strcmp(which, "child") == 0 ? OPB_RUN(child) : OPB_RUN(nothing);
}

/* The exit status of this program, run with an argument. */
static int
run_self(const char *argument)
{
    pid_t child = fork();
    int status = 0;

    assert_true(child >= 0);
    if (child == 0) {
        int sink = open("/dev/null", O_WRONLY);

        (void)dup2(sink, STDOUT_FILENO); /* a failing group is not news here */
        (void)dup2(sink, STDERR_FILENO);
        (void)close(sink);
        (void)execl("/proc/self/exe", "test_support", argument, (char *)NULL);
        _exit(127);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void
a_test_that_leaves_a_descriptor_fails(void **state)
{
    (void)state;
    assert_int_not_equal(run_self("descriptor"), 0);
    assert_int_not_equal(run_self("descriptor"), 127);
}

static void
a_test_that_leaves_a_child_fails(void **state)
{
    (void)state;
    assert_int_not_equal(run_self("child"), 0);
    assert_int_not_equal(run_self("child"), 127);
}

static void
a_test_that_leaves_nothing_passes(void **state)
{
    (void)state;
    assert_int_equal(run_self("nothing"), 0);
}

static void
descriptors_and_children_are_counted(void **state)
{
    size_t fd_count = opb_count_fds();
    size_t child_count = opb_count_children();
    int fds[2];
    pid_t child;
    int status;

    (void)state;
    opb_make_pair(fds);
    assert_int_equal(opb_count_fds(), fd_count + 2);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        (void)pause(); /* until the parent kills it */
        _exit(0);
    }
    assert_int_equal(opb_count_children(), child_count + 1);
    assert_int_equal(kill(child, SIGKILL), 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(opb_count_children(), child_count);
    (void)close(fds[0]);
    (void)close(fds[1]);
    assert_int_equal(opb_count_fds(), fd_count);
}

int
main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        OPB_TEST(a_test_that_leaves_a_descriptor_fails),
        OPB_TEST(a_test_that_leaves_a_child_fails),
        OPB_TEST(a_test_that_leaves_nothing_passes),
        OPB_TEST(descriptors_and_children_are_counted),
    };

    if (argc > 1) {
        return run_leaking_group(argv[1]);
    }
    return OPB_RUN(tests);
}
