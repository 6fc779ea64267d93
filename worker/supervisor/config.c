/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/supervisor/config.c - see config.h
 *
 * Values of the command line go through the same checks as those of the file, as the JSON
 * that they would be there. So do the defaults. The table of keys, with the texts of
 * --help, is made out of docs/configuration.md by protocol/make_keys.py.
 */
#include "worker/supervisor/config.h"

#include "protocol/nearest.h"
#include "protocol/settings.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#define MAX_SOCKET_BYTES  (sizeof(((struct sockaddr_un *)0)->sun_path) - 1)
#define MAX_SOCKET_MODE   0777u
#define MAX_ALLOWED_BYTES 160u

enum key_type {
    KEY_PATH,   /* absolute */
    KEY_SOCKET, /* absolute, and short enough for an address */
    KEY_TEXT,   /* not empty */
    KEY_MODE,   /* octal digits, as a string: JSON knows no octal numbers */
    KEY_NAMES,  /* an array of such texts; in the file only */
    KEY_PATHS,  /* an array of absolute paths; likewise */
    KEY_NUMBER,
    KEY_SECONDS, /* into a field in milliseconds */
    KEY_LEVEL
};

struct key {
    const char *name;
    const char *option; /* of the command line, or NULL */
    const char *value;  /* what the help calls its value */
    const char *help;
    enum key_type type;
    size_t field; /* offset in struct opb_pool_config */
    uint32_t low;
    uint32_t high;
    const char *preset; /* the default as JSON, or NULL */
};

#include "pool_keys.gen.h"
#define KEY_COUNT (sizeof(keys) / sizeof(keys[0]))

static const char *const level_names[] = {
    [OPB_LOG_ERROR] = "error", [OPB_LOG_WARNING] = "warning", [OPB_LOG_INFO] = "info"};

struct reading {
    struct opb_pool_config *config;
    const char *file; /* NULL: the command line */
    char *message;
    size_t capacity;
};

/* A message that does not fit is cut, here and below. */
static enum opb_status
refuse(const struct reading *reading, const struct key *key, const json_t *value,
       const char *allowed)
{
    char shown[OPB_MAX_SHOWN_BYTES];

    opb_setting_show(value, shown, sizeof(shown));
    if (reading->file == NULL) {
        (void)snprintf(reading->message, reading->capacity,
                       "The option --%s is %s, and must be %s", key->option, shown,
                       allowed);
    }
    else {
        (void)snprintf(reading->message, reading->capacity,
                       "%s: the key \"%s\" is %s, and must be %s", reading->file, key->name,
                       shown, allowed);
    }
    return OPB_REFUSED;
}

static void *
field_of(const struct reading *reading, const struct key *key)
{
    return (char *)reading->config + key->field;
}

static enum opb_status
keep_text(char **field, const char *text)
{
    char *copy = strdup(text);

    if (copy == NULL) {
        return OPB_NO_MEMORY;
    }
    free(*field); /* the command line replaces what the file says */
    *field = copy;
    return OPB_OK;
}

static enum opb_status
read_text(const struct reading *reading, const struct key *key, const json_t *value)
{
    const char *text = json_string_value(value);
    bool is_whole = text != NULL && strlen(text) == json_string_length(value);
    char allowed[MAX_ALLOWED_BYTES];

    if (key->type == KEY_TEXT && (!is_whole || text[0] == '\0')) {
        return refuse(reading, key, value, "a string that is not empty");
    }
    if (key->type == KEY_PATH && (!is_whole || text[0] != '/')) {
        return refuse(reading, key, value, "an absolute path");
    }
    if (key->type == KEY_SOCKET &&
        (!is_whole || text[0] != '/' || strlen(text) > MAX_SOCKET_BYTES)) {
        (void)snprintf(allowed, sizeof(allowed),
                       "an absolute path of at most %zu bytes: a socket's path cannot be "
                       "longer",
                       MAX_SOCKET_BYTES);
        return refuse(reading, key, value, allowed);
    }
    return keep_text(field_of(reading, key), text);
}

static void
free_names(struct opb_names *names)
{
    for (size_t i = 0; i < names->count; i++) {
        free(names->items[i]);
    }
    free(names->items);
    *names = (struct opb_names){NULL, 0};
}

