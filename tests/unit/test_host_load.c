/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/test_host_load.c - what a script finds, and how a host begins and ends */
#include "tests/unit/host_fixture.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static void
script_finds_the_interpreter_of_the_contract(void **state)
{
    (void)state;
    test_host_run(
        &host,
        "import sys, os\n"
        "before = set(sys.modules)\n"
        "import __main__, threading\n"
        "assert __name__ == 'script' and __package__ == ''\n"
        "assert __file__ == os.path.join(sys.path[0], 'script.py')\n"
        "assert sys.modules['script'].__dict__ is globals()\n"
        "assert sys.argv == [''] and sys.orig_argv == [], (sys.argv, sys.orig_argv)\n"
        "assert os.path.basename(sys.executable).startswith('python3'), sys.executable\n"
        "assert sys.flags.inspect == 1 and sys.flags.utf8_mode == 1\n"
        "assert sys.stdout.encoding == 'utf-8' and sys.stdout.write_through\n"
        "assert sys.getfilesystemencoding() == 'utf-8'\n"
        "assert [n for n in vars(__main__) if not n.startswith('__')] == []\n"
        "assert threading.current_thread() is threading.main_thread()\n"
        "assert 'orthanc' not in before and 'traceback' not in before, before\n"
        "assert 'orthanc' in sys.builtin_module_names\n"
        "import orthanc\n"
        "assert repr(orthanc) == \"<module 'orthanc' (built-in)>\"\n"
        "assert os.environ['ORTHANC_PYTHON_BRIDGE_NODE_VERSION'] == '1.12.6'\n"
        "assert callable(exit)\n"
        "print('caf\\xe9')\n"
        "if __name__ == '__main__': raise SystemError\n");
    test_host_await_output(&host, "caf\xc3\xa9\n");
}

static void
script_has_utf8_whatever_the_locale(void **state)
{
    static const char *const environment[] = {"LC_ALL=C", "PYTHONUTF8=0",
                                              "PYTHONCOERCECLOCALE=0", NULL};

    (void)state;
    test_host_end(&host);
    test_host_start(&host, environment);
    test_host_run(&host, "import os, sys\n"
                         "assert sys.stdout.encoding == 'utf-8'\n"
                         "assert sys.getfilesystemencoding() == 'utf-8'\n"
                         "assert os.environ['LC_ALL'] == 'C'\n");
}

static void
names_of_the_module_follow_the_version_of_the_node(void **state)
{
    (void)state;
    host.version = "1.10.1";
    test_host_run(&host, "import orthanc, os\n"
                         "assert not hasattr(orthanc, 'SetStableStatus')\n"
                         "name = 'ORTHANC_PYTHON_BRIDGE_NODE_VERSION'\n"
                         "assert os.environ[name] == '1.10.1'\n");
}

static void
script_sees_python_signal_handlers_of_a_fresh_interpreter(void **state)
{
    (void)state;
    test_host_run(&host, "import signal\n"
                         "assert signal.getsignal(signal.SIGINT) is "
                         "signal.default_int_handler\n"
                         "assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL\n"
                         "assert signal.getsignal(signal.SIGPIPE) is signal.SIG_IGN\n"
                         "assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == set()\n");
}

static void
load_logs_the_traceback_of_a_script_that_raises(void **state)
{
    char expected[512];

    (void)state;
    test_host_write(&host, "script.py", "def f():\n    raise SystemExit(0)\nf()\n");
    assert_int_equal(test_host_load(&host, "script.py"), OPB_FAULT_RAISED);
    /* Python 3.13 marks more lines: up to the end of each frame's own line. */
    (void)snprintf(expected, sizeof(expected),
                   "LogError: Error during the installation of the Python script, "
                   "traceback:\n<class 'SystemExit'>\n0\n\n"
                   "  File \"%s/script.py\", line 3, in <module>\n    f()\n",
                   host.directory);
    assert_true(test_host_logged(&host, expected));
    (void)snprintf(expected, sizeof(expected),
                   "\n\n  File \"%s/script.py\", line 2, in f\n    raise SystemExit(0)\n",
                   host.directory);
    assert_true(test_host_logged(&host, expected));
    assert_true(test_host_is_running(&host));
    assert_int_equal(test_host_finalize(&host), HOST_NO_FAULT);
    assert_int_equal(test_host_wait(&host), 0);
}

