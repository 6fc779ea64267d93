/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/test_waiting.c - routes that wait, in order and by pattern */
#include "support.h"

#include "plugin/patterns.h"
#include "plugin/waiting.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void
add(struct opb_waiting_list *list, const char *pattern, uint32_t index)
{
    char *copy = strdup(pattern);

    assert_non_null(copy);
    assert_int_equal(opb_waiting_add(list, &copy, index), OPB_OK);
    assert_null(copy);
}

static void
end(struct opb_waiting_list *list, struct opb_waiting *waiting)
{
    opb_waiting_take(list, waiting);
    opb_waiting_free(waiting);
}

static void
empty_list_has_nothing(void **state)
{
    struct opb_waiting_list list = {.first = NULL};

    (void)state;
    assert_null(opb_waiting_find(&list, "/a"));
    assert_int_equal(opb_waiting_count(&list, "/a"), 0);
    opb_waiting_fini(&list);
    add(&list, "/a", 1);
    end(&list, opb_waiting_find(&list, "/a"));
    assert_null(list.first);
    assert_null(opb_waiting_find(&list, "/a"));
    opb_waiting_fini(&list);
}

static void
first_of_one_pattern_is_found_until_it_is_taken(void **state)
{
    struct opb_waiting_list list = {.first = NULL};

    (void)state;
    add(&list, "/a", 1);
    add(&list, "/b", 2);
    add(&list, "/a", 3);
    assert_int_equal(opb_waiting_count(&list, "/a"), 2);
    assert_int_equal(opb_waiting_find(&list, "/a")->index, 1);
    end(&list, opb_waiting_find(&list, "/a"));
    assert_int_equal(opb_waiting_count(&list, "/a"), 1);
    assert_int_equal(opb_waiting_find(&list, "/a")->index, 3);
    assert_int_equal(list.first->index, 2);
    opb_waiting_fini(&list);
}

/* A text whose patterns stand beside those of another one. */
static void
find_collision(char text[32], const char *other)
{
    uint32_t i = 0;

    do {
        (void)snprintf(text, 32, "/%u", i++); /* all of them fit */
    } while (strcmp(text, other) == 0 ||
             opb_pattern_bucket(text) != opb_pattern_bucket(other));
}

static void
patterns_of_the_same_hash_are_told_apart(void **state)
{
    struct opb_waiting_list list = {.first = NULL};
    char text[32];

    (void)state;
    find_collision(text, "/a");
    add(&list, "/a", 1);
    add(&list, text, 2);
    add(&list, "/a", 3);
    add(&list, text, 4);
    assert_int_equal(opb_waiting_count(&list, text), 2);
    assert_int_equal(opb_waiting_find(&list, text)->index, 2);
    end(&list, opb_waiting_find(&list, text));
    assert_int_equal(opb_waiting_count(&list, "/a"), 2);
    assert_int_equal(opb_waiting_find(&list, text)->index, 4);
    opb_waiting_fini(&list);
}

#define PLACES 200u

/* What the list must be: one number for each place, 0 where nothing waits. */
struct model {
    uint32_t pattern[PLACES]; /* plus 1 */
    uint32_t used;
};

static void
check(const struct opb_waiting_list *list, const struct model *model)
{
    const struct opb_waiting *each = list->first;
    const struct opb_waiting *last = NULL;
    bool is_seen[8] = {false};
    char text[32];

    for (uint32_t i = 0; i < model->used; i++) {
        if (model->pattern[i] == 0) {
            continue;
        }
        assert_non_null(each);
        assert_int_equal(each->index, i);
        assert_ptr_equal(each->previous, last);
        (void)snprintf(text, sizeof(text), "/%u", model->pattern[i]);
        assert_string_equal(each->pattern, text);
        if (!is_seen[model->pattern[i] - 1]) {
            assert_ptr_equal(opb_waiting_find(list, text), each);
        }
        is_seen[model->pattern[i] - 1] = true;
        last = each;
        each = each->next;
    }
    assert_null(each);
    assert_ptr_equal(list->last, last);
}

static struct opb_waiting *
find_index(const struct opb_waiting_list *list, uint32_t index)
{
    struct opb_waiting *each = list->first;

    while (each->index != index) {
        each = each->next;
    }
    return each;
}

static void
order_is_kept_whatever_comes_and_goes(void **state)
{
    unsigned int seed = 1;

    (void)state;
    for (int turn = 0; turn < 50; turn++) {
        struct opb_waiting_list list = {.first = NULL};
        struct model model = {.used = 0};

        while (model.used < PLACES) {
            const uint32_t place = (uint32_t)rand_r(&seed) % (model.used + 2);
            char text[32];

            if (place < model.used && model.pattern[place] != 0) {
                end(&list, find_index(&list, place));
                model.pattern[place] = 0;
            }
            model.pattern[model.used] = 1 + (uint32_t)rand_r(&seed) % 8;
            (void)snprintf(text, sizeof(text), "/%u", model.pattern[model.used]);
            add(&list, text, model.used);
            model.used++;
            check(&list, &model);
        }
        opb_waiting_fini(&list);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        OPB_TEST(empty_list_has_nothing),
        OPB_TEST(first_of_one_pattern_is_found_until_it_is_taken),
        OPB_TEST(patterns_of_the_same_hash_are_told_apart),
        OPB_TEST(order_is_kept_whatever_comes_and_goes),
    };

    return OPB_RUN(tests);
}
