/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/test_host_calls.c - callbacks: arguments, results, nesting, failures */
#include "tests/unit/host_fixture.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* A script with the function f as route 0, and a lane to call it. */
static void
run_route(const char *text)
{
    char script[4096];

    (void)snprintf(script, sizeof(script),
                   "import orthanc, os, sys, threading, time\n%s\n"
                   "orthanc.RegisterRestCallback('/x', f)\n",
                   text);
    test_host_run(&host, script);
    assert_int_equal(host.route_count, 1);
    lane = test_host_lane(&host);
}

static int
get(const char *uri)
{
    return test_host_rest(&host, lane, 0, uri, "GET", NULL, 0);
}

static void
rest_callback_gets_the_keywords_of_a_get_in_order(void **state)
{
    (void)state;
    run_route("def f(output, uri, **request):\n"
              "    output.AnswerBuffer(repr((uri, request)), 'text/plain')");
    assert_int_equal(get("/caf\xc3\xa9"), HOST_NO_FAULT);
    assert_string_equal(host.answer,
                        "('/caf\xc3\xa9', {'method': 'GET', 'groups': ('one', ''), "
                        "'get': {'a': '1'}, 'headers': {'host': 'x'}})");
}

static void
rest_callback_gets_small_and_large_bodies_as_bytes(void **state)
{
    static char body[300000];

    (void)state;
    memset(body, 'b', sizeof(body));
    run_route("def f(output, uri, method, groups, get={}, headers={}, body=None):\n"
              "    assert type(body) is bytes and body.strip(b'b') == b''\n"
              "    output.AnswerBuffer(f'{method} {len(body)} {get}', 'text/plain')");
    assert_int_equal(test_host_rest(&host, lane, 0, "/x", "POST", body, sizeof(body)),
                     HOST_NO_FAULT);
    assert_string_equal(host.answer, "POST 300000 {}");
    assert_int_equal(test_host_rest(&host, lane, 0, "/x", "PUT", body, 10), HOST_NO_FAULT);
    assert_string_equal(host.answer, "PUT 10 {}");
    assert_int_equal(test_host_rest(&host, lane, 0, "/x", "PUT", "", 0), HOST_NO_FAULT);
    assert_string_equal(host.answer, "PUT 0 {}");
}

static void
rest_callback_that_raises_is_logged_with_its_traceback(void **state)
{
    char expected[512];

    (void)state;
    run_route("def f(output, uri, **request):\n"
              "    try: raise ValueError\n"
              "    except ValueError as e: raise orthanc.OrthancException(17, uri) from e");
    assert_int_equal(get("/a"), OPB_FAULT_RAISED);
    (void)snprintf(expected, sizeof(expected),
                   "LogError: Error in the REST callback, traceback:\n"
                   "<class 'orthanc.OrthancException'>\n(17, '/a')\n\n"
                   "  File \"%s/script.py\", line 4, in f\n",
                   host.directory);
    assert_true(test_host_logged(&host, expected));
    assert_null(strstr(host.log, "ValueError'"));
    assert_int_equal(get("/a"), OPB_FAULT_RAISED); /* the lane is as good as before */
}

static void
exceptions_of_every_kind_stay_in_the_host(void **state)
{
    static const char *const kinds[] = {
        "SystemExit(3)", "KeyboardInterrupt()",        "GeneratorExit()",
        "Odd()",         "ValueError('a\\0b\\udc80')", "RecursionError('x')"};
    char script[512];

    (void)state;
    (void)snprintf(
        script, sizeof(script),
        "class Odd(Exception):\n"
        "    def __str__(self): raise self\n"
        "def f(output, uri, **request): raise [%s, %s, %s, %s, %s, %s][int(uri)]",
        kinds[0], kinds[1], kinds[2], kinds[3], kinds[4], kinds[5]);
    run_route(script);
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        char uri[8];

        (void)snprintf(uri, sizeof(uri), "%zu", i);
        assert_int_equal(get(uri), OPB_FAULT_RAISED);
    }
    assert_true(test_host_logged(&host, "<class 'SystemExit'>\n3\n"));
    assert_true(test_host_logged(&host, "<class 'script.Odd'>\n<str() of"));
    assert_true(test_host_logged(&host, "<class 'ValueError'>\na?b?\n"));
}

