/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/test_host_scripts.c - several scripts in one host: import, owners, order */
#include "tests/unit/host_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The scripts script.py, two.py and, if there is one, three.py. */
static void
run(const char *one, const char *two, const char *three)
{
    test_host_add(&host, two);
    if (three != NULL) {
        test_host_add(&host, three);
    }
    test_host_run(&host, one);
    lane = test_host_lane(&host);
}

/* Load fails, and says so. */
static void
assert_fails(const char *one, const char *two, const char *expected)
{
    test_host_add(&host, two);
    test_host_write(&host, "script.py", one);
    assert_true(test_host_load(&host, "script.py") != HOST_NO_FAULT);
    if (strstr(host.fault_text, expected) == NULL) {
        fail_msg("\"%s\" is not in \"%s\"", expected, host.fault_text);
    }
}

/* A text with the directory of the scripts in the middle. */
static void
assert_logged(const char *before, const char *after)
{
    char text[1024];

    (void)snprintf(text, sizeof(text), "%s%s%s", before, host.directory, after);
    if (!test_host_logged(&host, text)) {
        fail_msg("\"%s\" is not in the log: %s", text, host.log);
    }
}

static void
get(uint32_t route, const char *expected)
{
    assert_int_equal(test_host_rest(&host, lane, route, "/x", "GET", NULL, 0),
                     HOST_NO_FAULT);
    assert_string_equal(host.answer, expected);
}

static void
scripts_are_imported_in_their_order_on_the_main_thread(void **state)
{
    (void)state;
    run("import sys, os, threading\n"
        "assert sys.path[0] == os.path.dirname(__file__)\n"
        "assert 'two' not in sys.modules and __name__ == 'script'\n"
        "sys.seen = [threading.current_thread() is threading.main_thread()]\n",
        "import sys, threading\n"
        "assert 'script' in sys.modules and __name__ == 'two'\n"
        "assert sys.path.count(sys.path[0]) == 1\n"
        "sys.seen.append(threading.current_thread() is threading.main_thread())\n",
        "import sys\n"
        "print('seen', sys.seen, flush=True)\n");
    test_host_await_output(&host, "seen [True, True]\n");
}

static void
a_script_that_another_has_imported_runs_once(void **state)
{
    (void)state;
    run("import two, orthanc\n"
        "def f(output, uri, **request): output.AnswerBuffer(str(two.count), 'x/y')\n"
        "orthanc.RegisterRestCallback('/a', f)\n",
        "import orthanc\n"
        "count = globals().get('count', 0) + 1\n"
        "orthanc.RegisterRestCallback('/b', print)\n"
        "orthanc.RegisterOnChangeCallback(print)\n",
        "import orthanc\n"
        "try: orthanc.RegisterRestCallback('/b', print)\n" /* it belongs to two.py */
        "except RuntimeError as e: assert 'two.py' in str(e), e\n"
        "else: raise SystemError\n");
    get(1, "1"); /* the routes of two.py came first */
}

static void
a_script_that_raises_is_named(void **state)
{
    (void)state;
    assert_fails("", "def f():\n    raise ValueError('no luck')\nf()\n",
                 "/two.py: <class 'ValueError'>\nno luck\n");
    assert_logged("LogError: Error during the installation of the Python script (",
                  "/two.py), traceback:\n<class 'ValueError'>\nno luck\n");
}

static void
later_scripts_are_not_imported_after_a_failure(void **state)
{
    (void)state;
    test_host_add(&host, "print('it runs', flush=True)\n");
    test_host_write(&host, "script.py", "raise ValueError('no luck')\n");
    assert_int_equal(test_host_load(&host, "script.py"), OPB_FAULT_RAISED);
    assert_logged("Error during the installation of the Python script (",
                  "/script.py), traceback:\n");
    test_host_write(&host, "output2", "");
    {
        char command[256];

        (void)snprintf(command, sizeof(command), "! grep -q 'it runs' %s",
                       host.output_path);
        assert_int_equal(system(command), 0);
    }
}

static void
a_script_whose_name_is_that_of_another_module_is_named(void **state)
{
    (void)state;
    assert_fails("import sys, types\nsys.modules['two'] = types.ModuleType('two')\n", "",
                 "/two.py cannot be used: its name is that of another module of Python");
}