static void
load_logs_a_syntax_error_without_frames(void **state)
{
    (void)state;
    test_host_write(&host, "script.py", "a b\n");
    assert_int_equal(test_host_load(&host, "script.py"), OPB_FAULT_RAISED);
    assert_true(test_host_logged(&host, "traceback:\n<class 'SyntaxError'>\n"
                                        "invalid syntax (script.py, line 1)\n\n"));
}

static void
load_refuses_a_script_whose_name_is_taken(void **state)
{
    /* Loaded already, built in, frozen, ours. */
    static const char *const names[] = {"os.py", "orthanc.py", "runpy.py", "marshal.py"};
    static char expected[64];

    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (i > 0) {
            test_host_end(&host);
            test_host_start(&host, NULL);
        }
        test_host_write(&host, names[i], "raise RuntimeError\n");
        assert_int_equal(test_host_load(&host, names[i]), OPB_FAULT_RUNTIME);
        (void)snprintf(expected, sizeof(expected), "%s cannot be used", names[i]);
        assert_non_null(strstr(host.fault_text, expected));
        assert_string_equal(host.log, "");
    }
}

static void
load_refuses_a_script_that_a_package_beside_it_hides(void **state)
{
    char path[128];

    (void)state;
    (void)snprintf(path, sizeof(path), "mkdir %s/script", host.directory);
    assert_int_equal(system(path), 0);
    test_host_write(&host, "script/__init__.py", "");
    test_host_write(&host, "script.py", "");
    assert_int_equal(test_host_load(&host, "script.py"), OPB_FAULT_RUNTIME);
    assert_non_null(strstr(host.fault_text, "script/__init__.py"));
}

static void
load_runs_a_script_named_like_a_module_that_is_not_loaded(void **state)
{
    (void)state;
    test_host_write(&host, "json.py", "print('mine')\n");
    assert_int_equal(test_host_load(&host, "json.py"), HOST_NO_FAULT);
    test_host_await_output(&host, "mine");
}

static void
load_fails_for_a_name_with_a_dot_as_python_does(void **state)
{
    (void)state;
    test_host_write(&host, "my.script.py", "");
    assert_int_equal(test_host_load(&host, "my.script.py"), OPB_FAULT_RAISED);
    assert_true(test_host_logged(&host, "No module named 'my'"));
}

static void
load_says_why_python_does_not_start(void **state)
{
    static const char *const environment[] = {"PYTHONHOME=/nonexistent", NULL};

    (void)state;
    test_host_end(&host);
    test_host_start(&host, environment);
    test_host_write(&host, "script.py", "");
    assert_int_equal(test_host_load(&host, "script.py"), OPB_FAULT_RUNTIME);
    assert_non_null(strstr(host.fault_text, "PYTHONHOME"));
    assert_true(test_host_is_running(&host));
    assert_int_equal(test_host_finalize(&host), HOST_NO_FAULT);
    assert_int_equal(test_host_wait(&host), 0);
}

static void
load_comes_once_and_must_make_sense(void **state)
{
    struct opb_message *message = opb_message_new();

    (void)state;
    opb_message_begin_request(message, CALL_LOAD, 1);
    opb_pack_map(message, 1);
    opb_pack_cstr(message, "host");
    opb_pack_cstr(message, "one");
    assert_int_equal(test_host_exchange(&host, host.main_lane, message, NULL),
                     OPB_FAULT_PROTOCOL);
    assert_non_null(strstr(host.fault_text, "wrong value of host"));
    assert_int_equal(test_host_load(&host, "script.py"), OPB_FAULT_PROTOCOL);
    assert_non_null(strstr(host.fault_text, "once"));
}

