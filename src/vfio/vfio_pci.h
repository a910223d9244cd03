/* SPDX-License-Identifier: Apache-2.0 */
/* A passed-through PCI device: what the files of this folder share. */
#ifndef VFIO_VFIO_PCI_H
#define VFIO_VFIO_PCI_H

#include "vfio/device.h"
#include "vfio/dirty.h"
#include "vfio/space.h"
#include "vfio/state.h"
#include "vmm/device.h"
#include "vmm/machine.h"
#include "vmm/msi.h"
#include "vmm/msix.h"
#include "vmm/participant.h"
#include "vmm/pci.h"

/* A piece of a BAR that the guest reaches without us. */
struct vfio_window {
	unsigned bar;
	struct vfio_area area;
	void *hva;
	uint32_t slot; /* KVM's */
	bool shown;    /* in the guest's address space now */
	uint64_t dma;  /* where it is mapped for other devices' DMA; 0: it is not */
};
#define VFIO_WINDOWS (PCI_BARS * VFIO_AREAS_MAX)

/* How many interrupts of an index there are. */
struct vfio_irqs {
	unsigned count;
	uint32_t flags; /* VFIO_IRQ_INFO_* */
};

/* A capability that the device has, and whether the guest is shown it. */
struct vfio_cap {
	uint16_t id, at;
	bool extended, shown;
	const char *name, *why; /* of static life */
};
#define VFIO_CAPS_MAX 112

struct vfio_intx {
	unsigned count;  /* 0: the device has none */
	int fd;          /* the device raises it */
	int resample_fd; /* KVM: the guest has dealt with it */
	bool on;
	bool attached; /* KVM listens to it */
	/* For a device that the kernel cannot unmask by eventfd (intx.c): */
	bool by_hand;
	int line_fd; /* we raise it */
	struct loop_watch *watch, *resample_watch;
	pthread_mutex_t lock; /* guards the two below */
	bool asserted;        /* raised, and the guest has not dealt with it yet */
	bool again;           /* the device raised it once more meanwhile */
};

/* Something that whoever has the device has to say. */
struct vfio_notice {
	int fd; /* -1 */
	struct loop_watch *watch;
	int64_t deaf_until; /* by now_ms() */
};

struct vfio_pci;

/* What tells one type of passed-through device from another: how it is reached. */
struct vfio_pci_kind {
	const struct device_driver *driver;
	const char *holder; /* who has the device, in messages: "the host" */
	/* Fills in `dev` and `space` from the type's options. On failure close() follows. */
	int (*open)(struct vfio_pci *d, const void *options, struct gw_error *err);
	/* It was made; or it was not (result < 0), and the error may need more words. NULL. */
	void (*made)(struct vfio_pci *d, int result, struct gw_error *err);
	/* Gives back what open() took, all or in part; `dev` is closed. */
	void (*close)(struct vfio_pci *d);
	/* What query-devices says of where it comes from; false: out of memory. */
	bool (*describe)(struct vfio_pci *d, cJSON *info);
	/* A BAR is at another place, or has none any more (vfio_bar_changed). NULL. */
	void (*bar_changed)(struct vfio_pci *d, unsigned bar);
	/* The descriptor of an IOMMU group that this machine holds, by its number; -1: it does
	 * not. NULL: there are no groups. */
	int (*group_fd)(struct vfio_pci *d, unsigned number);
};

/* As a participant: what was sent, */
struct vfio_saving {
	bool live, identity_sent, in_pass;
	unsigned session;   /* of the data sent (vfio_state.sessions) */
	uint64_t sent;      /* bytes of it */
	uint64_t estimate;  /* what there was to send when last asked */
	uint64_t pass_left; /* what this pass may still send */
};

/* and what came. */
struct vfio_loading {
	bool under_way, identity_checked, ended;
	uint64_t loaded; /* bytes of device data */
	uint8_t *pci;    /* PCI state */
	size_t pci_len;
};

