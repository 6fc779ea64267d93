/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/heap.h - Orthanc's heap keeps what images leave, from the first one on: heap.c */
#ifndef OPB_HEAP_H
#define OPB_HEAP_H

/* Once, when the plugin starts. Any thread. */
void opb_heap_teach(void);

#endif
