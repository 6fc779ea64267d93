/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/test_module.c - the orthanc module against a node without Orthanc
 *
 * Usage: test_module NAME, which runs the tests of module_NAME_tests.py.
 *
 * Here:      an interpreter with the module, the list of the tests. With "hostile" the node
 *            is one that has everything.
 * Elsewhere: the node (fake_node.c), how Python sees it (fake_module.c), the checks
 *            themselves (module_*_tests.py).
 */
#include <Python.h>

#include "fake_module.h"
#include "fake_node.h"
#include "support.h"

#include "protocol/sockets.h"
#include "worker/module/module.h"

#include <stdio.h>
#include <string.h>

static struct opb_fake_node *node;
static struct opb_link *test_link;
static PyObject *support; /* owned: module_support */
static char file[64];     /* with the functions that are run */

/* Calls from the node: Change(text) to what the script registered. */
static enum opb_status
serve_host(void *context, struct opb_lane *lane, struct opb_frame *frame)
{
    PyGILState_STATE gil = PyGILState_Ensure();
    PyObject *callback = opb_registered("Change", 0);
    struct opb_message *message = opb_link_message(opb_link_current());
    struct opb_reader reader;
    PyObject *result;
    enum opb_status status;

    (void)context;
    opb_frame_params(frame, &reader);
    result = callback == NULL
                 ? NULL
                 : PyObject_CallFunction(callback, "s", opb_read_cstr(&reader, false));
    if (result == NULL) {
        PyErr_WriteUnraisable(callback);
    }
    Py_XDECREF(result);
    opb_message_begin_response(message, opb_frame_msgid(frame));
    opb_pack_nil(message);
    Py_BEGIN_ALLOW_THREADS status = opb_lane_send(lane, message, opb_deadline_ms(20000));
    Py_END_ALLOW_THREADS opb_link_message_back(opb_link_current(), message);
    PyGILState_Release(gil);
    return status;
}

/* Runs the function of the file that the state names; an exception there is a failure
 * here. */
static void
run(void **state)
{
    const char *name = *state;
    PyObject *result;

    PyErr_Clear();
    result = PyObject_CallMethod(support, "run", "ss", name, file);
    if (result == NULL) {
        PyErr_Print();
        fail_msg("%s raised", name);
    }
    Py_DECREF(result);
}

#define PYTHON_TEST(function)                                                              \
    {                                                                                      \
        .name = #function, .test_func = run, .initial_state = (char[])                     \
        {                                                                                  \
            "" #function                                                                   \
        }                                                                                  \
    }

static const struct CMUnitTest surface_tests[] = {
    PYTHON_TEST(the_module_looks_as_the_contract_says),
    PYTHON_TEST(a_name_that_is_missing_says_which_version_has_it),
    PYTHON_TEST(classes_behave_as_the_contract_says),
    PYTHON_TEST(enumerations_behave_as_the_contract_says),
    PYTHON_TEST(hand_written_functions_behave_as_the_contract_says),
    PYTHON_TEST(a_second_import_gives_the_same_types),
};

static const struct CMUnitTest arguments_tests[] = {
    PYTHON_TEST(strings_are_converted_strictly),
    PYTHON_TEST(buffers_are_converted_generously),
    PYTHON_TEST(integers_wrap_as_in_c),
    PYTHON_TEST(floats_are_single_precision),
    PYTHON_TEST(objects_travel_as_handles),
    PYTHON_TEST(bad_arguments_raise_one_text_with_the_cause),
    PYTHON_TEST(surplus_arguments_of_functions_without_any_are_ignored),
};

static const struct CMUnitTest results_tests[] = {
    PYTHON_TEST(results_have_the_types_of_their_signature),
    PYTHON_TEST(faults_become_exceptions),
    PYTHON_TEST(functions_that_the_node_lacks_are_refused_by_name),
    PYTHON_TEST(large_buffers_travel_both_ways),
    PYTHON_TEST(verbose_tells_each_call),
};

static const struct CMUnitTest objects_tests[] = {
    PYTHON_TEST(stale_objects_are_refused_without_asking),
    PYTHON_TEST(owned_objects_are_released_in_batches),
    PYTHON_TEST(objects_that_die_do_not_pile_up_in_the_node),
};

static const struct CMUnitTest lanes_tests[] = {
    PYTHON_TEST(posts_wait_for_company_but_not_long),
    PYTHON_TEST(posts_keep_their_order_before_requests),
    PYTHON_TEST(many_posts_do_not_deadlock),
    PYTHON_TEST(posts_that_wait_for_the_node_do_not_stop_other_threads),
    PYTHON_TEST(void_functions_of_free_threads_are_round_trips),
    PYTHON_TEST(nested_calls_run_on_the_waiting_thread),
    PYTHON_TEST(nesting_has_a_limit_and_survives_it),
    PYTHON_TEST(other_threads_run_during_a_call),
    PYTHON_TEST(free_threads_share_a_limited_number_of_lanes),
    PYTHON_TEST(closed_service_lanes_are_replaced),
    PYTHON_TEST(a_lost_connection_raises),
    PYTHON_TEST(a_node_that_cannot_be_reached_raises_and_gets_releases_later),
};

static const struct CMUnitTest registrations_tests[] = {
    PYTHON_TEST(registrations_reach_the_node),
    PYTHON_TEST(refused_registrations_are_forgotten),
    PYTHON_TEST(registrations_are_checked_as_the_contract_says),
};