static void
exception_texts_are_cut_to_what_a_log_bears(void **state)
{
    (void)state;
    run_route("def f(output, uri, **request): raise ValueError('\\xe9' * 20000000)");
    assert_int_equal(get("/"), OPB_FAULT_RAISED);
    assert_true(test_host_logged(&host, "<class 'ValueError'>\n\xc3\xa9\xc3\xa9"));
}

static void
wrong_callables_are_errors_of_the_script(void **state)
{
    (void)state;
    run_route("f = 12");
    assert_int_equal(get("/"), OPB_FAULT_RAISED);
    assert_true(test_host_logged(&host, "traceback:\n<class 'TypeError'>\n"
                                        "'int' object is not callable\n"));
}

static void
frames_of_a_failed_callback_are_not_kept(void **state)
{
    (void)state;
    run_route("class Local:\n"
              "    def __del__(self): os.write(1, b'gone\\n')\n"
              "def f(output, uri, **request):\n"
              "    local = Local()\n"
              "    raise ValueError");
    assert_int_equal(get("/"), OPB_FAULT_RAISED);
    test_host_await_output(&host, "gone");
}

static void
finaliser_of_a_callback_still_reaches_the_node(void **state)
{
    (void)state;
    run_route(
        "class Result:\n"
        "    def __del__(self): os.write(1, orthanc.RestApiGet('/abc')[:1] + b'\\n')\n"
        "def f(output, uri, **request): return Result()");
    assert_int_equal(get("/"), HOST_NO_FAULT);
    test_host_await_output(&host, "x\n");
}

static void
strings_that_are_not_utf8_never_reach_the_script(void **state)
{
    (void)state;
    run_route("def f(output, uri, **request): print('called')");
    assert_int_equal(get("/\xff"), OPB_FAULT_ENCODING);
    assert_int_equal(test_host_change(&host, lane, "\xc3"), OPB_FAULT_ENCODING);
    assert_string_equal(host.log, "");
}

static void
output_is_invalid_once_the_callback_has_returned(void **state)
{
    (void)state;
    run_route("kept = []\n"
              "def f(output, uri, **request):\n"
              "    if kept:\n"
              "        try: kept[0].AnswerBuffer('late', 'text/plain')\n"
              "        except ValueError as e: output.AnswerBuffer(str(e), 'text/plain')\n"
              "    kept.append(output)");
    assert_int_equal(get("/"), HOST_NO_FAULT);
    assert_int_equal(get("/"), HOST_NO_FAULT);
    assert_string_equal(host.answer, "Invalid object");
}

static void
nested_calls_run_on_the_thread_that_waits(void **state)
{
    (void)state;
    run_route("lock = threading.RLock()\n"
              "threads = []\n"
              "def f(output, uri, **request):\n"
              "    with lock:\n"
              "        threads.append(threading.get_ident())\n"
              "        if uri != '/inner':\n"
              "            answer = orthanc.RestApiGet('/nested')\n"
              "            assert answer == b'fault -1', answer\n"
              "            assert threads[0] == threads[1]\n"
              "            assert len(orthanc.RestApiGet('/big')) == 100000");
    assert_int_equal(get("/outer"), HOST_NO_FAULT);
    assert_string_equal(host.log, "");
}

static void
nested_calls_are_served_while_the_script_is_imported(void **state)
{
    (void)state;
    test_host_run(&host, "import orthanc\n"
                         "def f(output, uri, **request): pass\n"
                         "orthanc.RegisterRestCallback('/x', f)\n"
                         "assert orthanc.RestApiGet('/nested') == b'fault -1'\n");
}

static void
ask_in_thread(void *context)
{
    struct opb_lane *other = test_host_lane(&host);

    (void)context;
    assert_int_equal(test_host_rest(&host, other, 0, "/", "GET", NULL, 0), HOST_NO_FAULT);
    opb_lane_close(other);
}

static void
lanes_are_served_at_the_same_time(void **state)
{
    struct opb_thread *thread;

    (void)state;
    run_route("barrier = threading.Barrier(2, timeout=20)\n"
              "def f(output, uri, **request):\n"
              "    assert type(threading.current_thread()).__name__ == '_DummyThread'\n"
              "    barrier.wait()");
    thread = opb_thread_start(ask_in_thread, NULL);
    assert_int_equal(get("/"), HOST_NO_FAULT);
    opb_thread_join(thread);
}