static enum opb_status
read_names(const struct reading *reading, const struct key *key, const json_t *value)
{
    struct opb_names *names = field_of(reading, key);
    size_t index;
    json_t *each;

    if (!json_is_array(value)) {
        return refuse(reading, key, value,
                      key->type == KEY_PATHS ? "an array of absolute paths"
                                             : "an array of strings");
    }
    names->items = calloc(json_array_size(value) + 1, sizeof(*names->items));
    if (names->items == NULL) {
        return OPB_NO_MEMORY;
    }
    json_array_foreach(value, index, each)
    {
        const char *text = json_string_value(each);

        if (text == NULL || text[0] == '\0' || strlen(text) != json_string_length(each)) {
            return refuse(reading, key, value, "an array of strings that are not empty");
        }
        if (key->type == KEY_PATHS && text[0] != '/') {
            return refuse(reading, key, value, "an array of absolute paths");
        }
        names->items[index] = strdup(text);
        if (names->items[index] == NULL) {
            return OPB_NO_MEMORY;
        }
        names->count++;
    }
    return OPB_OK;
}

static enum opb_status
read_mode(const struct reading *reading, const struct key *key, const json_t *value)
{
    const char *text = json_string_value(value);
    char *end = NULL;
    unsigned long mode = 0;

    if (text != NULL && text[0] >= '0' && text[0] <= '7' && strlen(text) <= 4) {
        mode = strtoul(text, &end, 8);
    }
    if (end == NULL || *end != '\0' || mode > MAX_SOCKET_MODE || (mode & 0600u) != 0600u) {
        return refuse(reading, key, value,
                      "a string of octal digits from \"0600\" to \"0777\", with which the "
                      "owner may read and write");
    }
    *(uint32_t *)field_of(reading, key) = (uint32_t)mode;
    return OPB_OK;
}

static enum opb_status
read_number(const struct reading *reading, const struct key *key, const json_t *value)
{
    json_int_t number = json_integer_value(value);
    char allowed[MAX_ALLOWED_BYTES];

    if (!json_is_integer(value) || number < key->low || number > key->high) {
        (void)snprintf(allowed, sizeof(allowed), "a whole number from %u to %u", key->low,
                       key->high);
        return refuse(reading, key, value, allowed);
    }
    *(uint32_t *)field_of(reading, key) = (uint32_t)number;
    return OPB_OK;
}

static enum opb_status
read_seconds(const struct reading *reading, const struct key *key, const json_t *value)
{
    double seconds = json_number_value(value);
    char allowed[MAX_ALLOWED_BYTES];

    if (!json_is_number(value) || !(seconds >= key->low && seconds <= key->high)) {
        (void)snprintf(allowed, sizeof(allowed), "a number of seconds from %u to %u",
                       key->low, key->high);
        return refuse(reading, key, value, allowed);
    }
    *(uint32_t *)field_of(reading, key) = (uint32_t)(seconds * 1000.0 + 0.5);
    return OPB_OK;
}

static enum opb_status
read_level(const struct reading *reading, const struct key *key, const json_t *value)
{
    const char *text = json_string_value(value);

    for (size_t i = 0; text != NULL && i < sizeof(level_names) / sizeof(level_names[0]);
         i++) {
        if (strcmp(text, level_names[i]) == 0) {
            *(enum opb_log_level *)field_of(reading, key) = (enum opb_log_level)i;
            return OPB_OK;
        }
    }
    return refuse(reading, key, value, "\"error\", \"warning\" or \"info\"");
}

static enum opb_status
read_value(const struct reading *reading, const struct key *key, const json_t *value)
{
    switch (key->type) {
    case KEY_PATH:
    case KEY_SOCKET:
    case KEY_TEXT:
        return read_text(reading, key, value);
    case KEY_NAMES:
    case KEY_PATHS:
        return read_names(reading, key, value);
    case KEY_MODE:
        return read_mode(reading, key, value);
    case KEY_NUMBER:
        return read_number(reading, key, value);
    case KEY_SECONDS:
        return read_seconds(reading, key, value);
    case KEY_LEVEL:
        return read_level(reading, key, value);
    }
    return OPB_REFUSED;
}

static const struct key *
find_key(const char *name)
{
    for (size_t i = 0; i < KEY_COUNT; i++) {
        if (strcmp(keys[i].name, name) == 0) {
            return &keys[i];
        }
    }
    return NULL;
}

static enum opb_status
refuse_unknown(const struct reading *reading, const char *name, const json_t *value)
{
    const char *nearest = opb_nearest_name(name, keys, KEY_COUNT, sizeof(keys[0]));
    char shown[OPB_MAX_SHOWN_BYTES];

    opb_setting_show(value, shown, sizeof(shown));
    (void)snprintf(reading->message, reading->capacity,
                   "%s: the key \"%.*s\", which is %s, is not known to this version; the "
                   "nearest known key is \"%s\"",
                   reading->file, (int)OPB_MAX_SHOWN_BYTES, name, shown, nearest);
    return OPB_REFUSED;
}

