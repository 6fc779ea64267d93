/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/throwing.h - C++ exceptions for tests in C */
#ifndef OPB_THROWING_H
#define OPB_THROWING_H

#ifdef __cplusplus
extern "C" {
#endif

void throw_runtime_error(const char *text);
void throw_text(const char *text);
void throw_number(int number);

#ifdef __cplusplus
}
#endif

#endif
