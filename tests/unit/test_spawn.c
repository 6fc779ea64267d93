/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/test_spawn.c - starting the daemon, and what a wrong one says */
#include "plugin_support.h"

#include "plugin/spawn.h"
#include "protocol/sockets.h"

#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

static struct opb_node *node; /* for the log */
static char directory[64];
static char program[96];
static char message[1024];

static int
make_program(void **state)
{
    (void)state;
    node = fake_node_new();
    strcpy(directory, "/tmp/opb-spawn-XXXXXX");
    assert_non_null(mkdtemp(directory));
    (void)snprintf(program, sizeof(program), "%s/worker", directory);
    return 0;
}

static int
remove_program(void **state)
{
    char path[96];

    (void)state;
    (void)unlink(program); /* not every test has made it */
    (void)snprintf(path, sizeof(path), "%s/out", directory);
    (void)unlink(path);
    assert_int_equal(rmdir(directory), 0);
    fake_node_free(node);
    return 0;
}

static void
write_program(const char *text, mode_t mode)
{
    FILE *file = fopen(program, "w");

    assert_non_null(file);
    (void)fprintf(file, "#!/bin/bash\n%s\n", text);
    (void)fclose(file);
    assert_int_equal(chmod(program, mode), 0);
}

static void
assert_start_fails(enum opb_status expected, uint64_t timeout_ms, const char *text)
{
    struct opb_daemon *daemon;

    assert_int_equal(opb_daemon_start(&daemon, program, "/tmp/x.sock", -1,
                                      opb_deadline_ms(timeout_ms), message,
                                      sizeof(message)),
                     expected);
    assert_null(daemon);
    if (strstr(message, text) == NULL) {
        assert_string_equal(message, text);
    }
}

static void
a_daemon_that_is_ready_runs_until_its_lifeline_ends(void **state)
{
    struct opb_daemon *daemon;

    (void)state;
    write_program("echo READY 3 $$ >&3; read -u 3 line; exit 0", 0700);
    assert_int_equal(opb_daemon_start(&daemon, program, "/tmp/x.sock", -1,
                                      opb_deadline_ms(20000), message, sizeof(message)),
                     OPB_OK);
    assert_true(opb_daemon_pid(daemon) > 1);
    assert_false(opb_daemon_wait_end(daemon, 50));
    opb_daemon_stop(daemon);
    assert_false(fake_log_has("SIGTERM"));
}

static void
only_what_a_daemon_has_started_is_its_own(void **state)
{
    struct opb_daemon *daemon;
    char path[96];
    FILE *file;
    long child = 0;

    (void)state;
    write_program("sleep 60 & echo $! >${0%/*}/out; echo READY 3 $$ >&3; read -u 3 line; "
                  "kill %1; exit 0",
                  0700);
    assert_int_equal(opb_daemon_start(&daemon, program, "/tmp/x.sock", -1,
                                      opb_deadline_ms(20000), message, sizeof(message)),
                     OPB_OK);
    (void)snprintf(path, sizeof(path), "%s/out", directory);
    file = fopen(path, "r");
    assert_non_null(file);
    assert_int_equal(fscanf(file, "%ld", &child), 1);
    (void)fclose(file);
    assert_int_equal(opb_daemon_kinship(daemon, (pid_t)child), OPB_KINSHIP_OWN);
    assert_int_equal(opb_daemon_kinship(daemon, getpid()), OPB_KINSHIP_NONE);
    assert_int_equal(opb_daemon_kinship(daemon, getppid()), OPB_KINSHIP_NONE);
    assert_int_equal(opb_daemon_kinship(daemon, opb_daemon_pid(daemon)), OPB_KINSHIP_NONE);
    assert_int_equal(opb_daemon_kinship(daemon, INT_MAX), OPB_KINSHIP_UNKNOWN);
    opb_daemon_stop(daemon);
}

/* A line of /proc/<pid>/status that is a set of signals. */
static unsigned long long
signals_of(pid_t pid, const char *name)
{
    unsigned long long set = 0;
    char path[64];
    char line[256];
    FILE *file;

    (void)snprintf(path, sizeof(path), "/proc/%ld/status", (long)pid);
    file = fopen(path, "r");
    assert_non_null(file);
    while (fgets(line, sizeof(line), file) != NULL) {
        if (strncmp(line, name, strlen(name)) == 0) {
            set = strtoull(line + strlen(name) + 1, NULL, 16);
        }
    }
    (void)fclose(file);
    return set;
}

static void
read_link(pid_t pid, int fd, char *out, size_t capacity)
{
    char path[64];
    ssize_t bytes;

    (void)snprintf(path, sizeof(path), "/proc/%ld/fd/%d", (long)pid, fd);
    bytes = readlink(path, out, capacity - 1);
    out[bytes < 0 ? 0 : bytes] = '\0';
}

/* What the program has written. */
static void
read_output(char *out, size_t capacity)
{
    char path[96];
    FILE *file;

    (void)snprintf(path, sizeof(path), "%s/out", directory);
    file = fopen(path, "r");
    assert_non_null(file);
    out[fread(out, 1, capacity - 1, file)] = '\0';
    (void)fclose(file);
}

#define BIT(signal_number) (1ull << ((signal_number)-1))
#define LEAKED_FD          50

