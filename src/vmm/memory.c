/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/memory.h"
#include "vmm/memory_internal.h"

#include "base/error.h"
#include "base/io.h"
#include "base/util.h"
#include "vmm/arch.h"
#include "vmm/machine.h"
#include "vmm/outside.h"
#include "vmm/ram_backing.h"
#include "vmm/ram_layout.h"

#include <linux/kvm.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

static int kvm_set_memslot(struct machine *m, struct kvm_userspace_memory_region *region)
{
	return io_ioctl(m->vm_fd, KVM_SET_USER_MEMORY_REGION, region);
}

static int set_memslot(struct memory *mem, uint32_t slot, uint32_t flags, uint64_t gpa,
                       uint64_t size, void *hva)
{
	struct kvm_userspace_memory_region region = {
		.slot = slot,
		.flags = flags,
		.guest_phys_addr = gpa,
		.memory_size = size,
		.userspace_addr = (uintptr_t)hva,
	};

	return mem->set_memslot(mem->machine, &region);
}

int memory_set_region_flags(struct memory *mem, const struct ram_region *r, uint32_t flags)
{
	return set_memslot(mem, r->slot, flags, r->gpa, r->size, r->hva);
}

int region_create(struct memory *mem, unsigned index, struct gw_error *err)
{
	struct ram_region *r = &mem->regions[index];
	struct ram_backing backing;
	uint64_t before = 0;
	int ret;

	for (unsigned i = 0; i < index; i++)
		before += mem->regions[i].size;
	r->slot = index;
	r->fd = -1;
	ret = r->block ? ram_backing_create_blocks(mem->machine, before, r->size, r->node, &backing,
	                                           err)
	               : ram_backing_create(mem->machine, before, r->size, &backing, err);
	if (ret < 0)
		return ret;
	r->fd = backing.fd;
	r->offset = backing.offset;
	r->hva = backing.hva;
	r->take_pages = backing.take_pages;
	mem->copy_in = backing.copy_in;
	if (r->block % backing.page)
		return error_set(err, -EINVAL, "block: not a multiple of the host's pages of %llu",
		                 (unsigned long long)backing.page);
	ret = memory_set_region_flags(mem, r, 0);
	if (ret < 0)
		return error_set_sys(err, ret, "guest RAM at 0x%llx: KVM_SET_USER_MEMORY_REGION",
		                     (unsigned long long)r->gpa);
	return 0;
}

void region_destroy(struct memory *mem, struct ram_region *r)
{
	if (r->hva) {
		set_memslot(mem, r->slot, 0, r->gpa, 0, NULL);
		munmap(r->hva, r->size);
	}
	if (r->fd >= 0)
		close(r->fd);
	free(r->plugged);
}

uint64_t memory_not_taken(const struct memory *mem)
{
	uint64_t total = 0;

	for (size_t i = 0; i < mem->region_count; i++) {
		const struct ram_region *r = &mem->regions[i];
		struct stat st;

		if (r->gpa == MEMORY_GONE || r->block || r->fd < 0 || fstat(r->fd, &st) < 0 ||
		    (uint64_t)st.st_blksize > PAGE_SIZE)
			continue;
		total += r->size - MIN(r->size, (uint64_t)st.st_blocks * 512);
	}
	return total;
}

int memory_create(struct machine *m, uint64_t ram_size, struct memory **out, struct gw_error *err)
{
	struct memory *mem = calloc(1, sizeof(*mem));
	struct arch_range ranges[ARCH_RAM_RANGES];
	unsigned count = ram_layout(ram_size, ranges);

	if (!mem)
		return error_set(err, -ENOMEM, "guest RAM: out of memory");
	mem->machine = m;
	mem->size = ram_size;
	mem->set_memslot = kvm_set_memslot;
	mem->device_slots = MEMORY_REGIONS_MAX;
	pthread_mutex_init(&mem->lock, NULL);
	ram_participant_init(mem);
	for (unsigned i = 0; i < count; i++) {
		int r;

		mem->region_count = i + 1;
		mem->regions[i].gpa = ranges[i].gpa;
		mem->regions[i].size = ranges[i].size;
		r = region_create(mem, i, err);
		if (r < 0) {
			memory_destroy(mem);
			return r;
		}
	}
	memory_dirty_probe(mem);
	*out = mem;
	return 0;
}

int memory_create_outside(struct machine *m, struct memory **out, struct gw_error *err)
{
	struct memory *mem = calloc(1, sizeof(*mem));

	if (!mem)
		return error_set(err, -ENOMEM, "guest memory: out of memory");
	mem->machine = m;
	mem->outside = m->outside;
	mem->set_memslot = kvm_set_memslot;
	mem->device_slots = MEMORY_REGIONS_MAX;
	pthread_mutex_init(&mem->lock, NULL);
	ram_participant_init(mem);
	*out = mem;
	return 0;
}

void memory_destroy(struct memory *mem)
{
	if (!mem)
		return;
	memory_dirty_stop(mem);
	memory_dirty_fini(mem);
	ram_participant_fini(mem);
	memory_discard_fini(mem);
	for (size_t i = 0; i < mem->region_count; i++)
		region_destroy(mem, &mem->regions[i]);
	pthread_mutex_destroy(&mem->lock);
	free(mem);
}

size_t memory_region_count(const struct memory *mem)
{
	return __atomic_load_n(&mem->region_count, __ATOMIC_ACQUIRE);
}

const struct ram_region *memory_region(const struct memory *mem, size_t i)
{
	return &mem->regions[i];
}

uint64_t memory_size(const struct memory *mem)
{
	return mem->size;
}