static void
every_script_gets_every_change_whatever_the_others_do(void **state)
{
    (void)state;
    run("import orthanc\n"
        "def f(*event): print('first', event, flush=True)\n"
        "orthanc.RegisterOnChangeCallback(f)\n",
        "import orthanc\n"
        "def f(*event): raise ValueError('second')\n"
        "orthanc.RegisterOnChangeCallback(f)\n",
        "import orthanc\n"
        "def f(*event): print('third', event, flush=True)\n"
        "orthanc.RegisterOnChangeCallback(f)\n");
    assert_int_equal(test_host_change(&host, lane, "abc"), OPB_FAULT_RAISED);
    test_host_await_output(&host, "first (10, 4, 'abc')\nthird (10, 4, 'abc')\n");
    assert_logged("LogError: Error in the Python on-change callback (",
                  "/two.py), traceback:\n<class 'ValueError'>\nsecond\n");
}

static void
every_script_gets_every_instance(void **state)
{
    (void)state;
    run("import orthanc\n"
        "def f(instance, name):\n"
        "    print('first', instance.GetInstanceSize(), flush=True)\n"
        "    raise SystemExit(1)\n"
        "orthanc.RegisterOnStoredInstanceCallback(f)\n",
        "import orthanc\n"
        "def f(instance, name): print('second', instance.GetInstanceSize(), flush=True)\n"
        "orthanc.RegisterOnStoredInstanceCallback(f)\n",
        NULL);
    assert_int_equal(test_host_stored(&host, lane), OPB_FAULT_RAISED);
    test_host_await_output(&host, "first 1234\nsecond 1234\n");
    assert_logged("Error in the Python on-stored-instance callback (",
                  "/script.py), traceback:");
}

static void
all_filters_must_agree_and_none_sees_what_another_has_changed(void **state)
{
    bool allowed = false;

    (void)state;
    run("import orthanc\n"
        "def f(uri, **request):\n"
        "    request['headers']['x'] = 'y'\n"
        "    return request['method'] != orthanc.HttpMethod.POST\n"
        "orthanc.RegisterIncomingHttpRequestFilter(f)\n",
        "import orthanc\n"
        "def f(uri, **request):\n"
        "    assert request['headers'] == {}\n"
        "    print('asked', request['method'], flush=True)\n"
        "    return 1 if request['method'] == orthanc.HttpMethod.PUT else\\\n"
        "        request['method'] != orthanc.HttpMethod.DELETE\n"
        "orthanc.RegisterIncomingHttpRequestFilter(f)\n",
        NULL);
    assert_int_equal(test_host_filter(&host, lane, 1, &allowed), HOST_NO_FAULT);
    assert_true(allowed);
    assert_int_equal(test_host_filter(&host, lane, 2, &allowed), HOST_NO_FAULT);
    assert_false(allowed); /* the second is not asked */
    assert_int_equal(test_host_filter(&host, lane, 4, &allowed), HOST_NO_FAULT);
    assert_false(allowed);
    test_host_await_output(&host, "asked 1\nasked 4\n");
    assert_int_equal(test_host_filter(&host, lane, 3, &allowed), OPB_FAULT_RAISED);
    assert_logged("The Python incoming-http-request filter has not returned a Boolean (",
                  "/two.py)");
}