static void
lanes_that_end_leave_nothing_behind(void **state)
{
    (void)state;
    run_route("count = lambda: (len(os.listdir('/proc/self/fd')), "
              "len(os.listdir('/proc/self/task')))\n"
              "expected = None\n"
              "def f(output, uri, **request):\n"
              "    global expected\n"
              "    if uri == '/first': expected = count()\n"
              "    if uri == '/last':\n"
              "        end = time.monotonic() + 20\n"
              "        while count() != expected:\n"
              "            assert time.monotonic() < end, (count(), expected)\n"
              "            time.sleep(0.01)");
    assert_int_equal(get("/first"), HOST_NO_FAULT);
    for (int i = 0; i < 30; i++) {
        struct opb_lane *other = test_host_lane(&host);

        assert_int_equal(test_host_rest(&host, other, 0, "/", "GET", NULL, 0),
                         HOST_NO_FAULT);
        opb_lane_close(other);
    }
    assert_int_equal(get("/last"), HOST_NO_FAULT);
}

static void
change_and_stored_instance_get_their_arguments(void **state)
{
    (void)state;
    test_host_run(
        &host, "import orthanc\n"
               "def change(*a):\n"
               "    assert a == (10, 4, 'id') and type(a[0]) is int\n"
               "    return 'ignored'\n"
               "kept = []\n"
               "def stored(instance, resource):\n"
               "    assert type(instance) is orthanc.DicomInstance and resource == 'abc'\n"
               "    assert instance.GetInstanceSize() == 1234\n"
               "    kept.append(instance)\n"
               "    if len(kept) == 2: kept[0].GetInstanceSize()\n"
               "orthanc.RegisterOnChangeCallback(change)\n"
               "orthanc.RegisterOnStoredInstanceCallback(stored)\n");
    lane = test_host_lane(&host);
    assert_int_equal(test_host_change(&host, lane, "id"), HOST_NO_FAULT);
    assert_int_equal(test_host_change(&host, lane, "other"), OPB_FAULT_RAISED);
    assert_true(test_host_logged(&host,
                                 "LogError: Error in the Python on-change callback, "
                                 "traceback:\n<class 'AssertionError'>\n\n\n  File"));
    assert_int_equal(test_host_stored(&host, lane), HOST_NO_FAULT);
    assert_int_equal(test_host_stored(&host, lane), OPB_FAULT_RAISED);
    assert_true(test_host_logged(&host,
                                 "Error in the Python on-stored-instance callback, "
                                 "traceback:\n<class 'ValueError'>\nInvalid object\n"));
}

static void
filter_takes_nothing_but_booleans(void **state)
{
    bool allowed = false;

    (void)state;
    test_host_run(&host, "import orthanc\n"
                         "results = [True, False, 1, None, '']\n"
                         "def f(uri, **request):\n"
                         "    assert uri == '/system' and request['ip'] == '127.0.0.1'\n"
                         "    keys = ['method', 'ip', 'headers']\n"
                         "    if request['method'] == orthanc.HttpMethod.GET:\n"
                         "        keys.append('get')\n"
                         "    assert list(request) == keys\n"
                         "    return results.pop(0)\n"
                         "orthanc.RegisterIncomingHttpRequestFilter(f)\n");
    lane = test_host_lane(&host);
    assert_int_equal(test_host_filter(&host, lane, 1, &allowed), HOST_NO_FAULT);
    assert_true(allowed);
    assert_int_equal(test_host_filter(&host, lane, 2, &allowed), HOST_NO_FAULT);
    assert_false(allowed);
    for (int i = 0; i < 3; i++) {
        host.log[0] = '\0';
        assert_int_equal(test_host_filter(&host, lane, 1, &allowed), OPB_FAULT_RAISED);
        assert_string_equal(host.log,
                            "LogError: The Python incoming-http-request filter has "
                            "not returned a Boolean\n");
    }
    assert_int_equal(test_host_filter(&host, lane, 1, &allowed), OPB_FAULT_RAISED);
    assert_true(test_host_logged(
        &host,
        "Error in the Python incoming-http-request filter, traceback:\n<class 'Inde"));
}