static enum opb_status
read_object(const struct reading *reading, json_t *root)
{
    const char *name;
    json_t *value;

    json_object_foreach(root, name, value)
    {
        const struct key *key = find_key(name);
        enum opb_status status = key != NULL ? read_value(reading, key, value)
                                             : refuse_unknown(reading, name, value);

        if (status != OPB_OK) {
            return status;
        }
    }
    return OPB_OK;
}

static void
explain_no_memory(enum opb_status status, char *message, size_t capacity)
{
    if (status == OPB_NO_MEMORY) {
        (void)snprintf(message, capacity, "Not enough memory");
    }
}

enum opb_status
opb_pool_config_read(struct opb_pool_config *config, const char *path, char *message,
                     size_t capacity)
{
    const struct reading reading = {config, path, message, capacity};
    enum opb_status status = OPB_REFUSED;
    json_error_t error;
    json_t *root;

    message[0] = '\0';
    root = json_load_file(path, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &error);
    if (root == NULL && error.line < 0) {
        (void)snprintf(message, capacity, "The configuration file cannot be read: %s",
                       error.text); /* which names it */
    }
    else if (root == NULL) {
        (void)snprintf(message, capacity, "%s, line %d, column %d: %s", path, error.line,
                       error.column, error.text);
    }
    else if (!json_is_object(root)) {
        (void)snprintf(message, capacity,
                       "%s: this is no JSON object, as in {\"Socket\": "
                       "\"/run/orthanc-python/pool.sock\"}",
                       path);
    }
    else {
        status = read_object(&reading, root);
    }
    json_decref(root);
    explain_no_memory(status, message, capacity);
    return status;
}

/* A number stays text if it is none, so that the refusal shows it as it was written. */
static json_t *
to_json(const struct key *key, const char *text)
{
    char *end = NULL;
    long number;
    double seconds;

    if (key->type == KEY_SECONDS) {
        seconds = strtod(text, &end);
        if (end != text && *end == '\0' && seconds >= 0 && seconds <= key->high) {
            return json_real(
                seconds); /* others, and what is no number, are shown as text */
        }
    }
    if (key->type == KEY_NUMBER) {
        number = strtol(text, &end, 10);
        if (end != text && *end == '\0') {
            return json_integer(number);
        }
    }
    return json_string(text);
}

enum opb_status
opb_pool_config_set(struct opb_pool_config *config, size_t option, const char *text,
                    char *message, size_t capacity)
{
    const struct reading reading = {config, NULL, message, capacity};
    const struct key *key = &keys[option];
    enum opb_status status = OPB_REFUSED;
    json_t *value = to_json(key, text);

    message[0] = '\0';
    if (value == NULL) { /* not UTF-8 */
        (void)snprintf(message, capacity, "The option --%s is no text in UTF-8",
                       key->option);
    }
    else {
        status = read_value(&reading, key, value);
    }
    json_decref(value);
    explain_no_memory(status, message, capacity);
    return status;
}

size_t
opb_pool_config_options(void)
{
    return KEY_COUNT;
}

struct option
opb_pool_config_option(size_t option, int first_code)
{
    return (struct option){.name = keys[option].option,
                           .has_arg = required_argument,
                           .val = first_code + (int)option};
}

void
opb_pool_config_help(FILE *out)
{
    for (size_t i = 0; i < KEY_COUNT; i++) {
        char left[40];

        if (keys[i].option == NULL) {
            continue;
        }
        (void)snprintf(left, sizeof(left), "--%s %s", keys[i].option, keys[i].value);
        (void)fprintf(out, "  %-22s %s\n", left, keys[i].help);
    }
}

enum opb_status
opb_pool_config_init(struct opb_pool_config *config, char *message, size_t capacity)
{
    const struct reading reading = {config, "The defaults", message, capacity};
    enum opb_status status = OPB_OK;

    memset(config, 0, sizeof(*config));
    for (size_t i = 0; i < KEY_COUNT && status == OPB_OK; i++) {
        if (keys[i].preset != NULL) {
            json_t *value = json_loads(keys[i].preset, JSON_DECODE_ANY, NULL);

            status = value != NULL ? read_value(&reading, &keys[i], value) : OPB_NO_MEMORY;
            json_decref(value);
        }
    }
    explain_no_memory(status, message, capacity);
    return status;
}

void
opb_pool_config_fini(struct opb_pool_config *config)
{
    free_names(&config->allow_users);
    free_names(&config->scripts);
    free(config->allow_group);
    free(config->socket);
    free(config->socket_group);
    free(config->host_program);
    memset(config, 0, sizeof(*config));
}
