/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/control_state.h - what control.c and control_attach.c share */
#ifndef OPB_CONTROL_STATE_H
#define OPB_CONTROL_STATE_H

#include "plugin/control.h"

#include "protocol/lane.h"

struct opb_control {
    struct opb_lane *lane;
    struct opb_message *message;
    const struct opb_control_news *news;
    uint64_t period_ms; /* when it began */
    uint32_t line_count;
    uint32_t news_count;
    bool is_detaching;
    bool is_detached;
};

/* An opb_serve_fn, of a struct opb_control: one piece of news. */
enum opb_status opb_control_serve_frame(void *context, struct opb_lane *lane,
                                        struct opb_frame *frame);
/* The pool's words, fit for one log line. */
void opb_control_copy_line(char *out, size_t capacity, const char *text);

#endif
