/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/test_invocation_phases.c - when an SDK call may reach the server
 *
 * Here:      calls while Orthanc stops, and of functions that it is too old for.
 */
#include "invocation_fixture.h"

#include "plugin/invocation.h"
#include "plugin/shim.h"

#include "protocol/sockets.h"

#include <stdatomic.h>
#include <time.h>

static void
pack_delete(struct invocation *fixture)
{
    sdk_begin(fixture, "RestApiDelete", 1);
    opb_pack_cstr(fixture->message, "/x");
}

static void
after_the_stop_own_threads_call_no_server(void **state)
{
    struct invocation *fixture = *state;

    fake_on(_OrthancPluginService_RestApiDelete, sdk_nothing);
    pack_delete(fixture);
    sdk_expect_nil(fixture);
    opb_node_set_phase(fixture->node, OPB_PHASE_STOPPED);
    pack_delete(fixture);
    sdk_expect_fault(fixture, OPB_FAULT_ORTHANC, 2038, "error 2038");
    sdk_begin(fixture, "LookupPatient", 1); /* NULL is an error without a reason */
    opb_pack_cstr(fixture->message, "x");
    sdk_expect_fault(fixture, OPB_FAULT_ORTHANC, -1, "error -1");
    sdk_begin(fixture, "LogInfo", 1); /* what needs no server works */
    opb_pack_cstr(fixture->message, "text");
    sdk_expect_nil(fixture);
    opb_node_set_phase(fixture->node, OPB_PHASE_FINALIZING);
    pack_delete(fixture);
    sdk_expect_fault(fixture, OPB_FAULT_ORTHANC, 2038, "error 2038");
    sdk_begin(fixture, "SetRootUri", 1);
    opb_pack_cstr(fixture->message, "/x");
    sdk_expect_fault(fixture, OPB_FAULT_ORTHANC, 6,
                     "SetRootUri cannot run while Orthanc unloads its plugins");
    assert_int_equal(fake_calls(_OrthancPluginService_RestApiDelete), 1);
}

static void
after_the_stop_threads_of_orthanc_are_forwarded(void **state)
{
    struct invocation *fixture = *state;

    sdk_serve_no_more(fixture);
    atomic_store(&fixture->is_own, false);
    sdk_serve(fixture);
    fake_on(_OrthancPluginService_RestApiDelete, sdk_nothing);
    opb_node_set_phase(fixture->node, OPB_PHASE_FINALIZING);
    pack_delete(fixture);
    sdk_expect_nil(fixture); /* what the core says is for the core to say */
    assert_int_equal(fake_calls(_OrthancPluginService_RestApiDelete), 1);
}

static atomic_bool is_inside, may_leave;

static bool
is_set(void *context)
{
    atomic_bool *flag = context;

    return atomic_load(flag);
}

static OrthancPluginErrorCode
stay_inside(const void *params)
{
    (void)params;
    atomic_store(&is_inside, true);
    opb_wait_until(is_set, &may_leave, 20000);
    return OrthancPluginErrorCode_Success;
}

static void
delete_and_expect_nil(void *context)
{
    sdk_expect_nil(context);
}

static void
drain_waits_for_calls_that_need_the_server(void **state)
{
    struct invocation *fixture = *state;
    struct opb_thread *thread;
    time_t before = time(NULL);
    time_t since = 0;

    atomic_store(&is_inside, false);
    atomic_store(&may_leave, false);
    fake_on(_OrthancPluginService_RestApiDelete, stay_inside);
    pack_delete(fixture);
    thread = opb_thread_start(delete_and_expect_nil, fixture);
    opb_wait_until(is_set, &is_inside, 20000);
    opb_node_set_phase(fixture->node, OPB_PHASE_STOPPED);
    assert_false(opb_invocations_drain(fixture->node, opb_deadline_ms(50), &since));
    assert_in_range(since, before, time(NULL));
    atomic_store(&may_leave, true);
    assert_true(opb_invocations_drain(fixture->node, opb_deadline_ms(5000), &since));
    opb_thread_join(thread);
}

static void
function_that_this_server_lacks_is_refused_by_name(void **state)
{
    struct invocation *fixture = *state;

    fixture->node->context->orthancVersion = "1.4.2";
    sdk_begin(fixture, "AutodetectMimeType", 1);
    opb_pack_cstr(fixture->message, "x.dcm");
    sdk_expect_fault(
        fixture, OPB_FAULT_UNAVAILABLE, 0,
        "AutodetectMimeType needs Orthanc 1.5.0 or newer; this server is 1.4.2");
}

static void
versions_compare_as_numbers(void **state)
{
    (void)state;
    assert_int_equal(opb_orthanc_version("1.10.1"), 1010001);
    assert_int_equal(opb_orthanc_version("1.12.6"), 1012006);
    assert_int_equal(opb_orthanc_version("1.13"), 1013000);
    assert_int_equal(opb_orthanc_version("mainline"), UINT32_MAX);
    assert_int_equal(opb_orthanc_version("1.13."), 1013000);
    assert_int_equal(opb_orthanc_version("1.12.6-rc"), 1012006);
    assert_int_equal(opb_orthanc_version("99.999.9999"), 99999999);
    assert_int_equal(opb_orthanc_version("what"), 0);
    assert_int_equal(opb_orthanc_version("1"), 0);
    assert_int_equal(opb_orthanc_version("1."), 0);
    assert_int_equal(opb_orthanc_version(".1"), 0);
    assert_int_equal(opb_orthanc_version(""), 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        INVOCATION_TEST(after_the_stop_own_threads_call_no_server),
        INVOCATION_TEST(after_the_stop_threads_of_orthanc_are_forwarded),
        INVOCATION_TEST(drain_waits_for_calls_that_need_the_server),
        INVOCATION_TEST(function_that_this_server_lacks_is_refused_by_name),
        OPB_TEST(versions_compare_as_numbers),
    };

    return OPB_RUN(tests);
}
