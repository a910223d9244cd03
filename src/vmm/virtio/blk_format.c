/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disk images that are not raw, by what they begin or end with. A guest would
 * see the format's own tables as its disk, find no partition there, and perhaps
 * write over them.
 */
#include "vmm/virtio/blk_file.h"

#include "base/error.h"
#include "base/io.h"
#include "base/util.h"

#include <string.h>

#define HEAD_SIZE 4096u
#define TAIL_SIZE 512u

struct format {
	const char *name;
	const char *magic;
	size_t len;
	size_t offset;      /* in the first HEAD_SIZE bytes, or */
	bool in_tail;       /* in the last TAIL_SIZE */
	const char *unpack; /* what makes it raw; NULL: qemu-img */
};

/* Sources, in this order: QEMU's docs/interop/qcow2.txt (QCOW alike) and qed_spec.txt; VMware's
 * Virtual Disk Format 5.0 (sparse extents, those of ESX, descriptor files); Microsoft's VHD
 * specification (a dynamic one has its footer at the head too) and MS-VHDX, 2.2.1; VirtualBox's
 * VDICore.h; QEMU's docs/interop/parallels.txt; RFC 1952, the .xz file format, RFC 8878, bzip2's
 * manual. */
static const struct format formats[] = {
	{ "a qcow2 image", "QFI\xfb", 4, 0, false, NULL },
	{ "a QED image", "QED\0", 4, 0, false, NULL },
	{ "a VMDK image", "KDMV", 4, 0, false, NULL },
	{ "a VMDK image", "COWD", 4, 0, false, NULL },
	{ "a VMDK descriptor", "# Disk DescriptorFile", 21, 0, false, NULL },
	{ "a VHD image", "conectix", 8, 0, false, NULL },
	{ "a VHD image", "conectix", 8, 0, true, NULL },
	{ "a VHDX image", "vhdxfile", 8, 0, false, NULL },
	{ "a VDI image", "\x7f\x10\xda\xbe", 4, 64, false, NULL },
	{ "a Parallels image", "WithoutFreeSpace", 16, 0, false, NULL },
	{ "a Parallels image", "WithouFreSpacExt", 16, 0, false, NULL },
	{ "compressed (gzip)", "\x1f\x8b\x08", 3, 0, false, "gunzip" },
	{ "compressed (xz)",
	  "\xfd"
	  "7zXZ\0",
	  6, 0, false, "unxz" },
	{ "compressed (zstd)", "\x28\xb5\x2f\xfd", 4, 0, false, "unzstd" },
	{ "compressed (bzip2)", "BZh", 3, 0, false, "bunzip2" },
};

/* What direct I/O can be given. */
static int read_part(const struct blk_file *file, uint64_t offset, void *buf, size_t len,
                     struct gw_error *err)
{
	const uint64_t align = MAX(MAX(file->align, file->memory_align), 4096u);
	const uint64_t begin = offset / align * align;
	const uint64_t end = MIN(DIV_ROUND_UP(offset + len, align) * align, file->size);
	void *bounce;
	int r;

	if (posix_memalign(&bounce, align, end - begin))
		return error_set(err, -ENOMEM, "out of memory");
	r = io_pread_full(file->fd, bounce, end - begin, begin);
	if (!r)
		memcpy(buf, (char *)bounce + (offset - begin), len);
	free(bounce);
	return r < 0 ? error_set_sys(err, r, "read") : 0;
}

static const struct format *recognise(const char *head, size_t head_len, const char *tail)
{
	for (size_t i = 0; i < ARRAY_SIZE(formats); i++) {
		const struct format *f = &formats[i];
		const char *where = f->in_tail ? tail : head;

		if (f->offset + f->len <= (f->in_tail ? TAIL_SIZE : head_len) &&
		    !memcmp(where + f->offset, f->magic, f->len))
			return f;
	}
	return NULL;
}

int blk_file_check_raw(const struct blk_file *file, const char *path, struct gw_error *err)
{
	const size_t head_len = MIN(file->size, (uint64_t)HEAD_SIZE);
	char head[HEAD_SIZE], tail[TAIL_SIZE];
	const struct format *f;
	int r = read_part(file, 0, head, head_len, err);

	if (!r)
		r = read_part(file, file->size - TAIL_SIZE, tail, TAIL_SIZE, err);
	if (r < 0)
		return error_context(err, "%s", path);
	f = recognise(head, head_len, tail);
	if (!f)
		return 0;
	if (f->unpack)
		return error_set(
		        err, -EINVAL,
		        "%s is %s, and a disk has to be raw: unpack it (%s), or set \"format\": "
		        "\"raw\" if the guest is to see it as it is",
		        path, f->name, f->unpack);
	return error_set(
	        err, -EINVAL,
	        "%s is %s, and a disk has to be raw: convert it (qemu-img convert -O raw %s "
	        "NEW.raw), or set \"format\": \"raw\" if the guest is to see it as it is",
	        path, f->name, path);
}
