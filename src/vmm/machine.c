/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/machine.h"

#include "base/error.h"
#include "base/io.h"
#include "base/util.h"
#include "vmm/arch.h"
#include "vmm/boot.h"
#include "vmm/irq.h"
#include "vmm/memory.h"
#include "vmm/outside.h"
#include "vmm/pci.h"
#include "vmm/pm.h"
#include "vmm/serial.h"
#include "vmm/vcpu.h"

#include <fcntl.h>
#include <linux/kvm.h>
#include <string.h>

static const struct {
	int cap;
	const char *name;
} needed_caps[] = {
	{ KVM_CAP_USER_MEMORY, "KVM_CAP_USER_MEMORY" },
	{ KVM_CAP_IRQFD, "KVM_CAP_IRQFD" },
	{ KVM_CAP_IRQFD_RESAMPLE, "KVM_CAP_IRQFD_RESAMPLE" },
	{ KVM_CAP_IOEVENTFD, "KVM_CAP_IOEVENTFD" },
	{ KVM_CAP_IRQ_ROUTING, "KVM_CAP_IRQ_ROUTING" },
	{ KVM_CAP_SIGNAL_MSI, "KVM_CAP_SIGNAL_MSI" },
	{ KVM_CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT" },
	{ KVM_CAP_MP_STATE, "KVM_CAP_MP_STATE" },
};

static int open_kvm(struct machine *m, struct gw_error *err)
{
	int version;

	m->kvm_fd = machine_fd(m, "kvm");
	if (m->kvm_fd < 0)
		m->kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (m->kvm_fd < 0)
		return error_set_sys(err, -errno, "/dev/kvm");
	version = io_ioctl(m->kvm_fd, KVM_GET_API_VERSION, NULL);
	if (version != KVM_API_VERSION)
		return error_set_class(err, -ENOTSUP, GW_ERROR_KVM_MISSING_CAP,
		                       "/dev/kvm: API version %d, not %d", version,
		                       KVM_API_VERSION);
	for (size_t i = 0; i < ARRAY_SIZE(needed_caps); i++) {
		if (io_ioctl(m->kvm_fd, KVM_CHECK_EXTENSION,
		             (void *)(uintptr_t)needed_caps[i].cap) <= 0)
			return error_set_class(err, -ENOTSUP, GW_ERROR_KVM_MISSING_CAP,
			                       "/dev/kvm: %s is missing", needed_caps[i].name);
	}
	return arch_check_kvm(m->kvm_fd, err);
}

static int create_vm(struct machine *m, struct gw_error *err)
{
	m->vm_type = arch_vm_type(m->kvm_fd, m->config.memory, err);
	if (m->vm_type < 0)
		return (int)m->vm_type;
	m->vm_fd = io_ioctl(m->kvm_fd, KVM_CREATE_VM, (void *)(uintptr_t)m->vm_type);
	return m->vm_fd < 0 ? error_set_sys(err, m->vm_fd, "/dev/kvm: KVM_CREATE_VM") : 0;
}

static int create_vcpus(struct machine *m, struct gw_error *err)
{
	m->vcpus = calloc(m->config.cpus, sizeof(struct vcpu *));
	if (!m->vcpus)
		return error_set(err, -ENOMEM, "vCPUs: out of memory");
	for (unsigned i = 0; i < m->config.cpus; i++) {
		int r = vcpu_create(m, i, &m->vcpus[i], err);

		if (r < 0)
			return r;
		m->vcpu_count++;
		r = participant_add(&m->participants, &m->vcpus[i]->participant, err);
		if (r < 0)
			return r;
	}
	return arch_vcpus_created(m, err);
}

static int create_memory(struct machine *m, struct gw_error *err)
{
	int r = memory_create(m, m->config.memory, &m->memory, err);

	return r < 0 ? r : participant_add(&m->participants, memory_participant(m->memory), err);
}

static int create_boot(struct machine *m, struct gw_error *err)
{
	return boot_create(m, &m->boot, err);
}

static int create_irqs(struct machine *m, struct gw_error *err)
{
	return irqs_create(m, &m->irqs, err);
}

static int create_pci(struct machine *m, struct gw_error *err)
{
	return pci_create(m, &m->pci, err);
}

static int create_serial(struct machine *m, struct gw_error *err)
{
	return serial_create(m, &m->config.serial, &m->serial, err);
}

static void on_deferred(void *opaque, int fd, uint32_t events)
{
	struct machine *m = opaque;

	(void)events;
	io_eventfd_drain(fd);
	machine_lock(m);
	for (struct device *d = m->devices; d; d = d->next)
		if (d->driver->deferred)
			d->driver->deferred(d);
	machine_unlock(m);
}

static int create_deferred(struct machine *m, struct gw_error *err)
{
	m->deferred_fd = io_eventfd();
	if (m->deferred_fd < 0)
		return error_set_sys(err, m->deferred_fd, "machine: eventfd");
	return loop_watch(m->loop, m->deferred_fd, EPOLLIN, on_deferred, m, &m->deferred, err);
}

/* Made in this order, taken apart in the reverse one (machine_destroy). */
static int (*const create_steps[])(struct machine *m, struct gw_error *err) = {
	open_kvm,    create_vm,  create_boot,   create_memory, arch_create,
	create_irqs, create_pci, create_serial, create_vcpus,  create_deferred,
};

static struct machine *new_machine(struct loop *loop, const struct log *log,
                                   const struct machine_notify *notify)
{
	struct machine *m = calloc(1, sizeof(*m));

	if (!m)
		return NULL;
	m->loop = loop;
	m->log = log;
	m->notify = *notify;
	m->kvm_fd = m->vm_fd = m->vfio_kvm_fd = m->deferred_fd = -1;
	pthread_mutex_init(&m->device_lock, NULL);
	pthread_mutex_init(&m->vfio_lock, NULL);
	bus_init(&m->mmio);
	bus_init(&m->pio);
	return m;
}

typedef int (*create_step)(struct machine *m, struct gw_error *err);

static int run_steps(struct machine *m, const create_step *steps, size_t count,
                     struct machine **out, struct gw_error *err)
{
	for (size_t i = 0; i < count; i++) {
		int r = steps[i](m, err);

		if (r < 0) {
			machine_destroy(m);
			return r;
		}
	}
	*out = m;
	return 0;
}

int machine_create(const struct config *config, struct loop *loop, const struct log *log,
                   const struct machine_notify *notify, bool incoming, struct machine **out,
                   struct gw_error *err)
{
	struct machine *m = new_machine(loop, log, notify);

	if (!m)
		return error_set(err, -ENOMEM, "machine: out of memory");
	m->config = *config;
	m->config.pci.root_ports = config_root_ports(config);
	m->incoming = m->started = incoming;
	return run_steps(m, create_steps, ARRAY_SIZE(create_steps), out, err);
}

/* ---- a guest elsewhere (outside.h) ---- */

static int create_no_memory(struct machine *m, struct gw_error *err)
{
	return memory_create_outside(m, &m->memory, err);
}

static const create_step outside_steps[] = {
	create_no_memory,
	create_irqs,
	create_pci,
	create_deferred,
};

int machine_create_outside(const struct machine_outside *outside, struct loop *loop,
                           const struct log *log, const struct machine_notify *notify,
                           struct machine **out, struct gw_error *err)
{
	struct machine *m = new_machine(loop, log, notify);

	if (!m)
		return error_set(err, -ENOMEM, "machine: out of memory");
	m->outside = outside;
	m->incoming = m->started = true;
	return run_steps(m, outside_steps, ARRAY_SIZE(outside_steps), out, err);
}

void machine_reset_outside(struct machine *m)
{
	machine_lock(m);
	pci_reset(m->pci);
	machine_unlock(m);
}

void machine_rerun_outside(struct machine *m)
{
	for (struct device *d = m->devices; d; d = d->next)
		if (d->driver->run)
			d->driver->run(d);
}

void machine_destroy(struct machine *m)
{
	if (!m)
		return;
	loop_unwatch(m->deferred);
	while (m->devices) {
		struct device *d = m->devices;

		machine_forget_device(m, d);
		d->driver->destroy(d);
	}
	for (unsigned i = 0; i < m->vcpu_count; i++)
		vcpu_destroy(m->vcpus[i]);
	free(m->vcpus);
	serial_destroy(m->serial);
	pci_destroy(m->pci);
	irqs_destroy(m->irqs);
	arch_destroy(m);
	memory_destroy(m->memory);
	boot_destroy(m->boot);
	bus_fini(&m->mmio);
	bus_fini(&m->pio);
	if (m->deferred_fd >= 0)
		close(m->deferred_fd);
	if (m->vfio_kvm_fd >= 0)
		close(m->vfio_kvm_fd);
	if (m->vm_fd >= 0)
		close(m->vm_fd);
	if (m->kvm_fd >= 0)
		close(m->kvm_fd);
	pthread_mutex_destroy(&m->device_lock);
	pthread_mutex_destroy(&m->vfio_lock);
	free(m);
}

int machine_reset(struct machine *m, struct gw_error *err)
{
	machine_lock(m);
	pci_reset(m->pci);
	pm_reset(m->pm);
	serial_reset(m->serial);
	machine_unlock(m);
	return arch_reset(m, err);
}

void machine_pause(struct machine *m)
{
	bool ran = machine_running(m);

	for (unsigned i = 0; i < m->vcpu_count; i++)
		vcpu_request_pause(m->vcpus[i]);
	for (unsigned i = 0; i < m->vcpu_count; i++)
		vcpu_wait_paused(m->vcpus[i]);
	if (ran && !m->outside)
		arch_time_stop(m);
	m->running = false;
	if (!ran)
		return;
	for (struct device *d = m->devices; d; d = d->next)
		if (d->driver->pause)
			d->driver->pause(d);
	/* Whoever is told that the guest stands still, or has ended, finds all that it said. Mostly
	 * there is nothing left to write; a disk that has stalled is not waited for. */
	if (m->serial)
		serial_flush_log(m->serial);
}

void machine_run(struct machine *m)
{
	if (machine_running(m))
		return;
	if (!m->outside) {
		irqs_settle(m->irqs);
		arch_time_continue(m);
	}
	m->running = m->started = true;
	for (struct device *d = m->devices; d; d = d->next)
		if (d->driver->run)
			d->driver->run(d);
	for (unsigned i = 0; i < m->vcpu_count; i++)
		vcpu_run(m->vcpus[i]);
}

bool machine_running(const struct machine *m)
{
	return m->running;
}

int machine_claim(struct machine *m, struct gw_error *err)
{
	struct device *d;
	int r = 0;

	for (d = m->devices; d; d = d->next) {
		r = d->driver->claim ? d->driver->claim(d, err) : 0;
		if (r < 0)
			break;
	}
	for (struct device *i = m->devices; i != d; i = i->next) {
		if (r < 0 && !i->claimed && i->driver->unclaim)
			i->driver->unclaim(i);
		i->claimed |= r == 0;
	}
	return r < 0 ? error_context(err, "device %s", d->id) : 0;
}

void machine_unclaim(struct machine *m)
{
	for (struct device *d = m->devices; d; d = d->next) {
		if (d->driver->unclaim)
			d->driver->unclaim(d);
		d->claimed = false;
	}
}

void machine_defer(struct machine *m)
{
	io_eventfd_signal(m->deferred_fd);
}

void machine_on_quit(struct machine *m, struct machine_quit_hook *hook, bool on)
{
	if (m->notify.on_quit)
		m->notify.on_quit(m->notify.opaque, hook, on);
}

int machine_fd(struct machine *m, const char *name)
{
	return m->notify.fd ? m->notify.fd(m->notify.opaque, name) : -ENOENT;
}

int machine_powerdown(struct machine *m, struct gw_error *err)
{
	if (!machine_running(m))
		return error_set(err, -EINVAL, "the guest does not run: its power button is dead");
	machine_lock(m);
	pm_power_button(m->pm);
	machine_unlock(m);
	return 0;
}

struct device *machine_find_device(struct machine *m, const char *id)
{
	for (struct device *d = m->devices; d; d = d->next)
		if (!strcmp(d->id, id))
			return d;
	return NULL;
}

void machine_forget_device(struct machine *m, struct device *d)
{
	for (struct device **pp = &m->devices; *pp; pp = &(*pp)->next) {
		if (*pp == d) {
			*pp = d->next;
			return;
		}
	}
}