static void
malformed_calls_are_refused_and_the_lane_goes_on(void **state)
{
    struct opb_message *message = opb_message_new();

    (void)state;
    run_route("def f(output, uri, **request): pass");
    opb_message_begin_request(message, CALL_REST, 1);
    opb_pack_uint(message, 0);
    assert_int_equal(test_host_exchange(&host, lane, message, NULL), OPB_FAULT_PROTOCOL);

    message = opb_message_new();
    opb_message_begin_request(message, CALL_CHANGE, 4);
    opb_pack_int(message, 1);
    opb_pack_int(message, 1);
    opb_pack_cstr(message, "");
    opb_pack_nil(message);
    assert_int_equal(test_host_exchange(&host, lane, message, NULL), OPB_FAULT_PROTOCOL);

    message = opb_message_new();
    opb_message_begin_request(message, CALL_FINALIZE, 0);
    assert_int_equal(test_host_exchange(&host, lane, message, NULL), OPB_FAULT_PROTOCOL);

    message = opb_message_new();
    opb_message_begin_request(message, CALL_NEW, 0);
    assert_int_equal(test_host_exchange(&host, lane, message, NULL), OPB_FAULT_UNAVAILABLE);

    message = opb_message_new();
    opb_message_begin_request(message, 4000000000u, 0);
    assert_int_equal(test_host_exchange(&host, lane, message, NULL), OPB_FAULT_UNAVAILABLE);

    assert_int_equal(test_host_rest(&host, lane, 5, "/", "GET", NULL, 0),
                     OPB_FAULT_UNAVAILABLE);
    assert_int_equal(get("/"), HOST_NO_FAULT);
}

static void
notifications_end_the_lane_and_not_the_host(void **state)
{
    struct opb_message *message = opb_message_new();
    struct opb_frame *frame = NULL;

    (void)state;
    run_route("def f(output, uri, **request): pass");
    opb_message_begin_notify(message, CALL_REST, 0);
    assert_int_equal(opb_lane_send(lane, message, opb_deadline_ms(HOST_WAIT_MS)), OPB_OK);
    opb_message_free(message);
    assert_int_equal(opb_lane_receive(lane, &frame, opb_deadline_ms(HOST_WAIT_MS)),
                     OPB_GONE);
    opb_lane_close(lane);
    lane = test_host_lane(&host);
    assert_int_equal(get("/"), HOST_NO_FAULT);
}

static void
calls_before_load_are_refused(void **state)
{
    static const char body[5000] = {0};

    (void)state;
    lane = test_host_lane(&host);
    assert_int_equal(get("/"), OPB_FAULT_UNAVAILABLE);
    assert_true(test_host_rest(&host, lane, 0, "/", "PUT", body, sizeof(body)) >= 1000);
    assert_true(test_host_is_running(&host));
}

static void
crash_of_the_script_is_the_end_of_the_host_alone(void **state)
{
    (void)state;
    run_route("def f(output, uri, **request): os._exit(7)");
    assert_true(get("/") >= 1000);
    assert_true(WIFEXITED(test_host_wait(&host)));
    assert_int_equal(WEXITSTATUS(host.wait_status), 7);
}

static void
forked_child_of_a_callback_leaves_the_lane_alone(void **state)
{
    (void)state;
    run_route("def f(output, uri, **request):\n"
              "    pid = os.fork()\n"
              "    if pid == 0:\n"
              "        if uri == '/return': return\n"
              "        try: orthanc.RestApiGet('/abc')\n"
              "        except RuntimeError: os._exit(3)\n"
              "        os._exit(4)\n"
              "    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])\n"
              "    output.AnswerBuffer(str(status), 'text/plain')");
    assert_int_equal(get("/x"), HOST_NO_FAULT);
    assert_string_equal(host.answer, "3");
    assert_int_equal(get("/return"), HOST_NO_FAULT);
    assert_string_equal(host.answer, "0");
}

