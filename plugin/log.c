/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/log.c - log lines of the bridge, through Orthanc's own log
 *
 * Here:      formatting, one SDK call for each line, the newer logging service where the
 *            server has it.
 * Elsewhere: what is worth a line.
 */
#include "plugin/log.h"

#include "plugin/node.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_TEXT_BYTES   (64u * 1024u)
#define SHORT_TEXT_BYTES 1024u

#if ORTHANC_PLUGINS_VERSION_IS_ABOVE(1, 12, 4)
static bool
has_log_message(const OrthancPluginContext *context)
{
    int major;
    int minor;
    int revision;

    if (strcmp(context->orthancVersion, "mainline") == 0) {
        return true;
    }
    if (sscanf(context->orthancVersion, "%4d.%4d.%4d", &major, &minor, &revision) != 3) {
        return false;
    }
    return major > 1 || (major == 1 && (minor > 12 || (minor == 12 && revision >= 4)));
}
#endif

static void
log_line(OrthancPluginContext *context, enum opb_log_level level, const char *file,
         int line, const char *text)
{
#if ORTHANC_PLUGINS_VERSION_IS_ABOVE(1, 12, 4)
    static const OrthancPluginLogLevel sdk_levels[] = {
        [OPB_LOG_ERROR] = OrthancPluginLogLevel_Error,
        [OPB_LOG_WARNING] = OrthancPluginLogLevel_Warning,
        [OPB_LOG_INFO] = OrthancPluginLogLevel_Info,
    };

    if (has_log_message(context)) {
        OrthancPluginLogMessage(context, text, "python", file, (uint32_t)line,
                                OrthancPluginLogCategory_Plugins, sdk_levels[level]);
        return;
    }
#else
    (void)file; /* the old services show the core's own file and line */
    (void)line;
#endif
    switch (level) {
    case OPB_LOG_ERROR:
        OrthancPluginLogError(context, text);
        break;
    case OPB_LOG_WARNING:
        OrthancPluginLogWarning(context, text);
        break;
    case OPB_LOG_INFO:
        OrthancPluginLogInfo(context, text);
        break;
    }
}

/* The core writes newlines as they are, which would make lines without a prefix, and other
 * control characters too, with which a host could fool who reads the log on a terminal. */
static void
log_lines(OrthancPluginContext *context, enum opb_log_level level, const char *file,
          int line, char *text)
{
    char *next = text;
    char *each;

    for (char *c = text; *c != '\0'; c++) {
        if (((unsigned char)*c < 0x20 && *c != '\n' && *c != '\t') || *c == 0x7f) {
            *c = ' ';
        }
    }
    while ((each = strsep(&next, "\n")) != NULL) {
        if (each[0] != '\0') {
            log_line(context, level, file, line, each);
        }
    }
}

void
opb_log_at(enum opb_log_level level, const char *file, int line, const char *format, ...)
{
    struct opb_node *node = opb_node_current();
    char short_text[SHORT_TEXT_BYTES];
    char *text = NULL;
    va_list arguments;
    int bytes;

    if (node == NULL || node->context == NULL) {
        return; /* outside Initialize and Finalize there is no log to write to */
    }
    va_start(arguments, format);
    bytes = vsnprintf(short_text, sizeof(short_text), format, arguments);
    va_end(arguments);
    if (bytes < 0) {
        return; /* not a text in this locale */
    }
    if (bytes >= (int)sizeof(short_text)) {
        text = malloc(MAX_TEXT_BYTES);
    }
    if (text == NULL) { /* short, or cut for want of memory */
        log_lines(node->context, level, file, line, short_text);
        return;
    }
    va_start(arguments, format);
    (void)vsnprintf(text, MAX_TEXT_BYTES, format, arguments); /* cut at the limit */
    va_end(arguments);
    log_lines(node->context, level, file, line, text);
    free(text);
}
