/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/rest_entries.c - one C function for each REST route
 *
 * Here:      OPB_MAX_ROUTES functions that differ by a number, made by the preprocessor.
 * Elsewhere: which route has which (routes.c), what they do (callback_rest.c).
 *
 * The number of an entry is written in hexadecimal digits: four give 4 x 16 x 16 x 16. They
 * are chosen by a switch, since a table of addresses would be filled in at each start of
 * Orthanc, and be memory of its own; so nothing is touched that is not used.
 */
#include "rest_entries.h"

_Static_assert(OPB_MAX_ROUTES == 16384u, "EACH_ENTRY makes 4 x 16 x 16 x 16 of them");

#define EACH_DIGIT(X, prefix)                                                              \
    X(prefix##0)                                                                           \
    X(prefix##1)                                                                           \
    X(prefix##2)                                                                           \
    X(prefix##3)                                                                           \
    X(prefix##4)                                                                           \
    X(prefix##5)                                                                           \
    X(prefix##6)                                                                           \
    X(prefix##7)                                                                           \
    X(prefix##8)                                                                           \
    X(prefix##9)                                                                           \
    X(prefix##a)                                                                           \
    X(prefix##b)                                                                           \
    X(prefix##c)                                                                           \
    X(prefix##d)                                                                           \
    X(prefix##e)                                                                           \
    X(prefix##f)
#define EACH_PAIR(X, prefix)                                                               \
    EACH_DIGIT(X, prefix##0)                                                               \
    EACH_DIGIT(X, prefix##1)                                                               \
    EACH_DIGIT(X, prefix##2)                                                               \
    EACH_DIGIT(X, prefix##3)                                                               \
    EACH_DIGIT(X, prefix##4)                                                               \
    EACH_DIGIT(X, prefix##5)                                                               \
    EACH_DIGIT(X, prefix##6)                                                               \
    EACH_DIGIT(X, prefix##7)                                                               \
    EACH_DIGIT(X, prefix##8)                                                               \
    EACH_DIGIT(X, prefix##9)                                                               \
    EACH_DIGIT(X, prefix##a)                                                               \
    EACH_DIGIT(X, prefix##b)                                                               \
    EACH_DIGIT(X, prefix##c)                                                               \
    EACH_DIGIT(X, prefix##d)                                                               \
    EACH_DIGIT(X, prefix##e)                                                               \
    EACH_DIGIT(X, prefix##f)
#define EACH_HUNDRED(X, prefix)                                                            \
    EACH_PAIR(X, prefix##0)                                                                \
    EACH_PAIR(X, prefix##1)                                                                \
    EACH_PAIR(X, prefix##2)                                                                \
    EACH_PAIR(X, prefix##3)                                                                \
    EACH_PAIR(X, prefix##4)                                                                \
    EACH_PAIR(X, prefix##5)                                                                \
    EACH_PAIR(X, prefix##6)                                                                \
    EACH_PAIR(X, prefix##7)                                                                \
    EACH_PAIR(X, prefix##8)                                                                \
    EACH_PAIR(X, prefix##9)                                                                \
    EACH_PAIR(X, prefix##a)                                                                \
    EACH_PAIR(X, prefix##b)                                                                \
    EACH_PAIR(X, prefix##c)                                                                \
    EACH_PAIR(X, prefix##d)                                                                \
    EACH_PAIR(X, prefix##e)                                                                \
    EACH_PAIR(X, prefix##f)
#define EACH_ENTRY(X)                                                                      \
    EACH_HUNDRED(X, 0x0) EACH_HUNDRED(X, 0x1) EACH_HUNDRED(X, 0x2) EACH_HUNDRED(X, 0x3)

#define DEFINE_ENTRY(number)                                                               \
    static OrthancPluginErrorCode rest_##number(OrthancPluginRestOutput *output,           \
                                                const char *url,                           \
                                                const OrthancPluginHttpRequest *request)   \
    {                                                                                      \
        return opb_callback_rest(number##u, output, url, request);                         \
    }
#define CHOOSE_ENTRY(number)                                                               \
    case number##u:                                                                        \
        return rest_##number;

EACH_ENTRY(DEFINE_ENTRY)

OrthancPluginRestCallback
opb_rest_entry(uint32_t entry)
{
    switch (entry) {
        EACH_ENTRY(CHOOSE_ENTRY)
    default:
        return NULL; /* there is none */
    }
}
