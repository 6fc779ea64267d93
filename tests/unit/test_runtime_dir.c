/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/test_runtime_dir.c - the private directory, and sweeping those of the dead */
#include "tests/unit/support.h"

#include "plugin/runtime_dir.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEAD_PID "2147483646" /* above every limit of the kernel */

static char parent[64];
static char message[512];

static int
make_parent(void **state)
{
    (void)state;
    strcpy(parent, "/tmp/opb-runtime-XXXXXX");
    return mkdtemp(parent) == NULL;
}

static int
remove_parent(void **state)
{
    (void)state;
    assert_int_equal(rmdir(parent), 0); /* a test that leaves something has failed */
    return 0;
}

static void
path_in(char *out, const char *name, const char *file)
{
    (void)snprintf(out, 160, "%s/%s/%s", parent, name, file);
}

static void
make_file(const char *name, const char *file)
{
    char path[160];
    int fd;

    path_in(path, name, file);
    fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
    assert_true(fd >= 0);
    (void)close(fd);
}

static void
make_directory(const char *name)
{
    char path[160];

    path_in(path, name, "");
    assert_int_equal(mkdir(path, 0700), 0);
}

static bool
exists(const char *name)
{
    char path[160];
    struct stat info;

    path_in(path, name, "");
    path[strlen(path) - 1] = '\0';
    return lstat(path, &info) == 0;
}

static void
a_directory_is_private_and_goes_away_with_what_is_in_it(void **state)
{
    struct opb_runtime_dir *dir;
    char path[160];
    struct stat info;
    int fd;

    (void)state;
    assert_int_equal(opb_runtime_dir_new(&dir, parent, message, sizeof(message)), OPB_OK);
    (void)snprintf(path, sizeof(path), "%s", opb_runtime_dir_pool_socket(dir));
    *strrchr(path, '/') = '\0';
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0700);
    fd = open(opb_runtime_dir_node_socket(dir), O_WRONLY | O_CREAT, 0600);
    assert_true(fd >= 0);
    (void)close(fd);
    opb_runtime_dir_touch(dir);
    opb_runtime_dir_free(dir);
    assert_int_not_equal(stat(path, &info), 0);
}

static void
a_living_directory_is_not_swept(void **state)
{
    struct opb_runtime_dir *dir;
    struct stat info;
    char path[160];

    (void)state;
    assert_int_equal(opb_runtime_dir_new(&dir, parent, message, sizeof(message)), OPB_OK);
    (void)snprintf(path, sizeof(path), "%s", opb_runtime_dir_pool_socket(dir));
    strcpy(strrchr(path, '/'), "/lock");
    opb_runtime_dir_sweep(parent);
    assert_int_equal(stat(path, &info), 0);
    opb_runtime_dir_free(dir);
}

static void
what_a_dead_server_left_is_swept(void **state)
{
    (void)state;
    make_directory("orthanc-python-77-abcdef");
    make_file("orthanc-python-77-abcdef", "lock");
    make_file("orthanc-python-77-abcdef", "pool.sock");
    make_file("orthanc-python-77-abcdef", "node.sock");
    make_directory("orthanc-python-" DEAD_PID "-abcdef"); /* died before it had the lock */
    opb_runtime_dir_sweep(parent);
    assert_false(exists("orthanc-python-77-abcdef"));
    assert_false(exists("orthanc-python-" DEAD_PID "-abcdef"));
}

static void
what_is_not_ours_is_not_swept(void **state)
{
    static const char *const names[] = {"orthanc-python-77-abcde",
                                        "orthanc-python-x-abcdef",
                                        "orthanc-python-077-abcdef", "other"};
    char path[160];

    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        make_directory(names[i]);
        make_file(names[i], "lock");
    }
    opb_runtime_dir_sweep(parent);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        assert_true(exists(names[i]));
        path_in(path, names[i], "lock");
        assert_int_equal(unlink(path), 0);
        path_in(path, names[i], "");
        assert_int_equal(rmdir(path), 0);
    }
}

