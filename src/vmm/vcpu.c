/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/vcpu.h"

#include "base/cpulist.h"
#include "base/error.h"
#include "base/io.h"
#include "base/util.h"
#include "vmm/arch.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>

/* Only ever sent to our own threads by pthread_kill, and blocked there. */
static int kick_signal(void)
{
	return SIGRTMIN;
}

static void consume_kick(void)
{
	const struct timespec now = { 0 };
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, kick_signal());
	while (sigtimedwait(&set, NULL, &now) >= 0)
		;
}

/* The mask during KVM_RUN: everything but the kick. KVM wants the kernel's 8-byte sigset. */
static int set_run_mask(struct vcpu *v, struct gw_error *err)
{
	struct {
		struct kvm_signal_mask head;
		uint64_t bits;
	} __attribute__((packed)) mask = {
		.head.len = sizeof(mask.bits),
		.bits = ~(1ull << (kick_signal() - 1)),
	};
	int r = io_ioctl(v->fd, KVM_SET_SIGNAL_MASK, &mask);

	return r < 0 ? error_set_sys(err, r, "vcpu%u: KVM_SET_SIGNAL_MASK", v->index) : 0;
}

/* Reports why it cannot go on and parks itself. */
static void vcpu_fail(struct vcpu *v, const struct gw_error *err)
{
	struct machine *m = v->machine;

	pthread_mutex_lock(&v->lock);
	v->run_wanted = false;
	pthread_mutex_unlock(&v->lock);
	log_error(m->log, "%s", err->text);
	if (m->notify.vcpu_failed)
		m->notify.vcpu_failed(m->notify.opaque, err);
}

static void vcpu_ask_reset(struct vcpu *v, const char *why)
{
	struct machine *m = v->machine;

	pthread_mutex_lock(&v->lock);
	v->run_wanted = false;
	pthread_mutex_unlock(&v->lock);
	if (m->notify.reset_requested)
		m->notify.reset_requested(m->notify.opaque, why);
}

static uint64_t load_bytes(const uint8_t *p, unsigned size)
{
	uint64_t value = 0;

	memcpy(&value, p, MIN(size, sizeof(value)));
	return value;
}

static void exit_mmio(struct vcpu *v)
{
	struct machine *m = v->machine;
	struct kvm_run *run = v->run;
	unsigned size = run->mmio.len;

	machine_lock(m);
	if (run->mmio.is_write) {
		bus_write(&m->mmio, run->mmio.phys_addr, size, load_bytes(run->mmio.data, size));
	} else {
		uint64_t value = bus_read(&m->mmio, run->mmio.phys_addr, size);

		memcpy(run->mmio.data, &value, MIN(size, sizeof(value)));
	}
	machine_unlock(m);
}

static void exit_io(struct vcpu *v)
{
	struct machine *m = v->machine;
	struct kvm_run *run = v->run;
	unsigned size = run->io.size;
	uint8_t *data = (uint8_t *)run + run->io.data_offset;

	machine_lock(m);
	for (uint32_t i = 0; i < run->io.count; i++, data += size) {
		if (run->io.direction == KVM_EXIT_IO_OUT) {
			bus_write(&m->pio, run->io.port, size, load_bytes(data, size));
		} else {
			uint64_t value = bus_read(&m->pio, run->io.port, size);

			memcpy(data, &value, size);
		}
	}
	machine_unlock(m);
}

static void exit_internal(struct vcpu *v)
{
	struct gw_error err;
	uint32_t suberror = v->run->internal.suberror;
	uint64_t data0 = v->run->internal.ndata > 0 ? v->run->internal.data[0] : 0;

	error_set(&err, -EIO, "vcpu%u: KVM internal error %u (data 0x%llx)", v->index, suberror,
	          (unsigned long long)data0);
	vcpu_fail(v, &err);
}

