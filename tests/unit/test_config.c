/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/test_config.c - the configuration keys, and what wrong ones say */
#include "tests/unit/support.h"

#include "plugin/config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char message[512];

static struct opb_config *
parse(const char *json)
{
    struct opb_config *config = NULL;

    assert_int_equal(opb_config_parse(&config, json, message, sizeof(message)), OPB_OK);
    assert_string_equal(message, "");
    return config;
}

static void
assert_refused(const char *json, const char *expected)
{
    struct opb_config *config = NULL;

    assert_int_equal(opb_config_parse(&config, json, message, sizeof(message)),
                     OPB_REFUSED);
    assert_null(config);
    assert_string_equal(message, expected);
}

static void
an_empty_configuration_has_the_defaults(void **state)
{
    struct opb_config *config = parse("{\"Name\": \"x\", \"Plugins\": []}");

    (void)state;
    assert_null(config->script);
    assert_null(config->worker);
    assert_null(config->runtime_directory);
    assert_null(config->pool);
    assert_null(config->pool_user);
    assert_null(config->node_socket);
    assert_null(config->node_name);
    assert_false(config->verbose);
    assert_false(config->late_routes);
    assert_true(config->shared_memory);
    assert_int_equal(config->queue_timeout_ms, 10000);
    assert_int_equal(config->start_timeout_ms, 60000);
    assert_int_equal(config->stop_timeout_ms, 30000);
    assert_int_equal(config->stopped_timeout_ms, 45000);
    assert_int_equal(config->max_restarts, 10);
    assert_int_equal(config->max_events, 100000);
    assert_int_equal(config->dicom_port, 4242);
    assert_int_equal(config->restart_window_ms, 60000);
    assert_int_equal(config->reload_timeout_ms, 60000);
    assert_int_equal(config->drain_timeout_ms, 30000);
    assert_string_equal(config->admin_path, "/python-bridge");
    opb_config_free(config);
}

static void
every_key_is_read(void **state)
{
    struct opb_config *config =
        parse("{\"DicomPort\": 104, \"Python\": {\"Path\": \"a.py\", \"Verbose\": true, "
              "\"DisplayMemoryUsage\": true,"
              "\"AllowThreads\": true, \"LateRoutes\": true, "
              "\"SharedMemory\": false, \"Worker\": \"/w\", \"Workers\": 64,"
              "\"RuntimeDirectory\": \"/r\", \"Pool\": \"/p\", \"QueueTimeout\": 0.5,"
              "\"PoolUser\": \"nobody\", \"NodeName\": \"main-1.x\","
              "\"NodeSocket\": \"/n\","
              "\"StartTimeout\": 7, \"StopTimeout\": 1.25, \"StoppedTimeout\": 6, "
              "\"MaxRestarts\": 0,"
              "\"RestartWindow\": 2.5, \"ReloadTimeout\": 8,"
              "\"Reload\": \"replace\", \"ReloadOnChange\": true, \"MaxCalls\": 100, "
              "\"MaxMemory\": 512, "
              "\"MaxEvents\": 77,"
              "\"DrainTimeout\": 9, \"AdminPath\": "
              "\"/my-own/x_1\"}}");

    (void)state;
    assert_string_equal(config->script, "a.py");
    assert_true(config->verbose);
    assert_true(config->display_memory_usage);
    assert_true(config->allow_threads);
    assert_true(config->late_routes);
    assert_true(config->reload_replaces);
    assert_false(config->shared_memory);
    assert_string_equal(config->worker, "/w");
    assert_string_equal(config->runtime_directory, "/r");
    assert_string_equal(config->pool, "/p");
    assert_string_equal(config->pool_user, "nobody");
    assert_string_equal(config->node_socket, "/n");
    assert_string_equal(config->node_name, "main-1.x");
    assert_int_equal(config->queue_timeout_ms, 500);
    assert_int_equal(config->start_timeout_ms, 7000);
    assert_int_equal(config->stop_timeout_ms, 1250);
    assert_int_equal(config->stopped_timeout_ms, 6000);
    assert_int_equal(config->max_restarts, 0);
    assert_int_equal(config->restart_window_ms, 2500);
    assert_int_equal(config->reload_timeout_ms, 8000);
    assert_int_equal(config->drain_timeout_ms, 9000);
    assert_int_equal(config->max_calls, 100);
    assert_true(config->reload_on_change);
    assert_int_equal(config->max_memory_mb, 512);
    assert_int_equal(config->max_events, 77);
    assert_int_equal(config->dicom_port, 104);
    assert_string_equal(config->admin_path, "/my-own/x_1");
    assert_int_equal(config->workers, 64);
    opb_config_free(config);
}

