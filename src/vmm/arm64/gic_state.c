/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The interrupt controller as a participant.
 *
 * Pending MSIs and the ITS's translations go to the guest's memory when all
 * devices have stopped (stop), before memory's last pages are sent; registers
 * follow (save). They are set when all of memory is there (settle): the
 * distributor, each CPU's own, then the ITS, which reads its tables.
 */
#include "vmm/arm64/gic.h"

#include "base/bytes.h"
#include "base/error.h"
#include "base/util.h"
#include "vmm/arm64/arm64.h"
#include "vmm/irq.h"

/* A CPU's record begins with its number. */
enum { RECORD_VERSION = 1, RECORD_SHARED, RECORD_CPU, RECORD_ITS };

struct gic_loaded {
	bool version, shared, its;
	struct gic_values shared_values;
	struct its_values its_values;
	struct {
		bool came;
		struct gic_values values;
	} cpu[];
};

void gic_loaded_free(struct gic_loaded *loaded)
{
	free(loaded);
}

static struct gic *gic_of(struct participant *p)
{
	return container_of(p, struct gic, participant);
}

/* ---- saving ---- */

static int gic_stop(struct participant *p, struct gw_error *err)
{
	struct gic *gic = gic_of(p);
	int r = irqs_flush(gic->machine->irqs, err);

	if (r < 0 || gic->its_fd < 0)
		return r;
	r = attr_set(gic->fd, KVM_DEV_ARM_VGIC_GRP_CTRL, KVM_DEV_ARM_VGIC_SAVE_PENDING_TABLES,
	             NULL);
	if (r < 0)
		return error_set_sys(err, r, "KVM_DEV_ARM_VGIC_SAVE_PENDING_TABLES");
	return its_save_tables(gic->its_fd, err);
}

static int send(struct participant *p, struct sink *sink, uint16_t type, struct bytes *record,
                struct gw_error *err)
{
	int r = record->failed ? error_set(err, -ENOMEM, "out of memory")
	                       : sink_record(sink, p, type, record->data, record->len, err);

	bytes_free(record);
	*record = (struct bytes){ 0 };
	return r;
}

static int save_cpu(struct gic *gic, unsigned cpu, struct sink *sink, struct gw_error *err)
{
	struct bytes record = { 0 };
	struct gic_values values;
	int r = gic_words_get(gic->fd, gic_cpu_attr(gic, cpu), gic->own, gic->own_count, &values,
	                      err);

	if (r < 0)
		return error_context(err, "vcpu%u", cpu);
	bytes_put32(&record, cpu);
	gic_words_put(gic->own, gic->own_count, &values, &record);
	return send(&gic->participant, sink, RECORD_CPU, &record, err);
}

static int save_its(struct gic *gic, struct sink *sink, struct gw_error *err)
{
	struct bytes record = { 0 };
	struct its_values values;
	int r = its_get(gic->its_fd, &values, err);

	if (r < 0)
		return r;
	for (unsigned i = 0; i < ITS_REGISTERS; i++)
		bytes_put64(&record, values.value[i]);
	return send(&gic->participant, sink, RECORD_ITS, &record, err);
}

static int gic_save(struct participant *p, struct sink *sink, struct gw_error *err)
{
	struct gic *gic = gic_of(p);
	struct bytes record = { 0 };
	struct gic_values values;
	int r;

	bytes_put32(&record, gic->version);
	r = send(p, sink, RECORD_VERSION, &record, err);
	if (!r)
		r = gic_words_get(gic->fd, gic_cpu_attr(gic, 0), gic->shared, gic->shared_count,
		                  &values, err);
	if (r < 0)
		return r;
	gic_words_put(gic->shared, gic->shared_count, &values, &record);
	r = send(p, sink, RECORD_SHARED, &record, err);
	for (unsigned i = 0; i < gic->machine->vcpu_count && !r; i++)
		r = save_cpu(gic, i, sink, err);
	return r || gic->its_fd < 0 ? r : save_its(gic, sink, err);
}

/* ---- loading ---- */

static int load_version(struct gic *gic, struct bytes_reader *in, struct gw_error *err)
{
	const uint32_t version = bytes_take32(in);

	if (!bytes_all_taken(in))
		return error_set(err, -EINVAL, "its version does not have 4 bytes");
	if (version != gic->version)
		return error_set(err, -ENOTSUP,
		                 "the guest has a GICv%u, and this host's KVM offers a GICv%u",
		                 version, gic->version);
	gic->loaded->version = true;
	return 0;
}