static void
memory_usage_is_printed_every_second(void **state)
{
    (void)state;
    host.memory_usage = true;
    test_host_run(&host, "import threading, sys\n"
                         "assert threading.active_count() == 1\n"
                         "assert 'tracemalloc' not in sys.modules\n");
    test_host_await_output(&host, "Python memory usage: 0.");
    assert_int_equal(test_host_finalize(&host), HOST_NO_FAULT);
    assert_int_equal(test_host_wait(&host), 0);
}

static void
finalize_joins_threads_and_runs_atexit_with_a_node(void **state)
{
    (void)state;
    test_host_run(&host, "import atexit, orthanc, threading, time\n"
                         "def slow():\n"
                         "    time.sleep(0.3)\n"
                         "    print('joined', flush=True)\n"
                         "def last():\n"
                         "    print(len(orthanc.RestApiGet('/big')))\n"
                         "    orthanc.LogWarning('goodbye')\n"
                         "atexit.register(last)\n"
                         "threading.Thread(target=slow).start()\n"
                         "class Object:\n"
                         "    def __call__(self, *arguments): pass\n"
                         "    def __del__(self): orthanc.LogInfo('dropped')\n"
                         "orthanc.RegisterOnChangeCallback(Object())\n");
    assert_int_equal(test_host_finalize(&host), HOST_NO_FAULT);
    assert_int_equal(test_host_wait(&host), 0);
    test_host_await_output(&host, "joined\n100000\n");
    assert_true(test_host_logged(&host, "LogInfo: dropped\n"));
    assert_true(test_host_logged(&host, "LogWarning: goodbye\n"));
}

static void
host_survives_sigint_and_sigterm(void **state)
{
    (void)state;
    test_host_run(&host, "import time\n"); /* the import of signal changes SIGINT */
    assert_int_equal(kill(host.pid, SIGINT), 0);
    assert_int_equal(kill(host.pid, SIGTERM), 0);
    assert_int_equal(test_host_finalize(&host), HOST_NO_FAULT);
    assert_int_equal(test_host_wait(&host), 0);
}

static void
host_survives_sigterm_before_load(void **state)
{
    (void)state;
    assert_int_equal(kill(host.pid, SIGTERM), 0);
    test_host_run(&host, "");
    assert_int_equal(test_host_finalize(&host), HOST_NO_FAULT);
    assert_int_equal(test_host_wait(&host), 0);
}

static void
signal_handlers_of_the_script_run_at_once(void **state)
{
    (void)state;
    test_host_run(&host, "import signal, os\n"
                         "def handler(number, frame):\n"
                         "    os.write(1, b'got %d\\n' % number)\n"
                         "    raise KeyboardInterrupt('and went on')\n"
                         "for s in (signal.SIGUSR1, signal.SIGTERM):\n"
                         "    signal.signal(s, handler)\n");
    assert_int_equal(kill(host.pid, SIGUSR1), 0);
    test_host_await_output(&host, "got 10\n");
    assert_int_equal(kill(host.pid, SIGTERM), 0);
    test_host_await_output(&host, "got 15\n");
    test_host_await_output(&host, "and went on");
    assert_int_equal(test_host_finalize(&host), HOST_NO_FAULT);
    assert_int_equal(test_host_wait(&host), 0);
}

static void
host_ends_with_its_pool_and_takes_children_along(void **state)
{
    (void)state;
    test_host_run(&host, "import subprocess\n"
                         "subprocess.Popen(['sleep', '1000'])\n"
                         "def spin():\n"
                         "    while True: pass\n"
                         "import threading\n"
                         "threading.Thread(target=spin).start()\n");
    (void)close(host.control_fd);
    host.control_fd = -1;
    assert_true(WIFSIGNALED(test_host_wait(&host)));
    assert_int_equal(WTERMSIG(host.wait_status), SIGKILL);
}

