/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The forms that kernels are packed in, in one table: how each is told, what
 * an EFI zboot header calls it, and what unpacks it from memory to memory.
 * Packed bytes may be anybody's: they say neither how much comes out of them
 * nor how much memory that takes.
 * Sources: RFC 1952 (gzip); RFC 8878 (Zstandard); The .xz File Format 1.1.0;
 * LZ4 Frame Format 1.6.2 (with its legacy frame); Linux,
 * drivers/firmware/efi/libstub/Makefile.zboot (the names).
 */
#ifndef ARM64_UNPACK_H
#define ARM64_UNPACK_H

#include "godwit.h"

#include <stddef.h>
#include <stdint.h>

/* As many first bytes as it takes to tell all forms. */
#define UNPACK_MAGIC_MAX 6

/* From in to out, and how far it got in either. */
struct unpack_job {
	const uint8_t *in;
	size_t len, taken;
	uint8_t *out;
	size_t room, used;
};

struct unpack_form {
	const char *name;
	const char *zboot; /* NULL: as its name */
	const char *magic;
	uint8_t magic_len;
	/* -EBADMSG: damaged or cut off; -ENOSPC: more than there is room for; -E2BIG: unpacking
	 * takes more memory than it is given. NULL: the form is known and not read. */
	int (*unpack)(struct unpack_job *j);
};

/* The form of what begins so; NULL: none that is known. */
const struct unpack_form *unpack_form_of(const uint8_t begin[UNPACK_MAGIC_MAX]);
/* The form that an EFI zboot header names. */
const struct unpack_form *unpack_form_called(const char *name);

/* -ENOEXEC, with a message that names it and what is read, unless `form` can be unpacked. */
int unpack_check(const struct unpack_form *form, struct gw_error *err);

/* Unpacks [in, in+len) to `out`, of whose `room` bytes *used are filled. */
int unpack(const struct unpack_form *form, const void *in, size_t len, void *out, size_t room,
           size_t *used, struct gw_error *err);

#endif
