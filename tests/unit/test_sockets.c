/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/test_sockets.c - listening, connecting, credentials, passed descriptors */
#include "tests/unit/support.h"

#include "protocol/limits.h"
#include "protocol/sockets.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* A directory of its own for each test. */
struct fixture {
    char directory[64];
    char path[96];
};

static int
make_fixture(void **state)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));

    strcpy(fixture->directory, "/tmp/opb-sockets-XXXXXX");
    assert_non_null(mkdtemp(fixture->directory));
    (void)snprintf(fixture->path, sizeof(fixture->path), "%s/test.sock",
                   fixture->directory);
    *state = fixture;
    return 0;
}

static int
free_fixture(void **state)
{
    struct fixture *fixture = *state;

    (void)unlink(fixture->path);                    /* most tests leave it */
    assert_int_equal(rmdir(fixture->directory), 0); /* and nothing else */
    free(fixture);
    return 0;
}

static void
listening_connecting_and_accepting_work(void **state)
{
    struct fixture *fixture = *state;
    struct opb_peer peer;
    char byte = 0;
    int listening;
    int client;
    int server;

    assert_int_equal(opb_socket_listen(&listening, fixture->path, 0600, 8), OPB_OK);
    assert_int_equal(opb_socket_accept(&server, listening), OPB_LATE);
    assert_int_equal(server, -1);
    assert_int_equal(opb_socket_connect(&client, fixture->path, opb_deadline_ms(1000)),
                     OPB_OK);
    assert_int_equal(opb_socket_accept(&server, listening), OPB_OK);
    assert_int_equal(fcntl(listening, F_GETFD), FD_CLOEXEC);
    assert_int_equal(fcntl(client, F_GETFD), FD_CLOEXEC);
    assert_int_equal(fcntl(server, F_GETFD), FD_CLOEXEC);
    assert_int_equal(fcntl(client, F_GETFL) & O_NONBLOCK, 0);
    assert_int_equal(opb_socket_peer(server, &peer), OPB_OK);
    assert_int_equal(peer.pid, getpid());
    assert_int_equal(peer.uid, geteuid());
    assert_int_equal(peer.gid, getegid());
    opb_write_all(client, "x", 1);
    opb_read_all(server, &byte, 1);
    assert_int_equal(byte, 'x');
    (void)close(client);
    (void)close(server);
    (void)close(listening);
}

static void
the_mode_is_the_one_asked_for_whatever_the_umask(void **state)
{
    struct fixture *fixture = *state;
    static const mode_t modes[] = {0600, 0660, 0666};
    mode_t umask_before = umask(0077);
    struct stat info;
    int fd;

    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(opb_socket_listen(&fd, fixture->path, modes[i], 8), OPB_OK);
        assert_int_equal(stat(fixture->path, &info), 0);
        assert_int_equal(info.st_mode & 07777, modes[i]);
        (void)close(fd);
    }
    (void)umask(umask_before);
}

static void
a_stale_socket_is_replaced(void **state)
{
    struct fixture *fixture = *state;
    int fd;

    for (int i = 0; i < 3; i++) {
        assert_int_equal(opb_socket_listen(&fd, fixture->path, 0600, 8), OPB_OK);
        (void)close(fd); /* as a killed process leaves it */
    }
}

static void
a_socket_that_somebody_serves_is_left_alone(void **state)
{
    struct fixture *fixture = *state;
    int first;
    int second;
    int client;

    assert_int_equal(opb_socket_listen(&first, fixture->path, 0600, 8), OPB_OK);
    assert_int_equal(opb_socket_listen(&second, fixture->path, 0600, 8), OPB_REFUSED);
    assert_int_equal(errno, EADDRINUSE);
    assert_int_equal(second, -1);
    assert_int_equal(opb_socket_connect(&client, fixture->path, opb_deadline_ms(1000)),
                     OPB_OK);
    (void)close(client);
    (void)close(first);
}

