/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/patterns.c - the patterns of the REST routes that Orthanc knows: see patterns.h */
#include "patterns.h"

#include <stdlib.h>
#include <string.h>

/* FNV-1a: scripts write their patterns themselves, nobody else does. */
uint32_t
opb_pattern_bucket(const char *pattern)
{
    uint32_t hash = 2166136261u;

    for (const unsigned char *each = (const unsigned char *)pattern; *each != '\0';
         each++) {
        hash = (hash ^ *each) * 16777619u;
    }
    return (hash ^ hash >> 16) & (OPB_PATTERN_BUCKETS - 1);
}

void
opb_patterns_fini(struct opb_patterns *patterns)
{
    for (uint32_t i = 0; i < patterns->count; i++) {
        free(patterns->texts[i]);
    }
    patterns->count = 0;
}

void
opb_patterns_add(struct opb_patterns *patterns, char **pattern)
{
    uint32_t bucket = opb_pattern_bucket(*pattern);
    uint32_t entry = patterns->count++;

    patterns->texts[entry] = *pattern;
    *pattern = NULL;
    if (patterns->first[bucket] == 0) {
        patterns->first[bucket] = entry + 1;
    }
    else {
        patterns->next[patterns->last[bucket] - 1] = entry + 1;
    }
    patterns->last[bucket] = entry + 1;
}

uint32_t
opb_patterns_find(const struct opb_patterns *patterns, const char *pattern, uint32_t after)
{
    uint32_t each = after == UINT32_MAX ? patterns->first[opb_pattern_bucket(pattern)]
                                        : patterns->next[after];

    while (each != 0 && strcmp(patterns->texts[each - 1], pattern) != 0) {
        each = patterns->next[each - 1];
    }
    return each == 0 ? UINT32_MAX : each - 1;
}
