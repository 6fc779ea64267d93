/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/module/facts.c - what an object has said, or the node about it
 *
 * Here:      results of getters that never change while their object lives: read from a
 *            call's parameters, looked up, remembered.
 * Elsewhere: which getters these are (model.h, is_constant), asking the node (sdk_call.c),
 *            which results a node sends along (plugin/facts.c).
 * Called by: the host and sdk_call.c, with the GIL.
 *
 * An object has a row for each getter of its class, which is as long as the highest index
 * that was kept. They go with its handle (types.c).
 */
#include "worker/module/surface.h"

#include <string.h>

#define MAX_INDEXES 4096u /* of a getter that are kept: who asks for more asks the node */

struct opb_facts {
    uint32_t row_count;
    struct fact_row {
        PyObject **values; /* owned, of owned ones; NULL: not known */
        uint32_t count;
    } rows[];
};

uint32_t
opb_fact_index(const struct opb_plan *plan, const struct opb_argument *arguments)
{
    return plan->item_count > 0 ? (uint32_t)arguments[0].value.natural : 0;
}

PyObject *
opb_fact_find(const NodeObject *object, const struct opb_plan *plan, uint32_t index)
{
    const struct opb_facts *facts = object->facts;

    if (facts == NULL || index >= facts->rows[plan->getter].count) {
        return NULL;
    }
    return Py_XNewRef(facts->rows[plan->getter].values[index]);
}

/* Lends the row of a getter with room for so many; NULL: no memory. */
static struct fact_row *
make_row(NodeObject *object, const struct opb_plan *plan, uint32_t count)
{
    struct fact_row *row;
    PyObject **values;

    if (object->facts == NULL) {
        object->facts = PyMem_Calloc(1, sizeof(struct opb_facts) +
                                            plan->getter_count * sizeof(struct fact_row));
        if (object->facts == NULL) {
            return NULL;
        }
        object->facts->row_count = plan->getter_count;
    }
    row = &object->facts->rows[plan->getter];
    if (count > row->count) {
        values = PyMem_Realloc(row->values, count * sizeof(PyObject *));
        if (values == NULL) {
            return NULL;
        }
        memset(values + row->count, 0, (count - row->count) * sizeof(PyObject *));
        row->values = values;
        row->count = count;
    }
    return row;
}

/* False: no memory. */
static bool
keep(NodeObject *object, const struct opb_plan *plan, uint32_t index, PyObject *value)
{
    struct fact_row *row;

    if (index >= MAX_INDEXES) {
        return true;
    }
    row = make_row(object, plan, index + 1);
    if (row != NULL) {
        Py_XSETREF(row->values[index], Py_NewRef(value)); /* a number or a text */
    }
    return row != NULL;
}

void
opb_fact_keep(NodeObject *object, const struct opb_plan *plan, uint32_t index,
              PyObject *value)
{
    if (opb_object_handle(object) != 0) {       /* else its call has ended meanwhile */
        (void)keep(object, plan, index, value); /* it is asked again */
    }
}

void
opb_facts_drop(NodeObject *object)
{
    struct opb_facts *facts = object->facts;

    object->facts = NULL;
    for (uint32_t i = 0; facts != NULL && i < facts->row_count; i++) {
        for (uint32_t k = 0; k < facts->rows[i].count; k++) {
            Py_XDECREF(facts->rows[i].values[k]); /* no code of the script runs */
        }
        PyMem_Free(facts->rows[i].values);
    }
    PyMem_Free(facts);
}

/* Reads one result and keeps it. One that is not UTF-8 is left out: who asks for it gets
 * the error. -1 with an exception, or with a failed reader. */
static int
read_result(NodeObject *object, const struct opb_plan *plan, uint32_t index,
            struct opb_reader *reader)
{
    PyObject *value = opb_sdk_read_value(plan, reader);
    int status = -1;

    if (value == NULL) {
        if (PyErr_ExceptionMatches(PyExc_UnicodeDecodeError)) {
            PyErr_Clear();
            return 0;
        }
        return -1;
    }
    if (reader->status == OPB_OK) {
        status = 0;
        if (!keep(object, plan, index, value)) {
            (void)PyErr_NoMemory();
            status = -1;
        }
    }
    Py_DECREF(value);
    return status;
}

/* Results for the indexes from 0; nil is one that was not told. */
static int
read_results(NodeObject *object, const struct opb_plan *plan, struct opb_reader *reader)
{
    struct opb_reader values;
    uint32_t count = opb_read_array(reader, &values);

    if (count > 0 && count <= MAX_INDEXES && make_row(object, plan, count) == NULL) {
        (void)PyErr_NoMemory();
        return -1;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (opb_read_is_nil(&values)) {
            opb_read_skip(&values);
        }
        else if (read_result(object, plan, i, &values) < 0) {
            reader->status = values.status;
            return -1;
        }
    }
    return reader->status == OPB_OK ? 0 : -1;
}

/* The getters by their number in the node, which it chose: so no table is generated, and
 * this one is made when the first object is told something. -1 with an exception. */
static int
make_getters(struct opb_module_state *state, const struct opb_link *link)
{
    const uint32_t count = opb_link_info(link)->function_count;

    if (state->getters != NULL) {
        return 0;
    }
    state->getters = PyMem_Calloc((size_t)count + 1, sizeof(struct opb_plan *));
    if (state->getters == NULL) {
        (void)PyErr_NoMemory();
        return -1;
    }
    for (uint32_t i = 0; i < opb_py_function_count; i++) {
        struct opb_plan *plan = &state->plans[i];

        if (!opb_py_functions[i].is_constant) {
            continue;
        }
        if (plan->method == OPB_METHOD_UNBOUND) {
            opb_plan_bind(plan, &opb_py_functions[i], link);
        }
        if (plan->method >= 0) {
            state->getters[plan->method] = plan;
        }
    }
    return 0;
}

/* The getter of a class that has this number, which is one of the node's; or NULL. */
static const struct opb_plan *
find_getter(const struct opb_module_state *state, const PyTypeObject *type, uint64_t method)
{
    const struct opb_plan *plan = state->getters[method];

    return plan != NULL && state->classes[plan->receiver_class] == type ? plan : NULL;
}

int
opb_object_tell(PyObject *self, struct opb_reader *reader)
{
    struct opb_module_state *state = opb_module_state();
    const struct opb_link *link = opb_link_current();
    const uint32_t method_count = link != NULL ? opb_link_info(link)->function_count : 0;
    struct opb_reader facts;
    uint32_t count = opb_read_map(reader, &facts);
    int status = link != NULL ? make_getters(state, link) : 0;

    for (uint32_t i = 0; i < count && status == 0; i++) {
        uint64_t method = opb_read_uint(&facts, UINT32_MAX);
        const struct opb_plan *plan;

        if (method >= method_count) {
            facts.status = OPB_BAD_FRAME;
        }
        if (facts.status != OPB_OK) {
            status = -1;
            break;
        }
        plan = find_getter(state, Py_TYPE(self), method);
        if (plan == NULL) {
            opb_read_skip(&facts); /* a newer node may know more of its objects */
        }
        else if (plan->item_count == 0) {
            status = read_result((NodeObject *)self, plan, 0, &facts);
        }
        else {
            status = read_results((NodeObject *)self, plan, &facts);
        }
    }
    if (facts.status != OPB_OK) {
        reader->status = facts.status;
    }
    return reader->status == OPB_OK ? status : -1;
}