static void handle_exit(struct vcpu *v)
{
	struct gw_error err;

	switch (v->run->exit_reason) {
	case KVM_EXIT_MMIO:
		exit_mmio(v);
		return;
	case KVM_EXIT_IO:
		exit_io(v);
		return;
	case KVM_EXIT_INTR:
	case KVM_EXIT_IRQ_WINDOW_OPEN:
		return;
	case KVM_EXIT_SHUTDOWN:
		vcpu_ask_reset(v, "triple fault");
		return;
	case KVM_EXIT_INTERNAL_ERROR:
		exit_internal(v);
		return;
	case KVM_EXIT_FAIL_ENTRY:
		error_set(&err, -EIO, "vcpu%u: KVM cannot enter the guest (hardware reason 0x%llx)",
		          v->index,
		          (unsigned long long)v->run->fail_entry.hardware_entry_failure_reason);
		vcpu_fail(v, &err);
		return;
	default:
		if (arch_vcpu_exit(v))
			return;
		error_set(&err, -EIO, "vcpu%u: unknown KVM exit %u", v->index, v->run->exit_reason);
		vcpu_fail(v, &err);
	}
}

/* One KVM_RUN and what follows from it. False: KVM_RUN was interrupted. */
static bool run_once(struct vcpu *v)
{
	struct gw_error err;

	if (ioctl(v->fd, KVM_RUN, NULL) == 0) {
		handle_exit(v);
		return true;
	}
	if (errno == EINTR || errno == EAGAIN) {
		consume_kick();
		return false;
	}
	error_set_sys(&err, -errno, "vcpu%u: KVM_RUN", v->index);
	vcpu_fail(v, &err);
	return false;
}

/* An exit for I/O is complete only once KVM_RUN has been entered again (KVM API, 5.: "the VCPU
 * state is consistent only after the next KVM_RUN"): enter with immediate_exit until it has
 * nothing more to ask. */
