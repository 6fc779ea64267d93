/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/status_history.c - the part of the status about what has happened
 *
 * Here:      the lists of history.c, in JSON, the newest first.
 */
#include "plugin/status_json.h"

#include "plugin/history.h"

#include <string.h>

struct list {
    const struct opb_node *node;
    json_t *array;
};

static void
add_death(void *context, const struct opb_happening *happening)
{
    const struct list *list = context;
    json_t *one = json_object();

    opb_json_set(one, "At", opb_json_date(happening->at_ms));
    opb_json_set_count(one, "Pid", (uint64_t)happening->pid);
    opb_json_set(one, "Reason", opb_json_text(happening->text));
    (void)json_array_append_new(list->array, one); /* one less, then */
}

json_t *
opb_status_restarts(struct opb_node *node)
{
    struct list list = {.node = node, .array = json_array()};

    opb_history_each(node->history, OPB_HISTORY_DEATHS, add_death, &list);
    return list.array;
}

json_t *
opb_status_deaths(struct opb_node *node, const json_t *restarts)
{
    json_t *object = json_object();
    json_t *last = json_array_get(restarts, 0); /* lent */

    opb_json_set_count(object, "Count",
                       opb_history_count(node->history, OPB_HISTORY_DEATHS));
    opb_json_set(object, "Last", last != NULL ? json_incref(last) : json_null());
    return object;
}

/* Of several scripts a host names the one before what it says: "/a.py: <class ...". */
static const char *
split_script(const char *text, size_t *script_bytes)
{
    const char *end = text[0] == '/' ? strstr(text, ": <class ") : NULL;

    *script_bytes = end != NULL ? (size_t)(end - text) : 0;
    return end != NULL ? end + strlen(": ") : text;
}

static void
add_exception(void *context, const struct opb_happening *happening)
{
    const struct list *list = context;
    json_t *one = json_object();
    size_t bytes;
    const char *traceback = split_script(happening->text, &bytes);

    opb_json_set(one, "At", opb_json_date(happening->at_ms));
    opb_json_set(one, "Script",
                 bytes > 0 ? json_stringn(happening->text, bytes)
                           : opb_json_text(list->node->config->script_path));
    opb_json_set(one, "Callback", json_string(happening->kind));
    opb_json_set(one, "What", opb_json_text(happening->what));
    opb_json_set_count(one, "Pid", (uint64_t)happening->pid);
    opb_json_set(one, "Traceback", opb_json_text(traceback));
    (void)json_array_append_new(list->array, one); /* one less, then */
}

json_t *
opb_status_exceptions(struct opb_node *node)
{
    struct list list = {.node = node, .array = json_array()};
    json_t *object = json_object();

    opb_json_set_count(object, "Count",
                       opb_history_count(node->history, OPB_HISTORY_EXCEPTIONS));
    opb_history_each(node->history, OPB_HISTORY_EXCEPTIONS, add_exception, &list);
    opb_json_set(object, "List", list.array);
    return object;
}

static void
add_generation(void *context, const struct opb_happening *happening)
{
    const struct list *list = context;
    json_t *one = json_object();

    opb_json_set(one, "At", opb_json_date(happening->at_ms));
    opb_json_set_count(one, "Generation", happening->number);
    opb_json_set_count(one, "Pid", (uint64_t)happening->pid);
    opb_json_set(one, "Reason", opb_json_text(happening->what));
    opb_json_set(one, "Failure",
                 happening->text[0] != '\0' ? opb_json_text(happening->text) : json_null());
    (void)json_array_append_new(list->array, one); /* one less, then */
}

json_t *
opb_status_generations(struct opb_node *node)
{
    struct list list = {.node = node, .array = json_array()};

    opb_history_each(node->history, OPB_HISTORY_GENERATIONS, add_generation, &list);
    return list.array;
}
