/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/config.c - the configuration keys of the bridge
 *
 * Here:      reading keys with jansson, the texts of refusals.
 * Elsewhere: acting on it, looking at scripts (scripts.c); the table of keys, which the
 * build makes out of docs/configuration.md (protocol/make_keys.py).
 */
#include "plugin/config.h"

#include "plugin/config_reading.h"
#include "protocol/limits.h"
#include "protocol/nearest.h"
#include "protocol/settings.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_MODULES        64u /* of Python.Preload */
#define MAX_MODULE_BYTES   255u
#define DEFAULT_DICOM_PORT 4242u /* Orthanc's */

/* top_keys, section_keys. PythonScript comes after the section, since it wins over
 * Python.Path. */
#include "config_keys.gen.h"
#define SECTION_KEY_COUNT (sizeof(section_keys) / sizeof(section_keys[0]))

#define TOP_KEY_COUNT (sizeof(top_keys) / sizeof(top_keys[0]))

_Static_assert(OPB_WORKERS_HIGH <= OPB_MAX_WORKERS,
               "docs/configuration.md: there is no room for so many hosts");

enum opb_status
opb_config_refuse(const struct opb_config_reading *reading,
                  const struct opb_config_key *key, const json_t *value,
                  const char *allowed)
{
    char shown[OPB_MAX_SHOWN_BYTES];

    opb_setting_show(value, shown, sizeof(shown));
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
read_text(const struct opb_config_reading *reading, const struct opb_config_key *key,
          const json_t *value)
{
    char **field = (char **)(void *)((char *)reading->config + key->field);
    const char *text = json_string_value(value);
    char *copy;

    if (text == NULL) {
        return opb_config_refuse(reading, key, value, "a string");
    }
    if (strlen(text) != json_string_length(value)) {
        return opb_config_refuse(reading, key, value, "a string without NUL characters");
    }
    if (key->type == OPB_KEY_TEXT && text[0] == '\0') {
        return opb_config_refuse(reading, key, value, "a string that is not empty");
    }
    if (key->type == OPB_KEY_PATH && (text[0] != '/' || strlen(text) >= PATH_MAX)) {
        return opb_config_refuse(reading, key, value, "an absolute path");
    }
    if (key->type == OPB_KEY_NAME && !is_name(text)) {
        return opb_config_refuse(reading, key, value,
                                 "1 to 64 letters, digits and the signs - _ . (no others)");
    }
    if (key->type == OPB_KEY_ROUTE && !is_route(text)) {
        return opb_config_refuse(
            reading, key, value,
            "a path like \"/python-bridge\" (letters, digits, - _ / only), or empty");
    }
    copy = strdup(text);
    if (copy == NULL) {
        return OPB_NO_MEMORY;
    }
    free(*field); /* a default */
    *field = copy;
    return OPB_OK;
}

static enum opb_status
read_seconds(const struct opb_config_reading *reading, const struct opb_config_key *key,
             const json_t *value)
{
    uint32_t *field = (uint32_t *)(void *)((char *)reading->config + key->field);
    double seconds = json_number_value(value);
    char allowed[80];

    if (!json_is_number(value) || !(seconds >= key->low && seconds <= key->high)) {
        /* fits: the limits are short numbers */
        (void)snprintf(allowed, sizeof(allowed), "a number of seconds from %g to %g",
                       key->low, key->high);
        return opb_config_refuse(reading, key, value, allowed);
    }
    *field = (uint32_t)lround(seconds * 1000);
    return OPB_OK;
}

static enum opb_status
read_number(const struct opb_config_reading *reading, const struct opb_config_key *key,
            const json_t *value)
{
    uint32_t *field = (uint32_t *)(void *)((char *)reading->config + key->field);
    json_int_t number = json_integer_value(value);
    char allowed[80];

    if (!json_is_integer(value) || (double)number < key->low ||
        (double)number > key->high) {
        /* fits: the limits are short numbers */
        (void)snprintf(allowed, sizeof(allowed), "a whole number from %.0f to %.0f",
                       key->low, key->high);
        return opb_config_refuse(reading, key, value, allowed);
    }
    *field = (uint32_t)number;
    return OPB_OK;
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
read_modules(const struct opb_config_reading *reading, const struct opb_config_key *key,
             const json_t *value)
{
    struct opb_config *config = reading->config;
    size_t index;
    json_t *each;

    if (!json_is_array(value) || json_array_size(value) > MAX_MODULES) {
        return opb_config_refuse(reading, key, value,
                                 "an array of at most 64 names of modules");
    }
    config->preload = calloc(json_array_size(value) + 1, sizeof(*config->preload));
    if (config->preload == NULL) {
        return OPB_NO_MEMORY;
    }
    json_array_foreach(value, index, each)
    {
        const char *name = json_string_value(each);

        if (name == NULL || strlen(name) != json_string_length(each) || !is_module(name)) {
            return opb_config_refuse(reading, key, value,
                                     "an array of names of modules, such as \"numpy\" or "
                                     "\"concurrent.futures\"");
        }
        if (strcmp(name, "orthanc") == 0) {
            return opb_config_refuse(reading, key, value,
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
read_reload(const struct opb_config_reading *reading, const struct opb_config_key *key,
            const json_t *value)
{
    bool *field = (bool *)(void *)((char *)reading->config + key->field);
    const char *word = json_is_string(value) ? json_string_value(value) : "";

    if (strlen(word) != json_string_length(value) ||
        (strcmp(word, "beside") != 0 && strcmp(word, "replace") != 0)) {
        return opb_config_refuse(reading, key, value, "\"beside\" or \"replace\"");
    }
    *field = strcmp(word, "replace") == 0;
    return OPB_OK;
}

static enum opb_status
read_value(const struct opb_config_reading *reading, const struct opb_config_key *key,
           json_t *value)
{
    switch (key->type) {
    case OPB_KEY_TEXT:
    case OPB_KEY_PATH:
    case OPB_KEY_NAME:
    case OPB_KEY_ROUTE:
        return read_text(reading, key, value);
    case OPB_KEY_SCRIPT:
        return opb_config_read_script(reading, key, value);
    case OPB_KEY_SWITCH:
        if (!json_is_boolean(value)) {
            return opb_config_refuse(reading, key, value, "true or false");
        }
        *(bool *)((char *)reading->config + key->field) = json_is_true(value);
        return OPB_OK;
    case OPB_KEY_BOOL:
        if (!json_is_boolean(value)) {
            return opb_config_refuse(reading, key, value, "true or false");
        }
        if (json_is_true(value)) {
            *(bool *)((char *)reading->config + key->field) = true;
        }
        return OPB_OK;
    case OPB_KEY_SECONDS:
        return read_seconds(reading, key, value);
    case OPB_KEY_NUMBER:
        return read_number(reading, key, value);
    case OPB_KEY_CALLS:
        return opb_config_read_timeouts(reading, key, value);
    case OPB_KEY_OPEN:
        return opb_config_read_open(reading, key, value);
    case OPB_KEY_MODULES:
        return read_modules(reading, key, value);
    case OPB_KEY_RELOAD:
        return read_reload(reading, key, value);
    }
    return OPB_REFUSED;
}

static const struct opb_config_key *
find_key(const struct opb_config_key *keys, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(keys[i].name, name) == 0) {
            return &keys[i];
        }
    }
    return NULL;
}

static enum opb_status
refuse_unknown(const struct opb_config_reading *reading, const char *name)
{
    const char *nearest =
        opb_nearest_name(name, section_keys, SECTION_KEY_COUNT, sizeof(section_keys[0]));

    /* a message that does not fit is cut */
    (void)snprintf(
        reading->message, reading->capacity,
        "The configuration option \"Python.%.*s\" is not known to this version; the "
        "nearest known option is \"Python.%s\"",
        (int)OPB_MAX_SHOWN_BYTES, name, nearest);
    return OPB_REFUSED;
}

static enum opb_status
read_section(struct opb_config_reading *reading, json_t *section)
{
    const char *name;
    json_t *value;

    if (section == NULL) {
        return OPB_OK;
    }
    if (!json_is_object(section)) {
        char shown[OPB_MAX_SHOWN_BYTES];

        opb_setting_show(section, shown, sizeof(shown));
        /* a message that does not fit is cut */
        (void)snprintf(reading->message, reading->capacity,
                       "The configuration section \"Python\" is %s, and must be an object",
                       shown);
        return OPB_REFUSED;
    }
    json_object_foreach(section, name, value)
    {
        const struct opb_config_key *key = find_key(section_keys, SECTION_KEY_COUNT, name);
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
read_all(struct opb_config_reading *reading, json_t *root)
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

/* Those of the table, through the same checks as what somebody has written. At the top
 * there are no others. */
static enum opb_status
set_defaults(const struct opb_config_reading *reading, const struct opb_config_key *keys,
             size_t count)
{
    enum opb_status status = OPB_OK;

    for (size_t i = 0; i < count && status == OPB_OK; i++) {
        if (keys[i].preset != NULL) {
            json_t *value = json_loads(keys[i].preset, JSON_DECODE_ANY, NULL);

            status = value != NULL ? read_value(reading, &keys[i], value) : OPB_NO_MEMORY;
            json_decref(value);
        }
    }
    return status;
}

/* Orthanc has checked it, or will. */
static uint32_t
read_port(const json_t *value)
{
    json_int_t port = json_integer_value(value);

    return port > 0 && port <= UINT16_MAX ? (uint32_t)port : DEFAULT_DICOM_PORT;
}

enum opb_status
opb_config_parse(struct opb_config **out, const char *json, char *message, size_t capacity)
{
    struct opb_config_reading reading = {.message = message, .capacity = capacity};
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
    reading.config->dicom_port = read_port(json_object_get(root, "DicomPort"));
    opb_config_set_timeouts(reading.config);
    status = set_defaults(&reading, section_keys, SECTION_KEY_COUNT);
    if (status == OPB_OK) {
        status = read_all(&reading, root);
    }
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

void
opb_config_free(struct opb_config *config)
{
    if (config == NULL) {
        return;
    }
    opb_config_forget_script(config);
    free(config->script_directory);
    free(config->script_path);
    free(config->worker);
    free(config->runtime_directory);
    free(config->pool);
    free(config->pool_user);
    free(config->node_socket);
    free(config->node_name);
    free(config->virtual_env);
    free(config->admin_path);
    for (uint32_t i = 0; i < config->preload_count; i++) {
        free(config->preload[i]);
    }
    free(config->preload);
    free(config);
}