static void
reload_is_one_of_two_words(void **state)
{
    struct opb_config *config = parse("{\"Python\": {\"Reload\": \"beside\"}}");

    (void)state;
    assert_false(config->reload_replaces);
    opb_config_free(config);
    assert_refused("{\"Python\": {\"Reload\": \"after\"}}",
                   "The configuration option \"Python.Reload\" is \"after\", and must be "
                   "\"beside\" or \"replace\"");
    assert_refused("{\"Python\": {\"Reload\": true}}",
                   "The configuration option \"Python.Reload\" is true, and must be "
                   "\"beside\" or \"replace\"");
}

static void
only_what_runs_under_a_lock_has_a_limit_by_default(void **state)
{
    struct opb_config *config = parse("{}");

    (void)state;
    assert_int_equal(config->call_timeout_ms[OPB_CALL_REST_INDEX], 0);
    assert_int_equal(config->call_timeout_ms[OPB_CALL_CHANGE_INDEX], 0);
    assert_int_equal(config->call_timeout_ms[OPB_CALL_MOVE_APPLY_INDEX], 0);
    assert_int_equal(config->call_timeout_ms[OPB_CALL_STORAGE_READ_INDEX], 0);
    assert_int_equal(config->call_timeout_ms[OPB_CALL_STORAGE_REMOVE_INDEX], 60000);
    assert_int_equal(config->call_timeout_ms[OPB_CALL_HTTP_FILTER_INDEX], 60000);
    assert_int_equal(config->call_timeout_ms[OPB_CALL_RECEIVED_INSTANCE_INDEX], 60000);
    assert_int_equal(config->call_timeout_ms[OPB_CALL_WORKLIST2_INDEX], 60000);
    assert_int_equal(config->call_timeout_ms[OPB_CALL_COMMITMENT_FREE_INDEX], 60000);
    assert_false(config->strict);
    assert_false(config->fail_open[OPB_CALL_HTTP_FILTER_INDEX]);
    opb_config_free(config);
}

static void
call_timeout_is_for_all_kinds_or_by_kind(void **state)
{
    struct opb_config *config = parse("{\"Python\": {\"CallTimeout\": 2.5}}");

    (void)state;
    assert_int_equal(config->call_timeout_ms[OPB_CALL_REST_INDEX], 2500);
    assert_int_equal(config->call_timeout_ms[OPB_CALL_FIND2_INDEX], 2500);
    assert_int_equal(config->call_timeout_ms[OPB_CALL_LOAD_INDEX], 0);
    assert_int_equal(config->call_timeout_ms[OPB_CALL_FINALIZE_INDEX], 0);
    opb_config_free(config);
    config = parse("{\"Python\": {\"CallTimeout\": {\"StorageArea\": 3, \"Find\": 0}}}");
    assert_int_equal(config->call_timeout_ms[OPB_CALL_REST_INDEX], 0);
    assert_int_equal(config->call_timeout_ms[OPB_CALL_HTTP_FILTER_INDEX], 60000);
    assert_int_equal(config->call_timeout_ms[OPB_CALL_FIND_INDEX], 0);
    assert_int_equal(config->call_timeout_ms[OPB_CALL_FIND2_INDEX], 0);
    assert_int_equal(config->call_timeout_ms[OPB_CALL_STORAGE_CREATE_INDEX], 3000);
    assert_int_equal(config->call_timeout_ms[OPB_CALL_STORAGE_REMOVE3_INDEX], 3000);
    opb_config_free(config);
    config = parse("{\"Python\": {\"CallTimeout\": {\"Rest\": 30, \"Default\": 7}}}");
    assert_int_equal(config->call_timeout_ms[OPB_CALL_REST_INDEX], 30000);
    assert_int_equal(config->call_timeout_ms[OPB_CALL_CHANGE_INDEX], 7000);
    assert_int_equal(config->call_timeout_ms[OPB_CALL_HTTP_FILTER_INDEX], 7000);
    opb_config_free(config);
}