static void
what_has_one_place_is_refused_with_both_names(void **state)
{
    (void)state;
    run("import orthanc\n"
        "orthanc.RegisterFindCallback(print)\n"
        "orthanc.RegisterMoveCallback2(print, print, print, print)\n"
        "orthanc.RegisterWorklistCallback(print)\n"
        "orthanc.RegisterStorageArea(print, print, print)\n"
        "orthanc.RegisterReceivedInstanceCallback(print)\n"
        "orthanc.RegisterIncomingCStoreInstanceFilter(print)\n"
        "orthanc.RegisterStorageCommitmentScpCallback(print, print)\n"
        "try: orthanc.RegisterFindCallback(print)\n" /* the contract's */
        "except RuntimeError as e:\n"
        "    assert str(e) == 'Can only register one Python C-FIND SCP callback', e\n",
        "import orthanc, os\n"
        "where = os.path.dirname(__file__)\n"
        "for name, count in [('Find', 1), ('Find2', 1), ('Move', 1), ('Move2', 4),\n"
        "                    ('Worklist', 1), ('Worklist2', 1),\n"
        "                    ('ReceivedInstance', 1),\n"
        "                    ('StorageCommitmentScp', 2)]:\n"
        "    register = getattr(orthanc, 'Register%s%sCallback' % (\n"
        "        name.rstrip('2'), ''), None) if name[-1] != '2' else\\\n"
        "        getattr(orthanc, 'Register%sCallback2' % name[:-1], None)\n"
        "    if register is None: continue\n"
        "    try: register(*[print] * count)\n"
        "    except RuntimeError as e:\n"
        "        assert str(e).startswith('Can only register on'), e\n"
        "        assert str(e).endswith(': the script %s/script.py has done so already, '\n"
        "                               'and the script %s/two.py cannot as well'\n"
        "                               % (where, where)), e\n"
        "    else: raise SystemError(name)\n"
        "for register, count in [(orthanc.RegisterStorageArea, 3),\n"
        "                        (orthanc.RegisterIncomingCStoreInstanceFilter, 1)]:\n"
        "    try: register(*[print] * count)\n"
        "    except RuntimeError as e: assert 'script.py has done so already' in str(e)\n"
        "    else: raise SystemError(register)\n",
        NULL);
}

static void
one_route_of_two_scripts_is_refused_with_both_names(void **state)
{
    (void)state;
    run("import orthanc\n"
        "def f(output, uri, **request): output.AnswerBuffer('one', 'x/y')\n"
        "orthanc.RegisterRestCallback('/a', f)\n"
        "orthanc.RegisterRestCallback('/a', print)\n", /* within one script it is allowed */
        "import orthanc, os\n"
        "where = os.path.dirname(__file__)\n"
        "def f(output, uri, **request): output.AnswerBuffer('two', 'x/y')\n"
        "try: orthanc.RegisterRestCallback('/a', f)\n"
        "except RuntimeError as e:\n"
        "    assert str(e) == 'The REST route /a is that of the script %s/script.py, and "
        "'\\\n"
        "        'the script %s/two.py cannot register it as well' % (where, where), e\n"
        "else: raise SystemError\n"
        "orthanc.RegisterRestCallback('/b', f)\n",
        NULL);
    assert_int_equal(host.route_count, 3);
    get(0, "one");
    get(2, "two");
}

static void
callbacks_that_raise_are_logged_with_their_script_also_when_nested(void **state)
{
    (void)state;
    run("import orthanc\n"
        "def inner(output, uri, **request): print('inner', flush=True)\n"
        "orthanc.RegisterRestCallback('/inner', inner)\n",
        "import orthanc\n"
        "def outer(output, uri, **request):\n"
        "    orthanc.RestApiGet('/nested')\n" /* calls route 0 */
        "    raise ValueError('outer')\n"
        "orthanc.RegisterRestCallback('/outer', outer)\n",
        NULL);
    assert_int_equal(test_host_rest(&host, lane, 1, "/x", "GET", NULL, 0),
                     OPB_FAULT_RAISED);
    test_host_await_output(&host, "inner\n");
    assert_logged("Error in the REST callback (",
                  "/two.py), traceback:\n<class 'ValueError'>\nouter\n");
}

/* In whose name something is registered while nothing is being imported. */
static void
late_registrations_belong_to_the_script_whose_code_runs(void **state)
{
    (void)state;
    test_host_write(&host, "helper.py",
                    "import orthanc\n"
                    "def register(kind, *callables):\n"
                    "    getattr(orthanc, kind)(*callables)\n"
                    "def callback(output, uri, **request):\n" /* of no script by itself */
                    "    register('RegisterOnStoredInstanceCallback', print)\n"
                    "    output.AnswerBuffer('done', 'x/y')\n");
    run("import orthanc, helper\n"
        "helper.register('RegisterOnStoredInstanceCallback', print)\n",
        "import orthanc, helper\n"
        "def f(output, uri, **request):\n"
        "    helper.register('RegisterOnChangeCallback', print)\n"
        "    try: orthanc.RegisterOnChangeCallback(print)\n" /* two.py has one now */
        "    except RuntimeError as e: output.AnswerBuffer(str(e), 'x/y')\n"
        "orthanc.RegisterRestCallback('/b', f)\n",
        "import orthanc, helper\n"
        "orthanc.RegisterRestCallback('/c', helper.callback)\n");
    get(0, "Can only register one Python on-changes callback");
    get(1, "done"); /* not script.py's, which would be its second */
    assert_int_equal(test_host_rest(&host, lane, 1, "/x", "GET", NULL, 0),
                     OPB_FAULT_RAISED);
    assert_logged("Error in the REST callback (",
                  "/three.py), traceback:\n<class 'RuntimeError'>\nCan only register one "
                  "Python on-stored-instance callback\n");
}

