/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/waiting.c - the REST routes of a host that have no entry point yet: waiting.h */
#include "waiting.h"

#include "patterns.h"

#include <stdlib.h>
#include <string.h>

void
opb_waiting_free(struct opb_waiting *waiting)
{
    free(waiting->pattern);
    free(waiting);
}

void
opb_waiting_fini(struct opb_waiting_list *list)
{
    struct opb_waiting *next;

    for (struct opb_waiting *each = list->first; each != NULL; each = next) {
        next = each->next;
        opb_waiting_free(each);
    }
    free(list->buckets);
    memset(list, 0, sizeof(*list));
}

enum opb_status
opb_waiting_add(struct opb_waiting_list *list, char **pattern, uint32_t index)
{
    struct opb_waiting_bucket *bucket;
    struct opb_waiting *waiting;

    if (list->buckets == NULL) {
        list->buckets = calloc(OPB_PATTERN_BUCKETS, sizeof(*list->buckets));
    }
    waiting = calloc(1, sizeof(*waiting));
    if (list->buckets == NULL || waiting == NULL) {
        free(waiting);
        return OPB_NO_MEMORY;
    }
    waiting->pattern = *pattern;
    waiting->index = index;
    *pattern = NULL;
    bucket = &list->buckets[opb_pattern_bucket(waiting->pattern)];
    *(list->last != NULL ? &list->last->next : &list->first) = waiting;
    waiting->previous = list->last;
    list->last = waiting;
    *(bucket->last != NULL ? &bucket->last->alike : &bucket->first) = waiting;
    bucket->last = waiting;
    return OPB_OK;
}

/* The first one of that pattern from one on. */
static struct opb_waiting *
find_from(struct opb_waiting *each, const char *pattern)
{
    while (each != NULL && strcmp(each->pattern, pattern) != 0) {
        each = each->alike;
    }
    return each;
}

struct opb_waiting *
opb_waiting_find(const struct opb_waiting_list *list, const char *pattern)
{
    return list->first == NULL
               ? NULL
               : find_from(list->buckets[opb_pattern_bucket(pattern)].first, pattern);
}

uint32_t
opb_waiting_count(const struct opb_waiting_list *list, const char *pattern)
{
    const struct opb_waiting *each = opb_waiting_find(list, pattern);
    uint32_t count = 0;

    for (; each != NULL; each = find_from(each->alike, pattern)) {
        count++;
    }
    return count;
}

void
opb_waiting_take(struct opb_waiting_list *list, struct opb_waiting *waiting)
{
    struct opb_waiting_bucket *bucket =
        &list->buckets[opb_pattern_bucket(waiting->pattern)];
    struct opb_waiting *before = NULL;

    for (struct opb_waiting *each = bucket->first; each != waiting; each = each->alike) {
        before = each;
    }
    *(before != NULL ? &before->alike : &bucket->first) = waiting->alike;
    if (bucket->last == waiting) {
        bucket->last = before;
    }
    *(waiting->previous != NULL ? &waiting->previous->next : &list->first) = waiting->next;
    *(waiting->next != NULL ? &waiting->next->previous : &list->last) = waiting->previous;
    waiting->next = NULL;
    waiting->previous = NULL;
    waiting->alike = NULL;
}
