/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/patterns.h - the patterns of the REST routes that Orthanc knows, by number and by
 * text
 *
 * Here:      which entry points have a pattern, found without looking at all others: a
 *            script with ten thousand routes looks ten thousand times.
 * Elsewhere: registering them (routes.c), which host has which (the tables there).
 *
 * Patterns are for good, since Orthanc forgets no registration. Not locked.
 */
#ifndef OPB_PATTERNS_H
#define OPB_PATTERNS_H

#include "routes.h"

#define OPB_PATTERN_BUCKETS 4096u /* a power of two */

/* Zeros are an empty one; entries are kept as their number plus 1. Most of it stays
 * untouched, and so takes no memory, for a script with few routes. */
struct opb_patterns {
    char *texts[OPB_MAX_ROUTES]; /* owned */
    uint32_t count;
    uint32_t next[OPB_MAX_ROUTES]; /* with the same hash, in order */
    uint32_t first[OPB_PATTERN_BUCKETS];
    uint32_t last[OPB_PATTERN_BUCKETS];
};

/* Where patterns of that text are; for waiting.c, too. */
uint32_t opb_pattern_bucket(const char *pattern);

void opb_patterns_fini(struct opb_patterns *patterns);
/* Gives the next entry that pattern; there must be one left. Takes *pattern. */
void opb_patterns_add(struct opb_patterns *patterns, char **pattern);
/* The first entry after one (UINT32_MAX: of all) that has the pattern; UINT32_MAX: none. */
uint32_t opb_patterns_find(const struct opb_patterns *patterns, const char *pattern,
                           uint32_t after);

#endif
