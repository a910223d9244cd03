/* SPDX-License-Identifier: Apache-2.0 */
/*
 * RAM that comes and goes while the guest runs: regions of which only the
 * blocks that are plugged are RAM.
 *
 * KVM has a memslot for the whole region, so a guest can touch what is not
 * plugged, which costs the host a page and shows zeros: a region's size is the
 * most that a guest can take, whatever it was asked to. Devices are refused
 * such addresses (memory_hva), and nothing of it is saved or moved.
 *
 * Other threads look at regions without a lock, and may use what they have
 * found for as long as a request takes. So a place in the array is never
 * given to a region of another size, and the mapping of one that has gone
 * stays.
 */
#include "vmm/memory_internal.h"

#include "base/error.h"
#include "base/util.h"
#include "vmm/ram_backing.h"

#include <string.h>

static bool is_plugged(const struct ram_region *r, uint64_t block)
{
	return __atomic_load_n(&r->plugged[block / 64], __ATOMIC_ACQUIRE) >> (block % 64) & 1;
}

static uint64_t count_plugged(const struct ram_region *r, uint64_t from, uint64_t to)
{
	uint64_t n = 0;

	for (uint64_t b = from; b < to; b++)
		n += is_plugged(r, b);
	return n;
}

bool region_all_there(const struct ram_region *r, uint64_t offset, uint64_t len)
{
	const uint64_t last = (offset + (len ? len - 1 : 0)) / r->block;

	for (uint64_t b = offset / r->block; b <= last; b++)
		if (!is_plugged(r, b))
			return false;
	return true;
}

bool memory_next_run(const struct memory *mem, size_t i, uint64_t *offset, uint64_t *len)
{
	const struct ram_region *r = &mem->regions[i];
	uint64_t b, end;

	if (*offset >= r->size)
		return false;
	if (!r->block) {
		*len = r->size - *offset;
		return true;
	}
	b = DIV_ROUND_UP(*offset, r->block);
	while (b < r->size / r->block && !is_plugged(r, b))
		b++;
	for (end = b; end < r->size / r->block && is_plugged(r, end); end++)
		;
	*offset = b * r->block;
	*len = (end - b) * r->block;
	return end > b;
}

uint64_t memory_plugged_within(const struct memory *mem, uint64_t gpa, uint64_t len)
{
	uint64_t offset;
	const struct ram_region *r = region_find(mem, gpa, len, &offset);

	if (!r || !r->block)
		return 0;
	return count_plugged(r, offset / r->block, DIV_ROUND_UP(offset + len, r->block)) * r->block;
}

uint64_t memory_plugged(const struct memory *mem)
{
	const size_t count = memory_region_count(mem);
	uint64_t bytes = 0;

	for (size_t i = 0; i < count; i++) {
		const struct ram_region *r = &mem->regions[i];

		if (r->block)
			bytes += count_plugged(r, 0, r->size / r->block) * r->block;
	}
	return bytes;
}

/* ---- blocks ------------------------------------------------------------------------- */

static void set_plugged(struct ram_region *r, uint64_t offset, uint64_t len, bool plugged)
{
	for (uint64_t b = offset / r->block; b < (offset + len) / r->block; b++) {
		if (plugged)
			__atomic_fetch_or(&r->plugged[b / 64], 1ull << (b % 64), __ATOMIC_RELEASE);
		else
			__atomic_fetch_and(&r->plugged[b / 64], ~(1ull << (b % 64)),
			                   __ATOMIC_RELEASE);
	}
}

/* Up to the listener `end`, which is not told. */
static void tell_unplugged(struct memory *mem, const struct memory_listener *end, uint64_t gpa,
                           uint64_t len)
{
	for (struct memory_listener *l = mem->listeners; l != end; l = l->next)
		if (l->follows && l->unplugged)
			l->unplugged(l, gpa, len);
}

static int plug(struct memory *mem, struct ram_region *r, uint64_t offset, uint64_t len,
                struct gw_error *err)
{
	const uint64_t gpa = r->gpa + offset;
	int ret = r->take_pages ? ram_backing_take(r->fd, r->offset + offset, len, err) : 0;

	for (struct memory_listener *l = mem->listeners; l && !ret; l = l->next) {
		if (!l->follows || !l->plugged)
			continue;
		ret = l->plugged(l, gpa, len, r->block, r->hva + offset, err);
		if (ret < 0)
			tell_unplugged(mem, l->next, gpa, len);
	}
	if (ret < 0)
		region_discard(mem, (size_t)(r - mem->regions), offset, len);
	else
		set_plugged(r, offset, len, true);
	return ret;
}