static void
host_ends_when_the_node_closes_the_main_lane(void **state)
{
    (void)state;
    test_host_run(&host, "");
    opb_lane_close(host.main_lane);
    host.main_lane = NULL;
    assert_true(WIFEXITED(test_host_wait(&host)));
    test_host_await_output(&host, "the main lane has ended");
}

static void
host_ignores_what_a_supervisor_never_sends(void **state)
{
    int fds[2];
    char byte;

    (void)state;
    opb_make_pair(fds);
    test_host_pass(&host, OPB_CONNECTION_MAIN, fds[1]);
    test_host_pass(&host, 99, fds[1]);
    test_host_pass(&host, OPB_CONNECTION_CALL, -1);
    (void)close(fds[1]);
    assert_int_equal(read(fds[0], &byte, 1), 0); /* both were closed */
    (void)close(fds[0]);
    test_host_run(&host, "");
}

static void
forked_children_die_by_sigterm_and_hold_no_lane(void **state)
{
    (void)state;
    test_host_run(&host, "import os, time, signal\n"
                         "pid = os.fork()\n"
                         "if pid == 0:\n"
                         "    for fd in os.listdir('/proc/self/fd'):\n"
                         "        try: target = os.readlink('/proc/self/fd/' + fd)\n"
                         "        except OSError: continue\n"
                         "        if target.startswith('socket:'): os._exit(1)\n"
                         "    os._exit(0)\n"
                         "assert os.waitpid(pid, 0)[1] == 0\n"
                         "pid = os.fork()\n"
                         "if pid == 0: time.sleep(1000)\n"
                         "os.kill(pid, signal.SIGTERM)\n"
                         "assert os.waitpid(pid, 0)[1] == signal.SIGTERM\n");
}

static void
forked_child_that_leaves_the_script_ends_quietly_for_the_node(void **state)
{
    (void)state;
    test_host_run(&host, "import os\n"
                         "pid = os.fork()\n"
                         "if pid: assert os.waitpid(pid, 0)[1] == 0\n");
    test_host_await_output(&host, "a forked child of the script");
    assert_int_equal(test_host_finalize(&host), HOST_NO_FAULT);
    assert_int_equal(test_host_wait(&host), 0);
}

/* Asks for the stacks; the text that came. */
static void
ask_in_some_way(uint8_t how, char *out, size_t capacity)
{
    uint64_t until_ms = opb_clock_ms() + HOST_WAIT_MS;
    int fd = memfd_create("stacks", MFD_CLOEXEC);
    ssize_t bytes = 0;

    assert_true(fd >= 0);
    test_host_pass(&host, how, fd);
    do {
        assert_true(opb_clock_ms() < until_ms);
        bytes = pread(fd, out, capacity, 0);
        assert_true(bytes >= 0 && (size_t)bytes < capacity);
    } while (bytes == 0 || out[bytes - 1] != '\0');
    (void)close(fd);
}

static void
ask_stacks(char *out, size_t capacity)
{
    ask_in_some_way(OPB_HOST_STACKS, out, capacity);
}

static void *
call_first_route(void *unused)
{
    (void)unused;
    (void)test_host_rest(&host, lane, 0, "/hang", "GET", NULL, 0);
    return NULL;
}

static void
stacks_of_all_threads_are_told_while_one_keeps_the_gil(void **state)
{
    char text[65536];
    pthread_t caller;

    (void)state;
    test_host_run(&host, "import ctypes, orthanc, signal, threading, time\n"
                         "def bystander():\n"
                         "    time.sleep(600)\n"
                         "def hangs(output, uri, **request):\n"
                         "    print('hanging')\n"
                         "    ctypes.PyDLL(None).sleep(600)\n"
                         "assert signal.getsignal(signal.SIGRTMAX) == signal.SIG_DFL\n"
                         "orthanc.RegisterRestCallback('/hang', hangs)\n"
                         "threading.Thread(target=bystander, daemon=True).start()\n");
    lane = test_host_lane(&host);
    assert_int_equal(pthread_create(&caller, NULL, call_first_route, NULL), 0);
    test_host_await_output(&host, "hanging\n");
    ask_stacks(text, sizeof(text));
    assert_non_null(strstr(text, "script.py\", line 6 in hangs"));
    assert_non_null(strstr(text, "script.py\", line 3 in bystander"));
    ask_stacks(text, sizeof(text));
    assert_non_null(strstr(text, "in hangs"));
    assert_int_equal(kill(host.pid, SIGKILL), 0);
    assert_int_equal(pthread_join(caller, NULL), 0);
}

