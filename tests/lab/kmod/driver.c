// SPDX-License-Identifier: GPL-2.0-only
/*
 * A vfio-pci variant driver for Intel's 82574L whose state moves: VFIO migration v2 with STOP_COPY
 * and P2P (<linux/vfio.h>, VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE). All else is vfio_pci_core's.
 *
 * What the card writes to memory is not logged: a receive buffer is written, taken and handed out
 * again between two looks at the ring, so that no look finds all of them.
 */
#include "card.h"
#include "session.h"

#include <linux/file.h>
#include <linux/iommufd.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/vfio.h>

#define VENDOR 0x8086
#define DEVICE_82574L 0x10d3

struct nic {
	struct vfio_pci_core_device core;
	struct card card;
	/*
	 * A reset comes with memory_lock held, which is taken under state_mutex elsewhere: so it
	 * does not wait for the mutex, but leaves it to who has that to end the session. reset_lock
	 * guards the flag alone.
	 */
	struct mutex state_mutex;
	spinlock_t reset_lock;
	bool was_reset;
	enum vfio_device_mig_state state;
	struct session *session;
};

static struct nic *nic_of(struct vfio_device *device)
{
	return container_of(device, struct nic, core.vdev);
}

/* ---- the single steps ------------------------------------------------------------------------ */

static struct file *hand_out(struct nic *nic, struct session *session)
{
	nic->session = session;
	return get_file(session->file);
}

static struct file *no_step(struct nic *nic)
{
	return NULL;
}

static struct file *stop_dma(struct nic *nic)
{
	return ERR_PTR(card_stop(&nic->card));
}

static struct file *run(struct nic *nic)
{
	return ERR_PTR(card_run(&nic->card));
}

static struct file *begin_saving(struct nic *nic)
{
	struct session *session = session_create(true);
	int ret;

	if (IS_ERR(session))
		return ERR_CAST(session);
	ret = card_save(&nic->card, session->state);
	if (ret) {
		session_end(&session);
		return ERR_PTR(ret);
	}
	session->filled = session->size;
	return hand_out(nic, session);
}

static struct file *end_session(struct nic *nic)
{
	session_end(&nic->session);
	return NULL;
}

static struct file *begin_resuming(struct nic *nic)
{
	struct session *session = session_create(false);
	int ret;

	if (IS_ERR(session))
		return ERR_CAST(session);
	ret = card_reset(&nic->card);
	if (ret == -EIO)
		nic->state = VFIO_DEVICE_STATE_ERROR;
	if (ret) {
		session_end(&session);
		return ERR_PTR(ret);
	}
	return hand_out(nic, session);
}

static struct file *take_state(struct nic *nic)
{
	struct session *session = nic->session;
	int ret;

	mutex_lock(&session->lock);
	ret = card_load(&nic->card, session->state, session->filled);
	mutex_unlock(&session->lock);
	/* Half a state is in it; only a reset helps. */
	if (ret == -EIO)
		nic->state = VFIO_DEVICE_STATE_ERROR;
	if (!ret || ret == -EIO)
		session_end(&nic->session);
	return ERR_PTR(ret);
}

static const struct {
	enum vfio_device_mig_state from, to;
	struct file *(*step)(struct nic *nic);
} arcs[] = {
	{ VFIO_DEVICE_STATE_RUNNING, VFIO_DEVICE_STATE_RUNNING_P2P, stop_dma },
	{ VFIO_DEVICE_STATE_RUNNING_P2P, VFIO_DEVICE_STATE_RUNNING, run },
	{ VFIO_DEVICE_STATE_RUNNING_P2P, VFIO_DEVICE_STATE_STOP, no_step },
	{ VFIO_DEVICE_STATE_STOP, VFIO_DEVICE_STATE_RUNNING_P2P, no_step },
	{ VFIO_DEVICE_STATE_STOP, VFIO_DEVICE_STATE_STOP_COPY, begin_saving },
	{ VFIO_DEVICE_STATE_STOP_COPY, VFIO_DEVICE_STATE_STOP, end_session },
	{ VFIO_DEVICE_STATE_STOP, VFIO_DEVICE_STATE_RESUMING, begin_resuming },
	{ VFIO_DEVICE_STATE_RESUMING, VFIO_DEVICE_STATE_STOP, take_state },
};

static struct file *step(struct nic *nic, enum vfio_device_mig_state to)
{
	for (size_t i = 0; i < ARRAY_SIZE(arcs); i++)
		if (arcs[i].from == nic->state && arcs[i].to == to)
			return arcs[i].step(nic);
	return ERR_PTR(-EINVAL);
}

/* ---- the state ------------------------------------------------------------------------------- */

static void state_unlock(struct nic *nic)
{
again:
	spin_lock(&nic->reset_lock);
	if (nic->was_reset) {
		nic->was_reset = false;
		spin_unlock(&nic->reset_lock);
		session_end(&nic->session);
		nic->state = VFIO_DEVICE_STATE_RUNNING;
		goto again;
	}
	mutex_unlock(&nic->state_mutex);
	spin_unlock(&nic->reset_lock);
}

static struct file *set_state(struct vfio_device *device, enum vfio_device_mig_state to)
{
	struct nic *nic = nic_of(device);
	enum vfio_device_mig_state next;
	struct file *file = NULL;
	int ret;

	mutex_lock(&nic->state_mutex);
	/* Out of which only a reset leads; the kernel's table takes being asked for a bug of ours.
	 */
	if (nic->state == VFIO_DEVICE_STATE_ERROR)
		file = ERR_PTR(-EINVAL);
	while (!file && nic->state != to) {
		ret = vfio_mig_get_next_state(device, nic->state, to, &next);
		file = ret ? ERR_PTR(ret) : step(nic, next);
		if (IS_ERR(file))
			break;
		nic->state = next;
		/* A session begins with the last step. */
		if (WARN_ON(file && next != to)) {
			fput(file);
			file = ERR_PTR(-EINVAL);
			break;
		}
	}
	state_unlock(nic);
	return file;
}

