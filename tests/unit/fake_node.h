/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/fake_node.h - a node without Orthanc, for tests of the orthanc module
 *
 * Here:      a service socket, lanes, every SDK function of the generated table. What
 *            arrives is written down as text; what is answered depends on the first text
 *            argument (see fake_call.h) and on the signature.
 * Elsewhere: the module under test.
 */
#ifndef OPB_FAKE_NODE_H
#define OPB_FAKE_NODE_H

#include <Python.h>

#include "worker/module/link.h"

struct opb_fake_node;

/* Listens on a socket in a new directory. Says that it is Orthanc 1.10.1, or is_newest: one
 * that has everything. */
struct opb_fake_node *opb_fake_node_start(bool is_newest);
void opb_fake_node_stop(struct opb_fake_node *node);

/* Gives what this node would say in Load. */
struct opb_node_info *opb_fake_node_info(const struct opb_fake_node *node);

/* Serves a lane in a thread until the peer closes it. Takes fd. */
void opb_fake_node_serve(struct opb_fake_node *node, int fd);

/* Closes all connections and waits for their threads. New ones are still accepted. */
void opb_fake_node_drop(struct opb_fake_node *node);
/* The most connections that there were at the same time. */
unsigned int opb_fake_node_most_connections(struct opb_fake_node *node);

/* Makes an object, for a result; it is told that the module has released one. Handles of
 * tests, which are lower than its own, are none of its business. */
uint64_t opb_fake_node_make(struct opb_fake_node *node);
void opb_fake_node_release(struct opb_fake_node *node, uint64_t handle);
/* How many objects it has made as results, and how many of them are not released yet;
 * UINT_MAX once it was told to release one that it does not have. */
unsigned int opb_fake_node_made(struct opb_fake_node *node);
unsigned int opb_fake_node_live(struct opb_fake_node *node);

/* What it does with calls that have no text or buffer, which would be an order; "": answers
 * them. */
void opb_fake_node_order(struct opb_fake_node *node, const char *order);

/* A post whose order is "hold" holds the connection until opb_fake_node_go(), or for 20 s
 * at most: false then, once. */
void opb_fake_node_go(struct opb_fake_node *node);
bool opb_fake_node_was_let_go(struct opb_fake_node *node);

/* Gives the lines written since the last call, in malloc'ed memory, each with its newline.
 */
char *opb_fake_node_take(struct opb_fake_node *node);

#endif
