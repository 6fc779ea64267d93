/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/config.c - the configuration keys of the bridge
 *
 * Here:      the table of keys, reading them with jansson, the texts of refusals, and the
 *            first look at the script's path.
 * Elsewhere: acting on it; docs/configuration.md, which lists the keys for people.
 */
#include "plugin/config.h"

#include "protocol/limits.h"
#include "protocol/nearest.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_SHOWN_BYTES  200u
#define MAX_MODULES      64u /* of Python.Preload */
#define MAX_MODULE_BYTES 255u

enum key_type {
    KEY_TEXT,    /* not empty */
    KEY_NAME,    /* not empty, of letters and a few signs, short */
    KEY_ROUTE,   /* a path below / without special characters, or empty */
    KEY_SCRIPT,  /* any text: the path has its own checks */
    KEY_BOOL,    /* or-ed into its field */
    KEY_SECONDS, /* into a field in milliseconds */
    KEY_CALLS,   /* Python.CallTimeout: seconds, or seconds for kinds of callbacks */
    KEY_OPEN,    /* Python.FailOpen: names of filters */
    KEY_NUMBER,  /* a whole one */
    KEY_SWITCH,  /* true or false: on unless it is false */
    KEY_MODULES  /* Python.Preload: names of modules */
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
    {"SharedMemory", KEY_SWITCH, FIELD(shared_memory), 0, 0},
    {"Strict", KEY_BOOL, FIELD(strict), 0, 0},
    {"FailOpen", KEY_OPEN, 0, 0, 0},
    {"Worker", KEY_TEXT, FIELD(worker), 0, 0},
    {"Workers", KEY_NUMBER, FIELD(workers), 1, OPB_MAX_WORKERS},
    {"RuntimeDirectory", KEY_TEXT, FIELD(runtime_dir), 0, 0},
    {"Pool", KEY_TEXT, FIELD(pool), 0, 0},
    {"PoolUser", KEY_TEXT, FIELD(pool_user), 0, 0},
    {"NodeSocket", KEY_TEXT, FIELD(node_socket), 0, 0},
    {"NodeName", KEY_NAME, FIELD(node_name), 0, 0},
    {"QueueTimeout", KEY_SECONDS, FIELD(queue_timeout_ms), 0.1, 3600},
    {"CallTimeout", KEY_CALLS, 0, 0.1, 86400},
    {"MaxRestarts", KEY_NUMBER, FIELD(max_restarts), 0, 100},
    {"RestartWindow", KEY_SECONDS, FIELD(restart_window_ms), 1, 3600},
    {"StartTimeout", KEY_SECONDS, FIELD(start_timeout_ms), 1, 3600},
    {"Preload", KEY_MODULES, 0, 0, 0},
    {"AdminPath", KEY_ROUTE, FIELD(admin_path), 0, 0},
    {"ReloadOnChange", KEY_BOOL, FIELD(reload_on_change), 0, 0},
    {"ReloadTimeout", KEY_SECONDS, FIELD(reload_timeout_ms), 1, 3600},
    {"DrainTimeout", KEY_SECONDS, FIELD(drain_timeout_ms), 0.1, 3600},
    {"MaxCalls", KEY_NUMBER, FIELD(max_calls), 0, 2147483647},
    {"MaxMemory", KEY_NUMBER, FIELD(max_memory_mb), 0, 1048576},
    {"StoppedTimeout", KEY_SECONDS, FIELD(stopped_timeout_ms), 0.1, 86400},
    {"StopTimeout", KEY_SECONDS, FIELD(stop_timeout_ms), 0.1, 3600},
};
#define SECTION_KEY_COUNT (sizeof(section_keys) / sizeof(section_keys[0]))

/* At the top. PythonScript comes after the section, since it wins over Python.Path. */
static const struct key top_keys[] = {
    {"PythonScript", KEY_SCRIPT, FIELD(script), 0, 0},
    {"PythonVerbose", KEY_BOOL, FIELD(verbose), 0, 0},
};
#define TOP_KEY_COUNT (sizeof(top_keys) / sizeof(top_keys[0]))