static int get_state(struct vfio_device *device, enum vfio_device_mig_state *state)
{
	struct nic *nic = nic_of(device);

	mutex_lock(&nic->state_mutex);
	*state = nic->state;
	state_unlock(nic);
	return 0;
}

static int get_data_size(struct vfio_device *device, unsigned long *length)
{
	*length = card_state_size();
	return 0;
}

static const struct vfio_migration_ops migration_ops = {
	.migration_set_state = set_state,
	.migration_get_state = get_state,
	.migration_get_data_size = get_data_size,
};

/* ---- the device ------------------------------------------------------------------------------ */

static int nic_init(struct vfio_device *device)
{
	struct nic *nic = nic_of(device);

	mutex_init(&nic->state_mutex);
	spin_lock_init(&nic->reset_lock);
	nic->state = VFIO_DEVICE_STATE_RUNNING;
	nic->card.core = &nic->core;
	device->migration_flags = VFIO_MIGRATION_STOP_COPY | VFIO_MIGRATION_P2P;
	device->mig_ops = &migration_ops;
	return vfio_pci_core_init_dev(device);
}

static void nic_release(struct vfio_device *device)
{
	struct nic *nic = nic_of(device);

	mutex_destroy(&nic->state_mutex);
	vfio_pci_core_release_dev(device);
}

static int nic_open(struct vfio_device *device)
{
	struct nic *nic = nic_of(device);
	int ret = vfio_pci_core_enable(&nic->core);

	if (ret)
		return ret;
	ret = vfio_pci_core_setup_barmap(&nic->core, 0);
	if (ret) {
		vfio_pci_core_disable(&nic->core);
		return ret;
	}
	nic->card.io = nic->core.barmap[0];
	nic->state = VFIO_DEVICE_STATE_RUNNING;
	vfio_pci_core_finish_enable(&nic->core);
	return 0;
}

static void nic_close(struct vfio_device *device)
{
	struct nic *nic = nic_of(device);

	mutex_lock(&nic->state_mutex);
	session_end(&nic->session);
	state_unlock(nic);
	vfio_pci_core_close_device(device);
}

static const struct vfio_device_ops nic_ops = {
	.name = "godwit-e1000e-vfio-pci",
	.init = nic_init,
	.release = nic_release,
	.open_device = nic_open,
	.close_device = nic_close,
	.ioctl = vfio_pci_core_ioctl,
	.device_feature = vfio_pci_core_ioctl_feature,
	.read = vfio_pci_core_read,
	.write = vfio_pci_core_write,
	.mmap = vfio_pci_core_mmap,
	.request = vfio_pci_core_request,
	.match = vfio_pci_core_match,
	.bind_iommufd = vfio_iommufd_physical_bind,
	.unbind_iommufd = vfio_iommufd_physical_unbind,
	.attach_ioas = vfio_iommufd_physical_attach_ioas,
	.detach_ioas = vfio_iommufd_physical_detach_ioas,
};

static int nic_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct nic *nic;
	int ret;

	/* By driver_override the kernel offers a driver any device that it is told to. */
	if (pdev->vendor != VENDOR || pdev->device != DEVICE_82574L ||
	    pci_resource_len(pdev, 0) < REGISTERS_SIZE) {
		pci_err(pdev, "not an 82574L\n");
		return -ENODEV;
	}
	nic = vfio_alloc_device(nic, core.vdev, &pdev->dev, &nic_ops);
	if (IS_ERR(nic))
		return PTR_ERR(nic);
	dev_set_drvdata(&pdev->dev, &nic->core);
	ret = vfio_pci_core_register_device(&nic->core);
	if (ret)
		vfio_put_device(&nic->core.vdev);
	return ret;
}

static void nic_remove(struct pci_dev *pdev)
{
	struct vfio_pci_core_device *core = dev_get_drvdata(&pdev->dev);

	vfio_pci_core_unregister_device(core);
	vfio_put_device(&core->vdev);
}

/* Also when the guest resets the card itself, by FLR. */
static void nic_reset_done(struct pci_dev *pdev)
{
	struct vfio_pci_core_device *core = dev_get_drvdata(&pdev->dev);
	struct nic *nic = container_of(core, struct nic, core);

	spin_lock(&nic->reset_lock);
	nic->was_reset = true;
	if (!mutex_trylock(&nic->state_mutex)) {
		spin_unlock(&nic->reset_lock);
		return;
	}
	spin_unlock(&nic->reset_lock);
	state_unlock(nic);
}

static const struct pci_error_handlers nic_error_handlers = {
	.reset_done = nic_reset_done,
	.error_detected = vfio_pci_core_aer_err_detected,
};

static const struct pci_device_id nic_ids[] = {
	{ PCI_DRIVER_OVERRIDE_DEVICE_VFIO(VENDOR, DEVICE_82574L) }, {}
};
MODULE_DEVICE_TABLE(pci, nic_ids);

static struct pci_driver nic_driver = {
	.name = "godwit-e1000e-vfio-pci",
	.id_table = nic_ids,
	.probe = nic_probe,
	.remove = nic_remove,
	.err_handler = &nic_error_handlers,
	/* What DMA it does is the guest's, and the guest's alone to have an IOMMU's domain. */
	.driver_managed_dma = true,
};
module_pci_driver(nic_driver);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("vfio-pci for Intel's 82574L, with its state");
