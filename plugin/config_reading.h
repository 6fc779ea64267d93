/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/config_reading.h - what the files that read the configuration share
 *
 * Here:      a key, the state of a reading, the refusal, and the keys with rules of their
 * own. Included by config*.c only. Elsewhere: the table of keys
 * (docs/configuration.md, out of which protocol/make_keys.py makes it); what everybody
 * else sees (config.h).
 */
#ifndef OPB_CONFIG_READING_H
#define OPB_CONFIG_READING_H

#include "plugin/config.h"

#include <jansson.h>

enum opb_config_key_type {
    OPB_KEY_TEXT,    /* not empty */
    OPB_KEY_PATH,    /* absolute */
    OPB_KEY_NAME,    /* not empty, of letters and a few signs, short */
    OPB_KEY_ROUTE,   /* a path below / without special characters, or empty */
    OPB_KEY_SCRIPT,  /* a text or an array of texts: paths have checks of their own */
    OPB_KEY_BOOL,    /* or-ed into its field */
    OPB_KEY_SECONDS, /* into a field in milliseconds */
    OPB_KEY_CALLS,   /* Python.CallTimeout: seconds, or seconds for kinds of callbacks */
    OPB_KEY_OPEN,    /* Python.FailOpen: names of filters */
    OPB_KEY_NUMBER,  /* a whole one */
    OPB_KEY_SWITCH,  /* true or false: on unless it is false */
    OPB_KEY_MODULES, /* Python.Preload: names of modules */
    OPB_KEY_RELOAD   /* Python.Reload: one of two words */
};

struct opb_config_key {
    const char *name;
    enum opb_config_key_type type;
    size_t field; /* offset in struct opb_config */
    double low;   /* of numbers and seconds */
    double high;
    const char *preset; /* the default as JSON; NULL: none, or not the table's business */
};

struct opb_config_reading {
    struct opb_config *config;
    const char *prefix; /* "Python." or "" */
    char *message;
    size_t capacity;
};

/* Writes which key has which value and what is allowed ("a string"); OPB_REFUSED. */
enum opb_status opb_config_refuse(const struct opb_config_reading *reading,
                                  const struct opb_config_key *key, const json_t *value,
                                  const char *allowed);

/* Python.CallTimeout: how long each kind of callback may take, by default. */
void opb_config_set_timeouts(struct opb_config *config);

/* Python.CallTimeout */
enum opb_status opb_config_read_timeouts(const struct opb_config_reading *reading,
                                         const struct opb_config_key *key, json_t *value);

/* PythonScript, Python.Path */
enum opb_status opb_config_read_script(const struct opb_config_reading *reading,
                                       const struct opb_config_key *key,
                                       const json_t *value);
/* Frees what that has read. */
void opb_config_forget_script(struct opb_config *config);

/* Python.FailOpen */
enum opb_status opb_config_read_open(const struct opb_config_reading *reading,
                                     const struct opb_config_key *key, const json_t *value);

#endif