static void
a_wrong_call_timeout_is_refused(void **state)
{
    static const char *const wrong[] = {"-1",
                                        "0.01",
                                        "86401",
                                        "\"5\"",
                                        "true",
                                        "[1]",
                                        "null",
                                        "{\"rest\": 1}",
                                        "{\"Rest\": -1}",
                                        "{\"Rest\": {}}",
                                        "{\"Default\": \"1\"}",
                                        "{\"Load\": 1}"};

    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        struct opb_config *config = NULL;
        char json[128];

        (void)snprintf(json, sizeof(json), "{\"Python\": {\"CallTimeout\": %s}}", wrong[i]);
        assert_int_equal(opb_config_parse(&config, json, message, sizeof(message)),
                         OPB_REFUSED);
        assert_non_null(
            strstr(message, "The configuration option \"Python.CallTimeout\" is"));
        assert_non_null(strstr(message, "\"CStoreFilter\""));
    }
}

static void
max_restarts_is_a_whole_number(void **state)
{
    (void)state;
    assert_refused("{\"Python\": {\"MaxRestarts\": 2.5}}",
                   "The configuration option \"Python.MaxRestarts\" is 2.5, and must be a "
                   "whole number from 0 to 100");
    assert_refused("{\"Python\": {\"MaxRestarts\": 101}}",
                   "The configuration option \"Python.MaxRestarts\" is 101, and must be a "
                   "whole number from 0 to 100");
}

static void
preload_names_modules(void **state)
{
    struct opb_config *config =
        parse("{\"Python\": {\"Preload\": [\"numpy\", \"concurrent.futures\", \"_x9\", "
              "\"größe\"]}}");

    (void)state;
    assert_int_equal(config->preload_count, 4);
    assert_string_equal(config->preload[0], "numpy");
    assert_string_equal(config->preload[1], "concurrent.futures");
    assert_string_equal(config->preload[2], "_x9");
    assert_string_equal(config->preload[3], "größe");
    opb_config_free(config);
}

static void
preload_refuses_what_is_no_name_of_a_module(void **state)
{
    static const char *const wrong[] = {"\"\"",          "\".a\"",  "\"a.\"",  "\"a..b\"",
                                        "\"9a\"",        "\"a-b\"", "\"a b\"", "12",
                                        "\"a\\u0000b\"", "null"};
    char json[128];
    char expected[256];

    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        (void)snprintf(json, sizeof(json), "{\"Python\": {\"Preload\": [%s]}}", wrong[i]);
        (void)snprintf(expected, sizeof(expected),
                       "The configuration option \"Python.Preload\" is [%s], and must be "
                       "an array of names of modules, such as \"numpy\" or "
                       "\"concurrent.futures\"",
                       wrong[i]);
        assert_refused(json, expected);
    }
    assert_refused("{\"Python\": {\"Preload\": \"numpy\"}}",
                   "The configuration option \"Python.Preload\" is \"numpy\", and must be "
                   "an array of at most 64 names of modules");
    assert_refused("{\"Python\": {\"Preload\": [\"json\", \"orthanc\"]}}",
                   "The configuration option \"Python.Preload\" is "
                   "[\"json\",\"orthanc\"], and must be without \"orthanc\", which hosts "
                   "have anyway");
}