static void
a_file_that_is_no_socket_is_left_alone(void **state)
{
    struct fixture *fixture = *state;
    struct stat info;
    int file = open(fixture->path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    int fd;

    assert_true(file >= 0);
    (void)close(file);
    assert_int_equal(opb_socket_listen(&fd, fixture->path, 0600, 8), OPB_REFUSED);
    assert_int_equal(errno, EEXIST);
    assert_int_equal(stat(fixture->path, &info), 0);
    assert_true(S_ISREG(info.st_mode));
}

static void
a_path_that_cannot_be_is_an_error_with_a_reason(void **state)
{
    struct fixture *fixture = *state;
    char path[200];
    int fd;

    memset(path, 'x', sizeof(path));
    path[0] = '/';
    path[108] = '\0'; /* one more than fits with its NUL */
    assert_int_equal(opb_socket_listen(&fd, path, 0600, 8), OPB_TOO_LARGE);
    assert_int_equal(opb_socket_connect(&fd, path, OPB_FOREVER), OPB_TOO_LARGE);
    (void)snprintf(path, sizeof(path), "%s/missing/test.sock", fixture->directory);
    assert_int_equal(opb_socket_listen(&fd, path, 0600, 8), OPB_SYSTEM);
    assert_int_equal(errno, ENOENT);
    assert_int_equal(opb_socket_listen(&fd, "", 0600, 8), OPB_SYSTEM);
    assert_int_equal(opb_socket_connect(&fd, fixture->path, OPB_FOREVER), OPB_SYSTEM);
    assert_int_equal(errno, ENOENT);
    assert_int_equal(fd, -1);
}

static void
a_listener_waits_for_another_in_the_same_directory_but_not_forever(void **state)
{
    struct fixture *fixture = *state;
    int directory = open(fixture->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    uint64_t began_ms = opb_clock_ms();
    int fd;

    assert_int_equal(flock(directory, LOCK_EX), 0);
    assert_int_equal(opb_socket_listen(&fd, fixture->path, 0600, 8), OPB_LATE);
    assert_in_range(opb_clock_ms() - began_ms, 1999, 10000);
    (void)close(directory);
    assert_int_equal(opb_socket_listen(&fd, fixture->path, 0600, 8), OPB_OK);
    (void)close(fd);
}

static void
connecting_to_a_listener_that_never_accepts_is_late(void **state)
{
    struct fixture *fixture = *state;
    enum opb_status status = OPB_OK;
    int clients[16];
    size_t count = 0;
    uint64_t began_ms;
    int listening;

    assert_int_equal(opb_socket_listen(&listening, fixture->path, 0600, 1), OPB_OK);
    while (status == OPB_OK && count < 16) {
        began_ms = opb_clock_ms();
        status = opb_socket_connect(&clients[count], fixture->path, opb_deadline_ms(100));
        count += status == OPB_OK ? 1 : 0;
    }
    assert_int_equal(status, OPB_LATE);
    assert_in_range(opb_clock_ms() - began_ms, 99, 5000);
    while (count > 0) {
        (void)close(clients[--count]);
    }
    (void)close(listening);
}

static void
make_packet_pair(int fds[2])
{
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds), 0);
}

static void
a_descriptor_is_passed_with_its_bytes(void **state)
{
    char bytes[8];
    size_t byte_count;
    int stream[2];
    int fds[2];
    int taken;

    (void)state;
    make_packet_pair(fds);
    opb_make_pair(stream);
    assert_int_equal(opb_socket_pass(fds[0], "\x03", 1, stream[0]), OPB_OK);
    assert_int_equal(opb_socket_pass(fds[0], "plain", 5, -1), OPB_OK);
    (void)close(stream[0]); /* only lent: ours to close */
    assert_int_equal(opb_socket_take(fds[1], bytes, sizeof(bytes), &byte_count, &taken),
                     OPB_OK);
    assert_int_equal(byte_count, 1);
    assert_int_equal(bytes[0], 3);
    assert_true(taken >= 0);
    assert_int_equal(fcntl(taken, F_GETFD), FD_CLOEXEC);
    opb_write_all(taken, "y", 1);
    opb_read_all(stream[1], bytes, 1);
    assert_int_equal(bytes[0], 'y');
    (void)close(taken);
    (void)close(stream[1]);
    assert_int_equal(opb_socket_take(fds[1], bytes, sizeof(bytes), &byte_count, &taken),
                     OPB_OK);
    assert_int_equal(byte_count, 5);
    assert_int_equal(taken, -1);
    (void)close(fds[0]);
    assert_int_equal(opb_socket_take(fds[1], bytes, sizeof(bytes), &byte_count, &taken),
                     OPB_GONE);
    (void)close(fds[1]);
}

static void
passing_to_a_closed_or_full_socket_does_not_wait(void **state)
{
    enum opb_status status = OPB_OK;
    int fds[2];

    (void)state;
    make_packet_pair(fds);
    for (int i = 0; i < 100000 && status == OPB_OK; i++) {
        status = opb_socket_pass(fds[0], "x", 1, -1);
    }
    assert_int_equal(status, OPB_LATE);
    (void)close(fds[1]);
    assert_int_equal(opb_socket_pass(fds[0], "x", 1, -1), OPB_GONE);
    (void)close(fds[0]);
    assert_int_equal(opb_socket_pass(-1, "x", 1, -1), OPB_SYSTEM);
    assert_int_equal(opb_socket_pass(-1, "x", 0, -1), OPB_TOO_LARGE);
    assert_int_equal(opb_socket_pass(-1, "x", OPB_MAX_PASSED_BYTES + 1, -1), OPB_TOO_LARGE);
}