/* Kinds of callbacks as the configuration names them. */
enum call_group {
    GROUP_NONE, /* not a callback of the script */
    GROUP_REST,
    GROUP_CHANGE,
    GROUP_STORED,
    GROUP_HTTP_FILTER,
    GROUP_RECEIVED,
    GROUP_CSTORE_FILTER,
    GROUP_FIND,
    GROUP_WORKLIST,
    GROUP_MOVE,
    GROUP_STORAGE,
    GROUP_COMMITMENT,
    GROUP_COUNT
};

static const char *const group_names[GROUP_COUNT] = {[GROUP_NONE] = "Default",
                                                     [GROUP_REST] = "Rest",
                                                     [GROUP_CHANGE] = "Change",
                                                     [GROUP_STORED] = "StoredInstance",
                                                     [GROUP_HTTP_FILTER] = "HttpFilter",
                                                     [GROUP_RECEIVED] = "ReceivedInstance",
                                                     [GROUP_CSTORE_FILTER] = "CStoreFilter",
                                                     [GROUP_FIND] = "Find",
                                                     [GROUP_WORKLIST] = "Worklist",
                                                     [GROUP_MOVE] = "Move",
                                                     [GROUP_STORAGE] = "StorageArea",
                                                     [GROUP_COMMITMENT] =
                                                         "StorageCommitment"};

/* What Orthanc runs under a lock of the whole server would stop all of it. */
#define LOCKED_MS (60u * 1000u)

static const struct {
    enum call_group group;
    uint32_t timeout_ms; /* by default */
} calls[OPB_CALL_COUNT] = {
    [OPB_CALL_REST_INDEX] = {GROUP_REST, 0},
    [OPB_CALL_CHANGE_INDEX] = {GROUP_CHANGE, 0},
    [OPB_CALL_STORED_INSTANCE_INDEX] = {GROUP_STORED, LOCKED_MS},
    [OPB_CALL_HTTP_FILTER_INDEX] = {GROUP_HTTP_FILTER, LOCKED_MS},
    [OPB_CALL_RECEIVED_INSTANCE_INDEX] = {GROUP_RECEIVED, LOCKED_MS},
    [OPB_CALL_CSTORE_FILTER_INDEX] = {GROUP_CSTORE_FILTER, LOCKED_MS},
    [OPB_CALL_FIND_INDEX] = {GROUP_FIND, LOCKED_MS},
    [OPB_CALL_FIND2_INDEX] = {GROUP_FIND, LOCKED_MS},
    [OPB_CALL_WORKLIST_INDEX] = {GROUP_WORKLIST, LOCKED_MS},
    [OPB_CALL_WORKLIST2_INDEX] = {GROUP_WORKLIST, LOCKED_MS},
    [OPB_CALL_MOVE_INDEX] = {GROUP_MOVE, 0},
    [OPB_CALL_MOVE2_INDEX] = {GROUP_MOVE, 0},
    [OPB_CALL_MOVE3_INDEX] = {GROUP_MOVE, 0},
    [OPB_CALL_MOVE_SIZE_INDEX] = {GROUP_MOVE, 0},
    [OPB_CALL_MOVE_APPLY_INDEX] = {GROUP_MOVE, 0},
    [OPB_CALL_MOVE_FREE_INDEX] = {GROUP_MOVE, 0},
    [OPB_CALL_STORAGE_CREATE_INDEX] = {GROUP_STORAGE, 0},
    [OPB_CALL_STORAGE_READ_INDEX] = {GROUP_STORAGE, 0},
    [OPB_CALL_STORAGE_REMOVE_INDEX] = {GROUP_STORAGE, LOCKED_MS},
    [OPB_CALL_STORAGE_CREATE3_INDEX] = {GROUP_STORAGE, 0},
    [OPB_CALL_STORAGE_READ3_INDEX] = {GROUP_STORAGE, 0},
    [OPB_CALL_STORAGE_REMOVE3_INDEX] = {GROUP_STORAGE, LOCKED_MS},
    [OPB_CALL_COMMITMENT_INDEX] = {GROUP_COMMITMENT, LOCKED_MS},
    [OPB_CALL_COMMITMENT2_INDEX] = {GROUP_COMMITMENT, LOCKED_MS},
    [OPB_CALL_COMMITMENT_LOOKUP_INDEX] = {GROUP_COMMITMENT, 0},
    [OPB_CALL_COMMITMENT_FREE_INDEX] = {GROUP_COMMITMENT, 0},
};

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