static void finish_pending_io(struct vcpu *v)
{
	__atomic_store_n(&v->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
	while (run_once(v))
		;
	__atomic_store_n(&v->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
}

static bool wants_to_run(struct vcpu *v)
{
	bool wanted;

	pthread_mutex_lock(&v->lock);
	wanted = v->run_wanted && !v->quit;
	pthread_mutex_unlock(&v->lock);
	return wanted;
}

static void *vcpu_thread(void *opaque)
{
	struct vcpu *v = opaque;
	struct gw_error err;
	char name[16];

	snprintf(name, sizeof(name), "vcpu%u", v->index);
	pthread_setname_np(pthread_self(), name);
	if (set_run_mask(v, &err) < 0)
		vcpu_fail(v, &err);

	pthread_mutex_lock(&v->lock);
	v->tid = (int)syscall(SYS_gettid);
	for (;;) {
		while (!v->run_wanted && !v->quit) {
			v->parked = true;
			pthread_cond_broadcast(&v->changed);
			pthread_cond_wait(&v->changed, &v->lock);
		}
		if (v->quit)
			break;
		v->parked = false;
		pthread_mutex_unlock(&v->lock);
		while (wants_to_run(v))
			run_once(v);
		finish_pending_io(v);
		pthread_mutex_lock(&v->lock);
	}
	v->parked = true;
	pthread_cond_broadcast(&v->changed);
	pthread_mutex_unlock(&v->lock);
	return NULL;
}

static const char *affinity_of(const struct vcpu *v)
{
	const struct config_texts *sets = &v->machine->config.cpu.affinity;

	if (sets->count == 1)
		return sets->item[0];
	return v->index < sets->count ? sets->item[v->index] : "";
}

/* Where the host may run its thread. */
static int pin_thread(struct vcpu *v, struct gw_error *err)
{
	const char *text = affinity_of(v);
	struct cpulist list;
	int r;

	if (!text[0])
		return 0;
	if (!cpulist_parse(text, &list))
		return error_set(err, -EINVAL, "vcpu%u: cpu.affinity: \"%s\" is no list of CPUs",
		                 v->index, text);
	/* The kernel's masks are arrays of longs in the machine's byte order, as a list's are. */
	r = pthread_setaffinity_np(v->thread, sizeof(list.bits), (const cpu_set_t *)list.bits);
	if (r == EINVAL)
		return error_set(err, -EINVAL,
		                 "vcpu%u: cpu.affinity: none of the host's CPUs %s is online and "
		                 "allowed to this process",
		                 v->index, text);
	return r ? error_set_sys(err, -r, "vcpu%u: cpu.affinity %s", v->index, text) : 0;
}

static int start_thread(struct vcpu *v, struct gw_error *err)
{
	sigset_t all, old;
	int r;

	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &old);
	r = pthread_create(&v->thread, NULL, vcpu_thread, v);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (r)
		return error_set_sys(err, -r, "vcpu%u: pthread_create", v->index);
	v->thread_started = true;

	pthread_mutex_lock(&v->lock);
	while (!v->parked)
		pthread_cond_wait(&v->changed, &v->lock);
	pthread_mutex_unlock(&v->lock);
	return pin_thread(v, err);
}

static int open_vcpu(struct vcpu *v, struct gw_error *err)
{
	struct machine *m = v->machine;
	int size = io_ioctl(m->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, NULL);

	if (size < 0)
		return error_set_sys(err, size, "/dev/kvm: KVM_GET_VCPU_MMAP_SIZE");
	v->fd = io_ioctl(m->vm_fd, KVM_CREATE_VCPU, (void *)(uintptr_t)arch_vcpu_id(m, v->index));
	if (v->fd < 0)
		return error_set_sys(err, v->fd, "vcpu%u: KVM_CREATE_VCPU", v->index);
	v->run_size = (size_t)size;
	v->run = mmap(NULL, v->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, v->fd, 0);
	if (v->run == MAP_FAILED) {
		v->run = NULL;
		return error_set_sys(err, -errno, "vcpu%u: mmap of kvm_run", v->index);
	}
	return 0;
}

int vcpu_create(struct machine *m, unsigned index, struct vcpu **out, struct gw_error *err)
{
	struct vcpu *v = calloc(1, sizeof(*v));
	int r;

	if (!v)
		return error_set(err, -ENOMEM, "vcpu%u: out of memory", index);
	v->machine = m;
	v->index = index;
	v->fd = -1;
	pthread_mutex_init(&v->lock, NULL);
	pthread_cond_init(&v->changed, NULL);
	snprintf(v->participant.name, sizeof(v->participant.name), "vcpu%u", index);

	r = open_vcpu(v, err);
	if (!r)
		r = arch_vcpu_create(v, err);
	if (!r)
		r = start_thread(v, err);
	if (r) {
		vcpu_destroy(v);
		return r;
	}
	*out = v;
	return 0;
}

void vcpu_destroy(struct vcpu *v)
{
	if (!v)
		return;
	if (v->thread_started) {
		pthread_mutex_lock(&v->lock);
		v->quit = true;
		v->run_wanted = false;
		pthread_cond_broadcast(&v->changed);
		pthread_mutex_unlock(&v->lock);
		pthread_kill(v->thread, kick_signal());
		pthread_join(v->thread, NULL);
	}
	arch_vcpu_destroy(v);
	if (v->run)
		munmap(v->run, v->run_size);
	if (v->fd >= 0)
		close(v->fd);
	pthread_cond_destroy(&v->changed);
	pthread_mutex_destroy(&v->lock);
	free(v);
}

void vcpu_run(struct vcpu *v)
{
	pthread_mutex_lock(&v->lock);
	v->run_wanted = true;
	v->parked = false;
	pthread_cond_broadcast(&v->changed);
	pthread_mutex_unlock(&v->lock);
}

void vcpu_request_pause(struct vcpu *v)
{
	pthread_mutex_lock(&v->lock);
	v->run_wanted = false;
	pthread_mutex_unlock(&v->lock);
	pthread_kill(v->thread, kick_signal());
}

void vcpu_wait_paused(struct vcpu *v)
{
	pthread_mutex_lock(&v->lock);
	while (!v->parked)
		pthread_cond_wait(&v->changed, &v->lock);
	pthread_mutex_unlock(&v->lock);
}
