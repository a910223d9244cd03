/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the bindings of device trees ask of a tree: every node is one that is
 * known here, and has the properties that its binding requires.
 * Sources: Devicetree Specification 0.4, 3; Linux, Documentation/devicetree/bindings.
 */
#ifndef TESTS_BINDINGS_H
#define TESTS_BINDINGS_H

#include <stdbool.h>
#include <stddef.h>

/* True: nothing is wrong. Otherwise `text` names the node and what is. */
bool bindings_hold(const void *tree, char *text, size_t size);

/* dtc's checks of the tree, none of which may have anything to say. -1: there is no dtc. */
int dtc_is_content(const void *tree, size_t len, char *text, size_t size);

#endif
