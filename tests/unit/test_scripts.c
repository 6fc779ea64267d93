/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/test_scripts.c - from what is configured to paths, and what is refused */
#include "tests/unit/support.h"

#include "plugin/scripts.h"
#include "protocol/limits.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char root[64];
static char *before;
static char message[1024];

/* Each test runs in an empty directory. */
static int
enter(void **state)
{
    (void)state;
    strcpy(root, "/tmp/opb-scripts-XXXXXX");
    assert_non_null(mkdtemp(root));
    before = getcwd(NULL, 0);
    assert_int_equal(chdir(root), 0);
    return 0;
}

static int
leave(void **state)
{
    char command[128];

    (void)state;
    assert_int_equal(chdir(before), 0);
    free(before);
    (void)snprintf(command, sizeof(command), "rm -rf '%s'", root);
    assert_int_equal(system(command), 0);
    return 0;
}

static void
make_file(const char *path)
{
    FILE *file = fopen(path, "w");

    assert_non_null(file);
    assert_int_equal(fclose(file), 0);
}

static struct opb_config *
configure(const char *value)
{
    struct opb_config *config;
    char json[8192];

    (void)snprintf(json, sizeof(json), "{\"PythonScript\": %s}", value);
    assert_int_equal(opb_config_parse(&config, json, message, sizeof(message)), OPB_OK);
    return config;
}

/* expected: paths relative to the directory of the test, each followed by a space. */
static void
assert_paths(const struct opb_scripts *scripts, const char *expected)
{
    char found[1024] = "";

    for (uint32_t i = 0; i < scripts->count; i++) {
        size_t used = strlen(found);

        assert_int_equal(strncmp(scripts->paths[i], root, strlen(root)), 0);
        (void)snprintf(found + used, sizeof(found) - used, "%s ",
                       scripts->paths[i] + strlen(root) + 1);
    }
    assert_string_equal(found, expected);
}

static void
assert_found(const char *value, const char *expected, const char *name)
{
    struct opb_config *config = configure(value);
    struct opb_scripts *scripts;

    assert_int_equal(opb_scripts_find(&scripts, config, message, sizeof(message)), OPB_OK);
    assert_paths(scripts, expected);
    assert_int_equal(strncmp(config->script_path, root, strlen(root)), 0);
    assert_string_equal(config->script_path + strlen(root) + 1, name);
    opb_scripts_unref(scripts);
    opb_config_free(config);
}

static void
assert_refused(const char *value, const char *expected)
{
    struct opb_config *config = configure(value);
    struct opb_scripts *scripts;

    assert_int_equal(opb_scripts_find(&scripts, config, message, sizeof(message)),
                     OPB_REFUSED);
    assert_null(scripts);
    if (strstr(message, expected) == NULL) {
        fail_msg("\"%s\" is not in \"%s\"", expected, message);
    }
    opb_config_free(config);
}

static void
one_script_is_checked_as_the_official_plugin_does(void **state)
{
    (void)state;
    make_file("b.PY");
    assert_int_equal(mkdir("c.py", 0700), 0);
    assert_found("\"b.PY\"", "b.PY ", "b.PY");
    assert_refused("\"\"", "Python script must have the \".py\" file extension: ");
    assert_refused("\"b.txt\"",
                   "Python script must have the \".py\" file extension: b.txt");
    assert_refused("\"x.py/b\"",
                   "Python script must have the \".py\" file extension: x.py/b");
    assert_refused("\"a.py\"", "Inexistent directory for the Python script: a.py");
    assert_refused("\"c.py\"", "Inexistent directory for the Python script: c.py");
    assert_int_equal(rename("b.PY", "orthanc.py"), 0);
    assert_refused("\"orthanc.py\"",
                   "The Python script orthanc.py cannot be imported as a module named "
                   "\"orthanc\": rename the file");
}

static void
a_directory_stands_for_its_scripts_byte_by_byte(void **state)
{
    (void)state;
    assert_int_equal(mkdir("d", 0700), 0);
    assert_int_equal(mkdir("d/deeper.py", 0700), 0);
    make_file("d/b.py");
    make_file("d/B.py");
    make_file("d/a_1.py");
    make_file("d/\xc3\xa9.py");
    make_file("d/_helper.py");
    make_file("d/.hidden.py");
    make_file("d/a.PY");
    make_file("d/a.py.new");
    make_file("d/a.pyc");
    assert_found("\"d\"", "d/B.py d/a_1.py d/b.py d/\xc3\xa9.py ", "d/*.py");
    assert_found("\"d/\"", "d/B.py d/a_1.py d/b.py d/\xc3\xa9.py ", "d/*.py");
}

