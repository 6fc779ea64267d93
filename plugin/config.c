/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/config.c - the configuration keys of the bridge
 *
 * Here:      the table of keys, reading them with jansson, the texts of refusals, and the
 *            first look at the script's path.
 * Elsewhere: acting on it; docs/configuration.md, which lists the keys for people.
 */
#include "plugin/config.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_SHOWN_BYTES 200u

enum key_type {
    KEY_TEXT,    /* not empty */
    KEY_SCRIPT,  /* any text: the path has its own checks */
    KEY_BOOL,    /* or-ed into its field */
    KEY_SECONDS, /* into a field in milliseconds */
    KEY_WORKERS  /* 1 */
};

struct key {
    const char *name;
    enum key_type type;
    size_t field; /* offset in struct opb_config */
    double low;
    double high;
};

#define FIELD(name) offsetof(struct opb_config, name)

/* Below "Python". */
static const struct key section_keys[] = {
    {"Path", KEY_SCRIPT, FIELD(script), 0, 0},
    {"Verbose", KEY_BOOL, FIELD(verbose), 0, 0},
    {"DisplayMemoryUsage", KEY_BOOL, FIELD(memory_usage), 0, 0},
    {"AllowThreads", KEY_BOOL, FIELD(allow_threads), 0, 0},
    {"LateRoutes", KEY_BOOL, FIELD(late_routes), 0, 0},
    {"Worker", KEY_TEXT, FIELD(worker), 0, 0},
    {"Workers", KEY_WORKERS, 0, 0, 0},
    {"RuntimeDirectory", KEY_TEXT, FIELD(runtime_dir), 0, 0},
    {"Pool", KEY_TEXT, FIELD(pool), 0, 0},
    {"QueueTimeout", KEY_SECONDS, FIELD(queue_timeout_ms), 0.1, 3600},
    {"StartTimeout", KEY_SECONDS, FIELD(start_timeout_ms), 1, 3600},
    {"StopTimeout", KEY_SECONDS, FIELD(stop_timeout_ms), 0.1, 3600},
};
#define SECTION_KEY_COUNT (sizeof(section_keys) / sizeof(section_keys[0]))

/* At the top. PythonScript comes after the section, since it wins over Python.Path. */
static const struct key top_keys[] = {
    {"PythonScript", KEY_SCRIPT, FIELD(script), 0, 0},
    {"PythonVerbose", KEY_BOOL, FIELD(verbose), 0, 0},
};
#define TOP_KEY_COUNT (sizeof(top_keys) / sizeof(top_keys[0]))

struct reading {
    struct opb_config *config;
    const char *prefix; /* "Python." or "" */
    char *message;
    size_t capacity;
};

/* The value as JSON, for a message: cut, on one line. */
static void
show(const json_t *value, char *out, size_t capacity)
{
    char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);

    if (text == NULL) {
        (void)snprintf(out, capacity, "unreadable"); /* short enough */
        return;
    }
    if (strlen(text) < capacity) {
        strcpy(out, text);
    }
    else {
        (void)snprintf(out, capacity, "%.*s...", (int)(capacity - 4), text); /* fits */
    }
    free(text);
}

static enum opb_status
refuse(const struct reading *reading, const struct key *key, const json_t *value,
       const char *allowed)
{
    char shown[MAX_SHOWN_BYTES];

    show(value, shown, sizeof(shown));
    /* a message that does not fit is cut */
    (void)snprintf(reading->message, reading->capacity,
                   "The configuration option \"%s%s\" is %s, and must be %s",
                   reading->prefix, key->name, shown, allowed);
    return OPB_REFUSED;
}

static enum opb_status
read_text(const struct reading *reading, const struct key *key, const json_t *value)
{
    char **field = (char **)(void *)((char *)reading->config + key->field);
    const char *text = json_string_value(value);
    char *copy;

    if (text == NULL) {
        return refuse(reading, key, value, "a string");
    }
    if (strlen(text) != json_string_length(value)) {
        return refuse(reading, key, value, "a string without NUL characters");
    }
    if (key->type == KEY_TEXT && text[0] == '\0') {
        return refuse(reading, key, value, "a string that is not empty");
    }
    copy = strdup(text);
    if (copy == NULL) {
        return OPB_NO_MEMORY;
    }
    free(*field); /* PythonScript replaces Python.Path */
    *field = copy;
    return OPB_OK;
}