static void
fail_open_names_filters(void **state)
{
    struct opb_config *config =
        parse("{\"Python\": {\"Strict\": true, \"FailOpen\": [\"CStoreFilter\", "
              "\"HttpFilter\"]}}");

    (void)state;
    assert_true(config->strict);
    assert_true(config->fail_open[OPB_CALL_HTTP_FILTER_INDEX]);
    assert_true(config->fail_open[OPB_CALL_CSTORE_FILTER_INDEX]);
    assert_false(config->fail_open[OPB_CALL_RECEIVED_INSTANCE_INDEX]);
    opb_config_free(config);
    assert_refused("{\"Python\": {\"FailOpen\": [\"HttpFilter\", \"Find\"]}}",
                   "The configuration option \"Python.FailOpen\" is "
                   "[\"HttpFilter\",\"Find\"], and must be an array of \"HttpFilter\", "
                   "\"ReceivedInstance\" and \"CStoreFilter\": other callbacks have "
                   "nothing to let in");
    assert_refused("{\"Python\": {\"FailOpen\": true}}",
                   "The configuration option \"Python.FailOpen\" is true, and must be an "
                   "array of \"HttpFilter\", \"ReceivedInstance\" and \"CStoreFilter\": "
                   "other callbacks have nothing to let in");
}

static void
the_old_key_wins_over_the_alias_and_verbose_is_either(void **state)
{
    struct opb_config *config =
        parse("{\"PythonScript\": \"old.py\", \"PythonVerbose\": true,"
              "\"Python\": {\"Path\": \"new.py\", \"Verbose\": false}}");

    (void)state;
    assert_string_equal(config->script, "old.py");
    assert_true(config->verbose);
    opb_config_free(config);
}

static void
a_wrong_type_names_key_value_and_what_is_allowed(void **state)
{
    (void)state;
    assert_refused("{\"PythonScript\": 12}",
                   "The configuration option \"PythonScript\" is 12, and must be a string "
                   "(the path of a script, or of a directory with scripts) or an array of "
                   "paths of scripts");
    assert_refused(
        "{\"PythonVerbose\": \"yes\"}",
        "The configuration option \"PythonVerbose\" is \"yes\", and must be true or "
        "false");
    assert_refused("{\"Python\": 12}",
                   "The configuration section \"Python\" is 12, and must be an object");
    assert_refused(
        "{\"Python\": {\"AllowThreads\": \"yes\"}}",
        "The configuration option \"Python.AllowThreads\" is \"yes\", and must be "
        "true or false");
    assert_refused(
        "{\"Python\": {\"Worker\": \"\"}}",
        "The configuration option \"Python.Worker\" is \"\", and must be a string "
        "that is not empty");
    assert_refused(
        "{\"Python\": {\"Path\": \"a\\u0000b\"}}",
        "The configuration option \"Python.Path\" is \"a\\u0000b\", and must be a "
        "string without NUL characters");
    assert_refused(
        "{\"Python\": {\"QueueTimeout\": 0}}",
        "The configuration option \"Python.QueueTimeout\" is 0, and must be a number "
        "of seconds from 0.1 to 3600");
    assert_refused(
        "{\"Python\": {\"MaxCalls\": -1}}",
        "The configuration option \"Python.MaxCalls\" is -1, and must be a whole "
        "number from 0 to 2147483647");
    assert_refused(
        "{\"Python\": {\"MaxMemory\": 1.5}}",
        "The configuration option \"Python.MaxMemory\" is 1.5, and must be a whole "
        "number from 0 to 1048576");
    assert_refused(
        "{\"Python\": {\"MaxEvents\": 9}}",
        "The configuration option \"Python.MaxEvents\" is 9, and must be a whole "
        "number from 10 to 1000000");
    assert_refused("{\"Python\": {\"StopTimeout\": true}}",
                   "The configuration option \"Python.StopTimeout\" is true, and must be a "
                   "number of seconds from 0.1 to 3600");
}

