/* SPDX-License-Identifier: GPL-3.0-or-later */
/* protocol/settings.h - values of a configuration, as messages show them
 *
 * Here:      what the configurations of both sides have in common: library opb_settings,
 * the only part of protocol/ that knows JSON. Elsewhere: the keys of either side
 * (plugin/config.c, worker/supervisor/config.c).
 */
#ifndef OPB_SETTINGS_H
#define OPB_SETTINGS_H

#include <jansson.h>
#include <stddef.h>

#define OPB_MAX_SHOWN_BYTES 200u

/* The value as JSON on one line, for a message; what does not fit ends with "...".
 * capacity >= 16. */
void opb_setting_show(const json_t *value, char *out, size_t capacity);

#endif
