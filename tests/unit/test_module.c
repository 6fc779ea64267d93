/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/test_module.c - the orthanc module against a node without Orthanc
 *
 * Here:      an interpreter with the module and a module fake_node, through which the
 *            tests in module_tests.py see and steer the node's side.
 * Elsewhere: the node (fake_node.c), the checks themselves (module_tests.py, and
 *            module_hostile_tests.py, which run if the argument is "hostile": then the node
 *            is one that has everything; module_facts_tests.py, if it is "facts").
 */
#include <Python.h>

#include "fake_node.h"
#include "support.h"

#include "protocol/sockets.h"
#include "worker/module/module.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct opb_fake_node *node;
static struct opb_link *test_link;
static PyObject *tests;                   /* owned: module_tests */
static const char *file = "module_tests"; /* with the functions that are run */

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

/* take() -> [line]: what the node was asked since the last time. */
static PyObject *
fake_take(PyObject *self, PyObject *args)
{
    char *lines = opb_fake_node_take(node);
    PyObject *text = PyUnicode_FromString(lines);
    PyObject *list;

    (void)self;
    (void)args;
    free(lines);
    list = PyUnicode_Splitlines(text, 0);
    Py_DECREF(text);
    return list;
}

/* bound(function): calls it as a thread that serves a lane would. */
static PyObject *
fake_bound(PyObject *self, PyObject *function)
{
    struct opb_lane *lane;
    PyObject *result;
    int fds[2];

    (void)self;
    opb_make_pair(fds);
    assert_int_equal(opb_lane_open(&lane, &fds[0], &opb_segment_pybytes), OPB_OK);
    opb_lane_trust(lane);
    opb_fake_node_serve(node, fds[1]);
    assert_int_equal(opb_link_bind(test_link, lane), OPB_OK);
    result = PyObject_CallNoArgs(function);
    Py_BEGIN_ALLOW_THREADS opb_lane_flush(lane);
    Py_END_ALLOW_THREADS assert_int_equal(opb_link_bind(test_link, NULL), OPB_OK);
    opb_lane_close(lane);
    return result;
}

/* Is there in builds with the address sanitizer. */
extern int __lsan_do_recoverable_leak_check(void) __attribute__((weak));

/* loses_memory(): True, after a report, if memory is allocated that nobody knows any more;
 * False in a build that cannot tell. */
static PyObject *
fake_loses_memory(PyObject *self, PyObject *args)
{
    (void)self;
    (void)args;
    return PyBool_FromLong(__lsan_do_recoverable_leak_check != NULL &&
                           __lsan_do_recoverable_leak_check() != 0);
}

/* drop(): the node closes all connections. */
static PyObject *
fake_drop(PyObject *self, PyObject *args)
{
    (void)self;
    (void)args;
    Py_BEGIN_ALLOW_THREADS opb_fake_node_drop(node);
    Py_END_ALLOW_THREADS Py_RETURN_NONE;
}

/* path(): of the service socket. */
static PyObject *
fake_path(PyObject *self, PyObject *args)
{
    (void)self;
    (void)args;
    return PyUnicode_FromString(opb_link_info(test_link)->node_socket);
}

static PyObject *
fake_most(PyObject *self, PyObject *args)
{
    (void)self;
    (void)args;
    return PyLong_FromUnsignedLong(opb_fake_node_most_connections(node));
}

/* made() and live(): objects that the node gave as results, and those that it still has. */
static PyObject *
fake_made(PyObject *self, PyObject *args)
{
    (void)self;
    (void)args;
    return PyLong_FromUnsignedLong(opb_fake_node_made(node));
}

static PyObject *
fake_live(PyObject *self, PyObject *args)
{
    (void)self;
    (void)args;
    return PyLong_FromUnsignedLong(opb_fake_node_live(node));
}

/* version(): what it says that it is. */
static PyObject *
fake_version(PyObject *self, PyObject *args)
{
    (void)self;
    (void)args;
    return PyUnicode_FromString(opb_link_info(test_link)->version_text);
}

/* new(class, handle, owned) and end(object): as for the argument of a callback. */
static PyObject *
fake_new(PyObject *self, PyObject *args)
{
    unsigned long long handle;
    const char *name;
    int is_owned;

    (void)self;
    return PyArg_ParseTuple(args, "sKp", &name, &handle, &is_owned)
               ? opb_object_new(name, handle, is_owned != 0)
               : NULL;
}