static void
a_host_tells_where_it_is_and_goes_on(void **state)
{
    char text[65536];

    (void)state;
    test_host_run(&host, "import threading, time\n"
                         "count = 0\n"
                         "def computes():\n"
                         "    global count\n"
                         "    while True:\n"
                         "        count += 1\n"
                         "def sleeps():\n"
                         "    time.sleep(600)\n"
                         "threading.Thread(target=computes, daemon=True).start()\n"
                         "threading.Thread(target=sleeps, daemon=True).start()\n"
                         "print('begun')\n");
    test_host_await_output(&host, "begun\n");
    for (int i = 0; i < 50; i++) {
        ask_in_some_way(OPB_HOST_LOOK, text, sizeof(text));
        assert_non_null(strstr(text, "in computes"));
        assert_non_null(strstr(text, "script.py\", line 8 in sleeps"));
    }
    assert_true(test_host_is_running(&host));
    assert_int_equal(test_host_finalize(&host), HOST_NO_FAULT);
    assert_int_equal(test_host_wait(&host), 0);
}

static void
without_python_there_are_no_stacks_to_tell(void **state)
{
    char text[4096];

    (void)state;
    ask_stacks(text, sizeof(text));
    assert_string_equal(text, "Python has not been started, or offers no stacks\n");
    assert_true(test_host_is_running(&host));
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        HOST_TEST(script_finds_the_interpreter_of_the_contract),
        HOST_TEST(script_has_utf8_whatever_the_locale),
        HOST_TEST(names_of_the_module_follow_the_version_of_the_node),
        HOST_TEST(script_sees_python_signal_handlers_of_a_fresh_interpreter),
        HOST_TEST(load_logs_the_traceback_of_a_script_that_raises),
        HOST_TEST(load_logs_a_syntax_error_without_frames),
        HOST_TEST(load_refuses_a_script_whose_name_is_taken),
        HOST_TEST(load_refuses_a_script_that_a_package_beside_it_hides),
        HOST_TEST(load_runs_a_script_named_like_a_module_that_is_not_loaded),
        HOST_TEST(load_fails_for_a_name_with_a_dot_as_python_does),
        HOST_TEST(load_says_why_python_does_not_start),
        HOST_TEST(load_comes_once_and_must_make_sense),
        HOST_TEST(memory_usage_is_printed_every_second),
        HOST_TEST(stacks_of_all_threads_are_told_while_one_keeps_the_gil),
        HOST_TEST(a_host_tells_where_it_is_and_goes_on),
        HOST_TEST(without_python_there_are_no_stacks_to_tell),
        HOST_TEST(finalize_joins_threads_and_runs_atexit_with_a_node),
        HOST_TEST(host_survives_sigint_and_sigterm),
        HOST_TEST(host_survives_sigterm_before_load),
        HOST_TEST(signal_handlers_of_the_script_run_at_once),
        HOST_TEST(host_ends_with_its_pool_and_takes_children_along),
        HOST_TEST(host_ends_when_the_node_closes_the_main_lane),
        HOST_TEST(host_ignores_what_a_supervisor_never_sends),
        HOST_TEST(forked_children_die_by_sigterm_and_hold_no_lane),
        HOST_TEST(forked_child_that_leaves_the_script_ends_quietly_for_the_node),
    };

    return OPB_RUN(tests);
}