static void
a_directory_is_looked_at_each_time(void **state)
{
    struct opb_config *config;
    struct opb_scripts *first;
    struct opb_scripts *second;

    (void)state;
    assert_int_equal(mkdir("d", 0700), 0);
    make_file("d/a.py");
    config = configure("\"d\"");
    assert_int_equal(opb_scripts_find(&first, config, message, sizeof(message)), OPB_OK);
    make_file("d/0.py");
    assert_int_equal(chdir("/"), 0); /* by its absolute path */
    assert_int_equal(opb_scripts_find(&second, config, message, sizeof(message)), OPB_OK);
    assert_paths(first, "d/a.py ");
    assert_paths(second, "d/0.py d/a.py ");
    opb_scripts_unref(first);
    opb_scripts_unref(second);
    assert_int_equal(chdir(root), 0);
    assert_int_equal(unlink("d/a.py"), 0);
    assert_int_equal(unlink("d/0.py"), 0);
    assert_int_equal(opb_scripts_find(&second, config, message, sizeof(message)),
                     OPB_REFUSED);
    assert_non_null(strstr(message, "/d\", a directory without scripts: it must hold at "
                                    "least one file whose name ends with \".py\""));
    opb_config_free(config);
}

static void
a_directory_without_good_scripts_is_refused(void **state)
{
    (void)state;
    assert_int_equal(mkdir("d", 0700), 0);
    make_file("d/_a.py");
    assert_refused("\"d\"", "The configuration option \"PythonScript\" names \"/tmp/");
    assert_refused("\"d\"", "a directory without scripts");
    make_file("d/orthanc.py");
    assert_refused("\"d\"", "/d/orthanc.py cannot be imported as a module named");
    assert_int_equal(unlink("d/orthanc.py"), 0);
    assert_int_equal(symlink("nowhere", "d/gone.py"), 0);
    assert_refused("\"d\"", "/d/gone.py\", which must be a file: No such file");
    assert_int_equal(unlink("d/gone.py"), 0);
    make_file("d/a.py");
    assert_int_equal(symlink("a.py", "d/b.py"), 0);
    assert_refused("\"d\"", "which are one file: each script can be named once");
}

static void
an_array_keeps_its_order(void **state)
{
    (void)state;
    assert_int_equal(mkdir("d", 0700), 0);
    make_file("d/one.py");
    make_file("two.py");
    make_file("_three.py");
    assert_found("[\"two.py\", \"d/one.py\", \"_three.py\"]", "two.py d/one.py _three.py ",
                 "two.py and 2 more");
    assert_found("[\"two.py\"]", "two.py ", "two.py");
}

static void
what_an_array_may_not_name_is_refused(void **state)
{
    (void)state;
    assert_int_equal(mkdir("d", 0700), 0);
    assert_int_equal(mkdir("x.py", 0700), 0);
    make_file("a.py");
    make_file("d/a.py");
    make_file("b.txt");
    assert_int_equal(link("a.py", "same.py"), 0);
    assert_refused("[\"a.py\", \"b.txt\"]",
                   "The configuration option \"PythonScript\" names \"b.txt\", which must "
                   "be a file whose name ends with \".py\"");
    assert_refused("[\"d\"]", "names \"d\", which must be a file whose name ends with");
    assert_refused("[\"x.py\"]", "names \"x.py\", which is no file, and must be one");
    assert_refused("[\"no.py\"]", "names \"no.py\", which must be a file: No such file");
    assert_refused("[\"a.py\", \"./a.py\"]", "which are one file");
    assert_refused("[\"a.py\", \"same.py\"]", "which are one file");
    assert_refused("[\"a.py\", \"d/a.py\"]",
                   "/d/a.py\", which would be one module of Python, since their files have "
                   "one name: rename one of them");
}