static enum opb_status
read_seconds(const struct reading *reading, const struct key *key, const json_t *value)
{
    uint32_t *field = (uint32_t *)(void *)((char *)reading->config + key->field);
    double seconds = json_number_value(value);
    char allowed[80];

    if (!json_is_number(value) || !(seconds >= key->low && seconds <= key->high)) {
        /* fits: the limits are short numbers */
        (void)snprintf(allowed, sizeof(allowed), "a number of seconds from %g to %g",
                       key->low, key->high);
        return refuse(reading, key, value, allowed);
    }
    *field = (uint32_t)lround(seconds * 1000);
    return OPB_OK;
}

static enum opb_status
read_value(const struct reading *reading, const struct key *key, const json_t *value)
{
    switch (key->type) {
    case KEY_TEXT:
    case KEY_SCRIPT:
        return read_text(reading, key, value);
    case KEY_BOOL:
        if (!json_is_boolean(value)) {
            return refuse(reading, key, value, "true or false");
        }
        if (json_is_true(value)) {
            *(bool *)((char *)reading->config + key->field) = true;
        }
        return OPB_OK;
    case KEY_SECONDS:
        return read_seconds(reading, key, value);
    case KEY_WORKERS:
        if (!json_is_integer(value) || json_integer_value(value) < 1) {
            return refuse(reading, key, value, "the number 1");
        }
        if (json_integer_value(value) != 1) {
            return refuse(reading, key, value,
                          "1: this version does not yet run a script in several hosts");
        }
        return OPB_OK;
    }
    return OPB_REFUSED;
}

#define MAX_NAME_BYTES 64u

static size_t
smallest(size_t a, size_t b, size_t c)
{
    size_t least = a < b ? a : b;

    return least < c ? least : c;
}

/* How many letters to change, add or remove, without case. Long names are far away. */
static size_t
distance(const char *a, const char *b)
{
    size_t a_bytes = strlen(a);
    size_t b_bytes = strlen(b);
    size_t row[MAX_NAME_BYTES + 1];

    if (a_bytes > MAX_NAME_BYTES || b_bytes > MAX_NAME_BYTES) {
        return a_bytes + b_bytes;
    }
    for (size_t j = 0; j <= b_bytes; j++) {
        row[j] = j;
    }
    for (size_t i = 1; i <= a_bytes; i++) {
        size_t diagonal = row[0];

        row[0] = i;
        for (size_t j = 1; j <= b_bytes; j++) {
            size_t is_other = strncasecmp(&a[i - 1], &b[j - 1], 1) != 0;
            size_t cost = smallest(row[j] + 1, row[j - 1] + 1, diagonal + is_other);

            diagonal = row[j];
            row[j] = cost;
        }
    }
    return row[b_bytes];
}

static const struct key *
find_key(const struct key *keys, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(keys[i].name, name) == 0) {
            return &keys[i];
        }
    }
    return NULL;
}

static enum opb_status
refuse_unknown(const struct reading *reading, const char *name)
{
    const struct key *nearest = &section_keys[0];
    size_t least = SIZE_MAX;

    for (size_t i = 0; i < SECTION_KEY_COUNT; i++) {
        size_t each = distance(name, section_keys[i].name);

        if (each < least) {
            least = each;
            nearest = &section_keys[i];
        }
    }
    /* a message that does not fit is cut */
    (void)snprintf(
        reading->message, reading->capacity,
        "The configuration option \"Python.%.*s\" is not known to this version; the "
        "nearest known option is \"Python.%s\"",
        (int)MAX_SHOWN_BYTES, name, nearest->name);
    return OPB_REFUSED;
}

static enum opb_status
read_section(struct reading *reading, json_t *section)
{
    const char *name;
    json_t *value;

    if (section == NULL) {
        return OPB_OK;
    }
    if (!json_is_object(section)) {
        char shown[MAX_SHOWN_BYTES];

        show(section, shown, sizeof(shown));
        /* a message that does not fit is cut */
        (void)snprintf(reading->message, reading->capacity,
                       "The configuration section \"Python\" is %s, and must be an object",
                       shown);
        return OPB_REFUSED;
    }
    json_object_foreach(section, name, value)
    {
        const struct key *key = find_key(section_keys, SECTION_KEY_COUNT, name);
        enum opb_status status;

        if (key == NULL) {
            return refuse_unknown(reading, name);
        }
        status = read_value(reading, key, value);
        if (status != OPB_OK) {
            return status;
        }
    }
    return OPB_OK;
}