struct vfio_pci {
	struct device device; /* first: the machine's view */
	const struct vfio_pci_kind *kind;
	void *backend; /* the kind's own */
	struct pci_function function;
	struct participant participant;
	struct vfio_space *space; /* in which it does DMA, */
	bool joined;              /* as the space knows */
	struct vfio_dev dev;
	bool dirty_none_ok; /* nobody has to tell what it writes to memory */
	struct vfio_dirty dirty;
	struct vfio_state *state; /* NULL: it offers no migration */
	uint32_t compat_ignored;  /* compat.h */
	unsigned without;         /* features of migration that are not used, VFIO_STATE_* */

	bool reset_failure_told; /* of the last reset; a guest that goes on asking fills no log */
	uint16_t host_command;   /* what of its command register stays as the host has set it */
	/* capabilities: where they are in configuration space, 0: there is none */
	unsigned pcie_cap, af_cap, vpd_cap, msi_cap, msix_cap;
	struct vfio_cap caps[VFIO_CAPS_MAX]; /* what was decided about each */
	unsigned cap_count;
	uint8_t passed[PCI_CONFIG_SIZE / 8]; /* a bit for each byte that the guest reaches there */
	struct vfio_irqs irqs[VFIO_PCI_NUM_IRQS];
	struct msi_layout msi_layout;
	struct msix_layout msix_layout;
	struct msi *msi;
	struct msix *msix;
	struct msi_irqfds *msi_irqfds, *msix_irqfds;
	unsigned armed; /* vectors that the device was told of */
	int *armed_fds; /* what it was told */
	struct vfio_intx intx;

	char rom[CONFIG_PATH_MAX]; /* where its expansion ROM comes from (rom.c) */
	uint8_t *rom_image;        /* NULL: not read yet */
	struct vfio_notice wanted, in_error;

	struct vfio_window windows[VFIO_WINDOWS];
	unsigned window_count;
	bool concealed; /* the device cannot be reached: what the guest would see is trapped */

	bool plugged;
	bool quiet; /* its going is not announced */
	char blocker[512];
	/* What a failure has left of it, under the machine's lock. */
	enum vfio_trouble trouble;
	char trouble_text[512];
	struct vfio_saving saving;
	struct vfio_loading loading;
};

/* ---- config.c: configuration space as the guest sees it ---- */
int vfio_config_init(struct vfio_pci *d, struct gw_error *err);
bool vfio_config_read(struct pci_function *f, unsigned offset, unsigned size, uint32_t *value);
bool vfio_config_write(struct pci_function *f, unsigned offset, unsigned size, uint32_t value);
void vfio_config_written(struct pci_function *f, unsigned offset, unsigned size);
/* Pushes the command register to the device: what the guest has set, memory and I/O always on,
 * since decoding for the guest is ours to do. */
void vfio_config_push_command(struct vfio_pci *d);

/* What stands behind it: fills config, masks and capability offsets from a device's bytes in
 * config, of which `size` are there. */
void vfio_config_virtualise(struct vfio_pci *d, size_t size);

/* ---- bar.c ---- */
int vfio_bars_init(struct vfio_pci *d, struct gw_error *err);
void vfio_bars_fini(struct vfio_pci *d);
uint64_t vfio_bar_read(struct pci_function *f, unsigned bar, uint64_t offset, unsigned size);
void vfio_bar_write(struct pci_function *f, unsigned bar, uint64_t offset, unsigned size,
                    uint64_t value);
void vfio_bar_changed(struct pci_function *f, unsigned bar);

/* ---- intr.c ---- */
/* Asks the device what interrupts it has; before vfio_config_init(). */
void vfio_intr_probe(struct vfio_pci *d);
int vfio_intr_init(struct vfio_pci *d, struct gw_error *err);
void vfio_intr_fini(struct vfio_pci *d);
/* Everything off and forgotten, as after power-on. */
void vfio_intr_reset(struct vfio_pci *d);
/* Tells the device again what it forgot in a reset. */
void vfio_intr_rearm(struct vfio_pci *d);