static void
a_path_of_routes_is_refused_if_it_is_none(void **state)
{
    static const char *const wrong[] = {"x", "/", "/x/", "//x", "/x//y", "/x.y", "/(.*)"};
    char json[128];
    char expected[256];

    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        (void)snprintf(json, sizeof(json), "{\"Python\": {\"AdminPath\": \"%s\"}}",
                       wrong[i]);
        (void)snprintf(
            expected, sizeof(expected),
            "The configuration option \"Python.AdminPath\" is \"%s\", and must be "
            "a path like \"/python-bridge\" (letters, digits, - _ / only), or "
            "empty",
            wrong[i]);
        assert_refused(json, expected);
    }
    opb_config_free(parse("{\"Python\": {\"AdminPath\": \"\"}}"));
}

static void
workers_are_a_number_from_1_to_64(void **state)
{
    static const char *const wrong[] = {"0", "65", "-1", "1.5", "\"2\"", "true"};
    char json[80];
    char expected[160];

    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        (void)snprintf(json, sizeof(json), "{\"Python\": {\"Workers\": %s}}", wrong[i]);
        (void)snprintf(expected, sizeof(expected),
                       "The configuration option \"Python.Workers\" is %s, and must be a "
                       "whole number from 1 to 64",
                       wrong[i]);
        assert_refused(json, expected);
    }
}

static void
an_unknown_key_names_the_nearest_known_one(void **state)
{
    (void)state;
    assert_refused(
        "{\"Python\": {\"verbos\": true}}",
        "The configuration option \"Python.verbos\" is not known to this version; "
        "the nearest known option is \"Python.Verbose\"");
    assert_refused("{\"Python\": {\"QueueTimeOut\": 1}}",
                   "The configuration option \"Python.QueueTimeOut\" is not known to this "
                   "version; the nearest known option is \"Python.QueueTimeout\"");
}

static void
long_values_and_messages_are_cut(void **state)
{
    struct opb_config *config;
    char json[2048];
    char small[16];

    (void)state;
    (void)snprintf(json, sizeof(json), "{\"Python\": {\"Workers\": \"%01500d\"}}", 0);
    assert_int_equal(opb_config_parse(&config, json, message, sizeof(message)),
                     OPB_REFUSED);
    assert_true(strlen(message) < 400);
    assert_int_equal(opb_config_parse(&config, json, small, sizeof(small)), OPB_REFUSED);
    assert_int_equal(strlen(small), sizeof(small) - 1);
}

static void
what_is_not_json_is_refused(void **state)
{
    struct opb_config *config;

    (void)state;
    assert_int_equal(opb_config_parse(&config, "{", message, sizeof(message)), OPB_REFUSED);
    assert_int_equal(opb_config_parse(&config, "[]", message, sizeof(message)),
                     OPB_REFUSED);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        OPB_TEST(an_empty_configuration_has_the_defaults),
        OPB_TEST(every_key_is_read),
        OPB_TEST(reload_is_one_of_two_words),
        OPB_TEST(only_what_runs_under_a_lock_has_a_limit_by_default),
        OPB_TEST(call_timeout_is_for_all_kinds_or_by_kind),
        OPB_TEST(a_wrong_call_timeout_is_refused),
        OPB_TEST(max_restarts_is_a_whole_number),
        OPB_TEST(fail_open_names_filters),
        OPB_TEST(the_old_key_wins_over_the_alias_and_verbose_is_either),
        OPB_TEST(a_wrong_type_names_key_value_and_what_is_allowed),
        OPB_TEST(a_path_of_routes_is_refused_if_it_is_none),
        OPB_TEST(workers_are_a_number_from_1_to_64),
        OPB_TEST(preload_names_modules),
        OPB_TEST(preload_refuses_what_is_no_name_of_a_module),
        OPB_TEST(an_unknown_key_names_the_nearest_known_one),
        OPB_TEST(long_values_and_messages_are_cut),
        OPB_TEST(what_is_not_json_is_refused),
    };

    return OPB_RUN(tests);
}