static void
more_than_64_scripts_are_refused(void **state)
{
    char name[32];

    (void)state;
    assert_int_equal(mkdir("d", 0700), 0);
    for (unsigned i = 0; i < OPB_MAX_SCRIPTS; i++) {
        (void)snprintf(name, sizeof(name), "d/s%02u.py", i);
        make_file(name);
    }
    {
        struct opb_config *config = configure("\"d\"");
        struct opb_scripts *scripts;

        assert_int_equal(opb_scripts_find(&scripts, config, message, sizeof(message)),
                         OPB_OK);
        assert_int_equal(scripts->count, OPB_MAX_SCRIPTS);
        opb_scripts_unref(scripts);
        opb_config_free(config);
    }
    make_file("d/t.py");
    assert_refused("\"d\"", "/d/t.py\", which is one script too many: at most 64");
}

static void
assert_no_value(const char *value, const char *allowed)
{
    struct opb_config *config = NULL;
    char json[4096];
    char expected[4096];

    (void)snprintf(json, sizeof(json), "{\"Python\": {\"Path\": %s}}", value);
    assert_int_equal(opb_config_parse(&config, json, message, sizeof(message)),
                     OPB_REFUSED);
    (void)snprintf(expected, sizeof(expected),
                   "The configuration option \"Python.Path\" is %s, and must be %s", value,
                   allowed);
    assert_string_equal(message, expected);
}

static void
what_is_no_path_and_no_array_of_paths_is_refused(void **state)
{
    static const char strings[] = "a path, or an array of paths of scripts: strings that "
                                  "are not empty, without NUL characters";
    char many[512] = "[";

    (void)state;
    assert_no_value("12", "a string (the path of a script, or of a directory with scripts) "
                          "or an array of paths of scripts");
    assert_no_value("{}", "a string (the path of a script, or of a directory with scripts) "
                          "or an array of paths of scripts");
    assert_no_value("[]", "a path, or an array of 1 to 64 paths of scripts");
    assert_no_value("[\"a.py\",12]", strings);
    assert_no_value("[\"a.py\",[\"b.py\"]]", strings);
    assert_no_value("[\"a.py\",\"\"]", strings);
    assert_no_value("[\"a\\u0000.py\"]", strings);
    assert_no_value("\"a\\u0000.py\"", "a string without NUL characters");
    for (int i = 0; i < 65; i++) {
        strcat(many, i == 0 ? "\"\"" : ",\"\"");
    }
    strcat(many, "]");
    {
        struct opb_config *config = NULL;
        char json[600];

        (void)snprintf(json, sizeof(json), "{\"PythonScript\": %s}", many);
        assert_int_equal(opb_config_parse(&config, json, message, sizeof(message)),
                         OPB_REFUSED);
        assert_non_null(strstr(message, "an array of 1 to 64 paths of scripts"));
    }
}

static void
the_older_key_wins_whatever_the_kinds_of_their_values(void **state)
{
    struct opb_config *config;

    (void)state;
    assert_int_equal(
        opb_config_parse(&config,
                         "{\"Python\": {\"Path\": [\"a.py\"]}, \"PythonScript\": \"b.py\"}",
                         message, sizeof(message)),
        OPB_OK);
    assert_string_equal(config->script, "b.py");
    assert_null(config->script_list);
    opb_config_free(config);
    assert_int_equal(
        opb_config_parse(&config,
                         "{\"Python\": {\"Path\": \"a.py\"}, \"PythonScript\": [\"b.py\"]}",
                         message, sizeof(message)),
        OPB_OK);
    assert_int_equal(config->script_count, 1);
    assert_string_equal(config->script_list[0], "b.py");
    opb_config_free(config);
}

#define IN_DIRECTORY(name) cmocka_unit_test_setup_teardown(name, enter, leave)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        IN_DIRECTORY(one_script_is_checked_as_the_official_plugin_does),
        IN_DIRECTORY(a_directory_stands_for_its_scripts_byte_by_byte),
        IN_DIRECTORY(a_directory_is_looked_at_each_time),
        IN_DIRECTORY(a_directory_without_good_scripts_is_refused),
        IN_DIRECTORY(an_array_keeps_its_order),
        IN_DIRECTORY(what_an_array_may_not_name_is_refused),
        IN_DIRECTORY(more_than_64_scripts_are_refused),
        OPB_TEST(what_is_no_path_and_no_array_of_paths_is_refused),
        OPB_TEST(the_older_key_wins_whatever_the_kinds_of_their_values),
    };

    return OPB_RUN(tests);
}
