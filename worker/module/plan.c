/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/module/plan.c - signatures taken apart, and functions found in the node
 *
 * Here:      the generated signature text as a list of codes, the number that the node
 *            gave the function.
 * Elsewhere: converting and sending arguments (arguments.c, sdk_call.c).
 * Called by: module.c and sdk_call.c, with the GIL.
 */
#include "worker/module/surface.h"

#include <string.h>

static int
find_class(const char *name, size_t length)
{
    for (uint32_t i = 0; i < opb_py_class_count; i++) {
        if (strlen(opb_py_classes[i].name) == length &&
            strncmp(opb_py_classes[i].name, name, length) == 0) {
            return (int)i;
        }
    }
    return -1;
}

/* Reads one code with its class and moves *text behind it. */
static bool
read_item(const char **text, const char *codes, struct opb_plan_item *out)
{
    const char *end;

    if (**text == '\0' || strchr(codes, **text) == NULL) {
        return false;
    }
    out->code = *(*text)++;
    out->class_index = -1;
    if (out->code != 'O' && out->code != 'N') {
        return true;
    }
    end = strchr(*text, ';');
    if (end == NULL) {
        return false;
    }
    out->class_index = find_class(*text, (size_t)(end - *text));
    *text = end + 1;
    return out->class_index >= 0;
}

/* Which of the getters of its class it is whose results are kept. */
static void
number_getter(struct opb_plan *plan, const struct opb_py_function *function)
{
    for (uint32_t i = 0; i < opb_py_function_count; i++) {
        const struct opb_py_function *other = &opb_py_functions[i];

        if (other->is_constant && other->class_index == function->class_index) {
            plan->getter += other < function ? 1 : 0;
            plan->getter_count++;
        }
    }
}

int
opb_plan_prepare(struct opb_plan *plan, const struct opb_py_function *function)
{
    const char *text = function->signature;
    struct opb_plan_item item;

    memset(plan, 0, sizeof(*plan));
    plan->method = OPB_METHOD_UNBOUND;
    plan->receiver_class = -1;
    plan->result_class = -1;
    if (text == NULL) {
        plan->result = 'x'; /* never sent as it stands: written by hand */
        return 0;
    }
    if (function->class_index >= 0) {
        if (!read_item(&text, "O", &item) || item.class_index != function->class_index) {
            goto malformed;
        }
        plan->receiver_class = item.class_index;
    }
    while (*text != ':') {
        if (plan->item_count == OPB_MAX_ARGUMENTS ||
            !read_item(&text, "sbpeilchuUfON", &item)) {
            goto malformed;
        }
        plan->items[plan->item_count++] = item;
    }
    text++;
    if (!read_item(&text, "vEbszifBOx", &item) || *text != '\0') {
        goto malformed;
    }
    plan->result = item.code;
    plan->result_class = item.class_index;
    if (function->is_constant) {
        number_getter(plan, function);
    }
    return 0;

malformed:
    PyErr_Format(PyExc_SystemError, "the generated table has a bad signature for %s: %s",
                 function->name, function->signature);
    return -1;
}

void
opb_plan_bind(struct opb_plan *plan, const struct opb_py_function *function,
              const struct opb_link *link)
{
    const struct opb_node_info *info = opb_link_info(link);
    int32_t method;

    plan->method = OPB_METHOD_UNKNOWN;
    if (function->node_name == NULL) {
        return;
    }
    method = opb_link_method(link, function->node_name);
    if (method < 0) {
        return;
    }
    plan->method = strcmp(info->functions[method].signature, function->signature) == 0
                       ? method
                       : OPB_METHOD_DIFFERS;
}