static void
a_symbolic_link_is_not_followed(void **state)
{
    char target[160];
    char path[160];

    (void)state;
    make_directory("target");
    make_file("target", "lock");
    make_file("target", "pool.sock");
    (void)snprintf(target, sizeof(target), "%s/target", parent);
    (void)snprintf(path, sizeof(path), "%s/orthanc-python-77-abcdef", parent);
    assert_int_equal(symlink(target, path), 0);
    opb_runtime_dir_sweep(parent);
    assert_true(exists("target/pool.sock"));
    assert_int_equal(unlink(path), 0);
    path_in(path, "target", "pool.sock");
    assert_int_equal(unlink(path), 0);
    path_in(path, "target", "lock");
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(target), 0);
}

static void
a_locked_file_keeps_a_directory_even_of_a_dead_number(void **state)
{
    char path[160];
    int fd;

    (void)state;
    make_directory("orthanc-python-" DEAD_PID "-abcdef");
    path_in(path, "orthanc-python-" DEAD_PID "-abcdef", "lock");
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(flock(fd, LOCK_EX | LOCK_NB), 0);
    opb_runtime_dir_sweep(parent); /* as if in another process namespace */
    assert_true(exists("orthanc-python-" DEAD_PID "-abcdef"));
    (void)close(fd);
    opb_runtime_dir_sweep(parent);
    assert_false(exists("orthanc-python-" DEAD_PID "-abcdef"));
}

static void
a_parent_that_cannot_be_used_is_named_with_the_way_out(void **state)
{
    struct opb_runtime_dir *dir;
    char deep[160];

    (void)state;
    assert_int_equal(opb_runtime_dir_new(&dir, "/proc/1", message, sizeof(message)),
                     OPB_SYSTEM);
    assert_non_null(strstr(message, "/proc/1 ("));
    assert_non_null(strstr(message, "\"Python.RuntimeDirectory\""));
    assert_int_equal(opb_runtime_dir_new(&dir, "relative", message, sizeof(message)),
                     OPB_SYSTEM);
    (void)snprintf(deep, sizeof(deep), "%s/%080d", parent, 0);
    assert_int_equal(opb_runtime_dir_new(&dir, deep, message, sizeof(message)),
                     OPB_TOO_LARGE);
    assert_non_null(strstr(message, "too long"));
}

static void
the_environment_names_the_usual_place(void **state)
{
    struct opb_runtime_dir *dir;
    char both[160];

    (void)state;
    (void)snprintf(both, sizeof(both), "%s:/nonexistent", parent);
    assert_int_equal(setenv("RUNTIME_DIRECTORY", both, 1), 0);
    assert_int_equal(opb_runtime_dir_new(&dir, NULL, message, sizeof(message)), OPB_OK);
    assert_memory_equal(opb_runtime_dir_pool_socket(dir), parent, strlen(parent));
    opb_runtime_dir_free(dir);
    assert_int_equal(unsetenv("RUNTIME_DIRECTORY"), 0);
}

#define DIR_TEST(function)                                                                 \
    cmocka_unit_test_setup_teardown(function, make_parent, remove_parent)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        DIR_TEST(a_directory_is_private_and_goes_away_with_what_is_in_it),
        DIR_TEST(a_living_directory_is_not_swept),
        DIR_TEST(what_a_dead_server_left_is_swept),
        DIR_TEST(what_is_not_ours_is_not_swept),
        DIR_TEST(a_symbolic_link_is_not_followed),
        DIR_TEST(a_locked_file_keeps_a_directory_even_of_a_dead_number),
        DIR_TEST(a_parent_that_cannot_be_used_is_named_with_the_way_out),
        DIR_TEST(the_environment_names_the_usual_place),
    };

    return OPB_RUN(tests);
}