static int load_shared(struct gic *gic, struct bytes_reader *in, struct gw_error *err)
{
	gic->loaded->shared = true;
	return gic_words_take(gic->shared, gic->shared_count, in->data, in->len,
	                      &gic->loaded->shared_values, err);
}

static int load_cpu(struct gic *gic, struct bytes_reader *in, struct gw_error *err)
{
	const uint32_t cpu = bytes_take32(in);
	int r;

	if (in->failed || cpu >= gic->machine->vcpu_count || gic->loaded->cpu[cpu].came)
		return error_set(err, -EINVAL, "no vcpu%u, or twice there", cpu);
	gic->loaded->cpu[cpu].came = true;
	r = gic_words_take(gic->own, gic->own_count, in->data, in->len,
	                   &gic->loaded->cpu[cpu].values, err);
	return r < 0 ? error_context(err, "vcpu%u", cpu) : 0;
}

static int load_its(struct gic *gic, struct bytes_reader *in, struct gw_error *err)
{
	for (unsigned i = 0; i < ITS_REGISTERS; i++)
		gic->loaded->its_values.value[i] = bytes_take64(in);
	gic->loaded->its = true;
	return bytes_all_taken(in)
	               ? 0
	               : error_set(err, -EINVAL, "ITS: not %u registers", ITS_REGISTERS);
}

static int (*const loaders[])(struct gic *gic, struct bytes_reader *in, struct gw_error *err) = {
	[RECORD_VERSION] = load_version,
	[RECORD_SHARED] = load_shared,
	[RECORD_CPU] = load_cpu,
	[RECORD_ITS] = load_its,
};

static int gic_load(struct participant *p, uint32_t version, uint16_t type, const void *buf,
                    size_t len, struct gw_error *err)
{
	struct bytes_reader in = { .data = buf, .len = len };
	struct gic *gic = gic_of(p);

	(void)version;
	if (type >= ARRAY_SIZE(loaders) || !loaders[type])
		return error_set(err, -EINVAL, "record of type %u with %zu bytes", type, len);
	if (!gic->loaded)
		gic->loaded = calloc(1, sizeof(*gic->loaded) + gic->machine->vcpu_count *
		                                                       sizeof(gic->loaded->cpu[0]));
	if (!gic->loaded)
		return error_set(err, -ENOMEM, "out of memory");
	/* What the records after it mean depends on it. */
	if (type != RECORD_VERSION && !gic->loaded->version)
		return error_set(err, -EINVAL, "its version does not come first");
	return loaders[type](gic, &in, err);
}

static int check_complete(const struct gic *gic, struct gw_error *err)
{
	const struct gic_loaded *l = gic->loaded;

	if (!l || !l->shared)
		return error_set(err, -EINVAL, "its registers did not come");
	for (unsigned i = 0; i < gic->machine->vcpu_count; i++)
		if (!l->cpu[i].came)
			return error_set(err, -EINVAL, "vcpu%u: its registers did not come", i);
	if (gic->its_fd >= 0 && !l->its)
		return error_set(err, -EINVAL, "the ITS's registers did not come");
	return 0;
}

static int gic_settle(struct participant *p, struct gw_error *err)
{
	struct gic *gic = gic_of(p);
	const struct gic_loaded *l = gic->loaded;
	int r = check_complete(gic, err);

	if (!r)
		r = gic_words_set(gic->fd, gic_cpu_attr(gic, 0), gic->shared, gic->shared_count,
		                  &l->shared_values, err);
	for (unsigned i = 0; i < gic->machine->vcpu_count && !r; i++) {
		r = gic_words_set(gic->fd, gic_cpu_attr(gic, i), gic->own, gic->own_count,
		                  &l->cpu[i].values, err);
		if (r < 0)
			error_context(err, "vcpu%u", i);
	}
	if (!r && gic->its_fd >= 0)
		r = its_set(gic->its_fd, &l->its_values, err);
	gic_loaded_free(gic->loaded);
	gic->loaded = NULL;
	return r;
}

static void gic_discard(struct participant *p)
{
	struct gic *gic = gic_of(p);

	gic_loaded_free(gic->loaded);
	gic->loaded = NULL;
}

const struct participant_ops gic_participant_ops = {
	.kind = "gic",
	.version = 1,
	.class = PARTICIPANT_CHIP,
	.stop = gic_stop,
	.save = gic_save,
	.load = gic_load,
	.settle = gic_settle,
	.discard = gic_discard,
};
