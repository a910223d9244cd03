/* SPDX-License-Identifier: Apache-2.0 */
/* The ballast as a PCI function: registers, memory, DMA, interrupts. */
#include "vfio/user/ballast.h"

#include "base/error.h"
#include "base/util.h"
#include "vmm/irq.h"
#include "vmm/memory.h"
#include "vmm/pci_internal.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>

#define VENDOR 0x1af4
#define DEVICE 0x10f0 /* left to experiments */
#define CLASS 0xff0000u
#define MAGIC 0x4c4c4142u /* "BALL" */
#define REGISTERS BALLAST_PAGE
#define BAR_SIZE (REGISTERS + BALLAST_MEMORY)
#define TABLE_BAR 2
#define TABLE_BAR_SIZE 4096
#define PBA 0x800
#define CMD_INTX_DISABLE 0x0400
#define STATUS_INTX 0x0008

static struct ballast *of(struct pci_function *f)
{
	return container_of(f, struct ballast, d.function);
}

/* ---- interrupts ---- */

static void set_pin(struct ballast *b, bool high)
{
	struct pci_function *f = &b->d.function;
	struct machine *m = b->d.device.machine;
	const uint32_t status = pci_get(f->config, PCI_REG_STATUS, 2) & ~(uint32_t)STATUS_INTX;
	const bool seen = high && !(pci_get(f->config, PCI_REG_COMMAND, 2) & CMD_INTX_DISABLE);

	pci_set(f->config, PCI_REG_STATUS, 2, status | (high ? STATUS_INTX : 0));
	if (seen != b->pin_high)
		irq_share_line(m->irqs, pci_intx_gsi(f->slot, 1), seen);
	b->pin_high = seen;
}

static void raise(struct ballast *b, uint32_t vector)
{
	if (b->msix && msix_enabled(b->msix))
		msix_raise(b->msix, vector);
	else
		set_pin(b, true);
}

/* ---- DMA ---- */

static void do_dma(struct ballast *b, uint32_t command)
{
	struct memory *memory = b->d.device.machine->memory;
	int r = -EINVAL;

	if (b->dma_length > BALLAST_MEMORY)
		r = -EINVAL;
	else if (command == 1)
		r = memory_read(memory, b->dma_address, b->memory, b->dma_length);
	else if (command == 2)
		r = memory_write(memory, b->dma_address, b->memory, b->dma_length);
	b->dma_status = (uint32_t)-r;
}

/* ---- registers ---- */

static uint64_t get_register(struct ballast *b, uint64_t offset)
{
	bool high;

	switch (offset) {
	case 0x00:
		return MAGIC;
	case 0x08:
		return b->options.size;
	case 0x10:
		return b->seed;
	case 0x18:
		ballast_catch_up(b);
		return ballast_digest(b, b->seed, b->generation);
	case 0x20:
		return b->dma_address;
	case 0x28:
		return b->dma_length;
	case 0x30:
		return b->dma_status;
	case 0x38:
		high = b->pin_high;
		set_pin(b, false);
		return high;
	case 0x40:
		return b->loads;
	default:
		return 0;
	}
}

static void set_register(struct ballast *b, uint64_t offset, uint64_t value)
{
	switch (offset) {
	case 0x20:
		b->dma_address = value;
		break;
	case 0x28:
		b->dma_length = (uint32_t)value;
		break;
	case 0x2c:
		do_dma(b, (uint32_t)value);
		break;
	case 0x34:
		raise(b, (uint32_t)value);
		break;
	case 0x3c:
		ballast_change(b, (uint32_t)value);
		break;
	default:
		break;
	}
}

static uint64_t bar_read(struct pci_function *f, unsigned bar, uint64_t offset, unsigned size)
{
	struct ballast *b = of(f);
	uint64_t value = 0;

	if (bar == TABLE_BAR && b->msix)
		return offset < PBA ? msix_table_read(b->msix, offset, size)
		                    : msix_pba_read(b->msix, offset - PBA, size);
	if (offset >= REGISTERS) {
		memcpy(&value, b->memory + (offset - REGISTERS), size);
		return value;
	}
	/* A register of 8 bytes may be read by halves. */
	if (offset % 8 == 4 && size == 4 && (offset < 0x28 || offset > 0x40))
		return get_register(b, offset - 4) >> 32;
	value = get_register(b, offset);
	return size < 8 ? value & ((1ull << 8 * size) - 1) : value;
}

static void bar_write(struct pci_function *f, unsigned bar, uint64_t offset, unsigned size,
                      uint64_t value)
{
	struct ballast *b = of(f);

	if (bar == TABLE_BAR && b->msix && offset < PBA)
		msix_table_write(b->msix, offset, size, value);
	else if (bar == 0 && offset >= REGISTERS)
		memcpy(b->memory + (offset - REGISTERS), &value, size);
	else if (bar == 0 && offset == 0x24 && size == 4)
		b->dma_address = (b->dma_address & UINT32_MAX) | value << 32;
	else if (bar == 0)
		set_register(b, offset, value);
}