static void
a_daemon_inherits_neither_signals_nor_descriptors(void **state)
{
    struct opb_daemon *daemon;
    sigset_t blocked;
    char text[256];
    pid_t pid;

    (void)state;
    /* without close-on-exec, as the DICOM sockets of Orthanc 1.10 */
    assert_int_equal(dup2(STDERR_FILENO, LEAKED_FD), LEAKED_FD);
    (void)sigemptyset(&blocked);
    (void)sigaddset(&blocked, SIGUSR1);
    (void)sigprocmask(SIG_BLOCK, &blocked, NULL);
    (void)signal(SIGPIPE, SIG_IGN);
    write_program("echo \"$@\" > ${0%/*}/out; echo READY 3 $$ >&3; read -u 3 line", 0700);
    assert_int_equal(opb_daemon_start(&daemon, program, "/tmp/x.sock", -1,
                                      opb_deadline_ms(20000), message, sizeof(message)),
                     OPB_OK);
    (void)signal(SIGPIPE, SIG_DFL);
    (void)sigprocmask(SIG_UNBLOCK, &blocked, NULL);
    (void)close(LEAKED_FD);
    pid = opb_daemon_pid(daemon);
    assert_int_equal(getsid(pid), pid);
    assert_int_equal(signals_of(pid, "SigIgn:") & BIT(SIGPIPE), 0);
    assert_int_equal(signals_of(pid, "SigBlk:") & BIT(SIGUSR1), 0);
    read_link(pid, 0, text, sizeof(text));
    assert_string_equal(text, "/dev/null");
    read_link(pid, LEAKED_FD, text, sizeof(text));
    assert_string_equal(text, "");
    opb_daemon_stop(daemon);
    read_output(text, sizeof(text));
    assert_string_equal(text, "--socket /tmp/x.sock --managed-fd 3\n");
}

static void
a_daemon_that_ends_at_once_is_reported_with_its_exit_code(void **state)
{
    (void)state;
    write_program("exit 9", 0700);
    assert_start_fails(OPB_GONE, 20000, "ended with exit code 9 before it was ready");
    write_program("kill -SEGV $$", 0700);
    assert_start_fails(OPB_GONE, 20000,
                       "was killed by signal 11 (Segmentation fault) before");
}

static void
a_daemon_of_another_protocol_version_is_refused(void **state)
{
    (void)state;
    write_program("echo READY 99 $$ >&3; exec sleep 60", 0700);
    assert_start_fails(
        OPB_VERSION, 20000,
        "speaks version 99 of the protocol, and this plugin version 3: install "
        "both from the same release");
}

static void
a_daemons_own_words_are_passed_on(void **state)
{
    (void)state;
    write_program("printf 'ERROR no \\x01 room\\n' >&3; exec sleep 60", 0700);
    assert_start_fails(OPB_REFUSED, 20000, "could not start: no ? room");
}

static void
something_else_than_a_daemon_is_refused(void **state)
{
    (void)state;
    write_program("echo hello >&3; exec sleep 60", 0700);
    assert_start_fails(OPB_BAD_FRAME, 20000, "answered \"hello\"");
    write_program("head -c 100000 /dev/zero >&3; exec sleep 60", 0700);
    assert_start_fails(OPB_BAD_FRAME, 20000, "answered something else than READY");
}

static void
a_silent_daemon_is_given_up_and_killed(void **state)
{
    (void)state;
    write_program("exec sleep 60", 0700);
    assert_start_fails(OPB_LATE, 200, "\"Python.StartTimeout\"");
}

static void
starting_can_be_cancelled(void **state)
{
    struct opb_daemon *daemon;
    int cancel_fd = eventfd(1, EFD_CLOEXEC);

    (void)state;
    write_program("exec sleep 60", 0700);
    assert_int_equal(opb_daemon_start(&daemon, program, "/tmp/x.sock", cancel_fd,
                                      opb_deadline_ms(20000), message, sizeof(message)),
                     OPB_STOPPING);
    (void)close(cancel_fd);
}

static void
a_program_that_cannot_be_run_is_named(void **state)
{
    (void)state;
    assert_start_fails(OPB_REFUSED, 20000, "cannot be run: No such file or directory");
    write_program("", 0600);
    assert_start_fails(OPB_REFUSED, 20000, "cannot be run: Permission denied");
}

static void
a_daemon_that_ignores_its_lifeline_and_sigterm_is_killed(void **state)
{
    struct opb_daemon *daemon;

    (void)state;
    write_program("trap '' TERM; echo READY 3 $$ >&3; while :; do sleep 0.05; done", 0700);
    assert_int_equal(opb_daemon_start(&daemon, program, "/tmp/x.sock", -1,
                                      opb_deadline_ms(20000), message, sizeof(message)),
                     OPB_OK);
    opb_daemon_stop(daemon);
    assert_true(fake_log_has("sending SIGTERM"));
    assert_true(fake_log_has("sending SIGKILL"));
}

#define SPAWN_TEST(function)                                                               \
    cmocka_unit_test_setup_teardown(function, make_program, remove_program)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        SPAWN_TEST(a_daemon_that_is_ready_runs_until_its_lifeline_ends),
        SPAWN_TEST(only_what_a_daemon_has_started_is_its_own),
        SPAWN_TEST(a_daemon_inherits_neither_signals_nor_descriptors),
        SPAWN_TEST(a_daemon_that_ends_at_once_is_reported_with_its_exit_code),
        SPAWN_TEST(a_daemon_of_another_protocol_version_is_refused),
        SPAWN_TEST(a_daemons_own_words_are_passed_on),
        SPAWN_TEST(something_else_than_a_daemon_is_refused),
        SPAWN_TEST(a_silent_daemon_is_given_up_and_killed),
        SPAWN_TEST(starting_can_be_cancelled),
        SPAWN_TEST(a_program_that_cannot_be_run_is_named),
        SPAWN_TEST(a_daemon_that_ignores_its_lifeline_and_sigterm_is_killed),
    };

    return OPB_RUN(tests);
}