/* ---- intx.c ---- */
int vfio_intx_init(struct vfio_pci *d, struct gw_error *err);
void vfio_intx_fini(struct vfio_pci *d);
/* On if it should be: pin there, not disabled by the guest, no MSI or MSI-X. */
void vfio_intx_update(struct vfio_pci *d);
void vfio_intx_off(struct vfio_pci *d);
/* Around each trapped access of the guest to the device. */
void vfio_intx_before_access(struct vfio_pci *d);
void vfio_intx_after_access(struct vfio_pci *d);
/* After the device has taken a state that was loaded: what it raised where it was may be lost. */
void vfio_intx_kick(struct vfio_pci *d);

/* ---- participant.c ---- */
/* Asks the device by which protocol it can be moved. */
int vfio_participant_probe(struct vfio_pci *d, struct gw_error *err);
int vfio_participant_init(struct vfio_pci *d, struct gw_error *err);
void vfio_participant_fini(struct vfio_pci *d);
/* The guest has reset the device: it runs, and is as new. With the machine's lock. */
void vfio_participant_was_reset(struct vfio_pci *d);
/* "state" of query-devices: by which protocol it can be moved, where it is, what became of it.
 * Without the machine's lock. */
bool vfio_participant_describe(struct vfio_pci *d, cJSON *info);

/* ---- reset.c ---- */
/* The device as after power-on: before a guest gets it, when its machine is reset, and when it goes
 * back to the host. A device without a reset of its own is reset with its bus, if all that is on
 * it is this machine's and at rest, or being reset too. A failure is logged: the device then stays
 * as it was left. */
enum vfio_resets { VFIO_RESETS_IT, VFIO_RESETS_SLOT, VFIO_RESETS_ALL }; /* what is being reset */
void vfio_pci_reset_any(struct vfio_pci *d, enum vfio_resets resets);
/* The guest's function-level reset: the device, and all that the guest has set. */
void vfio_pci_flr(struct vfio_pci *d);

/* ---- rom.c ---- */
int vfio_rom_init(struct vfio_pci *d, struct gw_error *err);
void vfio_rom_fini(struct vfio_pci *d);
uint64_t vfio_rom_read(struct vfio_pci *d, uint64_t offset, unsigned size);

/* ---- wanted.c: whoever has the device wants it back, or has found it in error ---- */
int vfio_wanted_init(struct vfio_pci *d, struct gw_error *err);
/* Once more, to a server that knows of nothing. */
void vfio_wanted_rearm(struct vfio_pci *d);
void vfio_wanted_fini(struct vfio_pci *d);

/* ---- pci.c ---- */
/* VFIO_DEVICE_RESET, and all pushed to the device again that the guest has set. */
int vfio_pci_reset_keeping(void *opaque, struct gw_error *err);
/* What the drivers of all kinds have in common. The options begin with a struct vfio_options. */
int vfio_pci_create(const struct vfio_pci_kind *kind, struct machine *m,
                    const struct config_device *config, bool hot, struct device **out,
                    struct gw_error *err);
int vfio_pci_request_unplug(struct device *device, struct gw_error *err);
void vfio_pci_destroy(struct device *device);
/* describe.c */
bool vfio_pci_describe(struct device *device, cJSON *info);
#define VFIO_PCI_DRIVER_CALLS                                                                      \
	.request_unplug = vfio_pci_request_unplug, .destroy = vfio_pci_destroy,                    \
	.describe = vfio_pci_describe

/* While it stands still for a migration nobody goes near its regions: that could spoil its state.
 * What the guest sees then is what was known before; its interrupts' registers are our own. */
static inline bool vfio_pci_reachable(const struct vfio_pci *d)
{
	return !d->state || vfio_state_runs(d->state) || vfio_state_copies(d->state);
}

static inline struct vfio_pci *vfio_pci_of(struct pci_function *f)
{
	return (struct vfio_pci *)((char *)f - offsetof(struct vfio_pci, function));
}

#endif