static enum opb_status
read_all(struct reading *reading, json_t *root)
{
    enum opb_status status;

    reading->prefix = "Python.";
    status = read_section(reading, json_object_get(root, "Python"));
    if (status != OPB_OK) {
        return status;
    }
    reading->prefix = "";
    for (size_t i = 0; i < TOP_KEY_COUNT; i++) {
        json_t *value = json_object_get(root, top_keys[i].name);

        if (value != NULL) {
            status = read_value(reading, &top_keys[i], value);
            if (status != OPB_OK) {
                return status;
            }
        }
    }
    return OPB_OK;
}

enum opb_status
opb_config_parse(struct opb_config **out, const char *json, char *message, size_t capacity)
{
    struct reading reading = {.message = message, .capacity = capacity};
    enum opb_status status = OPB_NO_MEMORY;
    json_error_t error;
    json_t *root;

    *out = NULL;
    message[0] = '\0';
    root = json_loads(json, JSON_ALLOW_NUL, &error);
    if (!json_is_object(root)) {
        /* a message that does not fit is cut */
        (void)snprintf(message, capacity, "Orthanc's configuration cannot be read: %s",
                       root == NULL ? error.text : "it is not an object");
        status = OPB_REFUSED;
        goto free_root;
    }
    reading.config = calloc(1, sizeof(*reading.config));
    if (reading.config == NULL) {
        goto say_no_memory;
    }
    reading.config->queue_timeout_ms = 10 * 1000;
    reading.config->start_timeout_ms = 60 * 1000;
    reading.config->stop_timeout_ms = 30 * 1000;
    status = read_all(&reading, root);
    if (status == OPB_OK) {
        *out = reading.config;
        reading.config = NULL;
    }

say_no_memory:
    if (status == OPB_NO_MEMORY) {
        (void)snprintf(message, capacity, "Not enough memory"); /* short enough */
    }
    opb_config_free(reading.config);
free_root:
    json_decref(root);
    return status;
}

static char *
absolute_path(const char *path)
{
    char *directory;
    char *result = NULL;

    if (path[0] == '/') {
        return strdup(path);
    }
    directory = getcwd(NULL, 0);
    if (directory == NULL) {
        return NULL;
    }
    if (asprintf(&result, "%s/%s", strcmp(directory, "/") == 0 ? "" : directory, path) <
        0) {
        result = NULL;
    }
    free(directory);
    return result;
}

enum opb_status
opb_config_find_script(struct opb_config *config, char *message, size_t capacity)
{
    const char *slash = strrchr(config->script, '/');
    const char *name = slash == NULL ? config->script : slash + 1;
    const char *dot = strrchr(name, '.');
    struct stat file;

    message[0] = '\0';
    if (dot == NULL || strcasecmp(dot, ".py") != 0) {
        (void)snprintf(message, capacity,
                       "Python script must have the \".py\" file extension: %s",
                       config->script); /* cut if it does not fit */
        return OPB_REFUSED;
    }
    if (stat(config->script, &file) != 0 || !S_ISREG(file.st_mode)) {
        (void)snprintf(message, capacity, "Inexistent directory for the Python script: %s",
                       config->script); /* cut if it does not fit */
        return OPB_REFUSED;
    }
    if (dot == name || strcasecmp(name, "orthanc.py") == 0) {
        /* cut if it does not fit */
        (void)snprintf(
            message, capacity,
            "The Python script %s cannot be imported as a module named \"%.*s\": "
            "rename the file",
            config->script, (int)(dot - name), name);
        return OPB_REFUSED;
    }
    free(config->script_path);
    config->script_path = absolute_path(config->script);
    if (config->script_path == NULL) {
        /* cut if it does not fit */
        (void)snprintf(message, capacity,
                       "The current directory, to which the Python script %s is relative, "
                       "cannot be found: %s",
                       config->script, strerror(errno));
        return OPB_REFUSED;
    }
    return OPB_OK;
}

void
opb_config_free(struct opb_config *config)
{
    if (config == NULL) {
        return;
    }
    free(config->script);
    free(config->script_path);
    free(config->worker);
    free(config->runtime_dir);
    free(config->pool);
    free(config);
}