struct ram_region *region_find(const struct memory *mem, uint64_t gpa, uint64_t len,
                               uint64_t *offset)
{
	const size_t count = memory_region_count(mem);

	for (size_t i = 0; i < count; i++) {
		const struct ram_region *r = &mem->regions[i];
		/* Looked at once, since a region may be going meanwhile. */
		const uint64_t from = __atomic_load_n(&r->gpa, __ATOMIC_ACQUIRE);

		if (gpa < from || gpa - from >= r->size || len > r->size - (gpa - from))
			continue;
		*offset = gpa - from;
		return (struct ram_region *)(uintptr_t)r;
	}
	return NULL;
}

/* Where a region is in this process stays the same until the end, so the answer does too. */
void *memory_hva(const struct memory *mem, uint64_t gpa, uint64_t len)
{
	const struct machine_outside *outside = mem->outside;
	uint64_t offset;
	const struct ram_region *r;

	if (outside)
		return outside->hva(outside->opaque, gpa, len);
	r = region_find(mem, gpa, len, &offset);
	if (!r || (r->block && !region_all_there(r, offset, len)))
		return NULL;
	return r->hva + offset;
}

int memory_read(const struct memory *mem, uint64_t gpa, void *buf, size_t len)
{
	const struct machine_outside *outside = mem->outside;
	const void *from;

	if (outside)
		return outside->access(outside->opaque, gpa, buf, len, false);
	from = memory_hva(mem, gpa, len);
	if (!from)
		return -EFAULT;
	memcpy(buf, from, len);
	return 0;
}

int memory_write(struct memory *mem, uint64_t gpa, const void *buf, size_t len)
{
	const struct machine_outside *outside = mem->outside;
	void *to;

	if (outside)
		return outside->access(outside->opaque, gpa, (void *)(uintptr_t)buf, len, true);
	to = memory_hva(mem, gpa, len);
	if (!to)
		return -EFAULT;
	memcpy(to, buf, len);
	memory_mark_dirty(mem, gpa, len);
	return 0;
}

/* ---- device memory ------------------------------------------------------ */

int memory_map_device(struct memory *mem, uint64_t gpa, void *hva, uint64_t size, bool readonly,
                      uint32_t *slot, struct gw_error *err)
{
	unsigned i;
	int r;

	pthread_mutex_lock(&mem->lock);
	for (i = 0; i < ARRAY_SIZE(mem->device_slot_used) && mem->device_slot_used[i]; i++)
		;
	if (i < ARRAY_SIZE(mem->device_slot_used))
		mem->device_slot_used[i] = true;
	pthread_mutex_unlock(&mem->lock);
	if (i == ARRAY_SIZE(mem->device_slot_used))
		return error_set(err, -ENOSPC, "device memory at 0x%llx: all %u memslots are taken",
		                 (unsigned long long)gpa, i);

	*slot = mem->device_slots + i;
	r = set_memslot(mem, *slot, readonly ? KVM_MEM_READONLY : 0, gpa, size, hva);
	if (r < 0) {
		mem->device_slot_used[i] = false;
		return error_set_sys(
		        err, r, "device memory at 0x%llx: KVM_SET_USER_MEMORY_REGION (%llu bytes)",
		        (unsigned long long)gpa, (unsigned long long)size);
	}
	return 0;
}

void memory_unmap_device(struct memory *mem, uint32_t slot)
{
	unsigned i = slot - mem->device_slots;

	if (slot < mem->device_slots || i >= ARRAY_SIZE(mem->device_slot_used) ||
	    !mem->device_slot_used[i])
		return;
	set_memslot(mem, slot, 0, 0, 0, NULL);
	pthread_mutex_lock(&mem->lock);
	mem->device_slot_used[i] = false;
	pthread_mutex_unlock(&mem->lock);
}

/* ---- replacing what is behind RAM --------------------------------------- */

void memory_add_listener(struct memory *mem, struct memory_listener *l)
{
	pthread_mutex_lock(&mem->lock);
	l->next = mem->listeners;
	mem->listeners = l;
	pthread_mutex_unlock(&mem->lock);
}

void memory_remove_listener(struct memory *mem, struct memory_listener *l)
{
	pthread_mutex_lock(&mem->lock);
	for (struct memory_listener **pp = &mem->listeners; *pp; pp = &(*pp)->next) {
		if (*pp == l) {
			*pp = l->next;
			break;
		}
	}
	pthread_mutex_unlock(&mem->lock);
}

int memory_map_file(struct memory *mem, uint64_t gpa, uint64_t size, int fd, uint64_t offset,
                    struct gw_error *err)
{
	uint64_t at;
	const struct ram_region *region = region_find(mem, gpa, size, &at);
	uint8_t *hva = region ? region->hva + at : NULL;
	int r;

	if (!hva || !size || (gpa | size | offset) % PAGE_SIZE)
		return error_set(err, -EINVAL,
		                 "range 0x%llx+0x%llx is not whole pages of guest RAM",
		                 (unsigned long long)gpa, (unsigned long long)size);
	if (mem->copy_in)
		return ram_backing_copy_in(hva, size, fd, offset, err);
	if (memory_note_file(mem, gpa, size) < 0)
		return error_set(err, -ENOMEM, "mapping a file at 0x%llx: out of memory",
		                 (unsigned long long)gpa);
	if (mmap(hva, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE, fd,
	         (off_t)offset) == MAP_FAILED)
		return error_set_sys(err, -errno, "mapping file offset 0x%llx at 0x%llx",
		                     (unsigned long long)offset, (unsigned long long)gpa);
	r = ram_backing_advise(mem->machine, hva, size, err);
	if (r < 0)
		return r;
	for (struct memory_listener *l = mem->listeners; l; l = l->next) {
		r = l->remapped ? l->remapped(l, gpa, size, hva, err) : 0;
		if (r < 0)
			return r;
	}
	return 0;
}