static bool bar_memory(struct pci_function *f, unsigned bar, struct pci_bar_memory *out)
{
	if (bar)
		return false;
	*out = (struct pci_bar_memory){ of(f)->fd, REGISTERS, BALLAST_MEMORY };
	return true;
}

static void config_written(struct pci_function *f, unsigned offset, unsigned size)
{
	struct ballast *b = of(f);

	(void)offset;
	(void)size;
	if (b->msix)
		msix_update(b->msix, f->config + b->msix_cap);
	set_pin(b, pci_get(f->config, PCI_REG_STATUS, 2) & STATUS_INTX);
}

static void on_reset(struct pci_function *f)
{
	struct ballast *b = of(f);

	if (b->msix)
		msix_reset(b->msix);
	set_pin(b, false);
	b->dma_address = 0;
	b->dma_length = b->dma_status = 0;
	memset(b->memory, 0, BALLAST_MEMORY);
	ballast_reset_state(b);
}

static const struct pci_function_ops function_ops = {
	.config_written = config_written,
	.bar_read = bar_read,
	.bar_write = bar_write,
	.bar_memory = bar_memory,
	.reset = on_reset,
	.ejected = pci_device_ejected,
};

/* ---- state beyond the blocks ---- */

void ballast_save_device(struct ballast *b, struct bytes *out)
{
	autofree uint8_t *msix = b->msix ? malloc(msix_state_size(b->msix)) : NULL;

	bytes_put64(out, b->dma_address);
	bytes_put32(out, b->dma_length);
	bytes_put32(out, b->dma_status);
	bytes_put(out, b->memory, BALLAST_MEMORY);
	if (msix) {
		msix_save(b->msix, msix);
		bytes_put(out, msix, msix_state_size(b->msix));
	} else if (b->msix) {
		out->failed = true;
	}
}

int ballast_load_device(struct ballast *b, struct bytes_reader *in, struct gw_error *err)
{
	const size_t msix_len = b->msix ? msix_state_size(b->msix) : 0;
	const uint8_t *memory, *msix;
	int r = 0;

	b->dma_address = bytes_take64(in);
	b->dma_length = bytes_take32(in);
	b->dma_status = bytes_take32(in);
	memory = bytes_take_view(in, BALLAST_MEMORY);
	msix = bytes_take_view(in, msix_len);
	if (!memory || !bytes_all_taken(in))
		return error_set(err, -EINVAL, "its registers are not whole");
	memcpy(b->memory, memory, BALLAST_MEMORY);
	if (b->msix) {
		r = msix_load(b->msix, msix, msix_len, err);
		msix_update(b->msix, b->d.function.config + b->msix_cap);
	}
	if (!r)
		set_pin(b, pci_get(b->d.function.config, PCI_REG_STATUS, 2) & STATUS_INTX);
	return r;
}

/* ---- made and gone ---- */

static void release(struct pci_device *d)
{
	struct ballast *b = container_of(d, struct ballast, d);

	if (b->pin_high)
		set_pin(b, false);
	msix_destroy(b->msix);
	msi_irqfds_destroy(b->irqfds);
	ballast_drop_load(b);
	if (b->memory)
		munmap(b->memory - REGISTERS, BAR_SIZE);
	if (b->fd >= 0)
		close(b->fd);
	free(b->generation);
	free(b->dirty);
}

/* Its state is its participant's (ballast_state.c). */
static const struct pci_device_ops device_ops = { .release = release };