/* What the host does not take back costs memory, and nobody sees it. */
static void unplug(struct memory *mem, struct ram_region *r, uint64_t offset, uint64_t len)
{
	set_plugged(r, offset, len, false);
	tell_unplugged(mem, NULL, r->gpa + offset, len);
	region_discard(mem, (size_t)(r - mem->regions), offset, len);
}

/* The region whose whole blocks these are, all of which are plugged or none. With `lock`. */
static int find_blocks(struct memory *mem, uint64_t gpa, uint64_t len, bool plugged,
                       struct ram_region **out, uint64_t *offset, struct gw_error *err)
{
	struct ram_region *r = len ? region_find(mem, gpa, len, offset) : NULL;
	uint64_t n;

	if (!r || !r->block || (*offset | len) % r->block)
		return error_set(err, -EINVAL, "0x%llx bytes at 0x%llx are not blocks of memory",
		                 (unsigned long long)len, (unsigned long long)gpa);
	n = count_plugged(r, *offset / r->block, (*offset + len) / r->block);
	if (n != (plugged ? len / r->block : 0))
		return error_set(err, -EINVAL, "%llu of the %llu blocks at 0x%llx are plugged",
		                 (unsigned long long)n, (unsigned long long)(len / r->block),
		                 (unsigned long long)gpa);
	if (mem->tracking)
		return error_set(err, -EBUSY, "memory is being moved");
	*out = r;
	return 0;
}

int memory_plug(struct memory *mem, uint64_t gpa, uint64_t len, struct gw_error *err)
{
	struct ram_region *r;
	uint64_t offset;
	int ret;

	pthread_mutex_lock(&mem->lock);
	ret = find_blocks(mem, gpa, len, false, &r, &offset, err);
	if (!ret)
		ret = plug(mem, r, offset, len, err);
	pthread_mutex_unlock(&mem->lock);
	return ret;
}

int memory_unplug(struct memory *mem, uint64_t gpa, uint64_t len, struct gw_error *err)
{
	struct ram_region *r;
	uint64_t offset;
	int ret;

	pthread_mutex_lock(&mem->lock);
	ret = find_blocks(mem, gpa, len, true, &r, &offset, err);
	if (!ret)
		unplug(mem, r, offset, len);
	pthread_mutex_unlock(&mem->lock);
	return ret;
}

static void unplug_runs(struct memory *mem, struct ram_region *r)
{
	uint64_t offset = 0, len;

	while (memory_next_run(mem, (size_t)(r - mem->regions), &offset, &len)) {
		unplug(mem, r, offset, len);
		offset += len;
	}
}

int memory_unplug_all(struct memory *mem, uint64_t gpa, struct gw_error *err)
{
	struct ram_region *r;
	uint64_t offset;
	int ret = 0;

	pthread_mutex_lock(&mem->lock);
	r = region_find(mem, gpa, 1, &offset);
	if (!r || !r->block || offset)
		ret = error_set(err, -EINVAL, "no region of blocks begins at 0x%llx",
		                (unsigned long long)gpa);
	else if (mem->tracking)
		ret = error_set(err, -EBUSY, "memory is being moved");
	else
		unplug_runs(mem, r);
	pthread_mutex_unlock(&mem->lock);
	return ret;
}

void memory_discard_unplugged(struct memory *mem)
{
	pthread_mutex_lock(&mem->lock);
	for (size_t i = 0; i < mem->region_count; i++) {
		const struct ram_region *r = &mem->regions[i];
		uint64_t at = 0, offset = 0, len;

		if (!r->block)
			continue;
		while (memory_next_run(mem, i, &offset, &len)) {
			if (offset > at)
				region_discard(mem, i, at, offset - at);
			at = offset += len;
		}
		if (at < r->size)
			region_discard(mem, i, at, r->size - at);
	}
	pthread_mutex_unlock(&mem->lock);
}

int memory_follow(struct memory *mem, struct memory_listener *l, struct gw_error *err)
{
	int ret = 0;

	pthread_mutex_lock(&mem->lock);
	for (size_t i = 0; i < mem->region_count && !ret; i++) {
		const struct ram_region *r = &mem->regions[i];
		uint64_t offset = 0, len;

		while (r->block && !ret && memory_next_run(mem, i, &offset, &len)) {
			ret = l->plugged(l, r->gpa + offset, len, r->block, r->hva + offset, err);
			offset += len;
		}
	}
	l->follows = !ret;
	pthread_mutex_unlock(&mem->lock);
	return ret;
}

/* ---- regions ------------------------------------------------------------------------ */

