/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The types of device that a VM can have: the library's, and those that the
 * embedder has registered.
 *
 * Configurations are read without the VM's lock, so a set that was handed out
 * is never changed: each registration makes a new one, which the VM's end frees
 * with all before it.
 */
#include "vm_own_device.h"

#include "base/error.h"
#include "base/util.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

struct vm_types {
	struct device_drivers drivers;
	struct own_type *newest; /* the one that this set has more than `older` */
	struct vm_types *older;
	const struct device_driver *list[];
};

_Static_assert(sizeof(struct own_options) <= CONFIG_OPTIONS_SIZE, "kept in the configuration");

static int check_options(const char *text, struct gw_error *err)
{
	return text[0] == '{' ? 0 : error_set(err, -EINVAL, "must be an object");
}

static const struct config_key keys[] = {
	{
	        .name = "options",
	        .kind = CONFIG_JSON,
	        .flags = CONFIG_OF_HOST,
	        .offset = offsetof(struct own_options, text),
	        .max = OWN_OPTIONS_MAX,
	        .otherwise = "{}",
	        .help = "what the program that registered the type wants to know: a JSON object",
	        .check = check_options,
	},
	CONFIG_ROW_END,
};

const struct device_drivers *vm_drivers_of(const struct gw_vm *vm)
{
	const struct vm_types *types = __atomic_load_n(&vm->types, __ATOMIC_ACQUIRE);

	return types ? &types->drivers : &vm_drivers;
}

void vm_types_free(struct gw_vm *vm)
{
	while (vm->types) {
		struct vm_types *gone = vm->types;

		vm->types = gone->older;
		free(gone->newest);
		free(gone);
	}
}

/* ---- is it one? --------------------------------------------------------------------------- */

static bool name_is_good(const char *name)
{
	const size_t len = name ? strlen(name) : 0;

	if (!len || len >= sizeof(((struct own_type *)0)->name))
		return false;
	for (const char *c = name; *c; c++)
		if (!islower((unsigned char)*c) && !isdigit((unsigned char)*c) && *c != '-')
			return false;
	return true;
}

static bool bar_is_good(const struct gw_device_bar *bar)
{
	const uint64_t size = bar->size;

	return !size || (size >= 16 && size <= GW_DEVICE_BAR_MAX && !(size & (size - 1)));
}

static int check_type(const struct gw_device_type *type, struct gw_error *err)
{
	if (type->size != sizeof(*type))
		return error_set(err, -EINVAL, "a type of %zu bytes, not %zu", type->size,
		                 sizeof(*type));
	if (!name_is_good(type->name))
		return error_set(err, -EINVAL, "name \"%.32s\": must be 1 to %zu of a-z, 0-9, -",
		                 type->name ? type->name : "",
		                 sizeof(((struct own_type *)0)->name) - 1);
	if (!type->create || !type->destroy)
		return error_set(err, -EINVAL, "%s: create and destroy are needed", type->name);
	if (!type->save != !type->load)
		return error_set(err, -EINVAL, "%s: save and load go together", type->name);
	if (!type->state_version)
		return error_set(err, -EINVAL, "%s: state_version begins with 1", type->name);
	if (type->vendor == 0xffff)
		return error_set(err, -EINVAL, "%s: vendor 0xffff is no vendor", type->name);
	if (type->class_code > 0xffffff)
		return error_set(err, -EINVAL, "%s: class_code 0x%x has more than 24 bits",
		                 type->name, type->class_code);
	if (type->vectors > GW_DEVICE_VECTORS)
		return error_set(err, -EINVAL, "%s: %u vectors, at most %d", type->name,
		                 type->vectors, GW_DEVICE_VECTORS);
	for (unsigned i = 0; i < GW_DEVICE_BARS; i++)
		if (!bar_is_good(&type->bars[i]))
			return error_set(err, -EINVAL,
			                 "%s: BAR %u of %llu bytes: must be a power of two from 16 "
			                 "to %u",
			                 type->name, i, (unsigned long long)type->bars[i].size,
			                 GW_DEVICE_BAR_MAX);
	return 0;
}

/* ---- registered ----------------------------------------------------------------------------- */

static struct own_type *make_type(const struct gw_device_type *type, void *opaque)
{
	struct own_type *own = calloc(1, sizeof(*own));

	if (!own)
		return NULL;
	own->type = *type;
	own->opaque = opaque;
	snprintf(own->name, sizeof(own->name), "%s", type->name);
	own->type.name = own->name;
	own->driver = own_device_driver;
	own->driver.type = own->name;
	own->driver.help = "a device of the program that embeds the library";
	own->driver.keys = keys;
	own->participant = own_device_participant;
	own->participant.kind = own->name;
	return own;
}

/* The set that there is, and one more. */
static struct vm_types *extend(struct gw_vm *vm, struct own_type *own)
{
	const struct device_drivers *old = vm_drivers_of(vm);
	const size_t entry = sizeof(const struct device_driver *);
	struct vm_types *set = malloc(sizeof(*set) + (old->count + 1) * entry);

	if (!set)
		return NULL;
	memcpy(set->list, old->list, old->count * entry);
	set->list[old->count] = &own->driver;
	set->drivers = (struct device_drivers){ set->list, old->count + 1 };
	set->newest = own;
	set->older = vm->types;
	return set;
}

/* With `lock` held. */
static int add_type(struct gw_vm *vm, const struct gw_device_type *type, void *opaque,
                    struct gw_error *err)
{
	struct vm_types *set;
	struct own_type *own;

	if (vm->state != GW_STATE_EMPTY)
		return error_set(err, -EBUSY, "%s: the VM is not empty", type->name);
	if (config_find_driver(vm_drivers_of(vm), type->name))
		return error_set(err, -EEXIST, "%s: there is such a type already", type->name);
	own = make_type(type, opaque);
	set = own ? extend(vm, own) : NULL;
	if (!set) {
		free(own);
		return error_set(err, -ENOMEM, "%s: out of memory", type->name);
	}
	__atomic_store_n(&vm->types, set, __ATOMIC_RELEASE);
	return 0;
}

int gw_vm_register_device_type(struct gw_vm *vm, const struct gw_device_type *type, void *opaque,
                               struct gw_error *err)
{
	int r = check_type(type, err);

	if (!r) {
		pthread_mutex_lock(&vm->lock);
		r = add_type(vm, type, opaque, err);
		pthread_mutex_unlock(&vm->lock);
	}
	return r < 0 ? error_context(err, "register device type") : 0;
}