/* Passes several descriptors at once, which no peer of ours does. */
static void
pass_many(int socket_fd, const int *fds, size_t count)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(8 * sizeof(int))];
    } control;
    char byte = 'x';
    struct iovec part = {.iov_base = &byte, .iov_len = 1};
    struct msghdr header = {.msg_iov = &part,
                            .msg_iovlen = 1,
                            .msg_control = control.bytes,
                            .msg_controllen = CMSG_SPACE(count * sizeof(int))};
    struct cmsghdr *item = (struct cmsghdr *)control.bytes;

    memset(&control, 0, sizeof(control));
    item->cmsg_level = SOL_SOCKET;
    item->cmsg_type = SCM_RIGHTS;
    item->cmsg_len = CMSG_LEN(count * sizeof(int));
    memcpy(CMSG_DATA(item), fds, count * sizeof(int));
    assert_int_equal(sendmsg(socket_fd, &header, 0), 1);
}

static void
more_descriptors_or_bytes_than_asked_for_are_refused_and_closed(void **state)
{
    char bytes[4];
    size_t byte_count;
    int many[8];
    int fds[2];
    int taken;

    (void)state;
    make_packet_pair(fds);
    for (size_t i = 0; i < 8; i++) {
        many[i] = fds[0];
    }
    for (size_t count = 2; count <= 8; count += 3) {
        pass_many(fds[0], many, count);
        assert_int_equal(opb_socket_take(fds[1], bytes, sizeof(bytes), &byte_count, &taken),
                         OPB_BAD_FRAME);
        assert_int_equal(taken, -1);
    }
    assert_int_equal(opb_socket_pass(fds[0], "too long", 8, fds[0]), OPB_OK);
    assert_int_equal(opb_socket_take(fds[1], bytes, sizeof(bytes), &byte_count, &taken),
                     OPB_BAD_FRAME);
    assert_int_equal(taken, -1);
    (void)close(fds[0]);
    (void)close(fds[1]);
}

static void
deadlines_count_as_poll_does(void **state)
{
    uint64_t now = opb_clock_ms();

    (void)state;
    assert_true(opb_deadline_ms(0) == OPB_FOREVER);
    assert_true(opb_deadline_ms(UINT64_MAX - 5) == OPB_FOREVER);
    assert_in_range(opb_deadline_ms(1000) - now, 1000, 2000);
    assert_int_equal(opb_deadline_poll(OPB_FOREVER), -1);
    assert_int_equal(opb_deadline_poll(0), 0);
    assert_int_equal(opb_deadline_poll(now), 0);
    assert_in_range((uint64_t)opb_deadline_poll(now + 60000), 50000, 60000);
    assert_int_equal(opb_deadline_poll(OPB_FOREVER - 1), INT_MAX);
}

static void
random_bytes_differ_and_secrets_compare(void **state)
{
    uint8_t a[OPB_SECRET_BYTES] = {0};
    uint8_t b[OPB_SECRET_BYTES] = {0};

    (void)state;
    assert_true(opb_secret_equal(a, b, sizeof(a)));
    assert_int_equal(opb_random_bytes(a, sizeof(a)), OPB_OK);
    assert_int_equal(opb_random_bytes(b, sizeof(b)), OPB_OK);
    assert_false(opb_secret_equal(a, b, sizeof(a)));
    memcpy(b, a, sizeof(b));
    assert_true(opb_secret_equal(a, b, sizeof(a)));
    b[sizeof(b) - 1] ^= 1;
    assert_false(opb_secret_equal(a, b, sizeof(a)));
}

#define WITH_FIXTURE(function)                                                             \
    cmocka_unit_test_setup_teardown(function, make_fixture, free_fixture)

int
main(void)
{
    const struct CMUnitTest sockets[] = {
        WITH_FIXTURE(listening_connecting_and_accepting_work),
        WITH_FIXTURE(the_mode_is_the_one_asked_for_whatever_the_umask),
        WITH_FIXTURE(a_stale_socket_is_replaced),
        WITH_FIXTURE(a_socket_that_somebody_serves_is_left_alone),
        WITH_FIXTURE(a_file_that_is_no_socket_is_left_alone),
        WITH_FIXTURE(a_path_that_cannot_be_is_an_error_with_a_reason),
        WITH_FIXTURE(a_listener_waits_for_another_in_the_same_directory_but_not_forever),
        WITH_FIXTURE(connecting_to_a_listener_that_never_accepts_is_late),
        OPB_TEST(a_descriptor_is_passed_with_its_bytes),
        OPB_TEST(passing_to_a_closed_or_full_socket_does_not_wait),
        OPB_TEST(more_descriptors_or_bytes_than_asked_for_are_refused_and_closed),
        OPB_TEST(deadlines_count_as_poll_does),
        OPB_TEST(random_bytes_differ_and_secrets_compare),
    };

    return OPB_RUN(sockets);
}
