/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/history.c - the last deaths, exceptions and changes of generation
 *
 * See history.h. Entries are counted references, so that who looks at them holds no lock.
 */
#include "plugin/history.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct entry {
    uint32_t reference_count;
    struct opb_happening happening;
    char texts[]; /* what, a NUL, text, a NUL */
};

struct ring {
    uint64_t count;                            /* that there were */
    struct entry *entries[OPB_HISTORY_LENGTH]; /* NULL: none, or no memory */
};

struct opb_history {
    pthread_mutex_t lock;
    struct ring rings[OPB_HISTORY_LISTS];
};

enum opb_status
opb_history_new(struct opb_history **out)
{
    struct opb_history *history = calloc(1, sizeof(*history));

    *out = NULL;
    if (history == NULL) {
        return OPB_NO_MEMORY;
    }
    if (pthread_mutex_init(&history->lock, NULL) != 0) {
        free(history);
        return OPB_NO_MEMORY;
    }
    *out = history;
    return OPB_OK;
}

void
opb_history_free(struct opb_history *history)
{
    if (history == NULL) {
        return;
    }
    for (uint32_t list = 0; list < OPB_HISTORY_LISTS; list++) {
        for (uint32_t i = 0; i < OPB_HISTORY_LENGTH; i++) {
            free(history->rings[list].entries[i]); /* nobody looks any more */
        }
    }
    (void)pthread_mutex_destroy(&history->lock); /* nobody holds it */
    free(history);
}

/* With the lock held. */
static void
entry_unref(struct entry *entry)
{
    if (entry != NULL && --entry->reference_count == 0) {
        free(entry);
    }
}

static struct entry *
make_entry(const struct opb_happening *happening)
{
    size_t what_bytes = strnlen(happening->what, OPB_HISTORY_TEXT_BYTES);
    size_t text_bytes = strnlen(happening->text, OPB_HISTORY_TEXT_BYTES);
    struct entry *entry = malloc(sizeof(*entry) + what_bytes + text_bytes + 2);
    struct timespec now;

    if (entry == NULL) {
        return NULL;
    }
    (void)clock_gettime(CLOCK_REALTIME, &now); /* always works */
    entry->reference_count = 1;
    entry->happening = *happening;
    entry->happening.at_ms = (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
    memcpy(entry->texts, happening->what, what_bytes);
    entry->texts[what_bytes] = '\0';
    memcpy(entry->texts + what_bytes + 1, happening->text, text_bytes);
    entry->texts[what_bytes + 1 + text_bytes] = '\0';
    entry->happening.what = entry->texts;
    entry->happening.text = entry->texts + what_bytes + 1;
    return entry;
}

void
opb_history_add(struct opb_history *history, enum opb_history_list list,
                const struct opb_happening *happening)
{
    struct ring *ring = &history->rings[list];
    struct entry *entry = make_entry(happening);
    struct entry **place;

    pthread_mutex_lock(&history->lock);
    place = &ring->entries[ring->count++ % OPB_HISTORY_LENGTH];
    entry_unref(*place);
    *place = entry;
    pthread_mutex_unlock(&history->lock);
}

uint64_t
opb_history_count(struct opb_history *history, enum opb_history_list list)
{
    uint64_t count;

    pthread_mutex_lock(&history->lock);
    count = history->rings[list].count;
    pthread_mutex_unlock(&history->lock);
    return count;
}

void
opb_history_each(struct opb_history *history, enum opb_history_list list,
                 void (*visit)(void *context, const struct opb_happening *happening),
                 void *context)
{
    const struct ring *ring = &history->rings[list];
    struct entry *entries[OPB_HISTORY_LENGTH] = {NULL};

    pthread_mutex_lock(&history->lock);
    for (uint32_t i = 0; i < OPB_HISTORY_LENGTH && i < ring->count; i++) {
        entries[i] = ring->entries[(ring->count - 1 - i) % OPB_HISTORY_LENGTH];
        if (entries[i] != NULL) {
            entries[i]->reference_count++;
        }
    }
    pthread_mutex_unlock(&history->lock);
    for (uint32_t i = 0; i < OPB_HISTORY_LENGTH; i++) {
        if (entries[i] != NULL) {
            visit(context, &entries[i]->happening);
        }
    }
    pthread_mutex_lock(&history->lock);
    for (uint32_t i = 0; i < OPB_HISTORY_LENGTH; i++) {
        entry_unref(entries[i]);
    }
    pthread_mutex_unlock(&history->lock);
}
