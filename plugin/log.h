/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/log.h - log lines of the bridge, through Orthanc's own log
 *
 * Any thread, while the node exists. Text is cut at 64 KiB; it is never a format.
 */
#ifndef OPB_LOG_H
#define OPB_LOG_H

#include "protocol/status.h"

enum opb_log_level { OPB_LOG_ERROR, OPB_LOG_WARNING, OPB_LOG_INFO };

/* One call of the SDK for each line of the text. file and line are shown by Orthanc 1.12.4
 * and later. */
void opb_log_at(enum opb_log_level level, const char *file, int line, const char *format,
                ...) OPB_PRINTF(4, 5);

#define opb_log_error(...)   opb_log_at(OPB_LOG_ERROR, __FILE__, __LINE__, __VA_ARGS__)
#define opb_log_warning(...) opb_log_at(OPB_LOG_WARNING, __FILE__, __LINE__, __VA_ARGS__)
#define opb_log_info(...)    opb_log_at(OPB_LOG_INFO, __FILE__, __LINE__, __VA_ARGS__)

#endif