static void
bind_to(const char *path, const char *reason)
{
    char message[512];
    size_t bytes;

    bytes = (size_t)snprintf(message, sizeof(message), "%c%s%c%s", (int)OPB_HOST_BINDING,
                             path, 0, reason);
    assert_int_equal(opb_socket_pass(host.control_fd, message, bytes, -1), OPB_OK);
}

/* A host that has its main lane already is told for the main lane's Load. */
static void
only_the_scripts_that_the_pool_names_are_loaded(void **state)
{
    char path[96];

    (void)state;
    (void)snprintf(path, sizeof(path), "%s/script.py", host.directory);
    test_host_add(&host, "");
    test_host_write(&host, "script.py", "");
    bind_to(path, "");
    opb_lane_close(test_host_lane(&host)); /* what was sent before has been read */
    assert_int_equal(test_host_load(&host, "script.py"), OPB_FAULT_RUNTIME);
    assert_non_null(strstr(host.fault_text, "lets this host run 1 scripts, and not 2"));
}

static void
scripts_in_another_order_than_the_pool_names_them_are_refused(void **state)
{
    char path[96];

    (void)state;
    (void)snprintf(path, sizeof(path), "%s/script.py", host.directory);
    test_host_add(&host, "");
    test_host_write(&host, "script.py", "");
    bind_to(host.more[0], "");
    bind_to(path, "");
    opb_lane_close(test_host_lane(&host));
    assert_int_equal(test_host_load(&host, "script.py"), OPB_FAULT_RUNTIME);
    assert_non_null(strstr(host.fault_text, "lets this host run"));
}

static void
one_script_that_may_not_be_run_keeps_all_from_being_loaded(void **state)
{
    char path[96];

    (void)state;
    (void)snprintf(path, sizeof(path), "%s/script.py", host.directory);
    test_host_add(&host, "");
    test_host_write(&host, "script.py", "");
    bind_to(path, "");
    bind_to("", "because");
    opb_lane_close(test_host_lane(&host));
    assert_int_equal(test_host_load(&host, "script.py"), OPB_FAULT_RUNTIME);
    assert_string_equal(host.fault_text, "The pool does not run this script: because");
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        HOST_TEST(scripts_are_imported_in_their_order_on_the_main_thread),
        HOST_TEST(a_script_that_another_has_imported_runs_once),
        HOST_TEST(a_script_that_raises_is_named),
        HOST_TEST(later_scripts_are_not_imported_after_a_failure),
        HOST_TEST(a_script_whose_name_is_that_of_another_module_is_named),
        HOST_TEST(every_script_gets_every_change_whatever_the_others_do),
        HOST_TEST(every_script_gets_every_instance),
        HOST_TEST(all_filters_must_agree_and_none_sees_what_another_has_changed),
        HOST_TEST(what_has_one_place_is_refused_with_both_names),
        HOST_TEST(one_route_of_two_scripts_is_refused_with_both_names),
        HOST_TEST(callbacks_that_raise_are_logged_with_their_script_also_when_nested),
        HOST_TEST(late_registrations_belong_to_the_script_whose_code_runs),
        HOST_TEST(only_the_scripts_that_the_pool_names_are_loaded),
        HOST_TEST(scripts_in_another_order_than_the_pool_names_them_are_refused),
        HOST_TEST(one_script_that_may_not_be_run_keeps_all_from_being_loaded),
    };

    return OPB_RUN(tests);
}