static int make_memory(struct ballast *b, struct gw_error *err)
{
	void *memory;

	b->fd = memfd_create("godwit-ballast", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (b->fd < 0 || ftruncate(b->fd, BAR_SIZE) < 0 ||
	    fcntl(b->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		return error_set_sys(err, -errno, "memfd");
	memory = mmap(NULL, BAR_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, b->fd, 0);
	if (memory == MAP_FAILED)
		return error_set_sys(err, -errno, "mmap");
	b->memory = (uint8_t *)memory + REGISTERS;
	return 0;
}

static int make_state(struct ballast *b, struct gw_error *err)
{
	if (!b->options.size || b->options.size % BALLAST_BLOCK)
		return error_set(err, -EINVAL, "size: not a multiple of %u", BALLAST_BLOCK);
	b->blocks = (uint32_t)(b->options.size / BALLAST_BLOCK);
	b->generation = calloc(b->blocks, sizeof(*b->generation));
	b->dirty = calloc(DIV_ROUND_UP(b->blocks, 64u), sizeof(*b->dirty));
	if (!b->generation || !b->dirty)
		return error_set(err, -ENOMEM, "out of memory");
	if (getrandom(&b->seed, sizeof(b->seed), 0) != (ssize_t)sizeof(b->seed))
		return error_set_sys(err, -errno, "getrandom");
	return 0;
}

static int make_interrupts(struct ballast *b, struct machine *m, struct gw_error *err)
{
	struct pci_function *f = &b->d.function;
	uint8_t cap[MSIX_CAP_SIZE] = { 0 };
	int r;

	pci_set(f->config, PCI_REG_IRQ_PIN, 1, 1);
	if (b->options.interrupt != BALLAST_MSIX)
		return 0;
	r = msi_irqfds_create(m, f, b->d.device.id, BALLAST_VECTORS, NULL, NULL, &b->irqfds, err);
	if (!r)
		r = msix_create(BALLAST_VECTORS, &msi_irqfds_ops, b->irqfds, &b->msix, err);
	pci_set(cap, 2, 2, BALLAST_VECTORS - 1);
	pci_set(cap, 4, 4, TABLE_BAR);
	pci_set(cap, 8, 4, PBA | TABLE_BAR);
	b->msix_cap = pci_add_capability(f, 0x11, cap, sizeof(cap));
	msix_wmask(f->wmask + b->msix_cap);
	f->bars[TABLE_BAR] = (struct pci_bar){ .size = TABLE_BAR_SIZE };
	return r;
}

static int create(struct machine *m, const struct config_device *config, bool hot,
                  struct device **out, struct gw_error *err)
{
	struct ballast *b = calloc(1, sizeof(*b));
	struct pci_function *f;
	int r;

	if (!b)
		return error_set(err, -ENOMEM, "out of memory");
	memcpy(&b->options, config->options, sizeof(b->options));
	b->fd = -1;
	b->d.ops = &device_ops;
	f = &b->d.function;
	f->ops = &function_ops;
	pci_set(f->config, PCI_REG_VENDOR, 2, VENDOR);
	pci_set(f->config, PCI_REG_DEVICE, 2, DEVICE);
	pci_set(f->config, PCI_REG_REVISION, 4, CLASS << 8 | 1);
	f->bars[0] = (struct pci_bar){ .size = BAR_SIZE };
	r = make_memory(b, err);
	if (!r)
		r = make_state(b, err);
	if (!r)
		r = make_interrupts(b, m, err);
	if (r < 0) {
		release(&b->d);
		free(b);
		return r;
	}
	r = pci_device_plug(&b->d, m, config, hot, &ballast_driver, &ballast_participant, err);
	if (!r)
		*out = &b->d.device;
	return r;
}

static void run(struct device *d)
{
	struct ballast *b = container_of(d, struct ballast, d.device);

	machine_lock(d->machine);
	b->changed_us = b->running ? b->changed_us : now_us();
	b->running = true;
	machine_unlock(d->machine);
}

static void pause_device(struct device *d)
{
	struct ballast *b = container_of(d, struct ballast, d.device);

	machine_lock(d->machine);
	ballast_catch_up(b);
	b->running = false;
	machine_unlock(d->machine);
}

/* ---- options ---- */

static const char *const interrupt_words[] = { "msix", "intx", NULL };

static const struct config_key keys[] = {
	CONFIG_ROW_NUMBER(NULL, "size", CONFIG_SIZE, 0, struct ballast_options, size, BALLAST_BLOCK,
	                  64ull << 30, "\"1M\"", "how large its state is"),
	CONFIG_ROW_BOOL(NULL, "pre-copy", struct ballast_options, pre_copy, "false",
	                "offers the state while it runs (PRE_COPY)"),
	CONFIG_ROW_NUMBER(NULL, "rate", CONFIG_SIZE, 0, struct ballast_options, rate, 0, 1ull << 40,
	                  NULL, "bytes of state that it gives out in a second; 0: any"),
	CONFIG_ROW_NUMBER(NULL, "dirty-rate", CONFIG_SIZE, 0, struct ballast_options, dirty_rate, 0,
	                  1ull << 40, NULL, "bytes of state that change in a second while it runs"),
	CONFIG_ROW_ENUM(NULL, "interrupt", struct ballast_options, interrupt, "\"msix\"",
	                interrupt_words, "the kind of interrupt that it has"),
	CONFIG_ROW_TEXT(NULL, "fail", 0, struct ballast_options, fail,
	                "transitions that fail: FROM-TO:ERRNO[:error],..."),
	CONFIG_ROW_TEXT(NULL, "die-at", 0, struct ballast_options, die_at,
	                "the server ends at this command: N, COMMAND or COMMAND:N"),
	CONFIG_ROW_END,
};

const struct device_driver ballast_driver = {
	.type = "ballast",
	.help = "a device with nothing but state, for tests of migration",
	.keys = keys,
	.create = create,
	.run = run,
	.pause = pause_device,
	PCI_DEVICE_DRIVER_CALLS,
};

int ballast_server_options(const struct ballast_options *o, struct server_options *out,
                           struct gw_error *err)
{
	int r = server_faults_parse_arcs(o->fail, &out->faults, err);

	if (r < 0)
		return error_context(err, "fail");
	r = server_faults_parse_die(o->die_at, &out->faults, err);
	if (r < 0)
		return error_context(err, "die-at");
	out->pre_copy = o->pre_copy;
	out->rate = o->rate;
	return 0;
}