static void
pools_of_processes_in_a_callback_can_be_terminated(void **state)
{
    (void)state;
    run_route("import multiprocessing\n"
              "assert multiprocessing.get_start_method() == 'fork'\n"
              "def work(x): return x + 1\n"
              "def f(output, uri, **request):\n"
              "    with multiprocessing.Pool(2) as pool:\n"
              "        output.AnswerBuffer(str(pool.map(work, [1, 2])), 'text/plain')");
    assert_int_equal(get("/"), HOST_NO_FAULT);
    assert_string_equal(host.answer, "[2, 3]");
}

static void
children_by_spawn_import_script_and_orthanc(void **state)
{
    (void)state;
    run_route("import multiprocessing\n"
              /* the python of the children has no sanitizer, and their orthanc needs it */
              "words = open('/proc/self/maps').read().split()\n"
              "for library in [w for w in words if 'libasan' in w][:1]:\n"
              "    import os\n"
              "    os.environ.update(LD_PRELOAD=library, ASAN_OPTIONS='detect_leaks=0')\n"
              "def work(x): return orthanc.ErrorCode.PLUGIN + x\n"
              "def f(output, uri, **request):\n"
              "    for method in ('spawn', 'forkserver'):\n"
              "        with multiprocessing.get_context(method).Pool(1) as pool:\n"
              "            assert pool.map(work, [1, 2]) == [2, 3]");
    assert_int_equal(get("/"), HOST_NO_FAULT);
}

static void
signal_raised_in_a_callback_is_handled_by_the_main_thread(void **state)
{
    (void)state;
    run_route("import signal\n"
              "seen = threading.Event()\n"
              "def handler(number, frame):\n"
              "    assert threading.current_thread() is threading.main_thread()\n"
              "    seen.set()\n"
              "signal.signal(signal.SIGUSR2, handler)\n"
              "def f(output, uri, **request):\n"
              "    signal.raise_signal(signal.SIGUSR2)\n"
              "    assert seen.wait(20)");
    assert_int_equal(get("/"), HOST_NO_FAULT);
}

static void
finalize_refuses_calls_that_come_late(void **state)
{
    (void)state;
    run_route("def f(output, uri, **request): pass");
    assert_int_equal(get("/"), HOST_NO_FAULT);
    assert_int_equal(test_host_finalize(&host), HOST_NO_FAULT);
    assert_true(get("/") != HOST_NO_FAULT);
    assert_int_equal(test_host_wait(&host), 0);
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        HOST_TEST(rest_callback_gets_the_keywords_of_a_get_in_order),
        HOST_TEST(rest_callback_gets_small_and_large_bodies_as_bytes),
        HOST_TEST(rest_callback_that_raises_is_logged_with_its_traceback),
        HOST_TEST(exceptions_of_every_kind_stay_in_the_host),
        HOST_TEST(exception_texts_are_cut_to_what_a_log_bears),
        HOST_TEST(wrong_callables_are_errors_of_the_script),
        HOST_TEST(frames_of_a_failed_callback_are_not_kept),
        HOST_TEST(finaliser_of_a_callback_still_reaches_the_node),
        HOST_TEST(strings_that_are_not_utf8_never_reach_the_script),
        HOST_TEST(output_is_invalid_once_the_callback_has_returned),
        HOST_TEST(nested_calls_run_on_the_thread_that_waits),
        HOST_TEST(nested_calls_are_served_while_the_script_is_imported),
        HOST_TEST(lanes_are_served_at_the_same_time),
        HOST_TEST(lanes_that_end_leave_nothing_behind),
        HOST_TEST(change_and_stored_instance_get_their_arguments),
        HOST_TEST(filter_takes_nothing_but_booleans),
        HOST_TEST(malformed_calls_are_refused_and_the_lane_goes_on),
        HOST_TEST(notifications_end_the_lane_and_not_the_host),
        HOST_TEST(calls_before_load_are_refused),
        HOST_TEST(crash_of_the_script_is_the_end_of_the_host_alone),
        HOST_TEST(forked_child_of_a_callback_leaves_the_lane_alone),
        HOST_TEST(pools_of_processes_in_a_callback_can_be_terminated),
        HOST_TEST(children_by_spawn_import_script_and_orthanc),
        HOST_TEST(signal_raised_in_a_callback_is_handled_by_the_main_thread),
        HOST_TEST(finalize_refuses_calls_that_come_late),
    };

    return OPB_RUN(tests);
}
