/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/test_shim.c - no C++ exception leaves an SDK call */
#include "plugin_support.h"
#include "throwing.h"

#include "plugin/shim.h"
#include "plugin/stack.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static OrthancPluginErrorCode
throw_json_error(const void *params)
{
    (void)params;
    throw_runtime_error("Value is not convertible to Int.");
    return OrthancPluginErrorCode_Success;
}

static OrthancPluginErrorCode
throw_a_number(const void *params)
{
    (void)params;
    throw_number(7);
    return OrthancPluginErrorCode_Success;
}

static OrthancPluginErrorCode
throw_a_text(const void *params)
{
    (void)params;
    throw_text("plain text");
    return OrthancPluginErrorCode_Success;
}

static OrthancPluginErrorCode
throw_in_log(const void *params)
{
    (void)params;
    throw_runtime_error("the log is broken");
    return OrthancPluginErrorCode_Success;
}

static OrthancPluginErrorCode
end_thread(const void *params)
{
    (void)params;
    pthread_exit((void *)(uintptr_t)5);
}

static OrthancPluginErrorCode
succeed(const void *params)
{
    (void)params;
    return OrthancPluginErrorCode_Success;
}

static int
make_shim(void **state)
{
    fake_orthanc_reset();
    opb_shim_forget();
    *state = opb_shim_new(fake_orthanc());
    return *state != NULL ? 0 : -1;
}

static int
free_shim(void **state)
{
    opb_shim_free(*state);
    opb_stacks_fini();
    return 0;
}

static OrthancPluginErrorCode
delete_uri(OrthancPluginContext *context)
{
    return OrthancPluginRestApiDelete(context, "/x");
}

static void
shim_passes_results_through(void **state)
{
    OrthancPluginContext *context = *state;

    assert_int_equal(delete_uri(context), OrthancPluginErrorCode_UnknownPluginService);
    fake_on(_OrthancPluginService_RestApiDelete, succeed);
    assert_int_equal(delete_uri(context), OrthancPluginErrorCode_Success);
    assert_string_equal(opb_shim_exception(), "");
    assert_string_equal(context->orthancVersion, "1.10.1");
}

static void
shim_turns_a_standard_exception_into_an_internal_error(void **state)
{
    fake_on(_OrthancPluginService_RestApiDelete, throw_json_error);
    assert_int_equal(delete_uri(*state), OrthancPluginErrorCode_InternalError);
    assert_string_equal(opb_shim_exception(), "Value is not convertible to Int.");
    assert_true(fake_log_has("plugin service 3003"));
    assert_true(fake_log_has("Value is not convertible to Int."));
    opb_shim_forget();
    assert_string_equal(opb_shim_exception(), "");
}

static void
shim_catches_what_is_no_standard_exception(void **state)
{
    fake_on(_OrthancPluginService_RestApiDelete, throw_a_number);
    assert_int_equal(delete_uri(*state), OrthancPluginErrorCode_InternalError);
    assert_string_equal(opb_shim_exception(), "a C++ exception of type i");
    fake_on(_OrthancPluginService_RestApiDelete, throw_a_text);
    assert_int_equal(delete_uri(*state), OrthancPluginErrorCode_InternalError);
    assert_string_equal(opb_shim_exception(), "plain text");
}

static void
shim_survives_a_log_that_throws(void **state)
{
    fake_on(_OrthancPluginService_LogError, throw_in_log);
    fake_on(_OrthancPluginService_RestApiDelete, throw_json_error);
    assert_int_equal(delete_uri(*state), OrthancPluginErrorCode_InternalError);
}

struct private_call {
    OrthancPluginContext *context;
    OrthancPluginErrorCode code;
};

static void
call_on_private_stack(void *argument)
{
    struct private_call *call = argument;

    call->code = delete_uri(call->context);
}

static void
shim_catches_on_a_private_stack(void **state)
{
    struct private_call call = {.context = *state};

    fake_on(_OrthancPluginService_RestApiDelete, throw_json_error);
    assert_int_equal(opb_stack_run(call_on_private_stack, &call), OPB_OK);
    assert_int_equal(call.code, OrthancPluginErrorCode_InternalError);
}

static void *
call_and_return(void *context)
{
    (void)delete_uri(context);
    return NULL;
}

static void
shim_lets_the_end_of_a_thread_through(void **state)
{
    pthread_t thread;
    void *result = NULL;

    fake_on(_OrthancPluginService_RestApiDelete, end_thread);
    assert_int_equal(pthread_create(&thread, NULL, call_and_return, *state), 0);
    assert_int_equal(pthread_join(thread, &result), 0);
    assert_int_equal((uintptr_t)result, 5);
}

static void
without_the_shim_an_exception_ends_the_process(void **state)
{
    struct rlimit none = {0, 0};
    int status = 0;
    pid_t pid;

    (void)state;
    fake_on(_OrthancPluginService_RestApiDelete, throw_json_error);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        (void)setrlimit(RLIMIT_CORE, &none);
        (void)signal(SIGABRT, SIG_DFL);
        close(STDERR_FILENO);
        (void)delete_uri(fake_orthanc());
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(shim_passes_results_through, make_shim, free_shim),
        cmocka_unit_test_setup_teardown(
            shim_turns_a_standard_exception_into_an_internal_error, make_shim, free_shim),
        cmocka_unit_test_setup_teardown(shim_catches_what_is_no_standard_exception,
                                        make_shim, free_shim),
        cmocka_unit_test_setup_teardown(shim_survives_a_log_that_throws, make_shim,
                                        free_shim),
        cmocka_unit_test_setup_teardown(shim_catches_on_a_private_stack, make_shim,
                                        free_shim),
        cmocka_unit_test_setup_teardown(shim_lets_the_end_of_a_thread_through, make_shim,
                                        free_shim),
        cmocka_unit_test_setup_teardown(without_the_shim_an_exception_ends_the_process,
                                        make_shim, free_shim),
    };

    return OPB_RUN(tests);
}
