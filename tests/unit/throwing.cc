/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/throwing.cc - C++ exceptions for tests in C */
#include "throwing.h"

#include <stdexcept>

void
throw_runtime_error(const char *text)
{
    throw std::runtime_error(text);
}

void
throw_text(const char *text)
{
    throw text;
}

void
throw_number(int number)
{
    throw number;
}
