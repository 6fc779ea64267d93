/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/stacks_json.c - the Python stacks of hosts, in JSON and as text
 *
 * Here:      reading what CPython's faulthandler writes.
 * Elsewhere: how it comes here (look.c); docs/admin-api.md, which says what fields mean.
 *
 *     Thread 0x00007f5b2c000700 [name] (most recent call first):
 *       File "/srv/script.py", line 12 in answer
 *
 * The name is there since Python 3.14. Threads of ours that wait for a call, and the one
 * that writes, have no frame: they are left out.
 */
#include "plugin/stacks_json.h"

#include "plugin/look.h"
#include "plugin/status_json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NO_FRAME "  <no Python frame>"

/* "File "...", line N in name": other lines as they are. Changes line. */
static json_t *
read_frame(char *line)
{
    static const char before_file[] = "  File \"";
    json_t *frame = json_object();
    char *number = NULL;
    char *name = NULL;

    if (strncmp(line, before_file, strlen(before_file)) == 0) {
        for (char *next = line; (next = strstr(next, "\", line ")) != NULL; next++) {
            number = next; /* the last one: the path may hold anything */
        }
    }
    if (number != NULL) {
        name = strstr(number, " in ");
    }
    if (name == NULL) {
        opb_json_set(frame, "Text", opb_json_text(line + strspn(line, " ")));
        return frame;
    }
    *number = '\0';
    opb_json_set(frame, "File", opb_json_text(line + strlen(before_file)));
    opb_json_set_count(frame, "Line",
                       strtoull(number + strlen("\", line "), NULL, 10)); /* then " in " */
    opb_json_set(frame, "Function", opb_json_text(name + strlen(" in ")));
    return frame;
}

/* The head of a thread, or NULL if it is none. Changes line. */
static json_t *
read_thread(char *line)
{
    char *id = strstr(line, "hread 0x");
    json_t *thread;
    char *end;

    if (id == NULL || id > line + strlen("Current t")) {
        return NULL;
    }
    id += strlen("hread ");
    end = id + strcspn(id, " ");
    thread = json_object();
    opb_json_set(thread, "Id", json_stringn(id, (size_t)(end - id)));
    opb_json_set(thread, "Name", json_null());
    if (strncmp(end, " [", 2) == 0) {
        char *close = strchr(end, ']');

        opb_json_set(thread, "Name",
                     close != NULL ? json_stringn(end + 2, (size_t)(close - end - 2))
                                   : json_null());
    }
    opb_json_set(thread, "Frames", json_array());
    return thread;
}

/* Removes threads that are not in Python. */
static void
drop_idle(json_t *threads)
{
    for (size_t i = json_array_size(threads); i-- > 0;) {
        const json_t *thread = json_array_get(threads, i);

        if (json_array_size(json_object_get(thread, "Frames")) == 0) {
            (void)json_array_remove(threads, i); /* it is there */
        }
    }
}

json_t *
opb_stacks_read_threads(const char *text)
{
    json_t *threads = json_array();
    json_t *frames = NULL; /* lent: of the last thread */
    char *copy = strdup(text);
    char *next = copy;
    char *line;

    while (copy != NULL && (line = strsep(&next, "\n")) != NULL) {
        json_t *thread = line[0] != ' ' ? read_thread(line) : NULL;

        if (thread != NULL) {
            frames = json_object_get(thread, "Frames");
            (void)json_array_append_new(threads, thread); /* one less, then */
        }
        else if (line[0] == ' ' && frames != NULL && strcmp(line, NO_FRAME) != 0) {
            (void)json_array_append_new(frames, read_frame(line)); /* one less, then */
        }
    }
    free(copy);
    drop_idle(threads);
    return threads;
}

static void
add_json(void *context, const struct opb_looked *looked)
{
    json_t *hosts = context;
    json_t *host = json_object();

    opb_json_set_count(host, "Worker", looked->worker);
    opb_json_set_count(host, "Pid", (uint64_t)looked->pid);
    opb_json_set(host, "State", json_string(looked->state));
    opb_json_set(host, "Threads", opb_stacks_read_threads(looked->text));
    opb_json_set(host, "Problem",
                 looked->problem[0] != '\0' ? opb_json_text(looked->problem) : json_null());
    (void)json_array_append_new(hosts, host); /* one less, then */
}

enum opb_status
opb_stacks_json(struct opb_node *node, char **out)
{
    json_t *hosts = json_array();
    json_t *object = json_object();
    enum opb_status status;

    *out = NULL;
    status = opb_look_at_hosts(node->pool, add_json, hosts);
    opb_json_set(object, "Hosts", hosts);
    if (status == OPB_OK) {
        *out = json_dumps(object, JSON_INDENT(3));
        status = *out != NULL ? OPB_OK : OPB_NO_MEMORY;
    }
    json_decref(object);
    return status;
}

static void
print_thread(FILE *stream, const json_t *thread)
{
    const char *name = json_string_value(json_object_get(thread, "Name"));
    const json_t *frames = json_object_get(thread, "Frames");

    (void)fprintf(stream, "\nThread %s%s%s%s\n",
                  json_string_value(json_object_get(thread, "Id")),
                  name != NULL ? " (" : "", name != NULL ? name : "",
                  name != NULL ? ")" : ""); /* to memory: checked at the end */
    for (size_t i = 0; i < json_array_size(frames); i++) {
        const json_t *frame = json_array_get(frames, i);
        const char *text = json_string_value(json_object_get(frame, "Text"));
        if (text != NULL) {
            (void)fprintf(stream, "  %s\n", text);
        }
        else {
            (void)fprintf(stream, "  File \"%s\", line %lld in %s\n",
                          json_string_value(json_object_get(frame, "File")),
                          (long long)json_integer_value(json_object_get(frame, "Line")),
                          json_string_value(json_object_get(frame, "Function")));
        }
    }
}

static void
add_text(void *context, const struct opb_looked *looked)
{
    json_t *threads = opb_stacks_read_threads(looked->text);
    FILE *stream = context;

    (void)fprintf(stream, "Host %u (pid %ld), %s%s%s\n", (unsigned)looked->worker,
                  (long)looked->pid, looked->state,
                  looked->problem[0] != '\0' ? ": no stacks: " : "", looked->problem);
    if (json_array_size(threads) == 0 && looked->problem[0] == '\0') {
        (void)fprintf(stream, "  no thread is in Python\n");
    }
    for (size_t i = 0; i < json_array_size(threads); i++) {
        print_thread(stream, json_array_get(threads, i));
    }
    (void)fprintf(stream, "\n");
    json_decref(threads);
}

enum opb_status
opb_stacks_text(struct opb_node *node, char **out)
{
    size_t bytes = 0;
    FILE *stream;
    enum opb_status status;

    *out = NULL;
    stream = open_memstream(out, &bytes);
    if (stream == NULL) {
        return OPB_NO_MEMORY;
    }
    status = opb_look_at_hosts(node->pool, add_text, stream);
    if (fclose(stream) != 0 && status == OPB_OK) {
        status = OPB_NO_MEMORY;
    }
    if (status != OPB_OK) {
        free(*out);
        *out = NULL;
    }
    return status;
}