/* Any value as a peer might send it: bytes are a text that need not be UTF-8. */
static void
pack_any(struct opb_message *message, PyObject *value)
{
    Py_ssize_t at = 0;
    PyObject *key;
    PyObject *item;

    if (PyBool_Check(value)) {
        opb_pack_bool(message, value == Py_True);
    }
    else if (PyLong_Check(value)) {
        int overflow = 0;
        long long number = PyLong_AsLongLongAndOverflow(value, &overflow);

        if (overflow != 0) {
            opb_pack_uint(message, PyLong_AsUnsignedLongLong(value));
        }
        else {
            opb_pack_int(message, number);
        }
    }
    else if (PyUnicode_Check(value)) {
        opb_pack_cstr(message, PyUnicode_AsUTF8(value));
    }
    else if (PyBytes_Check(value)) {
        opb_pack_str(message, PyBytes_AS_STRING(value), (size_t)PyBytes_GET_SIZE(value));
    }
    else if (PyList_Check(value)) {
        opb_pack_array(message, (uint32_t)PyList_GET_SIZE(value));
        for (Py_ssize_t i = 0; i < PyList_GET_SIZE(value); i++) {
            pack_any(message, PyList_GET_ITEM(value, i));
        }
    }
    else if (PyDict_Check(value)) {
        opb_pack_map(message, (uint32_t)PyDict_GET_SIZE(value));
        while (PyDict_Next(value, &at, &key, &item)) {
            pack_any(message, key);
            pack_any(message, item);
        }
    }
    else {
        opb_pack_nil(message);
    }
}

/* told(class, handle, facts): as new(), of an object that the node has told facts about;
 * ValueError('malformed') if they are none. */
static PyObject *
fake_told(PyObject *self, PyObject *args)
{
    struct opb_message *message = opb_message_new();
    struct opb_frame *frame = NULL;
    struct opb_reader reader;
    unsigned long long handle;
    PyObject *object;
    PyObject *facts;
    const char *name;
    uint8_t *wire;
    size_t bytes;

    (void)self;
    assert_non_null(message);
    assert_true(PyArg_ParseTuple(args, "sKO", &name, &handle, &facts));
    opb_message_begin_notify(message, 1, 1);
    pack_any(message, facts);
    bytes = opb_flatten(message, &wire);
    assert_int_equal(opb_frame_decode(&frame, wire, bytes), OPB_OK);
    opb_frame_params(frame, &reader);
    object = opb_object_new(name, handle, false);
    if (opb_object_tell(object, &reader) < 0) {
        assert_int_equal(reader.status != OPB_OK, PyErr_Occurred() == NULL);
        Py_CLEAR(object);
        if (PyErr_Occurred() == NULL) {
            PyErr_SetString(PyExc_ValueError, "malformed");
        }
    }
    opb_frame_free(frame);
    opb_message_free(message);
    free(wire);
    return object;
}

/* method(name): the node's number of an SDK function. */
static PyObject *
fake_method(PyObject *self, PyObject *name)
{
    (void)self;
    return PyLong_FromLong(opb_link_method(test_link, PyUnicode_AsUTF8(name)));
}

/* order(text): what the node does when it is asked something without a text; "": answers.
 */
static PyObject *
fake_order(PyObject *self, PyObject *text)
{
    (void)self;
    opb_fake_node_order(node, PyUnicode_AsUTF8(text));
    Py_RETURN_NONE;
}

static PyObject *
fake_end(PyObject *self, PyObject *object)
{
    (void)self;
    opb_object_invalidate(object);
    Py_RETURN_NONE;
}

static PyObject *
fake_sanitized(PyObject *self, PyObject *args)
{
    (void)self;
    (void)args;
    return PyBool_FromLong(OPB_IS_SANITIZED);
}

static PyObject *
fake_verbose(PyObject *self, PyObject *flag)
{
    struct opb_node_info *info;
    const struct opb_node_info *lent = opb_link_info(test_link);

    (void)self;
    memcpy(&info, &lent, sizeof(info)); /* it was ours, and nobody else looks now */
    info->verbose = PyObject_IsTrue(flag) == 1;
    Py_RETURN_NONE;
}