/* Part of a regular expression as it is. */
static bool
is_route(const char *text)
{
    size_t bytes = strlen(text);

    return bytes == 0 ||
           (text[0] == '/' && bytes > 1 && text[bytes - 1] != '/' &&
            strstr(text, "//") == NULL &&
            strspn(text,
                   "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_/") ==
                bytes);
}

static bool
is_name(const char *text)
{
    size_t bytes = strlen(text);

    return bytes >= 1 && bytes <= OPB_NODE_NAME_BYTES &&
           strspn(text,
                  "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") ==
               bytes;
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
    if (key->type == KEY_NAME && !is_name(text)) {
        return refuse(reading, key, value,
                      "1 to 64 letters, digits and the signs - _ . (no others)");
    }
    if (key->type == KEY_ROUTE && !is_route(text)) {
        return refuse(
            reading, key, value,
            "a path like \"/python-bridge\" (letters, digits, - _ / only), or empty");
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
read_number(const struct reading *reading, const struct key *key, const json_t *value)
{
    uint32_t *field = (uint32_t *)(void *)((char *)reading->config + key->field);
    json_int_t number = json_integer_value(value);
    char allowed[80];

    if (!json_is_integer(value) || (double)number < key->low ||
        (double)number > key->high) {
        /* fits: the limits are short numbers */
        (void)snprintf(allowed, sizeof(allowed), "a whole number from %.0f to %.0f",
                       key->low, key->high);
        return refuse(reading, key, value, allowed);
    }
    *field = (uint32_t)number;
    return OPB_OK;
}

/* Seconds, or 0 for none, as milliseconds; false if the value is neither. */
static bool
to_timeout(const struct key *key, const json_t *value, uint32_t *out)
{
    double seconds = json_number_value(value);

    if (!json_is_number(value) ||
        (seconds != 0.0 && !(seconds >= key->low && seconds <= key->high))) {
        return false;
    }
    *out = (uint32_t)lround(seconds * 1000);
    return true;
}

static enum call_group
find_group(const char *name)
{
    enum call_group group = GROUP_NONE;

    while (group < GROUP_COUNT && strcmp(name, group_names[group]) != 0) {
        group++;
    }
    return group;
}

static void
set_timeout(struct opb_config *config, enum call_group group, uint32_t timeout_ms)
{
    for (int i = 0; i < OPB_CALL_COUNT; i++) {
        if (calls[i].group != GROUP_NONE &&
            (group == GROUP_NONE || calls[i].group == group)) {
            config->call_timeout_ms[i] = timeout_ms;
        }
    }
}

static enum opb_status
read_calls(const struct reading *reading, const struct key *key, json_t *value)
{
    static const char allowed[] =
        "0 (no limit), a number of seconds from 0.1 to 86400, or an object that gives such "
        "numbers to \"Default\" and kinds of callbacks: \"Rest\", \"Change\", "
        "\"StoredInstance\", \"HttpFilter\", \"ReceivedInstance\", \"CStoreFilter\", "
        "\"Find\", \"Worklist\", \"Move\", \"StorageArea\", \"StorageCommitment\"";
    json_t *general = json_is_object(value) ? json_object_get(value, "Default") : value;
    uint32_t timeout_ms;
    const char *name;
    json_t *each;

    if (general != NULL) {
        if (!to_timeout(key, general, &timeout_ms)) {
            return refuse(reading, key, value, allowed);
        }
        set_timeout(reading->config, GROUP_NONE, timeout_ms);
    }
    json_object_foreach(value, name, each)
    {
        enum call_group group = find_group(name);

        if (group == GROUP_COUNT || !to_timeout(key, each, &timeout_ms)) {
            return refuse(reading, key, value, allowed);
        }
        if (group != GROUP_NONE) {
            set_timeout(reading->config, group, timeout_ms);
        }
    }
    return OPB_OK;
}

static enum opb_status
read_open(const struct reading *reading, const struct key *key, const json_t *value)
{
    size_t index;
    json_t *each;
    bool is_good = json_is_array(value);

    json_array_foreach(value, index, each)
    {
        const char *name = json_string_value(each);

        if (name != NULL && strcmp(name, group_names[GROUP_HTTP_FILTER]) == 0) {
            reading->config->fail_open[OPB_CALL_HTTP_FILTER_INDEX] = true;
        }
        else if (name != NULL && strcmp(name, group_names[GROUP_RECEIVED]) == 0) {
            reading->config->fail_open[OPB_CALL_RECEIVED_INSTANCE_INDEX] = true;
        }
        else if (name != NULL && strcmp(name, group_names[GROUP_CSTORE_FILTER]) == 0) {
            reading->config->fail_open[OPB_CALL_CSTORE_FILTER_INDEX] = true;
        }
        else {
            is_good = false;
        }
    }
    return is_good ? OPB_OK
                   : refuse(reading, key, value,
                            "an array of \"HttpFilter\", \"ReceivedInstance\" and "
                            "\"CStoreFilter\": other callbacks have nothing to let in");
}

/* Identifiers with dots between them. Python has the last word on letters beyond ASCII. */
static bool
is_module(const char *text)
{
    bool is_first = true;

    for (const char *c = text; *c != '\0'; c++) {
        bool is_letter = (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') ||
                         *c == '_' || (unsigned char)*c >= 0x80;

        if (!is_letter && (is_first || (*c != '.' && (*c < '0' || *c > '9')))) {
            return false;
        }
        is_first = *c == '.';
    }
    return !is_first && strlen(text) <= MAX_MODULE_BYTES;
}

static enum opb_status
read_modules(const struct reading *reading, const struct key *key, const json_t *value)
{
    struct opb_config *config = reading->config;
    size_t index;
    json_t *each;

    if (!json_is_array(value) || json_array_size(value) > MAX_MODULES) {
        return refuse(reading, key, value, "an array of at most 64 names of modules");
    }
    config->preload = calloc(json_array_size(value) + 1, sizeof(*config->preload));
    if (config->preload == NULL) {
        return OPB_NO_MEMORY;
    }
    json_array_foreach(value, index, each)
    {
        const char *name = json_string_value(each);

        if (name == NULL || strlen(name) != json_string_length(each) || !is_module(name)) {
            return refuse(reading, key, value,
                          "an array of names of modules, such as \"numpy\" or "
                          "\"concurrent.futures\"");
        }
        if (strcmp(name, "orthanc") == 0) {
            return refuse(reading, key, value,
                          "without \"orthanc\", which hosts have anyway");
        }
        config->preload[config->preload_count] = strdup(name);
        if (config->preload[config->preload_count] == NULL) {
            return OPB_NO_MEMORY;
        }
        config->preload_count++;
    }
    return OPB_OK;
}

static enum opb_status
read_value(const struct reading *reading, const struct key *key, json_t *value)
{
    switch (key->type) {
    case KEY_TEXT:
    case KEY_NAME:
    case KEY_ROUTE:
    case KEY_SCRIPT:
        return read_text(reading, key, value);
    case KEY_SWITCH:
        if (!json_is_boolean(value)) {
            return refuse(reading, key, value, "true or false");
        }
        *(bool *)((char *)reading->config + key->field) = json_is_true(value);
        return OPB_OK;
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
    case KEY_NUMBER:
        return read_number(reading, key, value);
    case KEY_CALLS:
        return read_calls(reading, key, value);
    case KEY_OPEN:
        return read_open(reading, key, value);
    case KEY_MODULES:
        return read_modules(reading, key, value);
    }
    return OPB_REFUSED;
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
        size_t each = opb_name_distance(name, section_keys[i].name);

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
    reading.config->stopped_timeout_ms = 45 * 1000;
    reading.config->stop_timeout_ms = 30 * 1000;
    reading.config->workers = 1;
    reading.config->max_restarts = 10;
    reading.config->shared_memory = true;
    reading.config->restart_window_ms = 60 * 1000;
    for (int i = 0; i < OPB_CALL_COUNT; i++) {
        reading.config->call_timeout_ms[i] = calls[i].timeout_ms;
    }
    reading.config->reload_timeout_ms = 60 * 1000;
    reading.config->drain_timeout_ms = 30 * 1000;
    reading.config->admin_path = strdup("/python-bridge");
    if (reading.config->admin_path == NULL) {
        goto say_no_memory;
    }
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
    free(config->pool_user);
    free(config->node_socket);
    free(config->node_name);
    free(config->admin_path);
    for (uint32_t i = 0; i < config->preload_count; i++) {
        free(config->preload[i]);
    }
    free(config->preload);
    free(config);
}
