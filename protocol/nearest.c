/* SPDX-License-Identifier: GPL-3.0-or-later */
/* protocol/nearest.c - see nearest.h */
#include "protocol/nearest.h"

#include <stdint.h>
#include <string.h>
#include <strings.h>

#define MAX_NAME_BYTES 64u

static size_t
smallest(size_t a, size_t b, size_t c)
{
    size_t least = a < b ? a : b;

    return least < c ? least : c;
}

static size_t
name_distance(const char *a, const char *b)
{
    size_t a_bytes = strlen(a);
    size_t b_bytes = strlen(b);
    size_t row[MAX_NAME_BYTES + 1];

    if (a_bytes > MAX_NAME_BYTES || b_bytes > MAX_NAME_BYTES) {
        return a_bytes + b_bytes;
    }
    for (size_t j = 0; j <= b_bytes; j++) {
        row[j] = j;
    }
    for (size_t i = 1; i <= a_bytes; i++) {
        size_t diagonal = row[0];

        row[0] = i;
        for (size_t j = 1; j <= b_bytes; j++) {
            size_t is_other = strncasecmp(&a[i - 1], &b[j - 1], 1) != 0;
            size_t cost = smallest(row[j] + 1, row[j - 1] + 1, diagonal + is_other);

            diagonal = row[j];
            row[j] = cost;
        }
    }
    return row[b_bytes];
}

const char *
opb_nearest_name(const char *name, const void *each, size_t count, size_t stride)
{
    const char *nearest = NULL;
    size_t least = SIZE_MAX;

    for (size_t i = 0; i < count; i++) {
        const char *other =
            *(const char *const *)(const void *)((const char *)each + i * stride);
        size_t distance = name_distance(name, other);

        if (distance < least) {
            least = distance;
            nearest = other;
        }
    }
    return nearest;
}
