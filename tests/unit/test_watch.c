/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/test_watch.c - noticing that a file of the script has changed */
#include "tests/unit/support.h"

#include "plugin/watch.h"
#include "protocol/limits.h"
#include "protocol/sockets.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char root[64];
static struct opb_watch *watch;

static const char *
path_of(const char *name)
{
    static char path[2][160];
    static int turn;

    turn = !turn;
    (void)snprintf(path[turn], sizeof(path[turn]), "%s/%s", root, name);
    return path[turn];
}

static void
write_file(const char *name)
{
    FILE *file = fopen(path_of(name), "w");

    assert_non_null(file);
    (void)fputs("x", file);
    assert_int_equal(fclose(file), 0);
}

/* Two files in two directories, and one that is not watched. */
static int
make_files(void **state)
{
    static const char *const names[] = {"a/script.py", "a/sub/module.py"};
    char *files = calloc(1, 512);
    size_t end = 0;

    (void)state;
    assert_non_null(files);
    strcpy(root, "/tmp/opb-watch-XXXXXX");
    assert_non_null(mkdtemp(root));
    assert_int_equal(mkdir(path_of("a"), 0700), 0);
    assert_int_equal(mkdir(path_of("a/sub"), 0700), 0);
    for (size_t i = 0; i < 2; i++) {
        write_file(names[i]);
        end += (size_t)sprintf(files + end, "%s", path_of(names[i])) + 1;
    }
    assert_int_equal(opb_watch_new(&watch), OPB_OK);
    opb_watch_set(watch, files);
    return 0;
}

static int
remove_files(void **state)
{
    char command[128];

    (void)state;
    opb_watch_free(watch);
    (void)snprintf(command, sizeof(command), "rm -r %s", root);
    return system(command);
}

/* Whether a change is noticed within that time. */
static bool
is_noticed(uint64_t timeout_ms)
{
    uint64_t deadline_ms = opb_deadline_ms(timeout_ms);

    do {
        struct pollfd item = {.fd = opb_watch_fd(watch), .events = POLLIN};
        uint64_t next_ms = opb_watch_next_ms(watch);

        (void)poll(&item, 1,
                   opb_deadline_poll(next_ms < deadline_ms ? next_ms : deadline_ms));
        opb_watch_read(watch);
        if (opb_watch_next_ms(watch) <= opb_clock_ms() && opb_watch_has_changed(watch)) {
            assert_true(opb_watch_next_ms(watch) == OPB_FOREVER);
            return true;
        }
    } while (opb_clock_ms() < deadline_ms);
    return false;
}

static void
each_file_is_watched_whichever_way_it_changes(void **state)
{
    (void)state;
    assert_false(is_noticed(1));
    write_file("a/script.py");
    assert_true(is_noticed(10000));
    assert_false(is_noticed(500)); /* once */
    write_file("a/sub/module.py");
    assert_true(is_noticed(10000));
    write_file("a/new");
    assert_int_equal(rename(path_of("a/new"), path_of("a/script.py")), 0);
    assert_true(is_noticed(10000));
}

static void
changes_that_follow_each_other_are_one(void **state)
{
    uint64_t began_ms = opb_clock_ms();

    (void)state;
    for (int i = 0; i < 10; i++) {
        write_file("a/script.py");
        assert_false(is_noticed(60));
    }
    assert_true(is_noticed(10000));
    assert_true(opb_clock_ms() - began_ms >= 800);
    assert_false(is_noticed(500));
}

static void
other_files_count_while_the_script_is_broken(void **state)
{
    (void)state;
    write_file("a/other.py");
    assert_false(is_noticed(500));
    opb_watch_any(watch, true);
    write_file("a/other.txt");
    assert_false(is_noticed(500));
    write_file("a/other.py");
    assert_true(is_noticed(10000));
}

static void
a_directory_that_is_replaced_is_found_again(void **state)
{
    (void)state;
    assert_int_equal(rename(path_of("a"), path_of("old")), 0);
    assert_false(is_noticed(500)); /* there is nothing to load */
    assert_int_equal(mkdir(path_of("a"), 0700), 0);
    assert_int_equal(mkdir(path_of("a/sub"), 0700), 0);
    write_file("a/script.py");
    write_file("a/sub/module.py");
    assert_true(is_noticed(10000));
    write_file("a/script.py");
    assert_true(is_noticed(10000));
    write_file("old/script.py"); /* it has lost its name */
    assert_false(is_noticed(500));
}

static void
a_volume_that_is_exchanged_is_noticed(void **state)
{
    (void)state;
    assert_int_equal(symlink("sub", path_of("a/new")), 0);
    assert_int_equal(rename(path_of("a/new"), path_of("a/..data")), 0);
    assert_true(is_noticed(10000));
}

static void
another_list_takes_the_place_of_the_first(void **state)
{
    char *files = calloc(1, 512);

    (void)state;
    assert_non_null(files);
    (void)sprintf(files, "%s", path_of("a/sub/module.py"));
    opb_watch_set(watch, files);
    write_file("a/script.py");
    assert_false(is_noticed(500));
    write_file("a/sub/module.py");
    assert_true(is_noticed(10000));
}

/* Scripts in a/sub come and go; nothing else does. */
static void
scripts_that_come_and_go_in_their_directory_are_noticed(void **state)
{
    char directory[160];
    char *files = calloc(1, 512);

    (void)state;
    assert_non_null(files);
    strcpy(directory, path_of("a/sub"));
    (void)sprintf(files, "%s", path_of("a/script.py"));
    opb_watch_scripts(watch, directory);
    opb_watch_set(watch, files);
    write_file("a/sub/new.py");
    assert_true(is_noticed(10000));
    assert_int_equal(symlink("new.py", path_of("a/sub/link.py")), 0);
    assert_true(is_noticed(10000));
    assert_int_equal(link(path_of("a/sub/new.py"), path_of("a/sub/hard.py")), 0);
    assert_true(is_noticed(10000));
    assert_int_equal(unlink(path_of("a/sub/new.py")), 0);
    assert_true(is_noticed(10000));
    assert_int_equal(rename(path_of("a/sub/link.py"), path_of("a/sub/link.off")), 0);
    assert_true(is_noticed(10000));
    write_file("a/sub/_helper.py");
    write_file("a/sub/text.txt");
    assert_int_equal(mkdir(path_of("a/sub/package.py"), 0700), 0);
    assert_int_equal(rmdir(path_of("a/sub/package.py")), 0);
    assert_int_equal(unlink(path_of("a/sub/_helper.py")), 0);
    assert_int_equal(unlink(path_of("a/script.py")), 0); /* no directory of scripts */
    assert_false(is_noticed(500));
    write_file("a/script.py");
    assert_true(is_noticed(10000));
}

#define WATCH_TEST(function)                                                               \
    cmocka_unit_test_setup_teardown(function, make_files, remove_files)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        WATCH_TEST(each_file_is_watched_whichever_way_it_changes),
        WATCH_TEST(changes_that_follow_each_other_are_one),
        WATCH_TEST(other_files_count_while_the_script_is_broken),
        WATCH_TEST(a_directory_that_is_replaced_is_found_again),
        WATCH_TEST(a_volume_that_is_exchanged_is_noticed),
        WATCH_TEST(scripts_that_come_and_go_in_their_directory_are_noticed),
        WATCH_TEST(another_list_takes_the_place_of_the_first),
    };

    return OPB_RUN(tests);
}
