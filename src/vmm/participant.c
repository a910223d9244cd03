/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/participant.h"

#include "base/error.h"

#include <string.h>

struct participant *participant_find(const struct participant_list *list, const char *name)
{
	for (struct participant *p = list->first; p; p = p->next) {
		if (strcmp(p->name, name) == 0)
			return p;
	}
	return NULL;
}

uint64_t participant_ram_size(const struct participant_list *list)
{
	uint64_t bytes = 0;

	for (struct participant *p = list->first; p; p = p->next)
		if (p->ops->ram_size)
			bytes += p->ops->ram_size(p);
	return bytes;
}

int participant_add(struct participant_list *list, struct participant *p, struct gw_error *err)
{
	struct participant **end = &list->first;

	if (participant_find(list, p->name))
		return error_set(err, -EEXIST, "there is a participant %s already", p->name);
	while (*end)
		end = &(*end)->next;
	p->next = NULL;
	*end = p;
	return 0;
}

void participant_remove(struct participant_list *list, struct participant *p)
{
	for (struct participant **at = &list->first; *at; at = &(*at)->next) {
		if (*at == p) {
			*at = p->next;
			p->next = NULL;
			return;
		}
	}
}