static int tell_changed(struct memory *mem, struct gw_error *err)
{
	int ret = 0;

	for (struct memory_listener *l = mem->listeners; l && !ret; l = l->next)
		ret = l->regions_changed ? l->regions_changed(l, err) : 0;
	return ret;
}

static int check_region(const struct memory *mem, uint64_t gpa, uint64_t size, uint64_t block,
                        struct gw_error *err)
{
	if (block < MEMORY_BLOCK_MIN || block & (block - 1) || !size || (gpa | size) % block ||
	    gpa > UINT64_MAX - size)
		return error_set(err, -EINVAL,
		                 "memory of 0x%llx bytes at 0x%llx is not blocks of 0x%llx",
		                 (unsigned long long)size, (unsigned long long)gpa,
		                 (unsigned long long)block);
	for (size_t i = 0; i < mem->region_count; i++) {
		const struct ram_region *r = &mem->regions[i];

		if (r->gpa != MEMORY_GONE && gpa < r->gpa + r->size && r->gpa < gpa + size)
			return error_set(err, -EEXIST, "there is memory at 0x%llx already",
			                 (unsigned long long)MAX(gpa, r->gpa));
	}
	if (mem->tracking)
		return error_set(err, -EBUSY, "memory is being moved");
	return 0;
}

/* One that has gone comes again, as large as it was and of the same node, elsewhere. */
static struct ram_region *revive(struct memory *mem, uint64_t gpa, uint64_t size, uint64_t block,
                                 unsigned node)
{
	for (size_t i = 0; i < mem->region_count; i++) {
		struct ram_region *r = &mem->regions[i];

		if (r->gpa != MEMORY_GONE || r->size != size || r->block != block ||
		    r->node != node)
			continue;
		__atomic_store_n(&r->gpa, gpa, __ATOMIC_RELEASE);
		return r;
	}
	return NULL;
}

static int make_region(struct memory *mem, uint64_t gpa, uint64_t size, uint64_t block,
                       unsigned node, struct gw_error *err)
{
	const size_t i = mem->region_count;
	struct ram_region *r = &mem->regions[i];
	int ret;

	if (i == MEMORY_REGIONS_MAX)
		return error_set(err, -ENOSPC, "there is no room for a further piece of memory");
	*r = (struct ram_region){
		.gpa = gpa, .size = size, .block = block, .node = node, .fd = -1
	};
	r->plugged = calloc(MAX(DIV_ROUND_UP(size / block, 64ull), 1ull), 8);
	ret = r->plugged ? region_create(mem, (unsigned)i, err)
	                 : error_set(err, -ENOMEM, "out of memory");
	if (ret < 0) {
		region_destroy(mem, r);
		*r = (struct ram_region){ 0 };
		return ret;
	}
	__atomic_store_n(&mem->region_count, i + 1, __ATOMIC_RELEASE);
	return 0;
}

static void remove_region(struct memory *mem, struct ram_region *r)
{
	struct gw_error ignored;
	struct kvm_userspace_memory_region none = { .slot = r->slot };

	unplug_runs(mem, r);
	mem->set_memslot(mem->machine, &none);
	/* What the guest has put where nothing was plugged. */
	region_discard(mem, (size_t)(r - mem->regions), 0, r->size);
	__atomic_store_n(&r->gpa, MEMORY_GONE, __ATOMIC_RELEASE);
	tell_changed(mem, &ignored);
}

int memory_add_region(struct memory *mem, uint64_t gpa, uint64_t size, uint64_t block,
                      unsigned node, struct gw_error *err)
{
	struct ram_region *r;
	uint64_t offset;
	int ret;

	pthread_mutex_lock(&mem->lock);
	ret = check_region(mem, gpa, size, block, err);
	if (!ret && (r = revive(mem, gpa, size, block, node))) {
		ret = memory_set_region_flags(mem, r, 0);
		if (ret < 0) {
			r->gpa = MEMORY_GONE;
			error_set_sys(err, ret, "memory at 0x%llx: KVM_SET_USER_MEMORY_REGION",
			              (unsigned long long)gpa);
		}
	} else if (!ret) {
		ret = make_region(mem, gpa, size, block, node, err);
	}
	if (!ret) {
		ret = tell_changed(mem, err);
		if (ret < 0)
			remove_region(mem, region_find(mem, gpa, size, &offset));
	}
	pthread_mutex_unlock(&mem->lock);
	return ret;
}

void memory_remove_region(struct memory *mem, uint64_t gpa)
{
	struct ram_region *r;
	uint64_t offset;

	pthread_mutex_lock(&mem->lock);
	r = region_find(mem, gpa, 1, &offset);
	if (r && r->block && !offset)
		remove_region(mem, r);
	pthread_mutex_unlock(&mem->lock);
}