static const struct CMUnitTest fork_tests[] = {
    PYTHON_TEST(a_fork_child_calls_the_sdk_on_lanes_of_its_own),
    PYTHON_TEST(a_fork_child_releases_its_objects_and_not_those_of_its_parent),
    PYTHON_TEST(registrations_in_a_fork_child_do_nothing_and_say_so_once),
    PYTHON_TEST(threads_of_a_fork_child_share_a_limited_number_of_lanes),
    PYTHON_TEST(forks_among_busy_threads_do_not_hang),
};

static const struct CMUnitTest hostile_tests[] = {
    PYTHON_TEST(the_model_is_what_the_module_has),
    PYTHON_TEST(a_queue_value_is_reserved_with_its_number),
    PYTHON_TEST(no_arguments_break_a_function),
    PYTHON_TEST(no_arguments_break_a_method),
    PYTHON_TEST(no_arguments_break_a_method_inside_a_call),
    PYTHON_TEST(objects_are_not_forged_and_do_not_outlive_their_call),
    PYTHON_TEST(every_object_that_was_made_is_released),
    PYTHON_TEST(no_call_loses_memory),
};

static const struct CMUnitTest facts_tests[] = {
    PYTHON_TEST(what_was_told_is_not_asked),
    PYTHON_TEST(what_was_not_told_is_asked_once),
    PYTHON_TEST(what_may_change_is_asked_each_time),
    PYTHON_TEST(facts_are_those_of_one_object),
    PYTHON_TEST(facts_end_with_their_handle),
    PYTHON_TEST(arguments_are_checked_before_facts_are_looked_at),
    PYTHON_TEST(an_error_is_no_fact),
    PYTHON_TEST(a_text_that_is_not_utf8_is_no_fact),
    PYTHON_TEST(facts_about_other_things_are_ignored),
    PYTHON_TEST(facts_of_a_wrong_form_are_refused),
    PYTHON_TEST(no_facts_break_the_module),
    PYTHON_TEST(threads_share_facts),
    PYTHON_TEST(an_answer_that_comes_after_the_end_of_the_call_is_no_fact),
};

#define GROUP(group)                                                                       \
    {                                                                                      \
        .name = #group, .tests = group##_tests,                                            \
        .count = sizeof(group##_tests) / sizeof(group##_tests[0])                          \
    }

static const struct group {
    const char *name;
    const struct CMUnitTest *tests;
    size_t count;
} groups[] = {
    GROUP(surface),       GROUP(arguments), GROUP(results), GROUP(objects), GROUP(lanes),
    GROUP(registrations), GROUP(fork),      GROUP(hostile), GROUP(facts),
};

static const struct group *
find_group(const char *name)
{
    for (size_t i = 0; i < sizeof(groups) / sizeof(groups[0]); i++) {
        if (strcmp(groups[i].name, name) == 0) {
            return &groups[i];
        }
    }
    return NULL;
}

static void
start_python(void)
{
    PyPreConfig before;
    PyConfig config;

    /* Python's own checks of its memory, and no pool that hides ours from others. */
    PyPreConfig_InitIsolatedConfig(&before);
    before.allocator = PYMEM_ALLOCATOR_MALLOC_DEBUG;
    assert_int_equal(PyStatus_Exception(Py_PreInitialize(&before)), 0);
    assert_int_equal(PyImport_AppendInittab("orthanc", PyInit_orthanc), 0);
    assert_int_equal(PyImport_AppendInittab("fake_node", opb_fake_module_init), 0);
    PyConfig_InitIsolatedConfig(&config);
    assert_int_equal(PyStatus_Exception(Py_InitializeFromConfig(&config)), 0);
    PyConfig_Clear(&config);
}

static void
start_link(void)
{
    struct opb_node_info *info = opb_fake_node_info(node);

    assert_int_equal(opb_link_open(&test_link, &info, serve_host, NULL), OPB_OK);
    assert_null(info);
    assert_int_equal(opb_link_start(test_link), OPB_OK);
}

static void
import_support(void)
{
    PyObject *path = PySys_GetObject("path"); /* borrowed */
    PyObject *folder = PyUnicode_FromString(OPB_TEST_FOLDER);

    assert_int_equal(PyList_Insert(path, 0, folder), 0);
    Py_DECREF(folder);
    support = PyImport_ImportModule("module_support");
    if (support == NULL) {
        PyErr_Print();
    }
    assert_non_null(support);
}

/* One service lane stays open between tests: it must be there before the first. */
static void
warm_up(void)
{
    PyObject *result = PyObject_CallMethod(support, "settle", NULL);

    assert_non_null(result);
    Py_DECREF(result);
}

int
main(int argc, char **argv)
{
    const struct group *group = argc == 2 ? find_group(argv[1]) : NULL;
    int result;

    if (group == NULL) {
        (void)fprintf(stderr, "Usage: test_module NAME, as in module_NAME_tests.py\n");
        return 2;
    }
    (void)snprintf(file, sizeof(file), "module_%s_tests", group->name);
    node = opb_fake_node_start(group->tests == hostile_tests);
    start_python();
    start_link();
    opb_fake_module_show(node, test_link);
    import_support();
    warm_up();
    result = opb_run_group(group->name, group->tests, group->count);
    Py_CLEAR(support);
    if (Py_FinalizeEx() != 0) {
        result = 1;
    }
    opb_fake_node_stop(node);
    return result;
}