static PyObject *
fake_log(PyObject *self, PyObject *text)
{
    (void)self;
    opb_log_to_node("LogError", PyUnicode_AsUTF8(text));
    Py_RETURN_NONE;
}

static PyObject *
fake_clear(PyObject *self, PyObject *args)
{
    (void)self;
    (void)args;
    opb_registrations_clear();
    Py_RETURN_NONE;
}

static PyObject *
fake_registered(PyObject *self, PyObject *args)
{
    PyObject *found;
    unsigned int index;
    const char *name;

    (void)self;
    if (!PyArg_ParseTuple(args, "sI", &name, &index)) {
        return NULL;
    }
    found = opb_registered(name, index);
    return Py_NewRef(found == NULL ? Py_None : found);
}

static PyMethodDef fake_functions[] = {
    {"take", fake_take, METH_NOARGS, NULL},
    {"bound", fake_bound, METH_O, NULL},
    {"drop", fake_drop, METH_NOARGS, NULL},
    {"loses_memory", fake_loses_memory, METH_NOARGS, NULL},
    {"path", fake_path, METH_NOARGS, NULL},
    {"most", fake_most, METH_NOARGS, NULL},
    {"made", fake_made, METH_NOARGS, NULL},
    {"live", fake_live, METH_NOARGS, NULL},
    {"version", fake_version, METH_NOARGS, NULL},
    {"new", fake_new, METH_VARARGS, NULL},
    {"told", fake_told, METH_VARARGS, NULL},
    {"method", fake_method, METH_O, NULL},
    {"order", fake_order, METH_O, NULL},
    {"end", fake_end, METH_O, NULL},
    {"sanitized", fake_sanitized, METH_NOARGS, NULL},
    {"verbose", fake_verbose, METH_O, NULL},
    {"log", fake_log, METH_O, NULL},
    {"clear", fake_clear, METH_NOARGS, NULL},
    {"registered", fake_registered, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef fake_definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "fake_node",
    .m_size = -1,
    .m_methods = fake_functions,
};

static PyObject *
init_fake_node(void)
{
    return PyModule_Create(&fake_definition);
}

/* Runs a function of the file; an exception there is a failure here. */
static void
run(const char *name)
{
    PyObject *result;

    PyErr_Clear();
    result = PyObject_CallMethod(tests, "run", "ss", name, file);
    if (result == NULL) {
        PyErr_Print();
        fail_msg("%s raised", name);
    }
    Py_DECREF(result);
}

#define PYTHON_TEST(name)                                                                  \
    static void name(void **state)                                                         \
    {                                                                                      \
        (void)state;                                                                       \
        run(#name);                                                                        \
    }

PYTHON_TEST(the_module_looks_as_the_contract_says)
PYTHON_TEST(a_name_that_is_missing_says_which_version_has_it)
PYTHON_TEST(classes_behave_as_the_contract_says)
PYTHON_TEST(enumerations_behave_as_the_contract_says)
PYTHON_TEST(strings_are_converted_strictly)
PYTHON_TEST(buffers_are_converted_generously)
PYTHON_TEST(integers_wrap_as_in_c)
PYTHON_TEST(floats_are_single_precision)
PYTHON_TEST(objects_travel_as_handles)
PYTHON_TEST(bad_arguments_raise_one_text_with_the_cause)
PYTHON_TEST(surplus_arguments_of_functions_without_any_are_ignored)
PYTHON_TEST(results_have_the_types_of_their_signature)
PYTHON_TEST(faults_become_exceptions)
PYTHON_TEST(functions_that_the_node_lacks_are_refused_by_name)
PYTHON_TEST(large_buffers_travel_both_ways)
PYTHON_TEST(stale_objects_are_refused_without_asking)
PYTHON_TEST(owned_objects_are_released_in_batches)
PYTHON_TEST(objects_that_die_do_not_pile_up_in_the_node)
PYTHON_TEST(posts_wait_for_company_but_not_long)
PYTHON_TEST(posts_keep_their_order_before_requests)
PYTHON_TEST(many_posts_do_not_deadlock)
PYTHON_TEST(void_functions_of_free_threads_are_round_trips)
PYTHON_TEST(nested_calls_run_on_the_waiting_thread)
PYTHON_TEST(nesting_has_a_limit_and_survives_it)
PYTHON_TEST(other_threads_run_during_a_call)
PYTHON_TEST(free_threads_share_a_limited_number_of_lanes)
PYTHON_TEST(closed_service_lanes_are_replaced)
PYTHON_TEST(a_lost_connection_raises)
PYTHON_TEST(a_node_that_cannot_be_reached_raises_and_gets_releases_later)
PYTHON_TEST(registrations_reach_the_node)
PYTHON_TEST(refused_registrations_are_forgotten)
PYTHON_TEST(registrations_are_checked_as_the_contract_says)
PYTHON_TEST(hand_written_functions_behave_as_the_contract_says)
PYTHON_TEST(verbose_tells_each_call)
PYTHON_TEST(a_fork_child_calls_the_sdk_on_lanes_of_its_own)
PYTHON_TEST(a_fork_child_releases_its_objects_and_not_those_of_its_parent)
PYTHON_TEST(registrations_in_a_fork_child_do_nothing_and_say_so_once)
PYTHON_TEST(threads_of_a_fork_child_share_a_limited_number_of_lanes)
PYTHON_TEST(forks_among_busy_threads_do_not_hang)
PYTHON_TEST(a_second_import_gives_the_same_types)

PYTHON_TEST(the_model_is_what_the_module_has)
PYTHON_TEST(no_arguments_break_a_function)
PYTHON_TEST(no_arguments_break_a_method)
PYTHON_TEST(no_arguments_break_a_method_inside_a_call)
PYTHON_TEST(objects_are_not_forged_and_do_not_outlive_their_call)
PYTHON_TEST(every_object_that_was_made_is_released)
PYTHON_TEST(no_call_loses_memory)

PYTHON_TEST(what_was_told_is_not_asked)
PYTHON_TEST(what_was_not_told_is_asked_once)
PYTHON_TEST(what_may_change_is_asked_each_time)
PYTHON_TEST(facts_are_those_of_one_object)
PYTHON_TEST(facts_end_with_their_handle)
PYTHON_TEST(arguments_are_checked_before_facts_are_looked_at)
PYTHON_TEST(an_error_is_no_fact)
PYTHON_TEST(a_text_that_is_not_utf8_is_no_fact)
PYTHON_TEST(facts_about_other_things_are_ignored)
PYTHON_TEST(facts_of_a_wrong_form_are_refused)
PYTHON_TEST(no_facts_break_the_module)
PYTHON_TEST(threads_share_facts)
PYTHON_TEST(an_answer_that_comes_after_the_end_of_the_call_is_no_fact)

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
    assert_int_equal(PyImport_AppendInittab("fake_node", init_fake_node), 0);
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
import_tests(void)
{
    PyObject *path = PySys_GetObject("path"); /* borrowed */
    PyObject *folder = PyUnicode_FromString(OPB_TEST_FOLDER);

    assert_int_equal(PyList_Insert(path, 0, folder), 0);
    Py_DECREF(folder);
    tests = PyImport_ImportModule("module_tests");
    if (tests == NULL) {
        PyErr_Print();
    }
    assert_non_null(tests);
}

/* One service lane stays open between tests: it must be there before the first. */
static void
warm_up(void)
{
    PyObject *result = PyObject_CallMethod(tests, "settle", NULL);

    assert_non_null(result);
    Py_DECREF(result);
}

int
main(int argc, char **argv)
{
    static const struct CMUnitTest hostile[] = {
        OPB_TEST(the_model_is_what_the_module_has),
        OPB_TEST(no_arguments_break_a_function),
        OPB_TEST(no_arguments_break_a_method),
        OPB_TEST(no_arguments_break_a_method_inside_a_call),
        OPB_TEST(objects_are_not_forged_and_do_not_outlive_their_call),
        OPB_TEST(every_object_that_was_made_is_released),
        OPB_TEST(no_call_loses_memory),
    };
    static const struct CMUnitTest facts[] = {
        OPB_TEST(what_was_told_is_not_asked),
        OPB_TEST(what_was_not_told_is_asked_once),
        OPB_TEST(what_may_change_is_asked_each_time),
        OPB_TEST(facts_are_those_of_one_object),
        OPB_TEST(facts_end_with_their_handle),
        OPB_TEST(arguments_are_checked_before_facts_are_looked_at),
        OPB_TEST(an_error_is_no_fact),
        OPB_TEST(a_text_that_is_not_utf8_is_no_fact),
        OPB_TEST(facts_about_other_things_are_ignored),
        OPB_TEST(facts_of_a_wrong_form_are_refused),
        OPB_TEST(no_facts_break_the_module),
        OPB_TEST(threads_share_facts),
        OPB_TEST(an_answer_that_comes_after_the_end_of_the_call_is_no_fact),
    };
    static const struct CMUnitTest all[] = {
        OPB_TEST(the_module_looks_as_the_contract_says),
        OPB_TEST(a_name_that_is_missing_says_which_version_has_it),
        OPB_TEST(classes_behave_as_the_contract_says),
        OPB_TEST(enumerations_behave_as_the_contract_says),
        OPB_TEST(strings_are_converted_strictly),
        OPB_TEST(buffers_are_converted_generously),
        OPB_TEST(integers_wrap_as_in_c),
        OPB_TEST(floats_are_single_precision),
        OPB_TEST(objects_travel_as_handles),
        OPB_TEST(bad_arguments_raise_one_text_with_the_cause),
        OPB_TEST(surplus_arguments_of_functions_without_any_are_ignored),
        OPB_TEST(results_have_the_types_of_their_signature),
        OPB_TEST(faults_become_exceptions),
        OPB_TEST(functions_that_the_node_lacks_are_refused_by_name),
        OPB_TEST(large_buffers_travel_both_ways),
        OPB_TEST(stale_objects_are_refused_without_asking),
        OPB_TEST(owned_objects_are_released_in_batches),
        OPB_TEST(objects_that_die_do_not_pile_up_in_the_node),
        OPB_TEST(posts_wait_for_company_but_not_long),
        OPB_TEST(posts_keep_their_order_before_requests),
        OPB_TEST(many_posts_do_not_deadlock),
        OPB_TEST(void_functions_of_free_threads_are_round_trips),
        OPB_TEST(nested_calls_run_on_the_waiting_thread),
        OPB_TEST(nesting_has_a_limit_and_survives_it),
        OPB_TEST(other_threads_run_during_a_call),
        OPB_TEST(free_threads_share_a_limited_number_of_lanes),
        OPB_TEST(closed_service_lanes_are_replaced),
        OPB_TEST(a_lost_connection_raises),
        OPB_TEST(a_node_that_cannot_be_reached_raises_and_gets_releases_later),
        OPB_TEST(registrations_reach_the_node),
        OPB_TEST(refused_registrations_are_forgotten),
        OPB_TEST(registrations_are_checked_as_the_contract_says),
        OPB_TEST(hand_written_functions_behave_as_the_contract_says),
        OPB_TEST(verbose_tells_each_call),
        OPB_TEST(a_fork_child_calls_the_sdk_on_lanes_of_its_own),
        OPB_TEST(a_fork_child_releases_its_objects_and_not_those_of_its_parent),
        OPB_TEST(registrations_in_a_fork_child_do_nothing_and_say_so_once),
        OPB_TEST(threads_of_a_fork_child_share_a_limited_number_of_lanes),
        OPB_TEST(forks_among_busy_threads_do_not_hang),
        OPB_TEST(a_second_import_gives_the_same_types),
    };
    bool is_hostile = argc > 1 && strcmp(argv[1], "hostile") == 0;
    bool is_about_facts = argc > 1 && strcmp(argv[1], "facts") == 0;
    int result;

    file = is_hostile       ? "module_hostile_tests"
           : is_about_facts ? "module_facts_tests"
                            : file;
    node = opb_fake_node_start(is_hostile);
    start_python();
    start_link();
    import_tests();
    warm_up();
    result = is_hostile ? OPB_RUN(hostile) : is_about_facts ? OPB_RUN(facts) : OPB_RUN(all);
    Py_CLEAR(tests);
    if (Py_FinalizeEx() != 0) {
        result = 1;
    }
    opb_fake_node_stop(node);
    return result;
}
